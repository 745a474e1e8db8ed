"""What people are asked about kept pictures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.feedback import Opinion, Sample, Store
from bespoke.feedback.asking import ask


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as opened:
        yield opened


def add(store, name, prompt="a cat", model="style@1", **more):
    return store.add(Sample(name, model, prompt, **more), name.encode())


def judge(store, rater, question, value="up"):
    if question.second is None:
        return store.say(Opinion("thumb", question.first.id, rater, value))
    return store.say(Opinion("choice", question.first.id, rater, "first", question.second.id))


def test_each_picture_is_asked_about_once_and_canaries_never(store):
    for number in range(5):
        add(store, f"p{number}", f"prompt {number}")
    add(store, "canary", canary=True)
    seen = []
    while question := ask(store, "ann"):
        assert question.left == 5 - len(seen) and question.second is None
        seen.append(question.first.id)
        judge(store, "ann", question)
    assert sorted(seen) == [f"p{number}" for number in range(5)]
    assert ask(store, "ben").left == 5


def test_what_is_skipped_is_not_asked_about_now_and_what_is_taken_back_is_asked_again(store):
    add(store, "one", "a")
    add(store, "two", "b")
    assert ask(store, "ann", skipped=("one", "two")) is None
    opinion = judge(store, "ann", ask(store, "ann"))
    assert ask(store, "ann").left == 1
    store.withdraw(opinion.id, "ann")
    assert ask(store, "ann").left == 2


def test_two_versions_of_one_prompt_are_compared_once_and_sides_do_not_tell_which_is_newer(tmp_path):
    newer_left = 0
    for turn in range(24):
        with Store(tmp_path / f"{turn}.db") as store:
            add(store, f"old{turn}", model="style@1", at="2026-01-01T00:00:00+00:00")
            add(store, f"new{turn}", model="style@2", at="2026-02-01T00:00:00+00:00")
            for name in (f"old{turn}", f"new{turn}"):
                store.say(Opinion("thumb", name, "ann", "up"))
            question = ask(store, "ann")
            assert question.second is not None and question.left == 1
            newer_left += question.first.model == "style@2"
            judge(store, "ann", question)
            assert ask(store, "ann") is None
    assert 4 <= newer_left <= 20


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(("m@1", "m@2"))), max_size=8))
def test_questions_come_to_an_end_whatever_there_is(tmp_path_factory, drawn):
    with Store(tmp_path_factory.mktemp("asked")) as store:
        for number, (prompt, model) in enumerate(drawn):
            add(store, f"p{number}", prompt, model)
        lefts = []
        while question := ask(store, "ann"):
            lefts.append(question.left)
            judge(store, "ann", question)
    assert lefts == list(range(len(lefts), 0, -1))
    assert len(lefts) >= len(drawn)
