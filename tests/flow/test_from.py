"""Projects from other trainers' settings, by the command: pictures, recipe, account, and a training of one."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bespoke
from bespoke import recipe as recipes
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from tests.training.conftest import NOUNS, drawing

FILES = Path(__file__).parents[1] / "peers" / "files"
QUICK = (
    "train.max_train_steps=2", "train.optimizer=adamw", "validation.strata=1", "sample.sample_every_n_steps=0",
    "track.mlflow=false", "track.tensorboard=false", "track.wandb=false", "augment.variants=1",
    "validation.validation_steps=2", "validation.max_items=2", "validation.probe=false", "train.save_every_n_epochs=0",
)  # fmt: skip


def run(*arguments: object, fails: bool = False) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == (2 if fails else 0), done.output + done.stderr
    return done.stderr if fails else done.stdout


def put(folder: Path, first: int, count: int, *, captions: bool = True) -> None:
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        drawing(number).save(folder / f"{NOUNS[number]}.png")
        if captions:
            (folder / f"{NOUNS[number]}.txt").write_text(f"sks toy, {NOUNS[number]}, red")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings of all trainers and the pictures that they name."""
    root = tmp_path_factory.mktemp("from")
    shutil.copytree(FILES, root, dirs_exist_ok=True)
    put(root / "pictures" / "3_sks toy", 0, 8)
    put(root / "toys", 0, 5, captions=False)
    put(root / "more", 5, 2)
    put(root / "dogs", 7, 3, captions=False)
    return root


@pytest.fixture(scope="module")
def kohyas(place: Path) -> dict:
    """What the command said of a project from kohya's settings."""
    return json.loads(run("new", place / "one", "--from", place / "lora.toml", "--base", "pico", "--json",
                          "--set", "data.validation_fraction=0.25"))  # fmt: skip


def test_kohyas_project_has_its_pictures_its_recipe_and_the_account(place: Path, kohyas: dict) -> None:
    recipe = recipes.load(place / "one" / "recipe.toml")
    assert (recipe.model.base, recipe.model.rank, recipe.data.validation_fraction) == ("pico", 8, 0.25)
    pictures = json.loads((place / "one/dataset/dataset.json").read_text())["pictures"]
    assert [p["repeats"] for p in pictures] == [3.0] * 8
    train = sum(p["split"] == "train" for p in pictures) * 3
    an_epoch = -(-train // 2)
    assert recipe.sample.sample_every_n_steps == an_epoch, "an epoch, in steps of two pictures"
    assert recipe.train.lr_warmup_steps == max(1, round(0.05 * 2 * an_epoch))
    carried = kohyas["carried"]
    assert carried["from"] == "kohya's sd-scripts" and Path(carried["page"]).name == "carried.md"
    told = {line["option"]: line["why"] for line in carried["carried"]}
    assert "model.base is pico by what was asked for here" in told["pretrained_model_name_or_path"]
    assert "data.validation_fraction is 0.25" in told["validation_split"]
    page = (place / "one" / "carried.md").read_text()
    assert "## Not carried over" in page and "`clip_skip`" in page
    reasons = recipes.comments((place / "one" / "recipe.toml").read_text())
    assert reasons["model.rank"] == "from network_dim" and "model.base" not in reasons


def test_it_trains(place: Path, kohyas: dict) -> None:
    settings = [part for setting in QUICK for part in ("--set", setting)]
    done = json.loads(run("train", place / "one" / "recipe.toml", "--json", *settings))
    assert done["steps"] == 2 and Path(done["adapter"]).is_file()


def test_the_lines_for_a_person_say_what_went_where_and_what_did_not(place: Path) -> None:
    said = run("new", place / "told", "--from", place / "lora.toml", "--base", "pico")
    assert "network_dim = 8  →  model.rank" in said
    assert "Not carried over:\n" in said and "clip_skip = 2: bespoke trains on the text encoder's last layer" in said
    assert "carried.md" in said and "bespoke train" in said and "do-not-write-me-down" not in said


def test_several_folders_become_one_dataset_and_regularisation_one_of_its_own(place: Path) -> None:
    made = bespoke.new(place / "several", base="pico", settings_from=place / "datasets.toml")
    count = {p.file: (p.repeats, p.text) for p in made.dataset.pictures}
    assert count[f"{NOUNS[0]}.png"] == (3.0, "sks toy")
    assert count[f"{NOUNS[5]}.png"] == (1.0, f"sks toy, {NOUNS[5]}, red"), "its own caption is heard"
    assert len(count) == 7, "the same folder a second time adds nothing"
    recipe = recipes.load(made.recipe)
    assert recipe.data.regularisation == "regularisation"
    regular = json.loads((place / "several/regularisation/dataset.json").read_text())["pictures"]
    assert {p["text"] for p in regular} == {"dog"} and len(regular) == 3


def test_prior_preservation_without_class_pictures_is_drawn_by_the_base(place: Path) -> None:
    made = bespoke.new(place / "prior", base="pico", settings_from=place / "dreambooth.sh")
    recipe = recipes.load(made.recipe)
    assert (recipe.train.num_class_images, recipe.data.regularisation) == (20, "")
    assert {p.repeats for p in made.dataset.pictures} == {4.0}, "five come as often as twenty plain ones"
    assert {p.text for p in made.dataset.pictures} == {"a photo of sks toy"}
    assert made.carried is not None
    assert next(line.fate for line in made.carried.lines if line.option == "class_data_dir") == "left"


def test_onetrainer_and_a_new_word(place: Path) -> None:
    made = bespoke.new(
        place / "onetrainer", images=place / "pictures", base="pico", settings_from=place / "onetrainer.json"
    )
    recipe = recipes.load(made.recipe)
    assert made.carried is not None
    dogs = next(line for line in made.carried.lines if line.option == "concepts[1].path")
    assert (recipe.data.regularisation, dogs.fate) == ("", "left") and "have no captions" in dogs.why
    said = run("new", place / "word", "--from", place / "inversion.bat", "--base", "pico")
    assert "bespoke words build" in said
    assert (place / "word" / "terms.toml").read_text().startswith('triggers = ["sks-toy"]')


def test_your_own_pictures_win(place: Path) -> None:
    made = bespoke.new(place / "own", place / "more", base="pico", settings_from=place / "text_to_image_lora.sh")
    assert len(made.dataset.pictures) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--from", "gone.toml"), "There is no file"), (("--from", "text_to_image_lora.sh", "--set", "a=b"), "form"),
        (("--from", "short.toml"), "names no pictures"), (("--from", "elsewhere.toml"), "there is no such folder here"),
        ((), "Name the pictures of the project"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told(place: Path, monkeypatch, arguments, problem) -> None:
    monkeypatch.chdir(place)
    Path("short.toml").write_text("network_dim = 4\nnetwork_alpha = 4")
    Path("elsewhere.toml").write_text("network_dim = 4\ntrain_data_dir = 'x/y'")
    said = " ".join(run("new", "refused", *arguments, fails=True).split())
    assert problem in said and "What to do" in said
    assert not Path("refused/recipe.toml").exists()


def test_a_recipe_that_is_there_is_not_overwritten(place: Path, kohyas: dict) -> None:
    with pytest.raises(BespokeError, match="has a recipe already"):
        bespoke.new(place / "one", base="pico", settings_from=place / "lora.toml")
