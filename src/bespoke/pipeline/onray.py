"""A training carried out by processes of a Ray cluster: what happens is shown here, and signals are heard here.

The run's folder is as without Ray, and its states are what a group goes on from that is begun anew.
"""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bespoke.errors import Interrupted
from bespoke.pipeline.processes import is_main
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.signals import stop_wish
from bespoke.pipeline.train import Trained, begun, carried_out, checked, run_in
from bespoke.scale.group import Group, Line, Team, group
from bespoke.training import Event
from bespoke.workspace import Project, Run


def train(
    recipe: str | Path, overrides: Sequence[str] = (), *, team: Team, fit: str | None = None, fill: str | None = None,
    report: Reporter = silent,
) -> Trained:  # fmt: skip
    """A new run of the recipe in a file, trained to its end by a group of a Ray cluster.

    Raises: BespokeError as without Ray, and when the cluster cannot be reached, is too small or loses the group again
    and again; Interrupted when a signal stopped it, after saving.
    """
    prepared = checked(recipe, overrides, fit, fill, report)
    with group(team, report) as workers:
        return _carried_out(begun(prepared), workers, report)


def resume(
    run_folder: str | Path, recipe: str | Path = "recipe.toml", *, team: Team, report: Reporter = silent
) -> Trained:
    """The run in a folder, or behind a URL, trained on by a group of a Ray cluster; a finished one is only told about.

    Raises: as `train`, and BespokeError when the folder holds no run.
    """
    run, finished = run_in(run_folder, recipe)
    if finished:
        return finished
    with group(team, report) as workers:
        return _carried_out(run, workers, report)


def _carried_out(run: Run, workers: Group, report: Reporter) -> Trained:
    scratch = Project(run.root.parent.parent).cache / "ray" / run.root.name
    report("ray", 1, 1, f"{workers.count} processes")
    with stop_wish() as wish:
        try:
            done = workers.together(partial(_part, run.root), scratch, wish.reason)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    if done is None:
        hint = f"Everything is saved. Go on with: bespoke train --resume {run.root} --ray"
        raise Interrupted(wish.exit_code, f"{wish.reason()}. {hint}")
    return done


def _part(root: Path, line: Line) -> Trained | None:
    """What each process of the group does: its part of the run, from the newest state on."""

    def told(stage: str, done: int, total: int, note: str = "") -> None:
        line.tell(stage, done, total, note)

    return carried_out(Run(root), told if is_main() else silent, _Heed(line))


class _Heed:
    """Ends the training when the one who waits for it wishes that."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def __call__(self, event: Event) -> None:
        """What happens is told by the reporter."""

    def wish(self) -> str | None:
        """Why to end the training, if there is a reason."""
        return "stopped by a signal" if self._line.to_stop() else None
