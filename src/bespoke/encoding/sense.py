"""Captions turned into one vector each, whose cosine says how alike they are to the text encoder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

BATCH = 64


class Sense:
    """Reads captions as the model's own text encoder does: the last state of the mark of the end."""

    def __init__(self, tokenizer: Any, encoder: Any, device: torch.device) -> None:
        self.tokenizer, self.encoder, self.device = tokenizer, encoder.to(device), device

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """A row of length 1 for each caption: float32 [n d]. What is beyond the model's length is not heard."""
        rows = [self._batch(captions[start : start + BATCH]) for start in range(0, len(captions), BATCH)]
        return np.concatenate(rows) if rows else np.empty((0, 0), np.float32)

    def _batch(self, captions: Sequence[str]) -> np.ndarray:
        most = self.tokenizer.model_max_length
        read = self.tokenizer(
            list(captions), padding="max_length", max_length=most, truncation=True, return_tensors="pt"
        ).input_ids
        states = self.encoder(read.to(self.device))[0].float().cpu()
        # The first mark of the end, wherever the model's own pooling looks: it may be the largest id, or a setting.
        ends = (read == self.tokenizer.eos_token_id).int().argmax(dim=1)
        found = states[torch.arange(len(captions)), ends]
        return torch.nn.functional.normalize(found, dim=-1).numpy()
