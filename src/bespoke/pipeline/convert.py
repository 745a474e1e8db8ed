"""A file or folder turned into the other form that it has; each is read again and compared before it counts."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, find, kohyafile, lorafile, modelspec, onefile, unpacking
from bespoke.models.families import family_of
from bespoke.models.lowrank import LowRanks
from bespoke.models.modelspec import Facts
from bespoke.models.passport import Passport, header, passport
from bespoke.models.tuned import DTYPES
from bespoke.models.weightless import skeletons
from bespoke.pipeline.export import export_model, round_folder, rounded
from bespoke.pipeline.fetching import checkpoint_of, is_url, path_of
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.surgery import network_of
from bespoke.pipeline.unpack import import_model
from bespoke.workspace import check_new

TOLERANCE = {"fp32": 1e-6, "fp16": 1e-3, "bf16": 1e-2}
"""How far a layer's scale may be off, for the number of its alpha is rounded, too."""
LOW_RANK = ("LoRA", "DoRA")
MARKS = ("sshs_", "modelspec.hash", "lora_adapter_metadata", "format")
"""What a file's metadata say of the file itself, and not of what is in it."""


@dataclass(frozen=True)
class Converted:
    """What was written, and how it was checked."""

    path: Path
    what: str
    checked: str


def convert_model(
    source: str, out: str | Path, *, form: str = "", dtype: str = "", base: str = "", report: Reporter = silent
) -> Converted:
    """A model's file as a folder, a folder as a file, or a LoRA of kohya's form in diffusers' and the other way round.

    The direction follows from what `source` is and how `out` is called. `form`, kohya or diffusers, is for LoRAs that
    are to keep theirs; `dtype` is fp32, fp16 or bf16, by default a file's own. `base` names the model of a LoRA whose
    layers are not those of Stable Diffusion 1.x, 2.x or XL.

    Raises: BespokeError when `out` is there already, there is no such direction, or what was written is not the same.
    """
    path = Path(out)
    check_new(path)
    if dtype and dtype not in DTYPES:
        raise BespokeError(f"There is no dtype {dtype!r}.", f"Known are {', '.join(DTYPES)}.")
    file = path_of(source, Path()) if is_url(source) or Path(source).is_file() else None
    one = path.suffix == ".safetensors"
    if file is None or file.is_dir():
        done = export_model(source, path, "single-file" if one else "model", dtype=dtype or "fp32", report=report)
        told = f"its pictures are {done.likeness.mean:.2f} of 255 levels from those of {source}"
        return Converted(path, "whole model", f"Loaded again by {done.likeness.loader}: {told}.")
    found = passport(file)
    try:
        if found.what == "whole model":
            checked = _file(file, path, dtype or found.dtype) if one else _folder(file, path, dtype)
        elif not one:
            raise BespokeError(f"{source} is a {found.what}: it becomes a file, not {path}.", "Name OUT.safetensors.")
        elif found.what in LOW_RANK:
            checked = _lora(file, path, found, form or ("diffusers" if found.form == "kohya" else "kohya"), dtype, base)
        else:
            checked = _file(file, path, dtype or found.dtype)
    except BaseException:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    return Converted(path, found.what, checked)


def _folder(file: Path, out: Path, dtype: str) -> str:
    """A whole model in one file as a folder; how its tensors were compared."""
    lost = import_model(file, out).left_out
    if dtype:
        round_folder(out, dtype)
    made, own = find(str(out)), load_file(file)
    again = onefile.content_of(made.denoiser(), made.vae(), {part: made.network(part) for _, part in made.reading})
    kind = DTYPES[dtype or "fp32"]
    wanted = {key: own[key].to(kind).float() for key in again if key in own}
    _same({key: again[key].float() for key in wanted}, wanted, out)
    left = f" Left out: {', '.join(lost)}." if lost else ""
    return f"Loaded again: {len(wanted)} of the file's {len(own)} tensors are the model's, and the same.{left}"


def _file(file: Path, out: Path, dtype: str) -> str:
    """A file in another number format; how its tensors were compared.

    Raises: BespokeError when it would stay as it is.
    """
    found = header(file)
    if dtype == found.dtype or dtype not in DTYPES:
        hint = "Say --dtype fp16, or name a folder to unpack a whole model into."
        raise BespokeError(f"{file} would stay as it is.", hint)
    wanted = rounded(load_file(file), dtype)
    modelspec.store(wanted, out, _about(found.metadata))
    _same(load_file(out), wanted, out)
    return f"Read again: {len(wanted)} tensors are the same in {dtype}."


def _lora(file: Path, out: Path, found: Passport, form: str, dtype: str, base: str) -> str:
    """A LoRA or DoRA in kohya's or diffusers' form; how its layers were compared, as diffusers reads both."""
    if form not in ("kohya", "diffusers"):
        raise BespokeError(f"There is no form {form!r} of a LoRA here.", "Known are kohya and diffusers.")
    checkpoint = checkpoint_of(base) if base else _family(found)
    bare = skeletons(checkpoint)
    layers, kind = kohyafile.low_ranks(bare, file), dtype or (found.dtype if found.dtype in DTYPES else "fp32")
    if not layers:
        raise BespokeError(f"{file} changes no layer of {checkpoint.name}.", "Name its base: --base MODEL")
    own = _about(header(file).metadata)
    if form == "diffusers":
        content, told = lorafile.content_of(layers)
        own |= told
    else:
        content = kohyafile.content_of(layers, bare)
    facts = Facts.of(checkpoint, out.stem)
    modelspec.write(rounded(content, kind), out, facts, network_of(layers), own)
    _same_layers(layers, kohyafile.low_ranks(bare, out), kind, out)
    count = sum(len(those) for those in layers.values())
    return f"Read again by diffusers' reader: {count} layers are the same in {kind}, in the form of {form}."


def _family(found: Passport) -> Checkpoint:
    """The settings of a file's family, which say how its layers are called."""
    settings = unpacking.SHIPPED.get(found.family)
    if settings is None:
        problem = f"{found.path} does not say whose layers it changes: {found.family or 'an unknown family'}."
        raise BespokeError(problem, "Name its base: --base MODEL")
    pipeline = json.loads((settings / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    return Checkpoint(found.base or found.family, settings, family_of(pipeline, found.family))


def _about(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a file's metadata say of what is in it."""
    return {key: value for key, value in metadata.items() if not key.startswith(MARKS)}


def _same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], out: Path) -> None:
    """Raises: BespokeError when tensors are not the same to the last bit."""
    other = [key for key in theirs if key not in ours or not torch.equal(ours[key], theirs[key])]
    if other or not theirs:
        raise _other(out, other[0] if other else "nothing")


def _same_layers(before: LowRanks, after: LowRanks, dtype: str, out: Path) -> None:
    """Raises: BespokeError when a layer's matrices or scale became others than rounding makes of them."""
    for part, those in before.items():
        for layer, low in those.items():
            new: Any = after.get(part, {}).get(layer)
            if new is None:
                raise _other(out, layer)
            pairs = [(low.down, new.down), (low.up, new.up)]
            pairs += [] if low.magnitude is None else [(low.magnitude, new.magnitude)]
            equal = all(b is not None and torch.equal(a.to(DTYPES[dtype]).float(), b) for a, b in pairs)
            scale = abs(new.alpha / low.alpha * low.rank / new.rank - 1) if low.alpha else abs(new.alpha)
            if not equal or scale > TOLERANCE[dtype]:
                raise _other(out, layer)


def _other(out: Path, what: str) -> BespokeError:
    problem = f"Read again, {out} holds something else than what went in: {what}."
    return BespokeError(problem, "Nothing was kept. This is our fault: report it.")
