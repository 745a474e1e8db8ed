"""A drawing without a model: pictures of one colour, at once or step by step as a test lets it."""

import asyncio
import hashlib
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from bespoke.serving.jobs import Facts, Picture, Progress
from bespoke.serving.wishes import Refusal, Told, Wish

MODEL = "my-style@champion"
FACTS = Facts(
    "my-style@7", 64, 48, (("num_inference_steps", 4), ("guidance_scale", 2.0)), (("base", "pico"), ("hash", "ab12"))
)


def painted(wish: Wish, seed: int, facts: Facts = FACTS) -> Picture:
    """A picture whose colour follows from the prompt and the seed alone."""
    size = wish.settings.get("width", facts.width), wish.settings.get("height", facts.height)
    colour = tuple(hashlib.sha256(f"{seed} {wish.prompt}".encode("utf-8", "replace")).digest()[:3])
    form = wish.settings.get("format", "png")
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format=form)
    return Picture(file.getvalue(), form, *size, seed, facts.title, flagged="unsafe" in wish.prompt)


@dataclass
class Painter:
    """Draws what it is asked, once `gate` is open; keeps what it was asked for, and who left."""

    models: Mapping[str, Facts] = field(default_factory=lambda: {MODEL: FACTS})
    adapters: Sequence[str] = ("style", "ink")
    state: str = "ready"
    steps: int = 4
    fault: Callable[[Wish], None] = lambda _: None
    """May raise in the middle of a drawing."""
    gate: threading.Event = field(default_factory=threading.Event)
    wishes: list[tuple[Wish, str]] = field(default_factory=list)
    left: list[Wish] = field(default_factory=list)
    """Wishes for which nobody waited any more."""

    shut: bool = False
    """Whether the gate is shut at first."""

    def __post_init__(self) -> None:
        if not self.shut:
            self.gate.set()

    def facts(self, name: str) -> Facts:
        return self.models.get(name) or next(facts for facts in self.models.values() if facts.title == name)

    async def draw(self, wish: Wish, owner: str, told: Told | None = None) -> list[Picture]:
        self.wishes.append((wish, owner))
        first = wish.seed if wish.seed is not None else 1000 + len(self.wishes)
        pictures = [painted(wish, first + number, self.facts(wish.model)) for number in range(wish.count)]
        if "full" in wish.prompt:
            raise Refusal(429, "queue_full", "Too much waits already.", retry_after=2.5)
        try:
            for step in range(1, self.steps + 1):
                await asyncio.sleep(0)
                for number, picture in enumerate(pictures):
                    if told is not None:
                        shown = (picture.data,) if step <= wish.previews else ()
                        told(number, Progress(step, self.steps, shown))
                if step == self.steps // 2:
                    while not self.gate.is_set():  # whichever thread opens it
                        await asyncio.sleep(0.002)
                    self.fault(wish)
        except asyncio.CancelledError:
            self.left.append(wish)
            raise
        return pictures


def pixel(file: bytes) -> Any:
    """The colour in the middle of a picture."""
    picture = Image.open(io.BytesIO(file)).convert("RGB")
    return picture.getpixel((picture.width // 2, picture.height // 2))
