"""Every optimizer of the recipe: its library's arithmetic, exact resume, its memory; rates by layer; rounding."""

import itertools
import sys

import lion_pytorch
import prodigyopt
import pytest
import schedulefree
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.test_memory import computed, size
from tests.training.test_resume import told
from transformers.optimization import Adafactor

from bespoke.errors import BespokeError
from bespoke.models.norms import limit_norms
from bespoke.recipe import parse
from bespoke.recipe.derive import Facts, derive
from bespoke.recipe.training import Train
from bespoke.training.events import Stopped
from bespoke.training.optim import at_rest, optimizer_of, rate_at
from bespoke.training.optimizers import RoundedAdamW, check, rounded
from bespoke.workspace import Run

BETAS, DECAY, RATE = (0.8, 0.95), 0.3, 0.01
THEIRS = {
    "adafactor": lambda p: Adafactor(p, lr=RATE, weight_decay=DECAY, scale_parameter=False, relative_step=False),
    "lion": lambda p: lion_pytorch.Lion(p, lr=RATE, betas=BETAS, weight_decay=DECAY),
    "prodigy": lambda p: prodigyopt.Prodigy(
        p, lr=RATE, betas=BETAS, weight_decay=DECAY, use_bias_correction=True, safeguard_warmup=True
    ),
    "schedule_free": lambda p: schedulefree.AdamWScheduleFree(p, lr=RATE, betas=BETAS, weight_decay=DECAY),
}
OTHERS = sorted(THEIRS)


def train_with(name: str, **more: object) -> Train:
    known = {"learning_rate": RATE, "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_weight_decay": DECAY}
    return Train(optimizer=name, **known, **more)


def noise(*key: int, shape: tuple[int, ...] = (5, 4)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(k * 97**n for n, k in enumerate(key))))


@pytest.mark.parametrize("name", OTHERS)
def test_an_optimizer_does_what_its_library_does(name):
    ours, theirs = (torch.nn.Parameter(noise(1)) for _ in range(2))
    mine, plain = optimizer_of({"unet.weight": ours}, train_with(name)), THEIRS[name]([theirs])
    if name == "schedule_free":
        plain.train()
    for step in range(6):
        ours.grad, theirs.grad = noise(2, step), noise(2, step)
        mine.step()
        plain.step()
    assert torch.equal(ours, theirs) and not torch.equal(ours.detach(), noise(1))


@pytest.mark.parametrize("name", OTHERS)
def test_stopping_and_going_on_changes_no_bit(name, tmp_path, trainer, everything):
    settings_ = {
        "train": {"optimizer": name, "max_train_steps": 6, "learning_rate": 1e-3},
        "validation": {"validation_steps": 3, "strata": 1},
    }
    if name == "prodigy":
        settings_["train"]["learning_rate"] = settings_["train"]["text_encoder_learning_rate"] = 1.0
    whole = trainer(tmp_path / "whole", **settings_)
    through = list(whole.fit())
    first = trainer(tmp_path / "parts", **settings_)
    before = list(first.fit(lambda: "enough" if first.progress.step == 3 else None))
    assert isinstance(before[-1], Stopped)
    second = trainer(tmp_path / "parts", **settings_)
    second.restore(Run(tmp_path / "parts").state(3))
    assert told(before) + told(list(second.fit())) == told(through)
    for file in ("adapter.safetensors", "last/adapter.safetensors"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert all(torch.equal(p, whole.parameters[n]) for n, p in second.parameters.items())


@pytest.mark.parametrize("name", OTHERS)
def test_a_gradient_that_is_no_number_is_left_out(name, tmp_path, trainer):
    made = trainer(tmp_path, train={"optimizer": name, "max_train_steps": 2, "learning_rate": 1e-3})
    before = {n: p.detach().clone() for n, p in made.parameters.items()}
    next(iter(made.parameters.values())).register_hook(lambda grad: grad * float("nan"))
    steps = [event for event in made.fit() if hasattr(event, "skipped")]
    assert [step.skipped for step in steps] == [1, 1]
    assert all(torch.equal(p, before[n]) for n, p in made.parameters.items())


@pytest.mark.parametrize("name", OTHERS)
def test_the_memory_that_is_planned_is_what_it_takes(name, trainer, recipe, checkpoint, tmp_path):
    sections = {"train": {"optimizer": name}}
    said, real = computed(checkpoint, recipe(**sections)), trainer(tmp_path, **sections)
    for parameter in real.parameters.values():
        parameter.grad = torch.full_like(parameter, 1e-3)
    real.optimizer.step()
    state = real.optimizer.optimizer.state.values()
    held = size(value for one in state for value in one.values() if isinstance(value, torch.Tensor))
    # Prodigy keeps no copy of weights that begin as zeros, as half of an adapter's do; a later stage's do not.
    assert held <= said.optimizer * 1.001
    assert said.optimizer == pytest.approx(held, rel=0.15 if name == "prodigy" else 0.001)


def test_the_weights_to_be_used_of_a_schedule_free_training_are_its_average():
    weight = torch.nn.Parameter(noise(3))
    made = optimizer_of({"unet.weight": weight}, train_with("schedule_free"))
    for step in range(4):
        weight.grad = noise(4, step)
        made.step()
    trained = weight.detach().clone()
    with at_rest(made, {"unet.weight": weight}):
        z = made.state[weight]["z"]
        torch.testing.assert_close(weight.detach(), (trained - (1 - 0.8) * z) / 0.8, rtol=1e-5, atol=1e-6)
        assert not torch.equal(weight.detach(), trained)
    assert torch.equal(weight.detach(), trained)


def test_rates_that_suit_an_optimizer_are_derived():
    facts = Facts(40, 512, "", "cuda", bf16=True)
    found = {
        name: derive(parse({"train": {"optimizer": name}}, "the test"), facts)[0].train
        for name in ("adamw", "lion", "prodigy", "schedule_free")
    }
    assert found["lion"].learning_rate == pytest.approx((found["adamw"].learning_rate or 0) / 5)
    assert (found["prodigy"].learning_rate, found["prodigy"].text_encoder_learning_rate) == (1.0, 1.0)
    free = found["schedule_free"].model_copy(update={"max_train_steps": 50, "lr_warmup_steps": 5})
    assert {rate_at(step, free) for step in range(5, 50)} == {free.learning_rate}


def test_layers_nearer_to_the_input_learn_slower(base):
    parameters = {f"unet.{name}": p for name, p in base.named_parameters()}
    made = optimizer_of(parameters, train_with("adamw", layer_decay=0.5))
    shares = {id(p): group["share"] for group in made.param_groups for p in group["params"]}
    share = {name: shares[id(p)] for name, p in parameters.items()}
    order = ("conv_in", "down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1", "conv_out")
    along = [next(s for name, s in share.items() if name.startswith(f"unet.{part}.")) for part in order]
    assert along[-1] == 1.0 and along == sorted(set(along))
    assert all(b / a in (2.0, 4.0) for a, b in itertools.pairwise(along))
    alike = optimizer_of(parameters, train_with("adamw"))
    assert [group["share"] for group in alike.param_groups] == [1.0]


@pytest.mark.parametrize(
    ("name", "more", "problem"),
    [
        ("prodigy", {"text_encoder_learning_rate": 0.5}, "finds one rate"),
        ("prodigy", {"layer_decay": 0.5}, "finds one rate"),
    ],
)
def test_what_cannot_be_is_refused(name, more, problem, base):
    parameters = {f"unet.{n}": p for n, p in base.named_parameters()} | {"text_encoder.x": torch.nn.Parameter(noise(1))}
    with pytest.raises(BespokeError, match=problem):
        optimizer_of(parameters, train_with(name, **more))


def test_a_package_or_a_gpu_that_is_missing_is_told(monkeypatch):
    weight = {"unet.weight": torch.nn.Parameter(noise(1))}
    monkeypatch.setitem(sys.modules, "lion_pytorch", None)
    with pytest.raises(BespokeError, match="lion_pytorch is not installed") as caught:
        optimizer_of(weight, train_with("lion"))
    assert "bespoke[optim]" in caught.value.hint
    monkeypatch.setitem(sys.modules, "bitsandbytes", torch)  # there, but of no use without a GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BespokeError, match="needs a CUDA GPU"):
        optimizer_of(weight, train_with("adamw8bit"))
    for name in ("lion", "adamw8bit"):
        with pytest.raises(BespokeError):
            check(train_with(name))
    check(train_with("prodigy"))
    with pytest.raises(BespokeError, match="lose small updates"):
        optimizer_of({"unet.weight": torch.nn.Parameter(noise(1).bfloat16())}, train_with("adafactor"))


# --- weights in bfloat16 ---


def test_over_float32_weights_it_is_adamw():
    settings_ = {"lr": RATE, "betas": BETAS, "eps": 1e-8, "weight_decay": DECAY}
    ours, theirs = (torch.nn.Parameter(noise(1)) for _ in range(2))
    mine, plain = RoundedAdamW([{"params": [ours]}], **settings_, seed=0), torch.optim.AdamW([theirs], **settings_)
    for step in range(8):
        ours.grad, theirs.grad = noise(2, step), noise(2, step)
        mine.step()
        plain.step()
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(value=st.floats(-1e6, 1e6, width=32).filter(lambda x: abs(x) > 1e-30), seed=st.integers(0, 99))
def test_rounding_at_random_gives_the_neighbours_and_their_mean(value, seed):
    values = torch.full((20_000,), value, dtype=torch.float32)
    drawn = rounded(values, torch.Generator().manual_seed(seed)).float()
    found = drawn.unique()
    assert len(found) <= 2 and found.min() <= value <= found.max()
    gap = float(found.max() - found.min())
    assert abs(float(drawn.double().mean()) - value) <= 4 * gap / (2 * 20_000**0.5) + 1e-12 * abs(value)


def test_small_updates_are_kept_in_the_mean_where_plain_bfloat16_loses_them():
    weight = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
    made = RoundedAdamW([{"params": [weight]}], lr=1e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, seed=3)
    for _ in range(100):
        weight.grad = torch.ones_like(weight)
        made.step()
    plain = torch.ones(4096, dtype=torch.bfloat16)
    for _ in range(100):
        plain -= 1e-4
    assert float(weight.detach().float().mean()) == pytest.approx(1 - 100 * 1e-4, abs=5e-4)
    assert float(plain.float().mean()) == 1.0


def test_a_step_without_numbers_moves_nothing_of_it():
    weight = torch.nn.Parameter(noise(5).bfloat16())
    made = RoundedAdamW([{"params": [weight]}], lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, seed=3)
    for number in range(3):
        weight.grad = noise(6, number).bfloat16()
        made.step()
    before = [weight.detach().clone(), *(v.clone() for v in made.state[weight].values())]
    weight.grad, made.found_inf = torch.full_like(weight, float("nan")), torch.ones(())
    made.step()
    assert all(torch.equal(a, b) for a, b in zip(before, [weight, *made.state[weight].values()], strict=True))


def test_a_whole_model_in_bfloat16_is_trained_and_goes_on_to_the_same_bits(tmp_path, trainer):
    sections = {
        "model": {"method": "full", "weight_dtype": "bf16"},
        "train": {
            "max_train_steps": 4,
            "learning_rate": 1e-5,
            "use_ema": True,
            "checkpointing_steps": 2,
            "mixed_precision": "bf16",
        },
    }
    whole = trainer(tmp_path / "whole", **sections)
    assert {p.dtype for p in whole.parameters.values()} == {torch.bfloat16}
    assert {v.dtype for v in whole.average.values.values()} == {torch.float32}
    start = {n: p.detach().clone() for n, p in whole.parameters.items()}
    list(whole.fit())
    changed = [not torch.equal(p, start[n]) for n, p in whole.parameters.items()]
    # Weights of 1, such as those of norms, hardly ever change in four steps: bfloat16 has none between 1 and 0.996.
    assert sum(changed) / len(changed) > 0.8
    first = trainer(tmp_path / "parts", **sections)
    list(first.fit(lambda: "enough" if first.progress.step == 2 else None))
    second = trainer(tmp_path / "parts", **sections)
    second.restore(Run(tmp_path / "parts").state(2))
    list(second.fit())
    assert all(torch.equal(p, whole.parameters[n]) for n, p in second.parameters.items())


# --- adapters that must not grow too long ---


def test_long_adapters_are_shortened_to_the_limit_and_others_left_alone(tmp_path, trainer):
    network = trainer(tmp_path, model={"rank": 4, "alpha": 8}).bare

    def norms():
        layers = [m for m in network.modules() if getattr(m, "lora_A", None)]
        return [
            float((m.scaling["default"] * m.lora_B["default"].weight @ m.lora_A["default"].weight).detach().norm())
            for m in layers
        ]

    for number, (name, parameter) in enumerate(network.trainable().items()):
        if "lora_B" in name:
            parameter.data = noise(7, number, shape=tuple(parameter.shape)) * (0.001 if number % 4 else 1.0)
    before = norms()
    limit = sorted(before)[len(before) // 2]
    limit_norms(network, limit)
    after = norms()
    assert max(after) <= limit * 1.0001 and any(b > limit * 1.5 for b in before)
    assert all(a == pytest.approx(min(b, limit), rel=1e-4) for a, b in zip(after, before, strict=True))


def test_the_recipe_limits_them_in_training(tmp_path, trainer):
    free = trainer(tmp_path / "free", train={"max_train_steps": 3, "learning_rate": 0.05})
    held = trainer(tmp_path / "held", train={"max_train_steps": 3, "learning_rate": 0.05, "max_adapter_norm": 0.05})
    for one in (free, held):
        list(one.fit())

    def longest(network):
        layers = [m for m in network.modules() if getattr(m, "lora_A", None)]
        return max(float((m.lora_B["default"].weight @ m.lora_A["default"].weight).detach().norm()) for m in layers)

    assert longest(held.bare) <= 0.0501 < longest(free.bare)
