"""The split: what belongs together stays together, what was placed stays, and people have the last word."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from bespoke.data import build, clean, load, restore, split_up
from bespoke.data.groups import groups
from bespoke.data.inspect import Facts
from bespoke.data.split import Unit, sides
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe, parse
from bespoke.records import Dataset, Picture, Split

hashes = st.sets(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=2, max_size=60)


def held_out(pictures: Sequence[str], fraction: float, seed: int) -> set[str]:
    found = sides([Unit(picture) for picture in pictures], fraction, seed)
    return {picture for picture, side in zip(pictures, found, strict=True) if side == "validation"}


@given(hashes, st.floats(0, 0.9), st.integers(0, 5))
def test_the_split_is_a_function_of_the_set_and_leaves_something_to_train_on(pictures, fraction, seed):
    held = held_out(sorted(pictures), fraction, seed)
    assert held == held_out(sorted(pictures, reverse=True), fraction, seed)
    assert held < pictures
    assert bool(held) == (fraction > 0)
    assert len(held) <= 64
    if fraction:
        assert len(held) >= max(1, min(4, len(pictures) // 4))


def test_pictures_draw_the_same_whatever_else_is_there():
    pictures = [f"{number:08x}" for number in range(400)]
    before, after = held_out(pictures[:200], 0.1, 7), held_out(pictures, 0.1, 7)
    assert before == after & set(pictures[:200])
    assert 4 < len(before) < len(after) < 64


def test_the_split_follows_fraction_and_seed():
    pictures = [f"{number:08x}" for number in range(300)]
    assert len(held_out(pictures, 0.15, 1)) == pytest.approx(45, abs=18)
    assert held_out(pictures, 0.15, 1) != held_out(pictures, 0.15, 2)
    assert held_out(pictures, 0.05, 1) < held_out(pictures, 0.15, 1)
    assert len(held_out(pictures, 0.9, 1)) == 64


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan"), 12.0])
def test_a_wrong_fraction_is_refused(fraction):
    with pytest.raises(BespokeError, match="at least 0 and below 1"):
        sides([Unit("a"), Unit("b")], fraction, 0)


def test_large_groups_are_trained_on_and_of_a_few_the_smallest_is_held_out():
    assert sides([Unit("a", 97), Unit("b", 3)], 0.1, 0) == ["train", "validation"]
    assert sides([Unit("a", 50), Unit("b", 30), Unit("c", 20)], 0.01, 0) == ["train", "train", "validation"]
    assert sides([Unit("a", 5)], 0.1, 0) == ["train"]
    for seed in range(20):
        found = sides([Unit("large", 40), *(Unit(f"{n}") for n in range(60))], 0.12, seed)
        assert found[0] == "train"
        assert 4 <= found.count("validation") <= 24


@dataclass
class World:
    """Pictures of which some look the same and some show the same subject; `looks` is what they look like."""

    looks: list[int]
    subjects: list[str]
    asked: list[Split | None]

    def pictures(self, count: int) -> list[Picture]:
        return [
            Picture(
                f"{n}.png", "t", f"{n}", f"pixels {n}", 64, 64, f"{n}",
                labels={"subject": self.subjects[n]} if self.subjects[n] else {}, asked_split=self.asked[n],
            )
            for n in range(count)
        ]  # fmt: skip

    def placed(self, count: int, before: dict[str, Split]) -> dict[str, Split]:
        """The sides of the first pictures, by file."""
        pictures = self.pictures(count)
        first: dict[int, str] = {}
        keys = {p.source: first.setdefault(look, p.pixels) for p, look in zip(pictures, self.looks, strict=False)}
        facts = {p.sha256: seen(look) for p, look in zip(pictures, self.looks, strict=False)}
        found = groups(pictures, facts, keys, "subject")
        drawn = sides([group.unit(before) for group in found], 0.2, 3)
        return {p.file: side for group, side in zip(found, drawn, strict=True) for p in group.members}

    def together(self, count: int) -> list[set[str]]:
        """The files that belong together, found by joining what shares a look or a subject until nothing changes."""
        marks = [
            {f"look {self.looks[n]}", *(f"of {s.strip().lower()}" for s in self.subjects[n].split(";") if s.strip())}
            for n in range(count)
        ]
        found = [({f"{n}.png"}, mark) for n, mark in enumerate(marks)]
        changed = True
        while changed:
            changed = False
            for one in found:
                for other in found:
                    if one is not other and one[1] & other[1]:
                        found = [x for x in found if x is not one and x is not other]
                        found.append((one[0] | other[0], one[1] | other[1]))
                        changed = True
                        break
                if changed:
                    break
        return [files for files, _ in found]


def seen(look: int) -> Facts:
    """The facts about a picture: two look the same exactly when their numbers are equal."""
    thumbnail = np.random.default_rng(look).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    hashed = np.random.default_rng(look + 10_000).integers(0, 2**63, 2)
    return Facts("", "", 64, 64, (), int(hashed[0]), int(hashed[1]), thumbnail)


NAMES = ["", "", "", "Ann", "ann ", "Bob", "Cem", "Ann; Bob", "Dora", "Eve"]


@st.composite
def worlds(draw: st.DrawFn, asked: bool = False) -> World:
    count = draw(st.integers(2, 40))
    several = {"min_size": count, "max_size": count}
    looks = draw(st.lists(st.integers(0, 60), **several))
    subjects = draw(st.lists(st.sampled_from(NAMES), **several))
    wanted = (
        draw(st.lists(st.sampled_from([None] * 6 + ["train", "validation"]), **several)) if asked else [None] * count
    )
    return World(looks, subjects, wanted)


def whole(world: World, placed: dict[str, Split]) -> bool:
    return all(len({placed[file] for file in files}) == 1 for files in world.together(len(placed)))


@settings(max_examples=150)
@given(worlds(), st.lists(st.integers(1, 15), min_size=1, max_size=4))
def test_nothing_that_belongs_together_is_divided_and_added_pictures_move_no_other(world, additions):
    count, before = 0, dict[str, Split]()
    for more in additions:
        count = min(count + more, len(world.looks))
        after = world.placed(count, before)
        assert whole(world, after)
        assert world.placed(count, after) == after, "placing again changes nothing"
        held = [file for file, side in after.items() if side == "validation"]
        for files in world.together(count):
            sides_before = {before[file] for file in files if file in before}
            if len(sides_before) > 1:
                # What was learnt from cannot be held out any more.
                assert {after[file] for file in files} == {"train"} or set(held) == files
            elif sides_before and {after[file] for file in files} != sides_before:
                assert set(held) == files, "only where nothing would be held out otherwise"
        if any(2 * len(files) <= count for files in world.together(count)):
            assert held
        before = after


@settings(max_examples=150)
@given(worlds(asked=True))
def test_people_have_the_last_word_or_are_told_that_they_contradict_themselves(world):
    count = len(world.looks)
    wanted = {f"{n}.png": side for n, side in enumerate(world.asked) if side}
    if any(len({wanted[f] for f in files if f in wanted}) > 1 for files in world.together(count)):
        with pytest.raises(BespokeError, match=r"is to be in training and .* in validation, but both are"):
            world.placed(count, {})
        return
    everywhere_else: dict[str, Split] = {f"{n}.png": "train" for n in range(count)}
    for before in ({}, everywhere_else):
        placed = world.placed(count, before)
        assert wanted.items() <= placed.items()
        assert whole(world, placed)


def test_what_looks_like_a_copy_is_kept_with_it_even_if_it_does_not_look_like_the_best():
    """B looks like A and like C, but A and C do not look the same: all three belong together."""
    base = np.full((16, 16, 3), 100, dtype=np.uint8)
    facts = {name: replace(seen(1), thumbnail=base + np.uint8(level)) for name, level in (("a", 0), ("b", 3), ("c", 6))}
    pictures = [Picture(f"{name}.png", "t", name, name, 64, 64, name) for name in "abc"]
    (group,) = groups(pictures, facts, {"a": "a", "b": "a", "c": "c"}, "")
    assert [p.file for p in group.members] == ["a.png", "b.png", "c.png"]
    assert len(groups(pictures, facts, {"a": "a", "b": "b", "c": "c"}, "")) == 3


def test_reasons_say_what_a_picture_stays_with():
    pictures = [
        Picture("1.png", "t", "1", "1", 9, 9, "1", labels={"who": "Ann"}, asked_split="validation"),
        Picture("2.png", "t", "2", "2", 9, 9, "2", labels={"who": "ann", "other": "x"}),
        Picture("3.png", "t", "3", "3", 9, 9, "3", labels={"who": "Bob"}),
        Picture("4.png", "t", "4", "4", 9, 9, "4"),
    ]
    found = groups(
        pictures, {p.sha256: seen(n) for n, p in enumerate(pictures)}, {p.source: p.pixels for p in pictures}, "who"
    )
    reasons = {p.file: group.reason(p, "validation") for group in found for p in group.members}
    assert reasons == {
        "1.png": "asked for",
        "2.png": "subject: Ann with 1.png, as asked for",
        "3.png": "drawn",
        "4.png": "drawn",
    }
    assert found[1].reason(pictures[2], "train") == ""


def drawing(seed: int, side: int = 48) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.NEAREST)


def photos(folder: Path, subjects: dict[int, str]) -> Path:
    folder.mkdir(exist_ok=True)
    rows = ["file_name,text,subject"]
    for seed, subject in subjects.items():
        drawing(seed).save(folder / f"{seed:02}.png")
        rows.append(f"{seed:02}.png,photo {seed},{subject}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def recipe(fraction: float = 0.2, by: str = "subject", **rules: object) -> Recipe:
    data = {"validation_fraction": fraction, "split_by": by}
    return parse({"data": data, "validation": {"seed": 1}, "clean": rules}, "the test")


def of_subjects(dataset: Dataset) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for picture in dataset.pictures:
        found.setdefault(picture.labels.get("subject", ""), set()).add(picture.split)
    return found


def test_subjects_of_the_source_are_kept_apart_through_import_cleaning_and_additions(tmp_path: Path) -> None:
    people = {n: f"person {n // 4}" for n in range(40)}
    source = photos(tmp_path / "s", people)
    first = build(source, tmp_path / "d", recipe())
    assert all(len(found) == 1 for found in of_subjects(first).values())
    assert len(first.part("validation")) >= 4
    assert {p.split_reason.partition(":")[0] for p in first.pictures} == {"subject"}
    photos(source, people | {n: f"person {n % 12}" for n in range(40, 60)})
    more = build(source, tmp_path / "d", recipe())
    assert all(len(found) == 1 for found in of_subjects(more).values())
    now = {p.file: p.split for p in more.pictures}
    assert {p.file: p.split for p in first.pictures}.items() <= now.items()
    assert clean(tmp_path / "d", recipe()) == more == load(tmp_path / "d")
    assert split_up(tmp_path / "d", recipe()) == (more, ())


def test_a_subject_that_is_written_in_later_takes_effect_and_other_columns_stay(tmp_path: Path) -> None:
    source = photos(tmp_path / "s", dict.fromkeys(range(30), ""))
    before = build(source, tmp_path / "d", recipe())
    table = tmp_path / "d" / "train" / "metadata.csv"
    frame = pd.read_csv(table)
    frame["person"] = [f"p{n % 10}" for n in range(30)]
    frame.to_csv(table, index=False)
    with pytest.raises(BespokeError, match="'people'") as caught:
        split_up(tmp_path / "d", recipe(by="people"))
    assert "person" in caught.value.hint
    after, moved = split_up(tmp_path / "d", recipe(by="person"))
    found: dict[str, set[str]] = {}
    for picture in after.pictures:
        found.setdefault(picture.labels["person"], set()).add(picture.split)
    assert all(len(sides) == 1 for sides in found.values())
    assert len(after.part("validation")) == Counter(p.split for p in after.pictures)["validation"] >= 3
    was = {p.file: p.split for p in before.pictures}
    assert {p.file for p in moved} == {p.file for p in after.pictures if p.split != was[p.file]}
    assert pd.read_csv(table).equals(frame)


def test_a_side_in_the_table_is_kept_and_taken_back(tmp_path: Path) -> None:
    source = photos(tmp_path / "s", dict.fromkeys(range(20), ""))
    before = build(source, tmp_path / "d", recipe())
    chosen = before.part("train")[0].file
    table = tmp_path / "d" / "train" / "metadata.csv"
    frame = pd.read_csv(table).assign(split="")
    frame.loc[frame.file_name == chosen, "split"] = "Validation"
    frame.to_csv(table, index=False)
    asked, moved = split_up(tmp_path / "d", recipe())
    assert [(p.file, p.split, p.split_reason) for p in moved] == [(chosen, "validation", "asked for")]
    assert build(source, tmp_path / "d", recipe()) == asked
    other, _ = split_up(tmp_path / "d", recipe(fraction=0.4))
    assert next(p for p in other.pictures if p.file == chosen).split == "validation"
    none, _ = split_up(tmp_path / "d", recipe(fraction=0.0))
    assert [p.file for p in none.part("validation")] == [chosen]
    frame.assign(split="").to_csv(table, index=False)
    back, _ = split_up(tmp_path / "d", recipe(fraction=0.2))
    assert {p.file: p.split for p in back.pictures} == {p.file: p.split for p in before.pictures}
    frame.assign(split="exam").to_csv(table, index=False)
    with pytest.raises(BespokeError, match="'exam', which is neither train nor validation"):
        split_up(tmp_path / "d", recipe())


def test_copies_that_are_brought_back_join_their_like_where_it_is(tmp_path: Path) -> None:
    source = photos(tmp_path / "s", dict.fromkeys(range(24), ""))
    for n in range(24):
        ImageOps.mirror(drawing(n)).save(source / f"{n:02}-mirrored.png")
        (source / f"{n:02}-mirrored.txt").write_text("in a mirror")
    build(source, tmp_path / "d", recipe())
    before = {p.file: p.split for p in load(tmp_path / "d").pictures}
    after = restore(tmp_path / "d", ["mirrored"], recipe())
    now = {p.file: p.split for p in after.pictures}
    assert len(now) == 48
    assert before.items() <= now.items()
    assert all(now[f"{n:02}.png"] == now[f"{n:02}-mirrored.png"] for n in range(24))
    reason = next(p.split_reason for p in after.pictures if p.file == "03-mirrored.png")
    assert reason == "look-alike: 03.png"


def test_another_fraction_draws_anew_and_the_first_brings_the_first_split_back(tmp_path: Path) -> None:
    source = photos(tmp_path / "s", dict.fromkeys(range(40), ""))
    before = build(source, tmp_path / "d", recipe())
    shutil.copytree(tmp_path / "d", tmp_path / "other")
    more, moved = split_up(tmp_path / "d", recipe(fraction=0.5))
    assert len(more.part("validation")) > len(before.part("validation"))
    assert {p.split for p in moved} == {"validation"}
    assert split_up(tmp_path / "d", recipe())[0] == before
