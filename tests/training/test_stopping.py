"""Patience and the paired test: what counts as clearly better, when training stops, and what is said then."""

import dataclasses
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from bespoke.recipe.training import Validation
from bespoke.training import Stopped, Validated
from bespoke.training.stopping import Patience, chance_of_none
from bespoke.training.validate import Measurement, gap
from bespoke.workspace import Run

SETTINGS = Validation(patience=3, significance=0.05)
MOST = 24
"""Steps of a training that stops long before."""


def measured(level: float, count: int = 6, spread: float = 0.01, seed: int = 0) -> Measurement:
    noise = np.random.default_rng(seed).normal(0, spread, (count, 4))
    return Measurement(np.exp(level + noise))


def told(levels: list[float], *, settings: Validation = SETTINGS, warm: int = 0) -> list[str | None]:
    """The verdict after each of a row of measurements, whose levels are log losses."""
    patience, verdicts = Patience(), []
    for number, level in enumerate(levels):
        now = measured(level, seed=number)
        patience, _ = patience.after(now, number, settings, warm=number > warm)
        verdicts.append(patience.verdict(settings))
    return verdicts


def test_the_chance_is_that_of_a_paired_t_test():
    before, now = measured(0.0, seed=1), measured(-0.01, seed=2)
    each = np.log(now.losses).mean(axis=1) - np.log(before.losses).mean(axis=1)
    wanted = stats.ttest_rel(np.log(now.losses).mean(axis=1), np.log(before.losses).mean(axis=1), alternative="less")
    assert chance_of_none(now, before) == pytest.approx(wanted.pvalue, rel=1e-9)
    assert chance_of_none(before, now) == pytest.approx(1 - wanted.pvalue, rel=1e-9)
    assert now.per_picture(before) == pytest.approx(each, rel=1e-9)


@pytest.mark.parametrize(("factor", "chance"), [(0.9, 0.0), (1.0, 1.0), (1.1, 1.0)])
def test_pictures_that_all_change_alike_leave_no_doubt(factor, chance):
    before = Measurement(np.full((5, 4), 0.5))
    assert chance_of_none(Measurement(before.losses * factor), before) == pytest.approx(chance, abs=1e-12)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_pictures_prove_nothing(count):
    assert chance_of_none(measured(-5.0, count), measured(0.0, count)) == 1.0


def test_a_measurement_that_is_no_number_proves_nothing():
    assert chance_of_none(Measurement(np.full((5, 4), np.nan)), measured(0.0, 5)) == 1.0


def test_it_stops_when_nothing_gets_clearly_better():
    verdicts = told([0.0, -0.5, -0.5, -0.49, -0.48, -0.4])
    assert verdicts[:4] == [None] * 4
    assert verdicts[4] is not None and "none of 3 measurements after step 1 was clearly better" in verdicts[4]
    assert "6 pictures" in verdicts[4] and "5 %" in verdicts[4]


def test_many_small_improvements_are_one_large_one():
    """Each alone is within the noise of the one before; the anchor stays until they add up."""
    assert told([-0.006 * n for n in range(40)]) == [None] * 40


def test_nothing_is_counted_before_training_is_warm():
    levels = [0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert [v is not None for v in told(levels)] == [False, False, False, True, True, True, True]
    assert [v is not None for v in told(levels, warm=3)] == [False] * 6 + [True]


def test_it_can_be_switched_off_and_too_few_pictures_never_stop_it():
    assert told([0.0] + [0.1] * 9, settings=SETTINGS.model_copy(update={"early_stopping": False})) == [None] * 10
    patience = Patience()
    for step in range(9):
        patience, _ = patience.after(measured(0.1 * step, count=2), step, SETTINGS, warm=True)
    assert patience.verdict(SETTINGS) is None


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.integers(1, 6))
def test_it_never_stops_before_patience_is_over(levels, patience):
    settings = SETTINGS.model_copy(update={"patience": patience})
    verdicts = told(levels, settings=settings)
    stopped = next((n for n, v in enumerate(verdicts) if v), len(levels))
    lowest = min(range(stopped), key=lambda n: levels[n])
    assert verdicts[:patience] == [None] * min(patience, len(levels))
    if stopped < len(levels):  # all that came within patience were no clear improvement on what they were held against
        assert min(levels[stopped - patience + 1 : stopped + 1]) > levels[lowest] - 0.05


@given(
    arrays.arrays(float, (5, 3), elements=st.floats(0.01, 10)),
    arrays.arrays(float, (7, 3), elements=st.floats(0.01, 10)),
)
def test_the_gap_is_welchs_interval(ours, theirs):
    ones = (Measurement(np.ones((5, 3))), Measurement(np.ones((7, 3))))
    low, middle, high = gap(Measurement(ours), Measurement(theirs), ones)
    a, b = np.log(ours).mean(axis=1), np.log(theirs).mean(axis=1)
    assert middle == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    assert low <= middle + 1e-12 and middle <= high + 1e-12
    if a.std() > 1e-3 and b.std() > 1e-3:
        wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        assert (low, high) == pytest.approx((wanted.low, wanted.high), rel=1e-6, abs=1e-9)


def overfitted(trainer, material, root, **validation):
    """A training on two pictures at far too high a rate, measured on four others at every step."""
    few = dataclasses.replace(
        material, train=material.train[:2], validation=material.train[2:6], others={"probe": material.train[:2]}
    )
    settings = {"validation_steps": 1, "early_stopping": True, "patience": 3, **validation}
    train = {"max_train_steps": MOST, "learning_rate": 0.02, "lr_scheduler": "constant", "lr_warmup_steps": 0}
    return trainer(root, of=few, train={**train, "log_every": 10, "checkpointing_steps": MOST}, validation=settings)


@pytest.fixture(scope="module")
def learnt_by_heart(tmp_path_factory, trainer, material):
    """The folder of one such training, and its events."""
    folder = tmp_path_factory.mktemp("learnt")
    return folder, list(overfitted(trainer, material, folder).fit())


def test_a_training_that_learns_by_heart_stops_early_and_keeps_the_best(learnt_by_heart):
    _, events = learnt_by_heart
    stopped, measures = events[-1], [e for e in events if isinstance(e, Validated)]
    assert isinstance(stopped, Stopped) and stopped.finished and stopped.step < MOST / 2
    assert "stopped early: none of 3 measurements" in stopped.reason
    best = min(measures, key=lambda e: e.log_ratio)
    assert stopped.best_step == (best.step if best.log_ratio < 0 else 0)
    assert all(e.chance is not None and e.chance >= 0.05 for e in measures[-3:])
    assert measures[-1].gap is not None and measures[-1].gap[1] > 0  # what it trains on does better
    assert measures[-1].gap[1] == pytest.approx(measures[-1].log_ratio - measures[-1].others["probe"])


def test_an_early_stop_survives_a_kill(tmp_path, trainer, material, learnt_by_heart):
    """Killed between the last state and the end: the resumed training is over, and says the same."""
    folder, (*_, stopped) = learnt_by_heart
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    again = overfitted(trainer, material, tmp_path)
    again.restore(Run(tmp_path).state(stopped.step))
    assert list(again.fit()) == [stopped]


def test_waiting_goes_on_after_a_kill(tmp_path, trainer, material, learnt_by_heart):
    _, whole = learnt_by_heart
    half = whole[-1].step - 1
    first = overfitted(trainer, material, tmp_path / "parts")
    list(first.fit(lambda: "enough" if first.progress.step == half else None))
    second = overfitted(trainer, material, tmp_path / "parts")
    second.restore(Run(tmp_path / "parts").state(half))
    *_, stopped = second.fit()
    assert stopped == whole[-1]


def test_training_does_not_stop_before_its_warm_up_is_over(tmp_path, trainer, material):
    *_, stopped = overfitted(trainer, material, tmp_path, early_stopping_warmup=0.5).fit()
    assert stopped.step >= MOST / 2
