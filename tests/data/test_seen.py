"""What models have said, on disk: nothing is lost by a kill, nothing is mixed up, and damage costs a question only."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bespoke.data.seen import PICTURES, SAFETY, Book, Seen, settle

KEYS = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(600)]
ROWS = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float16)


def filled(folder: Path, kind: str = PICTURES, identity: str = "one", rows: np.ndarray = ROWS) -> Book:
    book = Book(folder, kind, f"model {identity}", identity, ("a", "b"))
    book.add(KEYS, rows)
    return book


def test_rows_come_back_as_they_were_said(tmp_path: Path) -> None:
    book = filled(tmp_path)
    book.settle(KEYS[10:])
    assert Seen(tmp_path).rows(PICTURES) is None, "nothing holds before it is settled"
    settle(tmp_path, [book])
    rows = Seen(tmp_path).rows(PICTURES)
    assert (rows.model, rows.labels, len(rows.keys)) == ("model one", ("a", "b"), 590)
    assert all((rows.values[rows.at[key]] == row).all() for key, row in zip(KEYS[10:], ROWS[10:], strict=True))
    assert not list((tmp_path / "seen").glob(".*"))


def test_what_was_said_is_there_after_a_kill_and_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    book = Book(tmp_path, PICTURES, "model", "one")
    for start in range(0, 550, 50):
        book.add(KEYS[start : start + 50], ROWS[start : start + 50])
    (journal,) = (tmp_path / "seen").glob(".*")
    journal.write_bytes(journal.read_bytes()[:-9])
    again = Book(tmp_path, PICTURES, "model", "one")
    assert again.lacking(KEYS) == KEYS[549:]
    again.add(KEYS[549:590], ROWS[549:590])
    last = Book(tmp_path, PICTURES, "model", "one")
    assert last.lacking(KEYS) == KEYS[590:]
    last.add(KEYS[590:], ROWS[590:])
    last.settle(KEYS)
    settle(tmp_path, [last])
    rows = Seen(tmp_path).rows(PICTURES)
    assert all((rows.values[rows.at[key]] == row).all() for key, row in zip(KEYS, ROWS, strict=True))
    assert not list((tmp_path / "seen").glob(".*"))


def test_each_model_has_rows_of_its_own_and_the_last_one_asked_holds(tmp_path: Path) -> None:
    for identity, rows in (("one", ROWS), ("two", -ROWS), ("one", ROWS)):
        book = Book(tmp_path, PICTURES, f"model {identity}", identity)
        book.add(book.lacking(KEYS), rows[: len(book.lacking(KEYS))])
        book.settle(KEYS)
        settle(tmp_path, [book])
        held = Seen(tmp_path).rows(PICTURES)
        assert held.model == f"model {identity}"
        assert (held.values[held.at[KEYS[0]]] == rows[0]).all()
    assert Book(tmp_path, PICTURES, "model two", "two").lacking(KEYS) == []
    settle(tmp_path, [filled(tmp_path, SAFETY)])
    assert Seen(tmp_path).rows(PICTURES) is None, "no model of that kind was asked"


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100])
def test_damaged_rows_are_asked_for_again(tmp_path: Path, content: bytes) -> None:
    book = filled(tmp_path)
    book.settle(KEYS)
    settle(tmp_path, [book])
    (file,) = (tmp_path / "seen").glob("*.safetensors")
    file.write_bytes(content)
    assert Seen(tmp_path).models == {}
    assert Book(tmp_path, PICTURES, "model one", "one").lacking(KEYS) == KEYS
    (tmp_path / "seen/seen.json").write_bytes(content)
    assert Seen(tmp_path).models == {}
