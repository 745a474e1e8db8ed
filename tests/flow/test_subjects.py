"""A subject with masks and a regularisation set, by the commands: imported, planned, reported, trained and told."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from bespoke.cli.commands import app
from tests.page.test_report import Page
from tests.training.conftest import NOUNS, drawing

SETTINGS = (
    "train.masked_training=true", "train.masked_prior_preservation_weight=1", "data.regularisation=../dogs/dataset",
    "train.regularisation_target=base", "train.max_train_steps=2", "train.train_batch_size=2", "validation.strata=1",
    "sample.sample_every_n_steps=0", "track.mlflow=false", "track.tensorboard=false", 'train.mixed_precision="no"',
)  # fmt: skip


def run(*arguments: str) -> tuple[str, str]:
    """What a command printed, and what it told meanwhile."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output + done.stderr
    return done.stdout, " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten drawings of which five have masks of a quarter, and another project of two dogs."""
    root = tmp_path_factory.mktemp("subjects")
    for name, nouns in (("toy", NOUNS), ("dogs", NOUNS[:2])):
        source = root / f"{name}-pictures"
        source.mkdir()
        for number, noun in enumerate(nouns):
            picture = drawing(number)
            if name == "dogs":
                picture = picture.rotate(90)
                ImageDraw.Draw(picture).line((0, 0, 63, 63), fill="white", width=9)
            picture.save(source / f"{noun}.png")
            (source / f"{noun}.txt").write_text(f"sks toy of a {noun}" if name == "toy" else f"a dog, {noun}")
            if name == "toy" and number < 5:
                mask = Image.new("L", (64, 64))
                mask.paste(255, (0, 0, 32, 32))
                mask.save(source / f"{noun}-masklabel.png")
        run("new", str(root / name), "--images", str(source))
    return root / "toy"


def settings(*more: str) -> list[str]:
    return [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]


def test_the_plan_and_the_report_say_what_has_masks_and_how_much_they_cover(project: Path) -> None:
    recipe = str(project / "recipe.toml")
    train = [p for p in json.loads((project / "dataset/dataset.json").read_text())["pictures"] if p["split"] == "train"]
    masks = sum(bool(picture["mask"]) for picture in train)
    said = (
        f"{masks} of {len(train)} training pictures have masks; they cover 25% of a picture in the mean, 25% at least"
    )
    planned, _ = run("train", recipe, "--plan", *settings())
    assert said in planned and "and 2 of ../dogs/dataset" in planned
    assert "num_class_images = 0" in planned
    content = json.loads(run("train", recipe, "--plan", "--json", *settings())[0])
    assert (content["masks"], content["regular"]) == (said, 2)
    run("data", "report", str(project / "dataset"))
    page = Page((project / "dataset" / "report" / "index.html").read_text("utf-8")).text
    assert f"Masks: {said}; they are not used" in page


def test_it_trains_by_the_command_and_tells_of_the_masks(project: Path) -> None:
    out, told = run("train", str(project / "recipe.toml"), "--json", *settings())
    done = json.loads(out)
    assert done["steps"] == 2 and Path(done["adapter"]).is_file()
    assert "training pictures have masks" in told
    assert (project / "cache" / "masks").is_dir()
