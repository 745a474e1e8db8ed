"""A recipe turned into the models that look at a dataset's pictures: those it names, or those that are at hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from bespoke import data
from bespoke.annotation import seeing
from bespoke.annotation.seeing import Onlooker
from bespoke.data import dataset as datasets
from bespoke.data.seen import CAPTIONS, PICTURES, SAFETY, THINGS
from bespoke.errors import BespokeError
from bespoke.hardware import machine
from bespoke.models import Checkpoint, Clip, Detector
from bespoke.models.local import at_hand, labels, weights_gb
from bespoke.models.marks import fingerprint
from bespoke.models.safety import PART, SafetyChecker, checker_folders
from bespoke.pipeline.reporting import Reporter, counting
from bespoke.recipe import Recipe
from bespoke.records import Picture
from bespoke.scale import ALONE, Workers

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
    try:
        seeing.look(
            folder, pictures, texts, _onlookers(chosen), _opened, counting(report, ASK), _workers(recipe, chosen)
        )
    finally:
        _make.cache_clear()
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


def _workers(recipe: Recipe, chosen: dict[str, Found]) -> Workers:
    """Who shows pictures to the models: one process on a GPU, else as many as have memory for all of them."""
    if machine().device != "cpu":
        return ALONE
    networks = [checker_folders(place)[0] if key == "safety_checker" else place for key, (_, place) in chosen.items()]
    # Weights are read in float32, and may lie on disk in 16 bits.
    return recipe.data.workers(2.0 * sum(weights_gb(str(network)) for network in networks))


@lru_cache(maxsize=len(SHIPPED))
def _make(key: str, place: str | Path) -> Any:
    """The model at a place; one that speaks of pictures and of captions is read once in each process."""
    made: dict[str, Any] = {"clip": Clip, "safety_checker": SafetyChecker, "detector": Detector}
    return made[key](place, machine().device)


def _onlookers(chosen: dict[str, Found]) -> list[Onlooker]:
    return [each for key, (name, folder) in chosen.items() for each in _MAKERS[key](name, folder)]


def _clips(name: str, folder: Path) -> Sequence[Onlooker]:
    mark = fingerprint(folder)
    return (
        Onlooker(PICTURES, name, mark, partial(_features, folder)),
        Onlooker(CAPTIONS, name, mark, partial(_text_features, folder)),
    )


def _features(folder: Path) -> seeing.See:
    return seeing.features_of(_make("clip", folder))


def _text_features(folder: Path) -> seeing.Hear:
    return seeing.text_features_of(_make("clip", folder))


def _checkers(name: str, folder: Path) -> Sequence[Onlooker]:
    network, _ = checker_folders(folder)
    return (Onlooker(SAFETY, name, fingerprint(network), partial(_excesses, folder)),)


def _excesses(folder: Path) -> seeing.See:
    return seeing.excesses_of(_make("safety_checker", folder))


def _detectors(name: str, folder: Path) -> Sequence[Onlooker]:
    names = labels(folder)
    return (Onlooker(THINGS, name, fingerprint(folder), partial(_things, folder, names), names),)


def _things(folder: Path, names: Sequence[str]) -> seeing.See:
    return seeing.things_of(_make("detector", folder), names)


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
