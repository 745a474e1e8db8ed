"""The optimizers that a recipe may name, each made from groups of parameters; all but two by kept libraries."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.recipe.training import Train

Groups = list[dict[str, Any]]


def _adamw(groups: Groups, train: Train) -> torch.optim.Optimizer:
    """Source: Loshchilov & Hutter 2019, algorithm 2; in bfloat16 with rounding at random."""
    formats = {parameter.dtype for group in groups for parameter in group["params"]}
    if torch.bfloat16 in formats:
        return RoundedAdamW(groups, **_adam(train), seed=train.seed)
    return torch.optim.AdamW(groups, **_adam(train), fused=True)


def _adamw8bit(groups: Groups, train: Train) -> torch.optim.Optimizer:
    """Source: Dettmers et al. 2022, "8-bit optimizers via block-wise quantization"."""
    bitsandbytes = _package("bitsandbytes", "adamw8bit")
    if not torch.cuda.is_available():
        hint = 'Take train.optimizer out for AdamW; "adafactor" also saves memory, and works anywhere.'
        raise BespokeError('train.optimizer is "adamw8bit", which needs a CUDA GPU.', hint)
    return bitsandbytes.optim.AdamW8bit(groups, **_adam(train))


def _adafactor(groups: Groups, train: Train) -> torch.optim.Optimizer:
    """Source: Shazeer & Stern 2018, with rates as given, as fine-tuning uses it."""
    from transformers.optimization import Adafactor

    decay, rate = train.adam_weight_decay, train.learning_rate or 0.0
    return Adafactor(groups, lr=rate, weight_decay=decay, scale_parameter=False, relative_step=False)


def _lion(groups: Groups, train: Train) -> torch.optim.Optimizer:
    """Source: Chen et al. 2023, "Symbolic discovery of optimization algorithms"."""
    settings = {key: value for key, value in _adam(train).items() if key != "eps"}
    return _package(PACKAGES["lion"], "lion").Lion(groups, **settings)


def _prodigy(groups: Groups, train: Train) -> torch.optim.Optimizer:
    """Source: Mishchenko & Defazio 2023; it finds the rate itself, and `learning_rate` multiplies that."""
    if len({group["share"] for group in groups}) > 1:
        hint = "Leave text_encoder_learning_rate, words.learning_rate and layer_decay out, or take another optimizer."
        raise BespokeError('train.optimizer is "prodigy", which finds one rate for all weights.', hint)
    made = _package(PACKAGES["prodigy"], "prodigy").Prodigy
    return made(groups, **_adam(train), use_bias_correction=True, safeguard_warmup=True)


def _schedule_free(groups: Groups, train: Train) -> torch.optim.Optimizer:
    """Source: Defazio et al. 2024, "The road less scheduled"."""
    made = _package(PACKAGES["schedule_free"], "schedule_free").AdamWScheduleFree(groups, **_adam(train))
    made.train()
    return made


MAKERS: dict[str, Callable[[Groups, Train], torch.optim.Optimizer]] = {
    "adamw": _adamw, "adamw8bit": _adamw8bit, "adafactor": _adafactor, "lion": _lion, "prodigy": _prodigy,
    "schedule_free": _schedule_free,
}  # fmt: skip
"""By the recipe's names."""


PACKAGES = {"lion": "lion_pytorch", "prodigy": "prodigyopt", "schedule_free": "schedulefree"}


def check(train: Train) -> None:
    """Raises: BespokeError when the recipe's optimizer is not installed, or does not work on this machine or so."""
    if train.offload_optimizer and (train.optimizer == "adamw8bit" or train.mixed_precision == "fp16"):
        what = '"adamw8bit" computes on a GPU only' if train.optimizer == "adamw8bit" else "fp16 scales gradients there"
        hint = 'Take train.optimizer or mixed_precision out, or set mixed_precision = "bf16".'
        raise BespokeError(f"train.offload_optimizer moves weights in the host's memory, and {what}.", hint)
    if train.optimizer == "adamw8bit":
        _adamw8bit([{"params": [torch.nn.Parameter(torch.zeros(1))]}], train)
    elif train.optimizer in PACKAGES:
        _package(PACKAGES[train.optimizer], train.optimizer)


def _adam(train: Train) -> dict[str, Any]:
    """AdamW's settings, which most others share."""
    betas = (train.adam_beta1, train.adam_beta2)
    return {
        "lr": train.learning_rate or 0.0, "betas": betas, "eps": train.adam_epsilon,
        "weight_decay": train.adam_weight_decay,
    }  # fmt: skip


def _package(name: str, asked: str) -> Any:
    """A library that is installed only where it is wanted. Raises: BespokeError when it is not there."""
    try:
        return __import__(name)
    except ImportError:
        hint = "pip install 'bespoke[optim]', or take train.optimizer out of the recipe."
        raise BespokeError(f'train.optimizer is "{asked}", and {name} is not installed.', hint) from None


class RoundedAdamW(torch.optim.Optimizer):
    """AdamW over bfloat16 weights, whose every step is rounded at random: small updates are kept in the mean.

    Moments are float32, and so is the arithmetic. Rounding is drawn from the seed and the number of the step, so it is
    the same in every process and after a resume. Source: Zamirai et al. 2020, "Revisiting BFloat16 training", sec. 3.
    """

    reads_found_inf = True

    def __init__(
        self, groups: Groups, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, seed: int
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "count": 0, "seed": seed}
        super().__init__(groups, defaults)
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step, or none where `found_inf` is not 0; the host does not wait for the device."""
        assert closure is None
        for number, group in enumerate(self.param_groups):
            # Counted on the host: a step that is left out uses its numbers up.
            group["count"] += 1
            drawn: dict[torch.device, torch.Generator] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.device not in drawn:
                    key = (group["seed"] * 1_000_003 + number) << 32 | group["count"]
                    drawn[parameter.device] = torch.Generator(parameter.device).manual_seed(key % (1 << 63))
                self._move(parameter, group, drawn[parameter.device])

    def _move(self, parameter: Tensor, group: dict[str, Any], random: torch.Generator) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for kind in ("exp_avg", "exp_avg_sq"):
                state[kind] = torch.zeros_like(parameter, dtype=torch.float32)
        good = torch.ones_like(state["step"]) if self.found_inf is None else (self.found_inf == 0).float()
        gradient = torch.where(good > 0, parameter.grad.float(), 0.0)  # pyright: ignore[reportOptionalMemberAccess]
        (one, two), rate = group["betas"], group["lr"] * good
        state["step"] += good
        state["exp_avg"].lerp_(gradient, (1 - one) * good)
        state["exp_avg_sq"].lerp_(gradient.square(), (1 - two) * good)
        first = state["exp_avg"] / (1 - one ** state["step"].clamp(min=1))
        second = state["exp_avg_sq"] / (1 - two ** state["step"].clamp(min=1))
        weights = parameter.float()
        moved = weights - rate * (group["weight_decay"] * weights + first / (second.sqrt() + group["eps"]))
        parameter.copy_(rounded(moved, random) if parameter.dtype == torch.bfloat16 else moved)


def rounded(values: Float[Tensor, "*shape"], random: torch.Generator) -> BFloat16[Tensor, "*shape"]:
    """Float32 values as bfloat16, up or down by chance, so that the mean over many draws is the value itself.

    bfloat16 is float32 without its last 16 bits: a random number of 16 bits is added before they are cut off.
    """
    noise = torch.randint(0, 1 << 16, values.shape, generator=random, device=values.device, dtype=torch.int32)
    cut = (values.contiguous().view(torch.int32) + noise) & ~0xFFFF
    return cut.view(torch.float32).to(torch.bfloat16)
