"""Balance: shares are those counted here, proposals even them out, and writing them can be undone."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import CSS4_COLORS, XKCD_COLORS
from PIL import Image

from bespoke.data import Balanced, balance, build, clean, export, inspect, load, unbalance
from bespoke.data.balance import factors, groups_of, source_of, ways
from bespoke.data.colours import COLOURS, dominant, oklab, shares, swatch
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe, parse
from bespoke.recipe.dataset import Balance
from bespoke.records import Dataset, Picture


def pixels(colour: str) -> np.ndarray:
    return np.array([[list(bytes.fromhex(colour.removeprefix("#")))]], dtype=np.uint8)


def test_colours_are_called_as_people_call_them():
    """The names that thousands gave in the xkcd survey, of those that hold one of the eleven words and no "-ish"."""
    asked = right = 0
    for name, colour in XKCD_COLORS.items():
        words = name.removeprefix("xkcd:").replace("gray", "grey").split()
        named = [word for word in words if word in COLOURS]
        if len(named) == 1 and "ish" not in name:
            asked += 1
            right += dominant(pixels(colour)) == named[0]
    assert asked > 400
    assert right / asked > 0.9


@pytest.mark.parametrize("word", COLOURS)
def test_css_colours_of_the_eleven_names_have_them(word):
    assert dominant(pixels(CSS4_COLORS[word])) == word
    assert re.fullmatch("#[0-9a-f]{6}", swatch(word))


def test_oklab_is_that_of_its_definition():
    """Source: the table of B. Ottosson's page, and white, which has no colour."""
    found = oklab(np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255.0]]))
    wanted = [[1, 0, 0], [0.6280, 0.2249, 0.1258], [0.8664, -0.2339, 0.1795], [0.4520, -0.0325, -0.3115]]
    assert found == pytest.approx(np.array(wanted), abs=2e-3)


def test_the_colour_of_most_of_a_picture_is_its_colour_and_of_many_none_is():
    half = np.full((16, 16, 3), (250, 250, 250), dtype=np.uint8)
    half[:10] = (30, 60, 200)
    assert shares(half) == {"white": 6 / 16, "blue": 10 / 16}
    assert dominant(half) == "blue"
    stripes = np.concatenate([np.broadcast_to(pixels(CSS4_COLORS[word]), (4, 16, 3)) for word in COLOURS[:8]])
    assert dominant(stripes) == "mixed"
    assert swatch("mixed") == ""


masses = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0.01, 1e4), min_size=1, max_size=8)


@given(masses, st.sampled_from(["equal", "square root"]), st.floats(1, 100))
def test_factors_never_drop_anything_and_never_exceed_the_cap(sizes, target, cap):
    found = factors(sizes, Balance(target=target, max_repeats=cap))
    assert min(found.values()) == 1
    assert max(found.values()) <= cap
    assert found[max(sizes, key=sizes.__getitem__)] == 1
    order = sorted(sizes, key=sizes.__getitem__)
    assert [found[group] for group in order] == sorted(found.values(), reverse=True)


def test_shares_become_what_was_asked_for():
    sizes = {"cat": 80.0, "dog": 15.0, "owl": 5.0}

    def after(**rules: object) -> dict[str, Any]:
        found = factors(sizes, Balance(max_repeats=100.0, **rules))
        whole = sum(sizes[group] * found[group] for group in sizes)
        return {group: pytest.approx(sizes[group] * found[group] / whole) for group in sizes}

    assert after(target="equal") == dict.fromkeys(sizes, 1 / 3)
    root = sum(size**0.5 for size in sizes.values())
    assert after(target="square root") == {group: size**0.5 / root for group, size in sizes.items()}
    assert after(target="equal", shares={"cat": 0.5}) == {"cat": 0.5, "dog": 0.25, "owl": 0.25}
    assert after(shares={"cat": 0.2, "dog": 0.3, "owl": 0.5}) == {"cat": 0.2, "dog": 0.3, "owl": 0.5}
    assert factors(sizes, Balance(shares={"owl": 1.0})) == {"owl": 4.0, "cat": 1.0, "dog": pytest.approx(1.0, abs=1.5)}


def test_shares_that_cannot_be_are_refused():
    with pytest.raises(BespokeError, match="'cow'") as caught:
        factors({"cat": 3.0}, Balance(shares={"cow": 0.5}))
    assert "cat" in caught.value.hint
    with pytest.raises(BespokeError, match=r"come to 1\.5, more than a whole"):
        factors({"cat": 3.0, "dog": 1.0}, Balance(shares={"cat": 1.0, "dog": 0.5}))


GREENS, OTHERS = 30, {"red": (200, 30, 30), "blue": (30, 60, 200)}


def scene(seed: int, colour: tuple[int, int, int]) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-30, 31, (6, 6, 3))
    small = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(small).resize((48, 48), Image.Resampling.NEAREST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of 30 green cats, 6 red dogs and 4 blue owls; two of the dogs count twice."""
    source = tmp_path / "source"
    source.mkdir()
    rows = ["file_name,text,category,repeats"]
    kinds = [("cat", (40, 140, 40))] * GREENS + [("dog", OTHERS["red"])] * 6 + [("owl", OTHERS["blue"])] * 4
    for n, (kind, colour) in enumerate(kinds):
        scene(n, colour).save(source / f"{n:02}.png")
        rows.append(f"{n:02}.png,a {kind},{kind},{2 if n in (31, 33) else ''}")
    (source / "metadata.csv").write_text("\n".join(rows) + "\n")
    build(source, tmp_path / "dataset", recipe())
    return tmp_path / "dataset"


def recipe(**balance_: object) -> Recipe:
    return parse({"data": {"validation_fraction": 0.1}, "balance": balance_}, "the test")


def counted(dataset: Dataset) -> dict[str, Any]:
    """The part of the training that each category takes."""
    found: dict[str, float] = {}
    for picture in dataset.part("train"):
        kind = picture.labels["category"]
        found[kind] = found.get(kind, 0.0) + picture.repeats * picture.weight
    return {kind: pytest.approx(count / sum(found.values()), abs=1e-4) for kind, count in found.items()}


def told(made: Balanced, way: str) -> tuple[dict[str, float], dict[str, float]]:
    return ({s.group: s.now for s in made.shares[way]}, {s.group: s.proposed for s in made.shares[way]})


def test_the_proposal_tells_what_training_would_see_and_writes_nothing(folder):
    before = (folder / "train/metadata.csv").read_bytes()
    made = balance(folder, recipe(target="equal", max_repeats=10.0))
    assert (made.by, list(made.shares)) == ("category", ["category", "colour"])
    now, then = told(made, "category")
    assert now == counted(made.dataset)
    assert then == counted(made.proposed)
    assert then == dict.fromkeys(("cat", "dog", "owl"), pytest.approx(1 / 3, abs=0.01))
    colours, _ = told(made, "colour")
    assert colours == {"green": now["cat"], "red": now["dog"], "blue": now["owl"]}
    assert {p.labels["category"] for p in made.changed} == {"dog", "owl"}
    assert (folder / "train/metadata.csv").read_bytes() == before


@pytest.mark.parametrize("write", ["repeats", "weight"])
def test_applying_twice_is_applying_once_and_can_be_undone(folder, write):
    before = load(folder)
    rules = recipe(target="equal", write=write)
    made = balance(folder, rules, apply=True)
    assert load(folder) == made.proposed != before
    again = balance(folder, rules, apply=True)
    assert (again.proposed, again.changed) == (made.proposed, ())
    assert balance(folder, recipe(), apply=True).proposed == balance(folder, recipe(), apply=True).dataset
    assert unbalance(folder)[0] == before
    assert load(folder) == before
    assert unbalance(folder)[1] == 0


def test_what_is_applied_is_in_the_table_beside_what_people_wrote(folder):
    table = folder / "train/metadata.csv"
    frame = pd.read_csv(table).assign(artist="Ann, and Bob")
    frame.to_csv(table, index=False)
    made = balance(folder, recipe(by="colour", whole=True), apply=True)
    after = pd.read_csv(table).set_index("file_name")
    assert set(after.artist) == {"Ann, and Bob"}
    for picture in made.proposed.part("train"):
        assert after.repeats[picture.file] == picture.repeats == round(picture.repeats)
    dogs = {p.file: p.repeats for p in made.proposed.part("train") if p.labels["category"] == "dog"}
    once, twice = (after.repeats[[f for f in dogs if (f in ("31.png", "33.png")) == often]] for often in (False, True))
    assert twice.min() > 1.5 * once.max(), "what counted twice as often still does"


def test_weights_are_one_in_the_mean_and_leave_repeats_alone(folder):
    made = balance(folder, recipe(target="equal", write="weight"), apply=True)
    train = made.proposed.part("train")
    assert sum(p.repeats * p.weight for p in train) / sum(p.repeats for p in train) == pytest.approx(1, abs=1e-3)
    assert [p.repeats for p in made.proposed.pictures] == [p.repeats for p in made.dataset.pictures]
    unbalance(folder)
    by_repeats = balance(folder, recipe(target="equal")).proposed
    assert {k: v.expected for k, v in counted(made.proposed).items()} == counted(by_repeats)
    assert all(p.weight == 1 for p in made.proposed.part("validation"))


def test_balanced_pictures_survive_cleaning_importing_and_exporting(folder, tmp_path):
    made = balance(folder, recipe(target="equal", write="weight"), apply=True).proposed
    assert clean(folder, recipe()) == made
    assert build(tmp_path / "source", folder, recipe()) == made
    for layout in ("imagefolder", "parquet"):
        assert export(folder, tmp_path / layout, layout)[1] == ()
        again = build(tmp_path / layout, tmp_path / f"from {layout}", recipe())
        said = {p.sha256: (p.text, p.repeats, p.weight, p.labels, p.split) for p in again.pictures}
        assert said == {p.sha256: (p.text, p.repeats, p.weight, p.labels, p.split) for p in made.pictures}
    assert export(folder, tmp_path / "ed2", "everydream2")[1] == ("weight", "category")


def test_a_side_that_was_asked_for_comes_through_tables(folder, tmp_path):
    table = folder / "train/metadata.csv"
    frame = pd.read_csv(table).assign(split="")
    frame.loc[[3, 31], "split"] = "validation"
    frame.to_csv(table, index=False)
    for layout in ("imagefolder", "parquet"):
        export(folder, tmp_path / layout, layout)
        again = build(tmp_path / layout, tmp_path / f"from {layout}", recipe())
        assert {p.file for p in again.pictures if p.asked_split == "validation"} == {"03.png", "31.png"}
        assert {"03.png", "31.png"} <= {p.file for p in again.part("validation")}


def test_what_cannot_be_balanced_by_is_named(folder):
    with pytest.raises(BespokeError, match="balanced by 'color'") as caught:
        balance(folder, recipe(by="color"))
    assert "category, tag, colour, source" in caught.value.hint


def test_pictures_of_several_tags_count_as_their_rarest(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    tags = ["1girl, solo"] * 16 + ["1girl, hat"] * 4 + ["landscape"] * 4
    for n, text in enumerate(tags):
        scene(n, (100, 140, 40)).save(source / f"{n:02}.png")
        (source / f"{n:02}.txt").write_text(text)
    build(source, tmp_path / "d", parse({"data": {"validation_fraction": 0.0}}, "the test"))
    made = balance(tmp_path / "d", recipe(by="tag", target="equal", max_repeats=100.0))
    assert {(s.group, s.pictures) for s in made.shares["tag"]} == {("1girl", 20), ("solo", 16), ("hat", 4), ("", 4)}
    counts = {p.text: p.repeats for p in made.proposed.pictures}
    assert counts == {"1girl, solo": 1.25, "1girl, hat": 5.0, "landscape": 1.0}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("photos/cats/1.png", "photos/cats"),
        ("photos.zip/1.png", "photos.zip"),
        ("hub/train.parquet/train.parquet/000012/cat.png", "hub/train.parquet"),
    ],
)
def test_a_source_is_a_folder_an_archive_or_a_table(source, wanted):
    assert source_of(Picture("a", "a", "", "", 1, 1, source)) == wanted


def test_columns_that_tell_every_picture_apart_are_no_groups(folder):
    _, seen = inspect(folder, recipe())
    numbered = [
        replace(i, picture=replace(i.picture, labels=i.picture.labels | {"id": i.picture.file, "same": "x"}))
        for i in seen
    ]
    assert ways(numbered) == ["category", "colour"]
    assert groups_of(numbered[0], "id") == (numbered[0].picture.file,)


@pytest.mark.parametrize(
    ("column", "value"), [("weight", "heavy"), ("weight", "-1"), ("repeats", "0"), ("split", "both")]
)
def test_values_that_cannot_be_are_refused_with_their_line(folder, column, value):
    table = folder / "train/metadata.csv"
    frame = pd.read_csv(table, dtype=str)
    frame[column] = ""
    frame.loc[4, column] = value
    frame.to_csv(table, index=False)
    with pytest.raises(BespokeError, match=rf"line 6: {column} is '{value}'") as caught:
        load(folder)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_of_a_source_come_with_the_pictures(tmp_path, kind):
    source = tmp_path / "s"
    source.mkdir()
    frame = pd.DataFrame(
        {"file_name": [f"{n}.png" for n in range(6)], "text": [f"thing {n}" for n in range(6)],
         "subject": ["Ann", None, "Bob", "", "  Cem\n", "Ann"], "stars": [5.0, 4.5, 3.0, 2.0, 1.0, 0.0],
         "boxes": [[1, 2]] * 6, "weight": [2.0, None, 0.5, 1.0, 1.0, 1.0],
         "split": ["val", None, "", "train", None, None]}
    )  # fmt: skip
    for n in range(6):
        scene(n, (100, 140, 200)).save(source / f"{n}.png")
    if kind == "jsonl":
        frame.to_json(source / "metadata.jsonl", orient="records", lines=True)
    else:
        frame.to_parquet(source / "metadata.parquet")
    made = {p.file: p for p in build(source, tmp_path / "d", recipe()).pictures}
    assert [made[f"{n}.png"].labels.get("subject") for n in range(6)] == ["Ann", None, "Bob", None, "Cem", "Ann"]
    assert {"5", "4.5"} <= {p.labels["stars"] for p in made.values()}
    assert all(p.labels.keys() <= {"subject", "stars"} for p in made.values())
    assert [made[f"{n}.png"].weight for n in range(6)] == [2, 1, 0.5, 1, 1, 1]
    assert (made["0.png"].split, made["5.png"].split, made["3.png"].split) == ("validation", "validation", "train")
    assert {p.file: p for p in load(tmp_path / "d").pictures} == made
