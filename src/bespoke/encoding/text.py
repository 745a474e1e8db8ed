"""Captions turned into the text encoder's states."""

from collections.abc import Sequence
from typing import Any

import torch

from bespoke.shapes import TextStates


class TextEncoder:
    """Encodes captions as Stable Diffusion does: padded and cut to the model's length, last layer, normalised."""

    def __init__(self, tokenizer: Any, encoder: Any, device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = tokenizer, encoder.to(device), device

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> TextStates:
        """The states of captions, one at a time so that no row depends on its neighbours."""
        return torch.cat([self.encoder(self._ids(text).to(self.device))[0].float().cpu() for text in captions])

    def _ids(self, text: str) -> torch.Tensor:
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return tokens.input_ids


def too_long(tokenizer: Any, captions: Sequence[str]) -> list[str]:
    """The captions whose end the model does not see."""
    return [text for text in captions if len(tokenizer(text).input_ids) > tokenizer.model_max_length]
