"""A run or model turned into files that other programs load; each is loaded again and drawn with before it counts."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bespoke import data
from bespoke.errors import BespokeError
from bespoke.models import (
    adapterfile,
    elsewhere,
    formulas,
    kohyafile,
    modelspec,
    onefile,
    quiet,
    runtimes,
    singlefile,
    tracing,
)
from bespoke.models.compiled import Compiled
from bespoke.models.families import denoiser_of
from bespoke.models.formats import FOLDER, write_inversions
from bespoke.models.modelspec import Facts, Network
from bespoke.models.passport import header
from bespoke.models.tuned import DTYPES
from bespoke.models.weightless import skeletons
from bespoke.pipeline.likeness import Likeness, compared
from bespoke.pipeline.naming import Named, named
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.surgery import merged_pipeline, network_of
from bespoke.workspace import check_new, sha256

Form = Literal["diffusers", "kohya", "comfyui", "model", "single-file", "onnx", "openvino"]
Dtype = Literal["fp32", "fp16", "bf16"]
ADAPTERS = ("diffusers", "kohya", "comfyui")
"""The forms of adapters alone."""
FOLDERS = ("model", *runtimes.RUNTIMES)
"""The forms that are folders."""
LOADS = {
    "onnx": "optimum (optimum.onnxruntime): ORT",
    "openvino": "optimum-intel (optimum.intel): OV",
}
"""What reads the folders that are for a runtime, by its published code, and what its pipelines' names begin with."""
KINDS = {"LOHA": "loha", "LOKR": "lokr"}
"""LyCORIS's words for peft's kinds, as far as its form has them."""


@dataclass(frozen=True)
class Exported:
    """What was written, how it was checked, and what loads it."""

    path: Path
    form: str
    dtype: str
    metadata: Mapping[str, str]
    likeness: Likeness
    """How near its pictures are to the model's own."""
    words: tuple[Path, ...]
    """Files of new words, which programs with a fixed vocabulary read beside it."""
    how: tuple[str, ...]
    """What goes where, in sentences."""
    parity: Mapping[str, float] = field(default_factory=dict[str, float])
    """For a runtime: how far each network's answers lie from torch's at most, as a part of the largest number."""


def export_model(
    model: str | Path,
    out: str | Path,
    form: str = "kohya",
    *,
    dtype: str = "fp32",
    licence: str = "",
    tags: bool = False,
    report: Reporter = silent,
) -> Exported:
    """A run's adapter, or a whole model, as a file or folder that other programs load.

    With `tags` an adapter's metadata tell what the captions of its pictures say, and how often: whoever has the file
    can read it.

    Raises: BespokeError when there is no such form, the form does not know this kind of adapter, `out` is there
    already, or the file draws other pictures than the model: then nothing is left at `out`.
    """
    source, path = named(str(model)), Path(out)
    _check(source, path, form, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = replace(_facts(source, path.stem), licence=licence)
    facts = replace(facts, training={**facts.training, **(_counted(source) if tags else {})})
    report("write", 0, 1)
    parity: Mapping[str, float] = {}
    try:
        if form in runtimes.RUNTIMES:
            metadata, words, parity = {}, (), _compile(source, path, form, dtype)
        else:
            metadata, words = _written(source, path, form, dtype, facts)
        report("write", 1, 1)
        likeness = compared(source, _loader(source, path, form), dtype, report, alone=form in ADAPTERS)
    except BaseException:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    return Exported(path, form, dtype, metadata, likeness, words, _how(path, form, facts, source), parity)


def _check(source: Named, path: Path, form: str, dtype: str) -> None:
    if form not in get_args(Form) or dtype not in get_args(Dtype):
        known = f"{', '.join(get_args(Form))}; {', '.join(get_args(Dtype))}"
        raise BespokeError(f"There is no form {form!r} or no dtype {dtype!r}.", f"Known are {known}.")
    check_new(path)
    one_file = form not in FOLDERS
    if one_file != (path.suffix == ".safetensors"):
        wanted = "a file, OUT.safetensors" if one_file else "a folder"
        raise BespokeError(f"--as {form} writes {wanted}, not {path}.", "Name it so.")
    family = source.checkpoint.family
    if form in runtimes.RUNTIMES and not family.compiled:
        hint = "Use --as model: a folder, which diffusers reads, and other programs that make such files."
        raise BespokeError(f"A {family.name} cannot be written as {form} yet.", hint)
    if source.state:
        raise BespokeError(f"{source.name} is a state to resume from.", "Name RUN, RUN@last or RUN@epoch-9.")
    if isinstance(source.checkpoint, Compiled):
        raise source.checkpoint.fixed
    if form in runtimes.RUNTIMES:
        _check_runtime(runtimes.RUNTIMES[form], dtype)
    if form in ADAPTERS:
        _check_adapter(source, form)


def _check_runtime(runtime: runtimes.Runtime, dtype: str) -> None:
    if dtype == "bf16":
        raise BespokeError(f"{runtime.title} keeps weights in fp32 or fp16.", "Say --dtype fp16, or leave it out.")
    for writing in (True, False):
        runtimes.package(runtime, writing=writing)


def _check_adapter(source: Named, form: str) -> None:
    if not source.adapter:
        raise BespokeError(f"{source.name} has no adapter.", "Use --as model or --as single-file.")
    kinds = {facts["peft_type"] for facts in adapterfile.facts_of(source.adapter).values()}
    if unknown := sorted(kinds - (KINDS.keys() if form != "diffusers" else set())):
        hint = "Use --as model or --as single-file: the adapter is worked into the weights there."
        raise BespokeError(f"{form} knows no {unknown[0]}.", hint)


def _facts(source: Named, title: str) -> Facts:
    """What is told of a model: its base's kind, and how the run was trained."""
    facts, recipe = Facts.of(source.checkpoint, title), source.recipe
    words = source.checkpoint.new_words
    facts = replace(facts, words=tuple(word.surface for word in words.words) if words else ())
    if recipe is None:
        return facts
    train = recipe.train
    told = {
        "ss_seed": train.seed,
        "ss_max_train_steps": train.max_train_steps,
        "ss_learning_rate": train.learning_rate,
        "ss_total_batch_size": train.train_batch_size,
        "ss_gradient_accumulation_steps": train.gradient_accumulation_steps,
        "ss_lr_scheduler": train.lr_scheduler,
        "ss_optimizer": train.optimizer,
        "ss_zero_terminal_snr": train.rescale_betas_zero_snr,
        "ss_training_comment": f"trained by bespoke: {recipe.model.method} of {recipe.model.base}"
        + (", running average of the weights" if train.use_ema else ""),
    }
    training = {key: str(value) for key, value in told.items() if value is not None}
    base = Path(source.checkpoint.name)
    if base.is_file():
        training |= {"ss_sd_model_hash": modelspec.legacy_hash(base), "ss_new_sd_model_hash": sha256(base)}
    run = source.run
    found = re.match(r"(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)", run.root.name) if run else None
    date = "{}-{}-{}T{}:{}:{}".format(*found.groups()) if found else ""
    return replace(facts, trigger=recipe.text.trigger or "", date=date, training=training)


def _counted(source: Named) -> dict[str, str]:
    """What the captions of a run's pictures say, by kohya's keys: pieces between commas, counted by folder.

    Source: kohya's library/train_util.py (`tag_frequency`, `ss_dataset_dirs`).

    Raises: BespokeError when there is no run, or its dataset is not there any more.
    """
    run = source.run
    if run is None or source.recipe is None:
        raise BespokeError(f"{source.name} is no run: it has no captions to count.", "Leave --tag-frequency out.")
    dataset = data.load(run.root.parent.parent / source.recipe.data.path)
    trained = [picture for picture in dataset.pictures if picture.split == "train"]
    counts: dict[str, dict[str, int]] = {}
    for picture in trained:
        there = counts.setdefault(Path(picture.file).parent.name or data.TRAIN, {})
        for tag in filter(None, (piece.strip() for piece in picture.text.lower().split(","))):
            there[tag] = there.get(tag, 0) + 1
    folders: dict[str, dict[str, int]] = {}
    for picture in trained:
        one = folders.setdefault(Path(picture.file).parent.name or data.TRAIN, {"n_repeats": 1, "img_count": 0})
        one["img_count"] += 1
    told: dict[str, Any] = {"ss_tag_frequency": counts, "ss_dataset_dirs": folders}
    said = {key: json.dumps(value, ensure_ascii=False, sort_keys=True) for key, value in told.items()}
    return said | {"ss_num_train_images": str(len(trained))}


def _written(
    source: Named, path: Path, form: str, dtype: str, facts: Facts
) -> tuple[Mapping[str, str], tuple[Path, ...]]:
    """The metadata of what was written, and the files of new words beside it."""
    if form == "model":
        _write_model(source, path, dtype)
        return {}, ()
    if form == "single-file":
        content = rounded(_one_file(source), dtype)
        return modelspec.write(content, path, facts, None), _inversions(source, path)
    assert source.adapter
    if form == "diffusers":
        content, own = load_file(source.adapter), dict(header(source.adapter).metadata)  # rank and alpha of each part
        network = network_of(kohyafile.low_ranks(skeletons(source.checkpoint), source.adapter))
        told = modelspec.write(rounded(content, dtype), path, facts, network, own)
        return told, _inversions(source, path)
    if own := adapterfile.facts_of(source.adapter):
        content = kohyafile.respelt(load_file(source.adapter), skeletons(source.checkpoint))
        network = Network(
            "lycoris.kohya",
            frozenset(int(one.get("r", 8)) for one in own.values()),
            frozenset(float(value) for key, value in content.items() if key.endswith(".alpha")),
            {"algo": KINDS[next(iter(own.values()))["peft_type"]]},
        )
        return modelspec.write(rounded(content, dtype), path, facts, network), _inversions(source, path)
    bare = skeletons(source.checkpoint)
    layers = kohyafile.low_ranks(bare, source.adapter)
    network, content, own = network_of(layers), kohyafile.content_of(layers, bare), {}
    if form == "comfyui" and network.module != "networks.lora":
        parts = {part: source.checkpoint.network(part) for part in source.checkpoint.family.worded}
        content, own = formulas.for_comfyui(content, parts), {kohyafile.LENGTHS: kohyafile.COMFYUI}
    return modelspec.write(rounded(content, dtype), path, facts, network, own), _inversions(source, path)


def rounded(content: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """The tensors in another format; whole numbers stay.

    Raises: BespokeError when a number is too large for it.
    """
    found: dict[str, Tensor] = {}
    for key, value in content.items():
        found[key] = value.to(DTYPES[dtype]) if value.is_floating_point() else value
        if not bool(torch.isfinite(found[key]).all()):
            raise BespokeError(f"{key} holds numbers that {dtype} cannot.", "Use --dtype bf16 or fp32.")
    return found


def _one_file(source: Named) -> dict[str, Tensor]:
    pipeline, checkpoint = merged_pipeline(source), source.checkpoint
    encoders = {encoder: getattr(pipeline, encoder) for _, encoder in checkpoint.reading}
    for part, encoder in encoders.items():  # programs that read such files know the base's vocabulary only
        checkpoint.without_words(encoder, part)
    content = onefile.content_of(denoiser_of(pipeline), pipeline.vae, encoders)
    return content | (singlefile.signs(checkpoint.scheduler_config) if checkpoint.family.sized else {})


def _write_model(source: Named, path: Path, dtype: str) -> None:
    """A folder as diffusers has it; the parts that an adapter changes are written, all others copied and rounded."""
    path.mkdir()
    if source.adapter:
        pipeline = merged_pipeline(source)
        for name in source.checkpoint.family.worded:
            getattr(pipeline, name).save_pretrained(path / name)
    source.checkpoint.complete(path)
    round_folder(path, dtype)


def round_folder(path: Path, dtype: str) -> None:
    """Writes the weights of a model's folder in another format, in place.

    Raises: BespokeError when a number is too large for it.
    """
    for file in sorted(path.rglob("*.safetensors")):
        content = load_file(file)
        save_file(rounded(content, dtype), file, {"format": "pt"})


def _compile(source: Named, path: Path, form: str, dtype: str) -> Mapping[str, float]:
    """How far the networks of the model, written for a runtime by way of a folder of diffusers', are from torch's."""
    runtime = runtimes.RUNTIMES[form]
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as scratch:
        whole = Path(scratch) / "model"
        _write_model(source, whole, dtype)
        with quiet():
            pipeline, _ = elsewhere.folder(whole)
        tracing.write(pipeline, whole, path, runtime, half=dtype == "fp16")
        return tracing.parity(pipeline, path, runtime)


def _inversions(source: Named, path: Path) -> tuple[Path, ...]:
    """The files of new words in a folder beside an export, for programs that know the base's vocabulary only."""
    words = source.checkpoint.new_words
    if words is None or not words.words:
        return ()
    return tuple(write_inversions(words, path.with_name(f"{path.stem}-{FOLDER}"), "a1111").values())


def _loader(source: Named, path: Path, form: str) -> Callable[[], tuple[Any, str]]:
    """What loads an export as others do, on the CPU, without our own readers where there are others."""
    if form == "model":
        return lambda: elsewhere.folder(path)
    if form in runtimes.RUNTIMES:
        return lambda: elsewhere.by_runtime(path, runtimes.RUNTIMES[form])
    if form == "single-file":
        return lambda: elsewhere.single_file(path, source.checkpoint)
    plain = source.adapter is not None and not adapterfile.facts_of(source.adapter)
    known = source.checkpoint.family.denoiser == "unet"  # diffusers reads no transformer's by kohya's names
    if form == "diffusers" or (plain and known and not kohyafile.has_magnitudes(path)):
        return lambda: elsewhere.by_diffusers(path, source.checkpoint)
    return lambda: elsewhere.by_formulas(path, source.checkpoint, as_comfyui=form == "comfyui")


def _how(path: Path, form: str, facts: Facts, source: Named) -> tuple[str, ...]:
    """What goes where."""
    place, trigger = path.as_posix(), f"; write “{facts.trigger}” in prompts" if facts.trigger else ""
    if loads := LOADS.get(form):
        reads = f"{loads}{source.checkpoint.family.pipeline}"
        return f'{reads}.from_pretrained("{place}"){trigger}.', f'Here: bespoke sample {place} "…"'
    return _how_a_file(path, form, trigger, source)


def _how_a_dora(form: str, trigger: str) -> str:
    """What goes where, of a DoRA in kohya's form."""
    if form == "comfyui":
        return f"ComfyUI and Forge: put it with the LoRAs{trigger}. Its magnitudes are for their own formula."
    return f"LyCORIS and bespoke read it as it was trained{trigger}; for ComfyUI use --as comfyui."


def _how_a_file(path: Path, form: str, trigger: str, source: Named) -> tuple[str, ...]:
    """What goes where, of what torch computes."""
    place = path.as_posix()
    dora = form in ADAPTERS and kohyafile.has_magnitudes(path)
    lycoris = source.adapter is not None and bool(adapterfile.facts_of(source.adapter))
    match form:
        case "model":
            return (f'diffusers: DiffusionPipeline.from_pretrained("{place}"){trigger}.',)
        case "single-file":
            theirs = "Forge" if source.checkpoint.joint_width else "A1111 and Forge"
            return (
                f"{theirs}: put it into models/Stable-diffusion/{trigger}.",
                f"ComfyUI: put it into models/checkpoints/{trigger}.",
            )
        case "diffusers":
            return (f'diffusers: pipe.load_lora_weights("{place}"){trigger}.',)
        case _ if dora:
            return (_how_a_dora(form, trigger),)
        case _ if source.checkpoint.joint_width and not lycoris:
            return (f"ComfyUI: put it into models/loras/{trigger}; bespoke reads it, too.",)
        case _:
            three = source.checkpoint.family.denoiser == "transformer"
            told = [f"ComfyUI: put it into models/loras/{trigger}."]
            told += (
                [] if three else [f"A1111 and Forge: put it into models/Lora/; write <lora:{path.stem}:1>{trigger}."]
            )
            loads = "it reads --as diffusers only." if three else f'pipe.load_lora_weights("{place}").'
            return (*told, *([] if lycoris else [f"diffusers: {loads}"]))
