"""Prompts with a place for a word turned into lessons: the states that a new row should give there and after it."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bespoke.models import SplitEmbedding, written

TEMPLATES = (
    "a photo of a {}", "a picture of a {}", "an illustration of a {}", "a drawing of a {}", "a painting of a {}",
    "a close-up photo of a {}", "a photo of the {}", "a photo of one {}", "a {} on a white background", "the {}",
    "a blurred photo of a {} in the background", "a small {} on a red background", "a large {} beside a house",
    "a photo of a {} in a city", "a {} in front of a blue sky", "a red {}", "a black and white photo of a {}",
    "a poster with a {} on it", "a {} and a dog", "a cat and a {}", "a bright photo of a {} on green grass",
    "a dark photo of a {} at night", "a {} on a wooden table", "a man with a {}", "a {} made of glass", "{}",
    "a good photo of a {}", "a yellow {} on a black background", "a cartoon of a {} with a hat", "two pictures of a {}",
    "a {} under a tree", "a detailed image of a {} in soft light",
)  # fmt: skip
NEW = -1
"""Stands in a lesson's ids for the new token."""
PADS = 3
"""How many of the padding's states a lesson holds: the UNet sees them, and they hold on to what came before."""
MOST = 16
"""So many captions of a word are lessons, beside the templates."""
TOGETHER = 64


@dataclass(frozen=True)
class Context:
    """A prompt with a gap."""

    left: str
    right: str


@dataclass(frozen=True, eq=False)
class Lesson:
    """A prompt's ids with the new token at `spot`; what the states from there on should be, of which `end` is EOS."""

    ids: tuple[int, ...]
    spot: int
    end: int
    target: Float[Tensor, "p d"]


@dataclass(frozen=True, eq=False)
class Reader:
    """A base's tokenizer and its frozen text encoder."""

    tokenizer: Any
    text_encoder: Any

    @property
    def size(self) -> int:
        """How many tokens the base knows."""
        return len(self.tokenizer)

    @property
    def table(self) -> Float[Tensor, "v d"]:
        """The rows of the base's tokens, float32, on the host."""
        return self.text_encoder.get_input_embeddings().weight.detach()[: self.size].float().cpu()

    def pieces(self, text: str) -> list[int]:
        """A text's ids, without begin and end."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def filled(self, context: Context, slot: Sequence[int]) -> list[int]:
        """A context's ids with some in its gap, from begin to end, and a few of the padding's; not cut."""
        t = self.tokenizer
        around = self.pieces(context.left), self.pieces(context.right)
        return [t.bos_token_id, *around[0], *slot, *around[1], t.eos_token_id, *([t.pad_token_id] * PADS)]

    def states(self, ids: Sequence[Sequence[int]]) -> Float[Tensor, "b l d"]:
        """The states of prompts, as long as the longest: what follows a token does not change its state."""
        length = max(map(len, ids))
        rows = [[*row, *([self.tokenizer.pad_token_id] * (length - len(row)))] for row in ids]
        return self.text_encoder(torch.tensor(rows, device=self.text_encoder.device)).last_hidden_state.float()


def contexts(surfaces: Sequence[str], captions: Sequence[str]) -> list[Context]:
    """The templates' gaps, and gaps where captions, at most 16, have the word."""
    found = [Context(*(part.strip() for part in template.split("{}"))) for template in TEMPLATES]
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, surfaces))})(?!\w)")
    for caption in dict.fromkeys(map(written, captions)):
        if len(found) == len(TEMPLATES) + MOST:
            break
        if match := pattern.search(caption):
            found.append(Context(caption[: match.start()], caption[match.end() :]))
    return found


def fitting(reader: Reader, places: Sequence[Context], slots: Sequence[Sequence[int]]) -> list[Context]:
    """The contexts that stay within the model's length with each slot in their gap."""
    longest = max(slots, key=len)
    return [place for place in places if len(reader.filled(place, longest)) <= reader.tokenizer.model_max_length]


@torch.no_grad()
def lessons(reader: Reader, places: Sequence[Context], slots: Sequence[Sequence[int]]) -> list[Lesson]:
    """One lesson for each context, which must be fitting: the mean of what the slots give in its gap.

    The new token stands where a slot's last token does, and what follows is aligned from there.
    """
    full = [reader.filled(place, slot) for slot in slots for place in places]
    tails = [len(reader.pieces(place.right)) + 2 + PADS for place in places] * len(slots)
    states: list[Tensor] = []
    for start in range(0, len(full), TOGETHER):
        part = full[start : start + TOGETHER]
        rows = zip(reader.states(part), part, tails[start : start + TOGETHER], strict=True)
        states += [row[len(ids) - tail : len(ids)].cpu() for row, ids, tail in rows]
    found: list[Lesson] = []
    for number, place in enumerate(places):
        ids = reader.filled(place, [NEW])
        spot, target = ids.index(NEW), torch.stack(states[number :: len(places)]).mean(dim=0)
        found.append(Lesson(tuple(ids), spot, len(ids) - PADS - 1 - spot, target))
    return found


@contextmanager
def trying(text_encoder: Any, rows: Float[Tensor, "n d"]) -> Generator[nn.Parameter, None, None]:
    """A block in which ids from the table's size on stand for rows that are tried; a parameter that may be trained."""
    own = text_encoder.get_input_embeddings()
    split = SplitEmbedding(own, rows, torch.arange(len(rows)))
    text_encoder.set_input_embeddings(split)
    try:
        yield split.rows
    finally:
        text_encoder.set_input_embeddings(own)


def answers(reader: Reader, asked: Sequence[tuple[Lesson, int]]) -> "Answers":
    """What rows that are tried give in lessons: pairs of a lesson and the row's number."""
    ids = [[reader.size + row if i == NEW else i for i in lesson.ids] for lesson, row in asked]
    states = reader.states(ids)
    counts = [len(lesson.target) for lesson, _ in asked]
    places = torch.arange(max(counts))[None].repeat(len(asked), 1)
    spots = torch.tensor([lesson.spot for lesson, _ in asked])[:, None]
    ends = torch.tensor([lesson.end for lesson, _ in asked])
    inside = places < torch.tensor(counts)[:, None]
    index = torch.where(inside, places + spots, 0).to(states.device)
    found = states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))
    targets = nn.utils.rnn.pad_sequence([lesson.target for lesson, _ in asked], batch_first=True)
    return Answers(found, targets.to(found), inside.to(found.device), ends.to(found.device))


@dataclass(frozen=True, eq=False)
class Answers:
    """States from the new token on beside what they should be; `inside` tells them from padding."""

    states: Float[Tensor, "b p d"]
    targets: Float[Tensor, "b p d"]
    inside: Tensor
    ends: Int[Tensor, " b"]

    def cosine_at_end(self) -> Float[Tensor, " b"]:
        """How alike the prompts' last states are, which CLIP pools."""
        return _at(self._cosines(), self.ends)

    def likeness(self) -> Float[Tensor, " b"]:
        """Cosines, half for the last state and half for the mean of all others."""
        return self._weighed(self._cosines())

    def error(self) -> Float[Tensor, " b"]:
        """1 - cosine + 0.1 × mean square, weighed as the likeness is. Source: token distillation, arXiv 2505.20133."""
        return self._weighed(1 - self._cosines() + 0.1 * (self.states - self.targets).square().mean(dim=-1))

    def _cosines(self) -> Float[Tensor, "b p"]:
        return F.cosine_similarity(self.states, self.targets, dim=-1)

    def _weighed(self, values: Float[Tensor, "b p"]) -> Float[Tensor, " b"]:
        end = _at(values, self.ends)
        rest = torch.where(self.inside, values, 0).sum(dim=1) - end
        return (end + rest / (self.inside.sum(dim=1) - 1)) / 2


@torch.no_grad()
def graded(
    reader: Reader, rows: Float[Tensor, "n d"], tests: Sequence[Sequence[Lesson]]
) -> list[tuple[Tensor, Tensor]]:
    """For each row, over its own lessons: likenesses, and cosines at the end."""
    asked = [(lesson, number) for number, own in enumerate(tests) for lesson in own]
    likeness, ends = [torch.zeros(0)], [torch.zeros(0)]
    with trying(reader.text_encoder, rows):
        for start in range(0, len(asked), TOGETHER):
            found = answers(reader, asked[start : start + TOGETHER])
            likeness.append(found.likeness().cpu())
            ends.append(found.cosine_at_end().cpu())
    counts = [len(own) for own in tests]
    return list(zip(torch.cat(likeness).split(counts), torch.cat(ends).split(counts), strict=True))


def _at(values: Float[Tensor, "b p"], places: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    return values.gather(1, places[:, None])[:, 0]
