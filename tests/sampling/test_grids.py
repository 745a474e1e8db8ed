"""Grids: each picture is what `bespoke sample` draws, none is drawn twice, and what fails stands in its place."""

import itertools
import math
import shutil

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler
from PIL import Image

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, find
from bespoke.models.wearing import load_adapter, unload_adapter, weigh_adapter
from bespoke.pipeline import drawing
from bespoke.pipeline.axes import Cell
from bespoke.pipeline.grid import grid
from bespoke.pipeline.naming import named
from bespoke.pipeline.sample import sample
from bespoke.pipeline.warm import HERE, Warm
from bespoke.recipe.schedulers import SCHEDULERS
from bespoke.recipe.tree import Sample
from bespoke.sampling import Drawn, Request, draw, save_picture
from bespoke.sampling.grid import Block, sheet

QUICK = Sample(num_inference_steps=2, guidance_scale=2.0, batch_size=3)
PROMPT = "a red apple on a blue background"


@pytest.fixture(scope="module")
def pipeline():
    return find("pico").pipeline(safety_checker=False)


def pixels(source):
    if isinstance(source, Image.Image):
        return np.asarray(source).astype(int)
    with Image.open(source) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def apart(one, other):
    """The largest difference, in steps of 1/255."""
    return int(np.abs(pixels(one) - pixels(other)).max())


class Told:
    """What a reporter heard."""

    def __init__(self, stop_at=math.inf):
        self.heard, self.stop_at = [], stop_at

    def __call__(self, stage, done, total, note=""):
        self.heard.append((stage, done, total, note))
        if stage == "draw" and done >= self.stop_at:
            raise KeyboardInterrupt

    @property
    def drawn(self):
        """How many pictures were to be drawn."""
        stage, done, total, note = self.heard[-1]
        assert stage == "draw" and done == total
        return 0 if note == "all were there already" else total


def plot(folder, x, y=None, z=None, *, model="pico", settings=QUICK, report=None, **more):
    told = report or Told()
    done = grid(
        model, PROMPT, x=x, y=y, z=z, out=folder, settings=settings, safety_checker=False, report=told, **more
    )  # fmt: skip
    return done, told


# --- schedulers ---


def test_every_scheduler_draws_a_picture_of_its_own(pipeline):
    own, wish = pipeline.scheduler, QUICK.model_copy(update={"num_inference_steps": 3})
    pictures = {}
    for name in ("default", *SCHEDULERS):
        asked = wish.model_copy(update={"scheduler": name})
        pictures[name] = pixels(next(draw(pipeline, [Request(PROMPT, 1)], asked)).picture)
        assert pipeline.scheduler is own, "it is put back"
    assert (pictures["default"] == pictures["ddim"]).all(), "pico comes with ddim"
    for name in ("euler", "dpm++_2m"):  # pico's own steps begin in noise alone, too
        assert (pictures[name] == pictures.pop(f"{name}_sgm_uniform")).all()
    assert len({found.tobytes() for found in pictures.values()}) == len(SCHEDULERS) - 2
    far = {name: np.abs(found - pictures["ddim"]).mean() for name, found in pictures.items()}
    # Ways to one picture; with noise anew at every step of two parts, or most steps at the ends, three do not arrive.
    assert all(distance < 40 for name, distance in far.items() if not name.startswith("dpm2_a") and "beta" not in name)


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("dpm++_2m_karras", DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
        ("dpm++_2m_sde", DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
        ("euler_a", EulerAncestralDiscreteScheduler, {}),
    ],
)
@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
def test_a_scheduler_is_that_of_plain_diffusers_by_its_class_and_options(pipeline, tmp_path, name, kind, options):
    done, _ = plot(tmp_path, {"scheduler": [name]})
    own = pipeline.scheduler
    pipeline.scheduler = kind.from_config(own.config, **options)
    theirs = pipeline(
        PROMPT, num_inference_steps=2, guidance_scale=2.0, generator=torch.Generator("cpu").manual_seed(0)
    ).images[0]  # fmt: skip
    pipeline.scheduler = own
    assert apart(done.pictures[0], theirs) <= 1
    with Image.open(done.pictures[0]) as picture:
        assert f"Steps: 2, Sampler: {SCHEDULERS[name].title}, CFG scale: 2.0" in picture.text["parameters"]


# --- adapters ---


def drawn(pipeline, seed=3):
    return pixels(next(draw(pipeline, [Request(PROMPT, seed)], QUICK)).picture)


def test_weight_0_is_the_base_and_weight_1_the_adapter_to_the_last_bit(run):
    pipeline = find("pico").pipeline(safety_checker=False)
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    base = drawn(pipeline)
    load_adapter(pipeline, run / "adapter.safetensors", "pico")
    tuned = drawn(pipeline)
    by_weight = {}
    for weight in (0.5, 0.0, 1.0, 1.5, 0.0, 0.5):
        weigh_adapter(pipeline, weight)
        found = drawn(pipeline)
        assert (by_weight.setdefault(weight, found) == found).all(), "what was asked for before does not matter"
    assert (by_weight[0.0] == base).all() and (by_weight[1.0] == tuned).all() and (base != tuned).any()
    far = {weight: np.abs(found - base).mean() for weight, found in by_weight.items()}
    assert 0 < far[0.5] < far[1.0] and (by_weight[1.5] != tuned).any()
    unload_adapter(pipeline)
    after = pipeline.unet.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    weigh_adapter(pipeline, 0.5)  # there is nothing to weigh
    assert (drawn(pipeline) == base).all()


def test_the_weights_of_a_grid_begin_with_the_base(run, tmp_path):
    done, told = plot(tmp_path, "weight=0,1,0.5", {"checkpoint": ["base", str(run), "@step-4"]}, model=str(run))
    assert told.drawn == 1 + 2 * 3, "the base has no adapter: its three places show one picture"
    base, half = done.pictures[0], done.pictures[5]
    assert done.pictures[:3] == (base,) * 3
    for zero, one, half, model in ((3, 4, 5, str(run)), (6, 7, 8, f"{run}@step-4")):
        assert apart(done.pictures[zero], base) == 0
        alone = sample(model, [PROMPT], out=tmp_path / "alone", settings=QUICK, safety_checker=False)
        assert apart(done.pictures[one], alone.pictures[0]) == 0
        assert apart(done.pictures[half], base) > 0 < apart(done.pictures[half], done.pictures[one])
    with Image.open(done.pictures[5]) as picture:
        assert f"Model: {run}, Adapter weight: 0.5, Version" in picture.text["parameters"]
    with pytest.raises(BespokeError, match="no adapter to weigh"):
        plot(tmp_path, "weight=0,1")


# --- pictures ---


def test_a_cell_is_what_sample_draws_with_the_same_settings(tmp_path):
    done, _ = plot(tmp_path / "grid", "cfg=1,4", "steps=2,3", "prompt=red apple,fox", seed=11)
    assert len(set(done.pictures)) == 8
    prompts = [PROMPT, "a fox on a blue background"]
    for place, (steps, guidance) in enumerate([(s, c) for s in (2, 3) for c in (1.0, 4.0)]):
        wish = Sample(num_inference_steps=steps, guidance_scale=guidance)
        theirs = sample("pico", prompts, out=tmp_path / "alone", seed=11, settings=wish, safety_checker=False)
        for ours, other in zip((done.pictures[place], done.pictures[4 + place]), theirs.pictures, strict=True):
            assert apart(ours, other) <= 1
            with Image.open(ours) as one, Image.open(other) as two:
                assert one.text == two.text


def test_where_guidance_ends_is_an_axis_and_settings_are_changed_for_one_grid(tmp_path):
    done = bespoke.grid(
        "pico", PROMPT, x="cfg_end=1,0.5", out=tmp_path / "grid", seed=11, safety_checker=False,
        overrides=["sample.num_inference_steps=4", "sample.guidance_scale=4"],
    )  # fmt: skip
    for picture, end in zip(done.pictures, (1.0, 0.5), strict=True):
        wish = Sample(num_inference_steps=4, guidance_scale=4.0, guidance_end=end)
        theirs = sample("pico", [PROMPT], out=tmp_path / "alone", seed=11, settings=wish, safety_checker=False)
        assert apart(picture, theirs.pictures[0]) <= 1
    assert apart(*done.pictures) > 1


def test_a_run_draws_as_its_recipe_says_and_python_calls_it_as_the_others(run, tmp_path):
    done = bespoke.grid(str(run), PROMPT, x={"checkpoint": "all"}, out=tmp_path, safety_checker=False)
    assert len(done.pictures) == 3 and len({pixels(picture).tobytes() for picture in done.pictures}) == 3
    for label, picture in zip(("pico", f"{run}@epoch-1", f"{run}@epoch-2"), done.pictures, strict=True):
        wish = named(str(run)).settings
        alone = sample(label, [PROMPT], out=tmp_path / "alone", settings=wish, safety_checker=False)
        assert apart(picture, alone.pictures[0]) <= 1


def test_a_larger_grid_draws_only_what_is_new_and_a_lost_picture_comes_back(tmp_path):
    first, told = plot(tmp_path, "cfg=1,2", "seed=1,2")
    assert told.drawn == 4
    written = {file: file.stat().st_mtime_ns for file in first.pictures}
    larger, told = plot(tmp_path, "seed=1,2,3", "cfg=2,1")  # the other way about, too
    assert told.drawn == 2
    assert set(first.pictures) < set(larger.pictures) and len(larger.pictures) == 6
    assert {file: file.stat().st_mtime_ns for file in first.pictures} == written
    before = pixels(larger.pictures[4])
    larger.pictures[4].unlink()
    again, told = plot(tmp_path, "seed=1,2,3", "cfg=2,1")
    assert told.drawn == 1 and apart(again.pictures[4], Image.fromarray(before.astype(np.uint8))) <= 1
    assert plot(tmp_path, "cfg=1,2", "seed=1,2")[1].drawn == 0


def test_a_kill_loses_at_most_the_batch_under_way(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        plot(tmp_path, "seed=1..7..7", report=Told(stop_at=6))
    there = sorted((tmp_path / "pictures").iterdir())
    assert len(there) == 6 and all(file.suffix == ".png" for file in there)
    done, told = plot(tmp_path, "seed=1..7..7")
    assert told.drawn == 1 and set(there) < set(done.pictures) and not done.failures


def test_a_picture_is_drawn_anew_when_anything_it_depends_on_differs(run, tmp_path):
    start = Cell(named(str(run)), Request(PROMPT, 1), QUICK)
    moved = tmp_path / "runs" / "moved"
    shutil.copytree(run, moved)
    changed = [
        Cell(named(f"{run}@epoch-1"), start.request, QUICK),
        Cell(named(f"{run}@step-4"), start.request, QUICK),
        Cell(named("pico"), start.request, QUICK),
        Cell(start.source, Request("a fox", 1), QUICK),
        Cell(start.source, Request(PROMPT, 2), QUICK),
        *(
            Cell(start.source, start.request, QUICK.model_copy(update=wish))
            for wish in ({"num_inference_steps": 3}, {"guidance_scale": 3.0}, {"negative_prompt": "red"})
        ),
        Cell(start.source, start.request, QUICK.model_copy(update={"scheduler": "ddim"})),
        Cell(start.source, start.request, QUICK, weight=0.5),
    ]
    same = [
        Cell(named(str(moved)), start.request, QUICK),
        Cell(start.source, start.request, QUICK.model_copy(update={"batch_size": 1, "seed": 9})),
    ]
    names = drawing.files([start, *same, *changed], tmp_path, safety_checker=False)
    assert names[0] == names[1] == names[2]
    assert len(set(names)) == 1 + len(changed)
    checked = drawing.files([start], tmp_path, safety_checker=True)
    assert checked[0] not in names
    base = [Cell(named("pico"), start.request, QUICK, weight=weight) for weight in (0.0, 1.0)]
    assert len(set(drawing.files(base, tmp_path, safety_checker=False))) == 1


def test_networks_are_read_once_and_adapters_schedulers_and_weights_changed_as_rarely_as_can_be(
    run, tmp_path, monkeypatch
):
    read, changes = [], []
    whole, ready = Checkpoint.pipeline, Warm.ready

    def pipeline(self, *arguments, **options):
        read.append(self.name)
        return whole(self, *arguments, **options)

    def counted(self, source, settings, weight=1.0, **options):
        changes.append((source.adapter, settings.scheduler, weight))
        return ready(self, source, settings, weight, **options)

    HERE.cool()

    monkeypatch.setattr(Checkpoint, "pipeline", pipeline)
    monkeypatch.setattr(Warm, "ready", counted)
    done, told = plot(
        tmp_path, "scheduler=ddim,lms", "weight=0,1", {"checkpoint": ["base", "@epoch-1", "@epoch-2"]}, model=str(run)
    )
    assert told.drawn == 2 + 2 * 2 * 2 and read == ["pico"]
    starts = [len(list(itertools.groupby(changes, key=lambda change, n=n: change[:n]))) for n in (1, 2)]
    assert starts == [3, 6], "each adapter comes once, and in it each scheduler once"
    alone = sample(f"{run}@epoch-2", [PROMPT], out=tmp_path / "alone", settings=QUICK, safety_checker=False)
    other, _ = plot(tmp_path, "checkpoint=@epoch-2", model=str(run))
    assert apart(other.pictures[0], alone.pictures[0]) <= 1
    assert apart(done.pictures[-2], alone.pictures[0]) <= 1, "pico's own scheduler is ddim"


def test_what_differs_in_seed_and_prompt_only_is_drawn_together(tmp_path, monkeypatch):
    sizes = []
    together = drawing.draw

    def counted(pipeline, requests, settings):
        sizes.append(len(requests))
        return together(pipeline, requests, settings)

    monkeypatch.setattr(drawing, "draw", counted)
    plot(tmp_path, "seed=1,2", "prompt=red apple,fox", "cfg=1,2")
    assert sizes == [3, 1, 3, 1]


# --- failures ---


def test_what_cannot_be_drawn_stands_in_its_place_and_the_rest_is_drawn(run, tmp_path):
    broken = tmp_path / "runs" / "broken"
    shutil.copytree(run, broken)
    (broken / "adapter.safetensors").write_bytes(b"nothing")
    # lcm takes at most 50 steps.
    wanted = ({"checkpoint": ["pico", str(broken)]}, "scheduler=lcm", "steps=2,51")
    done, told = plot(tmp_path, *wanted)
    assert [picture is None for picture in done.pictures] == [False, True, True, True]
    assert len(done.failures) == 3
    assert done.failures[0].startswith(f"steps 2, lcm, {broken}: ") and "does not fit pico" in done.failures[0]
    assert done.failures[1].startswith("steps 51, lcm, pico: ") and "`num_inference_steps`" in done.failures[1]
    assert told.heard[-1][3].endswith("3 could not be drawn")
    words = done.page.read_text()
    assert "3 could not be drawn" in words and "does not fit pico" in words
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    again, told = plot(tmp_path, *wanted)
    assert told.drawn == 3 and again.failures == done.failures, "what failed is tried again"


def test_numbers_that_are_none_are_no_black_picture(tmp_path):
    done, _ = plot(tmp_path, "cfg=2,1e38")
    assert done.pictures[0] and done.pictures[1] is None
    assert done.failures == ("cfg 1e+38: what came out is not a number",)


def test_one_bad_picture_does_not_take_its_batch_with_it(tmp_path, monkeypatch):
    together = drawing.draw

    def limited(pipeline, requests, settings):
        if len(requests) > 1 or requests[0].seed == 2:
            raise RuntimeError("out of memory\nmore words")
        return together(pipeline, requests, settings)

    monkeypatch.setattr(drawing, "draw", limited)
    done, _ = plot(tmp_path, "seed=1,2,3")
    assert [picture is None for picture in done.pictures] == [False, True, False]
    assert done.failures == ("seed 2: out of memory",)


def test_a_huge_grid_is_announced_with_its_count_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "MANY", 4)
    _, told = plot(tmp_path, "seed=1..4..4")
    stage, _, _, words = told.heard[0]
    assert stage == "grid" and words.startswith("4 pictures to draw, about ") and " s here" in words
    _, told = plot(tmp_path, "seed=1..7..7")
    assert [stage for stage, *_ in told.heard if stage == "grid"] == [], "three are new"
    assert told.heard[-1][3].endswith("pictures/s")


def test_a_prompt_is_needed():
    with pytest.raises(BespokeError, match="nothing to draw"):
        grid("pico", " ", x="cfg=1")


# --- the sheet ---

INK = (70, 66, 60)


@pytest.fixture
def tiles(tmp_path):
    """Files of plain colours, by number."""

    def make(number, size=(64, 64)):
        file = tmp_path / f"{number}.png"
        Image.new("RGB", size, (10 * number, 200, 255 - 10 * number)).save(file)
        return file

    return make


def boxes(whole, colour):
    """The box around all pixels of a colour."""
    rows, columns = np.nonzero((np.asarray(whole) == colour).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_sheet_has_each_picture_in_its_column_row_and_table(tiles):
    blocks = [Block(f"seed {t}", [[tiles(6 * t + 3 * r + c) for c in range(3)] for r in range(2)]) for t in range(2)]
    whole = sheet("the prompt", ["a", "b", "c"], ["one", "two"], blocks)
    places = [boxes(whole, (10 * n, 200, 255 - 10 * n)) for n in range(12)]
    assert all((right - left, bottom - top) == (192, 192) for left, top, right, bottom in places)
    lefts, tops = [p[0] for p in places], [p[1] for p in places]
    assert lefts == lefts[:3] * 4 and lefts[0] < lefts[1] - 192 < lefts[2] - 2 * 192
    assert all(len(set(tops[n : n + 3])) == 1 for n in range(0, 12, 3)) and sorted(tops) == tops
    ink = (np.asarray(whole) == INK).all(-1)
    for left, top, right, _ in places[:3]:
        assert ink[top - 26 : top, left:right].any(), "a word above each column"
    assert all(ink[tops[n] : tops[n] + 26, : lefts[0]].any() for n in range(0, 12, 3)), "a word beside each row"


def test_words_stand_where_there_is_no_picture_and_long_ones_are_cut(tiles):
    rows = [[tiles(1), "no " * 400], [tiles(2), tiles(3)]]
    whole = sheet("x" * 500, ["long words " * 40, "b"], ["", ""], [Block("", rows)])
    left, top, right, _ = boxes(whole, (30, 200, 225))
    red = boxes(whole, (178, 58, 46))
    assert left <= red[0] and red[2] <= right and red[3] <= top - 6
    plain = sheet("x", ["a"], [""], [Block("", [[tiles(4)]])])
    assert boxes(plain, (40, 200, 215))[0] == 6, "no room is left for words that are not there"


def test_a_sheet_is_scaled_down_beyond_16000_pixels(tiles):
    file = tiles(5, (512, 256))
    whole = sheet("wide", [f"cfg {n}" for n in range(60)], ["one"], [Block("", [[file] * 60])])
    assert 15_000 < whole.width <= 16_000
    left, top, right, bottom = boxes(whole.crop((0, 0, 500, whole.height)), (50, 200, 205))
    assert (right - left) / (bottom - top) > 1.8
    high = sheet("high", ["a"], [f"row {n}" for n in range(45)], [Block(f"{t}", [[file]] * 45) for t in range(2)])
    assert 14_500 < high.height <= 16_000
    small, title = sheet("high", ["a"], ["row 0"], [Block("0", [[file]])]), (0, 0, 60, 26)
    assert high.crop(title).tobytes() == small.crop(title).tobytes(), "the words keep their size"
    assert max(sheet("gaps", [""] * 2700, [""], [Block("", [[tiles(6)] * 2700])]).size) <= 16_000


def test_settings_as_a_model_has_them_are_not_told(tmp_path):
    save_picture(Drawn(Request("a cat", 1), Image.new("RGB", (8, 8))), tmp_path / "a.png", Sample(), "pico")
    with Image.open(tmp_path / "a.png") as picture:
        assert "Sampler" not in picture.text["parameters"] and "weight" not in picture.text["parameters"]
