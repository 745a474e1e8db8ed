"""The shapes that training gives the pictures, and what an epoch uses of them, by the code that trains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bespoke import page
from bespoke.hardware import machine
from bespoke.models import Checkpoint
from bespoke.pipeline import masked
from bespoke.pipeline.describe.view import View
from bespoke.pipeline.versions import Shape, Versions
from bespoke.recipe import Facts, Recipe, derive
from bespoke.records import Picture
from bespoke.training.order import Order

SHAPES = 12
"""How many shapes are shown."""


@dataclass(frozen=True)
class Shaped:
    """What the page says of the shapes."""

    lead: str
    rows: tuple[page.TrainingShape, ...]
    notes: tuple[str, ...]
    """What training would tell of them, and what an epoch uses."""


NOTHING = Shaped("", (), ())


def shaped(view: View, base: Checkpoint | None) -> Shaped:
    """The shapes of a dataset's training pictures; nothing where the base model is not at hand to say which it takes.

    Raises: BespokeError when the recipe's parts contradict each other.
    """
    train = view.dataset.part("train")
    if base is None or not train:
        return NOTHING
    recipe = _resolved(view, base, train)
    versions = Versions(recipe, base.step)
    shapes = versions.shapes(train)
    rest = f" The {SHAPES} with most pictures of {len(shapes)}." if len(shapes) > SHAPES else ""
    said = versions.told(train) | {masked.SUBJECT: masked.told(train, recipe.train)}
    told = (f"{subject.capitalize()}: {words}." for subject, words in said.items() if words and subject != "shapes")
    rows = tuple(_row(shape, len(train)) for shape in shapes[:SHAPES])
    return Shaped(f"{_lead(recipe)}{rest}", rows, (*told, *_rare(recipe, shapes), _epoch(recipe, train, versions)))


def _resolved(view: View, base: Checkpoint, train: Sequence[Picture]) -> Recipe:
    """The recipe as training would derive it here and now."""
    here, not_square = machine(), sum(picture.width != picture.height for picture in train)
    visits = sum(picture.repeats for picture in train)
    facts = Facts(len(train), base.resolution, view.trigger, here.device, here.bf16, not_square, visits, base.flows)
    return derive(view.recipe, facts)[0]


def _lead(recipe: Recipe) -> str:
    side = recipe.data.resolution
    if not recipe.data.enable_bucket:
        return f"Every training picture is cut to a square of {side} pixels."
    return f"Each training picture gets the shape nearest to its own, of at most {side}×{side} pixels in all."


def _row(shape: Shape, whole: int) -> page.TrainingShape:
    lost, most = 100 * shape.lost, 100 * shape.most_lost
    fate = [
        f"{shape.enlarged:,} enlarged" if shape.enlarged else "",
        f"{shape.reduced:,} in a smaller shape than usual" if shape.reduced else "",
        f"{lost:.0f} % of a picture cut off in the mean, {most:.0f} % at most" if most else "nothing cut off",
    ]
    name = f"{shape.size[0]}×{shape.size[1]}"
    return page.TrainingShape(name, shape.pictures, whole, "; ".join(filter(None, fate)))


def _rare(recipe: Recipe, shapes: Sequence[Shape]) -> tuple[str, ...]:
    """How many shapes do not fill a pass."""
    size = recipe.train.train_batch_size or 1
    rare = sum(shape.pictures < size for shape in shapes)
    said = f"{rare} of {len(shapes)} shapes have fewer than {size} pictures, so that a pass holds some more than once."
    return (said,) if rare else ()


def _epoch(recipe: Recipe, train: Sequence[Picture], versions: Versions) -> str:
    """What part of the pictures the first epoch uses, counted in the order in which training would take them."""
    size = recipe.train.train_batch_size or 1
    repeats, shapes = [p.repeats for p in train], [versions.size(p) for p in train]
    order = Order([p.pixels for p in train], repeats, shapes, recipe.train.seed, size)
    passes = max(1, math.floor(order.epoch / size))
    while not order.epochs_over(passes):
        passes += 1
    used = len(order.used(0, passes))
    often, rarely = sum(r > 1 for r in repeats), sum(r < 1 for r in repeats)
    counts = [f"{often:,} count more than once" if often else "", f"{rarely:,} less than once" if rarely else ""]
    why = f" ({' and '.join(filter(None, counts))})" if often or rarely else ""
    visits = "visit" if order.epoch == 1 else "visits"
    return (
        f"An epoch is {order.epoch:,.6g} {visits}{why} in passes of {size}; the first uses "
        f"{100 * used / len(train):.4g} % of the training pictures."
    )
