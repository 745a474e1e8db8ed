"""Captions turned into the text encoder's states."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from bespoke.shapes import TextStates
from bespoke.text import unweighed, weighed


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
        offsets = self.tokenizer(text, truncation=True, return_offsets_mapping=True)["offset_mapping"]
        weights = torch.ones(states.shape[1])
        for place, (begin, end) in enumerate(offsets):
            weights[place] = next((s.weight for s in spans if begin < s.end and s.begin < end), 1.0)
        return self._empty + weights[None, :, None] * (states - self._empty)

    @cached_property
    def _empty(self) -> TextStates:
        return self._states("")

    @torch.no_grad()
    def _states(self, text: str) -> TextStates:
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return self.encoder(tokens.input_ids.to(self.device))[0].float().cpu()


def too_long(tokenizer: Any, captions: Sequence[str]) -> list[str]:
    """The captions whose end the model does not see."""
    return [text for text in captions if len(tokenizer(unweighed(text)).input_ids) > tokenizer.model_max_length]
