"""The stages of an update: feedback into the dataset, a challenger trained, measured, registered, and judged.

Each finds what an earlier call of it left behind and goes on from there, so that none is done twice.
"""

import csv
import io
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bespoke import data
from bespoke.errors import BespokeError
from bespoke.pipeline.datasets import FEEDBACK, import_data
from bespoke.pipeline.evaluate import carry_out, comparison
from bespoke.pipeline.gathered import Scene, difference
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.promoting import GateError, judge, promote_model
from bespoke.pipeline.references import FEW
from bespoke.pipeline.registering import register_model, score_version
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.train import begun, check_network, resume
from bespoke.pipeline.updates import Ending, Stage, Update
from bespoke.pipeline.watching import check_trackers
from bespoke.records import GENERATED, Picture
from bespoke.registry import CHALLENGER, CHAMPION, Decision
from bespoke.workspace import Run, relative, write_text

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Work:
    """An update that is carried out."""

    here: Scene
    update: Update
    approved: bool
    """Whether a challenger that passes the gate is promoted."""
    report: Reporter

    @property
    def run(self) -> Run:
        """The challenger's."""
        return Run(self.here.project.runs / self.update.id)

    @property
    def store(self) -> str:
        """The registry's address."""
        return self.here.catalogue.place.address


def bring_in(work: Work) -> Result | Ending:
    """Accepted pictures brought into the project's dataset, whose checks they pass or are set aside by."""
    here = work.here
    if here.feedback is not None and here.accepted - {one.sha256 for one in here.there.pictures}:
        import_data(f"{FEEDBACK}{here.feedback.address}", here.folder, report=work.report)
    if here.withdrawn:
        problem = f"{here.withdrawn[0]} in the dataset rests on an opinion that was taken back."
        raise BespokeError(problem, "Make the dataset anew without it: bespoke feedback list names all such pictures.")
    there = here.there
    found = difference(here.learnt, there)
    if not (found.fresh or found.gone or found.reworded):
        return Ending("nothing new", "None of the new pictures passed the dataset's checks.")
    return {
        "pictures": len(there.pictures), "fresh": found.fresh, "gone": found.gone, "reworded": found.reworded,
        "generated": there.generated,
    }  # fmt: skip


def train(work: Work) -> Result | Ending:
    """The champion's recipe trained on the dataset as it is now, from where it was."""
    here, run = work.here, work.run
    if not run.begun_dataset.is_file():  # what `begun` writes last
        recipe = Run(here.catalogue.folder(here.catalogue.meant(work.update.champion))).recipe
        prepared = prepare(recipe, work.update.overrides, here.project.root)
        check_trackers(prepared.recipe)
        check_network(prepared.start, prepared.recipe)
        begun(prepared, run)
    done = resume(run.root, report=work.report)
    return {"run": run.root.name, "steps": done.steps, "best_step": done.best_step}


def evaluate(work: Work) -> Result | Ending:
    """One scorecard of challenger and champion, against the base and by the same prompts, noises and pictures."""
    root, run = work.here.project.root, work.run.root
    name = relative(run) if root == Path.cwd() else str(run)
    compared = comparison([name, work.here.champion.title], reference=_reference(work), folder=root)
    done = carry_out(compared, work.report)
    return {"against": work.here.champion.title, "report": done.report.relative_to(root).as_posix()}


def register(work: Work) -> Result | Ending:
    """The run as a version, and the scorecard as its and the champion's newest."""
    here = work.here
    made = register_model(work.run.root, here.name, store=work.store, report=work.report)
    if made.version.number == here.champion.number:
        return Ending("nothing new", f"What was trained is {made.version.title} itself.")
    score_version(here.champion, work.run.scorecard, here.catalogue, work.report)
    return {"version": made.version.number}


def challenge(work: Work) -> Result | Ending:
    """The alias `challenger` given to the version, if the gate lets it be tried at all."""
    here, version = work.here, work.update.version
    assert version is not None
    if here.standing.aliases.get(CHALLENGER) != version and not here.reigned(version):
        try:
            promote_model(here.name, version, CHALLENGER, store=work.store)
        except GateError as refusal:
            return _refused(refusal.decision)
    return {"alias": CHALLENGER}


def promote(work: Work) -> Result | Ending:
    """The version in the champion's place, if the gate lets it and somebody who may says so."""
    here, version = work.here, work.update.version
    assert version is not None
    if here.reigned(version):
        return Ending("promoted", f"{work.update.challenger} became the {CHAMPION}.")
    decision = judge(here.catalogue.version(here.name, version), CHAMPION, here.catalogue)
    if not decision.passed:
        return _refused(decision)
    if not work.approved:
        command = f"bespoke models promote {here.name} {version}"
        return Ending("waiting", f"The gate lets it pass. Look at its pictures, then: {command}", _checks(decision))
    promote_model(here.name, version, store=work.store)
    return Ending("promoted", f"{work.update.challenger} is the {CHAMPION} now.", _checks(decision))


BY_STAGE: Mapping[Stage, Callable[[Work], Result | Ending]] = {
    "import": bring_in, "train": train, "evaluate": evaluate, "register": register, "challenge": challenge,
    "promote": promote,
}  # fmt: skip


def _refused(decision: Decision) -> Ending:
    return Ending("refused", " ".join(decision.refusals), _checks(decision))


def _checks(decision: Decision) -> tuple[Mapping[str, Any], ...]:
    return tuple(asdict(check) for check in decision.checks)


def _reference(work: Work) -> Path | None:
    """A folder of the pictures that both models are measured by, where the recipe's own are not fit for that.

    Of the validation pictures those are left out that a model of ours drew, for whoever drew them comes near to them
    by itself, and those that the champion learnt from.
    """
    here = work.here
    if here.recipe.evaluate.reference:
        return None
    known = {one.sha256 for one in here.learnt.part("train")}
    held_back = here.there.part("validation")
    fit = [one for one in held_back if GENERATED not in one.labels and one.sha256 not in known]
    if len(fit) == len(held_back) or len(fit) < FEW:
        return None
    folder = work.run.root / "reference"
    _lay_out(fit, here.folder / data.TRAIN, folder)
    return folder


def _lay_out(pictures: list[Picture], source: Path, folder: Path) -> None:
    """Fills a folder with pictures and their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("file_name", "text"))
    for one in pictures:
        name = f"{one.sha256[:16]}{Path(one.file).suffix}"
        writer.writerow((name, one.text))
        if not (folder / name).is_file():
            _linked(source / one.file, folder / name)
    write_text(folder / "metadata.csv", table.getvalue())


def _linked(origin: Path, place: Path) -> None:
    try:
        os.link(origin, place)
    except OSError:  # another disk
        shutil.copyfile(origin, place)
