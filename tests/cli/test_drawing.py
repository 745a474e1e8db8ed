"""The commands of docs/sampling.md, typed as they stand there: each setting given with `--set` reaches the pictures."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app

ROOT = Path(__file__).parents[2]
QUICK = ["--no-safety-checker", "--set", "sample.num_inference_steps=2"]


def written(first: str) -> list[list[str]]:
    """The words of the page's commands that begin so, with pico for the model."""
    lines = (ROOT / "docs" / "sampling.md").read_text("utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(first)]


def told(words: list[str], folder: Path) -> str:
    """What the pictures that a command drew say of their settings."""
    done = CliRunner().invoke(app, [word.replace("MODEL", "pico") for word in words] + ["--out", str(folder)])
    assert done.exit_code == 0, done.output
    pictures = sorted(folder.glob("0*.png"))
    return "\n".join(Image.open(file).text["parameters"] for file in pictures)


def test_the_pages_commands_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    plain, from_file, changed, from_picture, masked, chosen, worn, watched = written("bespoke sample")
    assert len(re.findall("Steps: 2", told([*plain, *QUICK], tmp_path / "plain"))) == 6
    assert "a dog\n" in told([*from_file, *QUICK], tmp_path / "file")
    said = told([*changed, "--no-safety-checker"], tmp_path / "changed")
    assert "Steps: 30" in said and "Guidance end: 0.6" in said
    for name in ("photo", "hat"):
        Image.new("RGB", (64, 64), "white").save(tmp_path / f"{name}.png")
    assert "Denoising strength: 0.6" in told([*from_picture, "--no-safety-checker"], tmp_path / "from")
    assert "a hat\n" in told([*masked, "--no-safety-checker"], tmp_path / "masked")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "place.txt").write_text("at night\n")
    assert len(re.findall("a (red|blue|green) hat, at night", told([*chosen, *QUICK], tmp_path / "chosen"))) == 8
    for name in ("ink", "details"):
        lora(tmp_path / "my-loras" / f"{name}.safetensors")
    assert "a fox\n" in told([*worn, *QUICK], tmp_path / "worn")
    assert "a castle at dusk\n" in told([*watched, *QUICK], tmp_path / "watched")
    assert not (tmp_path / "watched" / "preview.png").exists(), "it is there only while pictures are drawn"


def lora(file: Path) -> None:
    """A fresh LoRA of pico."""
    from bespoke.models import adapterfile, adapters, find, kinds
    from bespoke.recipe.training import Model

    unet = find("pico").denoiser()
    adapters.attach(unet, kinds.config_of(Model(rank=2), unet, find("pico").family.groups("unet")), seed=0)
    adapterfile.save({"unet": unet}, file)


def test_a_grids_other_settings_are_changed(tmp_path: Path) -> None:
    words = ["grid", "pico", "a cat", "--x", "cfg_end=1,0.5", "--out", str(tmp_path), *QUICK]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    said = [Image.open(file).text["parameters"] for file in tmp_path.rglob("*.png") if file.name != "grid.png"]
    assert len(said) == 2 and all("Steps: 2" in one for one in said)
    assert sum("Guidance end: 0.5" in one for one in said) == 1
