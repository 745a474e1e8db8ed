"""What a person sees who typed something wrong: what is wrong, what to do, exit code 2, no traceback."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.errors import BespokeError


def run(*arguments: str) -> tuple[int, str]:
    """The exit code and all that was printed."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output + done.stderr


def refused(*arguments: str) -> str:
    """What was printed; the command must have left with code 2, a problem and a hint."""
    code, said = run(*arguments)
    assert code == 2
    assert "Error:" in said
    assert "What to do:" in said
    assert "Traceback" not in said
    return " ".join(said.split())


def pictures(folder: Path, count: int, *, captions: bool = True) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        if captions:
            (folder / f"{number}.txt").write_text(f"8bit illustration of thing {number}")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    code, said = run("new", str(tmp_path / "project"), "--images", str(pictures(tmp_path / "in", 8)))
    assert code == 0, said
    return tmp_path / "project"


def test_no_such_folder(tmp_path: Path) -> None:
    assert "nowhere" in refused("new", str(tmp_path / "p"), "--images", str(tmp_path / "nowhere"))


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    said = refused("new", str(tmp_path / "p"), "--images", str(pictures(tmp_path / "in", 1)))
    assert "1" in said


def test_no_captions(tmp_path: Path) -> None:
    said = refused("new", str(tmp_path / "p"), "--images", str(pictures(tmp_path / "in", 4, captions=False)))
    assert "caption" in said
    assert "metadata.csv" in said


def test_a_wrong_key_names_the_nearest(project: Path) -> None:
    said = refused("train", str(project / "recipe.toml"), "--set", "train.lerning_rate=1e-3")
    assert "train.lerning_rate" in said
    assert "train.learning_rate" in said
    assert not (project / "runs").exists()


def test_a_wrong_model(project: Path) -> None:
    assert "picasso" in refused("train", str(project / "recipe.toml"), "--set", "model.base=picasso")
    assert "picasso" in refused("sample", "picasso", "a cat")


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 is right where there is a GPU")
def test_fp16_without_a_gpu_is_refused_before_a_run_begins(project: Path) -> None:
    said = refused("train", str(project / "recipe.toml"), "--set", "train.mixed_precision=fp16")
    assert "fp16" in said and "GPU" in said
    assert not list((project / "runs").glob("*"))


def test_no_recipe(tmp_path: Path) -> None:
    assert "bespoke new" in refused("train", str(tmp_path / "recipe.toml"))


def test_recipe_or_run_but_not_both(project: Path) -> None:
    assert "recipe" in refused("train")
    assert "recipe" in refused("train", str(project / "recipe.toml"), "--resume", "x")


def test_resume_of_what_is_no_run(tmp_path: Path) -> None:
    assert "no run" in refused("train", "--resume", str(tmp_path))


def test_no_prompt() -> None:
    assert "nothing to draw" in refused("sample", "pico")


def test_prompts_file_that_is_missing(tmp_path: Path) -> None:
    assert "prompts.txt" in refused("sample", "pico", "--prompts", str(tmp_path / "prompts.txt"))


def test_a_changed_picture_is_noticed(project: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(next((project / "dataset" / "train").glob("*.png")))
    said = refused("train", str(project / "recipe.toml"))
    assert "changed" in said


def test_a_caption_that_one_window_does_not_hold_is_told(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", 8)
    (source / "3.txt").write_text("8bit illustration of " + "very " * 90 + "large thing")
    assert run("new", str(tmp_path / "p"), "--images", str(source))[0] == 0
    quick = (
        "train.max_train_steps=1",
        "train.num_class_images=0",
        "validation.strata=1",
        "sample.num_inference_steps=1",
    )
    code, said = run("train", str(tmp_path / "p" / "recipe.toml"), *(a for q in quick for a in ("--set", q)))
    assert code == 0, said
    told = " ".join(said.split())
    assert "1 read in windows of 75 tokens; a model of 77 tokens would lose “y very very" in told


def test_debug_shows_the_error_itself(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", str(tmp_path / "none.toml"), "--debug"])
    assert isinstance(done.exception, BespokeError)


def test_new_says_what_each_file_became(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", 5)
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, said = run("new", str(tmp_path / "p"), "--images", str(source), "--json")
    assert code == 0
    content = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert content["files"] == 6
    assert content["kept"] == 5
    assert content["set_aside"] == {"unreadable": 1}


def test_data_goes_in_and_out(tmp_path: Path) -> None:
    source, dataset = pictures(tmp_path / "in", 8), tmp_path / "project" / "dataset"
    (source / "a cat_1.png").write_bytes((source / "0.png").read_bytes())
    Image.fromarray(np.random.default_rng(99).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(source / "fox_1.png")
    dataset.parent.mkdir()
    (dataset.parent / "recipe.toml").write_text("[data]\nfile_name_captions = true\n")
    code, said = run("data", "import", str(source), str(dataset), "--json")
    content = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert code == 0 and content["kept"] == 9 and content["set_aside"] == {"duplicate": 1}, said
    code, said = run("data", "export", str(dataset), str(tmp_path / "out"), "--as", "kohya")
    assert code == 0, said
    texts = {file.stem: file.read_text().strip() for file in (tmp_path / "out").rglob("*.txt")}
    assert len(texts) == 9 and texts["fox_1"] == "fox"
    assert "there already" in refused("data", "export", str(dataset), str(tmp_path / "out"))
    assert "no layout" in refused("data", "export", str(dataset), str(tmp_path / "other"), "--as", "coco")


def said_in_json(*arguments: str) -> dict[str, Any]:
    code, said = run(*arguments, "--json")
    assert code == 0, said
    return json.loads(said[said.index("{") : said.rindex("}") + 1])


def test_a_dataset_is_inspected_cleaned_and_restored(tmp_path: Path) -> None:
    source, dataset = pictures(tmp_path / "in", 8), str(tmp_path / "dataset")
    for name, colour in (("blank.png", "red"), ("blank again.png", "green")):
        Image.new("RGB", (64, 64), colour).save(source / name)
        (source / name).with_suffix(".txt").write_text("nothing")
    assert said_in_json("data", "import", str(source), dataset)["set_aside"] == {"blank": 2}
    before = said_in_json("data", "inspect", dataset)
    assert before["findings"] == {"blank": 2, "blurry": 2, "little detail": 2}
    assert {p["file"] for p in before["pictures"] if p["set_aside"]} == {"blank.png", "blank again.png"}
    assert said_in_json("data", "restore", dataset, "blank.png")["set_aside"] == {"blank": 1}
    assert said_in_json("data", "clean", dataset)["kept"] == 9
    said = said_in_json("data", "clean", dataset, "--set", "clean.set_aside=[]")
    assert (said["kept"], said["set_aside"]) == (10, {})
    assert "2 of those kept are doubtful" in run("data", "clean", dataset, "--set", "clean.set_aside=[]")[1]
    assert "fewer" not in run("data", "inspect", dataset)[1]
    assert "nothing" in refused("data", "restore", dataset, "nothing.png").lower()
    assert "Nothing is named" in refused("data", "restore", dataset)
    assert "blury" in refused("data", "clean", dataset, "--set", 'clean.set_aside=["blury"]')


def test_a_dataset_is_divided_balanced_and_shrunk(tmp_path: Path) -> None:
    source, dataset = pictures(tmp_path / "in", 20), str(tmp_path / "dataset")
    rows = [f"{n}.png,thing {n},{'cat' if n < 14 else 'dog'},{'Ann' if n % 3 else f'p{n}'}" for n in range(20)]
    (source / "metadata.csv").write_text("\n".join(["file_name,text,category,person", *rows]) + "\n")
    said_in_json("data", "import", str(source), dataset)
    first = said_in_json("data", "split", dataset)
    assert (first["train"] + first["validation"], first["moved"]) == (20, [])
    by = ("--set", "data.split_by=person")
    code, said = run("data", "split", dataset, *by)
    assert code == 0 and "Write data.split_by = person into the recipe" in said
    after = said_in_json("data", "split", dataset, *by)
    assert len({p["split"] for p in after["pictures"] if p["reason"] == "subject: Ann"}) == 1
    assert "'persn'" in refused("data", "split", dataset, "--set", "data.split_by=persn")
    code, said = run("data", "balance", dataset)
    assert code == 0 and "Nothing is written" in said and "by category" in said
    made = said_in_json("data", "balance", dataset, "--apply")
    assert made["by"] == "category" and made["applied"] and made["changes"]
    assert {share["group"] for share in made["shares"]["category"]} == {"cat", "dog"}
    assert "Nothing to change" in run("data", "balance", dataset, "--apply")[1]
    back = said_in_json("data", "balance", dataset, "--reset")
    assert back["reset"] == len(made["changes"]) == len(back["changes"])
    assert "contradict" in refused("data", "balance", dataset, "--apply", "--reset")
    assert "colour" in refused("data", "balance", dataset, "--set", "balance.by=color")
    out = str(tmp_path / "small")
    small = said_in_json("data", "shrink", str(source), out, "--side", "32", "--format", "jpeg")
    assert (small["pictures"], small["as_they_were"], small["too_short"]) == (20, 0, 20)
    code, said = run("data", "shrink", str(source), out, "--side", "32", "--format", "jpeg")
    assert code == 0 and "20 pictures" in said and "saved" in said and "below the 64 pixels" in said
    assert "no format" in refused("data", "shrink", str(source), str(tmp_path / "other"), "--format", "gif")
    assert said_in_json("data", "import", out, str(tmp_path / "again"))["kept"] == 20


def test_sample_draws_one_picture_for_each_prompt_and_seed(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# the first\na red apple on a blue background\n\na fox\n", encoding="utf-8")
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "bespoke", "sample", "pico", "--prompts", str(prompts), "--n", "2", "--seed", "7",
         "--out", str(out), "--json"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert [Path(p).name for p in content["pictures"]] == [
        "000-seed7.png", "001-seed8.png", "002-seed7.png", "003-seed8.png"
    ]  # fmt: skip
    with Image.open(tmp_path / content["grid"]) as sheet:
        assert sheet.size == (2 * 192 + 3 * 6, 2 * 192 + 3 * 6)


def test_doctor_tells_the_machine() -> None:
    code, said = run("doctor", "--json")
    content = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert code == 0
    assert content["device"] in {"cpu", "cuda", "mps"}
    assert content["missing"] == []
    assert content["versions"]["torch"][0].isdigit()
