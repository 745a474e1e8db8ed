"""The recipe: one TOML file as a frozen tree, in which a wrong key is refused with the nearest right one."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0)]


class Section(BaseModel):
    """A table of the recipe; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(Section):
    """`[model]`: what is customised, and how."""

    base: str = "pico"
    """`pico`, a diffusers folder or a hub id."""
    method: Literal["lora"] = "lora"
    rank: Positive = 16
    """Rank of the low-rank matrices."""
    alpha: Positive | None = None
    """LoRA's scale is alpha / rank; by default alpha = rank."""
    seed: int = 0
    """Seeds the adapter's first weights."""


class Data(Section):
    """`[data]`: which pictures, and how they are brought to the model's size."""

    path: str = "dataset"
    """The dataset's folder, from the recipe's."""
    resolution: Positive | None = None
    """Side of the training pictures in pixels; by default the model's own."""
    center_crop: bool = True
    random_flip: bool = False
    """Also train on the mirrored picture; leave it off where left and right matter."""
    validation_fraction: Share = 0.12
    """Part of the pictures kept out of training to measure it."""


class Text(Section):
    """`[text]`: what happens to captions."""

    trigger: str | None = None
    """The words that call the style; by default those that all captions begin with."""
    proportion_empty_prompts: Share = 0.05
    """Part of the captions replaced by nothing, for classifier-free guidance."""


class Train(Section):
    """`[train]`: the optimisation, in diffusers' words."""

    seed: int = 0
    max_train_steps: Positive | None = None
    train_batch_size: Positive | None = None
    gradient_accumulation_steps: Positive = 1
    learning_rate: Rate = 1e-4
    lr_scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    lr_warmup_steps: int | None = Field(None, ge=0)
    adam_beta1: Share = 0.9
    adam_beta2: Share = 0.99
    adam_weight_decay: float = Field(0.01, ge=0)
    adam_epsilon: Rate = 1e-8
    max_grad_norm: Rate = 1.0
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    use_ema: bool = False
    ema_decay: Share = 0.99
    snr_gamma: Rate | None = None
    """Min-SNR weighting of the loss; off by default."""
    noise_offset: float = Field(0.0, ge=0)
    num_class_images: int | None = Field(None, ge=0)
    """Plain pictures drawn by the base before training, so that plain prompts stay as they are (prior preservation)."""
    prior_loss_weight: float = Field(1.0, ge=0)
    checkpointing_steps: Positive | None = None
    checkpoints_total_limit: Positive = 5
    """How many states to resume from are kept, besides the best."""
    log_every: Positive = 10


class Validation(Section):
    """`[validation]`: the loss on pictures kept apart."""

    validation_steps: Positive | None = None
    strata: Positive = 8
    """Fixed timesteps measured for each picture, one from each of so many equal parts."""
    max_items: Positive = 64
    seed: int = 0


class Sample(Section):
    """`[sample]`: how pictures are drawn."""

    num_inference_steps: Positive = 20
    guidance_scale: float = Field(4.0, ge=0)
    negative_prompt: str = ""
    seed: int = 0
    batch_size: Positive = 8


class Objective(Section):
    """`[objective]`: what should change and what must stay, said before training."""

    change_prompts: tuple[str, ...] = ()
    keep_prompts: tuple[str, ...] = ()
    max_agreement_loss: Share = 0.05
    """How much of the agreement with plain prompts may be lost."""
    max_distance_ratio: Share = 0.5
    """The distance to the references, as a part of the base's, that counts as done."""


class Recipe(Section):
    """A whole recipe."""

    model: Model = Model()
    data: Data = Data()
    text: Text = Text()
    train: Train = Train()
    validation: Validation = Validation()
    sample: Sample = Sample()
    objective: Objective = Objective()
