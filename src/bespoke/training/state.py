"""A training's whole state turned into a folder and back, bit for bit: weights, optimizer, average, progress."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.shards import spread, whole
from bespoke.recipe import Recipe
from bespoke.training.average import Average
from bespoke.training.stopping import Patience
from bespoke.workspace import Run, atomic_folder, verified

WEIGHTS = "weights.safetensors"
VERSION = 2


@dataclass(frozen=True)
class Progress:
    """How far a training has come."""

    step: int = 0
    best_step: int = 0
    best_score: float = 0.0
    """The best mean log-ratio so far; 0 is the base itself."""
    base: dict[str, list[list[float]]] = field(default_factory=dict)
    """The base's losses on each set, [n strata]; measured once."""
    stage: int = 0
    began: int = 0
    """The step after which the stage began."""
    patience: Patience = field(default_factory=Patience)
    ended: str = ""
    """Why the training is over; empty while it is not."""

    @staticmethod
    def of(content: dict[str, Any]) -> "Progress":
        """The progress that `asdict` turned into JSON."""
        known: dict[str, Any] = {**content, "patience": Patience(**content["patience"])}
        return Progress(**known)


@dataclass(frozen=True)
class Setting:
    """What must be the same when a training goes on, for its end to be the same."""

    recipe: dict[str, Any]
    material: str
    """The material's fingerprint."""
    pass_size: int
    """Pictures of one pass in all processes together."""

    @staticmethod
    def of(recipe: Recipe, material: str, pass_size: int) -> "Setting":
        """Of a recipe the sections that training hangs on, without the keys that only say what is written when."""
        content = recipe.model_dump(mode="json", include=SECTIONS)
        for key in FREE:
            content["train"].pop(key)
        return Setting(content, material, pass_size)

    def check(self, now: "Setting", folder: Path) -> None:
        """Raises: BespokeError when a training of these settings cannot go on with those of `now`, saying why."""
        after, plain = _flat(now.recipe), _flat(Recipe().model_dump(mode="json"))
        # A key that is younger than the state was at its default.
        before = {key: plain.get(key) for key in after} | _flat(self.recipe)
        changed = [key for key in before | after if before.get(key) != after.get(key)]
        if changed:
            lines = [f"{key}: {before.get(key)!r} was, {after.get(key)!r} is." for key in changed]
            hint = "Put the run's recipe.toml back as it was, or start a new run."
            raise BespokeError(f"{folder} was trained by another recipe. " + " ".join(lines), hint)
        if self.material != now.material:
            hint = "Put the dataset back as it was, or start a new run."
            raise BespokeError(f"The training pictures are not those that {folder} was trained on.", hint)


SECTIONS = {"model", "data", "text", "train", "stage", "validation"}
FREE = (
    "log_every", "checkpointing_steps", "checkpoints_total_limit", "save_every_n_epochs", "train_batch_size",
    "sharding",
)  # fmt: skip
"""Keys that may change; of the batch size what counts is how many pictures all processes take together."""


HOW = ("lr", "capturable", "foreach", "fused")
"""What an optimizer's groups say of how steps are made here, and not of how far they have come; rates are set anew."""


def save(
    run: Run,
    progress: Progress,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: Average,
    scaler: dict[str, Any] | None,
    setting: Setting,
) -> Path:
    """Writes the state after `progress.step`; it appears under its name only when it is complete.

    Raises: BespokeError when the disk is full; older states stay.
    """
    folder = run.state(progress.step)
    if verified(folder):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    with atomic_folder(folder) as temporary:
        for file, tensors in _files(parameters, optimizer, average):
            save_file({name: _plain(tensor) for name, tensor in tensors.items()}, temporary / file)
        content = {"version": VERSION, "progress": asdict(progress), "scaler": scaler, "setting": asdict(setting)}
        content["optimizer"] = _remembered(parameters, optimizer)
        (temporary / "state.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def help_save(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: Average) -> None:
    """Gives this process's parts of all tensors to the one that calls `save`; needed where each has but a part."""
    for _, tensors in _files(parameters, optimizer, average):
        for tensor in tensors.values():
            whole(tensor.detach())


def prune(run: Run, keep: int, newest: Path, best: Path) -> None:
    """Removes all but the last `keep` states up to `newest` and the `best`; those after `newest` are damaged."""
    folders = run.states()
    end = folders.index(newest) + 1
    for folder in (*folders[: max(0, end - keep)], *folders[end:]):
        if folder != best or folder > newest:
            shutil.rmtree(folder, ignore_errors=True)


def newest(run: Run) -> Path | None:
    """The newest state that is complete; damaged ones are passed over."""
    return next((folder for folder in reversed(run.states()) if verified(folder)), None)


@dataclass(frozen=True)
class Kept:
    """What a state says beside the tensors."""

    progress: Progress
    scaler: dict[str, Any] | None
    setting: Setting

    @staticmethod
    def read(folder: Path) -> "Kept":
        """What stands in a state's folder.

        Raises: BespokeError when an older version of bespoke wrote it.
        """
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise BespokeError(f"{folder} was written by another version of bespoke.", "Start a new run.")
        return Kept(Progress.of(content["progress"]), content["scaler"], Setting(**content["setting"]))


def restore(
    folder: Path, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: Average
) -> None:
    """Puts weights, optimizer and average back as they are in `folder`.

    Raises: BespokeError when the state belongs to another training.
    """
    weights, moments = load_file(folder / WEIGHTS), load_file(folder / "optimizer.safetensors")
    said = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    # States from before there were other optimizers hold AdamW's tensors only, which are all it needs.
    numbers: dict[str, Any] = said.get("optimizer") or {"state": {}, "groups": [{} for _ in optimizer.param_groups]}
    if {n: w.shape for n, w in weights.items()} != {n: p.shape for n, p in parameters.items()}:
        hint = "Resume with the recipe the run began with, or start a new run."
        raise BespokeError(f"{folder} holds other weights than the recipe describes.", hint)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(spread(weights[name], parameter))
            state = {kind: _restored(parameter, moment) for kind, moment in _of(name, moments).items()}
            if state or name in numbers["state"]:
                optimizer.state[parameter] = state | numbers["state"].get(name, {})
        if average.values:
            for name, value in load_file(folder / "average.safetensors").items():
                average.values[name].copy_(spread(value, average.values[name]))
    for group, values in zip(optimizer.param_groups, numbers["groups"], strict=True):
        group.update({key: value for key, value in values.items() if key not in HOW})


def _flat(content: Any, name: str = "") -> dict[str, Any]:
    """The values of nested tables by their dotted names."""
    if not isinstance(content, dict):
        return {name: content}
    table = cast(dict[str, Any], content)
    return {k: v for key, value in table.items() for k, v in _flat(value, f"{name}.{key}" if name else key).items()}


def _files(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: Average
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each file of a state with its tensors by name; the optimizer's by kind and parameter."""
    yield WEIGHTS, dict(parameters)
    yield (
        "optimizer.safetensors",
        {
            f"{kind}/{name}": value
            for name, parameter in parameters.items()
            for kind, value in optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        },
    )
    if average.values:
        yield "average.safetensors", average.values


def _remembered(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's numbers, as JSON holds them."""
    numbers = {name: _numbers(optimizer.state.get(parameter, {})) for name, parameter in parameters.items()}
    groups = [_numbers(group) for group in optimizer.param_groups]
    return {"state": {name: held for name, held in numbers.items() if held}, "groups": groups}


def _numbers(content: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that are plain numbers, which a training changes."""
    return {key: value for key, value in content.items() if isinstance(value, int | float)}


def _of(name: str, moments: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one parameter, by kind."""
    return {kind: value for key, value in moments.items() for kind, _, whose in [key.partition("/")] if whose == name}


def _restored(parameter: nn.Parameter, moment: Tensor) -> Tensor:
    """A tensor of the optimizer's, in the parameter's own memory layout: fused AdamW needs them alike."""
    if moment.shape != parameter.shape:
        return moment.to(parameter.device)
    return torch.empty_like(parameter, dtype=moment.dtype).copy_(spread(moment, parameter))


def _plain(tensor: Tensor) -> Tensor:
    return whole(tensor.detach()).cpu().contiguous()
