"""A model's name on the command line turned into a checkpoint and an adapter."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, adapters, find, hub, load_adapter, put_in, quiet
from bespoke.models.compiled import Compiled
from bespoke.models.families import NETWORKS, denoiser_of
from bespoke.models.marks import fingerprint
from bespoke.models.tuned import DTYPES
from bespoke.models.vocabulary import FILE as WORDS
from bespoke.pipeline import versioned
from bespoke.pipeline.fetching import checkpoint_of, is_url, path_of
from bespoke.pipeline.inversions import knowing
from bespoke.pipeline.origin import base_hash
from bespoke.recipe.tree import Sample
from bespoke.training.state import WEIGHTS
from bespoke.workspace import Run, remembered

DRAWING = Sample()


@dataclass(frozen=True)
class Named:
    """A model that pictures can be drawn with, or that a training can begin with."""

    name: str
    checkpoint: Checkpoint
    adapter: Path | None = None
    settings: Sample = DRAWING
    """How the recipe of a run wants pictures drawn."""
    state: Path | None = None
    """The folder of a state to resume from, whose weights are used."""
    recipe: recipes.Recipe | None = None
    """The recipe of the run that it comes from."""
    run: Run | None = None
    """That run."""
    version: versioned.Found | None = None
    """The version of the registry that it is, whose folder nobody may write to."""

    @property
    def registered(self) -> bool:
        """Whether it is a version of the registry."""
        return self.version is not None

    def pipeline(self, *, safety_checker: bool = True, settings: Sample = DRAWING) -> Any:
        """The model as a diffusers pipeline, on the best device here, in the number format that `settings` name.

        With fewer bits than float32 come channels-last tensors: both change the last bits of a picture.
        """
        import torch

        from bespoke.hardware import machine

        pipeline = self.checkpoint.pipeline(safety_checker=safety_checker)
        self.adapt(pipeline)
        if settings.dtype in (None, "fp32"):
            pipeline.to(machine().device)
        else:
            with quiet():  # at once: in float32 a GPU may not have room for it
                pipeline.to(machine().device, DTYPES[settings.dtype])
            for network in (denoiser_of(pipeline), pipeline.vae):
                network.to(memory_format=torch.channels_last)
        if settings.compile:
            if isinstance(self.checkpoint, Compiled):
                raise self.checkpoint.fixed
            denoiser_of(pipeline).compile_repeated_blocks()
        return pipeline

    def adapt(self, pipeline: Any) -> None:
        """Puts what this model has beside its checkpoint into a pipeline of that checkpoint, in place.

        Raises: BespokeError when it does not fit.
        """
        if self.adapter:
            with quiet():
                load_adapter(pipeline, self.adapter, self.checkpoint.name)
        if self.state and self.recipe:
            put_in(pipeline, self.checkpoint, self.recipe, self.state / WEIGHTS)

    @property
    def adapted(self) -> bool:
        """Whether it is a checkpoint with an adapter, which can be taken out again."""
        full = self.recipe is not None and self.recipe.model.method == "full"
        words = self.recipe is not None and self.recipe.trains_words
        return self.adapter is not None or (self.state is not None and not full and not words)


def named(model: str, folder: Path = Path()) -> Named:
    """The model called `pico`, a hub id, a folder, a .safetensors file, a run, `RUN@last`, `@epoch-27` or `@step-400`.

    Folders and files may be behind a URL; others count from `folder`. `NAME@champion` and `NAME@7` are versions of the
    registry that is nearest to it.

    Raises: BespokeError when nothing is called so, or a version's files are not what was registered.
    """
    if versioned.is_registered(model, folder):
        return _of_version(model, folder)
    run = _run_of(model, folder)
    if run is None:
        local = model != "pico" and not is_url(model) and (folder / model).exists()
        checkpoint = checkpoint_of(str(folder / model) if local else model)
        return Named(checkpoint.name, checkpoint)
    _, at, which = model.rpartition("@")
    return _of_run(run, model, which if at else "best")


def is_run(model: str) -> bool:
    """Whether a model's name means a run, with or without `@`, or a version, which was one."""
    return _run_of(model) is not None or versioned.is_registered(model)


def _run_of(model: str, folder: Path = Path()) -> Run | None:
    name, at, _ = model.rpartition("@")
    run = Run(folder / (name if at else model))
    return run if run.recipe.is_file() else None


def named_from(model: str, which: str) -> dict[str, Named]:
    """The models that a name means beside `model`, by what to call them in short.

    Where `model` is a run, `base` is what it began with, `@last` or `@epoch-27` are its own, and `all` is the base and
    every epoch it keeps, or its best weights where it keeps none. All else is a name as for `named`.

    Raises: BespokeError when nothing is called so.
    """
    if which not in ("all", "base") and not which.startswith("@"):
        return {which: named(which)}
    run = named(model).run if is_run(model) else None
    if run is None:
        hint = "Name the checkpoints in full: checkpoint=pico,RUN,RUN@epoch-9."
        raise BespokeError(f"checkpoint={which} is for runs, and {model} is none.", hint)
    if which.startswith("@"):
        return {which[1:]: named(f"{run.root}{which}")}
    begun = {"base": begun_with(run, recipes.load(run.recipe))}
    if which == "base":
        return begun
    epochs = {folder.name: named(f"{run.root}@{folder.name}") for folder in run.checkpoints()}
    return begun | (epochs or {"best": named(model if versioned.is_registered(model) else str(run.root))})


def marks_of(
    source: Named,
    parts: Sequence[str] = (),
    part: Callable[[Path], str] = fingerprint,
    file: Callable[[Path], str] = remembered,
) -> dict[str, str | None]:
    """A mark of each part of a model, of its adapter and its state: equal exactly when all that draws is.

    `parts` are others that count besides those of the model's family. `part` and `file` make the marks of a folder and
    of a file; who asks often may remember them.
    """
    checkpoint = source.checkpoint
    those = (*checkpoint.family.parts, *parts)
    marks: dict[str, str | None] = {
        name: part(checkpoint.part(name)) for name in those if checkpoint.part(name).is_dir()
    }
    marks["words"] = file(checkpoint.words) if checkpoint.words else None
    marks["adapter"] = file(source.adapter) if source.adapter and source.adapter.is_file() else None
    marks["state"] = file(source.state / WEIGHTS) if source.state else None
    if checkpoint.rescaled:
        marks["betas"] = "rescaled"
    return marks


def base_of(recipe: recipes.Recipe, folder: Path, *, download: bool = True) -> Checkpoint:
    """The checkpoint that a recipe in `folder` builds on; a relative folder counts from the recipe's.

    Raises: BespokeError when there is none, or it would have to be downloaded and must not.
    """
    return start_of(recipe, folder, download=download).checkpoint


def base_at_hand(recipe: recipes.Recipe, folder: Path) -> Checkpoint | None:
    """The base model of a recipe in `folder`, or nothing where it would have to be downloaded or cannot be used."""
    try:
        return base_of(recipe, folder, download=False)
    except BespokeError:
        return None


def begun_with(run: Run, recipe: recipes.Recipe, words: Path | None = None) -> Named:
    """What a run began with, by the copies it has; it knows the words that it began with, or those in a file."""
    file, adapter = words or run.begun, run.begun_adapter
    known, begun = (copy if copy.is_file() else None for copy in (file, adapter))
    commit = json.loads(run.begun_base.read_text(encoding="utf-8"))["commit"] if run.begun_base.is_file() else ""
    return start_of(recipe, run.root.parent.parent, words=known, adapter=begun, commit=commit)


def start_of(
    recipe: recipes.Recipe,
    folder: Path,
    *,
    download: bool = True,
    words: Path | None = None,
    adapter: Path | None = None,
    commit: str = "",
) -> Named:
    """What a recipe in `folder` begins with: a checkpoint or, where its base is a run, also that run's adapter.

    It knows the new words in the file `words` or, without one, in the file that the recipe names; so with `adapter`.
    Of a base of the hub it is that `commit`, if one is given, whatever has become of it there since.

    Raises: BespokeError when there is none, it would have to be downloaded and must not, it cannot be gone on with, or
    it cannot learn by the schedule that the recipe asks for.
    """
    base = recipe.model.base
    path, at, which = base.rpartition("@")
    run = Run(folder / (path if at else base))
    registered = versioned.is_registered(base, folder)
    if base != "pico" and (run.recipe.is_file() or registered):
        start = _of_version(base, folder) if registered else _of_run(run, base, which if at else "best")
        if start.state:
            hint = "Name RUN, RUN@last or RUN@epoch-9."
            raise BespokeError(f"{base}: a training begins with weights, not with a state.", hint)
        if start.adapter and recipe.model.method == "full":
            hint = 'Set model.method = "lora", or name the model that the adapter belongs to.'
            raise BespokeError(f"{base} is an adapter; all weights cannot be trained from there.", hint)
        return _with_copies(start, recipe, folder, words, adapter, download=download)
    local = folder / base
    name = str(local) if base != "pico" and local.exists() else base
    start = Named(name, _found(name, commit, download=download))
    return _with_copies(start, recipe, folder, words, adapter, download=download)


def _found(name: str, commit: str, *, download: bool) -> Checkpoint:
    """The checkpoint of that name, which is one of the hub where a commit is given."""
    known = hub.parsed(name) if commit and not Path(name).exists() else None
    if known is None:
        return checkpoint_of(name, download=download)
    return replace(find(f"{known[0]}@{commit}", download=download), name=name)


def _with_copies(
    start: Named, recipe: recipes.Recipe, folder: Path, words: Path | None, adapter: Path | None, *, download: bool
) -> Named:
    """The same start with the words and the adapter in the files that a recipe names, or in the copies of them."""
    if not words and recipe.words.file:
        words = path_of(recipe.words.file, folder, download=download)
    if not adapter and recipe.model.adapter_file:
        adapter = path_of(recipe.model.adapter_file, folder, download=download)
    return _with_file(_as_asked(start, recipe, words), recipe, adapter)


def _with_file(start: Named, recipe: recipes.Recipe, adapter: Path | None) -> Named:
    """The same start with the adapter in a file, if the recipe names one."""
    if not recipe.model.adapter_file:
        return start
    if start.adapter or not recipe.model.adapts:
        what = f"{recipe.model.base} has an adapter already" if start.adapter else "no adapter is trained"
        raise BespokeError(f"model.adapter_file gives an adapter, and {what}.", "Take model.adapter_file out.")
    return replace(start, adapter=adapter)


def _as_asked(start: Named, recipe: recipes.Recipe, words: Path | None) -> Named:
    """What a recipe begins with, knowing its new words and with the schedule that it asks for."""
    checkpoint = knowing(replace(start.checkpoint, words=None), [words]) if words else start.checkpoint
    if recipe.train.rescale_betas_zero_snr:
        checkpoint = checkpoint.with_rescaled_betas()
    return replace(start, checkpoint=checkpoint)


def _of_run(run: Run, name: str, which: str) -> Named:
    recipe = recipes.load(run.recipe)
    kind, _, number = which.partition("-")
    if kind == "step" and number.isdecimal():
        if not run.state(int(number)).is_dir():
            raise BespokeError(f"{run.root} has no state {which}.", _there_are("step", run.states()))
        start = begun_with(run, recipe)
        return Named(name, start.checkpoint, None, recipe.sample, run.state(int(number)), recipe, run)
    full = recipe.model.method == "full"
    folder = {"best": run.model if full else run.root, "last": run.last}.get(which)
    if kind == "epoch" and number.isdecimal():
        folder = run.checkpoint(int(number))
    if folder is None:
        hint = "Say RUN for the best weights, RUN@last for the last ones, RUN@epoch-27 or RUN@step-400."
        raise BespokeError(f"{name}: a run has no {which!r}.", hint)
    adapter, words = folder / adapters.FILE, folder / WORDS
    only_words = recipe.model.method == "words"
    there = any((folder / part).is_dir() for part in NETWORKS)
    if not (there if full else (words if only_words else adapter).is_file()):
        if kind == "epoch":
            raise BespokeError(f"{run.root} has no {which}.", _there_are("epoch", run.checkpoints()))
        hint, what = f"Let it train on: bespoke train --resume {run.root}", "words" if only_words else "adapter"
        raise BespokeError(f"{run.root} has no {which} {'model' if full else what} yet.", hint)
    start = begun_with(run, recipe, words if words.is_file() else None)
    if full:
        return Named(name, start.checkpoint.with_trained(folder), None, recipe.sample, recipe=recipe, run=run)
    # Where only words are trained, an adapter that the run began with is still there.
    own = start.adapter if only_words else adapter
    return Named(name, start.checkpoint, own, recipe.sample, recipe=recipe, run=run)


def _of_version(model: str, start: Path | None = None) -> Named:
    """A registered version, on the base that it was trained on: another one would make another model of it."""
    version = versioned.found(model, start)
    found = _of_run(version.run, version.title, "best")
    assert found.recipe
    begun = begun_with(version.run, found.recipe)
    if base_hash(begun.checkpoint) != version.base_hash:
        problem = f"{version.title} was trained on {begun.name}, and that is not what it was then: its hash is another."
        raise BespokeError(problem, "Bring its base back as it was, or use another version.")
    return replace(found, version=version)


def _there_are(kind: str, folders: Sequence[Path]) -> str:
    known = ", ".join(str(int(folder.name.removeprefix(f"{kind}-"))) for folder in folders)
    return f"There are: {known}." if known else "There are none."
