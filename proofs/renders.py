"""A dataset of rendered scenes, each with its caption and its part of the split."""

import csv
from collections.abc import Iterable
from pathlib import Path

from pico.scenes import Scene


def dataset(folder: Path, rows: Iterable[tuple[Scene, str, str, str]]) -> Path:
    """The folder with a picture for each scene, file name, caption and part; as it is where it is there already."""
    if folder.is_dir():
        return folder
    begun = folder.with_name(f"{folder.name}.part")
    begun.mkdir(parents=True, exist_ok=True)
    with (begun / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "text", "split"])
        for scene, name, text, part in rows:
            scene.render().save(begun / name)
            table.writerow([name, text, part])
    begun.rename(folder)
    return folder
