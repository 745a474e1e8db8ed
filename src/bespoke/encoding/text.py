"""Captions turned into the text encoder's states."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bespoke.shapes import TextRows, TextStates
from bespoke.text import Span, unweighed, weighed


class TextEncoder:
    """Encodes captions as Stable Diffusion does: padded and cut to the model's length, last layer, normalised.

    Words with a weight, `(red hat:1.3)`, stand so much further from what the empty caption gives.
    """

    def __init__(self, tokenizer: Any, encoder: Any, device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = tokenizer, encoder.to(device), device

    def __call__(self, captions: Sequence[str]) -> TextStates:
        """The states of captions, one at a time so that no row depends on its neighbours."""
        return torch.cat([self._weighed(caption) for caption in captions])

    def _weighed(self, caption: str) -> TextStates:
        """The states of one caption. Source: ComfyUI's weights, which A1111's resemble."""
        text, spans = weighed(caption)
        states = self._states(text)
        if not spans:
            return states
        weights = _weights(self.tokenizer, text, spans)
        return self._empty + weights[None, :, None] * (states - self._empty)

    @cached_property
    def _empty(self) -> TextStates:
        return self._states("")

    @torch.no_grad()
    def _states(self, text: str) -> TextStates:
        return self.encoder(_ids(self.tokenizer, text)[None].to(self.device))[0].float().cpu()


def tokens(tokenizer: Any, captions: Sequence[str]) -> TextRows:
    """Captions for a text encoder that is trained: the tokens of each.

    Where any caption has weights, the weight of each token and the tokens of the empty caption stand below them.
    """
    read = [weighed(caption) for caption in captions]
    ids = torch.stack([_ids(tokenizer, text) for text, _ in read])
    if not any(spans for _, spans in read):
        return ids[:, None].float()
    weights = torch.stack([_weights(tokenizer, text, spans) for text, spans in read])
    empty = _ids(tokenizer, "").expand_as(ids)
    return torch.stack([ids.float(), weights, empty.float()], dim=1)


def _ids(tokenizer: Any, text: str) -> Tensor:
    """A text's tokens, padded and cut to the model's length."""
    length = tokenizer.model_max_length
    return tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids[0]


def _weights(tokenizer: Any, text: str, spans: Sequence[Span]) -> Tensor:
    """What each of a text's tokens counts for; 1 outside the spans."""
    weights = torch.ones(tokenizer.model_max_length)
    offsets = tokenizer(text, truncation=True, return_offsets_mapping=True)["offset_mapping"]
    for place, (begin, end) in enumerate(offsets):
        weights[place] = next((s.weight for s in spans if begin < s.end and s.begin < end), 1.0)
    return weights


def too_long(tokenizer: Any, captions: Sequence[str]) -> list[str]:
    """The captions whose end the model does not see."""
    return [text for text in captions if len(tokenizer(unweighed(text)).input_ids) > tokenizer.model_max_length]
