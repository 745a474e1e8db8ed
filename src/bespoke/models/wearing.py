"""Adapter files put into whole pipelines, weighed there, and taken out again."""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters
from bespoke.models.quietly import quiet


def load_adapter(pipeline: Any, adapter: Path, model: str, name: str | None = None) -> None:
    """Puts an adapter file into a pipeline, in place: LoRA and DoRA as diffusers does, other kinds as we wrote them.

    `name` is what the pipeline calls it, for LoRA and DoRA.

    Raises: BespokeError when the file is missing, is no adapter, or does not fit the model.
    """
    if not adapter.is_file():
        raise BespokeError(f"There is no adapter at {adapter}.", "Name a run folder or an adapter.safetensors file.")
    try:
        if _own(adapter):
            parts = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
            adapterfile.wear(parts, adapter)
            return
        before = pipeline.get_list_adapters()
        pipeline.load_lora_weights(str(adapter.parent), weight_name=adapter.name, adapter_name=name)
        if pipeline.get_list_adapters() == before:
            raise ValueError("it holds nothing for this model")  # of which diffusers only warns
        adapterfile.mend(pipeline.text_encoder, adapter)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        first = str(error).splitlines()[0]
        raise BespokeError(
            f"{adapter} does not fit {model}: {first}", "Use it with the base it was trained on."
        ) from None


def wear(pipeline: Any, weights: Mapping[Path, float], model: str) -> None:
    """Lets a pipeline wear exactly these adapter files, each with its weight, besides what it came with, in place.

    Each file is read once, however often it is put on and off.

    Raises: BespokeError as `load_adapter`, and when a kind that only we write is to be worn beside others.
    """
    names = {path: f"worn_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}" for path in weights}
    alone = [path for path in weights if path.is_file() and _is_own(path)]
    if alone and (len(weights) > 1 or _names(pipeline)):
        raise BespokeError(f"{alone[0]} is of a kind that is worn alone.", "Only LoRA and DoRA are worn together.")
    if alone:
        load_adapter(pipeline, alone[0], model)
        weigh_adapter(pipeline, weights[alone[0]])
        return
    for path, name in names.items():
        if name not in _names(pipeline):
            with quiet(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Already found a `peft_config`")  # there are to be several
                load_adapter(pipeline, path, model, name)
    own = [name for name in _names(pipeline) if not name.startswith("worn_")]
    worn = {**dict.fromkeys(own, 1.0), **{names[path]: weight for path, weight in weights.items()}}
    if worn:
        pipeline.enable_lora()
        pipeline.set_adapters(list(worn), list(worn.values()))
    elif _names(pipeline):
        pipeline.disable_lora()


def unload_adapter(pipeline: Any) -> None:
    """Takes the adapter out of a pipeline, in place: its networks are bit for bit what they were without."""
    pipeline.unload_lora_weights()


def weigh_adapter(pipeline: Any, weight: float) -> None:
    """Lets the adapter of a pipeline count so much, in place; where there is none, nothing changes.

    With 0 the pipeline draws exactly as without the adapter, with 1 as the adapter was trained.

    Raises: BespokeError when the adapter turns what layers read, which cannot be done by half.
    """
    names = _names(pipeline)
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


def _names(pipeline: Any) -> list[str]:
    """What the adapters in a pipeline are called."""
    return sorted({name for those in pipeline.get_list_adapters().values() for name in those})


def _is_own(adapter: Path) -> bool:
    try:
        return _own(adapter)
    except ValueError:
        return False  # `load_adapter` says why it cannot be read


def _own(adapter: Path) -> bool:
    """Whether a file is an adapter of ours that is no LoRA."""
    try:
        return bool(adapterfile.facts_of(adapter))
    except BespokeError as error:
        raise ValueError(error.problem) from None
