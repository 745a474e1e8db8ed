"""`bespoke models register …`: what is typed in a shell turned into the verbs about versions of models."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bespoke.cli.display import result
from bespoke.cli.models import models_app
from bespoke.cli.options import Debug, Json, Store, working
from bespoke.errors import BespokeError

if TYPE_CHECKING:
    from bespoke.pipeline.catalogued import Differing, Kept, Listed, Looked
    from bespoke.records import Score
    from bespoke.registry import Decision, Record, Unneeded, Version

FEW = 10
"""So many pictures or settings are told in words; --json has all."""
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name in the registry.")]
Number = Annotated[int, typer.Argument(metavar="VERSION", help="The version's number.", min=1)]


@models_app.command("register")
def register_model(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, RUN@last or RUN@epoch-9.")],
    name: Annotated[str, typer.Option(help="The model that it is a version of; by default the project's name.")] = "",
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A run as a version of a model, with its scorecard if it was evaluated; its files are kept by their hashes."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.registering import register_model as run_it

        done = run_it(run, name, store=store, report=bars)
    made = "is new" if done.new else "was there already, for its content is the same"
    scored = "It has a scorecard." if done.scored else f"It has no scorecard yet: bespoke evaluate {run}"
    words = f"{done.version.title} {made} ({done.bytes / 1e6:.1f} MB) in {done.store}.\n{scored}"
    if not done.scored:
        words += f", then: bespoke models register {run} --name {done.version.name}"
    content = {**_version(done.version), "new": done.new, "scored": done.scored, "bytes": done.bytes}
    result({**content, "store": done.store}, words, as_json=as_json)


@models_app.command("list")
def list_models(store: Store = "", as_json: Json = False, debug: Debug = False) -> None:
    """The models of the registry, their versions and who has which alias."""
    with working(debug=debug):
        from bespoke.pipeline.catalogued import list_models as run

        found = run(store=store)
    lines = [line for one in found for line in _overview(one)]
    words = "\n".join(lines) or "No model is registered yet: bespoke models register RUN"
    result({"models": [_listed(one) for one in found]}, words, as_json=as_json)


@models_app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME, NAME@champion or NAME@7.")],
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A model's history, or where a version comes from, back to the hash of every picture; its files are checked."""
    with working(debug=debug):
        from bespoke.pipeline.catalogued import Looked
        from bespoke.pipeline.catalogued import show_model as run

        found = run(name, store=store)
    if isinstance(found, Looked):
        result(_looked(found), "\n".join(_told(found)), as_json=as_json)
    else:
        history = [f"  {_event(record)}" for record in found.records]
        result(_listed(found), "\n".join((*_overview(found), *history)), as_json=as_json)


@models_app.command("promote")
def promote_model(
    name: Name,
    version: Number,
    to: Annotated[
        str, typer.Option(help="champion, the one in use, or challenger, to be tried beside it.")
    ] = "champion",
    force: Annotated[
        str | None, typer.Option(metavar="REASON", help="Promote it against the gate; the reason goes on record.")
    ] = None,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A version given an alias, if its scorecard passes the gate: better, no copies, nothing lost, licences, safety."""
    with working(debug=debug):
        from bespoke.pipeline.promoting import GateError
        from bespoke.pipeline.promoting import promote_model as run

        try:
            done = run(name, version, to, force=force, store=store)
        except GateError as refusal:
            if as_json:
                told = {"name": name, "version": version, "alias": to, "promoted": False}
                result({**told, **_decision(refusal.decision)}, "", as_json=True)
            raise
    before = f" in the place of version {done.before}" if done.before else ""
    words = [f"{done.version.title} is the {done.alias} now{before}.", *_checks(done.decision)]
    words += [f"Forced: {done.forced}"] if done.forced else []
    content = {**_version(done.version), "alias": done.alias, "promoted": True, "before": done.before}
    result({**content, "forced": done.forced, **_decision(done.decision)}, "\n".join(words), as_json=as_json)


@models_app.command("rollback")
def rollback_model(
    name: Name,
    alias: Annotated[str, typer.Option(help="Which alias goes back.")] = "champion",
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The alias given back to the version that had it before."""
    with working(debug=debug):
        from bespoke.pipeline.promoting import rollback_model as run

        done = run(name, alias, store=store)
    words = f"{done.version.title} is the {done.alias} again, in the place of version {done.before}."
    result({**_version(done.version), "alias": done.alias, "before": done.before}, words, as_json=as_json)


@models_app.command("retire")
def retire_model(name: Name, version: Number, store: Store = "", as_json: Json = False, debug: Debug = False) -> None:
    """A version taken out of use: it is not promoted any more, and its files stay."""
    with working(debug=debug):
        from bespoke.pipeline.promoting import retire_model as run

        done = run(name, version, store=store)
    result({**_version(done), "retired": True}, f"{done.title} is retired. Its files stay.", as_json=as_json)


@models_app.command("prune")
def prune_versions(
    apply: Annotated[bool, typer.Option("--apply", help="Remove them.")] = False,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The files that no version names, which a kill or a deletion left; --apply removes them. Retired versions stay."""
    with working(debug=debug):
        from bespoke.pipeline.unneeded import prune_versions as run

        found = run(apply=apply, store=store)
    result({**asdict(found), "removed": apply}, "\n".join(_pruned(found, removed=apply)), as_json=as_json)


@models_app.command("diff")
def diff_models(
    first: Annotated[str, typer.Argument(metavar="A", help="NAME@champion or NAME@7.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What two versions differ in: recipes, data, scores."""
    for one in (first, second):
        if "@" not in one:
            with working(debug=debug):
                raise BespokeError(f"{one} is no version.", f"Say {one}@7 or {one}@champion.")
    with working(debug=debug):
        from bespoke.pipeline.catalogued import diff_models as run

        found = run(first, second, store=store)
    content = {
        "first": _version(found.first), "second": _version(found.second), "recipe": found.recipe,
        "origin": found.origin, "added": [asdict(one) for one in found.added],
        "removed": [asdict(one) for one in found.removed],
        "reworded": [[asdict(one) for one in pair] for pair in found.reworded],
        "scores": {name: [one and one.to_json() for one in pair] for name, pair in found.scores.items()},
        "incomparable": found.incomparable,
    }  # fmt: skip
    result(content, "\n".join(_differing(found)), as_json=as_json)


def _pruned(found: "Unneeded", *, removed: bool) -> Iterator[str]:
    if not found:
        yield "Every file belongs to a version."
        return
    what = f"{len(found.blobs)} files that no version names, {len(found.folders)} versions laid out that are none"
    what += f", {len(found.halves)} half-written files" if found.halves else ""
    yield f"{'Removed' if removed else 'Not needed'}: {what} ({found.bytes / 1e6:.1f} MB)."
    names = [*found.blobs, *(path.name for path in (*found.folders, *found.halves))]
    yield from (f"  {name}" for name in names[:FEW])
    if len(names) > FEW:
        yield f"  … {len(names) - FEW} more: --json has all"
    if not removed:
        yield "Remove them: bespoke models prune --apply"


def _version(one: "Version") -> dict[str, Any]:
    return {"name": one.name, "version": one.number, "manifest": one.manifest, "registered": one.at}


def _listed(one: "Listed") -> dict[str, Any]:
    return {
        "name": one.name, "versions": [_version(each) for each in one.versions], "aliases": dict(one.aliases),
        "retired": sorted(one.retired), "history": [asdict(record) for record in one.records],
        "elsewhere": dict(one.elsewhere),
    }  # fmt: skip


def _overview(one: "Listed") -> Iterator[str]:
    aliases = ", ".join(f"{alias} {number}" for alias, number in sorted(one.aliases.items())) or "no alias is given"
    retired = f"; retired: {', '.join(map(str, sorted(one.retired)))}" if one.retired else ""
    count = f"{len(one.versions)} version{'s' if len(one.versions) != 1 else ''}"
    yield f"{one.name}: {count}; {aliases}{retired}"
    for alias, number in one.elsewhere.items():
        yield f"  MLflow itself holds version {number or 'none'} for {alias}: these records are what counts."


def _event(record: "Record") -> str:
    told = {"promoted": f"promoted to {record.alias}", "rolled back": f"the {record.alias} again, by going back"}
    what = told.get(record.kind, record.kind)
    forced = f", against the gate: {record.forced}" if record.forced else ""
    return f"{record.at} {record.by}: version {record.version} {what}{forced}"


def _looked(one: "Looked") -> dict[str, Any]:
    return {
        **_version(one.version), "aliases": one.aliases, "retired": one.retired, "origin": dict(one.origin),
        "files": {name: asdict(blob) for name, blob in one.files.items()},
        "pictures": [asdict(picture) for picture in one.pictures], "recipe": dict(one.recipe),
        "scores": {name: s.to_json() for name, s in one.measured.scores.items()} if one.measured else None,
        "verdicts": list(one.judgements), "history": [asdict(record) for record in one.records],
    }  # fmt: skip


def _told(one: "Looked") -> Iterator[str]:
    told = one.origin
    named = ", ".join(one.aliases) or ("retired" if one.retired else "no alias")
    yield f"{one.version.title}: {named}; registered {one.version.at}; files checked: all {len(one.files)} are whole"
    yield f"  content     {one.version.manifest}"
    yield f"  run         {told['run']}: {told['method']}, {one.recipe['train.max_train_steps']} steps"
    yield f"  base        {told['base']} {told['base_commit']} (weights {told['base_hash']})".replace("  (", " (")
    yield f"  code        bespoke {told['version']} {told['commit']}".rstrip()
    licences = ", ".join(f"{count} {licence}" for licence, count in told["licences"].items())
    yield f"  licences    base: {told['base_licence'] or 'unknown'}; pictures: {licences}"
    yield f"  dataset     {len(one.pictures)} pictures (dataset.json {told['dataset_hash']})"
    yield from (f"    {picture.sha256}  {picture.split:<10}  {picture.file}" for picture in one.pictures[:FEW])
    if len(one.pictures) > FEW:
        yield f"    … {len(one.pictures) - FEW} more: --json has all"
    marks = {True: "✓", False: "✕", None: "?"}
    for judgement in one.judgements:
        yield f"  {marks[judgement['ok']]} {judgement['question']} {judgement['answer']}"
    if one.measured is None:
        yield "  no scorecard"
    yield from (f"  {_event(record)}" for record in one.records)


def _decision(decision: "Decision") -> dict[str, Any]:
    return {"passed": decision.passed, "checks": [asdict(check) for check in decision.checks]}


def _checks(decision: "Decision") -> Iterator[str]:
    return (f"  {'✓' if check.ok else '✕'} {check.question} {check.why}" for check in decision.checks)


def _differing(found: "Differing") -> Iterator[str]:
    yield f"From {found.first.title} to {found.second.title}:"
    for title, pairs in (("recipe", found.recipe), ("origin", found.origin)):
        if not pairs:
            yield f"  {title}: the same"
        yield from (f"  {title}: {name}: {one!r} → {other!r}" for name, (one, other) in pairs.items())
    yield from _pictures("added", found.added)
    yield from _pictures("removed", found.removed)
    yield from _pictures("captions or side changed", [other for _, other in found.reworded])
    if found.incomparable:
        yield f"  scores cannot be compared: {', '.join(found.incomparable)}"
    for name, (one, other) in _main(found.scores).items():
        yield f"  {name}: {_score(one)} → {_score(other)}"


def _pictures(what: str, pictures: "list[Kept] | tuple[Kept, ...]") -> Iterator[str]:
    yield f"  pictures {what}: {len(pictures)}"
    yield from (f"    {picture.sha256}  {picture.file}" for picture in pictures[:FEW])
    if len(pictures) > FEW:
        yield f"    … {len(pictures) - FEW} more: --json has all"


def _main(scores: "Mapping[str, tuple[Score | None, Score | None]]") -> "Mapping[str, Any]":
    """The scores that verdicts rest on."""
    return {name: pair for name, pair in scores.items() if name.startswith(("kid_", "agreement_", "copy_", "member"))}


def _score(score: "Score | None") -> str:
    return f"{score.value:.3g} ({score.low:.3g} to {score.high:.3g})" if score else "not measured"
