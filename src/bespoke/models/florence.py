"""Pictures turned into words by a Florence-2, short or long, from a folder or a hub id."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bespoke.errors import BespokeError
from bespoke.models.captioner import KNOWN, Blip, Captions, Wording, asked, shortened
from bespoke.models.load import shipped, sought
from bespoke.models.quietly import quiet

TASKS = {"short": "<CAPTION>", "caption": "<DETAILED_CAPTION>", "long": "<MORE_DETAILED_CAPTION>"}
"""What is asked for by the kind of caption. Source: Xiao et al. 2023, "Florence-2", and the model card."""
NATIVE = "florence-community/Florence-2-base"


class Florence(Captions):
    """A Florence-2 read from a folder or a hub id, in the layout of transformers' own class.

    Raises: BespokeError when there is no such model here or on the hub, or it is in Microsoft's first layout, which
    only code that comes with the weights can read.
    """

    def __init__(self, name: str | Path, device: torch.device | str = "cpu") -> None:
        from transformers import AutoProcessor, Florence2ForConditionalGeneration

        self.name = str(name)
        self._device = torch.device(device)
        with quiet(), sought(name, "captioner", KNOWN[1], NATIVE):
            read: Any = Florence2ForConditionalGeneration.from_pretrained
            model, told = read(name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True)
            if told["missing_keys"] or told["mismatched_keys"]:
                raise BespokeError(f"{name} lacks weights of a Florence-2 as transformers knows it.", f"Name {NATIVE}.")
            self._asks: Any = AutoProcessor.from_pretrained(name, backend="pil")
        self._processor, self._tokenizer = self._asks.image_processor, self._asks.tokenizer
        self._model = model.eval().requires_grad_(requires_grad=False).to(self._device)

    def _said(self, pixels: torch.Tensor, wording: Wording) -> list[str]:
        # The first two tokens of every answer are marks, the one to begin with and the one it must begin with.
        ids = self._model.generate(
            pixel_values=pixels, **self._question(wording, len(pixels)), **asked(wording, self._tokenizer, 2)
        )
        said = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [shortened(" ".join(text.split()), wording.max_words) for text in said]

    def _question(self, wording: Wording, pictures: int) -> dict[str, torch.Tensor]:
        """The tokens of the task, after the places where the picture's features go."""
        task = wording.prompt or TASKS.get(wording.kind, TASKS["caption"])
        if "<" in task and task not in TASKS.values():
            raise BespokeError(f"A Florence-2 cannot caption by {task}.", f"Ask for {', '.join(TASKS.values())}.")
        blank = Image.new("RGB", (8, 8))  # the processor makes the question's places for some picture only
        one = self._asks(images=[blank], text=[task], return_tensors="pt")
        return {name: one[name].expand(pictures, -1).to(self._device) for name in ("input_ids", "attention_mask")}


def captioner_of(name: str | Path, device: torch.device | str = "cpu") -> Captions:
    """The captioner in a folder or of a hub id, whichever kind its configuration names.

    Raises: BespokeError when there is none.
    """
    from transformers import AutoConfig

    with quiet(), sought(name, *KNOWN):
        kind = str(AutoConfig.from_pretrained(shipped(name)).model_type)
    return Florence(name, device) if kind == "florence2" else Blip(name, device)
