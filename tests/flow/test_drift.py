"""`bespoke feedback drift` on a store of pictures that pico really drew: quiet days, worse ones, canaries, the page."""

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageFilter
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.feedback import Sample as Kept
from bespoke.feedback import Store
from bespoke.models import find
from bespoke.pipeline.drift import Source, drift
from bespoke.recipe.tree import Sample

BEGIN = date(2026, 3, 1)
RECIPE = """
[model]
base = "pico"

[drift]
reference_pictures = 20
least = 6
canaries = ["a red apple on a blue ground"]
canary_seeds = 1
"""
THINGS = ("apple", "car", "owl", "fish", "tree", "clock", "rocket", "cat", "boat", "house")
GROUNDS = ("red", "blue", "green", "yellow")
PROMPTS = [f"a {thing} on a {ground} ground" for thing in THINGS for ground in GROUNDS]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """One picture of each prompt."""
    out = tmp_path_factory.mktemp("pictures")
    return list(bespoke.sample("pico", PROMPTS, out=out, settings=Sample(num_inference_steps=2, dtype="fp32")).pictures)


def png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def serve(project: Path, pictures: list[Path], days: range, *, model: str = "pico", worse: bool = False) -> None:
    """Ten pictures a day in the project's store, of prompts that take turns; worse ones are blurred and pale."""
    with Store(str(project)) as store:
        for day in days:
            for n in range(10):
                which = (7 * day + 3 * n) % len(PROMPTS)
                picture = Image.open(pictures[which]).convert("RGB")
                if worse:
                    pale = Image.new("RGB", picture.size, (128, 128, 128))
                    picture = Image.blend(picture.filter(ImageFilter.GaussianBlur(4)), pale, 0.7)
                at = datetime.combine(BEGIN + timedelta(days=day), datetime.min.time(), UTC) + timedelta(minutes=n)
                sample = Kept(f"{len(model)}-{day}-{n}", model, PROMPTS[which], at=at.isoformat(), seconds=1.0 + n / 10)
                store.add(sample, png(picture))


@pytest.fixture
def project(tmp_path, pictures, monkeypatch) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    serve(tmp_path, pictures, range(4))
    return tmp_path


def told(*more: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["feedback", "drift", "--json", *more])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_quiet_days_then_worse_ones(project, pictures):
    quiet = told("--now", "2026-03-05")
    assert (quiet["version"], quiet["reference_pictures"], quiet["days"], quiet["day"]) == ("pico", 20, 2, "2026-03-04")
    assert (quiet["alarms"], quiet["canaries"], quiet["advice"], quiet["note"]) == ([], "same", [], "")
    figures = {one["figure"]: one for one in quiet["readings"]}
    assert set(figures) == {"pictures", "agreement", "saturation", "clipped", "high_frequency", "flagged", "prompts",
                            "prompt_length", "unknown_words", "seconds"}  # fmt: skip
    assert figures["seconds"]["value"] == pytest.approx(1.45) and figures["flagged"]["p"] == 1

    serve(project, pictures, range(4, 6), worse=True)
    rang = told("--now", "2026-03-07")
    assert rang["new_days"] == 2 and {"pictures", "saturation"} <= {one["figure"] for one in rang["alarms"]}
    assert not {"prompts", "prompt_length", "seconds"} & {one["figure"] for one in rang["alarms"]}
    assert "2026-03-05" in rang["alarms_before"] and "the model is the same" in rang["advice"][0]
    page = Path(rang["page"]).read_text("utf-8")
    assert "Alarm on 2026-03-06: pictures as a whole" in page and "the same bits" in page
    assert json.loads(Path(rang["content"]).read_text("utf-8"))["alarms"] == rang["alarms"]


def test_a_day_is_looked_at_once_and_a_torn_line_again(project, pictures):
    serve(project, pictures, range(4, 6))
    first = told("--now", "2026-03-07")
    (days,) = project.glob("drift/pico/reference-*/days.jsonl")
    lines = days.read_text("utf-8").splitlines(keepends=True)
    again = told("--now", "2026-03-07")
    assert (first["new_days"], again["new_days"]) == (4, 0) and again["readings"] == first["readings"]
    days.write_text("".join(lines[:-1]) + lines[-1][:50], encoding="utf-8")  # as a kill leaves it
    mended = told("--now", "2026-03-07")
    assert mended["new_days"] == 1 and mended["readings"] == first["readings"]


def test_what_is_deleted_from_the_store_does_not_change_the_reference(project, pictures):
    serve(project, pictures, range(4, 5))
    told("--now", "2026-03-05")
    kept = Source(*_of(project))
    late = Source([one for one in kept.samples if one.at >= "2026-03-05"], kept.file)
    with_all, without = (drift(project, source=some, now=date(2026, 3, 6)) for some in (late, late))
    assert with_all.days == without.days and len(without.days) == 3
    (reference,) = project.glob("drift/pico/reference-*/reference.safetensors")
    assert b"apple" not in reference.read_bytes()  # numbers only


def test_night_by_night_is_the_same_as_all_days_at_once(project, pictures, tmp_path_factory):
    serve(project, pictures, range(4, 6), worse=True)
    source, other = Source(*_of(project)), tmp_path_factory.mktemp("other")
    (other / "recipe.toml").write_text(RECIPE)
    for day in range(4, 7):
        nightly = drift(project, source=source, now=BEGIN + timedelta(days=day), canaries=False)
    at_once = drift(other, source=source, now=BEGIN + timedelta(days=6), canaries=False)
    assert nightly.days == at_once.days and nightly.new == 1
    assert any(max(one.sums) > one.h for one in nightly.days[-1].readings)  # charts that went on from the night before


def _of(project: Path) -> Any:
    with Store(str(project)) as store:
        samples = list(store.samples())
        files = {one.id: store.shelf.path(one.sha256) for one in samples}
    return samples, lambda one: files[one.id]


def test_against_another_version(project, pictures):
    base = str(find("pico").folder)
    serve(project, pictures, range(4, 6), model=base, worse=True)
    found = told("--version", base, "--against", "pico", "--now", "2026-03-07", "--no-canaries")
    assert (found["version"], found["against"], found["canaries"]) == (base, "pico", "")
    assert "pictures" in {one["figure"] for one in found["alarms"]} and "suspect the model" in found["advice"][0]
    assert told("--now", "2026-03-07", "--no-canaries")["version"] == base  # it drew the newest


def test_too_few_pictures_say_so_and_canaries_are_drawn_all_the_same(project):
    found = told("--now", "2026-03-02")
    assert found["note"].startswith("The reference takes 20 pictures of different prompts, and whole days have 10")
    assert found["canaries"] == "same" and "Nothing is compared yet" in Path(found["page"]).read_text("utf-8")


def test_nothing_is_kept_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Store(str(tmp_path)).close()
    done = CliRunner().invoke(app, ["feedback", "drift"])
    assert done.exit_code == 2
    with pytest.raises(BespokeError, match="No served picture is kept"):
        drift(tmp_path, source=Source([], lambda one: Path(one.id)))


def test_a_model_that_was_exchanged_draws_other_canaries(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    model = tmp_path / "model"
    shutil.copytree(find("pico").folder, model)
    nothing = Source([], lambda one: Path(one.id))

    def flown(day: int) -> Any:
        return drift(tmp_path, str(model), source=nothing, now=BEGIN + timedelta(days=day)).flight

    assert (flown(0).worst, flown(1).worst) == ("same", "same")
    assert [one.name for one in (tmp_path / "drift").glob("*/canaries/2026*")] == []  # equal pictures are kept once
    pipeline = find(str(model)).pipeline(safety_checker=False)
    with torch.no_grad():
        pipeline.unet.conv_out.weight.mul_(0.8)
    pipeline.unet.save_pretrained(model / "unet")
    assert flown(1).worst == "same"  # once a day
    after = flown(2)
    assert after.worst == "changed" and after.now[0] != after.first[0] and after.now[0].is_file()
    assert "do not" not in after.returns[0].canary.prompt and after.returns[0].distance > after.returns[0].rounding
    (page,) = (tmp_path / "drift").glob("*/reference-*/index.html")
    assert "another picture" in page.read_text("utf-8")
