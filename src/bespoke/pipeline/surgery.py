"""Weights added up, taken apart and made smaller: checkpoints merged, LoRAs extracted from them and resized."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, kohyafile, modelspec
from bespoke.models import blocks as blocks_of
from bespoke.models.lowrank import LowRank, LowRanks
from bespoke.models.modelspec import Facts, Network
from bespoke.models.weightless import skeletons
from bespoke.pipeline.fetching import path_of
from bespoke.pipeline.naming import Named, named
from bespoke.workspace import check_new


@dataclass(frozen=True)
class Merged:
    """A whole model that was added up of others, in diffusers' layout."""

    path: Path
    formula: str


@dataclass(frozen=True)
class Fitted:
    """A LoRA file, and how much of the change that it is for it has."""

    path: Path
    rank: int
    layers: int
    error: float
    """The length of what is missing, as a part of the length of the whole change."""
    errors: Mapping[str, float]
    """The same for each layer."""
    outside: float = 0.0
    """The part of the error that lies in what no LoRA holds: biases, norms, embeddings, and a text's projection."""


def merge_models(
    model: str, out: str | Path, *, add: str = "", minus: str = "", weight: float = 1.0, blocks: str = ""
) -> Merged:
    """A whole model: `model` with its adapter worked in and, with `add`, model + weight · (add - minus).

    Without `minus` it is the weighted sum (1 - weight) · model + weight · add. All parts that training may change are
    added up; the others are the model's own. Adapters are worked in first, exact but for float32's rounding. `blocks`
    are weights of the denoiser's blocks, numbers with commas; `weight` is the text encoder's then.

    Raises: BespokeError when `out` is there already, the models have other layers, or blocks and weights do not match.
    """
    path = Path(out)
    check_new(path)
    if blocks and not add:
        raise BespokeError("Weights of blocks are for what is added.", "Say --add B.")
    source, formula = named(model), model
    first = _weights(source)
    if add:
        second, third = _weights(named(add)), _weights(named(minus)) if minus else first
        formula = f"{model} + {'w' if blocks else f'{weight:g}'} · ({add} - {minus or model})"
        formula += f", w = {weight:g} in the text encoder, {blocks} in the blocks" if blocks else ""
        much = _by_block(source.checkpoint, blocks) if blocks else dict[str, float]()
        for part, own in first.items():
            _same_layers(own, second.get(part, {}), add)
            _same_layers(own, third.get(part, {}), minus or model)
            by = much if part == source.checkpoint.family.denoiser else {}
            moved = {key: own[key] + by.get(key, weight) * (second[part][key] - third[part][key]) for key in own}
            first = {**first, part: moved}
    _write(source.checkpoint, first, path)
    return Merged(path, formula)


def extract_lora(model: str, out: str | Path, *, base: str, rank: int = 16) -> Fitted:
    """The LoRA, in kohya's form, that comes nearest to what a model's weights have become since `base`.

    Raises: BespokeError when the file is there already, the models have other layers, or nothing differs.
    """
    path = Path(out)
    check_new(path)
    start, source = named(base), named(model)
    after, before = _weights(source), _weights(start)
    layers: dict[str, dict[str, LowRank]] = {}
    errors: dict[str, float] = {}
    whole, missing, outside = 0.0, 0.0, 0.0
    for part in before:
        _same_layers(before[part], after.get(part, {}), model)
        known = _tunable(start.checkpoint, part)
        for key, old in before[part].items():
            change = after[part][key] - old
            length = float(change.double().square().sum())
            layer, _, kind = key.rpartition(".")
            whole += length
            if not length or layer not in known or kind != "weight":
                outside += length
                continue
            low = LowRank.nearest(change, rank)
            rest = float((change - low.change()).double().square().sum())
            layers.setdefault(part, {})[layer], errors[f"{part}.{layer}"] = low, (rest / length) ** 0.5
            missing += rest
    if not layers:
        raise BespokeError(f"{model} and {base} have the same layers' weights.", "There is nothing to extract.")
    _write_lora(layers, path, start.checkpoint)
    error = ((missing + outside) / whole) ** 0.5
    return Fitted(path, rank, len(errors), error, errors, (outside / whole) ** 0.5)


def resize_lora(source: str | Path, out: str | Path, *, rank: int, base: str = "") -> Fitted:
    """The same LoRA or DoRA at a smaller rank, in kohya's form, as near as that rank allows; a larger changes nothing.

    `source` is a run or a file; `base` names the model that a file belongs to.

    Raises: BespokeError when there is no LoRA, `out` is there already, or a file comes without its base.
    """
    path, file = Path(out), path_of(str(source), Path())
    check_new(path)
    if file.is_file() and not base:
        raise BespokeError(f"{source} does not say whose layers it changes.", "Name its base: --base MODEL")
    found = Named(str(source), named(base).checkpoint, file) if file.is_file() else named(str(source))
    if found.adapter is None:
        raise BespokeError(f"{source} has no adapter.", "Name a run or a LoRA file.")
    before = kohyafile.low_ranks(skeletons(found.checkpoint), found.adapter)
    after = {part: {layer: low.resized(rank) for layer, low in those.items()} for part, those in before.items()}
    errors: dict[str, float] = {}
    whole, missing = 0.0, 0.0
    for part, those in before.items():
        for layer, low in those.items():
            change = low.change()
            rest = (change - after[part][layer].change()).double().square().sum()
            length = change.double().square().sum()
            errors[f"{part}.{layer}"] = float((rest / length).sqrt()) if length else 0.0
            whole, missing = whole + float(length), missing + float(rest)
    _write_lora(after, path, found.checkpoint)
    return Fitted(path, rank, len(errors), (missing / whole) ** 0.5 if whole else 0.0, errors)


def network_of(layers: LowRanks) -> Network:
    """What kohya's keys say of a LoRA or DoRA."""
    those = [low for part in layers.values() for low in part.values()]
    dora = any(low.magnitude is not None for low in those)
    args = {"algo": "lora", "dora_wd": "True", "wd_on_output": "True"} if dora else {}
    ranks, alphas = frozenset(low.rank for low in those), frozenset(float(low.alpha) for low in those)
    return Network("lycoris.kohya" if dora else "networks.lora", ranks, alphas, args)


def merged_pipeline(source: Named):  # noqa: ANN201 - diffusers' pipelines have no common type
    """The pipeline of a model on the CPU, its adapter worked into the weights."""
    from bespoke.models import adapters

    pipeline = source.checkpoint.pipeline(safety_checker=False)
    source.adapt(pipeline)
    for name in source.checkpoint.family.worded:
        part = getattr(pipeline, name)
        if getattr(part, "peft_config", None):
            adapters.merge(part)
    return pipeline


def _by_block(checkpoint: Checkpoint, text: str) -> dict[str, float]:
    """The weight of each tensor of a denoiser, by the weights of its blocks."""
    unet = skeletons(checkpoint)[checkpoint.family.denoiser]
    much = blocks_of.weights(text, unet.config)
    return {key: much[blocks_of.block_of(key, unet.config)] for key in unet.state_dict()}


def _tunable(checkpoint: Checkpoint, part: str) -> set[str]:
    """The layers of a part that a LoRA in kohya's form may hold here."""
    modules = skeletons(checkpoint)[part].named_modules()
    found = {name for name, module in modules if isinstance(module, nn.Linear | nn.Conv2d)}
    return found - {kohyafile.PROJECTION}  # which kohya's trainer leaves alone


def _weights(source: Named) -> dict[str, dict[str, Tensor]]:
    """The weights of the denoiser and of what reads prompts, its adapter worked in."""
    pipeline = merged_pipeline(source)
    return {part: dict(getattr(pipeline, part).state_dict()) for part in source.checkpoint.family.worded}


def _same_layers(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str) -> None:
    if {key: value.shape for key, value in ours.items()} != {key: value.shape for key, value in theirs.items()}:
        raise BespokeError(f"{name} has other layers.", "Merge and compare models of the same kind and size.")


def _write(checkpoint: Checkpoint, weights: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
    pipeline = checkpoint.pipeline(safety_checker=False)
    path.mkdir(parents=True)
    try:
        with torch.no_grad():
            for name, content in weights.items():
                part = getattr(pipeline, name)
                part.load_state_dict(dict(content))
                part.save_pretrained(path / name)
        checkpoint.complete(path)
    except BaseException:
        shutil.rmtree(path)
        raise


def _write_lora(layers: LowRanks, path: Path, checkpoint: Checkpoint) -> None:
    content, facts = kohyafile.content_of(layers, skeletons(checkpoint)), Facts.of(checkpoint, path.stem)
    modelspec.write(content, path, facts, network_of(layers))
