"""What stands beside a picture, or in its folder, about it: its caption, its tags, and how often it counts."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import cast

from bespoke.data.tables import UNMARKED, Marks, caption_of, is_text, one_line, repeats_of
from bespoke.records import Picture

SIDECARS = (".txt", ".caption", ".json", ".yaml", ".yml")
"""Endings of caption files, in the order in which they are heard."""
LONGEST_CAPTION = 65_536
"""Bytes of a sidecar file; a longer text is no caption."""
DEEPEST_YAML = 50
"""Collections within one another; PyYAML's time grows with the square of that."""
FOLDER_FILES = ("multiply.txt", "local.yaml", "local.yml", "global.yaml", "global.yml")
"""EveryDream2's files about a whole folder. The global ones hold for the folders below it, too."""
UNUSED_FILES = ("flip_p.txt", "cond_dropout.txt", "loss_scale.txt", "batch_id.txt", "shuffle_tags.txt")
"""Those of its files that say what bespoke has no use for."""
ABOUT_FOLDERS = frozenset((*FOLDER_FILES, *UNUSED_FILES))
KOHYA_FOLDER = re.compile(r"(\d{1,3})_(.+)")
"""A folder such as `10_cat`. Four digits are a year."""
BELOW = " > "
"""What stands in a tag between the wider and the narrower: `animal > dog`."""
_WEIGHTED = re.compile(r"\(.*:\s*[\d.]+\s*\)")
_PROMPTS, _USED = ("main_prompt", "caption", "text", "prompt"), {"image", "tags", "multiply"}


@dataclass(frozen=True)
class Said:
    """What one file or folder says about a picture."""

    prompt: str = ""
    tags: tuple[str, ...] = ()
    repeats: float | None = None
    trouble: str = ""
    """Why it gives no caption."""
    notes: tuple[str, ...] = ()
    marks: Marks = UNMARKED
    """What only tables say."""

    @property
    def text(self) -> str:
        """The caption: the prompt and then the tags, with commas between them."""
        return ", ".join(filter(None, (self.prompt, *self.tags)))

    def over(self, other: "Said") -> "Said":
        """Both together; where they differ, this one is heard, and its tags come first."""
        tags = (*self.tags, *(tag for tag in other.tags if tag not in self.tags))
        repeats = other.repeats if self.repeats is None else self.repeats
        notes = (*self.notes, *(note for note in other.notes if note not in self.notes))
        marks = self.marks.over(other.marks)
        return Said(self.prompt or other.prompt, tags, repeats, self.trouble or other.trouble, notes, marks)


def read_sidecar(name: str, path: Path) -> Said:
    """What a file beside a picture says; one that cannot be used costs its picture, not the import."""
    content = content_of(name, path)
    if isinstance(content, Said):
        return content
    if path.suffix.lower() in (".txt", ".caption"):
        text = one_line(content)
        return Said(text, trouble="" if text else f"{name} is empty")
    try:
        said = _structured(parsed(content, path.suffix.lower()), name)
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        return Said(trouble=f"{name} is not valid: {(str(error).splitlines() or [''])[0]}")
    return said if said.text else replace(said, trouble=f"{name} gives no caption, text, main_prompt or tags")


def of_folder(folder: PurePosixPath, files: Mapping[str, Path]) -> Said:
    """What a folder and those above it say about the pictures in it; `files` are the `ABOUT_FOLDERS` of the source.

    Source: EveryDream2's data/dataset.py (multiply.txt, local.yaml, global.yaml); kohya's folders `10_cat`, in which
    the number is how often a picture counts in an epoch and the word the caption of those that have none.
    """
    said = Said()
    for name in (*FOLDER_FILES[:3], *UNUSED_FILES):
        said = said.over(_folder_file(folder / name, files))
    for above in (folder, *folder.parents):
        for name in FOLDER_FILES[3:]:
            said = said.over(_folder_file(above / name, files))
    kohya = KOHYA_FOLDER.fullmatch(folder.name)
    if kohya and int(kohya[1]):
        note = f"lies in {folder.name}: counts {int(kohya[1])} times, as in kohya's trainer"
        notes = (note,) if int(kohya[1]) > 1 else ()
        said = said.over(Said(one_line(kohya[2].replace("_", " ")), repeats=float(kohya[1]), notes=notes))
    return said


def from_file_name(picture: str) -> str:
    """The caption in a file's name: what stands before its first underscore. Source: EveryDream2's data/dataset.py."""
    return one_line(PurePosixPath(picture).stem.partition("_")[0])


def _folder_file(at: PurePosixPath, files: Mapping[str, Path]) -> Said:
    name = str(at)
    path = files.get(name)
    if path is None:
        return Said()
    if at.name in UNUSED_FILES:
        return Said(notes=(f"{name} is not used",))
    if at.name == "multiply.txt":
        content = content_of(name, path)
        repeats = repeats_of(content) if isinstance(content, str) else None
        return Said(repeats=repeats, notes=() if repeats else (f"{name} holds no number above 0 and is not used",))
    said = read_sidecar(name, path)
    # A folder that only says how often its pictures count is no trouble; one that is not valid must be told.
    return replace(said, trouble="", notes=(*said.notes, said.trouble) if "not valid" in said.trouble else said.notes)


def content_of(name: str, path: Path) -> str | Said:
    """The text in a file, or why it cannot be had."""
    if not path.is_file():
        return Said(trouble=f"{name} is not a plain file")
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_CAPTION + 1)
        if len(content) > LONGEST_CAPTION:
            return Said(trouble=f"{name} is too long for a caption")
        # UTF-16 without a mark can be taken for UTF-8, in which it has a zero beside each letter.
        if b"\0" not in content:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    except OSError as error:
        return Said(trouble=f"{name} cannot be read: {error.strerror}")
    return Said(trouble=f"{name} is not UTF-8 text")


def parsed(content: str, suffix: str) -> object:
    """What JSON or YAML says. Raises: ValueError."""
    if suffix == ".json":
        return json.loads(content)
    import yaml

    try:
        depth = 0
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases, with which a few lines can grow without end")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST_YAML:
                raise ValueError(f"it has more than {DEEPEST_YAML} lists or objects within one another")
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _structured(content: object, name: str) -> Said:
    """What an object says in the words of EveryDream2, or with one of the usual words for a caption."""
    if isinstance(content, str):
        return Said(one_line(content))
    if not isinstance(content, dict):
        raise ValueError("it holds no object")
    keys = {str(key): value for key, value in cast(dict[object, object], content).items()}
    prompt = next((keys[key] for key in _PROMPTS if keys.get(key)), "")
    nested = _structured(prompt, name) if isinstance(prompt, dict) else Said(caption_of(prompt))
    said = keys.get("tags") or ()
    tags = said.split(",") if isinstance(said, str) else cast(Iterable[object], said)
    listed = list(tags)
    unused = sorted(keys.keys() - _USED - set(_PROMPTS))
    unused += ["the weight of a tag"] if any(isinstance(tag, dict) and "weight" in tag for tag in listed) else []
    notes = (f"{name} says {', '.join(unused)}, which is not used",) if unused else ()
    own = Said(tags=_spread(map(_tag, listed)), repeats=repeats_of(keys.get("multiply")), notes=notes)
    return own.over(nested)


def tags_of(picture: Picture) -> tuple[str, ...]:
    """The tags in a picture's column `tags`, with commas or semicolons between them, each path as its parts."""
    column = next((said for name, said in picture.labels.items() if name.casefold() == "tags"), "")
    return _spread(tag.strip() for tag in re.split("[,;]", column))


def _spread(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags, one after the other, with each path such as `animal > dog` as its parts, those once that came before.

    A weight of a whole path is that of its narrowest part.
    """
    found: list[str] = []
    for tag in filter(None, tags):
        first, *narrower = tag.split(BELOW)
        if narrower and _WEIGHTED.fullmatch(tag):
            first, narrower[-1] = first[1:], f"({narrower[-1]}"
        parts = [part for part in map(str.strip, (first, *narrower)) if part]
        found += [part for part in parts if not narrower or part not in found]
    return tuple(found)


def _tag(tag: object) -> str:
    value = cast(dict[str, object], tag).get("tag") or "" if isinstance(tag, dict) else tag
    if not is_text(value):
        raise ValueError("a tag is neither a text nor a number")
    return one_line(str(value))
