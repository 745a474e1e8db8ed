"""A recipe turned into an adapter: dataset read, everything encoded, the adapter trained, each event shown and kept."""

import json
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bespoke import data
from bespoke import recipe as recipes
from bespoke.data import shown
from bespoke.errors import BespokeError, Interrupted
from bespoke.hardware import give_back, lean_heap
from bespoke.models import adapterfile, tuned, weightless
from bespoke.models.kinds import LORA
from bespoke.models.vocabulary import FILE as WORDS
from bespoke.pipeline import origin, progress, runpage
from bespoke.pipeline.attending import attend
from bespoke.pipeline.compiling import compiling_explained
from bespoke.pipeline.fitting import memory_explained
from bespoke.pipeline.material import Encoder
from bespoke.pipeline.mirror import fetched, mirrored
from bespoke.pipeline.naming import Named, begun_with
from bespoke.pipeline.plan import sized_to_train
from bespoke.pipeline.prepare import Prepared, prepare, with_brackets
from bespoke.pipeline.processes import accelerator, agreed, is_main, main_first, share_cores
from bespoke.pipeline.reporting import Reporter, Stopwatch, silent
from bespoke.pipeline.signals import StopWish, stop_wish
from bespoke.pipeline.warm import HERE
from bespoke.pipeline.watching import check_trackers, watching
from bespoke.records import Dataset
from bespoke.training import Event, Material, Stopped, Trainer, optimizers, sharding, state
from bespoke.workspace import Project, Run, atomic_file, locked, write_json, write_text


@dataclass(frozen=True)
class Trained:
    """What a training left behind."""

    run: Path
    adapter: Path | None
    """The best adapter; nothing where there is none."""
    model: Path | None
    """The best model where all weights were trained, in diffusers' layout; nothing else."""
    steps: int
    best_step: int
    reason: str
    seconds: dict[str, float]
    words: Path | None = None
    """The new words with their trained rows, where these were trained."""


def train(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    *,
    fit: str | None = None,
    fill: str | None = None,
    report: Reporter = silent,
) -> Trained:
    """A new run of the recipe in a file, trained to its end.

    With `fit`, by settings that fit in a size such as "12GB"; with `fill`, in the largest batch that does.

    Raises: BespokeError when the recipe, the dataset or the model is not as it should be, or nothing fits; Interrupted
    when a signal stopped it, after saving.
    """
    watch = Stopwatch()
    with watch.stage("check"):
        prepared = checked(recipe, overrides, fit, fill, report)
    resolved = agreed(lambda: prepared.recipe)  # what is measured, such as bfloat16's speed, each would find otherwise
    workers = accelerator(resolved.train)  # refuses what this machine cannot before a run is there
    run = Run(agreed(lambda: begun(prepared).root))
    done = _carry_out(run, resolved, prepared.dataset, workers, report, watch)
    assert done is not None
    return done


def checked(
    recipe: str | Path, overrides: Sequence[str], fit: str | None, fill: str | None, report: Reporter
) -> Prepared:
    """What the recipe in a file asks for; with `fit` or `fill`, changed to fit in so much memory or to fill it.

    Raises: BespokeError when it could not be trained, as far as that can be known before anything is encoded.
    """
    prepared = sized_to_train(prepare(recipe, overrides), fit, fill, report)
    check_trackers(prepared.recipe)
    check_network(prepared.start, prepared.recipe)
    return prepared


def begun(prepared: Prepared, run: Run | None = None) -> Run:
    """A run of what was prepared, with all that it must not lose if things change elsewhere.

    `run` is where it is to be, by default a new folder.
    """
    run = run or prepared.project.new_run()
    write_text(run.recipe, recipes.dump(prepared.recipe, prepared.reasons))
    copies = {run.begun: prepared.start.checkpoint.words}
    if prepared.recipe.model.adapter_file:
        copies[run.begun_adapter] = prepared.start.adapter
    for copy, source in copies.items():
        if source:
            with atomic_file(copy) as temporary:
                shutil.copyfile(source, temporary)
    base = prepared.start.checkpoint
    if base.commit:
        write_json(run.begun_base, {"name": base.name, "commit": base.commit})
    origin.keep(run, prepared.recipe, base, prepared.regularisation)
    return run


@runtime_checkable
class Heed(Protocol):
    """Whoever listens to a training and may end it."""

    def __call__(self, event: Event) -> None:
        """Takes in an event."""
        ...

    def wish(self) -> str | None:
        """Why to end the training, if there is a reason."""
        ...


def carried_out(run: Run, report: Reporter, heed: Heed) -> Trained | None:
    """A run that was begun, trained from its newest state to its end; nothing where `heed` ended it before.

    Raises: BespokeError as `train`; Interrupted when a signal stopped it, after saving.
    """
    recipe, dataset = _of(run)
    return _carry_out(run, recipe, dataset, accelerator(recipe.train), report, Stopwatch(), heed)


def resume(run_folder: str | Path, recipe: str | Path = "recipe.toml", *, report: Reporter = silent) -> Trained:
    """The run in a folder, trained on from its newest complete state; a finished one is only told about.

    A run behind a URL is fetched first, into the project in which `recipe` lies.

    Raises: BespokeError when the folder holds no run; Interrupted when a signal stopped it, after saving.
    """
    run, finished = run_in(run_folder, recipe)
    if finished:
        return finished
    resolved, dataset = _of(run)
    done = _carry_out(run, resolved, dataset, accelerator(resolved.train), report, Stopwatch())
    assert done is not None
    return done


def run_in(run_folder: str | Path, recipe: str | Path = "recipe.toml") -> tuple[Run, Trained | None]:
    """The run in a folder, or behind a URL, and what it left behind if it is over, saying so.

    Raises: BespokeError when the folder holds no run.
    """
    run = Run(agreed(lambda: _run_at(run_folder, Path(recipe)).root))
    if not run.recipe.is_file():
        raise BespokeError(f"{run_folder} is no run: it has no recipe.toml.", "Run folders lie in the project's runs/.")
    finished = result_of(run)
    return run, finished and replace(finished, reason=f"finished before: {finished.reason}")


def _carry_out(
    run: Run,
    recipe: recipes.Recipe,
    dataset: Dataset,
    workers: Any,
    report: Reporter,
    watch: Stopwatch,
    heed: Heed | None = None,
) -> Trained | None:
    project = _project(run)
    HERE.cool()
    if recipe.train.spare_memory:
        lean_heap()
    if busy := share_cores():
        report("cores", 1, 1, busy)
    with _alone(run), mirrored(run, recipe.remote.runs, report):
        start = begun_with(run, recipe)
        with watch.stage("encode"), main_first():
            encoder = Encoder(project, start.checkpoint, recipe, report)
            material = encoder.material(dataset, _dataset_folder(project, recipe))
        give_back()
        if recipe.train.sharding != "none" and not sharding.applies(recipe.train, workers):
            report("sharding", 1, 1, "there is one process, which holds all of the weights")
        # Before this a signal ends the process at once: what was encoded so far is kept in any case.
        enough = memory_explained(dataset, start.checkpoint, recipe)
        with watch.stage("train"), stop_wish() as wish, enough, compiling_explained():
            trainer = trainer_for(run, recipe, start, material, workers)
            give_back()
            stopped = _fit(run, trainer, start, dataset, report, wish, heed)
        if not stopped.finished and not wish.reason():
            return None
        if not stopped.finished:
            hint = f"Everything is saved. Go on with: bespoke train --resume {run.root}"
            raise Interrupted(wish.exit_code, f"{stopped.reason} after step {stopped.step}. {hint}")
        content = {
            "steps": stopped.step,
            "best_step": stopped.best_step,
            "reason": stopped.reason,
            "seconds": watch.seconds,
        }
        if is_main():
            if recipe.model.method == "full":
                words = run.model / WORDS
                (start.checkpoint.with_words(words) if words.is_file() else start.checkpoint).complete(run.model)
            runpage.write(run, progress.wanted(recipe, dataset), seconds=watch.seconds, reason=stopped.reason)
            write_json(run.result, content)
    return _trained(run, recipe, content)


def _run_at(run_folder: str | Path, recipe: Path) -> Run:
    """A run of this machine, or one behind a URL, fetched to it."""
    if "://" not in str(run_folder):
        return Run(Path(run_folder).resolve())
    if not recipe.is_file():
        problem = f"{shown(run_folder)} is to be fetched, and {recipe} is no recipe of a project."
        raise BespokeError(
            problem, f"Name the project's recipe, too: bespoke train RECIPE --resume {shown(run_folder)}"
        )
    return fetched(str(run_folder), Project(recipe.resolve().parent))


def result_of(run: Run) -> Trained | None:
    """What a run left behind; nothing while it is not over."""
    if not run.result.is_file():
        return None
    content: dict[str, Any] = json.loads(run.result.read_text(encoding="utf-8"))
    return _trained(run, recipes.load(run.recipe), content)


def _trained(run: Run, recipe: recipes.Recipe, content: dict[str, Any]) -> Trained:
    full, words = recipe.model.method == "full", (run.model if recipe.model.method == "full" else run.root) / WORDS
    adapter = run.adapter if recipe.model.adapts else None
    return Trained(run.root, adapter, run.model if full else None, **content, words=words if words.is_file() else None)


def _fit(
    run: Run,
    trainer: Trainer,
    start: Named,
    dataset: Dataset,
    report: Reporter,
    wish: StopWish,
    heed: Heed | None,
) -> Stopped:
    kept, stopped = state.newest(run), None
    if kept:
        trainer.restore(kept)
    with watching(run, trainer, start, dataset, report, wish, resumed=kept is not None) as heard:
        for event in trainer.fit(lambda: wish.reason() or (heed.wish() if heed else None)):
            heard(event)
            if heed is not None:
                heed(event)
            stopped = event if isinstance(event, Stopped) else stopped
    assert stopped is not None
    return stopped


def trainer_for(run: Run, recipe: recipes.Recipe, start: Named, material: Material, workers: Any) -> Trainer:
    """A trainer of what the recipe names, begun with the weights of `start`."""
    from bespoke.diffusion import schedule_of

    network = tuned(start.checkpoint, recipe)
    if not sharding.applies(recipe.train, workers):  # shards are put on the device block by block
        network.to(workers.device)
    if start.adapter and recipe.model.adapter_file:
        network.begin(start.adapter)
    elif start.adapter:
        network.load(start.adapter.parent)
    if recipe.train.compile:
        network.denoiser.compile_repeated_blocks(dynamic=False)
    schedule = schedule_of(start.checkpoint.scheduler_config)
    trainer = Trainer(network, material, schedule, recipe, run, workers)
    if recipe.train.measure_attention:
        attend(trainer)
    return trainer


def check_network(start: Named, recipe: recipes.Recipe) -> None:
    """Refuses what could not be trained, before anything is encoded.

    Raises: BespokeError when a recipe's settings do not fit the model's layers or this machine, or its adapter's file
    does not fit.
    """
    optimizers.check(recipe.train)
    sharding.check(recipe)
    if recipe.train.max_adapter_norm and recipe.model.method not in LORA:
        hint = f"It shortens {' and '.join(LORA)}; take it out of the recipe."
        raise BespokeError(f"train.max_adapter_norm is set, and {recipe.model.method} is trained.", hint)
    network = weightless(start.checkpoint, recipe)
    if start.adapter and recipe.model.adapter_file:
        adapterfile.fitting(network.parts, start.adapter)


def _of(run: Run) -> tuple[recipes.Recipe, Dataset]:
    """A run's recipe, and the dataset that it trains on."""
    recipe = recipes.load(run.recipe)
    return recipe, with_brackets(data.load(_dataset_folder(_project(run), recipe)), recipe)


def _project(run: Run) -> Project:
    return Project(run.root.parent.parent)


def _dataset_folder(project: Project, recipe: recipes.Recipe) -> Path:
    return project.root / recipe.data.path


@contextmanager
def _alone(run: Run) -> Generator[None, None, None]:
    """A block that no other process enters for the same run; what a kill left half written is swept away first.

    Raises: BespokeError when another process trains this run.
    """
    if not is_main():
        yield  # the main process holds the lock for all
        return
    with locked(run.root / ".lock", f"Another process is training {run.root}.", "Wait for it, or stop it first."):
        for debris in (*run.root.glob(".*.tmp"), *run.root.glob("*/.*.tmp")):
            shutil.rmtree(debris) if debris.is_dir() else debris.unlink()
        yield
