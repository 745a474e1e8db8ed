"""The recipe: one TOML file as a frozen tree, in which a wrong key is refused with the nearest right one."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
Prompts = Annotated[tuple[str, ...], Field(strict=False)]  # TOML has lists, no tuples
Rate = Annotated[float, Field(gt=0.0)]


class Section(BaseModel):
    """A table of the recipe; unknown keys are refused, and so is `true` for a number."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Model(Section):
    """`[model]`: what is customised, and how."""

    base: str = "pico"
    """`pico`, a diffusers folder or a hub id."""
    method: Literal["lora"] = "lora"
    """What is trained: low-rank matrices beside the attention layers."""
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
    enable_bucket: bool | None = None
    """Give each picture a shape near its own, within resolution² pixels; by default where pictures are not square."""
    maximum_bucket_aspect: float = Field(default=2.0, ge=1.0, le=10.0)
    """Longer side by shorter side of the narrowest shapes; narrower pictures are cropped."""
    upscale: bool = False
    """Enlarge small pictures; otherwise buckets give them a smaller shape. Without buckets they are always enlarged."""
    image_interpolation_mode: Literal["auto", "lanczos", "bicubic"] = "auto"
    """How pictures are resized; `auto` is Lanczos when shrinking and bicubic when growing."""
    crop: Literal["center", "random", "saliency"] = "center"
    """Which part is kept of a picture that does not fit its shape; `saliency` is the part that stands out most."""
    crop_jitter: float = Field(default=0.0, ge=0.0, le=0.25)
    """Cut up to this part off each side at random before anything else."""
    random_scale: float = Field(default=1.0, ge=1.0, le=4.0)
    """Zoom in by a random factor up to this."""
    random_rotation: float = Field(default=0.0, ge=0.0, le=45.0)
    """Turn by a random angle up to this many degrees, and cut the empty corners off."""
    color_jitter: BelowOne = 0.0
    """Multiply brightness, contrast and saturation by random factors from one less this to one more."""
    random_flip: bool = False
    """Also train on the mirrored picture, but where the caption names left, right or writing."""
    image_variations: Positive = 4
    """Where a choice above is random, how many versions of each picture are encoded; each visit takes one."""
    file_name_captions: bool = False
    """Where a picture has no caption, take what stands in its name before the first underscore."""
    validation_fraction: BelowOne = 0.12
    """Part of the pictures kept out of training to measure it."""
    split_by: str = "subject"
    """Column of train/metadata.csv: pictures of equal value stay on one side of the split."""


Rule = Literal[
    "too small", "blank", "blurry", "dark", "bright", "little detail", "narrow", "bars", "JPEG blocks",
    "broken letters", "markup", "other script", "duplicate", "near-duplicate", "mirrored",
]  # fmt: skip


class Clean(Section):
    """`[clean]`: which pictures are set aside, and which only carry a note of doubt."""

    set_aside: Annotated[tuple[Rule, ...], Field(strict=False)] = (
        "too small", "blank", "duplicate", "near-duplicate", "mirrored",
    )  # fmt: skip
    """Rules that set a picture aside, as a missing caption always does; what the others find is noted with it."""
    minimum_side: Positive = 32
    """`too small`: pixels of the shorter side below which a picture shows too little."""
    minimum_deviation: float = Field(default=2.0, ge=0)
    """`blank`: standard deviation of the grey levels (of 255) below which there is nothing to see."""
    minimum_sharpness: float = Field(default=10.0, ge=0)
    """`blurry`: variance of the Laplacian, at 512 pixels at most."""
    minimum_brightest: float = Field(default=50.0, ge=0)
    """`dark`: grey level that the brightest 5 % of the pixels must reach."""
    maximum_darkest: float = Field(default=235.0, ge=0)
    """`bright`: grey level that the darkest 5 % of the pixels must stay below."""
    minimum_entropy: float = Field(default=0.5, ge=0)
    """`little detail`: bits a pixel of the histogram of grey levels."""
    maximum_aspect: float = Field(default=3.0, ge=1)
    """`narrow`: longer side by shorter side."""
    maximum_bars: Share = 0.05
    """`bars`: part of a side that bars of one colour at both ends may take."""
    maximum_blocks: float = Field(default=0.5, ge=0)
    """`JPEG blocks`: by how much steps on JPEG's grid may be larger than others."""
    maximum_foreign_letters: Share = 0.3
    """`other script`: part of a caption's letters that may not be Latin."""


class Balance(Section):
    """`[balance]`: how often pictures are to count so that no group of them drowns the others."""

    by: str = ""
    """`tag`, `colour`, `source` or a column of train/metadata.csv; empty: `category`, `subject` or else `colour`."""
    target: Literal["equal", "square root"] = "square root"
    """What share each group is to have: the same, or in proportion to the square root of its size."""
    shares: dict[str, Rate] = Field(default={})
    """Shares of single groups, such as `{ cat = 0.3 }`, in place of the target; the others divide the rest."""
    max_repeats: float = Field(default=4.0, ge=1.0, le=100.0)
    """How many times as often as the largest group's pictures another may count."""
    write: Literal["repeats", "weight"] = "repeats"
    """Let pictures come more often, or let their loss count for more."""
    whole: bool = False
    """Round repeats to whole numbers, the only ones that kohya's folders can say."""


class Caption(Section):
    """`[caption]`: how `bespoke data caption` puts pictures into words."""

    model: str | None = None
    """`pico-BLIP`, a BLIP's folder or hub id, or a vision service's address such as
    `http://localhost:8000/v1#model`; by default the BLIP that suits the base."""
    existing: Literal["keep", "extend", "replace"] = "keep"
    """What happens to captions that are there: they stay, the new one is added after them, or it takes their place."""
    kind: str = "caption"
    """The name under which captions are kept beside those of other kinds: `short`, `long`."""
    prompt: str = ""
    """What a BLIP goes on from, or what a vision service is asked."""
    prefix: str = ""
    """Comes before every new caption, such as the words that call a style."""
    suffix: str = ""
    """Comes after every new caption."""
    tags: tuple[Literal["categories", "things"], ...] = Field(default=(), strict=False)
    """What is added after the new caption: the `categories` that CLIP sees, the `things` that the detector finds."""
    categories: str | None = None
    """A text file with a category on each line, the wider before the narrower: `animal > dog`; from the recipe."""
    clip: str | None = None
    """`pico-CLIP`, or a CLIP's folder or hub id, which chooses categories; by default the one that suits the base."""
    detector: str | None = None
    """`pico-YOLOS`, or a detector's folder or hub id; by default the one that suits the base."""
    least_score: Share = 0.5
    """How sure the detector must be of a thing."""
    num_beams: Positive = 3
    """Beginnings that are followed at once."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draws words from the likeliest that hold this much probability, instead of following beams."""
    repetition_penalty: float = Field(default=1.0, ge=1)
    """Above 1 a word that was said becomes less likely."""
    min_words: int = Field(default=3, ge=0)
    """Words that a new caption has at least."""
    max_words: Positive = 40
    """Words that a new caption has at most."""
    seed: int = 0
    """Seeds drawn words."""
    batch_size: Positive = 8
    """Pictures put into words at once."""


class Text(Section):
    """`[text]`: what happens to captions."""

    trigger: str | None = None
    """The words that call the style; by default those that all captions begin with."""
    proportion_empty_prompts: Share = 0.05
    """Part of the captions replaced by nothing, for classifier-free guidance."""


class Train(Section):
    """`[train]`: the optimisation, in diffusers' words."""

    seed: int = 0
    """Seeds the order of the pictures, the noise and the timesteps."""
    max_train_steps: Positive | None = None
    """Optimiser steps; by default from the number of pictures."""
    train_batch_size: Positive | None = None
    """Pictures in one pass; by default from the machine and the resolution."""
    gradient_accumulation_steps: Positive = 1
    """Passes that make one optimiser step."""
    learning_rate: Rate | None = None
    """The highest rate, reached after the warm-up; by default from the size of the model."""
    lr_scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up."""
    lr_warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the rate rises from nothing; by default 5 % of the steps, at most 100."""
    adam_beta1: BelowOne = 0.9
    """AdamW's memory of the gradient."""
    adam_beta2: BelowOne = 0.99
    """AdamW's memory of the squared gradient."""
    adam_weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's pull of the weights towards nothing."""
    adam_epsilon: Rate = 1e-8
    """Keeps AdamW from dividing by nothing."""
    max_grad_norm: Rate = 1.0
    """Longer gradients are shortened to this length."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Number format of the networks' arithmetic; by default bf16 where the machine is fast at it."""
    use_ema: bool = False
    """Also keep a running average of the weights."""
    ema_decay: BelowOne = 0.99
    """The running average's memory."""
    snr_gamma: Rate | None = None
    """Min-SNR weighting of the loss; off by default."""
    noise_offset: float = Field(default=0.0, ge=0)
    """Shifts the noise of each channel as a whole, so that very dark and very bright pictures are learnt."""
    num_class_images: int | None = Field(default=None, ge=0)
    """Plain pictures drawn by the base before training, so that plain prompts stay as they are (prior preservation)."""
    prior_loss_weight: float = Field(default=2.0, ge=0)
    """What a plain picture's loss counts for; by default twice, for they are half as many as training pictures."""
    checkpointing_steps: Positive | None = None
    """Steps between two states to resume from; by default four in the run."""
    checkpoints_total_limit: Positive = 5
    """How many states to resume from are kept; the best adapter is kept apart from them."""
    log_every: Positive = 10
    """Steps between two lines of metrics."""


class Validation(Section):
    """`[validation]`: the loss on pictures kept apart."""

    validation_steps: Positive | None = None
    """Steps between two measurements; by default ten in the run."""
    strata: Positive = 8
    """Fixed timesteps measured for each picture, one from each of so many equal parts."""
    max_items: Positive = 64
    """Most pictures measured each time."""
    seed: int = 0
    """Seeds the noise of the measurement, equal at every measurement."""


class Sample(Section):
    """`[sample]`: how pictures are drawn."""

    num_inference_steps: Positive = 20
    """Steps from noise to picture."""
    guidance_scale: float = Field(default=4.0, ge=0)
    """How strongly the prompt pulls; 1 is no pull beyond the model's own."""
    negative_prompt: str = ""
    """What pictures are pulled away from."""
    seed: int = 0
    """Seeds the pictures' first noise; the next picture of a prompt has the next seed."""
    batch_size: Positive = 8
    """Pictures drawn at once."""


class Objective(Section):
    """`[objective]`: what should change and what must stay, said before training."""

    change_prompts: Prompts = ()
    """Prompts that should look different after training."""
    keep_prompts: Prompts = ()
    """Prompts that should look as before."""
    max_agreement_loss: Share = 0.05
    """How much of the agreement with plain prompts may be lost."""
    max_distance_ratio: Share = 0.5
    """The distance to the references, as a part of the base's, that counts as done."""


class Recipe(Section):
    """A whole recipe."""

    model: Model = Model()
    data: Data = Data()
    clean: Clean = Clean()
    balance: Balance = Balance()
    caption: Caption = Caption()
    text: Text = Text()
    train: Train = Train()
    validation: Validation = Validation()
    sample: Sample = Sample()
    objective: Objective = Objective()
