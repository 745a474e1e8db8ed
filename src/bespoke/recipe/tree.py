"""The recipe: one TOML file as a frozen tree, in which a wrong key is refused with the nearest right one."""

from typing import Annotated, Literal

from pydantic import Field

from bespoke.recipe.dataset import Balance, Caption, Clean, Data, Download
from bespoke.recipe.drift import Drift
from bespoke.recipe.section import BelowOne, Positive, Prompts, Section, Share
from bespoke.recipe.service import Serve
from bespoke.recipe.training import Augment, Model, Stage, Sweep, Text, Train, Validation, Words
from bespoke.recipe.update import Update


class Sample(Section):
    """`[sample]`: how pictures are drawn."""

    num_inference_steps: Positive = 20
    """Steps from noise to picture."""
    guidance_scale: float | None = Field(default=None, ge=0)
    """How strongly the prompt pulls, 1 is no pull beyond the model's own; by default 7.5, for small models 2."""
    scheduler: str = "default"
    """The way from noise to picture: `euler_a`, `dpm++_2m_karras`, …; `default` is the model's own."""
    width: Positive | None = None
    """Pixels across; by default what the model was trained at. Rounded to what the model can draw."""
    height: Positive | None = None
    """Pixels down; by default what the model was trained at."""
    guidance_rescale: Share = 0.0
    """How far what guidance did to contrast is taken back, 0.7 in its paper; for pictures from words alone."""
    clip_skip: int = Field(default=0, ge=0)
    """So many of the text encoder's last layers are left out; what A1111 calls 2 is 1 here."""
    strength: Share = 0.75
    """How much of a picture that is begun with is drawn anew: 0 is nothing, 1 everything."""
    hires_scale: float = Field(default=1.0, ge=1, le=8)
    """Pictures are enlarged so many times and drawn over once more; 1: they are not."""
    hires_strength: Share = 0.4
    """How much of an enlarged picture is drawn anew; 0: it is enlarged only."""
    guidance_end: Share = 1.0
    """Part of the steps that the prompt's pull guides; those after it are drawn without it, in about half the time."""
    negative_prompt: str = ""
    """What pictures are pulled away from."""
    brackets: Literal["weights", "letters"] | None = None
    """What brackets in prompts are, weights or letters; by default what they are in captions, `text.brackets`."""
    seed: int = 0
    """Seeds the pictures' first noise; the next picture of a prompt has the next seed."""
    batch_size: Positive = 8
    """Pictures drawn at once."""
    dtype: Literal["fp32", "bf16", "fp16"] | None = None
    """Number format of the networks; by default fp32, and bf16 for large models where the machine is fast at it."""
    deep_cache: Positive = 1
    """Steps for which the UNet's deep layers answer once: 2 or 3 is faster and a little otherwise; 1: at each step."""
    vae_tiling: bool = False
    """Decode pictures in tiles that overlap: very large ones then fit into memory, and may show seams."""
    compile: bool = False
    """Compile the UNet's transformer blocks first, which takes a minute: for hundreds of pictures of one size."""
    adapters: dict[str, float] = Field(default={})
    """Adapters to wear besides the model's own, each with its weight: `{ "style.safetensors" = 0.8 }`."""
    format: Literal["png", "jpeg", "webp"] = "png"
    """What files pictures become."""
    quality: int = Field(default=92, ge=1, le=100)
    """How true `jpeg` and `webp` are."""
    sample_every_n_steps: int | None = Field(default=None, ge=0)
    """Steps between two columns of pictures drawn while training, 0 for none; by default four columns in the run."""
    prompts: Prompts = ()
    """What is drawn while training; without any, four of the objective's prompts, or else of the captions."""


class Track(Section):
    """`[track]`: where figures are kept besides the run's `metrics.jsonl`."""

    tensorboard: bool = True
    """Curves for TensorBoard in the run's folder."""
    mlflow: bool = True
    """A run in an MLflow store."""
    store: str = ""
    """That store: an MLflow server's URL or a database's; empty: `bespoke.db` in the project's folder."""
    experiment: str = ""
    """The experiment's name in the store; empty: the name of the project's folder."""
    wandb: bool = False
    """A run in Weights & Biases, if that is installed."""


class Remote(Section):
    """`[remote]`: where runs and caches are kept besides this machine, by any URL of fsspec's: `s3://bucket/folder`."""

    runs: str = ""
    """A place to which every run is sent while it trains, with its states; `--resume URL/RUN` goes on elsewhere."""
    cache: str = ""
    """A place from which encoded latents and captions are fetched, and to which new ones are sent."""


class Objective(Section):
    """`[objective]`: what should change and what must stay, said before training."""

    change_prompts: Prompts = ()
    """Prompts that should look different after training."""
    keep_prompts: Prompts = ()
    """Prompts that should look as before."""
    complex_prompts: Prompts = ()
    """Prompts that say much at once in the style's words; without any, pairs of the first ones."""
    max_agreement_loss: Share = 0.05
    """How much of the agreement with prompts may be lost."""
    max_distance_ratio: Share = 0.5
    """The distance to the references, as a part of the base's, that counts as done."""
    max_copy_rate: Share = 0.05
    """The share of pictures that may come nearer to a training picture than pictures that were held back do."""
    max_membership: Share = 0.75
    """How often a training caption may lead nearer to its picture than a caption of an unseen one; 0.5 is by chance."""
    min_improvement: BelowOne = 0.05
    """How much nearer to the references than the base, and than the champion, a version must be to be promoted, as a
    part of their distance."""
    licences: Prompts = ()
    """Licences that the base and every picture may have for a version to be promoted; empty: any, also unknown ones."""
    require_safety: bool = False
    """Promote a version only if its base has a safety checker and the rules found none of its pictures unsafe."""


class Evaluate(Section):
    """`[evaluate]`: by what a tuned model is measured against its base, and how much for it is drawn."""

    seeds: Positive = 3
    """Pictures of each prompt; chance moves a score of one seed more than many a training does."""
    most_prompts: Positive = 64
    """How many captions become prompts where `[objective]` names none."""
    reference: str = ""
    """A folder of pictures to come near to, apart from the training pictures; without it, the validation pictures."""
    clip: str | None = None
    """The CLIP of distances and agreement; by default pico-CLIP for pico, for others
    `openai/clip-vit-large-patch14` or `…-base-patch32`, whichever is on this machine."""
    extractors: Prompts = ()
    """Further networks for distances: `facebook/dinov2-base`, a file with the weights of FID's Inception."""
    preference: str = ""
    """A CLIP tuned to people's preferences, such as `yuvalkirstain/PickScore_v1`; empty: none."""
    preference_processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    """Where its processor and tokenizer lie, for PickScore's own folder has none."""
    detector: str | None = None
    """A detector for the things in pictures; empty: none; by default pico-YOLOS for pico, for others none."""
    classes: Prompts = ()
    """What an open-vocabulary detector, such as `google/owlv2-base-patch16-ensemble`, looks for."""


class Recipe(Section):
    """A whole recipe."""

    model: Model = Model()
    download: Download = Download()
    data: Data = Data()
    clean: Clean = Clean()
    balance: Balance = Balance()
    caption: Caption = Caption()
    text: Text = Text()
    augment: Augment = Augment()
    words: Words = Words()
    train: Train = Train()
    stage: Annotated[tuple[Stage, ...], Field(strict=False)] = ()
    """`[[stage]]`: parts of the training, one after another; without any it is one part."""
    validation: Validation = Validation()
    sweep: Sweep = Sweep()
    sample: Sample = Sample()
    track: Track = Track()
    remote: Remote = Remote()
    objective: Objective = Objective()
    evaluate: Evaluate = Evaluate()
    serve: Serve = Serve()
    update: Update = Update()
    drift: Drift = Drift()

    @property
    def trains_words(self) -> bool:
        """Whether rows of new words are trained."""
        return self.words.train or self.model.method == "words"

    @property
    def trains_t5(self) -> bool:
        """Whether rows of new words in T5 are among those that are trained, so that it is asked in each step."""
        return self.words.t5 and self.trains_words

    @property
    def trains_text(self) -> bool:
        """Whether what the text encoder says of a caption changes in training, so that it is asked in each step."""
        return self.train.train_text_encoder or self.trains_words
