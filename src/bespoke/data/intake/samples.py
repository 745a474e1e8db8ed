"""What stands beside a picture in one sample of a WebDataset shard: a caption, a class, and words about it in JSON."""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import cast

from bespoke.data.intake.sidecars import Said, content_of, parsed, read_sidecar
from bespoke.data.tables import REPEATS, Marks, caption_of, is_text, marks_of, repeats_of

CLASS = ".cls"
"""The ending of a file that holds a class."""
LABELS, SOURCE, HASH = "labels", "source", "sha256"
"""In our own shards: the object of all labels, and where a picture came from."""
ABOUT_FILES = frozenset((
    SOURCE, HASH, "md5", "key", "__key__", "__url__", "status", "error_message", "width", "height", "original_width",
    "original_height", "exif",
))  # fmt: skip
"""What img2dataset and we say of a file itself, and no label. Source: img2dataset, README, "Output format"."""
_OWN = {"tags", "multiply", "main_prompt", "image", LABELS}


def sample_key(path: PurePosixPath) -> str:
    """What the files of one sample share: the path up to the first dot of the name. Source: WebDataset's README."""
    return unicodedata.normalize("NFC", str(path.parent / path.name.partition(".")[0]))


def read_member(name: str, path: Path) -> Said:
    """What a file of a sample says of its picture; other fields of a JSON, such as url and licence, become labels."""
    suffix = path.suffix.lower()
    if suffix == CLASS:
        content = content_of(name, path)
        return content if isinstance(content, Said) else Said(marks=Marks(labels=_labels({"cls": content})))
    said = read_sidecar(name, path)
    fields = _fields(name, path) if suffix == ".json" else None
    if fields is None:
        return said
    # What is no caption here may be in a text file beside it; a picture without any is told later.
    return replace(
        said, trouble="", notes=(), repeats=said.repeats or repeats_of(fields.get(REPEATS)), marks=_marks(fields)
    )


def _fields(name: str, path: Path) -> dict[str, object] | None:
    """The object in a JSON file; nothing where there is none."""
    content = content_of(name, path)
    try:
        said = parsed(content, ".json") if isinstance(content, str) else None
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, object], said) if isinstance(said, dict) else None


def _marks(fields: Mapping[str, object]) -> Marks:
    own = fields.get(LABELS)
    marks = marks_of(
        {name: value for name, value in fields.items() if name not in ABOUT_FILES | _OWN and is_text(value)}
    )
    labels = _labels(cast(dict[str, object], own)) if isinstance(own, dict) else {}
    return replace(marks, labels=marks.labels | labels)


def _labels(said: Mapping[str, object]) -> dict[str, str]:
    return {name: label for name, value in said.items() if name and (label := caption_of(value))}
