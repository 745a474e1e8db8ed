"""Files of word vectors, read once and mapped."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.text import vectors as room
from bespoke.text.vectors import vectors
from bespoke.text.vocabulary import Index, Words

GLOVE = "the 0.5 1 -2\nfox 1e-1 .25 3\n. . . 1 1 1\nOwl -1 0 4\n"


def read(tmp_path, content, name="glove.txt"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return vectors(file, tmp_path / "cache")


def test_glove_in_the_order_of_its_lines(tmp_path):
    found = read(tmp_path, GLOVE)
    assert list(found.words) == ["the", "fox", ". . .", "owl"]
    assert found.words[1:3] == ["fox", ". . ."]
    assert (len(found), found.dimensions, found.index["owl"], found.skipped) == (4, 3, 3, {})
    assert "owl" in found and "Owl" not in found and "zebra" not in found
    assert found.rows.dtype == np.float16 and isinstance(found.rows, np.memmap)
    np.testing.assert_allclose(found.of(["fox", "the"]), [[0.1, 0.25, 3], [0.5, 1, -2]], rtol=1e-3)
    with pytest.raises(KeyError):
        found.of(["zebra"])


@pytest.mark.parametrize("head", ["", "4 3\n"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_word2vec_and_gzip_say_the_same(tmp_path, head, end):
    content = (head + GLOVE.replace("\n", end)).encode()
    plain, packed = read(tmp_path, content), read(tmp_path, gzip.compress(content), "a.gz")
    assert list(plain.words) == list(packed.words) == ["the", "fox", ". . .", "owl"]
    assert (plain.rows == packed.rows).all()


def test_what_is_wrong_is_left_out_counted_and_told(tmp_path):
    lines = [
        b"the 1 2 3", b"short 1 2", b"long 1 2 3 4", b"The 9 9 9", b" 1 2 3", b"\xc2\x85 1 2 3", b"\xff\xfe 1 2 3",
        b"word 1 x 3", b"word nan 2 3", b"word 1 2 1e9", b"", b"word 4 5 6",
    ]  # fmt: skip
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines) + b"\n")
    notes = []
    found = vectors(tmp_path / "a.txt", tmp_path / "cache", lambda *told: notes.append(told))
    assert list(found.words) == ["the", "word"]
    np.testing.assert_array_equal(found.rows, [[1, 2, 3], [4, 5, 6]])
    expected = {
        "of another length": 3, "with a word that came before": 1, "without a word": 2, "not in UTF-8": 1,
        "with numbers that cannot be read": 3,
    }  # fmt: skip
    assert found.skipped == expected
    assert sum(expected.values()) + len(found) == len(lines)
    assert "of another length: 3" in notes[-1][3]


def test_a_file_is_converted_once_and_anew_when_it_changed_or_the_cache_is_broken(tmp_path, monkeypatch):
    read(tmp_path, GLOVE)
    real = room._convert
    monkeypatch.setattr(room, "_convert", None)
    assert len(vectors(tmp_path / "glove.txt", tmp_path / "cache")) == 4
    monkeypatch.setattr(room, "_convert", real)
    assert len(read(tmp_path, GLOVE + "bee 1 2 3\n")) == 5
    for rows in (tmp_path / "cache").glob("*/rows.npy"):
        rows.write_bytes(rows.read_bytes()[:-3])
    assert len(vectors(tmp_path / "glove.txt", tmp_path / "cache")) == 5


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"the 1 2 3\nfox 1 2 3\nowl 1 2", "is cut off: it ends within a line"),
        (b"9 3\nthe 1 2 3\nfox 1 2 3\n", "says 9 words, and 2 follow"),
        (b"Once upon a time\nthere was a fox\n", "holds no word vectors"),
        (b"\n\n\n", "holds no word vectors"),
        (b"PK\x03\x04", "is a zip archive"),
    ],
)
def test_files_that_hold_no_vectors(tmp_path, content, problem):
    with pytest.raises(BespokeError, match=problem):
        read(tmp_path, content)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_missing_file(tmp_path):
    with pytest.raises(BespokeError, match="There is no file"):
        vectors(tmp_path / "none.txt", tmp_path / "cache")


def test_nearest_is_what_sorting_all_cosines_gives(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(200, 5)).round(2)
    rows[17] = 0
    found = read(tmp_path, "".join(f"w{n} " + " ".join(map(str, row)) + "\n" for n, row in enumerate(rows)))
    monkeypatch.setattr(room, "BLOCK", 7)
    aim = found.of(["w3"])[0]
    exact = found.rows.astype(np.float64)
    with np.errstate(invalid="ignore"):
        cosines = exact @ aim / np.linalg.norm(exact, axis=1) / np.linalg.norm(aim)
    expected = [n for n in np.argsort(-cosines) if n != 17]
    near = found.nearest(aim, 9)
    assert [word for word, _ in near] == [f"w{n}" for n in expected[:9]]
    np.testing.assert_allclose([cosine for _, cosine in near], cosines[expected[:9]], rtol=1e-5)
    assert len(found.nearest(aim, 500)) == 199
    assert found.nearest(np.zeros(5, np.float32), 3) == []


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True), st.text(max_size=4))
def test_an_index_finds_what_is_there_and_nothing_else(words, other):
    import pyarrow
    from pyarrow import compute

    array = pyarrow.array(words, pyarrow.string())
    index = Index(Words(array), compute.sort_indices(array).to_numpy())
    assert dict(index) == {word: number for number, word in enumerate(words)}
    assert (other in index) == (other in words)


WORD = st.from_regex(r"[a-zé]{1,6}", fullmatch=True)
ROW = st.lists(st.floats(-9, 9, width=16), min_size=4, max_size=4)


@given(st.dictionaries(WORD, ROW, min_size=1))
def test_what_is_written_is_read(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("vectors")
    found = read(folder, "".join(f"{word} " + " ".join(map(repr, row)) + "\n" for word, row in table.items()))
    assert list(found.words) == list(table)
    np.testing.assert_array_equal(found.rows, np.array(list(table.values()), np.float16))
