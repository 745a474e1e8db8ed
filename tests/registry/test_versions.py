"""The life of a model's versions by the commands that a person types: on pico, in the project's own registry."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from tests.flow.test_evaluate import some
from tests.registry.test_blobs import all_files, spoil
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import PICO
from bespoke.pipeline import naming
from bespoke.pipeline.new import new
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.promoting import GateError
from bespoke.registry import Manifest, Shelf
from bespoke.workspace import Run, marks

SMALL = """
[train]
max_train_steps = 4
num_class_images = 0
save_every_n_epochs = 0
[validation]
validation_steps = 4
strata = 1
[sample]
num_inference_steps = 1
sample_every_n_steps = 0
[evaluate]
seeds = 1
most_prompts = 3
[objective]
keep_prompts = ["a red bus", "a dog"]
"""
PROMPT = "8bit illustration of a dog"


@dataclass
class Life:
    """A project, two of its runs, and what commands printed as JSON, in the order in which they were typed."""

    project: Path
    runs: list[Path]
    said: dict[str, dict]


def typed(*words: str, code: int = 0) -> dict:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == code, f"{words}\n{done.output}\n{done.exception!r}"
    return json.loads(done.stdout) if done.stdout.strip() else {"problem": done.stderr}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("versions")
    made = new(folder / "my style", some("train", 12, folder / "in"))
    made.recipe.write_text(SMALL)
    goal = str(some("reference", 6, folder / "goal"))
    said: dict[str, dict] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "my style")
        patch.delenv("BESPOKE_STORE", raising=False)
        runs = [Path(bespoke.train("recipe.toml").run)]
        said["unmeasured"] = typed("models", "register", str(runs[0]))
        said["refused"] = typed("models", "promote", "my-style", "1", code=2)
        typed("evaluate", str(runs[0]), "--reference", goal)
        said["tracked"] = tracked(runs[0]).data.metrics
        said["measured"] = typed("models", "register", str(runs[0]))
        said["weak"] = typed("models", "promote", "my-style", "1", code=2)
        said["forced"] = typed("models", "promote", "my-style", "1", "--force", " looked at by Ann ")
        bespoke.import_data(some("reference", 8, folder / "more"), "dataset")
        runs.append(Path(bespoke.train("recipe.toml", ["train.seed=5"]).run))
        typed("evaluate", str(runs[1]), "--reference", goal)
        said["second"] = typed("models", "register", str(runs[1]), "--name", "my-style")
        said["challenger"] = typed("models", "promote", "my-style", "2", "--to", "challenger", "--force", "a trial")
        said["compared"] = typed("models", "promote", "my-style", "2", code=2)
        said["replaced"] = typed("models", "promote", "my-style", "2", "--force", "newer")
        said["differ"] = typed("models", "diff", "my-style@1", "my-style@champion")
        said["back"] = typed("models", "rollback", "my-style")
        said["retired"] = typed("models", "retire", "my-style", "2")
        said["list"] = typed("models", "list")
        said["show"] = typed("models", "show", "my-style@champion")
        yield Life(folder / "my style", runs, said)


def why(said: dict) -> dict[str, bool]:
    return {check["question"]: check["ok"] for check in said["checks"]}


def test_a_run_is_registered_once_and_scored_later(life):
    before, after = life.said["unmeasured"], life.said["measured"]
    assert (before["name"], before["version"], before["new"], before["scored"]) == ("my-style", 1, True, False)
    assert (after["version"], after["new"], after["scored"]) == (1, False, True)
    assert after["manifest"] == before["manifest"]


def test_the_gate_says_why_it_refuses(life):
    assert life.said["refused"]["promoted"] is False and not why(life.said["refused"])["Measured?"]
    weak = why(life.said["weak"])
    assert not weak["Is it better than its base?"]  # after four steps
    assert weak["Are the licences right?"] and weak["Is it safe?"]
    compared = why(life.said["compared"])
    assert not compared["Is it better than my-style@1?"]
    (told,) = (check["why"] for check in life.said["compared"]["checks"] if "my-style@1" in check["question"])
    assert "below 0 is asked" in told  # the scorecards were found comparable


def test_what_was_forced_is_on_record_with_its_reason_and_what_the_gate_said(life):
    assert life.said["forced"]["promoted"] and life.said["forced"]["forced"] == "looked at by Ann"
    (model,) = life.said["list"]["models"]
    promoted = [record for record in model["history"] if record["kind"] == "promoted"]
    assert [(r["version"], r["alias"], r["forced"]) for r in promoted] == [
        (1, "champion", "looked at by Ann"), (2, "challenger", "a trial"), (2, "champion", "newer"),
    ]  # fmt: skip
    assert all(not all(check["ok"] for check in record["checks"]) for record in promoted)
    assert all(record["at"] and record["by"] for record in model["history"])


def test_the_alias_goes_back_and_all_of_it_is_remembered(life):
    assert life.said["replaced"]["before"] == 1
    assert (life.said["back"]["version"], life.said["back"]["before"]) == (1, 2)
    (model,) = life.said["list"]["models"]
    assert model["aliases"] == {"champion": 1} and model["retired"] == [2] and model["elsewhere"] == {}
    assert [record["kind"] for record in model["history"]] == [
        "scored", "promoted", "promoted", "promoted", "rolled back", "retired",
    ]  # fmt: skip


def test_two_versions_differ_in_what_was_changed(life):
    differ = life.said["differ"]
    assert differ["recipe"] == {"train.seed": [0, 5]}
    assert "dataset_hash" in differ["origin"] and "base_hash" not in differ["origin"]
    assert len(differ["added"]) == 8 and differ["removed"] == []
    assert differ["incomparable"] == []
    one, other = differ["scores"]["agreement_general"]
    assert one["low"] <= one["value"] <= one["high"] and other["count"] == one["count"]


def test_a_version_leads_back_to_every_picture(life):
    shown = life.said["show"]
    assert (shown["version"], shown["aliases"], shown["retired"]) == (1, ["champion"], False)
    train = life.project / "dataset" / "train"
    assert len(shown["pictures"]) == 12
    for picture in shown["pictures"]:
        assert picture["sha256"] == hashlib.sha256((train / picture["file"]).read_bytes()).hexdigest()
    assert shown["origin"]["base"] == "pico" and shown["origin"]["base_licence"] == "apache-2.0"
    assert shown["recipe"]["train.seed"] == 0
    assert shown["verdicts"][0]["question"] == "Closer to your pictures?"
    assert shown["scores"]["agreement_general"]["count"] == 2


def tracked(run: Path):
    """The run's record in MLflow."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run.parent.parent.as_posix()}/bespoke.db")
    return client.get_run(json.loads((run / "tracking.json").read_text())["run"])


def test_its_run_in_mlflow_has_its_scores_and_what_it_came_from(life):
    score = life.said["show"]["scores"]["agreement_general"]["value"]
    assert life.said["tracked"]["score/agreement_general"] == score  # once it was evaluated, before it was registered
    run = tracked(life.runs[0])
    assert run.info.run_name == life.runs[0].name and "step/loss" in run.data.metrics
    assert run.data.metrics["score/agreement_general"] == score and run.data.tags["bespoke.scorecard"]
    assert json.loads(run.data.tags["bespoke.licences"]) == life.said["show"]["origin"]["licences"]
    assert run.data.tags["bespoke.base_licence"] == "apache-2.0"


def pixels(folder: Path) -> Image.Image:
    (file,) = folder.glob("*-seed*.png")
    return Image.open(file).convert("RGB")


def test_a_version_draws_what_its_run_draws_from_any_folder(life, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed("sample", str(life.runs[0]), PROMPT, "--out", "run")
    typed("sample", "my-style@champion", PROMPT, "--out", "version", "--store", str(life.project))
    assert ImageChops.difference(pixels(tmp_path / "run"), pixels(tmp_path / "version")).getbbox() is None
    monkeypatch.setenv("BESPOKE_STORE", str(life.project))
    assert naming.named("my-style@champion").name == "my-style@1"
    assert set(naming.named_from("my-style@1", "all")) == {"base", "best"}
    (life.project / "versions").joinpath("x").mkdir()  # a folder of one's own disturbs nobody
    assert bespoke.inspect_model("my-style@1").base == "pico"
    typed("models", "export", "my-style@1", "style.safetensors")
    typed("grid", "my-style@1", PROMPT, "--x", "seed=1,2", "--out", "grid")
    assert not [file for file in all_files(life.project / "versions") if "evaluation" in file.parts]


def test_a_version_is_evaluated_without_being_written_to(life, tmp_path, monkeypatch):
    before = all_files(life.project / "versions")
    goal = str(life.project.parent / "goal")
    found = bespoke.evaluate("my-style@1", reference=goal, out=tmp_path)
    assert (
        found.scorecard["agreement_general"].scores["tuned"].value
        == life.said["show"]["scores"]["agreement_general"]["value"]
    )
    assert all_files(life.project / "versions") == before and found.report.is_relative_to(tmp_path)


def test_a_training_that_begins_with_a_version_keeps_its_number(life, tmp_path):
    recipe = life.project / "onwards.toml"
    recipe.write_text(SMALL + '[model]\nbase = "my-style@champion"\n')
    prepared = prepare(recipe)
    assert prepared.recipe.model.base == "my-style@1" and prepared.start.adapter


@pytest.fixture
def copied(life, tmp_path, monkeypatch) -> Path:
    """The project's registry in a folder of its own, to be spoilt."""
    for name in ("bespoke.db", "versions"):
        source = life.project / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_changed_byte_is_refused_wherever_the_version_is_used(copied):
    manifest = bespoke.show_model("my-style@1").version.manifest
    blob = bespoke.show_model("my-style@1").files["adapter.safetensors"]
    for file in (copied / "versions" / manifest / "adapter.safetensors",
                 copied / "versions" / "blobs" / blob.sha256[:2] / blob.sha256):  # fmt: skip
        spoil(file)
    for verb in (
        lambda: bespoke.sample("my-style@champion", [PROMPT], out=copied / "drawn"),
        lambda: bespoke.show_model("my-style@1"),
        lambda: bespoke.promote_model("my-style", 1, "challenger", force="against better knowledge"),
    ):
        with pytest.raises(BespokeError, match=r"adapter\.safetensors .* was changed") as refused:
            verb()
        assert refused.value.hint
    assert not (copied / "drawn").exists()


def test_another_base_under_the_same_name_is_refused(copied, monkeypatch):
    other = copied / "pico"
    shutil.copytree(PICO, other)
    with (other / "scheduler" / "scheduler_config.json").open("a") as file:
        file.write("\n")
    monkeypatch.setattr("bespoke.models.load.PICO", other)
    with pytest.raises(BespokeError, match=r"my-style@1 was trained on pico, .* its hash is another"):
        naming.named("my-style@1")


def test_a_base_is_known_by_its_kept_mark_and_what_is_written_down_is_read(life, tmp_path, monkeypatch):
    ignored = shutil.ignore_patterns("bespoke.db", "versions")
    project = shutil.copytree(life.project, tmp_path / "my-style", ignore=ignored)
    monkeypatch.chdir(project)
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(marks, "LEAST", 1_000_000)  # pico's weights are large then
    monkeypatch.setattr(marks, "FRESH", -60_000_000_000)
    run = f"runs/{life.runs[0].name}"
    first = typed("models", "register", run)
    naming.named("my-style@1")
    kept = [file for file in (tmp_path / "cache" / "marks").iterdir() if "pico" in file.read_text()]
    assert len(kept) == 3  # UNet, autoencoder and text encoder
    for file in kept:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"sha256": "0" * 64}))
    with pytest.raises(BespokeError, match="its hash is another"):
        naming.named("my-style@1")
    (project / run / "begun" / "origin.json").unlink()  # so that it is found out anew
    again = typed("models", "register", run, "--name", "again")
    manifests = [Manifest.of(Shelf(project / "versions").read(said["manifest"])) for said in (first, again)]
    assert manifests[0].marks == manifests[1].marks
    assert manifests[0].origin["base_hash"] == manifests[1].origin["base_hash"]
    monkeypatch.setenv("BESPOKE_MARKS", "off")
    naming.named("my-style@1")


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (lambda: bespoke.promote_model("my-style", 2), "is retired"),
        (lambda: bespoke.promote_model("my-style", 1), "is the champion already"),
        (lambda: bespoke.promote_model("my-style", 1, "challenger", force=" "), "wants a reason"),
        (lambda: bespoke.promote_model("my-style", 1, "latest"), "no alias 'latest'"),
        (lambda: bespoke.promote_model("my-style", 9), "no version 9"),
        (lambda: bespoke.retire_model("my-style", 1), "is the champion"),
        (lambda: bespoke.retire_model("my-style", 2), "is retired already"),
        (lambda: bespoke.rollback_model("my-style"), "No other version"),
        (lambda: bespoke.show_model("yours"), "No version of 'yours'"),
        (lambda: bespoke.register_model("pico"), "no run"),
        (lambda: bespoke.register_model("my-style@1"), "no run"),
        (lambda: naming.named("my-style@challenger"), "No version of my-style is its challenger"),
    ],
)
def test_what_cannot_be_is_refused_in_words(copied, verb, words):
    with pytest.raises(BespokeError, match=words) as refused:
        verb()
    assert refused.value.hint and not isinstance(refused.value, GateError)


def test_without_a_registry_a_version_is_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BESPOKE_STORE", raising=False)
    with pytest.raises(BespokeError, match=r"no run 'my-style', and no registry to look my-style@7 up in"):
        naming.named("my-style@7")


def test_a_training_that_is_not_over_is_not_registered(life, tmp_path):
    run = shutil.copytree(life.runs[0], tmp_path / "project" / "runs" / life.runs[0].name)
    (run / "result.json").unlink()
    with pytest.raises(BespokeError, match="is not over"):
        bespoke.register_model(run)
    assert not (tmp_path / "project" / "bespoke.db").exists()


@pytest.mark.parametrize("settings", [("model.method=full",), ("train.save_every_n_epochs=1", "train.use_ema=true")])
def test_whatever_was_trained_a_version_is_the_same_model(life, tmp_path, settings):
    project = tmp_path / "my style"
    shutil.copytree(life.project / "dataset", project / "dataset")
    (project / "recipe.toml").write_text(SMALL)
    run = bespoke.train(project / "recipe.toml", [*settings, "train.max_train_steps=2", "track.mlflow=false"]).run
    names = [str(run), f"{run}@last", *(str(f"{run}@{one.name}") for one in Run(run).checkpoints())]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for name in names:
            made = bespoke.register_model(name, "other")
            version, source = naming.named(made.version.title), naming.named(name)
            assert naming.marks_of(version) == naming.marks_of(source)
            assert version.recipe == source.recipe and version.registered and not source.registered
        model = bespoke.show_model("other")
        assert len(model.versions) == len({version.manifest for version in model.versions}) <= len(names)


@pytest.mark.slow
def test_a_teams_server_has_all_that_another_machine_needs(life, server, tmp_path, monkeypatch):
    typed("models", "register", str(life.runs[0]), "--name", "theirs", "--store", server)
    said = typed("models", "promote", "theirs", "1", "--force", "to be drawn with elsewhere", "--store", server)
    assert said["promoted"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    typed("sample", str(life.runs[0]), PROMPT, "--out", "run")
    typed("sample", "theirs@champion", PROMPT, "--out", "version", "--store", server)
    assert ImageChops.difference(pixels(tmp_path / "run"), pixels(tmp_path / "version")).getbbox() is None
    assert (tmp_path / "cache" / "versions" / "blobs").is_dir()
    assert len(typed("models", "show", "theirs@1", "--store", server)["pictures"]) == 12


def test_a_version_registered_while_another_process_prunes_has_all_of_its_files(life, tmp_path, monkeypatch):
    ignored = shutil.ignore_patterns("bespoke.db", "versions")
    monkeypatch.chdir(shutil.copytree(life.project, tmp_path / "my-style", ignore=ignored))
    command = [sys.executable, "-m", "bespoke", "models", "register", f"runs/{life.runs[0].name}"]
    env, met = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as registering:
        while registering.poll() is None:
            try:
                bespoke.prune_versions(apply=True)
            except BespokeError as error:
                met.add(error.problem.partition(" in ")[0])
            time.sleep(0.02)
        assert registering.returncode == 0, registering.stderr.read()
    assert "Another command registers a version" in met  # they did meet
    assert len(typed("models", "show", "my-style@1")["files"]) == 4  # each of them checked
    assert not bespoke.prune_versions()


def documented() -> list[str]:
    """The commands of the section about versions, as they stand there."""
    text = (Path(__file__).parents[2] / "docs" / "registry.md").read_text("utf-8")
    block = text.partition("## Versions\n\n```\n")[2].partition("```")[0]
    return block.splitlines()


def test_the_commands_of_the_docs_work_as_they_stand_there(life, tmp_path, monkeypatch):
    project = shutil.copytree(
        life.project, tmp_path / "my-style", ignore=shutil.ignore_patterns("bespoke.db", "versions")
    )
    monkeypatch.chdir(project)
    lines = documented()
    assert len(lines) == 12
    said = []
    for line in lines:
        words = shlex.split(line.replace("RUN", life.runs[0].name))
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
        said.append(done.stdout)
        if words[2] == "register":  # and the other one, for the same words with another run
            assert CliRunner().invoke(app, [*words[1:3], f"runs/{life.runs[1].name}"]).exit_code == 0
    assert "my-style@1 is new" in said[0] and "Forced: the first there is" in said[1]
    assert "my-style@1 is the champion again" in said[5] and "train.seed: 0 → 5" in said[6]
    assert "2 versions; champion 1; retired: 2" in said[8]
    assert "Ann liked its pictures better" in said[9] and "all 4 are whole" in said[10]
