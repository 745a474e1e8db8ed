"""The report of a dataset with known faults: its numbers are those counted here, from the files and not by bespoke."""

import base64
import contextlib
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.data import Facts, Inspected
from bespoke.data.clean import Candidate, Judgement, judge
from bespoke.models import find
from bespoke.page import Advice
from bespoke.pipeline.describe import why
from bespoke.recipe.dataset import Clean
from bespoke.records import Picture
from tests.page.test_report import Page

LONG = "ink drawing of a harbour with " + "ships and gulls and ropes and " * 20 + "a lighthouse"
HOSTILE = "ink drawing of a <script>alert('1')</script> fox & \"friends\""
THINGS = ["fox", "cat", "dog", "owl", "house", "ship", "tree", "car", "bridge", "lamp", "castle", "whale", "moon"]
BAR = re.compile(r"<title>([^<]+): (\d+) kept, (\d+) set aside</title>")


def drawing(seed: int, side: int = 64) -> Image.Image:
    """Sharp squares, unlike those of any other seed."""
    small = np.random.default_rng(seed).integers(30, 226, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.NEAREST)


def photo(side: int) -> Image.Image:
    """A soft picture that looks the same at every size, with a pattern of single pixels that makes it sharp."""
    soft = Image.fromarray(np.random.default_rng(0).integers(40, 216, (6, 6, 3), dtype=np.uint8))
    pattern = 24 * (np.indices((side, side)).sum(axis=0) % 2)[..., None] - 12
    pixels = np.asarray(soft.resize((side, side), Image.Resampling.BICUBIC)).astype(int) + pattern
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def put(folder: Path, name: str, image: Image.Image, text: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / name)
    if text:
        (folder / name).with_suffix(".txt").write_text(text, encoding="utf-8")


def faulty(folder: Path) -> None:
    """26 drawings without fault, and some of each fault."""
    for n in range(26):
        put(
            folder, f"good {n:02d}.png", drawing(n) if n else photo(64), f"ink drawing of a {THINGS[n % 13]} number {n}"
        )
    for n in range(4):
        put(folder, f"small {n}.png", drawing(100 + n, 40), f"ink drawing of a small thing {n}")
    put(folder, "long.png", drawing(200), LONG)
    put(folder, "hostile <b>.png", drawing(201), HOSTILE)
    put(folder, "狐.png", drawing(202), "墨で描いた狐")
    put(folder, "larger.png", photo(128), "ink drawing of a fox, larger")
    put(folder, "same.bmp", drawing(1), "ink drawing of a cat again")
    put(folder, "turned.png", ImageOps.mirror(drawing(2)), "ink drawing of a dog, mirrored")
    put(folder, "blank.png", Image.new("RGB", (64, 64), "teal"), "ink drawing of nothing")
    put(folder, "silent.png", drawing(203))
    put(folder, "often.png", drawing(204), "ink drawing of a comet")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\noops")


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@dataclass
class Told:
    """What the command printed and wrote, and the dataset it did so about."""

    folder: Path
    content: dict[str, Any]
    page: Page
    html: str

    @property
    def captions(self) -> dict[str, str]:
        with (self.folder / "train/metadata.csv").open(encoding="utf-8", newline="") as file:
            return {row["file_name"]: row["text"] for row in csv.DictReader(file)}

    @property
    def findings(self) -> list[str]:
        return [each["finding"] for each in self.content["advice"]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    root = tmp_path_factory.mktemp("report")
    faulty(root / "source")
    bespoke.import_data(root / "source", root / "dataset")
    with contextlib.chdir(root):
        done = CliRunner().invoke(app, ["data", "report", "dataset", "--json"])
    assert done.exit_code == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["report"] == "dataset/report/index.html"
    html = (root / content["report"]).read_text(encoding="utf-8")
    return Told(root / "dataset", content, Page(html), html)


def test_every_file_is_accounted_for(told: Told) -> None:
    aside = {"duplicate": 1, "near-duplicate": 1, "mirrored": 1, "blank": 1, "no caption": 1, "unreadable": 1}
    assert {key: told.content[key] for key in ("files", "kept", "set_aside")} == {
        "files": 40, "kept": 34, "set_aside": aside,
    }  # fmt: skip
    record = json.loads((told.folder / "dataset.json").read_text(encoding="utf-8"))
    sides = Counter(picture["split"] for picture in record["pictures"])
    held = f"{sides['train']} to learn from, {sides['validation']} held back for validation"
    assert f"40 files came in. 34 kept : {held}. 6 set aside." in told.page.text
    for reason in aside:
        assert f" {reason} 1 " in told.page.text
    assert re.search(r"good 00.png looks the same as \S*larger.png, which is kept", told.page.text)


def test_thumbnails_lead_to_the_pictures_in_the_dataset(told: Told) -> None:
    links = {a["href"] for a in told.page.all("a", class_="picture")}
    assert {"../set-aside/blank.png", "../set-aside/silent.png", "../train/larger.png"} <= links
    assert not [a for a in links if "broken" in (a or "")]
    assert all((image["src"] or "").startswith("data:image/") for image in told.page.all("img"))
    assert not re.search(r"https?:|@import|url\(|<script", told.html)


def test_look_alikes_stand_beside_the_one_that_is_kept_with_the_reason(told: Told) -> None:
    text = told.page.text
    assert "Look-alikes 3 groups" in text
    larger = text.index("larger.png 128×128 PNG")
    assert text.index("good 00.png near-duplicate · 64×64 PNG") > larger
    assert "Kept because it has most pixels." in text
    assert "same.bmp duplicate · 64×64 BMP" in text
    assert "turned.png mirrored · 64×64 PNG" in text
    assert text.count("Kept because it came first; none of the others is better.") == 2


def test_advice_counts_what_is_there(told: Told) -> None:
    captions = told.captions
    tokenizer = find("pico").tokenizer()
    cut = sum(len(tokenizer(text).input_ids) > 77 for text in captions.values())
    small = sum(min(size(told.folder / "train" / name)) < 64 for name in captions)
    assert (cut, small, len(captions)) == (1, 4, 34)
    number = sum("number" in text for text in captions.values())
    # What pico-CLIP thinks of these drawings is its own business; `test_models_look` holds it to things it knows.
    opinions = {finding for finding in told.findings if "a caption that another picture fits better" in finding}
    assert len(opinions) <= 1
    assert set(told.findings) - opinions == {
        "4 of 34 pictures are smaller than the training resolution of 64.",
        "1 of 34 captions is longer than the 77 tokens that are read at once.",
        "1 of 34 captions has other first words than “ink drawing”.",
        f"“number” stands in {number} of 34 captions.",
        "1 of 34 pictures has a caption in another script.",
        "1 of 34 pictures has pieces of a web page in the caption.",
        "1 of 40 files is set aside for want of a caption.",
        "1 of 40 files is damaged or of a kind that is not read.",
    }
    assert " ".join(HOSTILE.split()) in told.page.text
    for each in told.content["advice"]:
        for key in ("finding", "why", "do"):
            assert each[key] in told.page.text, each


def test_the_words_are_counted_by_captions(told: Told) -> None:
    texts = [set(re.findall(r"\w+", text.lower())) for text in told.captions.values()]
    for word in ("number", "fox", "thing"):
        count = sum(word in text for text in texts)
        assert count
        assert f" {word} {count} {100 * count / 34:.0f} %" in told.page.text
    assert not re.search(r" drawing \d+ \d+ %", told.page.text), "the style's own words say nothing"


def test_the_end_that_the_model_does_not_see_is_crossed_out(told: Told) -> None:
    (seen, unseen) = re.findall(r"<p><bdi>([^<]*)<s title=[^>]*>([^<]*)</s>", told.html)[0]
    assert LONG.startswith(seen)
    assert LONG[len(seen) :].startswith(unseen.removesuffix("…"))
    tokenizer = find("pico").tokenizer()
    assert len(tokenizer(seen).input_ids) == 77, "75 of the caption and two marks"
    assert tokenizer(LONG).input_ids[:76] == tokenizer(seen).input_ids[:76]


def test_figures_hold_every_picture(told: Told) -> None:
    plots = re.findall(r'<svg class="plot histogram".*?</svg>', told.html, re.DOTALL)
    titles = [re.findall(r"<title>([^<]*)</title>", plot)[0] for plot in plots]
    assert titles == ["Shorter side", "Aspect", "Sharpness", "Bright parts", "Dark parts", "Caption length",
                      "Agreement with the caption", "Distance from the others"]  # fmt: skip
    for title, plot in zip(titles, plots, strict=True):
        counts = [(int(kept), int(aside)) for _, kept, aside in BAR.findall(plot)]
        assert sum(kept for kept, _ in counts) == 34
        assert sum(aside for _, aside in counts) == (4 if "aption" in title else 5), "one has no caption"
    sides = {span: int(kept) for span, kept, _ in BAR.findall(plots[0])}
    assert sorted(n for n in sides.values() if n) == [1, 4, 29]
    assert "trained at 64" in plots[0]
    assert "one window has 77" in plots[5]


def test_rules_show_their_limits_and_what_they_found(told: Told) -> None:
    assert "too small the shorter side has fewer than 32 pixels set aside 0" in told.page.text
    assert "blank the grey levels deviate by less than 2 of 255 set aside 1" in told.page.text
    assert "other script more than 30 % of the caption's letters are not Latin noted 1" in told.page.text


def test_the_dataset_is_as_it_was_and_the_page_goes_where_it_is_wanted(told: Told, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in told.folder.rglob("*") if p.is_file()}
    made = bespoke.report_data(told.folder, out=tmp_path / "elsewhere")
    assert made.report == tmp_path / "elsewhere/index.html"
    assert {p: p.read_bytes() for p in told.folder.rglob("*") if p.is_file()} == before
    links = [a["href"] or "" for a in Page(made.report.read_text(encoding="utf-8")).all("a", class_="picture")]
    assert (made.report.parent / next(a for a in links if a.endswith("train/larger.png"))).is_file()


def test_thumbnails_show_what_training_sees(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for n in range(8):
        put(source, f"{n}.png", drawing(n), f"a thing {n}")
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    clear.paste(drawing(50).convert("RGBA"), (0, 32))
    put(source, "clear.png", clear, "half of a thing")
    bespoke.import_data(source, tmp_path / "dataset")
    html = bespoke.report_data(tmp_path / "dataset").report.read_text(encoding="utf-8")
    (embedded,) = set(re.findall(r'href="\.\./train/clear\.png"><img src="data:image/\w+;base64,([^"]+)"', html))
    shown = Image.open(io.BytesIO(base64.b64decode(embedded))).convert("RGB")
    assert shown.getpixel((5, 5)) == (255, 255, 255)


def painted(seed: int, colour: tuple[int, int, int]) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-25, 26, (8, 8, 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).resize(
        (64, 64), Image.Resampling.NEAREST
    )


def test_balance_and_split_are_shown_and_what_dominates_is_spoken_of(tmp_path: Path) -> None:
    source = tmp_path / "source"
    rows = ["file_name,text,subject,kind"]
    for n in range(40):
        put(source, f"{n:02}.png", painted(n, (50, 140, 50) if n < 32 else (200, 40, 40)))
        who, kind = "Ann" if n < 30 else f"guest {n // 2}", "cat" if n < 36 else "dog"
        rows.append(f"{n:02}.png,ink drawing of a {THINGS[n % 13]},{who},{kind}")
    (source / "metadata.csv").write_text("\n".join(rows) + "\n")
    made = bespoke.import_data(source, tmp_path / "dataset")
    told = bespoke.report_data(tmp_path / "dataset")
    train = made.part("train")
    cats = sum(picture.labels["kind"] == "cat" for picture in train)
    green = sum(int(picture.file[:2]) < 32 for picture in train)
    text = Page(told.report.read_text(encoding="utf-8")).text
    assert f"cat {cats} {100 * cats / len(train):.0f} %" in text
    assert f"green {green} {100 * green / len(train):.0f} %" in text
    assert f"Ann 30 {100 * 30 / 40:.0f} % · to learn from" in text
    assert f"drawn with all of their subject {len(made.part('validation'))} 100 %" in text
    findings = {each.finding: each for each in told.advice}
    assert f"{green} of {len(train)} training pictures are mostly green." in findings
    (group,) = (each for finding, each in findings.items() if "as subject" in finding or "as kind" in finding)
    assert group.finding == f"{cats} of {len(train)} training pictures have “cat” as kind."
    assert "bespoke data balance --set balance.by=kind" in group.do
    assert not [finding for finding in findings if "both sides" in finding]
    table = tmp_path / "dataset/train/metadata.csv"
    held = {picture.file for picture in made.part("validation")}
    lines = table.read_text().splitlines()
    table.write_text(
        "\n".join(re.sub("guest \\d+", "Ann", line) if line[:6] in held else line for line in lines) + "\n"
    )
    findings = {each.finding: each for each in bespoke.report_data(tmp_path / "dataset").advice}
    (torn,) = (each for finding, each in findings.items() if "both sides" in finding)
    assert (torn.severity, torn.count) == ("serious", 30 + len(held))


def item(side: int = 64, form: str = "PNG", size: int = 9, *, restored: bool = False) -> Inspected:
    picture = Picture("a", "a", "", "", side, side, "a", restored=restored)
    facts = Facts("", "", side, side, (), 0, 0, np.zeros((16, 16, 3), np.uint8), format=form, bytes=size)
    return Inspected(picture, facts, Judgement(None))


@pytest.mark.parametrize(
    ("kept", "other", "reason"),
    [
        (item(20), item(restored=True), "you brought the others back"),
        (item(65), item(restored=False), "most pixels"),
        (item(), item(form="JPEG", size=99), "its format loses nothing"),
        (item(form="JPEG"), item(form="WEBP", size=8), "most bytes"),
        (item(form="JPEG"), item(form="JPEG"), "it came first"),
        (item(size=9), item(form="BMP", size=8), "it came first"),
    ],
)
def test_the_reason_why_a_picture_is_kept_is_the_one_that_decided(
    kept: Inspected, other: Inspected, reason: str
) -> None:
    assert reason in why(kept, [other])
    named = {"b": other, "a": kept}
    both = [Candidate(name, i.facts, "t", "", i.picture.restored) for name, i in named.items()]
    order = both[::-1] if reason == "it came first" else both
    assert [j.like for j in judge(order, Clean(set_aside=(), minimum_side=1)) if j.like] == ["a"], "the rules agree"


def advised(
    folder: Path, captions: Sequence[str], sides: Mapping[int, int] | None = None, *settings: str, **texts: str
) -> dict[str, Advice]:
    """The advice, by finding, about a dataset of drawings with these captions; some have another side."""
    for n, text in enumerate(captions):
        put(folder / "source", f"{n:02d}.png", drawing(n, (sides or {}).get(n, 64)), text)
    for name, text in texts.items():
        (folder / "source" / f"{name}.txt").write_text(text, encoding="utf-8")
    bespoke.import_data(folder / "source", folder / "dataset", overrides=settings)
    return {each.finding: each for each in bespoke.report_data(folder / "dataset", overrides=settings).advice}


def numbered(count: int) -> list[str]:
    return [f"ink drawing of a {THINGS[n % 13]} {'abcdefgh'[n % 8]}" for n in range(count)]


def test_a_resolution_is_advised_that_the_pictures_have(tmp_path: Path) -> None:
    found = advised(tmp_path, numbered(20), dict.fromkeys(range(17), 128) | dict.fromkeys((17, 18, 19), 100),
                    "data.resolution=128")  # fmt: skip
    (small,) = (each for finding, each in found.items() if "smaller" in finding)
    assert small.finding == "3 of 20 pictures are smaller than the training resolution of 128."
    assert small.do == "Add larger ones, or train at 96: data.resolution = 96."
    assert small.severity == "worth a look"


def test_a_good_dataset_gets_no_advice(tmp_path: Path) -> None:
    assert advised(tmp_path, numbered(20)) == {}
    assert "Nothing to advise." in (tmp_path / "dataset/report/index.html").read_text(encoding="utf-8")


def test_few_equal_and_unmeasured_pictures_are_spoken_of(tmp_path: Path) -> None:
    found = advised(tmp_path, ["ink drawing of a fox"] * 6, None, "data.validation_fraction=0.0")
    assert {finding: each.severity for finding, each in found.items()} == {
        "There are only 6 pictures to learn from.": "serious",
        "All 6 captions are the same.": "serious",
        "No picture is held back for validation.": "serious",
    }


def test_captions_that_share_nothing_or_one_word_are_spoken_of(tmp_path: Path) -> None:
    texts = [f"{thing} by the sea" for thing in THINGS] + [f"{thing} in the snow" for thing in THINGS[:7]]
    found = advised(tmp_path, texts)
    assert set(found) == {"The captions have no first words in common.", "“sea” stands in 13 of 20 captions."}


def test_what_counts_far_more_often_is_spoken_of(tmp_path: Path) -> None:
    rows = "".join(f"{n:02d}.png,{text},{40 if n < 8 else 1}\n" for n, text in enumerate(numbered(40)))
    (tmp_path / "source").mkdir()
    (tmp_path / "source/metadata.csv").write_text(f"file_name,text,repeats\n{rows}")
    found = advised(tmp_path, [""] * 40)
    record = json.loads((tmp_path / "dataset/dataset.json").read_text())
    repeats = [p["repeats"] for p in record["pictures"] if p["split"] == "train"]
    often = repeats.count(40)
    (each,) = (each for finding, each in found.items() if "times as often" in finding)
    assert each.finding.startswith(f"{often} of {len(repeats)} training pictures are counted 10 times as often")
    assert f"{100 * 40 * often / sum(repeats):.0f} % of what the model sees" in each.why


def test_look_alikes_and_others_that_are_kept_against_the_rules_are_spoken_of(tmp_path: Path) -> None:
    for n in range(20):
        put(tmp_path / "source", f"{n:02d}.png", drawing(n % 19, 40 if n == 3 else 64), numbered(20)[n])
    bespoke.import_data(tmp_path / "source", tmp_path / "dataset", overrides=["clean.set_aside=[]"])
    made = bespoke.report_data(tmp_path / "dataset", overrides=["clean.minimum_side=50"])
    findings = {each.finding for each in made.advice}
    assert "1 of 20 pictures is kept although another looks the same." in findings
    assert "1 of 20 pictures is kept although the recipe's rules set such ones aside." in findings
    assert "duplicate · 64×64 PNG" in Page(made.report.read_text(encoding="utf-8")).text


def test_without_the_base_model_lengths_are_in_words_and_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def download(name: str, _: str, *, revision: str | None, local_files_only: bool) -> str:
        asked.append(local_files_only)
        raise OSError(f"{name} at {revision} is not here")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    found = advised(tmp_path, [*numbered(19), LONG], None, "model.base=nobody/has-this")
    text = Page((tmp_path / "dataset/report/index.html").read_text(encoding="utf-8")).text
    assert asked == [True]
    assert not [finding for finding in found if "tokens" in finding]
    assert "the tokenizer of the base model, nobody/has-this, is not on this machine" in text
    assert f"{len(LONG.split())} words" in text


# --- shapes of training, and kinds of captions ---


def shaped(folder: Path, *, rarely: float) -> None:
    """Ten pictures of three sizes, of which one counts three times and one `rarely`."""
    rows: list[tuple[str, str, str]] = []
    for number, (width, height) in enumerate([(64, 64)] * 5 + [(96, 48)] * 3 + [(40, 40)] * 2):
        put(folder, f"{number}.png", drawing(number, 96).crop((0, 0, width, height)))
        rows.append((f"{number}.png", f"ink drawing of {THINGS[number]}", {0: "3", 5: f"{rarely:g}"}.get(number, "")))
    lines = ["file_name,text,repeats", *(",".join(row) for row in rows)]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def reported(folder: Path, *overrides: str) -> str:
    return Page(bespoke.report_data(folder, overrides=overrides).report.read_text(encoding="utf-8")).text


@pytest.mark.parametrize(("rarely", "visits"), [(1.0, "12"), (0.5, "11.5")])
def test_the_shapes_are_those_of_training_and_an_epoch_uses_every_picture(tmp_path, rarely, visits) -> None:
    shaped(tmp_path / "source", rarely=rarely)
    whole = "data.validation_fraction=0"
    bespoke.import_data(tmp_path / "source", tmp_path / "d", overrides=[whole])
    text = reported(tmp_path / "d", whole)
    # pico's shapes have at most 64² pixels and sides of multiples of 16; 96:48 is nearest to 80:48, which keeps 5/6.
    assert "64×64 nothing cut off 50 % 5" in text
    assert "80×48 17 % of a picture cut off in the mean, 17 % at most 30 % 3" in text
    assert "32×32 2 in a smaller shape than usual; nothing cut off 20 % 2" in text
    assert "2 of 10 get a smaller shape" in text
    assert "3 of 3 shapes have fewer than 8 pictures" in text
    counts = "1 count more than once and 1 less than once" if rarely < 1 else "1 count more than once"
    used = re.findall(rf"An epoch is {visits} visits \({counts}\) in passes of 8; the first uses (\d+) %", text)
    assert used in ([["100"]] if rarely == 1 else [["100"], ["90"]])
    text = reported(tmp_path / "d", whole, "data.enable_bucket=false")
    assert "cut to a square of 64 pixels" in text
    assert "64×64 5 enlarged; 15 % of a picture cut off in the mean, 50 % at most 100 % 10" in text
    assert "40×40" not in text


def test_without_the_base_model_no_shapes_are_made_up(tmp_path: Path) -> None:
    shaped(tmp_path / "source", rarely=1)
    bespoke.import_data(tmp_path / "source", tmp_path / "d")
    assert "Training shapes" not in reported(tmp_path / "d", "model.base=nobody/nothing")


def test_kinds_of_captions_are_counted_with_an_example_each(tmp_path: Path) -> None:
    shaped(tmp_path / "source", rarely=1)
    bespoke.import_data(tmp_path / "source", tmp_path / "d")
    assert "as imported" not in reported(tmp_path / "d")
    table = tmp_path / "d/captions.csv"
    hashes = {p["file"]: p["sha256"] for p in json.loads((tmp_path / "d/dataset.json").read_text())["pictures"]}
    rows = [(hashes[f"{n}.png"], f"{n}.png", "short", f"{n} old", "A", "x") for n in range(4)]
    rows += [(hashes[f"{n}.png"], f"{n}.png", "short", f"{n} new", "B", "y") for n in range(3)]
    rows += [(hashes[f"{n}.png"], f"{n}.png", "things", f"thing {n}", "C", "z") for n in range(10)]
    rows += [("0" * 64, "gone.png", "short", "of a picture that is gone", "A", "x")]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("sha256", "file_name", "kind", "text", "by", "how"), *rows])
    text = reported(tmp_path / "d")
    assert re.search(r"ink drawing of (\w+) as imported · 10 pictures .*\1 in training · 10 pictures", text)
    assert re.search(r"[012] new short · 4 pictures · by B, A|3 old short · 4 pictures · by B, A", text)
    assert re.search(r"thing \d things · 10 pictures · by C", text)
    assert "gone" not in text
