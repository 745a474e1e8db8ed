"""Textual inversions of other programs: diffusers draws the same with each, to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from bespoke import recipe as recipes
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import PICO, NewWords, find
from bespoke.pipeline.naming import base_of
from bespoke.pipeline.sample import sample
from bespoke.recipe.tree import Sample

QUICK = Sample(num_inference_steps=2, guidance_scale=2.0)
ROWS = 0.05 * torch.randn(3, 160, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def theirs(prompt: str, file: Path, token: str) -> np.ndarray:
    """The picture of plain diffusers with the inversion in a file."""
    plain: Any = StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32, safety_checker=None)
    plain.set_progress_bar_config(disable=True)
    plain.load_textual_inversion(str(file.parent), weight_name=file.name, token=token)
    drawn = plain(
        prompt, negative_prompt="", num_inference_steps=2, guidance_scale=2.0,
        generator=torch.Generator("cpu").manual_seed(0),
    )  # fmt: skip
    return np.asarray(drawn.images[0])


def ours(prompt: str, *words: str, model: str = "pico") -> np.ndarray:
    done = sample(model, [prompt], out="drawn", settings=QUICK, words=words, safety_checker=False)
    return np.asarray(Image.open(done.pictures[0]))


@pytest.mark.parametrize(
    ("name", "key", "word"),
    [("learned_embeds", "<cat-toy>", "<cat-toy>"), ("Zork", "emb_params", "zork"), ("zork", "*", "zork")],
)
@pytest.mark.parametrize("count", [1, 3])
def test_a_safetensors_file_draws_as_diffusers_draws_with_it(
    here: Path, name: str, key: str, word: str, count: int
) -> None:
    save_file({key: ROWS[:count] if key != "<cat-toy>" or count > 1 else ROWS[0]}, here / f"{name}.safetensors")
    plain = theirs("a <it> on a hill", here / f"{name}.safetensors", "<it>")
    drawn = ours(f"a {word} on a hill", f"{name}.safetensors")
    assert (drawn == plain).all() and (drawn != ours("a on a hill")).any()


def test_pickles_are_read_only_when_that_is_said_and_hold_no_programs(here: Path) -> None:
    a1111 = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(ROWS)}, "name": "x", "step": 9}
    torch.save(a1111, "Zork.pt")
    torch.save({"<cat-toy>": ROWS[0]}, "learned_embeds.bin")
    torch.save({"<cat-toy>": ROWS[0], "more": Path}, "bad.bin")
    with pytest.raises(BespokeError, match="no textual inversion") as caught:
        ours("a zork", "Zork.pt")
    assert "bespoke words import" in caught.value.hint and "--pickled" in caught.value.hint
    runner = CliRunner()
    assert runner.invoke(app, ["words", "import", "Zork.pt", "words.safetensors"]).exit_code == 2
    files = ["Zork.pt", "learned_embeds.bin"]
    done = runner.invoke(app, ["words", "import", *files, "words.safetensors", "--pickled"])
    assert done.exit_code == 0 and "<cat-toy>, zork" in done.output, done.output
    assert (ours("a zork", "words.safetensors") == theirs("a <it>", here / "Zork.pt", "<it>")).all()
    both = ours("a zork and a <cat-toy>", "words.safetensors")
    assert (both != ours("a zork and a", "words.safetensors")).any()
    bad = runner.invoke(app, ["words", "import", "bad.bin", "other.safetensors", "--pickled"])
    assert bad.exit_code == 2 and "more than tensors" in bad.output and not Path("other.safetensors").exists()
    named = runner.invoke(app, ["words", "import", "Zork.pt", "named.safetensors", "--pickled", "--as", "qux"])
    assert named.exit_code == 0 and NewWords.read(Path("named.safetensors")).words[0].surface == "qux"


def test_a_recipe_names_one_as_its_words(here: Path) -> None:
    save_file({"emb_params": ROWS}, here / "zork.safetensors")
    recipe = recipes.parse({"words": {"file": "zork.safetensors"}}, "a test")
    known = base_of(recipe, here)
    assert known.new_words and [word.surface for word in known.new_words.words] == ["zork"]
    assert base_of(recipe, here).words == known.words  # converted once, and the same file
    assert known.fingerprint("text_encoder") != find("pico").fingerprint("text_encoder")
    with pytest.raises(BespokeError, match="no words at"):
        base_of(recipes.parse({"words": {"file": "none.safetensors"}}, "a test"), here)


def test_several_files_make_one_vocabulary(here: Path) -> None:
    for number, name in enumerate(("zork", "qux")):
        save_file({"emb_params": ROWS[number : number + 1]}, here / f"{name}.safetensors")
    two = ours("a zork and a qux", "zork.safetensors", "qux.safetensors")
    assert (two == ours("a zork and a qux", "qux.safetensors", "zork.safetensors")).all()
    with pytest.raises(BespokeError, match="'zork' stands twice"):
        ours("a zork", "zork.safetensors", "zork.safetensors")
    save_file({"emb_params": torch.ones(1, 768)}, here / "wide.safetensors")
    with pytest.raises(BespokeError, match="768 numbers; pico needs 160"):
        ours("a wide", "wide.safetensors")
