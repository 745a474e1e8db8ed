"""Jobs of the service turned into picture files by the models that they name."""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from bespoke import data
from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.pipeline import origin
from bespoke.pipeline.asked import adapter_at
from bespoke.pipeline.easel import adapter_file
from bespoke.pipeline.naming import Named, marks_of, named
from bespoke.pipeline.rack import MisfitError, Rack, Worn, free
from bespoke.pipeline.sample import settled
from bespoke.pipeline.unfinished import Unfinished
from bespoke.pipeline.warm import shared
from bespoke.recipe.schedulers import scheduler_names
from bespoke.recipe.tree import Sample
from bespoke.sampling import NO_NUMBER, Drawn, Request, draw, stamped
from bespoke.sampling.preview import Watch
from bespoke.sampling.ways import size_of
from bespoke.serving.jobs import Facts, Failure, Held, Job, Outcome, OutOfMemory, Picture, Step
from bespoke.text import checked, escaped

T = TypeVar("T")
WARMING = 2
"""Steps of a model's first picture, which nobody sees."""
SEEDS = 2**63
"""Torch takes seeds below it."""
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""What torch says where it has no class of its own for that: of the machine's memory, of Apple's, of cuBLAS's."""
NOT_OF_ONE = frozenset(("seed", "batch_size", "prompts", "sample_every_n_steps", "adapters", "compile"))
"""Keys of `[sample]` that are not said of a single picture, or that a job has a place of its own for."""


@dataclass(frozen=True)
class _Model:
    """A model by its title."""

    title: str
    source: Named
    settings: Sample
    """How it draws what says nothing else."""
    always: Worn
    """Adapters that its recipe lets it wear besides its own."""


class Painter:
    """What draws for the service: `bespoke.serving.jobs.Engine` on diffusers' pipelines."""

    def __init__(self, project: Path, adapters: Path | None, budget: int, *, safety_checker: bool) -> None:
        self._project, self._adapters = project, adapters
        self._rack = Rack(budget, safety_checker=safety_checker)
        self._models: dict[str, _Model] = {}

    def prepare(self, model: str) -> Facts:
        """Reads a model by its title and draws a first picture with it.

        Raises: BespokeError when that fails, also for want of memory.
        """
        known = self._read(model)
        try:
            try:
                width, height = _spared(lambda: self._first(known), self._rack)
            except OutOfMemory:  # now all that was not in use is gone
                width, height = _spared(lambda: self._first(known), self._rack)
        except OutOfMemory as error:
            hint = "Serve it from a machine with more memory, or a smaller picture."
            raise BespokeError(f"{model} does not fit into memory: {error}", hint) from None
        self._models[model] = known
        settings = known.settings.model_dump(mode="json", exclude=set(NOT_OF_ONE), exclude_none=True)
        told, schedulers = _facts(known.source), scheduler_names(flows=known.source.checkpoint.flows)
        return Facts(model, width, height, tuple(sorted(settings.items())), tuple(told.items()), schedulers)

    def release(self, model: str) -> None:
        """Lets go of a model that no name means any more, if memory is needed."""
        gone = self._models.pop(model, None)
        if gone:
            others = any(shared(one.source) == shared(gone.source) for one in self._models.values())
            self._rack.last(gone.source, gone.settings, shared=others)

    def held(self) -> Held:
        """What is in memory now."""
        models, adapters = self._rack.count
        size = psutil.Process().memory_info().rss
        return Held(models, adapters, size + (torch.cuda.memory_reserved() if torch.cuda.is_available() else 0))

    def draw(self, jobs: Sequence[Job], watch: Callable[[Step], None]) -> Sequence[Outcome]:
        """The outcome of each of some jobs of one kind, in order; `watch` hears of each step and may raise Cancelled.

        Pictures to begin with that are of several sizes are drawn in as many goes; no picture depends on the others.
        Raises: OutOfMemory, BespokeError when the model cannot be read, and whatever else a library raises.
        """
        return _spared(lambda: self._drawn(jobs, watch), self._rack)

    def _read(self, title: str) -> _Model:
        source = named(title, self._project)
        settings = settled(source.settings, source.checkpoint)
        always = {adapter_at(name, self._project): weight for name, weight in settings.adapters.items()}
        return _Model(title, source, settings, always)

    def _first(self, model: _Model) -> tuple[int, int]:
        """The size of a model's pictures, once it has drawn one."""
        pipeline = self._rack.ready(model.source, model.settings, model.always)
        quick = {"num_inference_steps": min(WARMING, model.settings.num_inference_steps)}
        (drawn,) = _silently(pipeline, [Request("", 0)], model.settings.model_copy(update=quick))
        if drawn.broken:
            raise BespokeError(f"{model.title} draws no pictures: {NO_NUMBER}.", "Look at how it was trained.")
        return size_of(pipeline, model.settings)

    def _drawn(self, jobs: Sequence[Job], watch: Callable[[Step], None]) -> list[Outcome]:
        title = jobs[0].model
        model = self._models[title] = self._models.get(title) or self._read(title)
        try:
            settings, worn = self._asked(model, jobs[0])
            pipeline = self._rack.ready(model.source, settings, worn)
        except (_WrongError, MisfitError) as error:
            return [self._refused(error)] * len(jobs)
        found: dict[int, Outcome] = {}
        requests: dict[int, Request] = {}
        goes: dict[tuple[int, int], list[int]] = {}
        for number, job in enumerate(jobs):
            try:
                requests[number] = request = _request(job, settings)
                size = size_of(pipeline, settings, request.image.size if request.image else None)
                goes.setdefault(size, []).append(number)
            except BespokeError as error:
                found[number] = self._refused(error)
        begun = [requests[number].image if number in requests else None for number in range(len(jobs))]
        unfinished = Unfinished(self._rack.glimpse, settings, begun, len(goes), watch)
        for numbers in goes.values():
            made = self._go(pipeline, title, settings, {number: requests[number] for number in numbers}, unfinished)
            found |= dict(zip(numbers, made, strict=True))
        return [found[number] for number in range(len(jobs))]

    def _go(
        self, pipeline: Any, title: str, settings: Sample, requests: Mapping[int, Request], unfinished: Unfinished
    ) -> list[Outcome]:
        """What becomes of requests that are drawn at once."""
        before = unfinished.steps
        try:
            drawn = _silently(pipeline, [*requests.values()], settings, unfinished.of([*requests]))
        except (BespokeError, ValueError) as error:
            if unfinished.steps > before:
                raise
            return [self._refused(error)] * len(requests)  # so pipelines and schedulers say what they cannot do
        return [_outcome(one, settings, title, len(drawn)) for one in drawn]

    def _asked(self, model: _Model, job: Job) -> tuple[Sample, Worn]:
        """How a model is to draw a job, and all that are drawn with it, and what it wears besides its own adapter.

        Raises: _WrongError when it cannot.
        """
        changes = dict(job.settings)
        try:
            if other := sorted(NOT_OF_ONE & changes.keys()):
                raise BespokeError(f"sample.{other[0]} is nothing that is said of one picture.", "Take it out.")
            own = model.settings.model_dump(exclude_none=True)
            content = {key: value for key, value in {**own, **changes}.items() if value is not None}
            settings = settled(recipes.parse({"sample": content}, "the request").sample, model.source.checkpoint)
            _check(settings.negative_prompt, settings)
            worn, called = dict(model.always), dict(settings.adapters)
            for name, weight in job.adapters:
                if not math.isfinite(weight):
                    raise BespokeError(f"The adapter {name!r} weighs {weight}.", "Give it a number, such as 0.8.")
                file = adapter_file(name, self._adapters)
                worn[file] = worn.get(file, 0.0) + weight
                called[name] = called.get(name, 0.0) + weight
        except BespokeError as error:
            raise _WrongError(error.problem, error.hint) from error
        return settings.model_copy(update={"adapters": called}), worn

    def _refused(self, error: Exception) -> Failure:
        """What is said to whoever asked for what cannot be drawn, without the places of files."""
        words = f"{error.problem} {error.hint}" if isinstance(error, BespokeError) else str(error).partition("\n")[0]
        for folder in filter(None, (self._adapters, self._project)):
            for place in {folder.resolve(), folder.absolute(), folder} - {Path()}:
                words = words.replace(f"{place}/", "")
        return Failure("wrong_request", words.strip())


class _WrongError(BespokeError):
    """Nobody can draw what is asked for."""


def _spared(work: Callable[[], T], rack: Rack) -> T:
    """What some work gives. Raises: OutOfMemory when memory is short, and then what was taken is free again."""
    try:
        return work()
    except (MemoryError, torch.OutOfMemoryError) as error:
        words = str(error).partition("\n")[0]
    except RuntimeError as error:
        if not any(words in str(error) for words in NO_MEMORY):
            raise
        words = "the machine has no more"
    # Only here is nothing left that the work had in its hands.
    rack.shrink()
    free()
    raise OutOfMemory(words)


def _silently(pipeline: Any, requests: Sequence[Request], settings: Sample, watch: Watch | None = None) -> list[Drawn]:
    """What requests drawn at once become; what is not a number says so itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", NO_NUMBER, RuntimeWarning)
        return list(draw(pipeline, requests, settings.model_copy(update={"batch_size": len(requests)}), watch))


def _outcome(drawn: Drawn, settings: Sample, title: str, batch: int) -> Outcome:
    if drawn.broken:
        return Failure("not_a_picture", f"There is no picture: {NO_NUMBER}. Ask for less guidance, or another seed.")
    content = stamped(drawn, settings.format, settings, title)
    width, height = drawn.picture.size
    return Picture(content, settings.format, width, height, drawn.request.seed, title, drawn.flagged, batch)


def _request(job: Job, settings: Sample) -> Request:
    """What a job asks of a pipeline. Raises: BespokeError when nobody can draw that."""
    if not 0 <= job.seed < SEEDS:
        raise BespokeError(f"{job.seed} is no seed.", "Seeds are whole numbers from 0 to 2^63 - 1.")
    if job.mask is not None and job.image is None:
        raise BespokeError("There is a mask, and no picture that it is for.", "Give the picture, too.")
    _check(job.prompt, settings)
    image = _opened(job.image, data.decoded, "picture to begin with")
    return Request(job.prompt, job.seed, image, _opened(job.mask, data.decoded_mask, "mask"))


def _opened(content: bytes | None, decoded: Callable[[bytes], Any], what: str) -> Any:
    if content is None:
        return None
    try:
        return decoded(content)
    except data.Unreadable as error:
        raise BespokeError(f"The {what} cannot be read: {error}.", "Give a whole PNG, JPEG or WebP file.") from None


def _check(prompt: str, settings: Sample) -> None:
    """Raises: BespokeError when something in a prompt cannot have been meant, or is no text."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise BespokeError("The prompt has halves of letters, which are no text.", "Send it in UTF-8.") from None
    checked(escaped(prompt) if settings.brackets == "letters" else prompt)


def _mark(source: Named) -> str:
    """A hash of all that draws; weights nobody knows yet are read for it, which a version's own hash spares."""
    return hashlib.sha256(json.dumps(marks_of(source), sort_keys=True).encode()).hexdigest()


def _facts(source: Named) -> Mapping[str, str]:
    """What people may know of a model: what it is, and under which licences."""
    checkpoint, version, recipe = source.checkpoint, source.version, source.recipe
    base = Path(recipe.model.base if recipe else checkpoint.name)
    pictures = version.origin.get("licences", {}) if version else {}
    found = {
        "base": base.name if base.is_absolute() else base.as_posix(),
        "family": checkpoint.family.name,
        "hash": version.manifest if version else _mark(source),
        "licence": version.origin.get("base_licence", "") if version else origin.licence(checkpoint),
        "left out": checkpoint.unread,
        "licences of pictures": ", ".join(sorted(pictures)),
    }
    return {key: value for key, value in found.items() if value}
