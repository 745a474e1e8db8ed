"""What models have said, on disk: nothing is lost by a kill, nothing is mixed up, and damage costs a question only."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bespoke.data.seen import PICTURES, SAFETY, SHARD, Book, Seen, settle

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


def test_a_kill_costs_a_shard_at_most(tmp_path: Path) -> None:
    book = Book(tmp_path, PICTURES, "model", "one")
    for start in range(0, 550, 50):
        book.add(KEYS[start : start + 50], ROWS[start : start + 50])
    again = Book(tmp_path, PICTURES, "model", "one")
    assert 0 < len(again.lacking(KEYS[:550])) < SHARD
    lacking = again.lacking(KEYS)
    again.add(lacking, ROWS[[KEYS.index(key) for key in lacking]])
    again.settle(KEYS)
    settle(tmp_path, [again])
    rows = Seen(tmp_path).rows(PICTURES)
    assert all((rows.values[rows.at[key]] == row).all() for key, row in zip(KEYS, ROWS, strict=True))


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
