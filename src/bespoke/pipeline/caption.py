"""A dataset whose pictures are put into words, and the page on which one chooses how."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bespoke import annotation, data
from bespoke.annotation import Teller
from bespoke.errors import BespokeError
from bespoke.hardware import machine
from bespoke.models import Wording
from bespoke.models.local import weights_gb
from bespoke.page import THUMBNAIL, CaptionPreview, Thumb, Told, Variant, write_caption_preview
from bespoke.pipeline.datasets import LOOK, settings_of
from bespoke.pipeline.reporting import Reporter, counting, silent
from bespoke.recipe import Recipe
from bespoke.recipe.dataset import Caption
from bespoke.records import Dataset, Picture
from bespoke.scale import ALONE, Workers
from bespoke.seeds import permutation
from bespoke.workspace import alone

PICO = {"model": "pico-BLIP", "clip": "pico-CLIP", "detector": "pico-YOLOS"}
USUAL = {
    "model": "Salesforce/blip-image-captioning-base", "clip": "openai/clip-vit-base-patch32",
    "detector": "hustvl/yolos-tiny",
}  # fmt: skip
WAYS: tuple[tuple[str, dict[str, object]], ...] = (
    ("as the recipe says", {}),
    ("one beginning", {"num_beams": 1, "top_p": None}),
    ("five beginnings", {"num_beams": 5, "top_p": None}),
    ("drawn words", {"top_p": 0.9}),
    ("no repeats", {"repetition_penalty": 1.5}),
    ("longer", {"min_words": 12}),
)
"""What the preview shows beside the recipe's own settings."""


@dataclass(frozen=True)
class Captioned:
    """A dataset after its pictures were put into words."""

    dataset: Dataset
    captioner: str
    pictures: int
    """How many were put into words, now or before."""
    examples: tuple[tuple[str, str], ...]
    """A few files with their captions."""


def caption_data(
    dataset: str | Path,
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Captioned:
    """A dataset with new captions by the recipe's `[caption]`; pictures that had none are taken in.

    What was said is kept in `captions.csv`, so that a killed run goes on and another kind of caption stands beside it.
    On a processor several processes say it, as many as `data.processes`.

    Raises: BespokeError when `dataset` is none or is damaged, the recipe or the captioner cannot be used.
    """
    settings, folder = settings_of(dataset, recipe, overrides), Path(dataset)
    with alone(folder):
        pictures = _wanted(folder, settings.caption)
        tellers = [_captioner(settings), *_taggers(settings, _beside(dataset, recipe))]
        told = [
            annotation.described(
                folder, pictures, teller, settings.caption.batch_size, partial(annotation.opened, folder),
                counting(report, f"say {teller.kind}"),
            )
            for teller in tellers
        ]  # fmt: skip
        texts = {
            p.sha256: _joined(p.text, [one[p.sha256] for one in told], settings.caption, data.tags_of(p))
            for p in pictures
        }
        after = data.clean(folder, settings, counting(report, LOOK), texts)
    examples = [(p.file, p.text) for p in after.pictures if p.sha256 in texts][:3]
    return Captioned(after, tellers[0].name, len(pictures), tuple(examples))


def preview_captions(
    dataset: str | Path,
    count: int,
    *,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Path:
    """A page with a few pictures and what would be said of each under several settings; no caption is written.

    Raises: BespokeError when `dataset` is none or is damaged, the recipe or the captioner cannot be used.
    """
    settings, folder = settings_of(dataset, recipe, overrides), Path(dataset)
    every = _wanted(folder, settings.caption.model_copy(update={"existing": "replace"}))
    chosen = [every[n] for n in sorted(permutation(len(every), "caption preview").tolist()[:count])]
    ways = [(name, settings.caption.model_copy(update=change)) for name, change in WAYS]
    captioner = annotation.captioner(_name(settings, "model"), machine().device)
    shown = [annotation.opened(folder, picture) for picture in chosen]
    columns: list[list[str]] = []
    for number, (_, way) in enumerate(ways):
        report("try settings", number, len(ways))
        said = captioner.captions(shown, [picture.pixels for picture in chosen], _wording(way))
        bare = way.model_copy(update={"tags": ()})
        columns.append([_joined("", [text], bare) for text in said])
    report("try settings", len(ways), len(ways))
    variants = [Variant(name, _settings(change)) for name, change in WAYS]
    told = [
        Told(Thumb(annotation.place(folder, picture), picture.source), picture.text, captions)
        for picture, captions in zip(chosen, zip(*columns, strict=True), strict=True)
    ]
    page = CaptionPreview(folder.resolve().parent.name, captioner.name, tuple(variants), tuple(told))
    decode = partial(data.preview, side=THUMBNAIL)
    return write_caption_preview(page, Path(out or folder / "report") / "captions.html", decode)


def _settings(change: Mapping[str, object]) -> str:
    return " ".join(f"--set caption.{key}={value}" for key, value in change.items() if value is not None)


def _wanted(folder: Path, caption: Caption) -> list[Picture]:
    """The pictures to put into words: those without a caption and, unless captions are kept, the others too."""
    dataset = data.load(folder)
    bare = [s.picture for s in dataset.set_aside if s.picture is not None and s.reason == data.NO_CAPTION]
    pictures = [*bare, *(dataset.pictures if caption.existing != "keep" else ())]
    return sorted(pictures, key=lambda picture: picture.file)


def _captioner(settings: Recipe) -> Teller:
    name, wording, device = _name(settings, "model"), _wording(settings.caption), machine().device
    made = partial(annotation.captions_by, name, device, wording)
    return Teller(settings.caption.kind, name, asdict(wording), made, partial(workers_of, settings, name, device))


def _taggers(settings: Recipe, beside: Path) -> list[Teller]:
    """What adds tags, in the recipe's order.

    Raises: BespokeError when categories are wanted and no file of them is named.
    """
    named = {"categories": lambda: _categories(settings, beside), "things": lambda: _things(settings)}
    return [named[kind]() for kind in settings.caption.tags if kind in named]


def _categories(settings: Recipe, beside: Path) -> Teller:
    name = _name(settings, "clip")
    if settings.caption.categories is None:
        hint = "Name a file with a category on each line: --set caption.categories=categories.txt"
        raise BespokeError("Tags by categories need the categories.", hint)
    among = annotation.categories(beside / settings.caption.categories)
    made = partial(annotation.categories_by, name, among)
    said = {"categories": [category.path for category in among]}
    return Teller("categories", name, said, made, partial(workers_of, settings, name, "cpu"))


def _things(settings: Recipe) -> Teller:
    name, least, device = _name(settings, "detector"), settings.caption.least_score, machine().device
    made = partial(annotation.things_by, name, device, least)
    return Teller("things", name, {"least": least}, made, partial(workers_of, settings, name, device))


def workers_of(settings: Recipe, name: str, device: str) -> Workers:
    """Who lets a model tell: one process on a GPU, which batches fill, and one that talks to a service."""
    if device != "cpu" or annotation.is_service(name):
        return ALONE
    # Weights are read in float32, and may lie on disk in 16 bits.
    return settings.data.workers(2 * weights_gb(name))


def _joined(before: str, told: Sequence[str], caption: Caption, own: Sequence[str] = ()) -> str:
    """The caption that a picture gets: the new one between prefix and suffix, then tags, by what becomes of the old.

    `own` are the tags of the person's column, used where the recipe wants them.
    """
    said, *models = told
    seen = iter(models)
    tags = [", ".join(own) if kind == "column" else next(seen) for kind in caption.tags]
    new = ", ".join(filter(None, [" ".join(filter(None, [caption.prefix, said, caption.suffix])), *tags]))
    if caption.existing == "extend" and before:
        return before if said in before else f"{before}, {new}"
    return before if caption.existing == "keep" and before else new


def _wording(caption: Caption) -> Wording:
    keys = Wording.__dataclass_fields__
    return Wording(**{key: value for key, value in caption.model_dump().items() if key in keys})


def _name(settings: Recipe, part: str) -> str:
    """The name of a model of the recipe or, where none is named, of the one that suits the base."""
    named: Mapping[str, object] = settings.caption.model_dump()
    return str(named[part] or (PICO if settings.model.base == "pico" else USUAL)[part])


def _beside(dataset: str | Path, recipe: str | Path | None) -> Path:
    """The folder from which the recipe's paths count."""
    return Path(recipe).parent if recipe else Path(dataset).resolve().parent
