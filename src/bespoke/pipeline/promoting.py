"""A version given an alias, if its scorecard passes the gate; given back to the one before; taken out of use."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.registry import (
    CHAMPION,
    Catalogue,
    Decision,
    Declared,
    Manifest,
    Measured,
    Rule,
    Standing,
    Version,
    checked_alias,
    decide,
    measured,
    place,
)
from bespoke.workspace import Run, relative


@dataclass(frozen=True)
class Promoted:
    """A version that was given an alias."""

    version: Version
    alias: str
    before: int | None
    """The version that had it; nothing where none had."""
    decision: Decision
    forced: str
    """Why the gate was overruled; empty where it passed."""


@dataclass(frozen=True)
class Moved:
    """What became of an alias."""

    alias: str
    version: Version
    before: int


class GateError(BespokeError):
    """The gate's refusal, with all that it looked at."""

    def __init__(self, version: Version, alias: str, decision: Decision, hint: str) -> None:
        reasons = "".join(f"\n  - {reason}" for reason in decision.refusals)
        super().__init__(f"{version.title} is not promoted to {alias}:{reasons}", hint)
        self.decision = decision


def promote_model(
    name: str, version: int, to: str = CHAMPION, *, force: str | None = None, store: str = ""
) -> Promoted:
    """A version, given an alias: `champion`, the one in use, or `challenger`, the one to be tried beside it.

    The gate compares its scorecard with its base's and, for a champion, with the present champion's, by the rule in the
    `[objective]` of its recipe. `force` is why it is promoted against the gate; that goes on record.

    Raises: GateError when the gate refuses, BespokeError when there is no such version, it is retired, its files were
    changed, or somebody else changed the model's aliases meanwhile.
    """
    checked_alias(to)
    if force is not None and not force.strip():
        raise BespokeError("--force wants a reason.", 'Say why: --force "its pictures were looked at by Ann"')
    catalogue = Catalogue(place(store))
    wanted, standing = catalogue.version(name, version), catalogue.standing(name)
    if version in standing.retired:
        raise BespokeError(f"{wanted.title} is retired.", "Promote another, or register its run again.")
    before = standing.aliases.get(to)
    if before == version:
        raise BespokeError(f"{wanted.title} is the {to} already.", f"Look: bespoke models show {name}")
    decision = _decided(catalogue, wanted, to, standing)
    if not decision.passed and force is None:
        raise GateError(wanted, to, decision, _hint(catalogue, wanted, standing, to))
    forced = (force or "").strip() if not decision.passed else ""
    card = catalogue.scorecard(wanted, standing)
    catalogue.add("promoted", wanted, standing, alias=to, forced=forced, decision=decision, scorecard=card)
    return Promoted(wanted, to, before, decision, forced)


def judge(version: Version, to: str, catalogue: Catalogue) -> Decision:
    """What the gate says of a version now, if it were to have an alias; nothing is changed.

    Raises: BespokeError when its files were changed.
    """
    return _decided(catalogue, version, checked_alias(to), catalogue.standing(version.name))


def rollback_model(name: str, alias: str = CHAMPION, *, store: str = "") -> Moved:
    """The version that had an alias before, which has it again; its files are checked, the gate is not asked.

    Raises: BespokeError when none had it, its files were changed, or somebody changed the aliases meanwhile.
    """
    checked_alias(alias)
    catalogue = Catalogue(place(store))
    catalogue.versions(name)
    standing = catalogue.standing(name)
    number, now = standing.previous(alias), standing.aliases.get(alias)
    if number is None or now is None:
        problem = f"No other version of {name} was its {alias} before."
        raise BespokeError(problem, f"Promote one: bespoke models promote {name} VERSION --to {alias}")
    back = catalogue.version(name, number)
    catalogue.folder(back)
    catalogue.add("rolled back", back, standing, alias=alias)
    return Moved(alias, back, now)


def retire_model(name: str, version: int, *, store: str = "") -> Version:
    """A version that is not to be promoted again; its files stay, so that what it drew can be drawn again.

    A challenger that is retired is none any more.

    Raises: BespokeError when there is no such version, it is retired already, or it is the champion.
    """
    catalogue = Catalogue(place(store))
    wanted, standing = catalogue.version(name, version), catalogue.standing(name)
    if version in standing.retired:
        raise BespokeError(f"{wanted.title} is retired already.", f"Look: bespoke models show {name}")
    if CHAMPION in standing.holders(version):
        hint = f"Promote another, or go back first: bespoke models rollback {name}"
        raise BespokeError(f"{wanted.title} is the {CHAMPION}.", hint)
    catalogue.add("retired", wanted, standing)
    return wanted


def _decided(catalogue: Catalogue, version: Version, alias: str, standing: Standing) -> Decision:
    """What the gate says, once the files of the version are known to be whole."""
    manifest = catalogue.manifest(version)
    rule = _rule(Run(catalogue.folder(version)))
    candidate = _measured(catalogue, version, manifest, standing)
    holder = standing.aliases.get(CHAMPION) if alias == CHAMPION else None
    if holder is None:
        return decide(candidate, None, _declared(manifest), rule)
    champion = catalogue.version(version.name, holder)
    other = _measured(catalogue, champion, catalogue.manifest(champion), standing)
    return decide(candidate, other, _declared(manifest), rule, against=champion.title)


def _rule(run: Run) -> Rule:
    asked = recipes.load(run.recipe).objective
    return Rule(
        asked.min_improvement, asked.max_agreement_loss, asked.max_copy_rate, asked.max_membership, asked.licences,
        asked.require_safety,
    )  # fmt: skip


def _measured(catalogue: Catalogue, version: Version, manifest: Manifest, standing: Standing) -> Measured | None:
    """What a version's newest scorecard says; nothing where it has none."""
    card = catalogue.scorecard(version, standing)
    content: Mapping[str, Any] = json.loads(catalogue.text(version, card)) if card else {}
    return measured(content, manifest.marks) if content else None


def _declared(manifest: Manifest) -> Declared:
    told = manifest.origin
    return Declared(told["base_licence"], told["licences"], told["unsafe"], told["safety_checker"])


def _hint(catalogue: Catalogue, version: Version, standing: Standing, alias: str) -> str:
    """The commands that may change the gate's mind."""
    overrule = (
        f'Overrule it, on record: bespoke models promote {version.name} {version.number} --to {alias} --force "…"'
    )
    if catalogue.scorecard(version, standing):
        return overrule
    run = str(catalogue.manifest(version).origin["run"])
    folder = catalogue.shelf.root.parent / "runs" / run
    where = relative(folder) if folder.is_dir() else f"runs/{run}"
    measure = f"bespoke evaluate {where}, then: bespoke models register {where} --name {version.name}"
    return f"Measure it: {measure}. {overrule}"
