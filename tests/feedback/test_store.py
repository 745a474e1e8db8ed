"""The store of served pictures and opinions: what was kept is there, whoever else writes and however it ends."""

import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from bespoke.errors import BespokeError
from bespoke.feedback import Opinion, Place, Sample, Store, place, tables
from bespoke.feedback import store as stores
from bespoke.feedback.records import now

SAMPLE = Sample("a", "my-style@7", "a red apple", "my-style@champion", owner="app", settings={"steps": 20}, seconds=1.5)
WORDS = st.text(st.characters(blacklist_categories=()), max_size=30)


def program(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, which says what goes wrong."""
    begin = (
        "import sys; from pathlib import Path; from bespoke.feedback import *; from bespoke.feedback.places import *\n"
    )
    command = [sys.executable, "-c", begin + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """What a process printed that ended well."""
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out


def test_what_was_kept_is_there_when_the_store_is_opened_again(store, opened) -> None:
    before = datetime.now(UTC)
    kept = store.add(replace(SAMPLE, at=now()), b"a picture")
    said = store.say(Opinion("caption", "a", "  Ann   of Ulm", words="an\napple ", consent=True, licence="CC0-1.0"))
    again = opened()
    assert list(again.samples()) == [kept] and list(again.opinions()) == [said]
    assert again.shelf.checked(kept.sha256).read_bytes() == b"a picture" and kept.bytes == 9
    assert before <= datetime.fromisoformat(kept.at) <= datetime.fromisoformat(said.at) <= datetime.now(UTC)
    assert (said.rater, said.words, said.model) == ("Ann of Ulm", "an apple", "my-style@7")
    counts = again.counts()
    assert (counts.samples, counts.bytes, counts.opinions) == (1, 9, {"caption": 1})


def test_keeping_the_same_again_changes_nothing(store) -> None:
    kept, said = store.add(SAMPLE, b"1"), store.say(Opinion("thumb", "a", "Ann", "up"))
    assert store.add(replace(SAMPLE, prompt="other"), b"2") == kept
    assert store.say(replace(said, value="down")) == said
    assert len(list(store.shelf.root.glob("blobs/*/*"))) == 1


def test_any_text_and_any_seed_come_back(somewhere: Place) -> None:
    with Store(somewhere) as store:

        @settings(max_examples=40, database=None)
        @given(WORDS, WORDS, st.integers(0, 2**64 - 1), st.dictionaries(WORDS, WORDS | st.integers() | st.booleans()))
        def check(prompt: str, negative: str, seed: int, how: dict[str, object]) -> None:
            given_ = replace(
                SAMPLE, id=f"s{len(seen)}", prompt=prompt, negative_prompt=negative, seed=seed, settings=how
            )
            kept = store.add(given_, prompt.encode("utf-8", "replace"))
            seen.append(kept)
            assert (kept.seed, kept.settings) == (seed, how)
            plain = prompt.encode("utf-8", "replace").decode()
            assert kept.prompt == plain.replace("\0", "\ufffd")
            assert kept.negative_prompt.isprintable() or kept.negative_prompt.encode()

        seen: list[Sample] = []
        check()
        assert sorted(store.samples(), key=lambda one: int(one.id[1:])) == seen


def test_pages_are_in_order_and_whole_whatever_their_moments(store, monkeypatch) -> None:
    monkeypatch.setattr(stores, "PAGE", 3)
    moments = [f"2026-0{1 + number % 3}-01T00:00:00+00:00" for number in range(10)]
    kept = [
        store.add(replace(SAMPLE, id=f"p{number}", at=at, model=f"m@{number % 2}", canary=number == 4), b"x")
        for number, at in enumerate(moments)
    ]
    ordered = sorted(kept, key=lambda one: (one.at, one.id))
    assert list(store.samples()) == ordered
    assert store.newest(4) == ordered[::-1][:4]
    assert list(store.samples(model="m@1")) == [one for one in ordered if one.model == "m@1"]
    assert [one.id for one in store.samples(canary=True)] == ["p4"]
    assert list(store.samples(since="2026-02")) == [one for one in ordered if one.at >= "2026-02"]
    for number in range(7):
        store.say(Opinion("choice", f"p{number}", "Ann", "tie", other=f"p{number + 1}"))
    assert len(list(store.opinions(kind="choice"))) == 7
    assert [(one.sample, one.other) for one in store.opinions(sample="p3")] == [("p2", "p3"), ("p3", "p4")]


def test_what_is_added_meanwhile_hinders_no_reader(store, monkeypatch) -> None:
    monkeypatch.setattr(stores, "PAGE", 2)
    for number in range(4):
        store.add(replace(SAMPLE, id=f"p{number}"), b"x")
    found = []
    for one in store.samples():
        found.append(one.id)
        if len(found) < 3:
            store.add(replace(SAMPLE, id=f"q{len(found)}"), b"y")
    assert found == ["p0", "p1", "p2", "p3", "q1", "q2"]


@pytest.mark.parametrize(
    ("opinion", "words"),
    [
        (Opinion("thumb", "a", "Ann", "sideways"), "cannot be 'sideways'"),
        (Opinion("flag", "a", "Ann", "ugly"), "cannot be 'ugly'"),
        (Opinion("caption", "a", "Ann", words=" \n"), "empty"),
        (Opinion("caption", "a", "Ann", words="x" * 2001), "too many"),
        (Opinion("choice", "a", "Ann", "first", other="a"), "two pictures"),
        (Opinion("choice", "a", "Ann", "first"), "names no picture"),
        (Opinion("thumb", "a", "Ann", "up", other="b"), "about one picture"),
        (Opinion("thumb", "../a", "Ann", "up"), "names no picture"),
        (Opinion("thumb", "a", " ", "up"), "needs a name"),
        (Opinion("thumb", "a", "Ann", "up", at="yesterday"), "no moment"),
    ],
)
def test_what_cannot_be_said_is_refused(tmp_path: Path, opinion: Opinion, words: str) -> None:
    with Store(tmp_path) as store, pytest.raises(BespokeError) as raised:
        store.say(opinion)
    assert words in raised.value.problem and raised.value.hint


def test_only_the_rater_takes_an_opinion_back(store) -> None:
    said = store.say(Opinion("flag", "a", "Ann", "copy", words="by Ben", consent=True))
    assert not store.withdraw(said.id, "Ben") and store.withdraw(said.id, "Ann") and not store.withdraw(said.id, "Ann")
    (left,) = store.opinions()
    assert left.withdrawn >= said.at and (left.words, left.consent) == ("", False)
    assert store.counts().opinions == {}


def test_processes_that_open_a_new_store_at_once_and_write_lose_nothing(somewhere: Place) -> None:
    code = """
        print("here", flush=True); sys.stdin.readline()
        with Store(Place(sys.argv[1], Path(sys.argv[2]))) as store:
            for number in range(30):
                store.add(Sample(f"{sys.argv[3]}-{number}", "m@1", "x"), f"{number % 7}".encode())
                store.say(Opinion("thumb", f"{sys.argv[3]}-{number}", sys.argv[3], "up"))
    """
    others = [program(code, somewhere.address, somewhere.samples, name) for name in "abc"]
    for other in others:
        assert other.stdout.readline() == "here\n"
    for other in others:
        other.stdin.write("\n")
        other.stdin.flush()
    for other in others:
        ended(other)
    with Store(somewhere) as store:
        assert {one.id for one in store.samples()} == {f"{name}-{number}" for name in "abc" for number in range(30)}
        counts = store.counts()
        assert (counts.samples, counts.bytes, counts.opinions) == (90, 7, {"thumb": 90})
        assert {one.model for one in store.opinions()} == {"m@1"}


def test_a_process_that_is_killed_leaves_rows_with_their_files(tmp_path: Path) -> None:
    code = """
        with Store(sys.argv[1]) as store:
            for number in range(10**6):
                store.add(Sample(f"p{number}", "m@1", "x"), f"{number}".encode() * 5000)
                print(number, flush=True)
    """
    for _ in range(3):
        process = program(code, tmp_path)
        told = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGKILL)
        told += process.communicate()[0].splitlines()
        with Store(tmp_path) as store:
            found = list(store.samples())
            assert len(found) >= len(told)
            assert all(store.shelf.checked(one.sha256).stat().st_size == one.bytes for one in found)


def test_a_store_of_before_is_brought_up_and_one_of_later_is_left_alone(somewhere: Place, monkeypatch) -> None:
    with Store(somewhere) as store:
        kept = store.add(SAMPLE, b"x")
    steps = ("ALTER TABLE feedback_sample ADD COLUMN mood VARCHAR NOT NULL DEFAULT 'calm'", "CREATE TABLE more (x INT)")
    with monkeypatch.context() as later:
        later.setattr(tables, "VERSION", 3)
        later.setattr(tables, "STEPS", {2: steps[:1], 3: steps[1:]})
        for _ in range(2):  # a second time there is nothing to do
            with Store(somewhere) as store, store.reading() as connection:
                assert connection.execute(text("SELECT id, mood FROM feedback_sample")).all() == [(kept.id, "calm")]
                assert connection.execute(text("SELECT version FROM feedback_version")).scalar_one() == 3
    with pytest.raises(BespokeError, match="version 3") as raised:
        Store(somewhere)
    assert "newer" in raised.value.hint


def test_a_step_that_fails_leaves_the_store_as_it_was(somewhere: Place, monkeypatch) -> None:
    Store(somewhere).close()
    with monkeypatch.context() as later:
        later.setattr(tables, "VERSION", 2)
        later.setattr(tables, "STEPS", {2: ("CREATE TABLE more (x INT)", "ALTER TABLE nothing ADD COLUMN y INT")})
        with pytest.raises(BespokeError, match="cannot be read or written"):
            Store(somewhere)
    with Store(somewhere) as store, store.reading() as connection:
        assert connection.execute(text("SELECT version FROM feedback_version")).scalar_one() == 1
        with pytest.raises(Exception, match="more"):
            connection.execute(text("SELECT * FROM more"))


def test_a_store_that_others_hold_is_told(tmp_path: Path) -> None:
    with Store(tmp_path, patience=0.2) as store, closing(sqlite3.connect(tmp_path / "feedback.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BespokeError, match="locked") as raised:
            store.add(SAMPLE, b"x")
        assert "feedback.db" in raised.value.problem and raised.value.hint
        other.rollback()
        store.add(SAMPLE, b"x")


def test_who_reads_hinders_nobody_who_writes(store, opened) -> None:
    store.add(SAMPLE, b"x")
    writer = opened()
    with store.reading() as connection:
        count = "SELECT count(*) FROM feedback_sample"
        assert connection.execute(text(count)).scalar_one() == 1
        writer.add(replace(SAMPLE, id="b"), b"y")
        assert connection.execute(text(count)).scalar_one() == 1, "one state throughout"
    assert store.counts().samples == 2


def test_a_full_disk_is_told_and_costs_nothing_that_was_there(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        kept = store.add(SAMPLE, b"x")
    code = """
        import resource
        from bespoke.errors import BespokeError
        with Store(sys.argv[1]) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
            try:
                for number in range(10**6):
                    store.add(Sample(f"p{number}", "m@1", "x" * 5000), f"{number}".encode())
            except BespokeError as error:
                print(error.problem)
    """
    assert "cannot be read or written" in ended(program(code, tmp_path))
    with Store(tmp_path) as store:
        first, *more = store.samples()
        assert first == kept and more
        store.add(replace(SAMPLE, id="b"), b"y")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mysql://host/db", "cannot be kept at mysql://host/db"),
        ("postgresql://ann:secret@127.0.0.1:1/db", "cannot be read or written"),
    ],
)
def test_an_address_that_is_no_store_is_told_without_its_password(address: str, words: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(BespokeError) as raised:
        Store(address)
    assert words in raised.value.problem and "secret" not in str(raised.value)


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "feedback.db").write_bytes(b"This is no database, but a letter to a friend. " * 100)
    with pytest.raises(BespokeError, match="not a database"):
        Store(tmp_path)
    assert (tmp_path / "feedback.db").read_bytes().startswith(b"This is no")


def test_the_nearest_store_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BespokeError, match=r"no feedback here"):
        place(start=tmp_path)
    Store(tmp_path).close()
    below = tmp_path / "one" / "two"
    below.mkdir(parents=True)
    assert place(start=below) == place(str(tmp_path)) == place(str(tmp_path / "feedback.db"))
    assert place(start=below).samples == tmp_path / "samples"
    monkeypatch.setenv("BESPOKE_FEEDBACK", "postgres://ann:secret@host/db")
    found = place(start=below)
    assert (found.address, found.file) == ("postgresql+psycopg://ann:secret@host/db", None)
    assert "secret" not in found.shown
    with pytest.raises(BespokeError, match="no feedback at"):
        place(str(tmp_path / "other.db"))


def test_a_service_that_writes_things_down_loads_nothing_heavy() -> None:
    heavy = ("torch", "scipy", "mlflow", "pandas")
    assert ended(program(f"print([name for name in {heavy} if name in sys.modules])")) == "[]\n"
