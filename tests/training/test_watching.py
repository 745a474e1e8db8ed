"""Pictures and a page while it trains: nothing of it changes the training, and all of it survives a kill."""

import importlib.util
import itertools
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import load_adapter
from bespoke.pipeline import progress, runpage
from bespoke.pipeline.naming import Named
from bespoke.pipeline.new import new
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.signals import StopWish
from bespoke.pipeline.watching import watching
from bespoke.recipe import dump, parse
from bespoke.records import Dataset, Picture
from bespoke.sampling import Request, draw
from bespoke.workspace import write_text

PROMPTS = ["8bit illustration of a cat", "a dog"]
SAMPLE = {"prompts": PROMPTS, "sample_every_n_steps": 3, "num_inference_steps": 2, "guidance_scale": 1.0}
OFF = {
    "track": {"mlflow": False, "tensorboard": False},
    "sample": SAMPLE,
    "validation": {"validation_steps": 4, "strata": 1, "max_items": 1},
}


def watched(trainer, checkpoint, *, stop=None):
    """Trains to the end, or to a step, with everything watching that watches a training; gives the events."""
    run = trainer.run
    write_text(run.recipe, dump(trainer.recipe))
    wish, events = StopWish(), []
    start, resumed = Named("pico", checkpoint), trainer.progress.step > 0
    with watching(run, trainer, start, Dataset(), silent, wish, resumed=resumed) as heard:
        for event in trainer.fit(lambda: "enough" if trainer.progress.step == stop else None):
            heard(event)
            events.append(event)
    return events


def page(run):
    return run.report.read_text("utf-8")


def drawn(run):
    return {f.relative_to(run.samples).as_posix(): f.read_bytes() for f in sorted(run.samples.rglob("*.png"))}


KINDS = {
    "LoRA, text encoder, dropout, average": {
        "model": {"dropout": 0.1},
        "train": {"train_text_encoder": True, "use_ema": True, "ema_decay": 0.9, "max_train_steps": 5},
    },
    "all weights": {"model": {"method": "full"}, "train": {"unet_dropout": 0.1, "max_train_steps": 4}},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_drawing_changes_no_bit_of_the_training(tmp_path, trainer, everything, checkpoint, tokens, material, kind):
    sections = KINDS[kind]
    of = tokens if sections["train"].get("train_text_encoder") else material
    plain = trainer(tmp_path / "plain", of=of, **sections, validation=OFF["validation"])
    list(plain.fit())
    ours = trainer(tmp_path / "watched", of=of, **sections, **OFF)
    watched(ours, checkpoint)
    assert len(list(ours.run.samples.glob("progress/step-*"))) >= 3
    found, wanted = everything(ours), everything(plain)
    assert found.keys() == wanted.keys()
    assert [name for name in found if not torch.equal(found[name], wanted[name])] == []
    assert ours.progress == plain.progress
    files = sorted(plain.run.root.rglob("*.safetensors"))
    assert files
    for file in files:
        assert (ours.run.root / file.relative_to(plain.run.root)).read_bytes() == file.read_bytes(), file


def test_each_column_shows_the_weights_of_its_step_and_the_first_the_base(tmp_path, trainer, checkpoint):
    train = {"max_train_steps": 5, "use_ema": True, "ema_decay": 0.5, "learning_rate": 0.02}
    ours = trainer(tmp_path, train=train, **OFF)
    watched(ours, checkpoint)
    columns = progress.columns(ours.run, progress.wanted(ours.recipe, Dataset()))
    assert [(c.step, c.head) for c in columns] == [(0, "base"), (3, "step 3"), (5, "step 5")]
    requests = [Request(prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    pipeline = checkpoint.pipeline(safety_checker=False)
    for column, adapter in ((columns[0], None), (columns[2], ours.run.last / "adapter.safetensors")):
        if adapter:
            load_adapter(pipeline, adapter, "pico")
        for file, one in zip(column.pictures, draw(pipeline, requests, ours.recipe.sample), strict=True):
            with Image.open(file) as picture:
                assert np.abs(np.asarray(picture).astype(int) - np.asarray(one.picture).astype(int)).max() <= 1
    first, last = (columns[n].pictures[0].read_bytes() for n in (0, 2))
    assert first != last
    with Image.open(ours.run.samples / "progress.png") as sheet:
        assert sheet.width > 3 * 192 and sheet.height > 2 * 192


def test_a_resumed_training_goes_on_with_its_columns(tmp_path, trainer, checkpoint):
    settings = {**OFF, "train": {"max_train_steps": 6}}
    whole = trainer(tmp_path / "whole", **settings)
    watched(whole, checkpoint)
    first = trainer(tmp_path / "parts", **settings)
    watched(first, checkpoint, stop=4)
    run = first.run
    # A kill after more steps than the newest state has, and one in the middle of drawing.
    shutil.copytree(run.samples / "progress/step-000003", run.samples / "progress/step-000006")
    (run.samples / "progress/step-000007").mkdir()
    second = trainer(tmp_path / "parts", **settings)
    second.restore(run.state(4))
    watched(second, checkpoint)
    assert drawn(run).keys() == drawn(whole.run).keys()
    changed = [
        name for name, content in drawn(run).items() if "progress/" in name and content != drawn(whole.run)[name]
    ]
    assert [name for name in changed if not same_picture(run, whole.run, name)] == []


def same_picture(ours, theirs, name):
    """The pixels, for the name of the run stands in the file."""
    with Image.open(ours.samples / name) as one, Image.open(theirs.samples / name) as other:
        return one.tobytes() == other.tobytes()


def test_no_second_unet_is_kept_and_nothing_is_drawn_where_none_is_asked_for(tmp_path, trainer, checkpoint):
    ours = trainer(tmp_path, **OFF)
    pictures = progress.Progress(ours.run, ours, Named("pico", checkpoint), [Request("a cat", 0)])
    pictures.begin()
    assert pictures._pipeline.unet is ours.bare.unet
    off = trainer(
        tmp_path / "off", train={"max_train_steps": 2}, track=OFF["track"], sample={"sample_every_n_steps": 0}
    )
    watched(off, checkpoint)
    assert not off.run.samples.exists()


def test_prompts_are_the_recipes_or_the_objectives_or_captions():
    def texts(content, dataset=None):
        return [r.prompt for r in progress.wanted(parse(content, ""), dataset or Dataset())]

    change, keep = [f"style {n}" for n in range(10)], [f"plain {n}" for n in range(10)]
    both = {"change_prompts": change, "keep_prompts": keep}
    assert texts({"sample": {"prompts": ["own"]}, "objective": both}) == ["own"]
    assert texts({"objective": both}) == ["style 0", "style 5", "plain 0", "plain 5"]
    assert texts({"objective": {"change_prompts": change}}) == ["style 0", "style 2", "style 5", "style 7"]
    train = tuple(Picture(f"{n}.png", f"c{n}", f"s{n}", f"h{n}", 8, 8, "x") for n in range(9))
    found = texts({}, Dataset(train))
    assert len(set(found)) == 4 and set(found) <= {f"c{n}" for n in range(9)}
    assert found == texts({}, Dataset(train[::-1]))
    assert texts({}) == []


def test_the_page_is_there_from_the_first_moment_and_reads_itself_again(tmp_path, trainer, checkpoint, monkeypatch):
    monkeypatch.setattr("bespoke.pipeline.runpage.Live.SECONDS", 0.0)
    monkeypatch.setattr("bespoke.pipeline.runpage.Live.SHARE", 1e9)
    ours = trainer(tmp_path, **OFF)
    write_text(ours.run.recipe, dump(ours.recipe))
    wish, seen = StopWish(), []
    with watching(ours.run, ours, Named("pico", checkpoint), Dataset(), silent, wish, resumed=False) as heard:
        seen.append(page(ours.run))
        for event in ours.fit(lambda: "stopped by SIGTERM" if ours.progress.step == 4 else None):
            heard(event)
            seen.append(page(ours.run))
    assert all('http-equiv="refresh"' in text for text in seen)
    assert "step 0 of" in seen[0] and "step 4 of" in seen[-1] and "at most about" in seen[-1]
    assert sum(before != after for before, after in itertools.pairwise(seen)) >= 4
    for title in (
        "Validation",
        "Gap",
        "By noise",
        "Learning rate",
        "Gradient norm",
        "Weight norm",
        "Pictures a second",
    ):
        assert f"<h3>{title}</h3>" in seen[-1]
    assert re.findall(r'<th scope="col">(base|step \d+)</th>', seen[-1]) == ["base", "step 3"]
    left = page(ours.run)
    assert "refresh" not in left and "stopped by SIGTERM" in left and "bespoke train --resume" in left


def test_a_training_that_fails_says_so_on_its_page(tmp_path, trainer, checkpoint):
    ours = trainer(tmp_path, **OFF)
    write_text(ours.run.recipe, dump(ours.recipe))
    block = watching(ours.run, ours, Named("pico", checkpoint), Dataset(), silent, StopWish(), resumed=False)
    with pytest.raises(RuntimeError, match="lightning"), block as heard:
        heard(next(ours.fit()))
        raise RuntimeError("lightning")
    assert "lightning" in page(ours.run) and "refresh" not in page(ours.run)


def row(step, ratio, gap, *, best=False):
    return {"event": "validated", "step": step, "log_ratio": ratio, "gap": gap, "best": best}


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        ([0.05, 0.1, 0.15], "At step 20 training pictures are 10.5 % (95 %: 5.1 % to 16.2 %) ahead of held back ones"),
        ([-0.05, 0.1, 0.15], "At step 20 training pictures are not clearly ahead of held back ones: 10.5 %"),
        ([-0.3, -0.2, -0.1], "At step 20 held back pictures are ahead of training pictures"),
    ],
)
def test_the_page_says_which_step_is_best_and_what_the_gap_means(gap, said):
    rows = [row(0, 0.0, [0.0] * 3), row(10, -0.1, None, best=True), row(20, -0.2, gap, best=True), row(30, 0.1, None)]
    best, told = list(runpage._notes(rows, 20))
    assert best == "Step 20 is the best: held back pictures are predicted 18.1 % better than by the base."
    assert told.startswith(said)
    assert list(runpage._notes(rows, None)) == ["No measurement was better than the base so far."]


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="it is installed here")
def test_a_tracker_that_is_not_there_is_told_before_there_is_a_run(tmp_path, pictures):
    made = new(tmp_path / "project", pictures)
    with pytest.raises(BespokeError, match="not installed"):
        bespoke.train(made.recipe, ["track.wandb=true"])
    assert not list(tmp_path.glob("project/runs/*"))
