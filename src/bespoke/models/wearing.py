"""Adapter files put into whole pipelines, weighed there, and taken out again."""

import hashlib
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, kohyafile, workedin
from bespoke.models.families import NETWORKS, denoiser_of, networks_of
from bespoke.models.quietly import quiet

MOST_LETTERS = 160
"""So much is told of what a library says, which may name every layer there is."""


def load_adapter(pipeline: Any, adapter: Path, model: str, name: str | None = None) -> None:
    """Puts an adapter file into a pipeline, in place: LoRA and DoRA as diffusers does, other kinds as we wrote them.

    LoHa and LoKr of other programs are worked into the weights. `name` is what the pipeline calls it, for LoRA and
    DoRA.

    Raises: BespokeError when the file is missing, is no adapter, or does not fit the model, or that was exported.
    """
    if next(denoiser_of(pipeline).parameters(), None) is None:
        hint = "Name the model that it was exported from, or export it with the adapter worked in."
        raise BespokeError(f"{model} was exported for a runtime, where nothing can be put in any more.", hint)
    if not adapter.is_file():
        raise BespokeError(f"There is no adapter at {adapter}.", "Name a run folder or an adapter.safetensors file.")
    try:
        _check_parts(networks_of(pipeline), adapter)
        if _own(adapter):
            adapterfile.wear(networks_of(pipeline), adapter)
            return
        if workedin.is_lycoris(adapter):
            workedin.work_in(pipeline, {adapter: 1.0})
            return
        if kohyafile.has_magnitudes(adapter):
            adapterfile.wear_low_ranks(networks_of(pipeline), adapter)
            return
        before = pipeline.get_list_adapters()
        whole = kohyafile.readable(adapter, networks_of(pipeline))
        pipeline.load_lora_weights(whole, weight_name=adapter.name, adapter_name=name)
        if pipeline.get_list_adapters() == before:
            raise ValueError("it holds nothing for this model")  # of which diffusers only warns
        adapterfile.mend(networks_of(pipeline), adapter, name)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        first = str(error).splitlines()[0][:MOST_LETTERS].rstrip(" .:")
        hint = "Use it with the base it was trained on."
        raise BespokeError(f"{adapter} does not fit {model}: {first}.", hint) from None


def _check_parts(networks: Mapping[str, Any], adapter: Path) -> None:
    """Raises: ValueError when a file changes a network that a model has not.

    diffusers passes over it and wears the rest: of an SDXL's what is for both CLIPs, in a Stable Diffusion 3.
    """
    changed = {key.partition(".")[0] for key in kohyafile.keys_of(adapter)}
    if other := [part for part in NETWORKS if part in changed and part not in networks]:
        raise ValueError(f"it changes a {other[0]}, which this model has not")


class Wardrobe:
    """What a pipeline wears besides what it came with: adapter files, each read once, however often it is put on.

    Leaving its block, the pipeline wears what it came with.
    """

    def __init__(self, pipeline: Any, model: str) -> None:
        self._pipeline, self._model = pipeline, model
        self._own, self._alone = _names(pipeline), False
        self._worked_in = workedin.worn(pipeline)
        self._added = frozenset[str]()
        self.worn = frozenset[str]()
        """The names of what is worn now, of what stays in the pipeline when it is taken off."""

    def __enter__(self) -> "Wardrobe":
        return self

    def __exit__(self, *_: object) -> None:
        if self._alone:
            self._take_out()
        if self.names and self._own:
            self._together({})
        self.drop(*self.names)
        workedin.work_in(self._pipeline, self._worked_in)

    @property
    def names(self) -> tuple[str, ...]:
        """What the files are called that were read into the pipeline and stay in it, worn or not."""
        return tuple(name for name in _names(self._pipeline) if name not in self._own and not self._alone)

    def drop(self, *names: str) -> None:
        """Takes files out of the pipeline that are not worn now, in place; it draws as before."""
        if not names:
            return
        if not self._own and {*names} == {*self.names}:
            self._take_out()
        else:
            with _several():
                self._pipeline.delete_adapters(list(names))

    def _take_out(self) -> None:
        """Takes everything out that is no own adapter; what is worked into the weights stays."""
        self._pipeline.unload_lora_weights()
        self._alone, self.worn = False, frozenset()

    def wear(self, weights: Mapping[Path, float]) -> None:
        """Lets the pipeline wear exactly these files, each with its weight, in place.

        A file that was changed since it was read is read anew.

        Raises: BespokeError as `load_adapter`, and when a kind that diffusers does not load is to be worn with others.
            Nothing of a file that does not fit stays, but what is worn is open until the next call.
        """
        if self._alone:
            self._take_out()
        added = {path: weight for path, weight in weights.items() if path.is_file() and _is_lycoris(path)}
        weights = {path: weight for path, weight in weights.items() if path not in added}
        alone = [path for path in weights if path.is_file() and _is_alone(path)]
        if alone and (len(weights) > 1 or added or self._own or self._worked_in):
            hint = "Only LoRA, LoHa and LoKr are worn together, and DoRA in diffusers' form."
            raise BespokeError(f"{alone[0]} is of a kind that is worn alone.", hint)
        names = frozenset(map(name_of, added))
        if names != self._added:
            workedin.work_in(self._pipeline, self._worked_in)  # a file of the same path may be another now
        workedin.work_in(self._pipeline, {**self._worked_in, **added})
        self._added = names
        if alone:
            self._take_out()
            self._alone = True
            try:
                load_adapter(self._pipeline, alone[0], self._model)
                weigh_adapter(self._pipeline, weights[alone[0]])
            except BaseException:
                self._take_out()
                raise
        else:
            self._together(weights)

    def _together(self, weights: Mapping[Path, float]) -> None:
        self.worn = frozenset()
        if not weights and not self.names:
            return
        if self._own and not _is_scaled(self._pipeline):
            hint = "Draw with it alone: take sample.adapters and what prompts call out."
            raise BespokeError(f"{self._model} has an OFT or BOFT, which is worn alone.", hint)
        names = {path: name_of(path) for path in weights}
        for path, name in names.items():
            if name not in self.names:
                self._read(path, name)
        self.worn = frozenset(names.values())
        worn = {**dict.fromkeys(self._own, 1.0), **{names[path]: weight for path, weight in weights.items()}}
        if worn:
            self._pipeline.enable_lora()
            self._pipeline.set_adapters(list(worn), list(worn.values()))
        elif _names(self._pipeline):
            self._pipeline.disable_lora()

    def _read(self, path: Path, name: str) -> None:
        """Puts a file into the pipeline, beside others; one that does not fit leaves nothing there."""
        try:
            with quiet(), _several():
                load_adapter(self._pipeline, path, self._model, name)
        except BaseException:
            others = [other for other in self.names if other != name]
            self.drop(name) if self._own or others else self._take_out()
            raise


@contextmanager
def _several() -> Generator[None, None, None]:
    """A block in which peft does not warn of adapters beside others, nor of what is worn when one of them is gone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")
        warnings.filterwarnings("ignore", "Adapter .* was active which is now deleted")
        yield


def unload_adapter(pipeline: Any) -> None:
    """Takes the adapter out of a pipeline, in place: its networks are bit for bit what they were without."""
    pipeline.unload_lora_weights()
    workedin.work_in(pipeline, {})


def weigh_adapter(pipeline: Any, weight: float) -> None:
    """Lets the adapter of a pipeline count so much, in place; where there is none, nothing changes.

    With 0 the pipeline draws exactly as without the adapter, with 1 as the adapter was trained.

    Raises: BespokeError when the adapter turns what layers read, which cannot be done by half.
    """
    workedin.work_in(pipeline, dict.fromkeys(workedin.worn(pipeline), weight))
    names, scaled = _names(pipeline), _is_scaled(pipeline)
    if not names:
        return
    if not scaled and weight not in (0, 1):
        hint = "Weigh it with 0 or 1, or train a lora, dora, loha or lokr."
        raise BespokeError(f"OFT and BOFT cannot be weighed with {weight:g}.", hint)
    if not weight:
        pipeline.disable_lora()
        return
    pipeline.enable_lora()
    if scaled:
        pipeline.set_adapters(names, weight)


def _is_scaled(pipeline: Any) -> bool:
    """Whether all adapters that a pipeline wears can be weighed."""
    layers = (layer for part in networks_of(pipeline).values() for _, layer in adapters.tuned_layers(part))
    return all(hasattr(layer, "scaling") for layer in layers)


@contextmanager
def worked_in(pipeline: Any) -> Generator[None, None, None]:
    """A block in which the adapters of a pipeline are part of its weights, so that they cost no time of their own.

    Afterwards the weights are bit for bit as before. Where they are rounded to few bits, or in bfloat16, in which small
    changes would be lost, nothing is done.
    """
    layers = [layer for part in networks_of(pipeline).values() for layer in _mergeable(part)]
    kept = [(weight, weight.detach().clone()) for layer in layers for weight in layer.get_base_layer().parameters()]
    try:
        for layer in layers:
            layer.merge()
        yield
    finally:
        for layer in layers:
            layer.merged_adapters.clear()
        for weight, own in kept:
            weight.data.copy_(own)


def name_of(path: Path) -> str:
    """What a pipeline calls a file; one that is changed is another."""
    facts = path.stat() if path.is_file() else None
    told = f"{path.resolve()} {facts and (facts.st_size, facts.st_mtime_ns)}"
    return f"worn_{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def joins_others(adapter: Path) -> bool:
    """Whether a file is of a kind that a pipeline wears beside others and keeps when it is taken off: LoRA or DoRA."""
    return not _is_alone(adapter) and not _is_lycoris(adapter)


def bytes_of(pipeline: Any) -> int:
    """How much memory a pipeline's numbers take: weights, adapters, and weights kept as they were without these."""
    networks = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    tensors = [one for part in networks for one in (*part.parameters(), *part.buffers())]
    for part in networks_of(pipeline).values():
        tensors += part.__dict__.get(workedin.KEPT, {}).values()
    held = {one.data_ptr(): one.nbytes for one in tensors}
    merged = [
        weight
        for part in networks_of(pipeline).values()
        for _, layer in adapters.tuned_layers(part)
        if layer.merged_adapters
        for weight in layer.get_base_layer().parameters()
    ]
    return sum(held.values()) + sum(weight.nbytes for weight in merged)


def _mergeable(part: Any) -> list[Any]:
    """The layers of a network that wear adapters which can be worked into their weights now."""
    layers = [layer for _, layer in adapters.tuned_layers(part)]
    weights = [weight for layer in layers for weight in layer.get_base_layer().parameters()]
    if any(weight.dtype not in (torch.float32, torch.float16) for weight in weights):
        return []
    return [layer for layer in layers if not layer.disable_adapters and not layer.merged_adapters]


def _names(pipeline: Any) -> list[str]:
    """What the adapters in a pipeline are called."""
    return sorted({name for those in pipeline.get_list_adapters().values() for name in those})


def _is_alone(adapter: Path) -> bool:
    """Whether a file is of a kind that diffusers does not load."""
    try:
        return _own(adapter) or kohyafile.has_magnitudes(adapter)
    except ValueError:
        return False  # `load_adapter` says why it cannot be read


def _is_lycoris(adapter: Path) -> bool:
    """Whether a file is a LoHa or LoKr, of any program."""
    try:
        return workedin.is_lycoris(adapter)
    except ValueError:
        return False  # `load_adapter` says why it cannot be read


def _own(adapter: Path) -> bool:
    """Whether a file is an adapter of ours that is no LoRA."""
    try:
        return bool(adapterfile.facts_of(adapter))
    except BespokeError as error:
        raise ValueError(error.problem) from None
