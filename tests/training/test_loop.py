"""The loop's events in order, what it keeps, what it refuses, and that each setting does what it says."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import load_file

from bespoke.errors import BespokeError
from bespoke.training import Covered, Saved, Step, Stopped, Validated, state
from bespoke.training.average import Average
from bespoke.training.step import losses
from bespoke.training.validate import Validator
from bespoke.workspace import Run


def held(trainer):
    """The adapter's weights as they are, by the names that diffusers gives them in a file."""
    old = {".lora_A.default.": ".lora.down.", ".lora_B.default.": ".lora.up."}
    names = {}
    for name, parameter in trainer.parameters.items():
        key = name
        for ours, theirs in old.items():
            key = key.replace(ours, theirs)
        names[key] = parameter.detach().clone()
    return names


def in_file(path, weights):
    found = load_file(path)
    assert found.keys() == weights.keys()
    return all(torch.equal(found[name], weights[name]) for name in found)


def after_a_base_of(loss, trainer):
    """The trainer as if its base had had that validation loss: so low or so high that the outcome is certain."""
    losses = [[loss] * trainer.recipe.validation.strata for _ in trainer.stream.material.validation]
    sets = {"validation": losses, "probe": [losses[0]] * len(trainer.stream.material.others["probe"])}
    trainer.progress = dataclasses.replace(trainer.progress, base=sets)
    return trainer


def test_events_come_in_order(tmp_path, trainer):
    train = {"max_train_steps": 5, "log_every": 2, "checkpointing_steps": 3}
    events = list(trainer(tmp_path, train=train, validation={"validation_steps": 2}).fit())
    assert [(type(e), e.step) for e in events] == [
        (Validated, 0),
        (Step, 2),
        (Validated, 2),
        (Saved, 3),
        (Step, 4),
        (Validated, 4),
        (Covered, 4),
        (Step, 5),
        (Validated, 5),
        (Covered, 5),
        (Saved, 5),
        (Stopped, 5),
    ]
    assert events[-1].finished and [f.name for f in Run(tmp_path).states()] == ["step-000003", "step-000005"]
    assert all(event.folder == Run(tmp_path).state(event.step) for event in events if isinstance(event, Saved))
    assert [e.epoch for e in events if isinstance(e, Step)] == [2 * 2 / 8, 4 * 2 / 8, 5 * 2 / 8]


def test_figures_are_means_since_the_last_report(tmp_path, trainer):
    each = [e for e in trainer(tmp_path / "a", train={"max_train_steps": 4}).fit() if isinstance(e, Step)]
    pairs = list(trainer(tmp_path / "b", train={"max_train_steps": 4, "log_every": 2}).fit())
    pairs = [e for e in pairs if isinstance(e, Step)]
    assert [e.step for e in pairs] == [2, 4]
    for number, pair in enumerate(pairs):
        both = each[2 * number : 2 * number + 2]
        assert pair.loss == pytest.approx(np.mean([e.loss for e in both]), rel=1e-6)
        assert pair.gradient_norm == pytest.approx(np.mean([e.gradient_norm for e in both]), rel=1e-6)
        assert pair.learning_rate == both[-1].learning_rate


def test_the_adapter_is_the_one_of_the_best_validation(tmp_path, trainer):
    """At a rate that is far too high it goes up and down."""
    train = {"max_train_steps": 8, "learning_rate": 0.05, "lr_warmup_steps": 0}
    ours = after_a_base_of(1e3, trainer(tmp_path, train=train, validation={"validation_steps": 1}))
    best, score, kept = 0, 0.0, {}
    for event in ours.fit():
        if isinstance(event, Validated):
            assert event.best == (event.step > 0 and event.log_ratio < score)
            if event.best:
                best, score, kept = event.step, event.log_ratio, held(ours)
                assert in_file(ours.run.adapter, kept)
    assert best > 0
    assert event.best_step == best and f"step {best}" in event.reason
    assert ours.progress.best_score == score
    assert in_file(ours.run.adapter, kept)
    assert in_file(ours.run.last / "adapter.safetensors", held(ours))


def test_where_nothing_beats_the_base_the_last_adapter_is_kept_and_it_is_said(tmp_path, trainer):
    ours = after_a_base_of(1e-9, trainer(tmp_path, train={"max_train_steps": 2}))
    *_, stopped = ours.fit()
    assert stopped.best_step == 0 and "never fell below the base" in stopped.reason
    assert in_file(ours.run.adapter, held(ours)) and in_file(ours.run.last / "adapter.safetensors", held(ours))


def test_without_validation_pictures_the_last_adapter_is_kept(tmp_path, trainer, material):
    ours = trainer(tmp_path, of=dataclasses.replace(material, validation=()), train={"max_train_steps": 2})
    events = list(ours.fit())
    assert not [e for e in events if isinstance(e, Validated)]
    assert "without validation" in events[-1].reason and in_file(ours.run.adapter, held(ours))


def test_validation_begins_at_nothing_and_does_not_depend_on_the_batch_size(tmp_path, trainer, material):
    ours = trainer(tmp_path, train={"max_train_steps": 3, "learning_rate": 0.01}, validation={"strata": 4})
    first = next(ours.fit())
    assert isinstance(first, Validated) and first.step == 0 and not first.best
    assert first.log_ratio == 0.0 and set(first.bands) == {0.0} and len(first.bands) == 4
    cpu = torch.device("cpu")
    base = ours.validator(ours.network, cpu)["validation"]
    assert base.losses.shape == (len(material.validation), 4) and first.loss == base.mean
    list(ours.fit())
    found = []
    for size in (1, 3, 16):
        validator = Validator(material, ours.recipe.validation, ours.schedule, size)
        measured = validator(ours.network, cpu)["validation"]
        found.append((measured.mean, measured.log_ratio(base)))
        assert ours.network.training  # its mode was put back
    assert abs(found[0][1]) > 1e-4  # the training did change something
    for mean, ratio in found[1:]:
        assert mean == pytest.approx(found[0][0], rel=1e-5)
        assert ratio == pytest.approx(found[0][1], abs=1e-5)


def test_the_log_ratio_is_the_mean_over_pictures_and_strata(tmp_path, trainer):
    ours = trainer(tmp_path, train={"max_train_steps": 2, "learning_rate": 0.01}, validation={"strata": 2})
    *_, last = (e for e in ours.fit() if isinstance(e, Validated))
    now = ours.validator(ours.network, torch.device("cpu"))["validation"].losses
    base = np.array(ours.progress.base["validation"])
    each = np.array([[math.log(a / b) for a, b in zip(x, y, strict=True)] for x, y in zip(now, base, strict=True)])
    assert last.log_ratio == pytest.approx(each.mean(), abs=1e-12)
    assert last.bands == pytest.approx(each.mean(axis=0), abs=1e-12)
    assert last.loss == pytest.approx(now.mean(), rel=1e-12)


def poisoned(trainer):
    with torch.no_grad():
        next(iter(trainer.parameters.values()))[0] = float("nan")
    return trainer


def test_weights_that_are_no_numbers_end_it_with_advice(tmp_path, trainer):
    ours = trainer(tmp_path, train={"checkpointing_steps": 1})
    with pytest.raises(BespokeError, match=r"no longer a number at step 3") as caught:
        for event in ours.fit():
            if isinstance(event, Saved) and event.step == 2:
                poisoned(ours)
    assert "train.learning_rate" in caught.value.hint and "mixed_precision" in caught.value.hint
    assert str(Run(tmp_path).state(2)) in caught.value.hint
    assert state.newest(Run(tmp_path)) == Run(tmp_path).state(2)


def test_weights_that_are_no_numbers_are_never_saved_even_between_reports(tmp_path, trainer):
    ours = poisoned(trainer(tmp_path, train={"checkpointing_steps": 1, "log_every": 5}))
    with pytest.raises(BespokeError, match="no longer a number") as caught:
        list(ours.fit())
    assert "Nothing was saved yet" in caught.value.hint and Run(tmp_path).states() == []


def disturbed(trainer, *turns):
    """The trainer, to which the pictures of some passes come as no numbers."""
    plain = trainer.loader.batch

    def batch(turn):
        made = plain(turn)
        return dataclasses.replace(made, clean=made.clean * float("nan")) if turn in turns else made

    trainer.loader.batch = batch
    return trainer


def test_a_step_without_a_number_is_left_out_and_counted(tmp_path, trainer, everything):
    train = {"max_train_steps": 4, "lr_scheduler": "constant", "lr_warmup_steps": 0, "use_ema": True}
    ours, seen = disturbed(trainer(tmp_path, train=train), 1), {}
    for event in ours.fit():
        if isinstance(event, Step):
            seen[event.step] = (event, everything(ours))
    kept = [name for name in seen[1][1] if not name.startswith("average")]
    assert [seen[n][0].skipped for n in (1, 2, 3, 4)] == [0, 1, 0, 0]
    assert math.isnan(seen[2][0].loss) and math.isfinite(seen[3][0].loss)
    assert all(torch.equal(seen[1][1][name], seen[2][1][name]) for name in kept)  # weights, moments, and their count
    assert any(not torch.equal(seen[2][1][name], seen[3][1][name]) for name in kept)
    assert all(bool(t.isfinite().all()) for t in seen[4][1].values())


def test_the_mean_loss_is_that_of_the_steps_that_counted(tmp_path, trainer):
    train = {"max_train_steps": 3, "learning_rate": 1e-12, "log_every": 3}
    ours = disturbed(trainer(tmp_path / "a", train=train), 1)
    (step,) = (e for e in ours.fit() if isinstance(e, Step))
    each = [e.loss for e in trainer(tmp_path / "b", train={**train, "log_every": 1}).fit() if isinstance(e, Step)]
    assert step.skipped == 1 and step.loss == pytest.approx((each[0] + each[2]) / 2, rel=1e-6)


def test_too_many_steps_without_a_number_end_it(tmp_path, trainer):
    train = {"max_train_steps": 8, "max_skipped_steps": 3, "checkpointing_steps": 2}
    ours = disturbed(trainer(tmp_path, train=train), 1, 3, 4, 5, 6)
    with pytest.raises(BespokeError, match="no longer a number at step 6") as caught:
        list(ours.fit())
    assert str(Run(tmp_path).state(4)) in caught.value.hint


def test_the_newest_states_are_kept(tmp_path, trainer):
    train = {"max_train_steps": 5, "checkpointing_steps": 1, "checkpoints_total_limit": 2}
    ours = trainer(tmp_path, train=train, validation={"validation_steps": 5, "strata": 1})
    for event in ours.fit():
        if isinstance(event, Saved):
            kept = [f.name for f in ours.run.states()]
            assert kept == [f"step-{n:06d}" for n in range(max(1, event.step - 1), event.step + 1)]
    assert len(ours.run.states()) == 2


def first_step(trainer):
    return next(e for e in trainer.fit(lambda: "enough") if isinstance(e, Step))


def test_snr_gamma_weighs_each_pictures_error(tmp_path, trainer, checkpoint):
    settings = {"train_batch_size": 8, "snr_gamma": 1.0}
    ours = trainer(tmp_path, train=settings)
    batch = ours.stream.batch(0, 8)
    with torch.no_grad():
        errors = losses(ours.network, batch, ours.schedule)
    snr = compute_snr(DDIMScheduler.from_config(checkpoint.scheduler_config), batch.times)
    weights = snr.clamp(max=1.0) / (snr + 1)
    found = first_step(ours).loss
    assert found == pytest.approx(float((errors * weights).mean()), rel=1e-4)
    assert found != pytest.approx(float(errors.mean()), rel=0.05)


def test_noise_offset_and_empty_captions_reach_the_training(tmp_path, trainer):
    ours = trainer(tmp_path, train={"noise_offset": 0.5}, text={"proportion_empty_prompts": 1.0})
    plain = trainer(tmp_path, text={"proportion_empty_prompts": 0.0})
    shift = ours.stream.batch(0, 8).noise - plain.stream.batch(0, 8).noise
    assert float(shift.std(dim=(2, 3)).max()) < 1e-6 and float(shift.abs().max()) > 0.1
    empty = ours.stream.material.texts[[ours.stream.material.empty]]
    assert all(torch.equal(text, empty[0]) for text in ours.stream.batch(0, 8).texts)
    assert not any(torch.equal(text, empty[0]) for text in plain.stream.batch(0, 8).texts)


def test_use_ema_keeps_and_validates_the_average_of_all_steps(tmp_path, trainer):
    train = {"max_train_steps": 4, "learning_rate": 0.01, "use_ema": True, "ema_decay": 0.5}
    ours = trainer(tmp_path, train=train, validation={"validation_steps": 4})
    shadow = {name: p.detach().clone().double() for name, p in ours.parameters.items()}
    for event in ours.fit():
        if isinstance(event, Step):
            kept = min(0.5, (1 + event.step) / (10 + event.step))
            shadow = {n: kept * s + (1 - kept) * ours.parameters[n].detach().double() for n, s in shadow.items()}
        if isinstance(event, Validated):
            measured = event
    for name, value in shadow.items():
        torch.testing.assert_close(ours.average.values[name].double(), value, rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(ours.average.values[n], p) for n, p in ours.parameters.items())
    raw = held(ours)
    assert ours.validator(ours.network, torch.device("cpu"))["validation"].mean != measured.loss
    with ours.average.in_place():
        assert ours.validator(ours.network, torch.device("cpu"))["validation"].mean == measured.loss
        assert in_file(ours.run.last / "adapter.safetensors", held(ours))
    assert not in_file(ours.run.last / "adapter.safetensors", raw)


def test_without_ema_nothing_is_averaged(tmp_path, trainer):
    assert trainer(tmp_path).average.values == Average({}, None).values == {}


def test_a_wish_to_stop_is_granted_after_the_step_and_everything_is_saved(tmp_path, trainer):
    ours = trainer(tmp_path, train={"log_every": 5, "checkpointing_steps": 8})
    events = list(ours.fit(lambda: "lunch" if ours.progress.step >= 3 else None))
    assert [(type(e), e.step) for e in events[-3:]] == [(Step, 3), (Saved, 3), (Stopped, 3)]
    assert events[-1].reason == "lunch" and not events[-1].finished
    assert not (ours.run.last / "adapter.safetensors").exists()


def test_a_run_killed_after_its_last_state_is_finished_without_training(tmp_path, trainer):
    ours = trainer(tmp_path, train={"max_train_steps": 2})
    list(ours.fit())
    files = [ours.run.last / "adapter.safetensors", *([] if ours.progress.best_step else [ours.run.adapter])]
    before = {file: file.read_bytes() for file in files}
    for file in files:
        file.unlink()
    again = trainer(tmp_path, train={"max_train_steps": 2})
    again.restore(ours.run.state(2))
    (event,) = again.fit()
    assert event == Stopped(2, ours.progress.best_step, event.reason, finished=True)
    assert {file: file.read_bytes() for file in files} == before
