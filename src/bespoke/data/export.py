"""A dataset turned into the layout another trainer reads; importing that again gives the same pictures and captions."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from bespoke.data import masks
from bespoke.data.dataset import TABLE, TRAIN, load
from bespoke.data.intake.remote import here
from bespoke.data.intake.sidecars import ABOUT_FOLDERS
from bespoke.data.sending import send
from bespoke.data.sharding import SHARD_BYTES, Shard, shards_of
from bespoke.data.tables import REPEATS, columns_of, number, table_of
from bespoke.errors import BespokeError
from bespoke.records import Picture
from bespoke.workspace import atomic_file, check_new, write_text

SHARDED = ("parquet", "webdataset")
"""Layouts of large files, which can also go to a store."""
TABULAR = ("imagefolder", *SHARDED)
"""Layouts that can say everything."""
MASKED = ("imagefolder", "kohya")
"""Layouts that hold masks, too."""
KOHYAS_MOST = 999
"""Four digits before an underscore are read as a year."""


def export(
    dataset: Path,
    out: str | Path,
    layout: str,
    *,
    most: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many pictures of each part of the split `out` now holds, and what its layout cannot say of them.

    Tables and shards hold everything but masks, which only imagefolder and kohya hold; folders of text files hold no
    weights, no columns such as `subject`, no chosen sides. Shards have at most `most` bytes of pictures, and are the
    same bytes for the same dataset; `out` may be a URL of a store for them, where a call that was killed goes on.
    `progress` is called with (shards sent, shards in all).

    Raises: BespokeError when there is no such layout, `dataset` is none or is damaged, `out` is there already or lies
    in it, or the layout cannot say how often a picture counts.
    """
    if layout not in (*_LAYOUTS, *SHARDED):
        raise BespokeError(f"There is no layout {layout!r}.", f"Known are {', '.join((*_LAYOUTS, *SHARDED))}.")
    place = here(out)
    if place is not None:
        _check_new(dataset, place)
    elif layout not in SHARDED:
        hint = f"Name a folder on this machine, or export as {' or '.join(SHARDED)}."
        raise BespokeError(f"{layout} is many small files, and goes to no URL.", hint)
    content = load(dataset)
    parts = {name: content.part(name) for name in ("train", "validation")}
    train = dataset / TRAIN
    shards = shards_of(parts, layout, most, lambda p: (train / p.file).stat().st_size) if layout in SHARDED else []
    if place is None:
        send(shards, train, str(out), progress)
    else:
        _write(train, parts, place, layout, shards)
    unsaid = () if layout in TABULAR else columns_of(content.pictures)
    if layout not in MASKED and any(picture.mask for picture in content.pictures):
        unsaid = (*unsaid, "masks")
    counts = {name: len(pictures) for name, pictures in parts.items()}
    return counts, tuple(column for column in unsaid if column != REPEATS)


def _check_new(dataset: Path, out: Path) -> None:
    check_new(out, "folder")
    if out.resolve().is_relative_to(dataset.resolve()):
        raise BespokeError(f"{out} lies in the dataset itself.", "Name a folder outside.")


def _write(
    source: Path, parts: Mapping[str, Sequence[Picture]], out: Path, layout: str, shards: Sequence[Shard]
) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: another trainer knows nothing of half an export.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as unfinished:
            folder = Path(unfinished) / "export"
            for name, pictures in parts.items():
                if pictures and layout in _LAYOUTS:
                    _LAYOUTS[layout](source, pictures, folder / name)
            for shard in shards:
                with atomic_file(folder / shard.name) as temporary, temporary.open("wb") as file:
                    shard.write(source, file)
            folder.rename(out)
    except OSError as error:
        raise BespokeError(f"{out} could not be written: {error}.", "Check that you may write there.") from error


def _imagefolder(source: Path, pictures: Sequence[Picture], folder: Path) -> None:
    """Source: Hugging Face datasets, "Create an image dataset", ImageFolder."""
    listed: list[Picture] = []
    for picture in pictures:
        _copied(source / picture.file, folder / picture.file)
        if picture.mask:
            mask = masks.place(folder, picture.file)
            _copied(masks.place(source.parent, picture.file), mask)
            named = {"mask_file_name": mask.relative_to(folder).as_posix()}
            picture = replace(picture, labels=picture.labels | named)  # noqa: PLW2901
        listed.append(picture)
    write_text(folder / TABLE, table_of(listed))


def _kohya(source: Path, pictures: Sequence[Picture], folder: Path) -> None:
    """Folders named after how often their pictures count, and beside them one of masks, by the same names.

    Source: kohya's sd-scripts, docs/train_README, DreamBooth; docs/masked_loss_README.
    """
    for repeats, group in _by_repeats(pictures):
        if repeats != int(repeats) or repeats > KOHYAS_MOST:
            raise BespokeError(
                f"kohya's folders cannot say that a picture counts {number(repeats)} times.",
                f"Give whole numbers up to {KOHYAS_MOST} in the column repeats of train/metadata.csv, or export as "
                "everydream2.",
            )
        name = f"{int(repeats)}_pictures"
        _with_texts(source, group, folder / name)
        for picture in group:
            if picture.mask:
                target = folder / masks.FOLDER / name / f"{Path(picture.file).stem}.png"
                _copied(masks.place(source.parent, picture.file), target)


def _everydream2(source: Path, pictures: Sequence[Picture], folder: Path) -> None:
    """One folder for each number of repeats, in its multiply.txt. Source: EveryDream2trainer, doc/DATA.md."""
    for repeats, group in _by_repeats(pictures):
        inner = folder / f"times-{number(repeats)}"
        _with_texts(source, group, inner)
        if repeats != 1:
            write_text(inner / "multiply.txt", f"{number(repeats)}\n")


def _by_repeats(pictures: Iterable[Picture]) -> Iterable[tuple[float, list[Picture]]]:
    ordered = sorted(pictures, key=lambda p: (p.repeats, p.file))
    return ((repeats, list(group)) for repeats, group in groupby(ordered, key=lambda p: p.repeats))


def _with_texts(source: Path, pictures: Iterable[Picture], folder: Path) -> None:
    for picture in pictures:
        # EveryDream2 would take the caption of multiply.png for a word about the whole folder.
        name = f"_{picture.file}" if f"{Path(picture.file).stem}.txt".lower() in ABOUT_FOLDERS else picture.file
        # cat.png.txt would do for cat.png and cat.jpg side by side, but other trainers read cat.txt only.
        target = folder / Path(name).with_suffix(".txt")
        if target.exists():
            problem = f"{picture.file} and another picture differ in their ending only, and would share a caption file."
            raise BespokeError(problem, "Rename one of them where they came from, and import again.")
        write_text(target, picture.text + "\n")
        _copied(source / picture.file, folder / name)


def _copied(source: Path, target: Path) -> None:
    with atomic_file(target) as temporary:
        shutil.copyfile(source, temporary)


_LAYOUTS: dict[str, Callable[[Path, Sequence[Picture], Path], None]] = {
    "imagefolder": _imagefolder, "kohya": _kohya, "everydream2": _everydream2,
}  # fmt: skip
