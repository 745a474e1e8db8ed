"""`[serve]`: how a service draws pictures for others, and what it lets them ask for."""

from pydantic import Field

from bespoke.recipe.section import NotNegative, Positive, Rate, Section, Share


class Serve(Section):
    """`[serve]`: how `bespoke serve` draws for others, and what it lets them ask for."""

    host: str = "127.0.0.1"
    """The address that is listened at; by default this machine alone can ask."""
    port: int = Field(default=8188, ge=0, le=65535)
    """The port; 0 is any free one."""
    workers: Positive = 1
    """Processes that draw, each with the models in its memory: one for each GPU."""
    batch_size: Positive = 8
    """So many pictures that are asked for alike are drawn at once."""
    batch_wait_ms: NotNegative = 5.0
    """A worker with nothing to do waits so long for company of a first picture."""
    most_waiting: Positive = 64
    """Pictures that may wait or be drawn; more are refused with 429 and the time after which to ask again."""
    most_per_key: Positive = 16
    """Pictures that one key may have waiting or being drawn."""
    rate_per_minute: NotNegative = 0.0
    """Pictures a minute that a key may ask for in the long run, unless the key itself says otherwise; 0: any number."""
    deadline_s: Rate = 120.0
    """A request that is not answered by then is given up; it may ask for less."""
    step_timeout_s: Rate = 60.0
    """A worker that makes no step for so long hangs: it is killed, and its pictures are drawn by another."""
    load_timeout_s: Rate = 600.0
    """So long may a worker take to read a model and draw its first picture."""
    drain_s: NotNegative = 30.0
    """When the service is told to end, so long it goes on with what it has accepted."""
    most_images: Positive = 8
    """Pictures of one request."""
    most_steps: Positive = 150
    """Steps of one picture."""
    most_pixels: Positive = 1024 * 1024
    """Pixels of one picture, after it is enlarged."""
    most_request_mb: Rate = 16.0
    """Size of a request, pictures to begin with in it."""
    memory_gb: NotNegative = 0.0
    """Models and adapters that a worker keeps in memory, those used last; 0: three quarters of what is free."""
    adapters: str = ""
    """The folder of adapters that requests may name; by default none."""
    watch_s: Rate = 2.0
    """So often the registry is asked whether an alias has moved."""
    keep_pictures_s: Rate = 3600.0
    """So long a picture that was asked for by `url` can be fetched."""
    keep_pictures_mb: Rate = 256.0
    """And so much memory such pictures take; the oldest go first."""
    sample_share: Share = 0.0
    """Part of the pictures that are kept, with prompts and settings, to watch their quality; by default none."""
    sample_days: NotNegative = 30.0
    """Pictures that were kept longer are deleted."""
    sample_mb: Rate = 1024.0
    """And those that take more than this; the oldest go first."""
    feedback: str = ""
    """Where opinions and kept pictures go: a file or a database's URL; by default the project's `feedback.db`."""
    safety_checker: bool = True
    """Let the base's safety checker look at each picture, where it has one."""
    log_prompts: bool = False
    """Write prompts to the log."""
