"""Steps that are recorded and played back: all but the graph itself, on a processor, by a tape of operations."""

from dataclasses import replace

import pytest
import torch
from tests.training.tape import Tape
from tests.training.waiting import NeverWaiting

from bespoke.errors import BespokeError
from bespoke.recipe import parse
from bespoke.training import Noted, Saved, Staged, Step, Tracker, Validated, read
from bespoke.training.captured import WARM_UP, hindrances
from bespoke.training.window import Window
from bespoke.workspace import Run

LONG = {"max_train_steps": 20, "use_ema": True, "ema_decay": 0.9, "checkpointing_steps": 10}
SHORT = {**LONG, "max_train_steps": 9}
SELDOM = {"validation_steps": 10, "strata": 1, "probe": False}


def told(events):
    steps = [(e.step, e.loss, e.learning_rate, e.gradient_norm, e.skipped) for e in events if isinstance(e, Step)]
    return steps, [e for e in events if isinstance(e, Validated)]


def differing(everything, ours, theirs):
    mine, others = everything(ours), everything(theirs)
    assert mine.keys() == others.keys()
    return [name for name in others if not torch.equal(mine[name], others[name])]


@pytest.mark.parametrize(
    ("train", "model"),
    [
        ({}, {}),
        ({"max_train_steps": 12, "gradient_accumulation_steps": 2}, {}),
        ({"max_train_steps": 12, "noise_source": "device", "noise_offset": 0.1, "input_perturbation": 0.1}, {}),
        ({"max_train_steps": 12, "snr_gamma": 5.0, "loss_type": "huber", "log_every": 3}, {}),
        ({"max_train_steps": 12, "learning_rate": 1e-4, "layer_decay": 0.9}, {"method": "full"}),
    ],
    ids=["lora", "two passes", "noise of the device", "objective", "full"],
)
def test_what_is_played_back_is_what_would_have_been_done(tmp_path, trainer, everything, mixed_material, train, model):
    """Over up to twenty steps, in several shapes, with a rate and an average that change: no bit differs."""
    settings = {"train": {**LONG, **train}, "model": model, "of": mixed_material, "validation": SELDOM}
    plain, ours, tape = trainer(tmp_path / "plain", **settings), trainer(tmp_path / "ours", **settings), Tape()
    ours.record_with(tape)
    assert told(list(ours.fit())) == told(list(plain.fit()))
    assert differing(everything, ours, plain) == [] and ours.progress == plain.progress
    passes, shapes = train.get("gradient_accumulation_steps", 1), len(ours.stream.order.lanes)
    assert shapes >= 2 and tape.recorded >= 2
    assert tape.played >= ours.train.max_train_steps * passes - shapes * passes * WARM_UP > 0


def test_a_recorded_step_asks_no_tensor_for_its_contents(tmp_path, trainer):
    ours = trainer(tmp_path, train={"use_ema": True})
    ours.record_with(Tape())
    window = Window(torch.device("cpu"))
    for _ in range(WARM_UP):
        ours.step(window)
    batches = {turn: ours.loader.batch(turn) for turn in range(WARM_UP, WARM_UP + 3)}
    ours.loader.batch = batches.__getitem__
    with NeverWaiting():
        for _ in batches:
            ours.step(window)
    assert int(window.skipped) == 0 and window.steps == WARM_UP + 3


def test_a_gradient_that_is_no_number_moves_nothing_when_played_back(tmp_path, trainer, everything):
    def spoilt(ours):
        plain = ours.loader.batch
        ours.loader.batch = lambda turn: replace(b := plain(turn), clean=b.clean * (float("nan") if turn == 6 else 1))
        return ours

    settings = {"train": SHORT, "validation": SELDOM}
    plain, ours = spoilt(trainer(tmp_path / "plain", **settings)), spoilt(trainer(tmp_path / "ours", **settings))
    ours.record_with(Tape())
    steps, others = told(list(ours.fit()))[0], told(list(plain.fit()))[0]
    assert [step[-1] for step in steps] == [0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert str(steps) == str(others) and differing(everything, ours, plain) == []


def test_recordings_are_given_up_where_memory_moved_and_where_there_are_too_many(
    tmp_path, trainer, everything, mixed_material, monkeypatch
):
    """A stage with its own optimizer, weights that someone put elsewhere, and room for one recording."""
    monkeypatch.setattr("bespoke.training.captured.MOST", 1)
    stages = ({"max_train_steps": 10}, {"max_train_steps": 10, "start": "best"})
    settings = {"train": {**LONG, "max_train_steps": 20}, "stage": stages, "of": mixed_material, "validation": SELDOM}
    plain, ours, tape = trainer(tmp_path / "plain", **settings), trainer(tmp_path / "ours", **settings), Tape()
    ours.record_with(tape)
    for event in ours.fit():
        if isinstance(event, Step) and event.step == 8:
            played = tape.played
            for parameter in ours.parameters.values():
                parameter.data = parameter.data.clone()
        if isinstance(event, Step) and event.step == 9:
            assert tape.played == played  # begun anew, as ever at first
        if isinstance(event, Staged):
            assert ours.captured._kept == {}
        assert len(ours.captured._kept) <= 1
    list(plain.fit())
    assert differing(everything, ours, plain) == [] and tape.played > played > 0


@pytest.mark.parametrize(("passes", "stop", "end"), [(1, 11, 14), (2, 6, 8)])
def test_a_recorded_training_stops_and_goes_on_bit_for_bit(
    tmp_path, trainer, everything, mixed_material, passes, stop, end
):
    steps = {"max_train_steps": end, "gradient_accumulation_steps": passes}
    settings = {"train": {**LONG, **steps}, "of": mixed_material, "validation": SELDOM}
    whole, first, second = (trainer(tmp_path / name, **settings) for name in ("whole", "parts", "parts"))
    for each in (whole, first, second):
        each.record_with(Tape())
    list(whole.fit())
    list(first.fit(lambda: "enough" if first.progress.step == stop else None))
    second.restore(Run(tmp_path / "parts").state(stop))
    list(second.fit())
    assert differing(everything, second, whole) == [] and second.progress == whole.progress


def test_a_state_of_plain_steps_goes_on_recorded(tmp_path, trainer, everything):
    """The rate that the state's optimizer had, and how it was made, are not taken over."""
    plain, first, second = (
        trainer(tmp_path / name, train=SHORT, validation=SELDOM) for name in ("plain", "parts", "parts")
    )
    list(plain.fit())
    list(first.fit(lambda: "enough" if first.progress.step == 2 else None))
    tape = Tape()
    second.record_with(tape)
    second.restore(Run(tmp_path / "parts").state(2))
    list(second.fit())
    assert second.captured.trouble == ""
    assert tape.played == 9 - 2 - WARM_UP and differing(everything, second, plain) == []


class Failing(Tape):
    """A recorder that fails in the midst of the work."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def record(self, work):
        for parameter in self.network.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.full_like(parameter, torch.nan)
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")


@pytest.mark.parametrize("passes", [1, 2])
def test_where_recording_fails_steps_are_made_as_ever_and_that_is_said_once(tmp_path, trainer, everything, passes):
    settings = {"train": {**SHORT, "gradient_accumulation_steps": passes}, "validation": SELDOM}
    plain, ours = trainer(tmp_path / "plain", **settings), trainer(tmp_path / "ours", **settings)
    ours.record_with(Failing(ours.bare))
    events = list(ours.fit())
    assert told(events) == told(list(plain.fit())) and differing(everything, ours, plain) == []
    notes = [event for event in events if isinstance(event, Noted)]
    assert [note.step for note in notes] == [WARM_UP + 1]
    assert notes[0].note == (
        "Steps are not played back as CUDA graphs: CUDA error: operation not permitted when stream is capturing."
    )


def test_a_wish_that_cannot_be_met_is_told_once_and_kept_in_the_metrics(tmp_path, trainer):
    ours = trainer(tmp_path, train={"cuda_graph": True, "max_train_steps": 3}, validation=SELDOM)
    tracker = Tracker(Run(tmp_path), tensorboard=False)
    for event in ours.fit():
        tracker.log(event)
    tracker.close()
    notes = [row["note"] for row in read(Run(tmp_path).metrics) if row["event"] == "noted"]
    assert notes == ["Steps are not played back as CUDA graphs: there is no CUDA GPU."]
    for unasked in ({}, {"cuda_graph": False}):
        settings = {"train": {**unasked, "max_train_steps": 1}, "validation": SELDOM}
        events = list(trainer(tmp_path / "unasked", **settings).fit())
        assert not any(isinstance(event, Noted) for event in events)


def test_a_state_is_of_steps_that_were_made_in_one_way(tmp_path, trainer):
    """On a GPU the rate is rounded to float32 when steps are recorded: a run does not change over."""
    ours = trainer(tmp_path, train={"max_train_steps": 3}, validation=SELDOM)
    assert any(isinstance(event, Saved) for event in ours.fit())
    with pytest.raises(BespokeError, match=r"train\.cuda_graph: False was, True is"):
        trainer(tmp_path, train={"cuda_graph": True}).restore(Run(tmp_path).state(3))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({}, None),
        ({"model": {"method": "full"}}, None),
        ({"model": {"quantization": "fp8", "weight_dtype": "bf16"}, "train": {"mixed_precision": "bf16"}}, None),
        ({"train": {"use_ema": True, "gradient_accumulation_steps": 4, "noise_source": "device"}}, None),
        ({"train": {"offload_optimizer": True}}, "offload_optimizer"),
        ({"train": {"optimizer": "adafactor"}}, "optimizer adafactor"),
        ({"model": {"method": "full", "weight_dtype": "bf16"}}, "weights in bf16"),
        ({"train": {"mixed_precision": "fp16"}}, "fp16's scaler"),
        ({"train": {"gradient_checkpointing": True}}, "gradient_checkpointing"),
        ({"model": {"dropout": 0.1}}, "dropout"),
        ({"train": {"masked_training": True, "masked_prior_preservation_weight": 1.0}}, "the base is asked"),
        ({"train": {"regularisation_target": "base"}}, "the base is asked"),
        ({"train": {"max_adapter_norm": 1.0}}, "max_adapter_norm"),
        ({"model": {"quantization": "nf4"}}, "bitsandbytes"),
    ],
)
def test_each_setting_that_cannot_be_played_back_has_its_reason(base, sections, said):
    found = hindrances(parse(sections, "the test"), base, torch.device("cuda"), 1)
    assert found == [] if said is None else len(found) == 1 and said in found[0]


def test_the_machine_and_the_network_may_be_in_the_way_too(base):
    plain = parse({}, "the test")
    assert hindrances(plain, base, torch.device("cpu"), 1) == ["there is no CUDA GPU"]
    assert "several processes" in hindrances(plain, base, torch.device("cuda"), 2)[0]
    dropping = torch.nn.Sequential(torch.nn.Dropout(0.1))
    assert "dropout" in hindrances(plain, dropping, torch.device("cuda"), 1)[0]
    assert hindrances(plain, torch.nn.Sequential(torch.nn.Dropout(0.0)), torch.device("cuda"), 1) == []
