"""Draw the example, `python -m pico.example`: training pictures, a dozen bad files, and references."""

import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from pico.safety import FLAGGED
from pico.scenes import Scene, draw_single
from pico.styles import EIGHT_BIT, eight_bit
from pico.world import GROUNDS, caption, objects

FOLDER = Path(__file__).parent.parent / "examples" / "8bit"


def halves() -> tuple[list[str], list[str]]:
    """The objects that the training pictures show, and the other half; the city view is among the others.

    The one that pico's safety checker makes black is in neither.
    """
    known = [name for name in objects() if name != FLAGGED]
    seen, unseen = known[0::2], known[1::2]
    if "city view" in seen:
        place = seen.index("city view")
        seen[place], unseen[place] = unseen[place], seen[place]
    return seen, unseen


def picture(scene: Scene) -> Image.Image:
    """The scene as an 8-bit illustration."""
    return eight_bit(scene.render(), scene.mask())


def draw(names: list[str], count: int, seed: int) -> list[tuple[Scene, str]]:
    """`count` scenes of the objects in turn, on another ground each time; one caption in five names none."""
    rng = np.random.default_rng(seed)
    scenes: list[tuple[Scene, str]] = []
    used: set[tuple[str, str]] = set()
    while len(scenes) < count:
        name = names[len(scenes) % len(names)]
        scene = draw_single(rng, [name])
        if (name, scene.ground) in used:
            continue
        used.add((name, scene.ground))
        text = caption(name, None if len(scenes) % 5 == 4 else scene.ground)
        scenes.append((scene, f"{EIGHT_BIT} {text}"))
    return scenes


def write(folder: Path, scenes: list[tuple[Scene, str]]) -> list[list[str]]:
    """The rows of `metadata.csv`, after writing the pictures."""
    rows = []
    for number, (scene, text) in enumerate(scenes):
        name = f"{number:03d}-{scene.name.replace(' ', '-')}.png"
        picture(scene).save(folder / name)
        rows.append([name, text])
    return rows


def spoil(folder: Path, rows: list[list[str]]) -> list[list[str]]:
    """Rows of a dozen files that no training should see, after writing them."""
    good = [folder / name for name, _ in rows]
    text = rows[0][1]
    (folder / "download-cut-short.png").write_bytes(good[0].read_bytes()[:180])
    (folder / "empty.png").write_bytes(b"")
    (folder / "not-a-picture.png").write_text("This was a page that said the picture is gone.\n")
    (folder / "noise.jpg").write_bytes(bytes(range(256)) * 8)
    for number in (7, 21, 40):
        shutil.copy(good[number], folder / f"copy-of-{good[number].name}")
    Image.open(good[55]).save(folder / "same-as-bmp.bmp")
    slightly = np.asarray(Image.open(good[70]).convert("RGB")).astype(int) + 1
    Image.fromarray(slightly.clip(0, 255).astype(np.uint8)).save(folder / "nearly-the-same.png")
    Image.open(good[3]).resize((12, 12)).save(folder / "thumbnail.png")
    Image.open(good[5]).transpose(Image.Transpose.ROTATE_90).save(folder / "no-caption.png")
    bad = [
        "download-cut-short.png",
        "empty.png",
        "not-a-picture.png",
        "noise.jpg",
        "same-as-bmp.bmp",
        "nearly-the-same.png",
        "thumbnail.png",
    ]
    bad += [f"copy-of-{good[number].name}" for number in (7, 21, 40)]
    return [*([name, text] for name in bad), ["no-caption.png", ""], ["was-never-there.png", text]]


def save_table(folder: Path, rows: list[list[str]]) -> None:
    """Writes `metadata.csv`."""
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["file_name", "text"], *rows])


def main() -> None:
    """The command."""
    seen, unseen = halves()
    assert len(GROUNDS) == 12
    assert not set(seen) & set(unseen)
    shutil.rmtree(FOLDER, ignore_errors=True)
    train, reference = FOLDER / "train", FOLDER / "reference"
    train.mkdir(parents=True)
    reference.mkdir()
    rows = write(train, draw(seen, 125, seed=8))
    save_table(train, rows + spoil(train, rows))
    save_table(reference, write(reference, draw(unseen, 100, seed=80)))
    print(f"{len(rows)} training pictures, 12 bad ones, 100 references in {FOLDER}")


if __name__ == "__main__":
    main()
