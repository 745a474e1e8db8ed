"""Words counted in WikiText's files and others."""

import gzip

import pyarrow
import pytest
from pyarrow import parquet

from bespoke.errors import BespokeError
from bespoke.text import lines
from bespoke.text.corpus import counted_words

WIKI = " \n = Fox = \n \n The fox 's role @-@ playing game cost 1 @,@ 000 coins , <unk> . \n It doesn 't bark . \n"


def test_wikitext_as_published(tmp_path):
    (tmp_path / "wiki.train.raw").write_text(WIKI, encoding="utf-8")
    counts = counted_words(tmp_path / "wiki.train.raw")
    assert counts == {
        "fox": 2, "the": 1, "role-playing": 1, "game": 1, "cost": 1, "coins": 1, "it": 1, "doesn't": 1, "bark": 1,
    }  # fmt: skip


def test_plain_gzipped_and_parquet_say_the_same(tmp_path):
    (tmp_path / "a.txt").write_text(WIKI, encoding="utf-8")
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(WIKI.encode())
    rows = [*WIKI.splitlines(), None]
    parquet.write_table(pyarrow.table({"id": range(len(rows)), "text": rows}), tmp_path / "a.parquet")
    plain = counted_words(tmp_path / "a.txt")
    assert counted_words(tmp_path / "a.gz") == plain == counted_words(tmp_path / "a.parquet")


def test_lines_that_are_no_utf8_are_left_out_and_told(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good line\n\xff\xfe bad\ngood again\n")
    notes = []
    counts = counted_words(tmp_path / "a.txt", lambda stage, done, total, note="": notes.append((done, total, note)))
    assert counts == {"good": 2, "line": 1, "again": 1}
    assert counts.skipped == {"not in UTF-8": 1}
    assert notes[-1] == (28, 28, "lines left out, not in UTF-8: 1")


def test_only_a_line_feed_ends_a_line_and_a_long_line_is_read_in_parts(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("fox\u2028owl\u0085bee " * 50, encoding="utf-8")
    whole = counted_words(tmp_path / "a.txt")
    assert len(list(lines.lines(tmp_path / "a.txt"))) == 1
    monkeypatch.setattr(lines, "LONGEST", 37)
    assert len(list(lines.lines(tmp_path / "a.txt"))) > 10
    assert counted_words(tmp_path / "a.txt") == whole == {"fox": 50, "owl": 50, "bee": 50}


def test_many_different_words_are_counted_in_parts(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("fox owl.\n(fox) bee\nfox, owl\n", encoding="utf-8")
    monkeypatch.setattr("bespoke.text.corpus.HELD", 2)
    assert counted_words(tmp_path / "a.txt") == {"fox": 3, "owl": 2, "bee": 1}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "There is no file"),
        (b"", "is empty"),
        (b"PK\x03\x04 and more", "is a zip archive"),
        (gzip.compress(b"fox " * 999, mtime=0)[:-12], "is damaged or cut off"),
        (b"PAR1 but no table PAR1", "is damaged or cut off"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, problem):
    file = tmp_path / "corpus"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BespokeError, match=problem):
        counted_words(file)


def test_a_folder_and_a_table_without_text(tmp_path):
    with pytest.raises(BespokeError, match="is a folder"):
        counted_words(tmp_path)
    parquet.write_table(pyarrow.table({"a": ["x"], "b": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(BespokeError, match="no column `text`; its columns: a, b"):
        counted_words(tmp_path / "a.parquet")
