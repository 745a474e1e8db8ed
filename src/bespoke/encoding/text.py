"""Captions turned into the text encoder's states: in windows of 75 tokens, so that none is too long."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import reading
from bespoke.models.families import T5_TOKENS
from bespoke.shapes import TextRows, TextStates
from bespoke.text import Part, Prompt, read

BACK = 20
"""So many tokens before a window's end a comma is sought, so that a clause stays in one window."""
COUNTS = (1, 2, 3, 4, 6, 12)
"""How many windows a prompt may have; what lies between is filled up with empty ones. Of any two of these the least
common multiple is among them, so that in no batch prompts grow beyond it."""


@dataclass(frozen=True)
class Window:
    """What the text encoder reads at once."""

    ids: tuple[int, ...]
    """The tokens, without the marks of beginning and end."""
    weights: tuple[float, ...]


class TextEncoder:
    """Encodes captions as Stable Diffusion does: padded to the model's length, last layer, normalised.

    What is longer is read in several windows, whose states stand one behind the other. Words with a weight,
    `(red hat:1.3)`, stand so much further from what the empty caption gives.
    """

    before = 1
    """How many marks stand before a window's tokens."""

    def __init__(self, tokenizer: Any, encoder: Any, device: torch.device, skip: int = 0) -> None:
        """`skip` of the encoder's last layers are left out; what comes before them is normalised all the same."""
        self.tokenizer, self.encoder, self.device, self.skip = tokenizer, encoder.to(device), device, skip
        layers = encoder.config.num_hidden_layers
        if skip >= layers:
            raise BespokeError(f"sample.clip_skip is {skip}, and the text encoder has {layers} layers.", "Lower it.")

    def __call__(self, captions: Sequence[str]) -> TextStates:
        """The states of captions, one at a time so that no row depends on its neighbours; fitted to one another."""
        return fitted([self.weighed(caption) for caption in captions])

    def weighed(self, caption: str) -> Tensor:
        """The states of a caption, [windows × tokens, features]. Source: ComfyUI's weights, which A1111's resemble."""
        return torch.cat([self._window(window) for window in windows(self.tokenizer, read(caption))])

    def _window(self, window: Window) -> Tensor:
        states = self.states(window.ids)
        if set(window.weights) <= {1.0}:
            return states
        weights = torch.tensor(_framed(window.weights, len(states), self.before))
        return self._empty + weights[:, None] * (states - self._empty)

    @cached_property
    def _empty(self) -> Tensor:
        return self.states(())

    @torch.no_grad()
    def states(self, ids: Sequence[int]) -> Tensor:
        """The states of a window's tokens, [tokens, features]."""
        row = _whole(self.tokenizer, ids)[None].to(self.device)
        if not self.skip:
            return self.encoder(row)[0][0].float().cpu()
        hidden = self.encoder(row, output_hidden_states=True).hidden_states[-1 - self.skip]
        inner = getattr(self.encoder, "text_model", self.encoder)  # as older transformers have it
        return inner.final_layer_norm(hidden)[0].float().cpu()


class PairedTextEncoder:
    """Encodes captions as SDXL does: the states of two text encoders side by side, and a summary in a row of its own.

    Both are read before their last layer, without its normalisation. The summary, what the second encoder says of the
    caption as a whole, is that of the first window, and knows no weights; it is filled up with zeros.
    Source: Podell et al. 2023, arXiv 2307.01952, section 2.1; the windows' summary is ComfyUI's.
    """

    def __init__(self, readers: Sequence[tuple[Any, Any]], device: torch.device, skip: int = 0) -> None:
        """`readers` are tokenizers with their text encoders; `skip` more layers of each are left out."""
        self._parts = [_Inner(tokenizer, encoder, device, skip) for tokenizer, encoder in readers]

    def __call__(self, captions: Sequence[str]) -> TextStates:
        """The states of captions with the summary last, each [windows × tokens + 1, features], fitted."""
        return fitted([self._row(caption) for caption in captions], summarised=True)

    def _row(self, caption: str) -> Tensor:
        states = torch.cat([part.weighed(caption) for part in self._parts], dim=1)
        last = self._parts[-1]
        summary = last.summary(windows(last.tokenizer, read(caption))[0].ids)
        return torch.cat([states, _widened(summary[None], states.shape[1])])


class JointTextEncoder:
    """Encodes captions as Stable Diffusion 3 does: the states of two CLIPs side by side, those of T5 below, a summary.

    CLIP's are read before their last layer, without its normalisation. What is missing to the transformer's width is
    zeros, and so is T5's part where there is none. The summary is that of both CLIPs, side by side. Each reads once
    what it can hold, 77 and 256 tokens: the transformer attends to pictures and texts together, so that more states
    would take from the picture's share, and repeated ones are not the same as once.
    Source: Esser et al. 2024, arXiv 2403.03206, section 4; numbers and zeros are diffusers'.
    """

    def __init__(self, readers: Sequence[tuple[Any, Any]], device: torch.device, width: int, skip: int = 0) -> None:
        """`readers` are those of two CLIPs and perhaps T5; `skip` more layers of CLIP's are left out."""
        self._parts = [_Opening(tokenizer, encoder, device, skip) for tokenizer, encoder in readers[:2]]
        self._below = _Spelling(*readers[2], device) if len(readers) > 2 else None
        self._width = width

    def __call__(self, captions: Sequence[str]) -> TextStates:
        """The states of captions with the summary last, each [77 + 256 + 1, width]."""
        return torch.stack([self._row(caption) for caption in captions])

    def _row(self, caption: str) -> Tensor:
        states = torch.cat([part.weighed(caption) for part in self._parts], dim=1)
        below = self._below.weighed(caption) if self._below else torch.zeros(T5_TOKENS, self._width)
        summary = torch.cat([part.summary(part.opening(caption).ids) for part in self._parts])
        return torch.cat([_widened(states, self._width), below, _widened(summary[None], self._width)])


class _Inner(TextEncoder):
    """One of several text encoders, read before its last layer."""

    @torch.no_grad()
    def states(self, ids: Sequence[int]) -> Tensor:
        """The states of a window's tokens, [tokens, features], not normalised."""
        row = _whole(self.tokenizer, ids)[None].to(self.device)
        return reading.inner(self.encoder, row, self.skip)[0][0].float().cpu()

    @torch.no_grad()
    def summary(self, ids: Sequence[int]) -> Tensor:
        """What the encoder says of a window as a whole, [features]."""
        return self.encoder(_whole(self.tokenizer, ids)[None].to(self.device)).text_embeds[0].float().cpu()


class _Opening(_Inner):
    """One of two CLIPs that read no more than they can hold at once."""

    def weighed(self, caption: str) -> Tensor:
        """The states of a caption's first tokens, [tokens, features]."""
        return self._window(self.opening(caption))

    def opening(self, caption: str) -> Window:
        """A caption's first tokens."""
        return _opening(self.tokenizer, caption, self.before)


class _Spelling(_Opening):
    """T5, which has no mark of the beginning; its padding is read, too, as diffusers has it."""

    before = 0

    @torch.no_grad()
    def states(self, ids: Sequence[int]) -> Tensor:
        """The states of a prompt's tokens, [tokens, features]."""
        return self.encoder(_padded(self.tokenizer, ids)[None].to(self.device))[0][0].float().cpu()


def text_encoder(
    readers: Sequence[tuple[Any, Any]], device: torch.device, skip: int = 0, joint: int = 0
) -> TextEncoder | PairedTextEncoder | JointTextEncoder:
    """What encodes captions for a model with these tokenizers and text encoders.

    `joint` is the width of what a transformer attends to together with pictures, where the model is drawn by one.
    """
    if joint:
        return JointTextEncoder(readers, device, joint, skip)
    return TextEncoder(*readers[0], device, skip) if len(readers) == 1 else PairedTextEncoder(readers, device, skip)


def fitted(rows: Sequence[Tensor], *, summarised: bool = False) -> Tensor:
    """Rows of equal or unequal numbers of windows, each [tokens ...], stacked: [n tokens ...].

    Shorter ones are repeated whole. To what attends to them that is the same as once: every key is there equally often,
    and shares of attention add up. So no caption depends on those beside it. A last row that is a summary stays one.
    Source: ComfyUI's `CONDCrossAttn`.
    """
    last = [row[-1:] for row in rows] if summarised else [row[:0] for row in rows]
    states = [row[:-1] for row in rows] if summarised else rows
    length = math.lcm(*map(len, states))
    longer = [each.repeat(length // len(each), *[1] * (each.dim() - 1)) for each in states]
    return torch.stack([torch.cat(pair) for pair in zip(longer, last, strict=True)])


def windows(tokenizer: Any, prompt: Prompt) -> list[Window]:
    """The windows of a prompt: its parts cut at commas or between words; at least one, and as many as `COUNTS` allow.

    What is beyond the last is lost; `too_long` tells of it.
    """
    found = [window for part in prompt.parts for window in _cut(tokenizer, part)][: COUNTS[-1]]
    count = next(count for count in COUNTS if count >= len(found))
    return found + [Window((), ())] * (count - len(found))


def spelling(tokenizer: Any, encoder: Any, device: torch.device) -> Callable[[str], Tensor]:
    """What gives T5's states of a caption, [256, features], as they lie below CLIP's."""
    return _Spelling(tokenizer, encoder, device).weighed


def tokens(
    tokenizers: Sequence[Any], captions: Sequence[str], *, zeros: bool = False, opening: bool = False
) -> list[TextRows]:
    """Captions for text encoders that are trained, each [1 tokens rows]: what its tokens are to each tokenizer.

    Where any caption has weights, all have more rows: each token's weight, and the tokens of the empty caption. With
    `zeros` the empty caption is marked as one whose states are zeros. With `opening` only a caption's first tokens are
    there, and always the weights. `models.reading` takes them.
    """

    def windowed(tokenizer: Any, caption: str) -> list[Window]:
        return [_opening(tokenizer, caption)] if opening else windows(tokenizer, read(caption))

    cut = [(caption, [windowed(one, caption) for one in tokenizers]) for caption in captions]
    weighed = opening or any(set(window.weights) - {1.0} for _, each in cut for one in each for window in one)
    empty = torch.stack([_whole(one, ()) for one in tokenizers], dim=1)

    def rows(caption: str, those: Sequence[Window]) -> Tensor:
        ids = torch.stack([_whole(one, window.ids) for one, window in zip(tokenizers, those, strict=True)], dim=1)
        ids = torch.full_like(ids, reading.LEFT_OUT) if zeros and not caption else ids
        weights = torch.tensor(_framed(those[0].weights, len(ids)))[:, None]
        return torch.cat([ids, weights, empty] if weighed else [ids], dim=1).float()

    return [torch.cat([rows(caption, those) for those in zip(*each, strict=True)])[None] for caption, each in cut]


def spelt_tokens(tokenizer: Any, captions: Sequence[str]) -> list[TextRows]:
    """Captions for a T5 whose new words are trained, each [1 256 3]: tokens, their weights, those of the empty caption.

    `models.reading` takes them, below those of two CLIPs.
    """
    empty = _padded(tokenizer, ())

    def row(caption: str) -> Tensor:
        window = _opening(tokenizer, caption, before=0)
        weights = torch.tensor(_framed(window.weights, T5_TOKENS, before=0))
        return torch.stack([_padded(tokenizer, window.ids), weights, empty], dim=1).float()

    return [row(caption)[None] for caption in captions]


def _padded(tokenizer: Any, ids: Sequence[int]) -> Tensor:
    """A prompt's tokens as T5 reads them, [256]: a mark of the end, and padding."""
    row = [*ids, tokenizer.eos_token_id]
    return torch.tensor(row + [tokenizer.pad_token_id] * (T5_TOKENS - len(row)))


def _opening(tokenizer: Any, caption: str, before: int = 1) -> Window:
    """A caption's first tokens, cut wherever there is room for no more, as diffusers cuts them."""
    ids, _, weights = _pieces(tokenizer, read(caption).whole)
    room = _most(tokenizer) - 1 - before
    return Window(tuple(ids[:room]), tuple(weights[:room]))


def too_long(tokenizer: Any, captions: Sequence[str]) -> list[str]:
    """The captions that one window does not hold: what a model that reads 77 tokens, or T5's 256, would cut."""
    most = _most(tokenizer)
    return [text for text in captions if len(tokenizer(read(text).text, verbose=False).input_ids) > most]


def told_long(tokenizer: Any, captions: Sequence[str], *, windowed: bool) -> str:
    """How many captions are too long, and what of the first is or would be lost, in words; nothing where none is.

    `windowed` says whether the rest is read all the same.
    """
    long, most = too_long(tokenizer, captions), _most(tokenizer)
    if not long:
        return ""
    if windowed:
        return f"{len(long)} read in windows of {most - 2} tokens; {lost(tokenizer, long[0])}"
    return f"{len(long)} longer than the {most} tokens that are read; lost is {_beyond(tokenizer, long[0])}"


def lost(tokenizer: Any, caption: str) -> str:
    """What a model that reads 77 tokens would cut off a caption that is too long, in words."""
    return f"a model of {_most(tokenizer)} tokens would lose {_beyond(tokenizer, caption)}"


def _beyond(tokenizer: Any, caption: str) -> str:
    """The beginning of what is not read at once of a caption that is too long, in quotes."""
    text = read(caption).text
    places = tokenizer(text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return f"“{text[places[_most(tokenizer) - 2][1] :].strip()[:60]}”"


def _cut(tokenizer: Any, part: Part) -> list[Window]:
    """A part's tokens in windows, none of which ends within a word."""
    ids, offsets, weights = _pieces(tokenizer, part)
    windows_, begin, size = list[Window](), 0, tokenizer.model_max_length - 2
    while begin < len(ids) or not windows_:
        end = _end(part.text, offsets, begin, size)
        windows_.append(Window(tuple(ids[begin:end]), tuple(weights[begin:end])))
        begin = end
    return windows_


def _pieces(tokenizer: Any, part: Part) -> tuple[list[int], list[tuple[int, int]], list[float]]:
    """A part's tokens, without marks; the letters that each stands for, first and behind the last; and its weight."""
    found = tokenizer(part.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = [_letters(part.text, *place) for place in found["offset_mapping"]]
    weights = [next((s.weight for s in part.spans if begin < s.end and s.begin < end), 1.0) for begin, end in offsets]
    return list(found["input_ids"]), offsets, weights


def _letters(text: str, begin: int, end: int) -> tuple[int, int]:
    """A token's place without the space before it, which T5's tokens begin with."""
    spaces = end - begin - len(text[begin:end].lstrip())
    return (begin + spaces, end) if begin + spaces < end else (begin, end)


def _most(tokenizer: Any) -> int:
    """How many tokens are read at once, marks among them: CLIP's tokenizers know it; T5's would read more."""
    return min(int(tokenizer.model_max_length), T5_TOKENS)


def _widened(rows: Tensor, width: int) -> Tensor:
    """Rows filled up with zeros."""
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]))


def _end(text: str, offsets: Sequence[tuple[int, int]], begin: int, size: int) -> int:
    """Where a window ends: behind its last comma if that is near its end, else before the last space.

    Tokens between which no space stands belong together: "half-timbered", "35mm".
    """
    most = begin + size
    if most >= len(offsets):
        return len(offsets)
    spaces = [n for n in range(begin + 1, most + 1) if offsets[n - 1][1] < offsets[n][0]]
    commas = [n for n in spaces if n > most - BACK and text[offsets[n - 1][0] : offsets[n - 1][1]].endswith(",")]
    return (commas or spaces or [most])[-1]


def _whole(tokenizer: Any, ids: Sequence[int]) -> Tensor:
    """A window's tokens between the marks of beginning and end, padded to the model's length: int64 [tokens]."""
    found = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return torch.tensor(found + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(found)))


def _framed(weights: Sequence[float], length: int, before: int = 1) -> list[float]:
    """The weights of a window's tokens with those of its marks and its padding, which weigh 1."""
    return [*[1.0] * before, *weights, *[1.0] * (length - before - len(weights))]
