"""What a person left out, derived from the data, the model and the machine, each with its reason."""

from dataclasses import dataclass

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


IMAGES_SEEN_PER_PICTURE = 60
MOST_IMAGES_SEEN = 48_000
LEAST_IMAGES_SEEN = 1_600


def derive(recipe: Recipe, facts: Facts) -> tuple[Recipe, dict[str, str]]:
    """The recipe with nothing left open, and for each derived `section.key` the reason in words."""
    reasons: dict[str, str] = {}
    changes: dict[str, dict[str, object]] = {}

    def fill(section: str, key: str, value: object, reason: str) -> object:
        given = getattr(getattr(recipe, section), key)
        if given is not None:
            return given
        changes.setdefault(section, {})[key] = value
        reasons[f"{section}.{key}"] = reason
        return value

    train = recipe.train
    fill("model", "alpha", recipe.model.rank, "equal to the rank: the adapter's scale is 1")
    resolution = fill("data", "resolution", facts.native_resolution, "what the base model was trained at")
    fill("data", "enable_bucket", *_buckets(facts))
    why = "what all captions begin with" if facts.trigger else "captions share no first words"
    trigger = fill("text", "trigger", facts.trigger, why)
    small = isinstance(resolution, int) and resolution <= 128
    batch = fill("train", "train_batch_size", *_batch(facts, small=small))
    assert isinstance(batch, int)
    seen_per_step = batch * train.gradient_accumulation_steps
    seen = min(MOST_IMAGES_SEEN, max(LEAST_IMAGES_SEEN, IMAGES_SEEN_PER_PICTURE * facts.pictures))
    steps = fill(
        "train", "max_train_steps", max(1, round(seen / seen_per_step)), f"{seen} images seen, {seen_per_step} a step"
    )
    assert isinstance(steps, int)
    fill("train", "lr_warmup_steps", min(100, max(1, steps // 20)), "5 % of the steps, at most 100")
    fill("train", "mixed_precision", *_precision(facts))
    fill("train", "checkpointing_steps", max(1, steps // 4), "four states in the run")
    fill("validation", "validation_steps", max(1, steps // 10), "ten measurements in the run")
    # A trigger that the person names counts as much as one found in the captions.
    prior = min((facts.pictures + 1) // 2, 200) if trigger else 0
    fill("train", "learning_rate", *_rate(small=small))
    why = (
        "one plain picture for two training pictures, at most 200" if prior else "without a trigger no prompt is plain"
    )
    fill("train", "num_class_images", prior, why)
    updated = {name: getattr(recipe, name).model_copy(update=values) for name, values in changes.items()}
    return recipe.model_copy(update=updated), reasons


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


def _rate(*, small: bool) -> tuple[float, str]:
    return (2e-3, "the model is small") if small else (1e-4, "what attention LoRAs of Stable Diffusion learn at")


def _precision(facts: Facts) -> tuple[str, str]:
    if facts.bf16:
        return "bf16", "the device multiplies bfloat16 fast"
    return "no", f"bfloat16 is not fast on this {facts.device}"
