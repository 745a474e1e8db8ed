"""`bespoke feedback propose`: whether the model in use is to be trained anew, and an update carried out."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bespoke.cli.display import result
from bespoke.cli.feedback import Feedback
from bespoke.cli.options import Debug, Json, Store, working
from bespoke.errors import BespokeError
from bespoke.workspace import relative

if TYPE_CHECKING:
    from bespoke.pipeline.updates import Update
    from bespoke.pipeline.updating import Proposed


def propose(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The model's name in the registry; by default the only one in use.")
    ] = "",
    run: Annotated[
        bool, typer.Option("--run", help="Carry it out if it is proposed, or go on with what was stopped.")
    ] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="With --run: promote what passes the gate, also what waits for that.")
    ] = False,
    feedback: Feedback = "",
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Whether to train the model in use anew, with reasons, changes and cost; with --run a challenger, and the gate."""
    with working(debug=debug, store=store) as bars:
        if approve and not run:
            raise BespokeError("--approve belongs to --run.", "bespoke feedback propose --run --approve")
        from bespoke.feedback.results import finite
        from bespoke.pipeline.updating import propose as run_it

        done = run_it(".", name, run=run, approve=approve, feedback=feedback, report=bars)
        content = finite(
            {
                "name": done.name, "champion": done.champion, **asdict(done.proposal), "facts": asdict(done.facts),
                "ran": done.ran, "update": _update(done.update), "command": done.command,
            }
        )  # fmt: skip
    result({**content, "ledger": done.ledger}, "\n".join(_told(done)), as_json=as_json)


def _update(update: "Update | None") -> dict[str, object] | None:
    if update is None:
        return None
    return {**asdict(update), "version": update.version, "next": "" if update.outcome else update.next}


def _told(done: "Proposed") -> Iterator[str]:
    proposal = done.proposal
    yield f"{done.champion}: {'train it anew' if proposal.retrain else 'leave it as it is'}."
    yield from (f"  for      {reason.words}" for reason in proposal.reasons_for)
    yield from (f"  against  {reason.words}" for reason in proposal.reasons_against)
    yield from (f"  recipe   {one.key}: {one.before} → {one.now}, {one.why}" for one in proposal.changes)
    cost = proposal.cost
    takes = "not known" if cost.hours is None else f"{60 * cost.hours:.1f} minutes"
    yield f"  cost     {takes}; {cost.budget - cost.spent:.1f} of {cost.budget:g} hours are left"
    if done.update is not None:
        yield from _said(done.update, ran=done.ran)
    if done.command:
        yield f"Next: {done.command}"
    yield f"All decisions: {relative(done.ledger)}"


def _said(update: "Update", *, ran: bool) -> Iterator[str]:
    which = f"Update {update.id}" if ran else f"The last update, {update.id},"
    if update.outcome:
        yield f"{which} {'is' if update.outcome == 'waiting' else 'ended'}: {update.outcome}. {update.why}"
    else:
        trouble = f"; it failed {len(update.failures)} times: {update.failures[-1]}" if update.failures else ""
        yield f"{which} is at its stage {update.next}{trouble}."
