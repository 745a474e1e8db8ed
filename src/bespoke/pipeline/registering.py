"""A run turned into a version: its files kept by their hashes, what it came from and how it scored beside them."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke import training
from bespoke.errors import BespokeError
from bespoke.models import adapters
from bespoke.models.marks import fingerprint
from bespoke.models.vocabulary import FILE as WORDS
from bespoke.pipeline import origin
from bespoke.pipeline.naming import Named, begun_with, marks_of, named
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.registry import Catalogue, Manifest, Shelf, Version, checked_name, measured, place
from bespoke.training.track import numbers
from bespoke.workspace import Project, Run, is_hidden, sha256


@dataclass(frozen=True)
class Registered:
    """A version, and what this call did for it."""

    version: Version
    new: bool
    """Whether there was none of the same content before."""
    scored: bool
    """Whether it has a scorecard now."""
    bytes: int
    """How much its files are together."""
    store: str


def register_model(run: str | Path, name: str = "", *, store: str = "", report: Reporter = silent) -> Registered:
    """A run, `RUN@last` or `RUN@epoch-9` as a version of a model, by default one that is called as its project.

    Its scorecard comes along, if `evaluate` has measured exactly these weights. What is registered already stays the
    version that it is, and gets a new scorecard. The store is by default the one that the run was tracked in.

    Raises: BespokeError when there is no such run, it is not over, or the registry or the disk does not take it: then
    nothing is registered.
    """
    source = named(str(run))
    folder = _finished(source, str(run))
    recipe, project = recipes.load(folder.recipe), Project(folder.root.parent.parent)
    called = checked_name(name or _plain(project.root.name))
    catalogue = Catalogue(place(store or recipe.track.store or str(project.store), must_be=False))
    with _changing(catalogue.shelf, report):
        manifest = _manifest(source, folder, recipe, catalogue.shelf, report)
        content, card = _scorecard(folder, manifest, catalogue.shelf)
        told = manifest.origin
        tracked = catalogue.track(
            folder.root, lambda: origin.about(folder, recipe, told, catalogue.place.address), _figures(folder)
        )
        report("register", 0, 1)
        version, new = catalogue.register(called, manifest, card, tracked)
        if card:
            _score(catalogue, version, manifest, card, content, new=new)
    report("register", 1, 1, version.title)
    size = sum(blob.bytes for blob in manifest.files.values())
    scored = bool(catalogue.scorecard(version, catalogue.standing(called)))
    return Registered(version, new, scored, size, catalogue.place.shown)


def score_version(version: Version, scorecard: Path, catalogue: Catalogue, report: Reporter = silent) -> bool:
    """Whether a version has a scorecard from a file now: it must have measured exactly the version's weights.

    Raises: BespokeError when somebody changed the model's records meanwhile.
    """
    manifest, content = catalogue.manifest(version), json.loads(scorecard.read_text(encoding="utf-8"))
    if measured(content, manifest.marks) is None:
        return False
    with _changing(catalogue.shelf, report):
        _score(catalogue, version, manifest, catalogue.shelf.put(scorecard).sha256, content, new=False)
    return True


def _finished(source: Named, name: str) -> Run:
    """The run's folder, of which what is registered will not change any more."""
    run = source.run
    if run is None or source.registered or source.state:
        hint = "Register RUN, RUN@last or RUN@epoch-9; the runs of a project lie in its runs/."
        raise BespokeError(f"{name} is no run with weights to register.", hint)
    if not run.result.is_file() and "@epoch-" not in name:
        hint = f"Let it train on: bespoke train --resume {run.root}. Or register an epoch: {run.root}@epoch-9"
        raise BespokeError(f"The training of {run.root} is not over.", hint)
    return Run(run.root.resolve())  # from its own folder, a project has no name


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._") or "model"


def _changing(shelf: Shelf, report: Reporter) -> AbstractContextManager[None]:
    """A block of `shelf.changing` that waits for another command, and says so."""
    return shelf.changing(lambda: report("wait for another command", 0, 1))


def _manifest(source: Named, run: Run, recipe: recipes.Recipe, shelf: Shelf, report: Reporter) -> Manifest:
    """What the version is, its files on the shelf."""
    files, blobs = dict(_files(source, run, recipe)), {}
    for done, (name, file) in enumerate(files.items()):
        report("keep files", done, len(files))
        blobs[name] = shelf.put(file)
    report("keep files", len(files), len(files))
    begun = begun_with(run, recipe)
    came_from = origin.of_run(run, recipe, begun.checkpoint)
    # Written down for good, so the bytes are read, whatever is kept of their digests.
    return Manifest(blobs, came_from, marks_of(source, part=partial(fingerprint, digest=sha256), file=sha256))


def _files(source: Named, run: Run, recipe: recipes.Recipe) -> Iterator[tuple[str, Path]]:
    """The files that make the model and say what it is, by where a run has them whose best weights they are."""
    yield "recipe.toml", run.recipe
    yield from _within(run.root / "begun", "begun")
    if recipe.model.method == "full":
        assert source.checkpoint.trained
        yield from _within(source.checkpoint.trained, run.model.name)
        return
    if recipe.model.adapts and source.adapter:
        yield adapters.FILE, source.adapter
    if source.checkpoint.words and source.checkpoint.words.resolve() != run.begun:
        yield WORDS, source.checkpoint.words


def _within(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not is_hidden(file.relative_to(folder)):
            yield f"{name}/{file.relative_to(folder).as_posix()}", file


def _scorecard(run: Run, manifest: Manifest, shelf: Shelf) -> tuple[Mapping[str, Any], str]:
    """The newest scorecard of exactly these weights and its hash on the shelf; nothing and empty without one."""
    try:
        content = json.loads(run.scorecard.read_text(encoding="utf-8"))
        if measured(content, manifest.marks) is None:
            return {}, ""
    except (OSError, ValueError, KeyError):
        return {}, ""
    return content, shelf.put(run.scorecard).sha256


def _score(
    catalogue: Catalogue, version: Version, manifest: Manifest, card: str, content: Mapping[str, Any], *, new: bool
) -> None:
    """Gives a version a scorecard that it has not got yet."""
    standing = catalogue.standing(version.name)
    if not new and catalogue.scorecard(version, standing) == card:
        return
    if not new:
        catalogue.add("scored", version, standing, scorecard=card)
    found = measured(content, manifest.marks)
    assert found
    catalogue.log_scores(version, card, {name: score.value for name, score in found.scores.items()})


def _figures(run: Run) -> Iterator[tuple[dict[str, float], int, float]]:
    """Every figure of a run, with its step and time."""
    for row in training.read(run.metrics):
        yield numbers(row), int(row["step"]), float(row.get("time", 0.0))
