"""Stages: each with a rate of its own, from the last or the best weights, and killed anywhere they end the same."""

import pytest
import torch

from bespoke.errors import BespokeError
from bespoke.recipe import Facts, derive, parse
from bespoke.training import Kept, Saved, Staged, Step, Stopped, Validated
from bespoke.training.optim import rate_at
from bespoke.training.stages import stages
from bespoke.workspace import Run

TWO = [
    {"max_train_steps": 4, "lr_warmup_steps": 1},
    {"max_train_steps": 3, "lr_warmup_steps": 0, "learning_rate": 1e-5, "lr_scheduler": "constant", "start": "best"},
]
SETTINGS = {
    "stage": TWO,
    "train": {
        "max_train_steps": 7,
        "learning_rate": 0.02,
        "use_ema": True,
        "ema_decay": 0.5,
        "checkpointing_steps": 100,
    },
    "validation": {"validation_steps": 1, "strata": 1, "probe": False},
}


def staged(trainer, root, **more):
    made = trainer(root, **{**SETTINGS, **more})
    assert len(made.stages) == 2
    return made


def test_each_stage_has_its_own_rates(tmp_path, trainer):
    ours = staged(trainer, tmp_path)
    rates = [e.learning_rate for e in ours.fit() if isinstance(e, Step)]
    first, second = stages(ours.recipe)
    assert rates == [rate_at(n, first) for n in range(4)] + [rate_at(n, second) for n in range(3)]
    assert rates[4:] == [1e-5] * 3


def test_the_second_stage_begins_with_the_best_weights_and_a_fresh_optimizer(tmp_path, trainer, everything):
    ours, kept, best = staged(trainer, tmp_path), {}, 0
    for event in ours.fit():
        if isinstance(event, Validated):
            with ours.average.in_place():
                kept[event.step] = {n: p.detach().clone() for n, p in ours.parameters.items()}
            best = event.step if event.best and event.step <= 4 else best
        if isinstance(event, Staged):
            assert (event.step, event.stage) == (4, 1)
            assert event.reason == "all steps done"
            assert best > 0
            assert all(torch.equal(p, kept[best][n]) for n, p in ours.parameters.items())
            assert all(torch.equal(v, kept[best][n]) for n, v in ours.average.values.items())
            assert not ours.optimizer.optimizer.state
    assert isinstance(event, Stopped)
    assert event.step == 7
    counts = {float(ours.optimizer.optimizer.state[p]["step"]) for p in ours.parameters.values()}
    assert counts == {3.0}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, trainer, everything):
    """The last event of a training that nothing stopped, and its tensors."""
    whole = staged(trainer, tmp_path_factory.mktemp("whole"))
    *_, stopped = whole.fit()
    return stopped, everything(whole)


@pytest.mark.parametrize("at", [2, 4, 5])
def test_stopped_before_at_and_after_the_change_it_ends_the_same(tmp_path, trainer, everything, uninterrupted, at):
    first = staged(trainer, tmp_path / "parts")
    list(first.fit(lambda: "enough" if first.progress.step == at else None))
    second = staged(trainer, tmp_path / "parts")
    second.restore(Run(tmp_path / "parts").state(at))
    *_, again = second.fit()
    stopped, theirs = uninterrupted
    assert again == stopped
    ours = everything(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_the_change_is_saved_so_that_a_later_best_cannot_change_it(tmp_path, trainer):
    events = list(staged(trainer, tmp_path).fit())
    assert [e.step for e in events if isinstance(e, Saved)] == [4, 7]


def test_patience_ends_a_stage_not_the_training(tmp_path, trainer, material):
    validation = {"early_stopping": True, "patience": 1, "early_stopping_warmup": 0.0, "significance": 1e-9}
    events = list(staged(trainer, tmp_path, validation={"validation_steps": 1, **validation}).fit())
    (change,) = [e for e in events if isinstance(e, Staged)]
    few = len(material.validation) < 3
    assert change.step == (4 if few else 1)
    assert events[-1].finished


def test_epochs_become_steps_and_each_stage_must_say_its_length():
    facts = Facts(40, 64, "", "cpu", bf16=False, visits=60.0)
    content = {"train": {"train_batch_size": 8}, "stage": [{"num_train_epochs": 30}, {"num_train_epochs": 10}]}
    derived, _ = derive(parse(content, ""), facts)
    assert [s.max_train_steps for s in derived.stage] == [225, 75]
    assert derived.train.max_train_steps == 300
    with pytest.raises(BespokeError, match="Stage 2 does not say how long"):
        derive(parse({**content, "stage": [{"num_train_epochs": 3}, {"learning_rate": 1.0}]}, ""), facts)
    with pytest.raises(BespokeError, match=r"300 steps, and train\.max_train_steps is 10"):
        derive(parse({**content, "train": {"train_batch_size": 8, "max_train_steps": 10}}, ""), facts)


def test_weights_are_kept_after_epochs_and_never_removed(tmp_path, trainer):
    train = {"max_train_steps": 12, "save_every_n_epochs": 1, "checkpointing_steps": 1, "checkpoints_total_limit": 1}
    events = list(trainer(tmp_path, train=train, validation={"validation_steps": 12}).fit())
    kept = [e for e in events if isinstance(e, Kept)]
    assert [(e.step, e.epoch, e.folder.name) for e in kept] == [
        (4, 1, "epoch-1"),
        (8, 2, "epoch-2"),
        (12, 3, "epoch-3"),
    ]
    assert [f.name for f in Run(tmp_path).checkpoints()] == ["epoch-1", "epoch-2", "epoch-3"]
    assert all((e.folder / "adapter.safetensors").is_file() for e in kept)
    assert (kept[-1].folder / "adapter.safetensors").read_bytes() == (
        tmp_path / "last/adapter.safetensors"
    ).read_bytes()


def test_the_best_state_outlives_the_others(tmp_path, trainer):
    train = {"max_train_steps": 6, "checkpointing_steps": 1, "checkpoints_total_limit": 1, "learning_rate": 0.1}
    ours = trainer(tmp_path, train={**train, "lr_warmup_steps": 3}, validation={"validation_steps": 1})
    *_, stopped = ours.fit()
    assert 0 < stopped.best_step < 6
    assert [f.name for f in ours.run.states()] == [f"step-{stopped.best_step:06d}", "step-000006"]


def test_another_recipe_is_refused_with_what_differs(tmp_path, trainer):
    began = trainer(tmp_path)
    list(began.fit(lambda: "enough" if began.progress.step == 1 else None))
    other = trainer(tmp_path, train={"learning_rate": 5e-4, "log_every": 7}, text={"trigger": "other"})
    with pytest.raises(BespokeError) as caught:
        other.restore(Run(tmp_path).state(1))
    assert "train.learning_rate: 0.001 was, 0.0005 is." in caught.value.problem
    assert "text.trigger: '8bit illustration of' was, 'other' is." in caught.value.problem
    assert "log_every" not in caught.value.problem


def test_other_training_pictures_are_refused(tmp_path, trainer, material):
    import dataclasses

    began = trainer(tmp_path)
    list(began.fit(lambda: "enough" if began.progress.step == 1 else None))
    fewer = trainer(tmp_path, of=dataclasses.replace(material, train=material.train[:-1]))
    with pytest.raises(BespokeError, match="training pictures are not those"):
        fewer.restore(Run(tmp_path).state(1))
