"""A comparison of models turned into what each rater is shown: which pairs, in which order, on which side."""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from bespoke import seeds
from bespoke.errors import BespokeError

APART = 5
"""At least so many other pairs lie between a pair and its repetition, where there are so many."""
LONGEST_NAME = 60


@dataclass(frozen=True)
class Item:
    """What every model drew once."""

    name: str
    """The name of the pictures' files, without its ending."""
    prompt: str
    pixels: tuple[str, ...]
    """The hash of each model's picture, in the order of the models: a rating is of these pixels."""

    @property
    def group(self) -> str:
        """What is resampled whole: the prompt or, where none is known, the picture itself."""
        return self.prompt or self.name


@dataclass(frozen=True)
class Trial:
    """Two pictures that a rater is shown."""

    position: int
    """Its place in the rater's sequence, from 0."""
    item: int
    left: str
    right: str
    """The models that drew the pictures."""
    repeated: bool = False
    """Whether this rater was shown this pair before, on other sides."""


@dataclass(frozen=True)
class Comparison:
    """Models, what they drew, and how pairs are laid out."""

    models: tuple[str, ...]
    items: tuple[Item, ...]
    seed: int = 0
    repeated: float = 0.2
    """The part of the pairs that each rater is shown twice, from 0 to 1."""

    def trials(self, rater: str) -> tuple[Trial, ...]:
        """What a rater is shown: every pair of models on every item in the rater's own order, some of it twice.

        Of each two models' pairs, as many have the one on the left as the other, or one more. A repetition has the
        sides changed, and comes at least five pairs later where there are that many more.
        """
        pairs = self._pairs(rater)
        order = seeds.permutation(len(pairs), self.seed, "blind", "order", rater)
        sequence = [pairs[number] for number in order]
        places = [(float(place), trial) for place, trial in enumerate(sequence)]
        places += self._repetitions(sequence, rater)
        places.sort(key=lambda placed: placed[0])
        return tuple(
            Trial(position, trial.item, trial.left, trial.right, trial.repeated)
            for position, (_, trial) in enumerate(places)
        )

    def masks(self) -> dict[str, str]:
        """A name for each model that does not tell which it is, in a random order."""
        order = seeds.permutation(len(self.models), self.seed, "blind", "masks")
        return {model: f"model {number + 1}" for model, number in zip(self.models, order, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """The comparison as the store of ratings holds it."""
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Comparison":
        """The comparison that `to_json` wrote."""
        items = tuple(Item(item["name"], item["prompt"], tuple(item["pixels"])) for item in content["items"])
        return Comparison(tuple(content["models"]), items, content["seed"], content["repeated"])

    def _pairs(self, rater: str) -> list[Trial]:
        pairs: list[Trial] = []
        for number, (first, second) in enumerate(combinations(self.models, 2)):
            key = (self.seed, "blind", "sides", rater, number)
            begin = int(seeds.generator(*key).integers(2))
            for place, item in enumerate(seeds.permutation(len(self.items), *key, "items")):
                left, right = (first, second) if (place + begin) % 2 else (second, first)
                pairs.append(Trial(0, int(item), left, right))
        return pairs

    def _repetitions(self, sequence: list[Trial], rater: str) -> list[tuple[float, Trial]]:
        """Pairs to be shown again, each with the place in the sequence after which it comes."""
        count, draw = len(sequence), seeds.generator(self.seed, "blind", "repeated", rater)
        apart = min(APART, count - 1)
        # Those with enough pairs behind them come first.
        places = sorted(draw.permutation(count).tolist(), key=lambda place: place + apart >= count)
        again: list[tuple[float, Trial]] = []
        for place in places[: round(self.repeated * count)]:
            shown, earliest = sequence[place], place + apart + 0.5
            later = earliest + draw.random() * max(0.0, count - earliest)
            again.append((later, Trial(0, shown.item, shown.right, shown.left, repeated=True)))
        return again


def rater_name(text: str) -> str:
    """The name as it is kept: single spaces, none around it.

    Raises:
        BespokeError: it is empty, too long, or holds what cannot be printed.
    """
    name = " ".join(text.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise BespokeError("A rater needs a name.", f"Give one of 1 to {LONGEST_NAME} letters.")
    return name
