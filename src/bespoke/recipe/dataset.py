"""The sections of the recipe about pictures and captions, before any training."""

from typing import Annotated, Literal

from pydantic import Field

from bespoke import hardware, scale
from bespoke.recipe.section import BelowOne, NotNegative, Positive, Prompts, Rate, Section, Share


class Data(Section):
    """`[data]`: which pictures, and how they are brought to the model's size."""

    path: str = "dataset"
    """The dataset's folder, from the recipe's."""
    regularisation: str = ""
    """Another dataset's folder, of pictures that are not the subject: other dogs than yours. Empty: none."""
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
    hue_jitter: float = Field(default=0.0, ge=0.0, le=0.5)
    """Turn all hues by a random part of the circle of colours, up to this either way; captions may then name others."""
    random_flip: bool = False
    """Also train on the mirrored picture, but where the caption names left, right or writing."""
    image_variations: Positive = 4
    """Where a choice above is random, how many versions of each picture are encoded; each visit takes one."""
    cache_latents: bool = True
    """Encode each picture once and keep it; otherwise it is encoded whenever it is used, to the same values."""
    file_name_captions: bool = False
    """Where a picture has no caption, take what stands in its name before the first underscore."""
    validation_fraction: BelowOne = 0.12
    """Part of the pictures kept out of training to measure it."""
    split_by: str = "subject"
    """Column of train/metadata.csv: pictures of equal value stay on one side of the split."""
    processes: Positive | None = None
    """Processes that decode pictures when they are imported, inspected or shrunk and, where there is no GPU, show them
    to models or put them into words; by default one for each core, of this machine or of the cluster."""
    backend: scale.Backend = "processes"
    """Where these processes are: on this machine, or `ray`, on the cluster that RAY_ADDRESS names."""

    def workers(self, more_gb: float = 0.0) -> scale.Workers:
        """Who does the work on pictures; on this machine so many as have memory for it and `more_gb` each."""
        if self.backend == "ray":
            return scale.Workers(self.processes, "ray")
        return scale.Workers(self.processes or hardware.processes(more_gb))


Rule = Literal[
    "too small", "blank", "blurry", "dark", "bright", "little detail", "narrow", "bars", "JPEG blocks",
    "cut off", "broken letters", "markup", "other script", "other language", "duplicate", "near-duplicate", "mirrored",
    "similar", "does not fit its caption", "unlike the others", "unsafe content", "writing",
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
    maximum_missing: Share = 0.0
    """`cut off`: part of a JPEG that may be the grey with which decoders fill what the file lacks."""
    language: str = "en"
    """`other language`: the code of ISO 639 of what captions are to be in; empty: any language."""
    minimum_words: Positive = 5
    """`other language`: captions of fewer words are not judged."""
    clip: str | None = None
    """`pico-CLIP`, or a CLIP's folder or hub id, which compares pictures and captions; empty: none; by default
    pico-CLIP for pico, for other bases `openai/clip-vit-base-patch32` if it is on this machine."""
    minimum_fit: float = 1.0
    """`does not fit its caption`: standard deviations by which a picture must agree better with its own caption than
    with the others."""
    minimum_agreement: float = -2.5
    """`does not fit its caption`: and standard deviations, robust ones, that its agreement must then lie below the
    middle one, as a negative number."""
    maximum_strangeness: float = Field(default=6.0, gt=0)
    """`unlike the others`: standard deviations, robust ones, by which a picture may lie farther from its 5 nearest
    neighbours than the middle picture."""
    minimum_likeness: float = Field(default=0.9, ge=-1, le=1)
    """`similar`: cosine of CLIP's features from which on thumbnails are laid on each other."""
    safety_checker: str | None = None
    """`pico`, or the folder or hub id of a safety checker or of a model with one; empty: none; by default the base's,
    if it is on this machine."""
    maximum_unsafe: float = 0.0
    """`unsafe content`: by how much the checker's own limits may be exceeded."""
    detector: str | None = None
    """`pico-YOLOS`, or a detector's folder or hub id, asked where writing_labels are named; empty: none; by default
    pico-YOLOS for pico, for other bases `hustvl/yolos-tiny` if it is on this machine."""
    writing_labels: Prompts = ()
    """`writing`: what the detector calls writing, such as `["text", "watermark"]`."""
    least_score: Share = 0.5
    """`writing`: how sure the detector must be of it."""
    maximum_writing: Share = 0.02
    """`writing`: part of the picture that it may cover."""


class Download(Section):
    """`[download]`: how pictures are fetched that a table of URLs names or a search engine finds."""

    query: str = ""
    """Parameters put behind each URL, such as `w=1024` where the server then sends a smaller picture."""
    parallel: Positive = 32
    """Requests that are under way at once."""
    per_host: Positive = 6
    """Of these, requests to one server."""
    interval: NotNegative = 0.0
    """Seconds between the beginnings of two requests to one server; a Crawl-delay of a heeded robots.txt counts too."""
    timeout: Rate = 10.0
    """Seconds in which a server must be reached, and must then send something, again and again."""
    deadline: Rate = 120.0
    """Seconds after which a picture that is still coming is given up for this time."""
    retries: int = Field(default=3, ge=0)
    """How often more a picture is asked for when a fault may pass: 429, 500 to 599, no answer, a broken connection."""
    backoff: NotNegative = 1.0
    """Seconds before it is asked for again, doubled each time, half more or less."""
    longest_wait: NotNegative = 60.0
    """Seconds that a server may ask to wait (Retry-After); one that asks for more is left alone for this time."""
    maximum_bytes: Positive = 100_000_000
    """Larger files are refused while they come."""
    maximum_pixels: Positive = 80_000_000
    """Larger pictures are refused by what their first bytes say."""
    robots: Literal["heed", "ignore"] | None = None
    """Whether a server's robots.txt is heeded; by default for what an engine found, not for a table a person names. A
    picture marked `noai` or `noimageai` (X-Robots-Tag) is left alone in any case but `ignore`."""
    private_addresses: Literal["named", "allow", "refuse"] | None = None
    """Which pictures may come from this machine or its own network: those that a table itself names there, but no
    redirect from elsewhere leads to; any; none. By default `named` for tables and `refuse` for what an engine found."""
    again: bool = False
    """Ask again also for pictures that were given up for good."""
    engine: Literal["openverse", "bing"] = "openverse"
    """Who is asked by `bespoke data collect`; Bing's pictures come without any licence that is known."""
    address: str = ""
    """Where that engine answers; empty: its public address."""
    licences: Prompts = ()
    """Those that are wanted, `["cc0", "pdm", "by", "by-sa"]`, or uses they must allow, `["commercial",
    "modification"]`; empty: all."""
    minimum_side: int = Field(default=0, ge=0)
    """Pixels of the shorter side below which what an engine finds is left out."""


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
    """`pico-BLIP`, the folder or hub id of a BLIP or a Florence-2, or a vision service's address such as
    `http://localhost:8000/v1#model`; by default the BLIP that suits the base."""
    existing: Literal["keep", "extend", "replace"] = "keep"
    """What happens to captions that are there: they stay, the new one is added after them, or it takes their place."""
    kind: str = "caption"
    """The name under which captions are kept beside those of other kinds; a Florence-2 heeds `short` and `long`."""
    prompt: str = ""
    """What a BLIP goes on from, or what a Florence-2 or a vision service is asked."""
    prefix: str = ""
    """Comes before every new caption, such as the words that call a style."""
    suffix: str = ""
    """Comes after every new caption."""
    tags: tuple[Literal["column", "categories", "things"], ...] = Field(default=(), strict=False)
    """What is added after the new caption: what stands in the `column` tags of train/metadata.csv, the `categories`
    that CLIP sees, the `things` that the detector finds."""
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
