"""Every objective that a recipe can ask for: it trains, is another training than the plain one, and goes on exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from bespoke.diffusion import Schedule, squared_errors
from bespoke.diffusion.timesteps import Sampling, chances
from bespoke.errors import BespokeError
from bespoke.training import Step, Validated, objective, state
from bespoke.training.batches import validation_batches
from bespoke.training.step import losses
from bespoke.workspace import Run

OBJECTIVES = {
    "huber": {"loss_type": "huber", "huber_schedule": "constant"},
    "huber, falling": {"loss_type": "huber", "huber_schedule": "exponential"},
    "smooth_l1": {"loss_type": "smooth_l1"},
    "min-SNR": {"snr_gamma": 5.0},
    "soft min-SNR": {"soft_min_snr_gamma": 5.0},
    "debiased": {"debiased_estimation": True},
    "P2": {"p2_gamma": 1.0},
    "offset": {"noise_offset": 0.1},
    "layers": {"multires_noise_iterations": 6},
    "perturbed": {"input_perturbation": 0.1},
    "logit-normal": {"timestep_sampling": "logit_normal"},
    "shifted": {"timestep_shift": 3.0},
    "a range": {"min_timestep": 300, "max_timestep": 600},
    "bands": {"timestep_bias": [1.0, 2.0, 4.0]},
}
FEW = {"max_train_steps": 2, "checkpointing_steps": 100, "train_batch_size": 2}
SELDOM = {"validation_steps": 100, "strata": 2, "max_items": 2, "probe": False}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, trainer):
    """The training without any of them."""
    made = trainer(tmp_path_factory.mktemp("plain"), train=FEW, validation=SELDOM)
    return made, list(made.fit())


@pytest.fixture(scope="module", params=OBJECTIVES.values(), ids=OBJECTIVES.keys())
def trained(tmp_path_factory, trainer, request):
    """A training with one of them, what it said, and how to make its like."""

    def make():
        root = tmp_path_factory.mktemp("trained")
        return trainer(root, train={**FEW, **request.param}, validation=SELDOM), Run(root)

    made, _ = make()
    return made, list(made.fit()), make


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def test_it_trains_otherwise_than_plainly(everything, plain, trained):
    made, events, _ = trained
    ours, others = everything(made), everything(plain[0])
    assert any(not torch.equal(ours[name], others[name]) for name in ours)
    steps = of(Step, events)
    assert len(steps) == 2 and all(np.isfinite(step.loss) and step.skipped == 0 for step in steps)
    assert [step.loss for step in steps] != [step.loss for step in of(Step, plain[1])]


def test_it_goes_on_exactly(everything, trained):
    whole, _, make = trained
    first, run = make()
    list(first.fit(lambda: "enough"))
    second, _ = make()
    second.restore(run.state(1))
    list(second.fit())
    ours, theirs = everything(second), everything(whole)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_its_batches_do_not_hang_on_the_number_of_processes(trained):
    stream = trained[0].stream
    whole, parts = stream.batch(0, 6), [stream.batch(first, 2) for first in (2, 0, 4)]
    for field in ("noise", "times", "added"):
        after, before, last = (getattr(part, field) for part in parts)
        if getattr(whole, field) is None:
            assert after is None
        else:
            assert torch.equal(getattr(whole, field), torch.cat([before, after, last]))


def test_it_is_measured_by_the_squared_error_all_the_same(plain, trained):
    """Before the first step, and with the plain training's weights put in, it says what the plain training says."""
    (made, events, _), (other, said) = trained, plain
    before, plainly = of(Validated, events)[0], of(Validated, said)[0]
    assert (before.step, before.loss, before.bands) == (0, plainly.loss, plainly.bands)
    own = {name: parameter.detach().clone() for name, parameter in made.parameters.items()}
    measured = []
    for weights in (own, other.parameters):
        with torch.no_grad():
            for name, parameter in made.parameters.items():
                parameter.copy_(weights[name])
        measured.append(made.validator(made.bare, torch.device("cpu"))["validation"].losses)
    theirs = other.validator(other.bare, torch.device("cpu"))["validation"].losses
    np.testing.assert_allclose(theirs, squared(other), rtol=1e-4)
    assert (measured[1] == theirs).all() and (measured[0] != theirs).any()


def squared(made):
    """The validation's squared errors by hand, [n strata]."""
    found, schedule = [], made.schedule
    for _, batch in validation_batches(made.material, made.material.validation, 2, 0, schedule, 3):
        with torch.no_grad():
            answer = made.bare.eval()(schedule.noisy(batch.clean, batch.noise, batch.times), batch.times, batch.texts)
        made.bare.train()
        apart = answer - schedule.target(batch.clean, batch.noise, batch.times)
        found += [(one**2).mean().item() for one in apart]
    return np.array(found).reshape(-1, 2)


def test_the_network_is_asked_for_the_noise_without_its_perturbation(tmp_path, trainer, plain):
    """After diffusers' train_text_to_image.py: what is added is `noise + 0.2 * more`, and the target knows nothing."""
    made = trainer(tmp_path, train={**FEW, "input_perturbation": 0.2}, scheduler={"prediction_type": "epsilon"})
    batch, same = made.stream.batch(0, 4), plain[0].stream.batch(0, 4)
    assert torch.equal(batch.noise, same.noise) and torch.equal(batch.times, same.times)
    assert float((batch.added - batch.noise).std()) == pytest.approx(0.2, rel=0.1)
    seen = {}

    def network(noisy, times, texts):
        seen["noisy"] = noisy
        return batch.noise  # the right answer

    assert float(losses(network, batch, made.schedule).sum()) == 0
    signal = made.schedule.signal[batch.times][:, None, None, None]
    wanted = signal.sqrt() * batch.clean + (1 - signal).sqrt() * batch.added
    torch.testing.assert_close(seen["noisy"], wanted)
    assert torch.equal(batch.to(torch.device("cpu")).added, batch.added)


def test_the_loss_of_a_step_is_the_objectives_weighted_mean(tmp_path, trainer):
    """By hand, from the answer of the network itself."""
    asked = {"loss_type": "huber", "huber_schedule": "constant", "huber_c": 0.2, "debiased_estimation": True}
    made = trainer(tmp_path, train={**FEW, **asked, "max_train_steps": 1})
    batch, schedule = made.stream.batch(0, 2), made.schedule
    with torch.no_grad():
        answer = made.network(schedule.noisy(batch.clean, batch.noise, batch.times), batch.times, batch.texts)
    apart = answer - schedule.target(batch.clean, batch.noise, batch.times)
    errors = (0.4 * ((apart**2 + 0.04).sqrt() - 0.2)).mean(dim=(1, 2, 3))
    signal = schedule.signal[batch.times]
    weights = 1 / ((signal / (1 - signal)).clamp(max=1000) + 1)
    (step,) = of(Step, made.fit())
    assert step.loss == pytest.approx(float((errors * weights).mean()), rel=1e-4)


def test_timesteps_come_as_the_recipe_says(tmp_path, trainer, recipe):
    asked = {"timestep_sampling": "logit_normal", "logit_mean": 1.0, "logit_std": 0.5, "min_timestep": 500}
    stream = trainer(tmp_path, train={**FEW, **asked}).stream
    times = stream.batch(0, 400).times
    assert int(times.min()) >= 500
    wanted = chances(Sampling("logit_normal", 1.0, 0.5, first=500), 1000).reshape(10, -1).sum(axis=1)
    found = np.bincount(times.numpy() // 100, minlength=10)
    assert stats.chisquare(found[wanted > 0], 400 * wanted[wanted > 0]).pvalue > 1e-3
    train = recipe(train={**asked, "timestep_shift": 2.0, "max_timestep": 900, "timestep_bias": [1, 2]}).train
    assert objective.sampling(train) == Sampling("logit_normal", 1.0, 0.5, 2.0, 500, 900, (1.0, 2.0))


def test_plain_training_is_what_it_was(tmp_path, trainer, recipe, plain):
    train = recipe().train
    assert objective.weighting(train) is None and objective.pyramid(train) is None
    made, batch = plain[0], plain[0].stream.batch(0, 4)
    assert batch.added is None and made.stream.choices.cumulative is None
    a, b = batch.clean, batch.noise
    assert torch.equal(made.loss.errors(a, b, batch.times, made.schedule), squared_errors(a, b))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"snr_gamma": 5.0, "p2_gamma": 1.0}, "2 ways at once: snr_gamma, p2_gamma"),
        ({"soft_min_snr_gamma": 5.0, "debiased_estimation": True}, "soft_min_snr_gamma, debiased_estimation"),
        ({"min_timestep": 600, "max_timestep": 600}, "No timestep is left"),
        ({"max_timestep": 1001}, "has 1000 timesteps"),
        ({"timestep_bias": [0.0, 0.0]}, "No timestep is left"),
        ({"timestep_bias": [0.0, 1.0], "max_timestep": 400}, "No timestep is left"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_is_encoded(
    pictures, tmp_path, recipe, checkpoint, asked, said
):
    from bespoke.pipeline.new import new
    from bespoke.pipeline.prepare import prepare

    project = new(tmp_path / "project", pictures).project
    schedule = Schedule.from_config(checkpoint.scheduler_config)
    with pytest.raises(BespokeError, match=said):
        objective.check(recipe(train=asked).train, schedule)
    words = [f"train.{key}={str(value).lower()}" for key, value in asked.items()]
    with pytest.raises(BespokeError, match=said):
        prepare(project / "recipe.toml", words)
    assert not (project / "cache").exists()
    prepare(project / "recipe.toml", words[:0])


def test_a_state_that_is_older_than_these_keys_goes_on(tmp_path, trainer):
    began = trainer(tmp_path, train=FEW, validation=SELDOM)
    list(began.fit(lambda: "enough"))
    folder = Run(tmp_path).state(1)
    kept = state.Kept.read(folder)
    train = {key: value for key, value in kept.setting.recipe["train"].items() if key not in {"loss_type", "huber_c"}}
    old = replace(kept.setting, recipe={**kept.setting.recipe, "train": train})
    old.check(began.setting, folder)
    other = trainer(tmp_path, train={**FEW, "loss_type": "huber"}, validation=SELDOM)
    with pytest.raises(BespokeError, match="loss_type: 'l2' was, 'huber' is"):
        old.check(other.setting, folder)
