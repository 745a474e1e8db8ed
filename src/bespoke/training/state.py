"""A training's whole state turned into a folder and back, bit for bit: weights, optimizer, average, progress."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.training.average import Average
from bespoke.workspace import Run, atomic_folder, verified


@dataclass(frozen=True)
class Progress:
    """How far a training has come."""

    step: int = 0
    best_step: int = 0
    best_score: float = 0.0
    """The best mean log-ratio so far; 0 is the base itself."""
    base_losses: list[list[float]] = field(default_factory=list)
    """The base's validation losses, [n strata]; measured once."""


def save(
    run: Run,
    progress: Progress,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: Average,
    scaler: dict[str, Any] | None,
) -> Path:
    """Writes the state after `progress.step`; it appears under its name only when it is complete.

    Raises: BespokeError when the disk is full; older states stay.
    """
    folder = run.state(progress.step)
    if verified(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    with atomic_folder(folder) as temporary:
        save_file({name: _plain(p) for name, p in parameters.items()}, temporary / "weights.safetensors")
        save_file(_moments(parameters, optimizer), temporary / "optimizer.safetensors")
        if average.values:
            save_file({name: _plain(v) for name, v in average.values.items()}, temporary / "average.safetensors")
        content = {"version": 1, "progress": asdict(progress), "scaler": scaler}
        (temporary / "state.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def prune(run: Run, keep: int, newest: Path) -> None:
    """Removes all but the last `keep` states up to `newest`; later ones are damaged, or it would not be the newest."""
    folders = run.states()
    end = folders.index(newest) + 1
    for folder in (*folders[: max(0, end - keep)], *folders[end:]):
        shutil.rmtree(folder, ignore_errors=True)


def newest(run: Run) -> Path | None:
    """The newest state that is complete; damaged ones are passed over."""
    return next((folder for folder in reversed(run.states()) if verified(folder)), None)


def restore(
    folder: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: Average
) -> tuple[Progress, dict[str, Any] | None]:
    """The progress and the loss scaler's state in `folder`, after putting weights, optimizer and average back.

    Raises: BespokeError when the state belongs to another adapter.
    """
    weights, moments = load_file(folder / "weights.safetensors"), load_file(folder / "optimizer.safetensors")
    if {n: w.shape for n, w in weights.items()} != {n: p.shape for n, p in parameters.items()}:
        hint = "Resume with the recipe the run began with, or start a new run."
        raise BespokeError(f"{folder} holds another adapter than the recipe describes.", hint)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            optimizer.state[parameter] = _restored(parameter, name, moments)
        if average.values:
            for name, value in load_file(folder / "average.safetensors").items():
                average.values[name].copy_(value)
    content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Progress(**content["progress"]), content["scaler"]


def _moments(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{kind}/{name}": _plain(value)
        for name, parameter in parameters.items()
        for kind, value in optimizer.state[parameter].items()
    }


def _restored(parameter: nn.Parameter, name: str, moments: dict[str, Tensor]) -> dict[str, Tensor]:
    """AdamW's state for one parameter, in the parameter's own memory layout: fused AdamW needs them alike."""
    state = {kind: torch.empty_like(parameter).copy_(moments[f"{kind}/{name}"]) for kind in ("exp_avg", "exp_avg_sq")}
    return {"step": moments[f"step/{name}"].to(parameter.device), **state}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
