"""New rows turned into better ones: with them, prompts get the states that their lessons ask for."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bespoke.seeds import permutation
from bespoke.words.lessons import Lesson, Reader, answers, trying

Report = Callable[[str, int, int], object]
STEPS = 150
RATE = 0.1
"""The step, in units of a row's mean square number; it sinks to nothing along a cosine."""
WORDS, LESSONS = 16, 2
"""So many words are refined together, each by so many lessons a step."""
PULL = 0.1
"""What a norm that is not the median's costs, in units of the median."""


def distil(
    reader: Reader, words: Sequence[str], rows: Float[Tensor, "n d"], taught: Sequence[Sequence[Lesson]],
    norm: float, *, seed: int, steps: int = STEPS, report: Report = lambda *_: None,
) -> Float[Tensor, "n d"]:  # fmt: skip
    """Rows of words after so many steps of Adam through the frozen text encoder; those without lessons stay.

    Only rows get gradients. A word's result depends on its own lessons alone: losses are summed over words, and the
    order of a word's lessons is keyed by the word.
    Source: token distillation, Dobler et al. 2025, arXiv 2505.20133.
    """
    assert not any(p.requires_grad for p in reader.text_encoder.parameters()), "the text encoder is frozen"
    found = rows.clone()
    numbers = [number for number, own in enumerate(taught) if own]
    groups = [numbers[start : start + WORDS] for start in range(0, len(numbers), WORDS)]
    for done, group in enumerate(groups):
        orders = [Order(words[n], taught[n], seed) for n in group]
        found[group] = _refined(
            reader, rows[group], orders, norm, steps,
            lambda step, done=done: report("refine new words", done * steps + step, len(groups) * steps),
        )  # fmt: skip
    return found


class Order:
    """A word's lessons, again and again, each time in an order of its own."""

    def __init__(self, word: str, own: Sequence[Lesson], seed: int) -> None:
        self.word, self.own, self.seed = word, own, seed

    def of(self, step: int) -> list[Lesson]:
        """The lessons of one step."""
        places = range(step * LESSONS, (step + 1) * LESSONS)
        return [self.own[self._order(place // len(self.own))[place % len(self.own)]] for place in places]

    def _order(self, turn: int) -> list[int]:
        return permutation(len(self.own), self.seed, "distil", self.word, turn).tolist()


def _refined(
    reader: Reader, rows: Float[Tensor, "n d"], orders: Sequence[Order], norm: float, steps: int,
    report: Callable[[int], object],
) -> Float[Tensor, "n d"]:  # fmt: skip
    """The rows of one group."""
    rate = RATE * norm / math.sqrt(rows.shape[1])
    with trying(reader.text_encoder, rows) as parameter:
        optimizer = torch.optim.Adam([parameter], lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
        for step in range(steps):
            asked = [(lesson, number) for number, order in enumerate(orders) for lesson in order.of(step)]
            far = (parameter.norm(dim=1) / norm - 1).abs().sum()
            loss = answers(reader, asked).error().sum() / LESSONS + PULL * far
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            report(step + 1)
        return parameter.detach().cpu().clone()
