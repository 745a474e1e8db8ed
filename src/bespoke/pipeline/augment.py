"""A dataset turned into a page of pictures beside the versions of them that training would be shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from bespoke import data, page
from bespoke.data import Fitted, Transform
from bespoke.errors import BespokeError
from bespoke.models import Checkpoint
from bespoke.pipeline.datasets import settings_of
from bespoke.pipeline.describe.captions import Lengths, in_tokens
from bespoke.pipeline.naming import base_of
from bespoke.pipeline.prepare import resolved, with_brackets
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.versions import Versions, fitter
from bespoke.pipeline.wordings import Reworded, reworded
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture
from bespoke.text import Worded, read, unmirrorable
from bespoke.workspace import Project

PICTURES = 5
FIT = "make versions"
WAYS = {
    "data.random_flip=true": "every second version mirrored, but where the caption names left, right or writing",
    "data.crop=random": "cut out anywhere, where a picture does not fit its shape",
    "data.crop_jitter=0.05": "up to 5 % cut off each side",
    "data.random_scale=1.2": "zoomed in by up to 1.2",
    "data.random_rotation=5": "turned by up to 5 degrees",
    "data.color_jitter=0.1": "brightness, contrast and saturation changed by up to 10 %",
    "data.hue_jitter=0.05": "hues turned by up to a twentieth of the circle of colours",
}
"""Settings that leave something of pictures to chance, each with what it does."""
WORDS = {
    "augment.variants=4": "four other wordings of each caption: clauses moved, synonyms, other beginnings",
    "augment.spelling=0.2": "every fifth of them with a word misspelt",
    "augment.captions='[\"short\"]'": "other captions of a picture, from columns of the table of captions",
    "text.repair=true": "misspelt words of captions mended first",
}
"""Settings that vary captions."""


@dataclass(frozen=True)
class Shown:
    """One picture and what training is shown of it, in its order."""

    picture: Picture
    versions: tuple[tuple[Transform, Fitted], ...]

    @property
    def alike(self) -> bool:
        """Whether there are several versions, and all have the same pixels."""
        return len(self.versions) > 1 and len({fitted.pixels.tobytes() for _, fitted in self.versions}) == 1


@dataclass(frozen=True)
class Augmented:
    """What training would be shown of a dataset, and the page that shows some of it."""

    preview: Path
    pictures: tuple[Shown, ...]
    of: int
    """How many pictures there are to learn from."""
    varied: bool
    """Whether the recipe leaves anything of pictures to chance."""
    notes: tuple[str, ...]
    """What is true of all the pictures, in sentences."""
    wordings: Reworded
    """The captions with their other wordings; none where captions are not varied, or not asked for."""
    images: bool = True
    """Whether the versions of pictures are shown."""
    captions: bool = True
    """Whether the wordings of captions are shown."""

    @property
    def ways(self) -> dict[str, str]:
        """The settings that would vary what is shown, each with what it does."""
        pictures = WAYS if self.images and not self.varied else {}
        return {**pictures, **(WORDS if self.captions and not self.wordings.of else {})}


def augment(
    dataset: str | Path,
    count: int = PICTURES,
    *,
    out: str | Path | None = None,
    images: bool = True,
    captions: bool = True,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Augmented:
    """A few training pictures with the versions and the wordings that a training is shown of them, and a page of both.

    `images` and `captions` say which of the two to show: what the recipe's `[data]` varies, and its `[augment]`.

    The page is `augment.html` in `out` or, where none is named, in the dataset's `report/`. Nothing else is written,
    and nothing is downloaded. The pictures are spread evenly from the narrowest to the widest, the same each time.

    Raises: BespokeError when `dataset` is none or is damaged, the recipe cannot be used, or its base is not here.
    """
    folder = Path(dataset)
    settings = settings_of(dataset, recipe, overrides)
    found = with_brackets(data.load(folder), settings)
    root = Path(recipe).parent if recipe else folder.resolve().parent
    base = _base(settings, root)
    whole, _ = resolved(settings, found, base)
    train, versions = found.part("train"), Versions(whole, base.step)
    shown = _shown(folder, _spread(train, count), versions if images else None, report)
    wordings = reworded(train, whole, base, Project(root), report) if captions else Reworded({})
    notes = (*(_sentences(versions, train) if images else ()), *_about_captions(whole, found, wordings))
    lengths = in_tokens(base, [each.picture.text for each in shown])
    path = Path(out or folder / "report") / "augment.html"
    made = Augmented(path, shown, len(train), data.varied(whole.data), notes, wordings, images, captions)
    decode = partial(data.preview, side=page.VERSION_SIDE)
    page.write_augment_preview(_page(folder, made, whole, lengths), path, decode)
    return made


def _base(settings: Recipe, beside: Path) -> Checkpoint:
    """The base model, which says what shapes it takes and what it reads of captions.

    Raises: BespokeError when it is not on this machine or cannot be used.
    """
    try:
        return base_of(settings, beside, download=False)
    except BespokeError as error:
        problem = f"Which shapes pictures get depends on the base model, which cannot be had: {error.problem}"
        hint = f"{error.hint} For a preview nothing is downloaded: bespoke train RECIPE --plan does that."
        raise BespokeError(problem, hint) from None


def _spread(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """So many pictures, evenly from the narrowest to the widest, or all where there are no more."""
    order = sorted(pictures, key=lambda picture: (picture.width / picture.height, picture.file))
    count = min(count, len(order))
    return [order[(2 * number + 1) * len(order) // (2 * count)] for number in range(count)]


def _shown(folder: Path, pictures: Sequence[Picture], versions: Versions | None, report: Reporter) -> tuple[Shown, ...]:
    """Each picture with its versions, made by what makes them for the encoder; without any where there are none."""
    if versions is None:
        return tuple(Shown(picture, ()) for picture in pictures)
    fit, found = fitter(), list[Shown]()
    for number, picture in enumerate(pictures):
        report(FIT, number, len(pictures))
        file = folder / data.TRAIN / picture.file
        found.append(Shown(picture, tuple((each, fit(file, each)) for each in versions.of(picture))))
    report(FIT, len(pictures), len(pictures))
    return tuple(found)


def _sentences(versions: Versions, train: Sequence[Picture]) -> tuple[str, ...]:
    """What training would tell of the pictures' shapes and versions."""
    return tuple(f"{subject.capitalize()}: {words}." for subject, words in versions.told(train).items())


def _about_captions(recipe: Recipe, dataset: Dataset, wordings: Reworded) -> tuple[str, ...]:
    """What becomes of captions in training, and of the pictures that are held back."""
    empty, held = recipe.text.proportion_empty_prompts, len(dataset.part("validation"))
    told = [f"In {100 * empty:.3g} % of the visits the caption is left out, for guidance."] if empty else []
    if wordings.of:
        share = f"{100 * recipe.augment.share:.3g} % of the visits read another wording"
        told += [f"{wordings.told()}.", f"{share}, measurements never do.", *wordings.judged()]
    if held and data.varied(recipe.data):
        told.append(f"Pictures held back for validation ({held}) have one version, in which nothing is left to chance.")
    return tuple(told)


def _page(folder: Path, made: Augmented, recipe: Recipe, lengths: Lengths) -> page.AugmentPreview:
    ways = tuple(page.Way(*each) for each in made.ways.items())
    pictures = tuple(_varied(folder, shown, recipe, lengths, made.wordings) for shown in made.pictures)
    shown = f"{len(made.pictures)} of the {made.of:,} training pictures, from the narrowest to the widest. "
    seen = "Each visit in training takes one of a picture's versions. " if made.varied and made.images else ""
    lead = f"{shown}{seen}The dataset was not changed."
    return page.AugmentPreview(folder.resolve().parent.name, lead, made.notes, pictures, ways)


def _varied(folder: Path, shown: Shown, recipe: Recipe, lengths: Lengths, wordings: Reworded) -> page.Varied:
    picture = shown.picture
    thumb = page.Thumb(folder / data.TRAIN / picture.file, picture.file, f"{picture.width}×{picture.height}")
    versions = tuple(
        page.Version(Image.fromarray(fitted.pixels), f"{each.size[0]}×{each.size[1]}", done(each, fitted))
        for each, fitted in shown.versions
    )
    return page.Varied(
        thumb, *lengths.halves(picture.text), versions, _notes(shown, recipe), _others(picture, wordings)
    )


def _others(picture: Picture, wordings: Reworded) -> tuple[page.Other, ...]:
    """The wordings of a picture's caption, then those from columns of the table, then the refused ones."""
    worded = wordings.of.get(picture.text, Worded(picture.text))
    made = {wording.text: ", ".join(wording.ways) for wording in worded.kept}
    kept = [page.Other(text, made.get(text, "a caption of its own")) for text in wordings.others(picture)]
    return (*kept, *(page.Other(refusal.text, refusal.reason, refused=True) for refusal in worded.refused))


def _notes(shown: Shown, recipe: Recipe) -> tuple[str, ...]:
    """What there is to know of one picture."""
    spans = [(part.text[s.begin : s.end], s.weight) for part in read(shown.picture.text).parts for s in part.spans]
    reason = unmirrorable(shown.picture.text) if recipe.data.random_flip else ""
    heavy = ", ".join(f"“{text}” counts {weight:.3g}" for text, weight in spans)
    alike = "too small to be cut into, or it fits its shape" if recipe.data.crop == "random" else "too small to be cut"
    told = [
        f"Never mirrored: the caption {reason}." if reason else "",
        f"Words with a weight: {heavy}." if heavy else "",
        f"Its {len(shown.versions)} versions are all the same: it is {alike}." if shown.alike else "",
    ]
    return tuple(filter(None, told))


def done(transform: Transform, fitted: Fitted) -> tuple[str, ...]:
    """What was done to a picture, in words, in the order in which it was done; the shape apart."""
    turn, trim, colours = transform.angle, transform.trim, transform.colors
    side = "left" if turn > 0 else "right"
    edges = zip(("left", "top", "right", "bottom"), trim, strict=True)
    said = [
        f"turned {abs(turn):.1f}° to the {side}" if turn else "",
        f"cut off: {', '.join(f'{name} {100 * part:.0f} %' for name, part in edges)}" if any(trim) else "",
        f"zoomed in {transform.zoom:.2f} times" if transform.zoom > 1 else "",
        _resized(fitted),
        _cut(transform, fitted),
        "mirrored" if transform.mirrored else "",
        "brightness × {:.2f}, contrast × {:.2f}, saturation × {:.2f}".format(*colours) if set(colours) != {1.0} else "",
        f"hues turned by {360 * transform.hue:+.1f}°".replace("-", "−") if transform.hue else "",
    ]
    return tuple(filter(None, said))


def _resized(fitted: Fitted) -> str:
    if round(fitted.scale, 2) == 1:
        return "size as it is"
    return f"made {'smaller' if fitted.scale < 1 else 'larger'}: × {fitted.scale:.2f}"


def _cut(transform: Transform, fitted: Fitted) -> str:
    """Where the shape was cut out, and what part of the picture it shows."""
    (high, wide), (height, width) = fitted.target_size, fitted.original_size
    part = high * wide / fitted.scale**2 / (height * width)
    if part > 0.995:
        return "the whole picture"
    named = {"saliency": "where it stands out most", (0.5, 0.5): "in the middle"}
    across, down = (0.5, 0.5) if transform.crop == "saliency" else transform.crop
    anywhere = f"{100 * across:.0f} % across, {100 * down:.0f} % down"
    return f"shows {100 * part:.0f} % of it, cut out {named.get(transform.crop, anywhere)}"
