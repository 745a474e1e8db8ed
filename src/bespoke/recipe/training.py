"""The sections of the recipe about what is trained, and how it is measured meanwhile."""

from typing import Annotated, Literal

from pydantic import Field

from bespoke.recipe.section import BelowOne, Numbers, Positive, Prompts, Rate, Section, Share

Method = Literal["lora", "dora", "loha", "lokr", "oft", "boft", "full", "words"]


class Model(Section):
    """`[model]`: what is customised, and how."""

    base: str = "pico"
    """`pico`, a diffusers folder, one file, a hub id (`OWNER/NAME`, also `@REVISION`), a run, or the URL of a model."""
    method: Method = "lora"
    """What is trained: an adapter of one of six kinds, all weights, or only the rows of new words."""
    targets: Prompts = ("attention",)
    """The adapter's layers: `attention`, `feed-forward`, `projections`, `convolutions`, `all-linear`, or the ends of
    layers' names such as `attn2.to_k` or `down_blocks.*.to_q`."""
    rank: Positive = 16
    """Rank of the adapter's matrices; `oft` and `boft` have blocks in its place."""
    alpha: Positive | None = None
    """The adapter's scale is alpha / rank; by default alpha = rank."""
    rank_pattern: dict[str, Positive] = Field(default={})
    """Other ranks for layers whose names end so: `{ "attn2.to_k" = 4 }`; peft's patterns."""
    alpha_pattern: dict[str, Positive] = Field(default={})
    """Other alphas for layers whose names end so."""
    rslora: bool = False
    """The scale is alpha / √rank: for `lora` and `dora` of high rank."""
    init: Literal["gaussian", "default", "pissa", "olora"] = "gaussian"
    """First weights of `lora` and `dora`: Gaussian, peft's own, or, for `lora`, parts of the layer's own weights."""
    decompose_both: bool = False
    """`lokr`: both factors of the Kronecker product are of low rank."""
    decompose_factor: int = Field(default=-1, ge=-1)
    """`lokr`: the size of the smaller factor; -1 makes both as equal as they can be."""
    block_size: Positive = 16
    """`oft` and `boft`: the side of the blocks that are turned; it must divide what goes into each layer."""
    dropout: BelowOne = 0.0
    """Part of what reaches the adapter, or of its parts, that is left out at random."""
    adapter_file: str = ""
    """An adapter to begin with, a `.safetensors` file from the recipe's folder or a URL, ours, diffusers' or
    kohya's."""
    weight_dtype: Literal["fp32", "bf16", "fp16"] | None = None
    """Number format of the weights that stay frozen; by default that of mixed_precision on a GPU, else fp32."""
    quantization: Literal["int8", "nf4", "fp8"] | None = None
    """Keep the frozen weights of linear layers in 8 or 4 bits (QLoRA), for `lora` and `dora`; `fp8` needs no package
    of its own. Off by default."""
    seed: int = 0
    """Seeds the adapter's first weights."""

    @property
    def adapts(self) -> bool:
        """Whether an adapter is trained, and the base stays."""
        return self.method not in ("full", "words")


class Text(Section):
    """`[text]`: what happens to captions."""

    trigger: str | None = None
    """The words that call the style; by default those that all captions begin with."""
    proportion_empty_prompts: Share = 0.05
    """Part of the captions replaced by nothing, for classifier-free guidance."""
    brackets: Literal["weights", "letters"] = "weights"
    """What brackets in captions are: weights, `(red hat:1.3)`, as in prompts; or letters, as in `saber (fate)`."""
    repair: bool = False
    """Mend words of the captions that are misspelt, before anything else is done with them; the dataset stays."""


class Augment(Section):
    """`[augment]`: captions said in other words while training; what they say of the picture stays."""

    variants: int = Field(default=0, ge=0)
    """Other wordings of each caption; 0 switches augmentation off. Each is encoded once and kept."""
    share: Share = 0.5
    """Part of the visits to a picture that read another wording instead of its caption."""
    shuffle: Share = 0.5
    """Chance that a wording has its clauses or tags in another order."""
    keep_first: int = Field(default=1, ge=0)
    """So many clauses or tags stay in front."""
    drop: Share = 0.2
    """Chance that it lacks a word that says nothing of the picture: an article, "very", "beautiful"."""
    prefix: Share = 0.3
    """Chance that it begins otherwise: "picture of", "image of" or neither; with a trigger, that stands elsewhere."""
    synonyms: Share = 0.5
    """Chance that it has a synonym for one of its words."""
    synonym_sources: Annotated[tuple[Literal["curated", "wordnet", "vectors"], ...], Field(strict=False)] = ("curated",)
    """Where synonyms come from: our own list, WordNet, near neighbours among the vectors of `text.vectors`."""
    spelling: Share = 0.05
    """Chance that it has one word misspelt, as people type; more needs a text encoder that is trained, too."""
    captions: Prompts = ()
    """Columns of the table of captions with other captions of a picture, such as `short` or `tags`: more wordings."""
    protected: Prompts = ()
    """Terms that stay as they are, letter by letter; the trigger does in any case."""
    similarity: Share = 0.95
    """Refuse what the text encoder finds less alike than this part of the captions' own paraphrases; 0: do not ask."""
    seed: int = 0
    """Seeds the wordings."""


class Words(Section):
    """`[words]`: new words of the tokenizer, and what they are found and made from."""

    file: str = ""
    """New words to train and to draw with, by `bespoke words build`, or a textual inversion; empty: none."""
    train: bool = False
    """Train the new words' rows, too (pivotal tuning); all other rows of the tokenizer's words stay as they are."""
    t5: bool = False
    """Rows for T5 of Stable Diffusion 3.x, too, made and trained; off, T5 reads new words in its own pieces."""
    learning_rate: Rate | None = None
    """The rows' highest rate; off by default: the UNet's."""
    wiki: str = ""
    """A text to count words in: WikiText's `wiki.train.raw`, its Parquet file, any text; empty: a small one of ours."""
    vectors: str = ""
    """Word vectors, in GloVe's or word2vec's text format: `glove.twitter.27B.100d.txt`; empty: small ones of ours."""
    terms: str = ""
    """Rules for the words of your field, a TOML file; empty: none."""
    budget: int | None = Field(default=None, ge=0)
    """Most words that become tokens; off by default: 256, or 0.5 % of the captions' tokens where that is less."""
    least_gain: Share = 0.005
    """What a word must save of all the captions' tokens, unless the terms name it."""
    method: Literal["tournament", "distilled", "subwords", "vectors", "shuffled"] = "distilled"
    """How their rows are made; `subwords`, `vectors` and `shuffled` are there to be compared with."""
    seed: int = 0
    """Seeds the making of rows."""


Scheduler = Literal["cosine", "linear", "constant", "cosine_with_restarts", "polynomial"]


class Train(Section):
    """`[train]`: the optimisation, in diffusers' words."""

    seed: int = 0
    """Seeds the order of the pictures, the noise and the timesteps."""
    train_text_encoder: bool = False
    """Train the text encoder, too."""
    max_train_steps: Positive | None = None
    """Optimiser steps; by default from the number of pictures."""
    num_train_epochs: Positive | None = None
    """Epochs to train for where max_train_steps does not say; off by default."""
    train_batch_size: Positive | None = None
    """Pictures in one pass; by default from the machine and the resolution."""
    gradient_accumulation_steps: Positive = 1
    """Passes that make one optimiser step."""
    learning_rate: Rate | None = None
    """The highest rate, reached after the warm-up; by default from the size of the model."""
    text_encoder_learning_rate: Rate | None = None
    """The text encoder's highest rate; by default the UNet's, or a tenth of it for `full`."""
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "lion", "prodigy", "schedule_free"] = "adamw"
    """What moves the weights; all but `adamw` and `adafactor` need packages of their own, `bespoke[optim]`."""
    offload_optimizer: bool = False
    """Keep what the optimizer remembers in the host's memory, and move the weights there: less memory, slower."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each block of a network learns at this part of the rate of the block behind it; 1: all alike."""
    max_adapter_norm: Rate | None = None
    """Longest that an adapter's part of a layer's weights may be; longer ones are shortened. Off by default."""
    lr_scheduler: Scheduler = "cosine"
    """How the rate falls after the warm-up; `constant` has one, too."""
    lr_num_cycles: Positive = 1
    """How often `cosine_with_restarts` begins."""
    lr_power: Rate = 1.0
    """The power of `polynomial`."""
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
    max_skipped_steps: Positive = 10
    """A step whose gradient is no number is left out; so many in a row end the training."""
    gradient_checkpointing: bool = False
    """Compute parts of the networks twice to save memory."""
    spare_memory: bool = False
    """Hand freed memory back at once, and keep nothing for speed alone: slower; `--fit` and `--fill` switch it on."""
    unet_dropout: BelowOne = 0.0
    """Part of the UNet's inner values left out at random, when all weights are trained."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """Number format of the networks' arithmetic; by default bf16 where the machine is fast at it."""
    compile: bool = False
    """Have torch compile the network's repeated blocks before the first step: quicker steps, after minutes of it."""
    sharding: Literal["none", "full"] = "none"
    """How several processes hold the weights: each all of them, or each a part, which takes less memory of a GPU."""
    cuda_graph: bool = False
    """On a CUDA GPU, record each step once and play it back, where that can be done: it spares the host its work."""
    measure_attention: bool = False
    """Measure before the first step which way of attention is the quickest for each shape, and take it."""
    deterministic: bool = False
    """On a GPU, take only arithmetic that gives the same bits each time; slower. On a processor it always does."""
    use_ema: bool = False
    """Also keep a running average of the weights."""
    ema_decay: BelowOne = 0.99
    """The running average's memory."""
    loss_type: Literal["l2", "huber", "smooth_l1"] = "l2"
    """How errors are counted: squared, or beyond a threshold less than squared, so that odd pictures pull less."""
    huber_c: Share = Field(default=0.1, gt=0)
    """The threshold of `huber` and `smooth_l1`, the lowest where it falls."""
    huber_schedule: Literal["constant", "exponential", "snr"] = "snr"
    """How that threshold goes with the noise: always `huber_c`, or falling to it from near 1."""
    snr_gamma: Rate | None = None
    """Min-SNR weighting of the loss; off by default."""
    soft_min_snr_gamma: Rate | None = None
    """Min-SNR weighting that bends where `snr_gamma` has a corner; off by default."""
    debiased_estimation: bool = False
    """Weights the loss by one over the root of the signal-to-noise ratio."""
    p2_gamma: Rate | None = None
    """P2 weighting of the loss, 0.5 or 1 in its paper; off by default."""
    p2_k: Rate = 1.0
    """P2's k: the higher, the less is taken from timesteps with little noise."""
    noise_source: Literal["host", "device"] = "host"
    """Where noise is drawn: by the processor, the same on every machine, or by the GPU, which saves the host's time."""
    noise_offset: float = Field(default=0.0, ge=0)
    """Shifts the noise of each channel as a whole, so that very dark and very bright pictures are learnt."""
    multires_noise_iterations: int = Field(default=0, ge=0)
    """Most coarser layers in the noise, 6 to 10 where it has any: large shapes and brightness are learnt, too."""
    multires_noise_discount: Share = 0.3
    """What such a layer counts for against the finer one."""
    input_perturbation: float = Field(default=0.0, ge=0)
    """More noise on the pictures than the network is asked for, 0.1 in its paper: it learns to mend its own errors."""
    rescale_betas_zero_snr: bool = False
    """Train and draw by a schedule that ends in noise alone, so that pictures may be black or white; needs v."""
    flow_weighting: Literal["none", "picture", "cosmap"] = "none"
    """What errors count for in flow matching: all alike, as errors of the picture, or as in the cosine schedule."""
    timestep_sampling: Literal["uniform", "logit_normal", "mode"] | None = None
    """How often which timestep comes: all alike, or those in the middle more often; by default as the base learnt."""
    logit_mean: float = 0.0
    """The mean of `logit_normal`: above 0 noisy timesteps come more often, below 0 clean ones."""
    logit_std: Rate = 1.0
    """The width of `logit_normal`."""
    mode_scale: float = Field(default=1.29, gt=-1, lt=1.75)
    """Of `mode`: above 0 the middle comes more often, below 0 both ends."""
    timestep_shift: Rate = 1.0
    """Above 1 noisy timesteps come more often, below 1 clean ones, as flow matching shifts them."""
    min_timestep: int = Field(default=0, ge=0)
    """The lowest timestep that is trained on; 0 is almost clean."""
    max_timestep: Positive | None = None
    """Train on timesteps below this one; off by default."""
    timestep_bias: Numbers = ()
    """How often equal parts of the timesteps come against each other, from clean to noisy: `[1, 1, 2, 4]`."""
    num_class_images: int | None = Field(default=None, ge=0)
    """Plain pictures drawn by the base before training, so that plain prompts stay as they are (prior preservation)."""
    prior_loss_weight: float = Field(default=2.0, ge=0)
    """What a plain picture's loss counts for, and one of `data.regularisation`; by default twice, so that plain prompts
    stay."""
    class_prompts: Prompts = ()
    """What the base draws plain pictures from, such as "a photo of a dog"; empty: the captions without the trigger."""
    regularisation_share: float = Field(default=1.0, ge=0, le=100)
    """How often pictures of `data.regularisation` come, all together, for each training picture that comes."""
    regularisation_target: Literal["picture", "base"] = "picture"
    """What they teach: what they show or, for adapters, what the base says of them, so that they need not be good."""
    masked_training: bool = False
    """Learn what the masks of pictures cover; pictures without one count whole."""
    unmasked_weight: Share = 0.1
    """What the rest of a masked picture counts for."""
    unmasked_probability: Share = 0.1
    """Chance that a visit ignores the mask, so that the subject is also learnt as part of a whole picture."""
    normalize_masked_area_loss: bool = False
    """A small subject counts as much as a large one."""
    masked_prior_preservation_weight: float = Field(default=0.0, ge=0)
    """What it counts for that around the mask the model answers as its base does; for adapters, a forward pass more."""
    checkpointing_steps: Positive | None = None
    """Steps between two states to resume from; by default four in the run."""
    checkpoints_total_limit: Positive = 5
    """How many states to resume from are kept; the best adapter is kept apart from them."""
    save_every_n_epochs: int | None = Field(default=None, ge=0)
    """Epochs between two copies of the weights that stay for ever; by default ten in the run, none for `full`."""
    log_every: Positive = 10
    """Steps between two lines of metrics."""


class Stage(Section):
    """`[[stage]]`: a part of the training with settings of its own; each begins with a fresh optimizer."""

    start: Literal["last", "best"] = "last"
    """Which weights it begins with: those of the stage before as they were last, or the best by validation."""
    max_train_steps: Positive | None = None
    """Optimiser steps of this stage; off by default."""
    num_train_epochs: Positive | None = None
    """Epochs of this stage where max_train_steps does not say; off by default."""
    learning_rate: Rate | None = None
    """Its highest rate; off by default: as in `[train]`."""
    lr_scheduler: Scheduler | None = None
    """How its rate falls; off by default: as in `[train]`."""
    lr_warmup_steps: int | None = Field(default=None, ge=0)
    """Its warm-up; by default 5 % of its steps, at most 100."""


class Sweep(Section):
    """`[sweep]`: what `bespoke sweep` tries to find better settings."""

    trials: Positive = 20
    """Trainings, those that are ended early among them."""
    minutes: float | None = Field(default=None, gt=0)
    """Minutes of training after which no other trial begins; off by default."""
    space: dict[str, str] = Field(default={})
    """What is tried: `{ "train.learning_rate" = "1e-5 .. 1e-3 log", "model.rank" = "4 | 8 | 16" }`; without it rates,
    batch sizes, weight decay, ranks and dropout around the recipe's own."""
    by: Literal["validation", "scorecard"] = "validation"
    """What trainings are compared by: their best validation loss; or the scorecard's distance to your pictures, as
    `[evaluate]` measures it, and 1 more for each margin of `[objective]` that is broken."""
    backend: Literal["processes", "ray"] = "processes"
    """Where trainings run: in this process, or, several at a time, on the Ray cluster that RAY_ADDRESS names."""
    parallel: Positive | None = None
    """Trainings at a time on a cluster; off by default: as many as it has room for."""
    prune: bool = True
    """End a training early that is worse than half of the others at the same point."""
    seed: int = 0
    """Seeds the choices."""


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
    probe: bool = True
    """Also measure as many training pictures: where these improve and the others do not, they are learnt by heart."""
    sets: dict[str, str] = Field(default={})
    """More datasets to measure on, each by a name: `{ faces = "../faces/dataset" }`, from the recipe."""
    early_stopping: bool = True
    """Stop when measurements no longer get better, and keep the best weights."""
    patience: Positive = 4
    """So many measurements in a row may fail to be clearly better than the best before them."""
    significance: float = Field(default=0.05, gt=0, lt=0.5)
    """Clearly better: a paired test over the pictures gives a chance below this that they did not improve."""
    early_stopping_warmup: Share = 0.2
    """Part of the steps before which training never stops early."""
