"""What clients of A1111's interface send, and what they are answered."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Side = Annotated[int, Field(ge=1, le=65_536)]
Count = Annotated[int, Field(ge=1, le=1000)]
Text = Annotated[str, Field(max_length=1_000_000)]


class Form(BaseModel):
    """Fields that are understood; what else is sent is kept, to be looked through."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, use_attribute_docstrings=True)


class Words(Form):
    """What both ways to draw have in common. What is left out, or null, is as the model draws of itself."""

    prompt: Text | None = None
    """It may call adapters, `<lora:name:0.8>`."""
    negative_prompt: Text | None = None
    seed: int | None = None
    """That of the first picture; the next ones follow. -1: any."""
    steps: Annotated[int, Field(ge=1)] | None = None
    cfg_scale: Annotated[float, Field(ge=0)] | None = None
    width: Side | None = None
    height: Side | None = None
    sampler_name: str | None = None
    """One of `samplers`."""
    sampler_index: str | None = None
    """What `sampler_name` was called before; counts where that is missing."""
    scheduler: str | None = None
    """One of `schedulers`."""
    batch_size: Count | None = None
    n_iter: Count | None = None
    """So many times `batch_size` pictures."""
    denoising_strength: Annotated[float, Field(ge=0, le=1)] | None = None
    eta: float | None = None
    override_settings: dict[str, Any] | None = None
    """Options for this request alone."""
    override_settings_restore_afterwards: bool | None = None
    """false: they stay as they are then."""
    send_images: bool | None = None
    save_images: bool | None = None
    """Accepted; nothing is saved."""
    alwayson_scripts: dict[str, Any] | None = None
    """None is here: all must be without arguments, or turned off."""

    @property
    def count(self) -> int:
        """How many pictures are asked for."""
        return (self.batch_size or 1) * (self.n_iter or 1)


class TextToImage(Words):
    """Pictures from words."""

    enable_hr: bool | None = None
    """Enlarge each picture and draw it over."""
    hr_scale: Annotated[float, Field(ge=1, le=8)] | None = None
    hr_second_pass_steps: Annotated[int, Field(ge=0)] | None = None
    hr_upscaler: str | None = None


class ImageToImage(Words):
    """A picture, or a part of it, drawn anew."""

    init_images: Annotated[list[str], Field(max_length=16)] | None = None
    """One picture in base64, bare or as a data URL."""
    mask: str | None = None
    """What is white in it is drawn anew."""
    mask_blur: Annotated[int, Field(ge=0, le=256)] | None = None
    """Pixels by which the mask's edge is softened; 4 where none are said, as in A1111."""
    inpainting_mask_invert: Annotated[int, Field(ge=0, le=1)] | None = None
    """1: what is black is drawn anew."""
    inpainting_fill: int | None = None
    """What is drawn over: 1, the picture itself, is the only one there is."""
    inpaint_full_res: bool | None = None
    """true is not done here: the masked part alone, enlarged."""
    resize_mode: int | None = None
    """0, stretched to width and height, is the only one there is."""
    include_init_images: bool | None = None
    """Send what was begun with back, too."""


class Pictures(BaseModel):
    """Pictures that were drawn."""

    images: list[str]
    """PNG files in base64; JPEG or WebP by the option `samples_format`."""
    parameters: dict[str, Any]
    """What was asked for."""
    info: str
    """How they were drawn, as JSON."""


class State(BaseModel):
    """What is being drawn for the caller."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class Progressing(BaseModel):
    """How far the first of the caller's requests is."""

    progress: float = 0.0
    eta_relative: float = 0.0
    state: State = State()
    current_image: str | None = None
    textinfo: str | None = None


class Upload(Form):
    """A picture whose file is to be read."""

    image: str


class PictureInfo(BaseModel):
    """What a picture's file says of how it was made."""

    info: str = ""
    items: dict[str, str] = {}
    parameters: dict[str, str] = {}


class Sampler(BaseModel):
    """A way from noise to picture."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class Schedule(BaseModel):
    """How the steps of a sampler are spread."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float | None = None
    need_inner_model: bool | None = None


class Checkpoint(BaseModel):
    """A model."""

    model_config = ConfigDict(protected_namespaces=())
    title: str
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str
    config: str | None = None


class Lora(BaseModel):
    """An adapter."""

    name: str
    alias: str
    path: str
    metadata: dict[str, Any] = {}


class Upscaler(BaseModel):
    """A way to enlarge pictures."""

    model_config = ConfigDict(protected_namespaces=())
    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float | None = None


class Embeddings(BaseModel):
    """Textual inversions: words that a model has learnt are its own, so that none is listed."""

    loaded: dict[str, Any] = {}
    skipped: dict[str, Any] = {}


class Scripts(BaseModel):
    """Titles of scripts: there is none."""

    txt2img: list[str] = []
    img2img: list[str] = []


class Failed(BaseModel):
    """Why there is no answer."""

    error: str
    detail: Any = None
    body: str = ""
    errors: str = ""
