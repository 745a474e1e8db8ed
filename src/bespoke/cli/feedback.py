"""`bespoke feedback …`: what people say of served pictures, looked at, decided on and deleted."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bespoke.cli.display import result
from bespoke.cli.options import Debug, Json, working
from bespoke.errors import BespokeError
from bespoke.workspace import relative

if TYPE_CHECKING:
    from bespoke.feedback.rated import Rated, Share, Standing
    from bespoke.feedback.records import Sample
    from bespoke.feedback.reviewed import Candidate
    from bespoke.feedback.store import Counts
    from bespoke.feedback.store import Store as FeedbackStore
    from bespoke.pipeline.heard import Left

feedback_app = typer.Typer(
    help="What people say of served pictures, and what follows.", no_args_is_help=True, rich_markup_mode=None
)
Feedback = Annotated[
    str,
    typer.Option("--feedback", metavar="PATH|URL", help="The store: a feedback.db, a project, PostgreSQL's URL."),
]
Most = Annotated[int, typer.Option("--most", min=1, help="Show so many at most.")]
FEW = 10
"""So many pictures are named in words; --json has all."""


@feedback_app.command("list")
def list_feedback(feedback: Feedback = "", most: Most = 20, as_json: Json = False, debug: Debug = False) -> None:
    """How much is kept, and the newest pictures with what was said of them."""
    with working(debug=debug), _opened(feedback) as store:
        from bespoke.feedback.keeping import Deleted
        from bespoke.pipeline.heard import left_over

        counts = store.counts()
        shown = [(sample, list(store.opinions(sample=sample.id))) for sample in store.newest(most)]
        left = left_over(store, Deleted())
    content = {
        "store": store.place.shown, **asdict(counts), "left_over": [asdict(one) for one in left],
        "pictures": [{**asdict(sample), "said": [asdict(one) for one in said]} for sample, said in shown],
    }  # fmt: skip
    lines = [*_counted(counts), *_left(left)]
    for sample, said in shown:
        lines.append(_picture(sample))
        lines += [f"    {one.rater}: {one.kind} {one.value} {one.words}".rstrip() for one in said if not one.withdrawn]
    result(content, "\n".join(lines), as_json=as_json)


@feedback_app.command("ratings")
def ratings(feedback: Feedback = "", as_json: Json = False, debug: Debug = False) -> None:
    """How each version is liked, with 95 % intervals; how often it was flagged; which of two is preferred."""
    with working(debug=debug), _opened(feedback) as store:
        from bespoke.feedback.rated import rated

        found = rated(store)
    result({"store": store.place.shown, **found.to_json()}, "\n".join(_rated(found)), as_json=as_json)


@feedback_app.command("review")
def review(
    accept: Annotated[
        list[str] | None, typer.Option("--accept", metavar="ID", help="A picture to learn from; repeatable.")
    ] = None,
    decline: Annotated[
        list[str] | None, typer.Option("--decline", metavar="ID", help="A picture not to learn from; repeatable.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show those to decide on, as is done by default.")] = False,
    most: Most = 20,
    feedback: Feedback = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pictures that people liked or captioned, with consent: which of them may be learnt from."""
    with working(debug=debug), _opened(feedback) as store:
        from bespoke.feedback.reviewed import candidates, decide
        from bespoke.registry.catalogue import who

        decide(store, accept or (), decline or (), who())
        asked = listed or not (accept or decline)
        opened = list(islice(candidates(store, "open"), most)) if asked else []
        counts = store.counts()
    decided = {"accepted": counts.accepted, "declined": counts.declined}
    pictures = [{**asdict(one), "caption": one.caption, "file": store.shelf.path(one.sample.sha256)} for one in opened]
    lines = [line for one in opened for line in _candidate(one, store)] or ["Nothing waits for a decision."] * asked
    lines.append(f"{counts.accepted} accepted, {counts.declined} declined.")
    if counts.accepted:
        lines.append("Make a dataset of them: bespoke data import feedback: DATASET")
    result({"store": store.place.shown, **decided, "open": pictures}, "\n".join(lines), as_json=as_json)


@feedback_app.command("forget")
def forget(
    rater: Annotated[str, typer.Option(metavar="NAME", help="All that this person said.")] = "",
    sample: Annotated[str, typer.Option(metavar="ID", help="This picture, and what was said of it.")] = "",
    owner: Annotated[str, typer.Option(metavar="KEY", help="All that was drawn for the key of this name.")] = "",
    datasets: Annotated[
        list[Path] | None,
        typer.Option("--dataset", metavar="DIR", help="Look here, too, for what rests on it; repeatable."),
    ] = None,
    feedback: Feedback = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """All of a person, of a picture or of a key deleted for good; datasets that still hold some of it are named."""
    with working(debug=debug), _opened(feedback) as store:
        from bespoke.pipeline.heard import forget as run

        done = run(store, rater=rater, sample=sample, owner=owner, datasets=datasets or ())
    gone = done.deleted
    content = {"store": store.place.shown, **asdict(gone), "left_over": [asdict(one) for one in done.left]}
    words = f"Deleted: {len(gone.samples)} pictures ({gone.bytes / 1e6:.1f} MB), {len(gone.opinions)} opinions."
    result(content, "\n".join((words, *_left(done.left))), as_json=as_json)


@feedback_app.command("keep")
def keep(
    days: Annotated[float | None, typer.Option(min=0, help="Delete pictures that are older.")] = None,
    megabytes: Annotated[float | None, typer.Option(min=0, help="Delete the oldest until the files fit.")] = None,
    feedback: Feedback = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The oldest pictures deleted, by age and by size; figures of their versions stay, and opinions without words."""
    with working(debug=debug), _opened(feedback) as store:
        if days is None and megabytes is None:
            raise BespokeError("No limit is named.", "bespoke feedback keep --days 30 --megabytes 500")
        from bespoke.feedback.keeping import keep as run

        gone, counts = run(store, days=days, megabytes=megabytes), store.counts()
    content = {"store": store.place.shown, "deleted": len(gone.samples), "freed": gone.bytes, **asdict(counts)}
    told = f"Deleted: {len(gone.samples)} pictures ({gone.bytes / 1e6:.1f} MB)."
    result(content, f"{told} {counts.samples} are kept ({counts.bytes / 1e6:.1f} MB).", as_json=as_json)


def _opened(feedback: str) -> "FeedbackStore":
    """The store that is named, or the nearest; none is made."""
    from bespoke.feedback.places import place
    from bespoke.feedback.store import Store

    return Store(place(feedback))


def _counted(counts: "Counts") -> Iterator[str]:
    said = ", ".join(f"{count} {kind}s" for kind, count in counts.opinions.items()) or "none"
    canaries = f", {counts.canaries} of them canaries" if counts.canaries else ""
    yield f"{counts.samples} pictures ({counts.bytes / 1e6:.1f} MB){canaries}; {counts.gone} more in figures only"
    yield f"opinions: {said}; {counts.accepted} pictures accepted to learn from, {counts.declined} declined"
    yield from (
        f"{one['at'][:16]}: {one['samples']} pictures and {one['opinions']} opinions deleted ({one['why']})"
        for one in counts.deletions[-FEW:]
    )


def _left(left: "tuple[Left, ...]") -> Iterator[str]:
    if left:
        yield f"{len(left)} pictures of datasets and runs rest on what was deleted or taken back; remove them there:"
    for one in left[:FEW]:
        yield f"  {relative(one.record)}: {one.file or 'cannot be read; look yourself'}"
    if len(left) > FEW:
        yield f"  … {len(left) - FEW} more: --json has all"


def _picture(sample: "Sample") -> str:
    marks = f"{' canary' * sample.canary}{' unsafe' * sample.flagged}"
    return f"  {sample.id}  {sample.at[:16]}  {sample.model}{marks}  {sample.prompt}"


def _candidate(one: "Candidate", store: "FeedbackStore") -> Iterator[str]:
    yield f"{one.sample.id}  {one.sample.model}  {one.ups} up, {one.downs} down"
    yield f"  picture  {relative(store.shelf.path(one.sample.sha256))}"
    yield f"  prompt   {one.sample.prompt}"
    if one.opinion.kind == "caption":
        yield f"  caption  {one.caption}"
    yield f"  licence  {one.opinion.licence or 'unknown'}"


def _rated(found: "Rated") -> Iterator[str]:
    if not found.versions:
        yield "Nobody has said anything yet."
    for one in found.versions:
        yield from _standing(one)
    for rate in found.win_rates:
        share = f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})"
        yield f"{rate.first} against {rate.second}: {share} of {rate.count}; preferred: {rate.preferred or 'open'}"
    yield from (
        f"strength of {one.model}: {one.value:+.2f} ({one.low:+.2f} to {one.high:+.2f})" for one in found.strengths
    )
    yield from found.notes


def _standing(one: "Standing") -> Iterator[str]:
    yield one.model
    yield f"  liked    {_share(one.liked)} thumbs, by {one.raters} people"
    flags = "".join(f"; {value}: {count}" for value, count in one.flags.items())
    yield f"  flagged  {_share(one.complained)} kept pictures{flags}"
    yield f"  unsafe   {_share(one.unsafe)} kept pictures, by the safety checker"
    if one.captions:
        yield f"  captions {one.captions}"


def _share(share: "Share") -> str:
    if not share.count:
        return "none of 0"
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%}) of {share.count}"
