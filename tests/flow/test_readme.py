"""The README's commands, typed as they stand there."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bespoke.cli.commands import app

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "8bit" / "train"
SMALL = """
[train]
max_train_steps = 4
num_class_images = 2
[validation]
validation_steps = 4
strata = 1
max_items = 4
[sample]
num_inference_steps = 1
sample_every_n_steps = 4
[evaluate]
seeds = 1
most_prompts = 3
"""


def commands(section: str) -> list[str]:
    """The lines that begin with `bespoke` in the code blocks of one section of the README."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## )", readme, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("bespoke ")]


def arguments(line: str) -> list[str]:
    """The words after `bespoke`, as a shell splits them."""
    return shlex.split(line.partition("#")[0])[1:]


def typed(line: str) -> str:
    """What the command printed, run in this process, which has read the libraries; it must have ended well."""
    done = CliRunner().invoke(app, arguments(line))
    assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
    return done.stdout


def alone(line: str, folder: Path) -> str:
    """What the command printed, run in a process of its own."""
    command = [sys.executable, "-m", "bespoke", *arguments(line)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


def test_ones_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "pictures"
    shutil.copytree(EXAMPLE, source)
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    first, second, third, *about_data, register, promote, serve = commands("Your own pictures")
    assert "125 kept" in alone(first, tmp_path)
    recipe = tmp_path / "my-style" / "recipe.toml"
    recipe.write_text(recipe.read_text() + SMALL)
    said = typed(second)
    (run,) = (tmp_path / "my-style" / "runs").iterdir()
    assert f"my-style/runs/{run.name}/adapter.safetensors" in said
    assert "3 pictures" in typed(third.replace("RUN", run.name))
    assert len(list((tmp_path / "drawn").glob("*-seed*.png"))) == 3
    report, looked, cleaned, restored, exported, *more = (typed(line.replace("RUN", run.name)) for line in about_data)
    divided, balanced, shrunk, told, shown, evaluated, plotted = more
    assert "my-style/dataset/report/index.html" in report
    assert "4 duplicate" in looked
    assert "125 kept" in cleaned
    assert "129 kept" in restored
    assert "pictures for train" in exported
    assert "held back for validation" in divided
    assert "by colour" in balanced and "Nothing is written" in balanced
    assert "132 pictures in smaller" in shrunk
    assert "1 picture put into words by pico-BLIP" in told
    assert "my-style/dataset/report/augment.html" in shown and "2 versions" in shown
    assert f"my-style/runs/{run.name}/report/index.html" in evaluated and "Closer to your pictures?" in evaluated
    assert "6 pictures in one: grid/grid.png" in plotted
    assert "my-style@1" in typed(register.replace("RUN", run.name))
    monkeypatch.chdir(tmp_path / "my-style")
    refused = CliRunner().invoke(app, arguments(promote))
    assert refused.exit_code == 2 and "better than its base" in refused.output, "after so few steps"
    assert serve == "bespoke serve"  # tests/flow/test_serving.py types it
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before


def test_every_command_in_the_docs_is_one_that_exists() -> None:
    help_text = alone("bespoke --help", ROOT)
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [b for page in pages for b in re.findall(r"```\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
    check_verbs(blocks, r"^bespoke (\w+)", help_text, {"new", "train", "sample", "data", "evaluate", "grid", "compare"})
    check_verbs(blocks, r"^bespoke words (\w+)", typed("bespoke words --help"), {"build", "show", "export"})
    check_verbs(blocks, r"^bespoke data (\w+)", typed("bespoke data --help"), {"import", "inspect", "clean"})
    check_verbs(blocks, r"^bespoke models (\w+)", typed("bespoke models --help"), {"register", "promote", "rollback"})
    told = typed("bespoke feedback --help")
    check_verbs(blocks, r"^bespoke feedback (\w+)", told, {"list", "ratings", "review", "forget", "keep", "drift"})


def check_verbs(blocks: list[str], pattern: str, help_text: str, wanted: set[str]) -> None:
    verbs = {verb for block in blocks for verb in re.findall(pattern, block, re.MULTILINE)}
    assert verbs >= wanted
    assert {verb for verb in verbs if not re.search(rf"^\s+{verb}\b", help_text, re.MULTILINE)} == set()
