"""The pipeline that drew last, kept for what this process draws next."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bespoke.models import quiet, workedin
from bespoke.models.families import denoiser_of
from bespoke.models.wearing import unload_adapter, weigh_adapter
from bespoke.pipeline.naming import Named
from bespoke.recipe.tree import Sample

Stamps = tuple[tuple[str, int, int], ...]
"""Files with their sizes and times: other ones, or changed ones, differ."""


class Warm:
    """One pipeline at a time; where two models share a checkpoint, only the adapter is changed."""

    def __init__(self) -> None:
        self._pipeline: Any = None
        self._whole: Any = None
        self._own: Any = None
        self._weight: float | None = 1.0

    def ready(self, source: Named, settings: Sample, weight: float = 1.0, *, safety_checker: bool = True) -> Any:
        """The model as a pipeline, read only if it is not there already; its own adapter counts `weight`.

        Raises: BespokeError when the model cannot be read.
        """
        there = whole(source, settings, safety_checker=safety_checker)
        if (there, own(source)) != (self._whole, self._own):
            self._change(source, settings, there, safety_checker=safety_checker)
        if weight != self._weight:
            self._weight = None  # it is not known while it changes
            weigh_adapter(self._pipeline, weight)
            self._weight = weight
        return self._pipeline

    @contextmanager
    def lent(self, source: Named, settings: Sample, *, safety_checker: bool = True) -> Generator[Any, None, None]:
        """A block that may change the pipeline, if it leaves it as it was; where the block fails it is given up."""
        try:
            yield self.ready(source, settings, safety_checker=safety_checker)
        except BaseException:
            self.cool()
            raise

    def cool(self) -> None:
        """Gives the memory back."""
        self._pipeline = self._whole = self._own = None

    def _change(self, source: Named, settings: Sample, wanted: Any, *, safety_checker: bool) -> None:
        there, pipeline = self._whole, self._pipeline
        self.cool()  # nothing is known of a pipeline in which a change failed
        if there == wanted and _changed(pipeline, source):
            with quiet():
                pipeline.to(pipeline.device, denoiser_of(pipeline).dtype)
        else:
            del pipeline  # there may be no memory for two
            pipeline = source.pipeline(safety_checker=safety_checker, settings=settings)
        self._pipeline, self._whole, self._own, self._weight = pipeline, wanted, own(source), 1.0


HERE = Warm()
"""That of this process."""


def _changed(pipeline: Any, source: Named) -> bool:
    """Whether a pipeline has another model's adapter now, just as if it had been read with it.

    What is worked into weights of few bits is not: read anew, it would be worked in before these are rounded.
    """
    unload_adapter(pipeline)
    source.adapt(pipeline)
    return denoiser_of(pipeline).dtype == torch.float32 or not workedin.worn(pipeline)


def shared(source: Named) -> tuple[Path | None, ...]:
    """What is equal for models that differ in their adapters only."""
    model = source.checkpoint
    return model.folder, model.trained, model.words, None if source.adapted else source.state


def whole(source: Named, settings: Sample, *, safety_checker: bool) -> Any:
    """What is equal for models of which one pipeline serves all but for the adapter in it."""
    files = shared(source), _stamps(*shared(source)), source.checkpoint.rescaled
    return files, safety_checker, settings.dtype, settings.compile


def own(source: Named) -> Any:
    """What is equal for models that differ in nothing but that."""
    return _stamps(source.adapter, source.state), source.adapted


def _stamps(*places: Path | None) -> Stamps:
    files = [file for place in places if place for file in ([place] if place.is_file() else place.rglob("*"))]
    told = [(file, file.stat()) for file in sorted(files) if file.is_file()]
    return tuple((str(file), stat.st_size, stat.st_mtime_ns) for file, stat in told)
