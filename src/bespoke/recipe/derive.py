"""What a person left out, derived from the data, the model and the machine, each with its reason."""

import math
from dataclasses import dataclass
from typing import Any

from bespoke.errors import BespokeError
from bespoke.recipe.training import Stage
from bespoke.recipe.tree import Recipe


@dataclass(frozen=True)
class Facts:
    """What the defaults are derived from."""

    pictures: int
    """Training pictures, validation left out."""
    native_resolution: int
    """The side the model was trained at, in pixels."""
    trigger: str
    """The words that all captions begin with; may be empty."""
    device: str
    """"cpu", "cuda" or "mps"."""
    bf16: bool
    """Whether the device multiplies bfloat16 fast."""
    not_square: int = 0
    """Training pictures that are higher than wide or wider than high."""
    visits: float = 0.0
    """How often training pictures come in an epoch, all together; nothing stands for once each."""
    flows: bool = False
    """Whether the model was trained by flow matching."""


IMAGES_SEEN_PER_PICTURE = 54
MOST_IMAGES_SEEN = 48_000
LEAST_IMAGES_SEEN = 1_600
SMALL = 128
"""Pixels up to which a model counts as small: it learns at other rates, and is guided less."""


def derive(recipe: Recipe, facts: Facts) -> tuple[Recipe, dict[str, str]]:
    """The recipe with nothing left open, and for each derived `section.key` the reason in words.

    Raises: BespokeError when a stage does not say how long it is, or its steps are not those of the whole.
    """
    found = _Derivation(recipe, facts)
    found.shape()
    found.words()
    found.length()
    found.pace()
    return found.result(), found.reasons


class _Derivation:
    """A recipe while what it leaves open is filled in."""

    def __init__(self, recipe: Recipe, facts: Facts) -> None:
        self.recipe, self.facts, self.train = recipe, facts, recipe.train
        self.full = recipe.model.method == "full"
        self.reasons: dict[str, str] = {}
        self.changes: dict[str, dict[str, Any]] = {}
        self.stages: list[Stage] = []

    def fill(self, section: str, key: str, value: Any, reason: str) -> Any:  # noqa: ANN401 - whatever a recipe holds
        """The value that was given or, where none was, this one."""
        given = getattr(getattr(self.recipe, section), key)
        if given is not None:
            return given
        self.changes.setdefault(section, {})[key] = value
        self.reasons[f"{section}.{key}"] = reason
        return value

    def result(self) -> Recipe:
        """The recipe as filled in."""
        updated = {name: getattr(self.recipe, name).model_copy(update=found) for name, found in self.changes.items()}
        return self.recipe.model_copy(update={**updated, "stage": tuple(self.stages)})

    def shape(self) -> None:
        """What is trained, and at which size."""
        facts = self.facts
        self.fill("model", "alpha", self.recipe.model.rank, "equal to the rank: the adapter's scale is 1")
        resolution = self.fill("data", "resolution", facts.native_resolution, "what the base model was trained at")
        self.small = resolution <= SMALL
        self.fill("sample", "guidance_scale", *guidance(facts.native_resolution, flows=facts.flows))
        self.fill("data", "enable_bucket", *_buckets(facts))
        precision = self.fill("train", "mixed_precision", *_precision(facts))
        self.fill("model", "weight_dtype", *self._dtype(precision))
        self.batch = self.fill("train", "train_batch_size", *_batch(facts, small=self.small))

    def words(self) -> None:
        """What calls the style, and how plain prompts are kept as they are."""
        facts = self.facts
        why = "what all captions begin with" if facts.trigger else "captions share no first words"
        trigger = self.fill("text", "trigger", facts.trigger, why)
        self.fill("sample", "brackets", self.recipe.text.brackets, "as in captions")
        # A trigger that the person names counts as much as one found in the captions.
        self.prior = self.fill("train", "num_class_images", *self._prior(trigger))

    def _prior(self, trigger: str) -> tuple[int, str]:
        """How many plain pictures the base draws, and why."""
        if self.recipe.data.regularisation:
            return 0, "the regularisation set is in their place"
        if not trigger and not self.train.class_prompts:
            return 0, "without a trigger no prompt is plain"
        return min(self.facts.pictures, 200), "one plain picture for each training picture, at most 200"

    def length(self) -> None:
        """How many steps, in how many stages."""
        train, seen_per_step = self.train, self.batch * self.train.gradient_accumulation_steps
        if self.recipe.stage:
            self.stages = [self._stage(number, stage) for number, stage in enumerate(self.recipe.stage, start=1)]
            total = sum(stage.max_train_steps or 0 for stage in self.stages)
            self.steps = self.fill("train", "max_train_steps", total, "all stages together")
            if self.steps != total:
                hint = "Take max_train_steps out of [train], or [[stage]] out of the recipe."
                raise BespokeError(f"The stages have {total} steps, and train.max_train_steps is {self.steps}.", hint)
            return
        steps, reason = self._steps(train.max_train_steps, train.num_train_epochs)
        if not steps:
            seen = min(MOST_IMAGES_SEEN, max(LEAST_IMAGES_SEEN, IMAGES_SEEN_PER_PICTURE * self.facts.pictures))
            steps, reason = max(1, round(seen / seen_per_step)), f"{seen} images seen, {seen_per_step} a step"
        self.steps = self.fill("train", "max_train_steps", steps, reason)

    def pace(self) -> None:
        """How fast it learns, and when what is written."""
        steps = self.steps
        self.fill("train", "lr_warmup_steps", _warmup(steps), "5 % of the steps, at most 100")
        self.fill("train", "checkpointing_steps", max(1, steps // 4), "four states in the run")
        self.fill("sample", "sample_every_n_steps", math.ceil(steps / 4), "four columns in the run")
        self.fill("validation", "validation_steps", max(1, steps // 10), "ten measurements in the run")
        self.fill("train", "timestep_sampling", *_timesteps(self.facts))
        rate = self.fill("train", "learning_rate", *_rate(self.train.optimizer, small=self.small, full=self.full))
        tenth = self.full and self.train.optimizer != "prodigy"
        theirs, why = (rate / 10, "a tenth of the UNet's") if tenth else (rate, "the UNet's")
        self.fill("train", "text_encoder_learning_rate", theirs, why)
        epochs = steps * self.batch * self.train.gradient_accumulation_steps / self._epoch
        every, why = (0, "whole models are large") if self.full else (max(1, round(epochs / 10)), "ten in the run")
        self.fill("train", "save_every_n_epochs", every, why)

    @property
    def _epoch(self) -> float:
        """Pictures in an epoch, those that keep the base as it is among them."""
        own = self.facts.visits or float(self.facts.pictures)
        regular = own * self.train.regularisation_share if self.recipe.data.regularisation else 0.0
        return max(1.0, own + self.prior + regular)

    def _steps(self, steps: int | None, epochs: int | None) -> tuple[int, str]:
        """How many steps were asked for, and why; 0 where neither steps nor epochs were."""
        if steps or not epochs:
            return steps or 0, ""
        seen_per_step = self.batch * self.train.gradient_accumulation_steps
        reason = f"{epochs} epochs of {self._epoch:g} pictures, {seen_per_step} a step"
        return math.ceil(epochs * self._epoch / seen_per_step), reason

    def _stage(self, number: int, stage: Stage) -> Stage:
        steps, _ = self._steps(stage.max_train_steps, stage.num_train_epochs)
        if not steps:
            hint = "Give it max_train_steps or num_train_epochs."
            raise BespokeError(f"Stage {number} does not say how long it is.", hint)
        warmup = _warmup(steps) if stage.lr_warmup_steps is None else stage.lr_warmup_steps
        return stage.model_copy(update={"max_train_steps": steps, "lr_warmup_steps": warmup})

    def _dtype(self, precision: str) -> tuple[str, str]:
        if self.full:
            return "fp32", "all weights are trained, and small updates vanish in 16 bits"
        if precision == "no":
            return "fp32", "exact, and there is memory for it"
        return precision, "frozen weights take half the memory so, and are in the arithmetic's own format"


def guidance(native_resolution: int, *, flows: bool = False) -> tuple[float, str]:
    """How strongly prompts pull where nobody says it, and why; the side is what the model was trained at, in pixels.

    7.5 is what diffusers and other tools draw Stable Diffusion with, and 7 what diffusers draws Stable Diffusion 3
    with, which was trained by flow matching. Pulled so, pico's tuned models overdraw colours.
    """
    if native_resolution <= SMALL:
        return 2.0, "the model is small"
    if flows:
        return 7.0, "what Stable Diffusion 3 is drawn with"
    return 7.5, "what Stable Diffusion is drawn with"


def _warmup(steps: int) -> int:
    return min(100, max(1, steps // 20))


def _timesteps(facts: Facts) -> tuple[str, str]:
    if facts.flows:
        return "logit_normal", "as Stable Diffusion 3 was trained"
    return "uniform", "as Stable Diffusion was trained"


def _buckets(facts: Facts) -> tuple[bool, str]:
    if facts.not_square:
        return True, f"{facts.not_square} of {facts.pictures} pictures are not square"
    return False, "all pictures are square"


def _batch(facts: Facts, *, small: bool) -> tuple[int, str]:
    if small:
        return 8, "the model is small"
    if facts.device == "cpu":
        return 1, "a processor trains one picture at a time"
    return 4, "four fit on an 8 GB card at 512 pixels"


def _rate(optimizer: str, *, small: bool, full: bool) -> tuple[float, str]:
    if optimizer == "prodigy":
        return 1.0, "Prodigy finds the rate, and this multiplies it"
    if full:
        rate, why = (1e-4, "the model is small") if small else (2e-6, "what whole Stable Diffusions are tuned at")
    elif small:
        rate, why = 1.5e-3, "the model is small"
    else:
        rate, why = 1e-4, "what attention LoRAs of Stable Diffusion learn at"
    if optimizer == "lion":  # Source: Chen et al. 2023, section 5: 3 to 10 times smaller than AdamW's
        return rate / 5, f"a fifth of AdamW's, for Lion's steps are all of one size; {why}"
    return rate, why


def _precision(facts: Facts) -> tuple[str, str]:
    if facts.bf16:
        return "bf16", "the device multiplies bfloat16 faster"
    return "no", f"bfloat16 is not faster on this {facts.device}"
