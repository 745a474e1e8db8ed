"""The store: what was rated is on the disk, whoever else writes and however the process ends."""

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bespoke.errors import BespokeError
from bespoke.feedback import FILE, Comparison, Item, Ratings

COMPARISON = Comparison(("a", "b"), tuple(Item(f"{n}", f"thing {n}", (f"a{n}", f"b{n}")) for n in range(10)))


@pytest.fixture
def ratings(tmp_path: Path):
    made = Ratings(tmp_path / "new" / FILE)
    made.begin(COMPARISON)
    yield made
    made.close()


def opened(file: Path) -> Ratings:
    return Ratings(file)


def test_what_was_given_is_there_in_another_process_with_its_time(ratings, tmp_path):
    before = datetime.now(UTC).replace(microsecond=0)
    trials = COMPARISON.trials("Ann")
    for trial, choice in zip(trials[:3], ("left", "right", "tie"), strict=True):
        assert ratings.add("Ann", trial, choice)
    other = opened(ratings.file)
    assert other.comparison() == COMPARISON
    found = other.all()
    assert [(r.rater, r.trial, r.choice) for r in found] == [
        ("Ann", trial, choice) for trial, choice in zip(trials, ("left", "right", "tie"), strict=False)
    ]
    assert [r.chosen for r in found] == [trials[0].left, trials[1].right, ""]
    assert before <= datetime.fromisoformat(found[0].rated_at) <= datetime.now(UTC)
    other.close()


def test_a_trial_is_rated_once(ratings):
    trial = COMPARISON.trials("Ann")[0]
    assert ratings.add("Ann", trial, "left") and not ratings.add("Ann", trial, "right")
    assert ratings.add("Ben", trial, "right")
    assert [r.choice for r in ratings.all("Ann")] == ["left"] and len(ratings.all()) == 2


def test_undo_takes_the_raters_own_last_one(ratings):
    assert not ratings.undo("Ann")
    for rater, position in (("Ann", 0), ("Ann", 1), ("Ben", 0)):
        ratings.add(rater, COMPARISON.trials(rater)[position], "left")
    assert ratings.undo("Ann")
    assert [(r.rater, r.position) for r in ratings.all()] == [("Ann", 0), ("Ben", 0)]
    ratings.tell("Ann")
    ratings.tell("Ann")
    with pytest.raises(BespokeError, match="has seen which model is which"):
        ratings.undo("Ann")
    assert ratings.undo("Ben") and len(ratings.all()) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"models": ("a", "c")}, "its models are a, b"),
        ({"items": COMPARISON.items[:9]}, "prompts or files"),
        ({"items": (replace(COMPARISON.items[0], prompt="other"), *COMPARISON.items[1:])}, "prompts or files"),
        ({"items": (replace(COMPARISON.items[0], pixels=("a0", "?")), *COMPARISON.items[1:])}, "pictures are others"),
        ({"seed": 1}, "its seed is 0"),
        ({"repeated": 0.5}, "shown twice 0.2"),
    ],
)
def test_ratings_of_something_else_are_left_alone(ratings, changed, words):
    with pytest.raises(BespokeError, match="another comparison") as raised:
        ratings.begin(replace(COMPARISON, **changed))
    assert words in raised.value.problem and "--out" in raised.value.hint
    assert ratings.comparison() == COMPARISON
    ratings.begin(COMPARISON)
    ratings.check(replace(COMPARISON, items=tuple(replace(item, pixels=()) for item in COMPARISON.items)))


def test_many_threads_and_two_processes_lose_nothing(ratings):
    def rate(name: str) -> None:
        store = opened(ratings.file)
        for trial in COMPARISON.trials(name):
            assert store.add(name, trial, "tie")
        store.close()

    code = (
        "import sys; from pathlib import Path; from bespoke.feedback import Ratings\n"
        "r = Ratings(Path(sys.argv[1])); c = r.comparison()\n"
        "assert all(r.add('other', t, 'left') for t in c.trials('other'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(ratings.file)])
    threads = [threading.Thread(target=rate, args=(f"rater {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait() == 0
    assert len(ratings.all()) == 5 * len(COMPARISON.trials("x")) == len({(r.rater, r.position) for r in ratings.all()})


def test_threads_that_rate_one_trial_at_once_rate_it_once(ratings):
    trial, answers = COMPARISON.trials("Ann")[0], []
    barrier = threading.Barrier(6)

    def rate() -> None:
        barrier.wait()
        answers.append(ratings.add("Ann", trial, "left"))

    threads = [threading.Thread(target=rate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 5 + [True] and len(ratings.all()) == 1


def test_a_kill_right_after_a_rating_keeps_it(ratings):
    code = (
        "import os, sys; from pathlib import Path; from bespoke.feedback import Ratings\n"
        "r = Ratings(Path(sys.argv[1])); r.add('Ann', r.comparison().trials('Ann')[0], 'left'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(ratings.file)]).returncode == -9
    assert [r.choice for r in ratings.all()] == ["left"]


def test_what_is_no_store_of_ratings_is_refused_and_not_touched(tmp_path):
    text, other, newer = (tmp_path / name for name in ("text.db", "other.db", "newer.db"))
    text.write_text("not a database, but long enough to be taken for one " * 20)
    for file, sql in ((other, "CREATE TABLE runs (id)"), (newer, "PRAGMA user_version = 99")):
        connection = sqlite3.connect(file)
        connection.execute(sql)
        connection.close()
    for file in (text, other, newer, tmp_path):
        content = file.read_bytes() if file.is_file() else b""
        with pytest.raises(BespokeError) as raised:
            Ratings(file)
        assert raised.value.hint and (file.read_bytes() if file.is_file() else b"") == content
