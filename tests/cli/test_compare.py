"""`bespoke compare`: pictures drawn or found, a server that ends with Ctrl-C, and results at any time."""

import csv
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import typer
from PIL import Image
from tests.web.conftest import folders, paint
from typer.testing import CliRunner

from bespoke.cli.blind import compare
from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, kinds
from bespoke.pipeline.blind import Blind, blind, tally
from bespoke.pipeline.sample import sample
from bespoke.recipe.training import Model

app = typer.Typer()
app.command()(compare)
START = "import typer; from bespoke.cli.blind import compare; typer.run(compare)"


def refused(*arguments: str) -> str:
    """What was printed; the command must have left with code 2, a problem and a hint."""
    # What is wrongly let through ends at this host instead of serving for ever.
    nowhere = () if {"--host", "--port"} & set(arguments) else ("--host", "nowhere.invalid")
    done = CliRunner().invoke(app, [*arguments, *nowhere])
    said = done.output + done.stderr
    assert done.exit_code == 2 and "Error:" in said and "What to do:" in said and "Traceback" not in said, said
    return " ".join(said.split())


def rated(root: Path, choices: str, rater: str = "Ann") -> Path:
    """A folder of ratings of a and b; of each choice the first letter is given."""
    made = blind(folders(root, ("a", "b"), 5), out=root / "out")
    words = {"l": "left", "r": "right", "t": "tie"}
    for trial, letter in zip(made.comparison.trials(rater), choices, strict=False):
        assert made.ratings.add(rater, trial, words[letter])  # type: ignore[arg-type]
    made.ratings.close()
    return root / "out"


def test_results_in_words_json_and_files(tmp_path: Path) -> None:
    out = rated(tmp_path, "llrtlr")
    done = CliRunner().invoke(app, ["--results", "--out", str(out)])
    assert done.exit_code == 0
    assert f"{tmp_path / 'a'} preferred to {tmp_path / 'b'}: " in done.stdout
    assert "Ann: 6 of 6 pairs rated, the same answer to" in done.stdout and "cannot tell" in done.stdout
    done = CliRunner().invoke(app, ["--results", "--out", str(out), "--json"])
    content = json.loads(done.stdout)
    assert content["raters"][0]["done"] == 6 and content["models"] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert json.loads((out / "results.json").read_text()) == {
        key: value for key, value in content.items() if key not in ("ratings", "results")
    }
    with (out / "ratings.csv").open(newline="") as table:
        assert [row["choice"] for row in csv.DictReader(table)] == ["left", "left", "right", "tie", "left", "right"]
    assert "are of" in refused("--results", "--out", str(out), "pico", "other")


def test_it_serves_until_ctrl_c_and_then_says_the_results(tmp_path: Path) -> None:
    models = folders(tmp_path, ("a", "b"), 5)
    command = [sys.executable, "-c", START, *models, "--out", str(tmp_path / "out"), "--rater", "Ann Lee", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    invited = next(line for line in process.stderr if line.startswith("Rate here: "))
    page = invited.removeprefix("Rate here: ").strip()
    server, _, query = page.partition("?")
    assert server.startswith("http://127.0.0.1:") and query == "rater=Ann%20Lee"
    token = httpx.get(page).text.split('data-token="')[1].split('"')[0]
    answer = {"rater": "Ann Lee", "position": 0, "choice": "tie"}
    assert httpx.post(f"{server}rating", json=answer, headers={"X-Bespoke-Token": token}).json()["done"] == 1
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    content = json.loads(said)
    assert process.returncode == 0
    assert content["raters"][0]["name"] == "Ann Lee" and content["win_rates"][0]["ties"] == 1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose adapter is fresh, so that it draws as pico does, by a recipe that names prompts and few steps."""
    folder = tmp_path / "project" / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(
        '[model]\nbase = "pico"\n[sample]\nnum_inference_steps = 2\nguidance_scale = 3.0\n'
        '[objective]\nchange_prompts = ["8bit illustration of a cat", "a fox"]\nkeep_prompts = ["a red apple"]\n'
    )
    unet = find("pico").denoiser()
    adapters.attach(unet, kinds.config_of(Model(rank=2, targets=("to_q",)), unet, {}), seed=0)
    adapterfile.save({"unet": unet}, folder / "adapter.safetensors")
    return folder


def test_models_draw_the_runs_prompts_with_its_settings_as_sample_does_and_once(tmp_path: Path, run: Path) -> None:
    told: list[str] = []
    models = ("pico", str(run))

    def made() -> Blind:
        return blind(models, out=tmp_path / "out", n=2, seed=7, report=lambda stage, *_: told.append(stage))

    first = made()
    assert first.ratings.add("Ann", first.comparison.trials("Ann")[0], "left")
    first.ratings.close()
    assert sorted(item.prompt for item in first.comparison.items) == sorted(
        2 * ["8bit illustration of a cat", "a fox", "a red apple"]
    )
    assert all(item.pixels[0] == item.pixels[1] for item in first.comparison.items)
    prompt = first.comparison.items[0].prompt
    (file, other) = sample(str(run), [prompt], n=2, seed=7, out=tmp_path / "drawn").pictures
    shown = {np.asarray(Image.open(file)).tobytes() for file in (file, other)}
    assert {np.asarray(Image.open(path)).tobytes() for path in first.files["pico"][:2]} == shown
    kept = {path: path.stat().st_mtime_ns for files in first.files.values() for path in files}
    again = made()
    assert {path: path.stat().st_mtime_ns for files in again.files.values() for path in files} == kept
    assert len(again.ratings.all()) == 1
    again.ratings.close()
    with pytest.raises(BespokeError, match="another comparison") as raised:
        blind(models, ["a red apple"], out=tmp_path / "out", n=2, seed=7)
    assert "prompts or files are others" in raised.value.problem


def test_prompts_are_those_of_the_file_or_of_the_pictures_or_none(tmp_path: Path) -> None:
    models = folders(tmp_path, ("a", "b"), 3)
    (tmp_path / "a" / "grid.png").write_bytes((tmp_path / "a" / "000.png").read_bytes())
    for number, prompts in enumerate((None, ["one", "two", "three"])):
        made = blind(models, prompts, out=tmp_path / f"out{number}")
        said = {item.name: item.prompt for item in made.comparison.items}
        assert said == dict(zip(("000", "001", "002"), prompts or ("thing 0", "thing 1", "thing 2"), strict=True))
        made.ratings.close()
    for name in ("a", "b"):
        for item in range(3):
            paint(tmp_path / name / f"{item:03d}.png", item)
    made = blind(models, out=tmp_path / "plain")
    assert {item.prompt for item in made.comparison.items} == {""}
    made.ratings.close()


def test_what_is_wrong_is_told_before_anything_is_served(tmp_path: Path) -> None:
    a, b = folders(tmp_path, ("a", "b"), 3)
    out = ("--out", str(tmp_path / "out"))
    assert "two models or more" in refused(a, *out) and "two models or more" in refused(a, a, *out)
    assert "two models or more" in refused(*out)
    assert "nowhere" in refused(a, str(tmp_path / "nowhere"), *out)
    (tmp_path / "empty").mkdir()
    assert "neither pictures nor a model" in refused(a, str(tmp_path / "empty"), *out)
    assert "no ratings" in refused("--results", *out)
    assert "no prompts" in refused("pico", a, *out)
    (tmp_path / "prompts.txt").write_text("# none\n")
    prompts = ("--prompts", str(tmp_path / "prompts.txt"))
    assert "no prompts" in refused("pico", a, *prompts, *out)
    assert "0 prompts for 3 pictures" in refused(a, b, *prompts, *out)
    assert "missing.txt" in refused(a, b, "--prompts", str(tmp_path / "missing.txt"), *out)
    assert "cannot be shown" in refused(a, b, *out, "-n", "0")
    assert "cannot be shown" in refused(a, b, *out, "--repeat", "1.5")
    assert "needs a name" in refused(a, b, *out, "--rater", " ")
    assert not (tmp_path / "out").exists()


def test_folders_that_do_not_match_or_cannot_be_read(tmp_path: Path) -> None:
    a, b = folders(tmp_path, ("a", "b"), 3)
    out = ("--out", str(tmp_path / "out"))
    (tmp_path / "b" / "001.png").rename(tmp_path / "b" / "other.png")
    said = refused(a, b, *out)
    assert "different names: 001 is in" in said and "1 more differ" in said
    (tmp_path / "b" / "other.png").rename(tmp_path / "b" / "001.png")
    (tmp_path / "b" / "001.jpg").write_bytes(b"")
    assert "several pictures of one name" in refused(a, b, *out)
    (tmp_path / "b" / "001.png").unlink()
    assert "001.jpg cannot be shown" in refused(a, b, *out)


def test_a_port_that_is_taken_and_a_host_that_is_not_ours(tmp_path: Path) -> None:
    models = (*folders(tmp_path, ("a", "b"), 2), "--out", str(tmp_path / "out"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be listened at" in refused(*models, "--port", str(taken.getsockname()[1]))
    assert "192.0.2.1" in refused(*models, "--host", "192.0.2.1")
    assert "nowhere.invalid" in refused(*models, "--host", "nowhere.invalid")


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_a_server_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("bespoke.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    said = refused(*folders(tmp_path, ("a", "b"), 2), "--out", str(tmp_path / "out"))
    assert missing in said and 'pip install "bespoke[serve]"' in said


def test_changed_pictures_are_not_mixed_with_ratings_of_others(tmp_path: Path) -> None:
    out = rated(tmp_path, "llr")
    paint(tmp_path / "a" / "002.png", 999, prompt="thing 2")
    assert "pictures are others" in refused(str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out))
    assert tally(out).raters[0].done == 3
