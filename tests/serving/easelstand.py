"""A drawing without a model that stamps its pictures, begins with others, and can be held in the middle of a step."""

import asyncio
import io
import threading
from dataclasses import dataclass, field

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bespoke.recipe.made import SHARED, words
from bespoke.serving.asked import settled
from bespoke.serving.jobs import Facts, Picture, Progress

OWN, OTHER = "my-style@champion", "pico"
FACTS = {
    OWN: Facts("my-style@7", 64, 48, (("num_inference_steps", 4), ("guidance_scale", 2.0)), (("hash", "ab" * 32),)),
    OTHER: Facts("pico", 64, 64, (("clip_skip", 1),)),
}


def opened(file):
    with Image.open(io.BytesIO(file)) as picture:
        return picture.convert("RGB")


def png(picture, **said):
    info, file = PngInfo(), io.BytesIO()
    for key, value in said.items():
        info.add_itxt(key, value)
    picture.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


@dataclass
class Easel:
    """Draws each wish in a colour of its own, and keeps what it was asked for; `hold` stops it in the middle."""

    models: dict = field(default_factory=lambda: dict(FACTS))
    adapters: tuple = ("style", "ink")
    state: str = "ready"
    going: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    wishes: list = field(default_factory=list)
    left: list = field(default_factory=list)
    refusal: Exception | None = None

    def __post_init__(self):
        self.going.set()

    def hold(self):
        self.going.clear()
        self.begun.clear()

    async def draw(self, wish, owner, told=lambda *_: None):
        self.wishes.append((wish, owner))
        if self.refusal:
            raise self.refusal
        facts = self.models[wish.model]
        settings = settled(wish, facts)
        seed = 1234 if wish.seed is None else wish.seed
        try:
            for step in range(1, settings.num_inference_steps + 1):
                shown = (png(Image.new("RGB", (8, 8), (step, 0, 0))),) if wish.previews else ()
                for number in range(wish.count):
                    told(number, Progress(step, settings.num_inference_steps, shown))
                if step == settings.num_inference_steps // 2:
                    self.begun.set()
                    while not self.going.is_set():
                        await asyncio.sleep(0.002)
        except asyncio.CancelledError:
            self.left.append(wish)
            raise
        return [self._painted(wish, settings, facts, seed + number) for number in range(wish.count)]

    def _painted(self, wish, settings, facts, seed):
        size = round(settings.width * settings.hires_scale), round(settings.height * settings.hires_scale)
        picture = Image.new("RGB", size, (seed % 256, len(wish.prompt) % 256, 9))
        if wish.mask:
            mask = opened(wish.mask).convert("L").resize(size)
            picture = Image.composite(picture, opened(wish.image).resize(size), mask)
        said = words(wish.prompt, seed, size, settings, facts.title, begun=wish.image is not None)
        if settings.format == "png":
            data = png(picture, **{SHARED: said})
        else:
            file = io.BytesIO()
            picture.save(file, format=settings.format, quality=settings.quality)
            data = file.getvalue()
        return Picture(
            data, settings.format, *size, seed, facts.title, flagged="unsafe" in wish.prompt, id=f"picture-{seed}"
        )
