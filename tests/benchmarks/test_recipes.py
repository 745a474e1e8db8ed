"""What recipes say of memory and speed is what is computed for them, in the real models' shapes."""

import re
import tempfile
from pathlib import Path

import pytest
from benchmarks.fits import GB, MODELS, OVERHEAD, needed
from benchmarks.operations import SHAPES, TERA, counted, lines
from benchmarks.side_by_side.counted import operations
from pico import families

from bespoke import recipe as recipes
from bespoke.models import find

ROOT = Path(__file__).parents[2]
RECIPES = sorted(file for file in (ROOT / "recipes").rglob("*.toml") if not file.stem.startswith("pico"))
MODEL_OF = {"sd15": "SD 1.5", "sd21": "SD 2.1", "sdxl": "SDXL", "sd35": "SD 3.5 medium"}
PAGE = (ROOT / "docs" / "performance.md").read_text("utf-8")
ON_A_GPU = ("train.mixed_precision=bf16", "train.num_class_images=0", "train.max_train_steps=9")
"""What is derived there, but for the format of frozen weights."""
SLOW = ("sdxl", "sd35")


def read(file):
    """A recipe as it is on a GPU, the model that it is for, and its words."""
    text = file.read_text("utf-8")
    dtype = "fp32" if 'method = "full"' in text else "bf16"
    wanted = recipes.load(file, (*ON_A_GPU, f"model.weight_dtype={dtype}"))
    return wanted, MODEL_OF[file.stem.partition("-")[0]], text


def marked(file):
    slow = [pytest.mark.slow] if file.stem.startswith(SLOW) else []
    return pytest.param(file, id=file.stem, marks=slow)


@pytest.mark.parametrize("file", [marked(file) for file in RECIPES])
def test_a_recipe_takes_the_memory_that_it_says(file):
    wanted, model, text = read(file)
    with tempfile.TemporaryDirectory() as folder:
        families.outline(MODELS[model][0], Path(folder))
        taken = needed(find(folder), wanted).peak + OVERHEAD["cuda"]
    assert re.findall(r"never measured on a GPU: ([\d.]+) GB", text) == [f"{taken / GB:.1f}"]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_is_as_fast_as_the_page_says(file):
    """Not counted again here, for that takes seconds: the page's figures are."""
    wanted, model, text = read(file)
    [line] = re.findall(rf"^\| {model}, {wanted.data.resolution} \| (.*)$", PAGE, re.MULTILINE)
    each = [float(number) for number in re.findall(r"([\d.]+) · 10¹²", line)][1:]
    if wanted.model.method == "full":
        [whole] = re.findall(r"All weights of SD 1.5 take ([\d.]+) · 10¹² a step, ([\d.]+) · 10¹² with", PAGE)
        each = [float(number) for number in whole]
    count = each[wanted.train.gradient_checkpointing]
    [said] = re.findall(r"([\d.]+) · 10¹² operations\n# a picture", text)
    [rates] = re.findall(r"so ([\d.]+) pictures a second where a GPU reaches 50 · 10¹² a second, ([\d.]+) at 350", text)
    assert (
        float(said) == pytest.approx(count, rel=4e-3)
        and len(said) == 4
        and rates == tuple(f"{float(f'{n / count:.2g}'):g}" for n in (50, 350))
    )


@pytest.mark.parametrize("shape", [SHAPES[0], pytest.param(SHAPES[-1], marks=pytest.mark.slow)], ids=lambda one: one[0])
def test_the_page_has_what_is_counted(shape, monkeypatch):
    monkeypatch.setattr("benchmarks.operations.SHAPES", [shape])
    assert all(line in PAGE for line in lines()) and len(list(lines())) == 3
    if shape == SHAPES[0]:
        whole = [each / TERA for each in counted(*shape[1:], rank=0)[1:]]
        assert "All weights of SD 1.5 take {:.4g} · 10¹² a step, {:.4g} · 10¹² with".format(*whole) in PAGE


@pytest.mark.parametrize("kind", ["sd2v", "sdxl", "sd35"])
def test_a_step_takes_less_than_three_forward_passes_and_more_with_checkpointing(kind, tmp_path):
    families.outline(kind, tmp_path)
    (forward, step), (same, saving), (_, whole) = (
        operations(tmp_path, 64, 4, saves=False), operations(tmp_path, 64, 4, saves=True),
        operations(tmp_path, 64, 0),
    )  # fmt: skip
    assert forward == same and 1.7 * forward < step < 3.2 * forward and step < whole <= 3 * forward
    assert step + 0.5 * forward < saving <= step + 1.05 * forward
