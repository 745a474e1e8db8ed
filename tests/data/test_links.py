"""Tables of URLs: what their rows say, and that no row is lost."""

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from bespoke.data.intake.links import Link, Links, is_table, kind_of
from bespoke.errors import BespokeError

UNSPLASH = (
    "photo_id\tphoto_url\tphoto_image_url\tphoto_width\tphoto_description\tphotographer_username\t"
    "photographer_first_name\tphotographer_last_name\texif_camera_make\tai_description\n"
    "XMyPniM9LF0\thttps://unsplash.com/photos/XMyPniM9LF0\thttps://images.unsplash.com/uploads/14/a\t4272\t"
    "Woman exploring a forest\tmichellespencer77\tMichelle\tSpencer\tNIKON\twoman walking\n"
    "rDLBArZUl1c\thttps://unsplash.com/photos/rDLBArZUl1c\thttps://images.unsplash.com/photo-14\t3000\t"
    "\tugmonk\t\t\t\tsucculent plants in clear glass terrarium\n"
)


def links(path: Path, content: str | bytes) -> list[Link]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert is_table(path)
    return list(Links(path))


@pytest.mark.parametrize("name", ["photos.tsv", "photos.tsv000", "Photos.TSV", "photos.tsv.gz"])
def test_the_table_of_unsplash_lite(tmp_path: Path, name: str) -> None:
    content = gzip.compress(UNSPLASH.encode()) if name.endswith(".gz") else UNSPLASH
    first, second = links(tmp_path / name, content)
    assert (first.url, first.text) == ("https://images.unsplash.com/uploads/14/a", "Woman exploring a forest")
    assert first.name.endswith("/XMyPniM9LF0")
    assert first.marks.labels == {
        "url": first.url, "page": "https://unsplash.com/photos/XMyPniM9LF0", "author": "Michelle Spencer",
        "licence": "Unsplash License", "photo_id": "XMyPniM9LF0", "photo_width": "4272",
        "photographer_username": "michellespencer77", "photographer_first_name": "Michelle",
        "photographer_last_name": "Spencer", "exif_camera_make": "NIKON", "ai_description": "woman walking",
    }  # fmt: skip
    assert second.text == "succulent plants in clear glass terrarium"
    assert second.marks.labels["author"] == "ugmonk"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "jsonl.gz"])
def test_the_columns_of_img2dataset_and_laion(tmp_path: Path, kind: str) -> None:
    row = {"URL": "http://a.example/x/cat.jpg?s=1", "TEXT": "a cat", "LICENSE": "CC BY 2.0", "WIDTH": 640, "key": "007",
           "repeats": 2.5, "weight": "0.5", "split": "val", "category": "animal"}  # fmt: skip
    path = tmp_path / f"laion.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    elif kind == "csv":
        path.write_text(",".join(row) + "\n" + ",".join(str(cell) for cell in row.values()) + "\n")
    else:
        line = (json.dumps(row) + "\n").encode()
        path.write_bytes(gzip.compress(line) if kind.endswith("gz") else line)
    assert is_table(path)
    (link,) = Links(path)
    assert (link.url, link.text, link.repeats) == (row["URL"], "a cat", 2.5)
    assert (link.marks.weight, link.marks.split, link.trouble, link.notes) == (0.5, "validation", "", ())
    labels = {"url": row["URL"], "licence": "CC BY 2.0", "WIDTH": "640", "key": "007", "category": "animal"}
    assert link.marks.labels == labels


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    table = (
        "url,text\n"
        "http://a.example/1.jpg,one\n"
        ",no address\n"
        "ftp://a.example/2.jpg,another protocol\n"
        "not a url at all,x\n"
        "http://,x\n"
        "http://a.example:port/,x\n"
        "\n"
        "http://a.example/1.jpg,again\n"
        "http://a.example/3.jpg\n"
        'http://a.example/4.jpg,"a quotation mark that nothing closes\n'
        "http://a.example/5.jpg,swallowed\n"
    )
    found = links(tmp_path / "t.csv", table)
    assert [link.text for link in found if not link.trouble] == ["one", "again", ""]
    troubles = [link.trouble for link in found if link.trouble]
    assert [trouble.partition(":")[0] for trouble in troubles] == [f"line {n}" for n in (3, 4, 5, 6, 7, 11)]
    assert "no URL" in troubles[0]
    assert "not an address of the web" in troubles[1]
    assert "not closed up to line 12" in troubles[-1]
    assert len({link.name for link in found}) == len(found)


def test_a_quotation_mark_that_nothing_closes_is_told_with_the_lines_it_swallows(tmp_path: Path) -> None:
    table = 'url\ttext\tx\nhttp://a.example/1\t"open\tx\nhttp://a.example/2\ttwo\tx\nhttp://a.example/3\tthree\tx\n'
    (link,) = links(tmp_path / "t.tsv", table)
    assert "up to line 4" in link.trouble and "quotation mark" in link.trouble


def test_broken_lines_of_json_are_told(tmp_path: Path) -> None:
    lines = '{"url": "http://a.example/1", "text": "one"}\n{"url": \n[1]\n{"text": "x"}\n{"url": null}\n\n'
    found = links(tmp_path / "t.jsonl", lines)
    assert [bool(link.trouble) for link in found] == [False, True, True, True, True]
    assert [link.name for link in found[1:]] == ["line 2", "line 3", "line 4", "line 5"]


def test_bytes_that_are_no_utf8_and_amounts_that_cannot_be_are_noted(tmp_path: Path) -> None:
    (link,) = links(tmp_path / "t.csv", b"url,text,repeats,split\nhttp://a.example/1,caf\xe9,many,left\n")
    assert not link.trouble
    assert link.notes == (
        "its repeats 'many' cannot be and is not used", "its split 'left' cannot be and is not used",
        "its row holds bytes that are not UTF-8",
    )  # fmt: skip


def test_passwords_do_not_get_into_labels(tmp_path: Path) -> None:
    (link,) = links(tmp_path / "t.csv", "url,text\nhttp://me:secret@a.example/1,one\n")
    assert link.url == "http://me:secret@a.example/1"
    assert "secret" not in str(link.marks) + link.name


@pytest.mark.parametrize("name", ["a.png", "photos.zip", "photos.txt", "tsv"])
def test_other_files_are_no_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"url,text\n")
    assert not is_table(tmp_path / name)
    assert not is_table("hf://datasets/a/b.csv")
    assert not is_table(tmp_path)


def test_a_table_without_urls_is_refused_with_its_columns(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\ncat.png,a cat\n")
    with pytest.raises(BespokeError, match="file_name"):
        is_table(tmp_path / "metadata.csv")


def test_a_parquet_file_with_pictures_in_it_is_no_table_of_urls(tmp_path: Path) -> None:
    row = {"image": {"bytes": b"x", "path": "x.png"}, "text": "x", "url": "http://a.example"}
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "t.parquet")
    assert not is_table(tmp_path / "t.parquet")


def test_a_long_table_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write("url,text\n")
        file.writelines(f"http://a.example/{n}.jpg,{'words ' * 2000}\n" for n in range(800))
    assert len(Links(path)) == 800
    tracemalloc.start()
    assert sum(1 for _ in Links(path)) == 800
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20).map(str.strip)


@given(st.lists(st.tuples(st.integers(0, 5), CELLS), max_size=20), st.sampled_from([",", "\t"]))
def test_as_many_links_as_rows_and_no_two_of_one_name(tmp_path_factory, rows, separator):
    path = tmp_path_factory.getbasetemp() / ("t.csv" if separator == "," else "t.tsv")
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    writer.writerows([("url", "text"), *((f"http://a.example/{number}.png", text) for number, text in rows)])
    found = links(path, out.getvalue())
    assert len(found) == len(rows) == len({link.name for link in found})
    assert [int(link.url[-5]) for link in found] == [number for number, _ in rows]
    # What a row's link is called does not change when rows come after it.
    assert [link.name for link in Links(path)] == [link.name for link in found]


def test_kinds_by_name() -> None:
    assert [kind_of(Path(n)) for n in ("a.tsv123", "a.csv.gz", "a.jsonl", "a.parquet", "a.txt")] == [
        ".tsv", ".csv", ".jsonl", ".parquet", "",
    ]  # fmt: skip
