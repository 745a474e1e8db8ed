"""New rows turned into verdicts: each gate with its figure and what it asks for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from bespoke.models import NewWords, stands_in

KEPT_MEAN, KEPT_LEAST = 0.95, 0.90
"""Cosines of pooled states with the new token and with the old pieces, over prompts held out."""
NORMS = (0.5, 2.0)
"""In units of the median norm of whole words' rows."""
ALIKE = 10
"""Among so many whole words nearest to a row, one of its vector's neighbours must be."""

Cosines = Float[Tensor, "_"]
Verdict = Literal["accepted", "to train", "refused"]


@dataclass(frozen=True)
class Gate:
    """One gate: what was measured, what was asked for, and whether it was met."""

    name: str
    value: float
    wanted: str
    passed: bool


@dataclass(frozen=True, eq=False)
class Measured:
    """What gates judge a row by; cosines are of pooled states, over prompts held out."""

    row: Float[Tensor, " d"]
    norm: float
    """Of the row, in units of the median of whole words' rows."""
    kept: Cosines
    """With the new token and with the old pieces."""
    near: Cosines
    """With the new token and with its meaning in its place; empty where that is not known."""
    before: Cosines
    """With the old pieces and with the meaning."""
    changed: int
    """How many prompts without the word have other ids than before."""
    shared: int | None
    """How many of its vector's neighbours are among the whole words nearest to the row."""


def gates(measured: Measured, known: bool | None) -> tuple[Gate, ...]:  # noqa: FBT001 - a fact, not a switch
    """The gates of one word: what is known must be kept, and what is not must come nearer to its meaning."""
    finite = bool(measured.row.isfinite().all())
    found = [
        Gate("finite", float(finite), "numbers only", finite),
        Gate("norm", measured.norm, f"{NORMS[0]} to {NORMS[1]} medians", NORMS[0] <= measured.norm <= NORMS[1]),
        Gate("other prompts", float(measured.changed), "none changed", measured.changed == 0),
    ]
    if known is False:
        near, before = _mean(measured.near), _mean(measured.before)
        found.append(Gate("nearer", near, f"nearer to its meaning than its pieces, {before:.3f}", near > before))
        if measured.shared is not None:
            wanted = f"1 of its neighbours among the {ALIKE} nearest words"
            found.append(Gate("neighbours", float(measured.shared), wanted, measured.shared >= 1))
        return tuple(found)
    mean, least = _mean(measured.kept), float(measured.kept.min()) if len(measured.kept) else math.nan
    found.append(Gate("kept", mean, f"{KEPT_MEAN} or more", mean >= KEPT_MEAN))
    found.append(Gate("kept, least", least, f"{KEPT_LEAST} or more", least >= KEPT_LEAST))
    return tuple(found)


def verdict(found: Sequence[Gate], known: bool | None) -> Verdict:  # noqa: FBT001
    """Accepted by all gates; a word of which nothing says what it means may be trained if it only is not kept."""
    failed = {gate.name for gate in found if not gate.passed}
    if not failed:
        return "accepted"
    return "to train" if known is None and failed <= {"kept", "kept, least"} else "refused"


def changed(words: NewWords, tokenizer: Any, prompts: Sequence[str]) -> dict[str, int]:
    """How many prompts without a word got other ids by it, by word: none, if whole words are told from parts."""
    larger, ids = words.extended(tokenizer), words.ids()
    owners = {i: word for word in words.words for surface in word.surfaces for i in ids[surface]}
    counts = {word.surface: 0 for word in words.words}
    for prompt in dict.fromkeys(prompts):
        before, after = tokenizer(prompt).input_ids, larger(prompt).input_ids
        found = {owners[i].surface: owners[i] for i in after if i in owners}
        # Ids that changed though no new token is there are everybody's fault.
        blamed = list(counts) if before != after and not found else []
        blamed += [name for name, word in found.items() if not any(stands_in(s, prompt) for s in word.surfaces)]
        for surface in blamed:
            counts[surface] += 1
    return counts


def _mean(values: Cosines) -> float:
    return float(values.mean()) if len(values) else math.nan
