"""Adapter files put into whole pipelines, weighed there, and taken out again."""

from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, kohyafile


def load_adapter(pipeline: Any, adapter: Path, model: str) -> None:
    """Puts an adapter file into a pipeline, in place: LoRA and DoRA as diffusers does, other kinds as we wrote them.

    Raises: BespokeError when the file is missing, is no adapter, or does not fit the model.
    """
    if not adapter.is_file():
        raise BespokeError(f"There is no adapter at {adapter}.", "Name a run folder or an adapter.safetensors file.")
    try:
        if _own(adapter):
            parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
            adapterfile.wear(parts, adapter)
            return
        if kohyafile.has_magnitudes(adapter):
            adapterfile.wear_low_ranks({"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}, adapter)
            return
        before = pipeline.get_list_adapters()
        pipeline.load_lora_weights(str(adapter.parent), weight_name=adapter.name)
        if pipeline.get_list_adapters() == before:
            raise ValueError("it holds nothing for this model")  # of which diffusers only warns
        adapterfile.mend(pipeline.text_encoder, adapter)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        first = str(error).splitlines()[0]
        raise BespokeError(
            f"{adapter} does not fit {model}: {first}", "Use it with the base it was trained on."
        ) from None


def unload_adapter(pipeline: Any) -> None:
    """Takes the adapter out of a pipeline, in place: its networks are bit for bit what they were without."""
    pipeline.unload_lora_weights()


def weigh_adapter(pipeline: Any, weight: float) -> None:
    """Lets the adapter of a pipeline count so much, in place; where there is none, nothing changes.

    With 0 the pipeline draws exactly as without the adapter, with 1 as the adapter was trained.

    Raises: BespokeError when the adapter turns what layers read, which cannot be done by half.
    """
    names = sorted({name for those in pipeline.get_list_adapters().values() for name in those})
    if not names:
        return
    if not weight:
        pipeline.disable_lora()
        return
    pipeline.enable_lora()
    parts = (pipeline.unet, pipeline.text_encoder)
    if all(hasattr(layer, "scaling") for part in parts for _, layer in adapters.tuned_layers(part)):
        pipeline.set_adapters(names, weight)
    elif weight != 1:
        hint = "Weigh it with 0 or 1, or train a lora, dora, loha or lokr."
        raise BespokeError(f"OFT and BOFT cannot be weighed with {weight:g}.", hint)


def _own(adapter: Path) -> bool:
    """Whether a file is an adapter of ours that is no LoRA."""
    try:
        return bool(adapterfile.facts_of(adapter))
    except BespokeError as error:
        raise ValueError(error.problem) from None
