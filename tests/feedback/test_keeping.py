"""What is deleted is gone: rows, files, and every byte that a store's files ever held of it."""

import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.feedback import Opinion, Place, Sample, Store
from bespoke.feedback import keeping as deleting
from bespoke.feedback.keeping import MEGABYTE, forget, keep, scrub
from bespoke.feedback.rated import rated
from bespoke.feedback.records import moment

CONTENTS = [bytes([number]) * (1 + 7000 * number) for number in range(5)]
"""What pictures hold; two may hold the same."""
DRAWN = st.tuples(
    st.integers(0, 40), st.sampled_from(CONTENTS), st.sampled_from(["m@1", "m@2"]), st.booleans(), st.booleans()
)
RATERS, OWNERS = ["rater-anna", "rater-bert"], ["owner-carl", "owner-dora"]
NOBODY: tuple[str, ...] = ()


def files(store: Store) -> set[str]:
    return {file.name for file in store.shelf.root.rglob("*") if file.is_file()}


def consistent(store: Store) -> list[Sample]:
    """The pictures that are kept, after a look whether their files, and no others, lie there."""
    found = list(store.samples())
    assert files(store) == {one.sha256 for one in found}
    assert all(store.shelf.checked(one.sha256) for one in found)
    return found


def fitting(drawn: list[Sample], most: float) -> list[Sample]:
    """The newest of some pictures, as many as fit into so many bytes; equal contents take their room once."""
    while sum({one.sha256: one.bytes for one in drawn}.values()) > most:
        drawn = drawn[1:]
    return drawn


def retained(store: Store, drawn: Iterable[tuple[int, bytes, str, bool, bool]], days: float, most: int) -> None:
    """Keeps some of what was drawn, and checks what is left and what is still known of the rest."""
    now = datetime.now(UTC)
    for number, (age, content, model, unsafe, canary) in enumerate(drawn):
        at = moment(now - timedelta(days=age, hours=12))
        made = Sample(f"p{number}", model, f"prompt {number}", flagged=unsafe, canary=canary, seconds=1.0, at=at)
        store.add(made, content)
        store.say(
            Opinion("flag" if number % 3 else "thumb", made.id, "Ann", "other" if number % 3 else "up", words="x")
        )
    everything, before = sorted(store.samples(), key=lambda one: (one.at, one.id)), rated(store).to_json()
    gone = keep(store, days=days, megabytes=most / MEGABYTE)
    young = [one for one in everything if datetime.fromisoformat(one.at) > now - timedelta(days=days)]
    wanted = fitting(young, most)
    assert consistent(store) == wanted
    assert set(gone.samples) == {one.id for one in everything} - {one.id for one in wanted}
    assert gone.bytes == sum({one.sha256: one.bytes for one in everything if one.sha256 in gone.files}.values())
    assert rated(store).to_json() == before, "figures of what is gone stay"
    assert store.counts().gone == sum(not one.canary for one in everything) - sum(not one.canary for one in wanted)
    words = Counter(bool(one.words) for one in store.opinions())
    assert words[True] == len(wanted) and words.total() == len(everything)
    assert not keep(store, days=days, megabytes=most / MEGABYTE).samples


@settings(max_examples=25, database=None)
@given(st.lists(DRAWN, max_size=12), st.integers(0, 40), st.integers(0, 70_000))
def test_the_newest_that_fit_are_kept_and_the_figures_of_all(drawn, days: int, most: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(deleting, "PAGE", 3)
        retained(store, drawn, float(days), most)


def test_the_same_wherever_the_store_is(store) -> None:
    drawn = [(age, CONTENTS[age % 5], f"m@{age % 2}", age % 3 == 0, age % 7 == 0) for age in (9, 3, 30, 12, 1, 5, 6, 2)]
    retained(store, drawn, days=10.0, most=40_000)


@pytest.mark.parametrize("limits", [{"days": -1.0}, {"megabytes": -0.5}])
def test_less_than_nothing_cannot_be_kept(tmp_path: Path, limits: dict[str, float]) -> None:
    with Store(tmp_path) as store, pytest.raises(BespokeError, match="Less than nothing"):
        keep(store, **limits)


def holding(folder: Path, marks: Iterable[str]) -> set[str]:
    """Those of some marks that stand anywhere in the files of a folder, in their bytes or their names."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    held = b"\n".join(bytes(file.relative_to(folder)) + file.read_bytes() for file in files)
    return {mark for mark in marks if mark.encode() in held}


SAID = st.tuples(st.sampled_from(RATERS), st.integers(0, 5), st.sampled_from(["thumb", "flag", "caption", "choice"]))


@settings(max_examples=25, database=None)
@given(
    st.lists(st.sampled_from(OWNERS), min_size=6, max_size=6),
    st.lists(SAID, max_size=12),
    st.sampled_from([{"rater": "rater-anna"}, {"owner": "owner-carl"}, {"sample": "picture-mark-3"}]),
    st.booleans(),
)
def test_nothing_of_what_is_forgotten_stays_in_any_file(owners, said, whom: dict[str, str], often: bool) -> None:
    """Every text has a mark of its own, long enough to fill pages of its own, and it is looked for in all bytes."""
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        marks: dict[str, set[str]] = {}
        for number, owner in enumerate(owners):
            mark, seen = f"prompt-mark-{number}-", f"pixel-mark-{number}-"
            name = f"picture-mark-{number}"
            store.add(Sample(name, "m@1", mark * 400, owner=owner, settings={"x": mark}), (seen * 50).encode())
            marks[name] = {mark, seen}
        voices = dict.fromkeys(RATERS, NOBODY)
        for number, (rater, about, kind) in enumerate(said):
            opinion = opinion_of(rater, about, kind, f"word-mark-{number}-")
            store.say(opinion)
            voices[rater] += (opinion.id,)
            if often:
                store.withdraw(opinion.id, rater)  # which leaves words of before in freed pages
                store.say(replace(opinion, id=f"again-{number}-"))
                voices[rater] += (f"again-{number}-",)
        everything = {mark for both in marks.values() for mark in both} | {rater for rater in RATERS if voices[rater]}
        assert holding(Path(folder), everything) == everything, "the look finds what is there"
        meant = those(whom, owners)
        there = [one for one in store.opinions() if {one.sample, one.other} & meant or one.rater == whom.get("rater")]
        if not meant and not there:
            with pytest.raises(BespokeError, match="nothing of"):
                forget(store, **whom)
            return
        gone = forget(store, **whom)
        assert set(gone.samples) == meant and set(gone.opinions) == {one.id for one in there}
        forgotten = {mark for name in meant for mark in marks[name]} | set(gone.opinions) | set(whom.values())
        assert holding(Path(folder), forgotten) == set()
        rest = {mark for name in marks.keys() - meant for mark in marks[name]} | {one.id for one in store.opinions()}
        assert holding(Path(folder), rest) == rest, "and nothing else is gone"
        consistent(store)
        logged = store.counts().deletions
        assert sum(one["samples"] for one in logged) == len(meant)
        assert sum(one["opinions"] for one in logged) == len(there)


def opinion_of(rater: str, about: int, kind: str, words: str) -> Opinion:
    """An opinion on the picture of that number."""
    value = {"thumb": "up", "flag": "copy", "choice": "first"}.get(kind, "")
    other = f"picture-mark-{(about + 1) % 6}" if kind == "choice" else ""
    return Opinion(kind, f"picture-mark-{about}", rater, value, other, words * 20, consent=True)


def those(whom: dict[str, str], owners: list[str]) -> set[str]:
    """The pictures that are meant."""
    if "owner" in whom:
        return {f"picture-mark-{number}" for number, owner in enumerate(owners) if owner == whom["owner"]}
    return {whom["sample"]} if "sample" in whom else set()


def test_all_of_a_person_goes_wherever_the_store_is(store) -> None:
    for number in range(3):
        store.add(Sample(f"p{number}", "m@1", "x", owner=f"key{number}"), b"the same")
        store.say(Opinion("thumb", f"p{number}", "Ann", "up", consent=True))
        store.review(f"p{number}", accepted=True, by="Ann", opinion=store.say(Opinion("thumb", "p0", "Ben", "up")).id)
    forget(store, owner="key1")
    assert [one.id for one in consistent(store)] == ["p0", "p2"]
    forget(store, rater="Ann")
    assert {one.rater for one in store.opinions()} == {"Ben"} and store.counts().accepted == 2
    forget(store, rater="Ben")
    assert store.counts().accepted == 0, "nothing is accepted on the word of someone who is forgotten"
    assert not list(store.opinions())
    for whom in ({"rater": "Ben"}, {"sample": "p1"}, {"owner": "key1"}):
        with pytest.raises(BespokeError, match="nothing of"):
            forget(store, **whom)
    for whom in ({}, {"rater": "Ben", "sample": "p0"}):
        with pytest.raises(BespokeError, match="one at a time"):
            forget(store, **whom)


def test_opinions_about_a_picture_that_was_never_kept_go_too(store) -> None:
    said = store.say(Opinion("flag", "elsewhere", "Ann", "person", words="that is me", model="m@1"))
    assert forget(store, sample="elsewhere").opinions == (said.id,)
    assert not list(store.opinions())


def test_files_that_no_record_names_are_swept(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        kept = store.add(Sample("p", "m@1", "x"), b"kept")
        lost = store.shelf.put_bytes(b"a kill came before its record")
        torn = store.shelf.path(kept.sha256).with_name(".torn.tmp")
        torn.write_bytes(b"half a file")
        assert store.shelf.holds(lost.sha256)
        keep(store, days=1.0)
        assert files(store) == {kept.sha256}


def test_a_picture_whose_file_went_first_is_forgotten_at_the_next_call(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        kept = store.add(Sample("p", "m@1", "x", owner="key"), b"x")
        store.shelf.remove(kept.sha256)  # and the process was killed
        assert forget(store, owner="key").samples == ("p",)
        assert not list(store.samples())


def test_who_reads_meanwhile_is_waited_for_and_told(tmp_path: Path) -> None:
    with Store(tmp_path, patience=0.3) as store:
        store.add(Sample("p", "m@1", "a mark to look for", owner="key"), b"x")
        with closing(sqlite3.connect(tmp_path / "feedback.db")) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM feedback_sample").fetchall()
            with pytest.raises(BespokeError) as raised:
                forget(store, owner="key")
            assert raised.value.hint and not list(store.samples())
        scrub(store)
        assert holding(tmp_path, ["a mark to look for"]) == set()


def test_a_picture_that_is_added_while_others_of_its_content_go_keeps_its_file(somewhere: Place) -> None:
    """Two stores on one database: one adds pictures of one content again and again, the other forgets them."""
    trouble = list[BaseException]()

    def add() -> None:
        try:
            with Store(somewhere) as mine:
                for number in range(40):
                    mine.add(Sample(f"p{number}", "m@1", "x", owner=f"key{number % 2}"), b"the same")
        except BaseException as error:
            trouble.append(error)

    with Store(somewhere) as store:
        adding = threading.Thread(target=add)
        adding.start()
        while adding.is_alive():
            with store.writing():
                pass
            deleting._removed(store, "asked", deleting._whose("", "key1"), forgotten=True)
        adding.join()
        assert not trouble
        assert {"p0", "p38"} <= {one.id for one in consistent(store)}
