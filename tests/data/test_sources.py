"""Captions and repeats from wherever other trainers and people keep them."""

import json
import os
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from bespoke.data.intake.folders import Found, find, printable
from bespoke.errors import BespokeError


def files(root: Path, content: dict[str, str]) -> Path:
    """A folder with these files; what they hold need not be pictures, for nobody decodes them here."""
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def only(root: Path, **options: bool) -> Found:
    (found,) = find(root, **options)
    return found


@pytest.mark.parametrize("column", ["text", "caption", "prompt"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tables_of_every_kind(tmp_path: Path, kind: str, column: str) -> None:
    rows = [{"file_name": "sub/a.png", column: "a red\ncat", "repeats": 2.5}, {"file_name": "gone.png", column: "x"}]
    files(tmp_path, {"sub/a.png": "", "b.png": ""})
    if kind == "csv":
        (tmp_path / "metadata.csv").write_text(f'file_name,{column},repeats\nsub/a.png,"a red\ncat",2.5\ngone.png,x,\n')
    elif kind == "jsonl":
        (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    found = {item.name: item for item in find(tmp_path)}
    assert set(found) == {"sub/a.png", "b.png", "gone.png"}
    assert (found["sub/a.png"].text, found["sub/a.png"].repeats) == ("a red cat", 2.5)
    assert (found["b.png"].text, found["b.png"].repeats) == ("", 1.0)
    assert found["gone.png"].path is None and "names gone.png" in found["gone.png"].trouble


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a"}\n{oops}\n', "not valid JSON in line 2"),
        ("metadata.jsonl", "[1]\n", "no object in line 1"),
        ("metadata.jsonl", "[" * 100_000, "not valid JSON in line 1"),
        ("metadata.csv", "file_name,text,repeats\na.png,a,1e300\n", "no number above 0 and up to 1000"),
        ("metadata.jsonl", '{"file_name": "a.png"}\n', "needs the columns file_name and text; found: file_name"),
        ("metadata.parquet", "no parquet at all", "not a readable Parquet file"),
        ("metadata.csv", "file_name,text,repeats\na.png,a,0\n", "line 2: repeats is '0', which is no number above 0"),
        ("metadata.csv", "file_name,text,repeats\na.png,a,often\n", "repeats is 'often'"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: str, problem: str) -> None:
    files(tmp_path, {"a.png": "", name: content})
    with pytest.raises(BespokeError) as caught:
        find(tmp_path)
    assert problem in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "text", "repeats"),
    [
        ("a.json", '{"caption": "a cat"}', "a cat", 1.0),
        ("a.json", '{"text": "a cat", "tags": ["red", "small"]}', "a cat, red, small", 1.0),
        ("a.json", '{"tags": "red, small"}', "red, small", 1.0),
        ("a.json", '{"text": "a pet", "tags": ["animal > dog > poodle", "animal > cat", "red"]}',
         "a pet, animal, dog, poodle, cat, red", 1.0),
        ("a.json", '{"tags": "animal > dog, >_<, a>b, (red hat:1.3)"}', "animal, dog, >_<, a>b, (red hat:1.3)", 1.0),
        ("a.json", '{"tags": ["(animal > dog:1.3)", "animal > (tail:0.5)"]}',
         "animal, (dog:1.3), (tail:0.5)", 1.0),
        ("a.json", '"a cat"', "a cat", 1.0),
        ("a.png.json", '{"prompt": "a cat"}', "a cat", 1.0),
        ("a.yaml", "main_prompt: a cat\ntags:\n  - tag: red\n    weight: 0.3\n  - small\nmultiply: 3\n",
         "a cat, red, small", 3.0),
        ("a.yml", "caption:\n  main_prompt: a cat\n  tags: [red]\n", "a cat, red", 1.0),
        ("a.yml", "main_prompt: [a cat, a beast]\n", "a cat", 1.0),
    ],
)  # fmt: skip
def test_sidecars_of_every_kind(tmp_path: Path, name: str, content: str, text: str, repeats: float) -> None:
    found = only(files(tmp_path, {"a.png": "", name: content}))
    assert (found.text, found.repeats, found.trouble) == (text, repeats, "")


def test_what_a_sidecar_says_in_vain_is_noted(tmp_path: Path) -> None:
    found = only(files(tmp_path, {"a.png": "", "a.yaml": "main_prompt: a cat\nflip_p: 0.5\nrating: 2\n"}))
    assert found.notes == ("a.yaml says flip_p, rating, which is not used",)
    found = only(files(tmp_path, {"a.yaml": "tags: [{tag: red, weight: 0.3}, small]\n"}))
    assert (found.text, found.notes) == ("red, small", ("a.yaml says the weight of a tag, which is not used",))


@pytest.mark.parametrize(
    ("name", "content", "trouble"),
    [
        ("a.json", "{", "a.json is not valid"),
        ("a.json", "[1, 2]", "a.json is not valid: it holds no object"),
        ("a.json", '{"width": 5}', "gives no caption"),
        ("a.json", '{"caption":' * 5000 + "1" + "}" * 5000, "a.json is not valid"),
        ("a.yaml", "a: [", "a.yaml is not valid"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "a.yaml is not valid"),
        ("a.yaml", "tags: 5", "a.yaml is not valid"),
        ("a.yaml", "tags: [true]", "a.yaml is not valid: a tag is neither a text nor a number"),
        ("a.yaml", "- " * 30_000, "a.yaml is not valid: it has more than 50"),
        ("a.json", '{"caption": NaN}', "a.json gives no caption"),
        ("a.yaml", 'caption: !!int ""', "a.yaml is not valid"),
        ("a.yaml", "caption: !!bool maybe", "a.yaml is not valid"),
        ("a.yaml", "caption: {a: 1, tags: [[x]]}", "a.yaml is not valid"),
        ("a.yaml", "a: &a [x, x]\nb: &b [*a, *a]\ncaption: [*b, *b]", "aliases"),
    ],
)
def test_a_sidecar_that_cannot_be_used_costs_its_picture_only(
    tmp_path: Path, name: str, content: str, trouble: str
) -> None:
    found = only(files(tmp_path, {"a.png": "", name: content}))
    assert found.text == ""
    assert trouble in found.trouble


def test_kohyas_folders_count_and_name_those_without_a_caption(tmp_path: Path) -> None:
    root = files(tmp_path, {"10_red cat/a.png": "", "10_red cat/b.png": "", "10_red cat/b.txt": "a tom cat",
                            "2024_holiday/c.png": "", "0_none/d.png": ""})  # fmt: skip
    found = {Path(item.name).stem: item for item in find(root)}
    assert (found["a"].text, found["a"].repeats) == ("red cat", 10.0)
    assert (found["b"].text, found["b"].repeats) == ("a tom cat", 10.0)
    assert "counts 10 times" in found["a"].notes[0]
    assert (found["c"].text, found["c"].repeats) == ("", 1.0)
    assert found["d"].repeats == 1.0


def test_everydreams_folders(tmp_path: Path) -> None:
    root = files(tmp_path, {
        "global.yaml": "tags: [painted]\n", "cats/a.png": "", "cats/a.txt": "a cat", "cats/b.png": "",
        "cats/local.yaml": "main_prompt: some cat\ntags: [furry]\nflip_p: 0.5\n", "cats/multiply.txt": "0.5\n",
        "cats/deep/c.png": "", "cats/deep/multiply.txt": "many", "cats/deep/shuffle_tags.txt": "",
    })  # fmt: skip
    found = {Path(item.name).stem: item for item in find(root)}
    assert set(found) == {"a", "b", "c"}  # what speaks about folders is no picture
    assert (found["a"].text, found["a"].repeats) == ("a cat, furry, painted", 0.5)
    assert (found["b"].text, found["b"].repeats) == ("some cat, furry, painted", 0.5)
    assert "cats/local.yaml says flip_p, which is not used" in found["b"].notes
    # Only the global file holds for folders below.
    assert (found["c"].text, found["c"].repeats) == ("painted", 1.0)
    notes = " ".join(found["c"].notes)
    assert "multiply.txt holds no number above 0" in notes and "shuffle_tags.txt is not used" in notes


def test_half_a_character_is_no_part_of_a_caption(tmp_path: Path) -> None:
    files(tmp_path, {"a.png": "", "b.png": "", "b.json": '{"caption": "a dog \\ud83d"}'})
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat \\ud83d"}\n')
    assert [item.text for item in find(tmp_path)] == ["a cat", "a dog"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (0.5, "0.5"), (["a cat", "a dog"], "a cat"), ([7, "a cat"], "a cat"), ([], ""), (True, ""), (None, ""),
     (float("nan"), ""), (float("-inf"), ""), ({"a": "cat"}, ""), ("\u200b \ufeff", "")],
)  # fmt: skip
def test_of_a_line_of_json_only_texts_and_numbers_are_captions(tmp_path: Path, value: object, text: str) -> None:
    line = json.dumps({"file_name": "a.png", "text": value})
    assert only(files(tmp_path, {"a.png": "", "metadata.jsonl": line})).text == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (["a cat", "a dog"], "a cat"), ([b"a cat"], ""), (True, ""), (float("nan"), ""), ({"a": "cat"}, ""),
     (b"a cat", "")],
)  # fmt: skip
def test_of_a_row_of_parquet_only_texts_and_numbers_are_captions(tmp_path: Path, value: object, text: str) -> None:
    table = pyarrow.Table.from_pylist([{"file_name": "a.png", "text": value}])
    parquet.write_table(table, tmp_path / "metadata.parquet")
    assert only(files(tmp_path, {"a.png": ""})).text == text


def test_twins_spelled_differently_have_captions_of_their_own(tmp_path: Path) -> None:
    one, two = "caf\u00e9", "cafe\u0301"
    root = files(tmp_path, {f"{one}.png": "", f"{one}.txt": "one", f"{two}.png": "", f"{two}.txt": "two"})
    if len(list(root.iterdir())) < 4:
        pytest.skip("this system takes both for one name")
    assert {item.name: item.text for item in find(root)} == {f"{one}.png": "one", f"{two}.png": "two"}


def test_a_caption_may_be_spelled_otherwise_than_its_only_picture(tmp_path: Path) -> None:
    assert only(files(tmp_path, {"caf\u00e9.png": "", "cafe\u0301.txt": "a cat"})).text == "a cat"


def test_names_print_unlike_one_another() -> None:
    names = [os.fsdecode(b"\\" * n + b"\xe9") for n in range(4)] + ["\\" * n + "udce9" for n in range(1, 4)]
    assert len(set(map(printable, names))) == len(names)
    assert printable("a\\b\\udog.png") == "a\\b\\udog.png"


def test_a_caption_as_long_as_a_book_is_none(tmp_path: Path) -> None:
    files(tmp_path, {"a.png": ""})
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "very " * 20_000}))
    found = only(tmp_path)
    assert (found.text, found.trouble) == ("", "its caption is too long to be one")


def test_a_name_may_begin_with_a_space_that_is_none_of_a_tables(tmp_path: Path) -> None:
    files(tmp_path, {"\u3000x.png": "", "10__/y.png": "", "metadata.csv": "file_name, text\n\u3000x.png , a cat\n"})
    found = {item.name: item.text for item in find(tmp_path)}
    assert found == {"\u3000x.png": "a cat", "10__/y.png": ""}


def test_what_stands_beside_a_picture_is_its_own_whatever_it_is_called(tmp_path: Path) -> None:
    root = files(tmp_path, {"multiply.png": "", "multiply.txt": "42", "b.png": "", "cat.png": "", "cat.txt": "a cat",
                            "cat.png.jpg": "", "cat.png.txt": "a dog"})  # fmt: skip
    found = {item.name: (item.text, item.repeats) for item in find(root)}
    assert found == {"multiply.png": ("42", 1.0), "b.png": ("", 1.0), "cat.png": ("a cat", 1.0),
                     "cat.png.jpg": ("a dog", 1.0)}  # fmt: skip


def test_links_that_cannot_be_followed_cost_themselves_only(tmp_path: Path) -> None:
    files(tmp_path, {"a.png": ""})
    (tmp_path / "b.png").symlink_to("x" * 300)
    (tmp_path / "c.png").symlink_to("c.png")
    assert [item.path is None for item in find(tmp_path)] == [False, True, True]


def test_file_names_are_captions_only_when_asked_for(tmp_path: Path) -> None:
    files(tmp_path, {"a red cat_012.png": "", "b.png": "", "b.txt": "a dog"})
    assert [item.text for item in find(tmp_path)] == ["", "a dog"]
    assert [item.text for item in find(tmp_path, file_names=True)] == ["a red cat", "a dog"]
