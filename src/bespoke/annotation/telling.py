"""What says something about pictures, in a form that goes to other processes and is made anew in each of them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from bespoke import data
from bespoke.annotation.endpoint import Endpoint
from bespoke.annotation.tags import Categories, Category, Tagger, Things
from bespoke.errors import BespokeError
from bespoke.models import Clip, Detector, Wording, captioner_of
from bespoke.records import Picture
from bespoke.scale import ALONE, Workers

Tell = Callable[[Sequence[Image.Image], Sequence[str]], list[str]]
"""What turns RGB pictures, and keys that say which they are, into texts."""
Read = Callable[[Picture], Image.Image]


def _alone() -> Workers:
    return ALONE


@dataclass(frozen=True)
class Teller:
    """What says something about pictures: its name, all that decides what it says, and how it is made when needed."""

    kind: str
    """The name under which what it says is kept beside other captions."""
    name: str
    settings: Mapping[str, object]
    made: Callable[[], Tell]
    """Picklable: each process makes its own."""
    workers: Callable[[], Workers] = _alone
    """Who is to tell; asked after one was made here, when its model is on this machine."""

    @property
    def how(self) -> str:
        """The digest of who and of the settings."""
        content = json.dumps([self.name, self.settings], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Telling:
    """The work of one process: what is said about the pictures of a batch."""

    made: Callable[[], Tell]
    read: Read

    @cached_property
    def tell(self) -> Tell:
        """What says it, made when it is first asked for."""
        return self.made()

    def __call__(self, part: Sequence[Picture]) -> list[str]:
        """The texts about some pictures, in their order."""
        return self.tell([self.read(picture) for picture in part], [picture.pixels for picture in part])

    def __reduce__(self) -> tuple[type["Telling"], tuple[Callable[[], Tell], Read]]:
        """The work without its model, which every process reads itself."""
        return Telling, (self.made, self.read)


@runtime_checkable
class Captioner(Protocol):
    """Whatever puts pictures into words."""

    name: str

    def captions(self, pictures: Sequence[Image.Image], keys: Sequence[str], wording: Wording) -> list[str]:
        """A caption for each RGB picture; `keys` say which picture each is."""
        ...


def captioner(name: str, device: str) -> Captioner:
    """The captioner of that name: `pico-BLIP`, a folder or hub id of a BLIP or a Florence-2, or a service's address.

    Raises: BespokeError when there is none.
    """
    return Endpoint(name) if is_service(name) else captioner_of(name, device)


def is_service(name: str) -> bool:
    """Whether a captioner's name is the address of a service."""
    return name.startswith(("http://", "https://"))


def captions_by(name: str, device: str, wording: Wording) -> Tell:
    """What gives pictures the captions of the captioner of that name. Raises: BespokeError when there is none."""
    made = captioner(name, device)
    return lambda pictures, keys: made.captions(pictures, keys, wording)


def categories_by(clip: str, among: Sequence[Category]) -> Tell:
    """What gives pictures the category that a CLIP finds nearest. Raises: BespokeError when there is no such CLIP."""
    return _joining(Categories(Clip(clip), among))


def things_by(detector: str, device: str, least: float) -> Tell:
    """What gives pictures the names of what a detector finds. Raises: BespokeError when there is no such detector."""
    return _joining(Things(Detector(detector, device), least))


def _joining(tagger: Tagger) -> Tell:
    def tell(pictures: Sequence[Image.Image], keys: Sequence[str]) -> list[str]:
        del keys  # tags depend on the picture alone
        return [", ".join(tags) for tags in tagger.tags(pictures)]

    return tell


def place(folder: Path, picture: Picture) -> Path:
    """Where a dataset has its copy of a picture: among those that are kept, or set aside."""
    kept = folder / data.TRAIN / picture.file
    return kept if kept.exists() else folder / data.ASIDE / picture.file


def opened(folder: Path, picture: Picture) -> Image.Image:
    """A picture of a dataset, decoded. Raises: BespokeError when it cannot be."""
    path = place(folder, picture)
    try:
        return data.read(path).image
    except data.Unreadable as error:
        hint = f"Import the same pictures again to restore it; it came from {picture.source}."
        raise BespokeError(f"{path} cannot be read: {error.detail}.", hint) from None
