"""A champion turned into whether to train it anew and, if that is asked for, into a challenger that may follow it."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from bespoke.errors import Interrupted
from bespoke.feedback.proposals import Facts, Proposal
from bespoke.feedback.proposals import propose as judge
from bespoke.pipeline.challenging import BY_STAGE, Work
from bespoke.pipeline.gathered import Scene, gather, scene
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.updates import Ending, Update, new_id
from bespoke.workspace import Project, locked


@dataclass(frozen=True)
class Proposed:
    """Whether to train a champion anew, and the update that came of it, or the last one that there was."""

    name: str
    champion: str
    """The version that was in use when it was asked."""
    facts: Facts
    proposal: Proposal
    update: Update | None
    ledger: Path
    ran: bool
    """Whether this call carried the update out, or went on with it."""
    command: str
    """What may be typed next; empty where there is nothing to do."""


def propose(
    project: str | Path = ".", name: str = "", *, run: bool = False, approve: bool = False, feedback: str = "",
    report: Reporter = silent,
) -> Proposed:  # fmt: skip
    """Whether to train the champion of a model anew, with reasons, the recipe's changes and the cost; kept in a ledger.

    With `run` it is carried out, if it is proposed: accepted pictures are imported, the champion's recipe is trained on
    the dataset as it is then, challenger and champion are measured alike, and the gate is asked. What passes is
    promoted with `approve`, or where `[update]` asks for nobody's approval. An update that was stopped or failed is
    gone on with, whatever is proposed by then, and one that waits for approval is promoted with both. `name` is by
    default that of the only model with a champion; `feedback` the project's store. The project is the one that the
    folder `project` is in.

    Raises: BespokeError when there is no champion, a stage fails, or another process is at it; Interrupted when a
    signal stopped the training, after saving.
    """
    root = _around(Path(project).resolve())
    if not run:
        here = scene(root, name, feedback)
        facts, proposal = _judged(here)
        here.ledger.decided(facts, proposal, run=False, approve=approve)
        return _told(here, facts, proposal, ran=False)
    with locked(root / ".updates.lock", f"Another command is bringing the model of {root.name} up to date."):
        here = scene(root, name, feedback)
        facts, proposal = _judged(here)
        _settle(here)
        update, goes_on = _wanted(here, proposal, approve=approve)
        here.ledger.decided(facts, proposal, update, run=True, approve=approve)
        last = here.ledger.last()
        if update:
            assert last is not None
            if goes_on:
                report("update", 0, 1, f"going on with {update} at its stage {last.next}")
            _carry_out(here, last, approved=approve or not here.settings.update.human_approval, report=report)
        return _told(here, facts, proposal, ran=bool(update))


def _around(folder: Path) -> Path:
    """The project that a folder is in; the folder itself where it is in none."""
    return next((one for one in (folder, *folder.parents) if Project(one).recipe.is_file()), folder)


def _judged(here: Scene) -> tuple[Facts, Proposal]:
    facts = gather(here)
    return facts, judge(facts, here.settings.update)


def _wanted(here: Scene, proposal: Proposal, *, approve: bool) -> tuple[str, bool]:
    """The update to carry out, and whether it was begun before; nothing where none is to be."""
    last = here.ledger.last()
    if last is not None and (not last.outcome or (_waits(here, last) and approve)):
        return last.id, True
    return (new_id(here.project.runs), False) if proposal.retrain else ("", False)


def _settle(here: Scene) -> None:
    """Tells the ledger of a promotion that it did not hear of: by hand, or just before a kill."""
    last = here.ledger.last()
    if last is not None and last.outcome == "waiting" and here.reigned(last.version):
        here.ledger.ended(last, Ending("promoted", f"{last.challenger} became the champion."))


def _waits(here: Scene, last: Update) -> bool:
    """Whether a person may promote what an update made."""
    return last.outcome == "waiting" and not here.reigned(last.version)


def _told(here: Scene, facts: Facts, proposal: Proposal, *, ran: bool) -> Proposed:
    last, command = here.ledger.last(), ""
    if last is not None and _waits(here, last):
        command = f"bespoke models promote {here.name} {last.version}"
    elif (last is not None and not last.outcome) or (proposal.retrain and not ran):
        command = f"bespoke feedback propose {here.name} --run"
    return Proposed(here.name, here.champion.title, facts, proposal, last, here.ledger.path, ran, command)


def _carry_out(here: Scene, update: Update, *, approved: bool, report: Reporter) -> None:
    """Goes through the stages of an update that are not done yet; each is on record before the next begins.

    Raises: BespokeError when one fails; after so many failures as `[update]` allows the update is given up.
    """
    for _ in BY_STAGE:
        stage, began = update.next, time.perf_counter()
        work = Work(replace(here, standing=here.catalogue.standing(here.name)), update, approved, report)
        try:
            left = BY_STAGE[stage](work)
        except Exception as error:
            if not isinstance(error, Interrupted):
                _failed(here, update, error, time.perf_counter() - began)
            raise
        if isinstance(left, Ending):
            here.ledger.ended(update, left)
            return
        here.ledger.done(update, stage, left, time.perf_counter() - began)


def _failed(here: Scene, update: Update, error: Exception, seconds: float) -> None:
    here.ledger.failed(update, str(error) or type(error).__name__, seconds)
    if len(update.failures) >= here.settings.update.most_tries:
        here.ledger.ended(update, Ending("failed", f"It failed {len(update.failures)} times: {update.failures[-1]}"))
