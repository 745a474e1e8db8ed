"""A recipe and captions turned into what every model of a comparison draws."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bespoke.recipe import Recipe
from bespoke.sampling import Request
from bespoke.seeds import uniform
from bespoke.text import plain

DOMAIN, GENERAL, COMPLEX, TRAINED = "reference", "general", "complex", "training"
"""The kinds of prompts: in the style's words, without them, such that say much at once, and training captions."""
KINDS: tuple[str, ...] = (DOMAIN, GENERAL, COMPLEX, TRAINED)
BESIDE = {GENERAL: "objective.keep_prompts", COMPLEX: "objective.complex_prompts"}
"""Kinds without which there is a scorecard all the same, and the keys that name their prompts."""
FEW = 24
"""So many prompts are made where the recipe names none of a kind that is not the first."""


@dataclass(frozen=True)
class Prompts:
    """The prompts of each kind; a kind without any cannot be measured, and says why."""

    kinds: Mapping[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    """The first noises that each prompt is drawn from."""
    missing: Mapping[str, str]
    """Why a kind has none."""

    def requests(self, kind: str) -> list[Request]:
        """The pictures of one kind: each prompt with every seed, all pictures of a prompt one after another.

        Each prompt has first noises of its own, so that no noise is in two of them.
        """
        first, several = self.seeds[0], len(self.seeds)
        offset = 100_000 * KINDS.index(kind)
        return [
            Request(prompt, first + offset + several * n + k)
            for n, prompt in enumerate(self.kinds[kind])
            for k in range(several)
        ]

    def groups(self, kind: str) -> list[int]:
        """The number of its prompt for each of the requests."""
        return [n for n, _ in enumerate(self.kinds[kind]) for _ in self.seeds]


def prompts(recipe: Recipe, captions: Sequence[str], trained: Sequence[str], wanted: Sequence[str] = KINDS) -> Prompts:
    """The recipe's own prompts; where it names none, the captions, these without the style's words, and pairs of them.

    `captions` are what is said of the pictures to come near to, `trained` what a training was told of its own; `wanted`
    are the kinds to draw.
    """
    asked, trigger = recipe.objective, recipe.text.trigger or ""
    domain = asked.change_prompts or _some(captions, recipe.evaluate.most_prompts, recipe.sample.seed)
    general = asked.keep_prompts or _without(domain, trigger)
    both = asked.complex_prompts or _pairs(domain, trigger)
    asked_for = _some(trained, FEW, recipe.sample.seed)
    kinds = {DOMAIN: tuple(domain), GENERAL: tuple(general), COMPLEX: tuple(both), TRAINED: tuple(asked_for)}
    why = {
        DOMAIN: "The pictures to come near to have no captions, and objective.change_prompts names none.",
        GENERAL: "objective.keep_prompts names none, and captions have no common words to leave out of them.",
        COMPLEX: "objective.complex_prompts names none, and there are fewer than two prompts to join.",
        TRAINED: "No training captions are known.",
    }
    seeds = tuple(recipe.sample.seed + k for k in range(recipe.evaluate.seeds))
    for kind, key in BESIDE.items():
        if len(kinds[kind]) * len(seeds) == 1:
            why[kind] = f"It would be one picture, and an interval takes two: {key} or evaluate.seeds can ask for more."
            kinds[kind] = ()
    held = {kind: kinds[kind] for kind in wanted if kinds[kind]}
    return Prompts(held, seeds, {kind: why[kind] for kind in wanted if kind not in held})


def _some(captions: Sequence[str], most: int, seed: int) -> list[str]:
    """At most so many of the captions, always the same ones, in their order."""
    chosen = sorted(set(captions), key=lambda text: (uniform(seed, "prompts", text), text))[:most]
    return [text for text in dict.fromkeys(captions) if text in set(chosen)]


def _without(domain: Sequence[str], trigger: str) -> list[str]:
    """Some of the prompts without the style's words."""
    said = dict.fromkeys(plain(text, trigger) for text in domain if trigger and text.startswith(trigger))
    return list(said)[:FEW]


def _pairs(domain: Sequence[str], trigger: str) -> list[str]:
    """Each of some prompts with what the next one asks for beside it."""
    few = list(domain)[: FEW + 1]
    return [f"{one} and {plain(other, trigger)}" for one, other in itertools.pairwise(few)]
