"""What a person is asked next about kept pictures: one that they have not judged, or which of two is better."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bespoke.feedback.records import Opinion, Sample
from bespoke.feedback.store import Store

LATELY = 500
"""So many of the newest pictures are asked about."""
PAIR_EVERY = 3
"""Each third question is between two versions, where there are pictures of one prompt by two."""


@dataclass(frozen=True)
class Question:
    """One or two pictures, and how many more there are to judge."""

    first: Sample
    second: Sample | None
    """By another version, from the same prompt; on the right."""
    left: int


def ask(store: Store, rater: str, skipped: Collection[str] = ()) -> Question | None:
    """The next question for a rater, who does not want to be asked about those `skipped`; None when there is none."""
    said = [one for one in store.opinions(rater=rater) if not one.withdrawn]
    lately = [one for one in store.newest(LATELY) if not one.canary and one.id not in skipped]
    judged = {one.sample for one in said if one.kind != "choice"}
    alone = [one for one in lately if one.id not in judged]
    pairs = list(_pairs(lately, said))
    if pairs and (not alone or len(said) % PAIR_EVERY == PAIR_EVERY - 1):
        return Question(*pairs[0], left=len(alone) + len(pairs))
    return Question(alone[0], None, len(alone) + len(pairs)) if alone else None


def _pairs(samples: Sequence[Sample], said: Sequence[Opinion]) -> Iterator[tuple[Sample, Sample]]:
    """Two pictures of each prompt that two versions drew, if they were not compared; the side follows from the ids."""
    compared = {frozenset((one.sample, one.other)) for one in said if one.kind == "choice"}
    of_prompt: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
    for one in samples:
        of_prompt[one.prompt, one.negative_prompt].append(one)
    for group in of_prompt.values():
        first = group[0]
        second = next((one for one in group if one.model != first.model), None)
        if second is not None and frozenset((first.id, second.id)) not in compared:
            # Which one is newer must not follow from its side.
            yield (first, second) if first.sha256 < second.sha256 else (second, first)
