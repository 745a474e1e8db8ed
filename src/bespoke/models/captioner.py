"""Pictures turned into words by a BLIP: the one that ships, a folder, or a hub id, all by the same code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bespoke.models.load import shipped, sought
from bespoke.models.quietly import quiet
from bespoke.seeds import generator

KNOWN = ("captioner", "pico-BLIP", "Salesforce/blip-image-captioning-base")
"""What is sought, and the names to advise."""
TOKENS_A_WORD = 3
"""Room for words that split into pieces; what is too long is cut at a word afterwards."""


@dataclass(frozen=True)
class Wording:
    """How captions are made."""

    prompt: str = ""
    """What every caption of a BLIP goes on from, as a part of it; what a Florence-2 or a service is asked."""
    num_beams: int = 3
    """How many beginnings are followed at once; of no meaning with `top_p`."""
    top_p: float | None = None
    """Words are drawn from the likeliest that hold this much probability; without it the likeliest caption is given."""
    repetition_penalty: float = 1.0
    """Above 1 a word that was said becomes less likely."""
    min_words: int = 3
    max_words: int = 40
    seed: int = 0
    """Seeds drawn words, together with the picture."""
    kind: str = "caption"
    """`short` and `long` are what a Florence-2 is asked for; otherwise something between."""


class Captions:
    """Whatever turns pixels into words on this machine: `name` is what was asked for."""

    name: str
    _device: torch.device
    _processor: Any

    @torch.no_grad()
    def captions(self, pictures: Sequence[Image.Image], keys: Sequence[str], wording: Wording) -> list[str]:
        """A caption for each RGB picture; `keys` say which picture each is, for words that are drawn.

        A caption does not depend on the other pictures of the batch.
        """
        pixels = self._pixels(pictures)
        if wording.top_p is None:
            return self._said(pixels, wording)
        said: list[str] = []
        for one, key in zip(pixels, keys, strict=True):
            with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
                torch.manual_seed(int(generator(wording.seed, "caption", key).integers(2**63)))
                said += self._said(one[None], wording)
        return said

    def _pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return self._processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(self._device)

    def _said(self, pixels: torch.Tensor, wording: Wording) -> list[str]:
        """What is said about the pictures of a batch."""
        raise NotImplementedError


class Blip(Captions):
    """A BLIP read from a folder or a hub id.

    Raises: BespokeError when there is no such model here or on the hub, or it is no BLIP.
    """

    def __init__(self, name: str | Path = "pico-BLIP", device: torch.device | str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoTokenizer, BlipForConditionalGeneration

        self.name, folder = str(name), shipped(name)
        self._device = torch.device(device)
        with quiet(), sought(name, *KNOWN):
            model: Any = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
            self._processor: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model = model.eval().requires_grad_(requires_grad=False).to(self._device)

    def _said(self, pixels: torch.Tensor, wording: Wording) -> list[str]:
        begun = self._tokenizer([wording.prompt] * len(pixels), return_tensors="pt").to(self._device)
        ids = self._model.generate(
            pixels, begun.input_ids, begun.attention_mask,
            **asked(wording, self._tokenizer, begun.input_ids.shape[1]),
        )  # fmt: skip
        said = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [shortened(text, wording.max_words) for text in said]


def asked(wording: Wording, tokenizer: Any, before: int = 0) -> dict[str, Any]:
    """How `generate` of transformers is to choose words; `before` tokens stand there already."""
    from transformers import LogitsProcessorList

    drawn = {"do_sample": True, "top_p": wording.top_p, "num_beams": 1}
    return {
        "repetition_penalty": wording.repetition_penalty,
        "max_length": before + TOKENS_A_WORD * wording.max_words,
        "logits_processor": LogitsProcessorList([_AtLeast(tokenizer, wording.min_words)]),
        **(drawn if wording.top_p else {"num_beams": wording.num_beams}),
    }


class _AtLeast:
    """Keeps a caption from ending before it has so many words."""

    def __init__(self, tokenizer: Any, words: int) -> None:
        self.tokenizer, self.words, self.end = tokenizer, words, tokenizer.sep_token_id

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores with the end forbidden where words are wanting."""
        for row, text in enumerate(self.tokenizer.batch_decode(ids, skip_special_tokens=True)):
            if len(text.split()) < self.words:
                scores[row, self.end] = -torch.inf
        return scores


def shortened(text: str, words: int) -> str:
    """The text's first words, without a preposition or an article left hanging at the end."""
    kept = text.split()[:words]
    if len(text.split()) > words:
        while len(kept) > 1 and kept[-1].lower().strip(",") in HANGING:
            kept.pop()
    return " ".join(kept).strip(" ,")


HANGING = frozenset({
    "a", "an", "the", "of", "on", "in", "at", "with", "and", "or", "to", "by", "for", "from", "next", "left", "right",
})  # fmt: skip
