"""A recipe turned into the models that look at a dataset's pictures: those it names, or those that are at hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from PIL import Image

from bespoke import data
from bespoke.annotation import seeing
from bespoke.annotation.seeing import Onlooker
from bespoke.data import dataset as datasets
from bespoke.data.seen import CAPTIONS, PICTURES, SAFETY, THINGS
from bespoke.errors import BespokeError
from bespoke.hardware import machine
from bespoke.models import Checkpoint, Clip, Detector
from bespoke.models.local import at_hand, labels
from bespoke.models.marks import fingerprint
from bespoke.models.safety import PART, SafetyChecker, checker_folders
from bespoke.pipeline.reporting import Reporter, counting
from bespoke.recipe import Recipe
from bespoke.records import Picture

ASK = "ask models"
SHIPPED = {"clip": "pico-CLIP", "safety_checker": "pico", "detector": "pico-YOLOS"}
USUAL = {
    "clip": "openai/clip-vit-base-patch32", "safety_checker": "CompVis/stable-diffusion-safety-checker",
    "detector": "hustvl/yolos-tiny",
}  # fmt: skip
TELLS = {
    "clip": "how pictures fit their captions, which are unlike the others, which are similar",
    "safety_checker": "what is unsafe",
    "detector": "where there is writing",
}
"""What is not known without each model."""

Found = tuple[str, Path]
"""A model's name, and its folder on this machine."""


@dataclass(frozen=True)
class Asked:
    """Which models have looked at a dataset, and what is not known for want of one."""

    models: dict[str, str]
    """By the recipe's key."""
    absent: tuple[str, ...] = ()
    """Sentences for a person."""


def ask_models(folder: Path, recipe: Recipe, beside: Path, base: Checkpoint | None, report: Reporter) -> Asked:
    """Which models looked at the dataset in `folder`; what they have said before is not asked again.

    They are those that `[clean]` names, which may be downloaded. Where it names none, they are the small ones in the
    package for pico, and for another `base` such as are on this machine. Folders count from `beside`.

    Raises: BespokeError when a named one cannot be had, or `folder` is no dataset or a picture in it is damaged.
    """
    chosen: dict[str, Found] = {}
    absent: list[str] = []
    for key in SHIPPED:
        name = _wanted(key, recipe)
        if name == "":
            continue
        found = _named(key, name, beside) if name else _usual(key, base)
        if found is None:
            absent.append(
                f"Not known is {TELLS[key]}: {USUAL[key]} is not on this machine, and clean.{key} names none."
            )
        else:
            chosen[key] = found
    dataset = datasets.captioned(folder, datasets.record(folder))
    items = [*dataset.pictures, *(item.picture for item in dataset.set_aside if item.picture)]
    pictures = {picture.sha256: _copy(folder, picture) for picture in items}
    texts = [picture.text for picture in items]
    seeing.look(folder, pictures, texts, _onlookers(chosen), _opened, counting(report, ASK))
    return Asked({key: name for key, (name, _) in chosen.items()}, tuple(absent))


def _wanted(key: str, recipe: Recipe) -> str | None:
    """The recipe's own word about a model; empty where none is to be asked."""
    rules = recipe.clean
    named: dict[str, str | None] = {
        "clip": rules.clip, "safety_checker": rules.safety_checker,
        "detector": rules.detector if rules.writing_labels else "",
    }  # fmt: skip
    return named[key]


def _usual(key: str, base: Checkpoint | None) -> Found | None:
    """The model that suits the base, if it is on this machine."""
    if key == "safety_checker" and base is not None and (base.folder / PART).is_dir():
        return base.name, base.folder
    name = (SHIPPED if base is not None and base.name == "pico" else USUAL)[key]
    found = at_hand(name)
    return (name, found) if found else None


def _named(key: str, name: str, beside: Path) -> Found:
    """The model that a recipe names, downloaded where it must be."""
    local = beside / name
    place = str(local) if local.is_dir() else name
    found = at_hand(place)
    if found is None:
        _make(key, place)
        found = at_hand(place)
    if found is None:
        raise BespokeError(f"{name} could not be kept on this machine.", "Name a folder.")
    return name, found


def _make(key: str, place: str | Path) -> Clip | SafetyChecker | Detector:
    if key == "safety_checker":
        return SafetyChecker(place, machine().device)
    return Detector(place, machine().device) if key == "detector" else Clip(place, machine().device)


def _onlookers(chosen: dict[str, Found]) -> list[Onlooker]:
    onlookers: list[Onlooker] = []
    for key, (name, folder) in chosen.items():
        made: Callable[[], object] = cache(partial(_make, key, folder))
        onlookers += _MAKERS[key](name, folder, made)
    return onlookers


def _clips(name: str, folder: Path, made: Callable[[], Clip]) -> Sequence[Onlooker]:
    mark = fingerprint(folder)
    return (
        Onlooker(PICTURES, name, mark, lambda: seeing.features_of(made())),
        Onlooker(CAPTIONS, name, mark, lambda: seeing.text_features_of(made())),
    )


def _checkers(name: str, folder: Path, made: Callable[[], SafetyChecker]) -> Sequence[Onlooker]:
    network, _ = checker_folders(folder)
    return (Onlooker(SAFETY, name, fingerprint(network), lambda: seeing.excesses_of(made())),)


def _detectors(name: str, folder: Path, made: Callable[[], Detector]) -> Sequence[Onlooker]:
    names = labels(folder)
    return (Onlooker(THINGS, name, fingerprint(folder), lambda: seeing.things_of(made(), names), names),)


_MAKERS: dict[str, Callable[..., Sequence[Onlooker]]] = {
    "clip": _clips, "safety_checker": _checkers, "detector": _detectors,
}  # fmt: skip


def _copy(folder: Path, picture: Picture) -> Path:
    kept = folder / data.TRAIN / picture.file
    return kept if kept.exists() else folder / data.ASIDE / picture.file


def _opened(sha256: str, path: Path) -> Image.Image:
    hint = "Import the same pictures again to restore it."
    try:
        reading = data.read(path)
    except (data.Unreadable, OSError) as error:
        raise BespokeError(f"{path} cannot be read any more: {error}.", hint) from None
    if reading.sha256 != sha256:
        raise BespokeError(f"{path} has changed since it was imported.", hint)
    return reading.image
