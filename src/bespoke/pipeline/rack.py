"""Pipelines and adapters kept in memory within a budget: those used last, ready for what is drawn next."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bespoke.errors import BespokeError
from bespoke.hardware import give_back
from bespoke.models import Checkpoint, quiet
from bespoke.models.compiled import Compiled
from bespoke.models.families import denoiser_of
from bespoke.models.safety import PART as CHECKER
from bespoke.models.wearing import Wardrobe, bytes_of, joins_others, name_of, worked_in
from bespoke.pipeline.naming import Named
from bespoke.pipeline.warm import Warm, own, whole
from bespoke.recipe.tree import Sample
from bespoke.sampling.preview import Glimpse

Worn = Mapping[Path, float]
"""Adapter files, each with its weight."""
WEIGHTS = (".safetensors", ".bin", ".onnx", ".onnx_data")


class MisfitError(BespokeError):
    """A pipeline cannot wear an adapter."""


class Rack:
    """Pipelines of which models that differ in their adapters share one, as many as a budget of bytes allows.

    What was used longest ago goes first, a whole pipeline or an adapter in one; what is in use stays.
    """

    def __init__(self, budget: int, *, safety_checker: bool) -> None:
        self._budget, self._checker = budget, safety_checker
        self._held: dict[Any, _Held] = {}
        self._used: dict[tuple[Any, str], None] = {}
        """Pipelines, with an empty name, and adapters in them, by their names there; used longest ago first."""
        self._now: Any = None

    @property
    def bytes(self) -> int:
        """How much memory all of it takes."""
        return sum(held.bytes for held in self._held.values())

    @property
    def count(self) -> tuple[int, int]:
        """How many pipelines are in memory, and how many adapters in them that stay when they are taken off."""
        return len(self._held), sum(len(held.names) for held in self._held.values())

    @property
    def glimpse(self) -> Glimpse:
        """What can be seen of what the pipeline in use is drawing."""
        return self._held[self._now].glimpse

    def ready(self, source: Named, settings: Sample, adapters: Worn) -> Any:
        """The model as a pipeline that wears its own adapter, and these besides; what is in memory is not read again.

        Adapters are worked into its weights, where these are precise enough: nobody may change it.

        Raises: MisfitError when the model cannot wear them, BespokeError when it cannot be read.
        """
        key = self._now = whole(source, settings, safety_checker=self._checker)
        if key not in self._held:
            self._fit(self._budget - to_read(source.checkpoint))
            self._held[key] = _Held(safety_checker=self._checker)
        held = self._held[key]
        try:
            read = held.dress(source, settings, adapters)
        except BaseException as error:
            if held.pipeline is None or not isinstance(error, BespokeError):
                self._drop(key)  # nothing is known of a pipeline in which a change failed
            else:
                self._use(key)
            raise
        self._use(key)
        if read:
            self._fit(self._budget)
        return held.pipeline

    def shrink(self) -> None:
        """Lets go of all that is not in use."""
        self._fit(0)

    def last(self, source: Named, settings: Sample, *, shared: bool) -> None:
        """Lets a model go first when memory is needed; of one that is `shared` with others its own adapter only."""
        key = whole(source, settings, safety_checker=self._checker)
        name = name_of(source.adapter) if source.adapter else None
        first = [item for item in self._used if item[0] == key and (not shared or item[1] == name)]
        self._used = dict.fromkeys((*first, *self._used))

    def _use(self, key: Any) -> None:
        """Keeps in mind that a pipeline is in use, with what it wears."""
        held = self._held[key]
        now = [(key, ""), *((key, name) for name in held.worn)]
        there = [item for item in self._used if item[0] != key or item[1] in held.names]
        idle = [item for item in (*there, *((key, name) for name in held.names)) if item not in now]
        self._used = dict.fromkeys((*idle, *now))

    def _fit(self, budget: int) -> None:
        """Lets go of what is not in use until the rest takes so many bytes, or nothing more can go."""
        before = self.count
        for key, name in [*self._used]:
            if self.bytes <= budget:
                break
            if key in self._held and not (key == self._now and (not name or name in self._held[key].worn)):
                self._drop(key, name)
        if self.count != before:
            free()

    def _drop(self, key: Any, name: str = "") -> None:
        if name:
            self._held[key].drop(name)
        else:
            del self._held[key]
        self._used = {item: None for item in self._used if item != (key, name) and item[0] in self._held}


class _Held:
    """A pipeline in memory, what it wears, and what it could."""

    def __init__(self, *, safety_checker: bool) -> None:
        self.pipeline: Any = None
        self._warm, self._checker = Warm(), safety_checker
        self._wardrobe: Wardrobe | None = None
        self._merged = ExitStack()
        """Puts the weights back into which adapters were worked."""
        self._own: Any = None
        self._wears: Any = None
        self._files = 0

    @cached_property
    def glimpse(self) -> Glimpse:
        """What can be seen of what it is drawing; an adapter changes nothing of that."""
        return Glimpse(self.pipeline)

    @property
    def names(self) -> frozenset[str]:
        """The adapters in it that stay when they are taken off, by their names there."""
        return frozenset(self._wardrobe.names) if self._wardrobe else frozenset()

    @property
    def worn(self) -> frozenset[str]:
        """Those of them that are worn now."""
        return self._wardrobe.worn if self._wardrobe else frozenset()

    @property
    def bytes(self) -> int:
        """How much memory it takes; of what a runtime computes, as much as its files."""
        return self._files + (bytes_of(self.pipeline) if self.pipeline else 0)

    def drop(self, name: str) -> None:
        """Takes an adapter out that is not worn."""
        assert self._wardrobe
        self._wardrobe.drop(name)

    def dress(self, source: Named, settings: Sample, adapters: Worn) -> bool:
        """Lets the pipeline be this model with these adapters besides; gives whether it was not just that before."""
        wears = own(source), {name_of(path): weight for path, weight in adapters.items()}
        if wears == self._wears:
            return False
        self._wears = None
        self._merged.close()
        bare, worn = _parted(source, settings, adapters)
        before = self.names
        if self._wardrobe is None or own(bare) != self._own:
            self._read(bare, settings)
        assert self._wardrobe
        try:
            self._wardrobe.wear(worn)
        except BespokeError as error:
            raise MisfitError(error.problem, error.hint) from error
        if self.names - before:
            with quiet():
                self.pipeline.to(self.pipeline.device, denoiser_of(self.pipeline).dtype)
        self._merged.enter_context(worked_in(self.pipeline))
        self._wears = wears
        return True

    def _read(self, source: Named, settings: Sample) -> None:
        if self._wardrobe:
            self._wardrobe.__exit__()
        self.pipeline = self._wardrobe = None
        self.__dict__.pop("glimpse", None)
        self.pipeline = self._warm.ready(source, settings, safety_checker=self._checker)
        self._wardrobe, self._own = Wardrobe(self.pipeline, "this model"), own(source)
        self._files = to_read(source.checkpoint) if isinstance(source.checkpoint, Compiled) else 0


def _parted(source: Named, settings: Sample, adapters: Worn) -> tuple[Named, Worn]:
    """A model without its own adapter, and that among those it wears besides, where its kind allows it.

    What is compiled keeps its own: it was compiled with it.
    """
    if source.adapter is None or source.state or settings.compile or not joins_others(source.adapter):
        return source, adapters
    same = adapters.get(source.adapter, 0.0)
    return replace(source, adapter=None), {source.adapter: 1.0 + same} | {
        path: weight for path, weight in adapters.items() if path != source.adapter
    }


def to_read(checkpoint: Checkpoint) -> int:
    """About how many bytes a model takes when it is read: as much as the files of its weights."""
    found = 0
    for part in {*checkpoint.family.parts, *checkpoint.family.optional, "vae_encoder", CHECKER}:
        folder = checkpoint.part(part)
        files = [file for file in folder.iterdir() if file.suffix in WEIGHTS] if folder.is_dir() else []
        plain = [file for file in files if file.name.count(".") == 1]  # others are variants: "….fp16.safetensors"
        safe = [file for file in plain if file.suffix == ".safetensors"]
        found += sum(file.stat().st_size for file in safe or plain)
    return found


def free() -> None:
    """Gives memory that nothing needs any more back to the machine, and to its GPU."""
    give_back()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
