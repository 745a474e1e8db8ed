"""A champion that is brought up to date by commands: reasons, kills in every stage, the gate's answers, approval."""

import json
import shutil
import signal
from typing import Any
from urllib.parse import quote

import filelock
import pytest
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.feedback import Opinion, Sample, Store
from bespoke.feedback.reviewed import decide
from bespoke.pipeline.new import new
from bespoke.records import GENERATED, Dataset
from tests import warm
from tests.flow import dying
from tests.flow.test_evaluate import some

RECIPE = """
[train]
max_train_steps = 3
num_class_images = 0
save_every_n_epochs = 0
mixed_precision = "no"
[validation]
validation_steps = 3
strata = 1
[sample]
num_inference_steps = 1
sample_every_n_steps = 0
dtype = "fp32"
[evaluate]
seeds = 1
most_prompts = 3
[objective]
keep_prompts = ["a red bus", "a dog"]
[update]
alarm_days = 2
least_served = 6
least_ratings = 4
"""
KILLED = ("import", "train", "evaluate", "register")


def typed(*words, code=0) -> Any:
    done = CliRunner().invoke(app, ["feedback", "propose", *words, "--json"])
    assert done.exit_code == code, f"{words}\n{done.output}\n{done.exception!r}"
    return json.loads(done.stdout) if done.stdout.strip() else done.stderr


def champion() -> int:
    shown: Any = bespoke.show_model("my-style")
    return shown.aliases["champion"]


def killed(project, stage, *words):
    """The command, killed by a signal in a stage."""
    log = project.parent / "log.txt"
    process = warm.Process(dying.update, str(project), stage, *words, log=log, folder=project)
    assert process.wait() == -signal.SIGKILL, log.read_text()


def ledger(project):
    return [json.loads(line) for line in (project / "updates.jsonl").read_text().splitlines()]


def told(project, kind):
    return [line for line in ledger(project) if line["kind"] == kind]


def reasons(said, which):
    return {reason["about"]: reason["words"] for reason in said[f"reasons_{which}"]}


def rated(project, pictures):
    """Six served pictures that four people did not like, of which two are accepted with a better caption."""
    with Store(project) as store:
        for number, file in enumerate(sorted(pictures.glob("*.png"))[:6]):
            name = f"picture-{number}"
            sample = Sample(name, "my-style@1", "8bit illustration of a thing", at=f"2999-01-0{number + 1}T00:00:00")
            store.add(sample, file.read_bytes())
            for rater in ("Ann", "Bob", "Cy", "Di"):
                store.say(Opinion("thumb", name, rater, "down"))
            if number < 2:
                words = f"8bit illustration of a better thing {number}"
                store.say(Opinion("caption", name, "Ann", words=words, consent=True, licence="CC0-1.0"))
        decide(store, ["picture-0", "picture-1"], [], "Eve")


def drifted(project):
    """What `bespoke feedback drift` leaves behind where pictures changed, and where drawing them only took longer."""
    place = project / "drift" / quote("my-style@1", safe="@") / "reference-0"
    place.mkdir(parents=True)
    content = {
        "day": "2999-01-05", "alarms": [{"figure": "saturation", "rang": "over days", "words": ""}],
        "alarms_before": {"2999-01-03": ["pictures", "seconds"], "2999-01-04": ["seconds"], "2000-01-01": ["pictures"]},
    }  # fmt: skip
    (place / "newest.json").write_text(json.dumps(content))


def measured_well(run):
    """A scorecard as hundreds of pictures of a model that learnt something would give, by hand: three steps do not."""
    file = run / "report" / "report.json"
    card = json.loads(file.read_text())
    for model, scores in card["scores"].items():
        for score in scores.values():
            score["low"] = score["high"] = score["value"]
        part = 0.4 if model.startswith("runs/") else 1.0
        for end in ("value", "low", "high"):
            scores[card["distance"]][end] = part
        scores["copy_rate"] = {**scores[card["distance"]], "name": "copy_rate", "value": 0.0, "low": 0.0, "high": 0.01}
        for change in card["changes"].get(model, {}).values():
            change["ratio"] = [1.0, 0.99, 1.01]
        if model in card["changes"]:
            card["changes"][model][card["distance"]]["ratio"] = [part, part, part]
    file.write_text(json.dumps(card))


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A project with a champion, and what is proposed while nothing is known of it."""
    folder = tmp_path_factory.mktemp("updating")
    project = folder / "my-style"
    made = new(project, some("train", 12, folder / "in"))
    made.recipe.write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.delenv("BESPOKE_STORE", raising=False)
        patch.delenv("BESPOKE_FEEDBACK", raising=False)
        run = bespoke.train("recipe.toml").run
        bespoke.register_model(run)
        bespoke.promote_model("my-style", 1, force="the first there is")
        calm = typed()
        rated(project, some("reference", 6, folder / "drawn"))
        drifted(project)
    return project, calm


@pytest.fixture
def project(before, tmp_path, monkeypatch):
    """A copy of it, with what people and drift say."""
    copy = shutil.copytree(before[0], tmp_path / "my-style")
    monkeypatch.chdir(copy)
    monkeypatch.delenv("BESPOKE_STORE", raising=False)
    monkeypatch.delenv("BESPOKE_FEEDBACK", raising=False)
    return copy


def test_nothing_new_is_no_reason_to_train(before):
    project, calm = before
    assert not calm["retrain"] and calm["reasons_for"] == [] and calm["update"] is None and calm["command"] == ""
    assert "the same recipe on the same pictures gives the same model" in reasons(calm, "against")["nothing new"]
    assert calm["champion"] == "my-style@1" and 0 < calm["cost"]["hours"] < 1
    assert [line["kind"] for line in ledger(project)] == ["decided"]


def test_ratings_drift_and_pictures_are_reasons_with_their_figures(project):
    said = typed("my-style")
    why = reasons(said, "for")
    assert said["retrain"] and set(why) == {"drift", "ratings"}
    assert "rang on 2 days" in why["drift"] and "2999-01-03: pictures; 2999-01-05: saturation" in why["drift"]
    assert "6 of its pictures were kept; 6 are asked" in why["drift"]
    assert "0 % of my-style@1's 24 thumbs are up (0 % to 13.8 %), from 4 people" in why["ratings"]
    assert (
        "2 pictures are new (2 of them accepted from feedback), 16.7 % of the 12"
        in (reasons(said, "against")["new pictures"])
    )
    assert said["command"] == "bespoke feedback propose my-style --run" and not said["ran"]
    assert [(one["before"], one["now"]) for one in said["changes"]] == [(3, 3)] or said["changes"] == []
    assert not list(project.glob("runs/*-update")), "nothing is done unless it is asked for"
    words = CliRunner().invoke(app, ["feedback", "propose"]).stdout
    assert "my-style@1: train it anew." in words and "Next: bespoke feedback propose my-style --run" in words


@pytest.fixture(scope="module")
def measured(before, tmp_path_factory):
    """An update that was killed in each stage up to the version's, and the pictures drawn when it was first."""
    project = shutil.copytree(before[0], tmp_path_factory.mktemp("killed") / "my-style")
    drawn = {}
    for stage in KILLED:
        killed(project, stage)
        if stage == "evaluate":
            drawn = {
                file: file.stat().st_mtime_ns for file in project.glob("runs/*-update/evaluation/pictures/**/*.png")
            }
    return project, drawn


@pytest.fixture
def weighed(measured, tmp_path, monkeypatch):
    """A copy of it."""
    copy = shutil.copytree(measured[0], tmp_path / "my-style")
    monkeypatch.chdir(copy)
    monkeypatch.delenv("BESPOKE_STORE", raising=False)
    monkeypatch.delenv("BESPOKE_FEEDBACK", raising=False)
    return copy


@pytest.mark.slow
def test_after_a_kill_in_each_stage_it_goes_on_and_nothing_is_done_twice(measured):
    project, drawn = measured
    assert [line["stage"] for line in told(project, "done")] == ["import", "train", "evaluate"]
    assert len({line["update"] for line in told(project, "decided") if line["update"]}) == 1
    (run,) = project.glob("runs/*-update")
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines() if "loss" in line]
    assert steps == sorted(steps)
    assert json.loads((run / "result.json").read_text())["steps"] == 3
    assert drawn and {file: file.stat().st_mtime_ns for file in drawn} == drawn, "a picture was drawn twice"
    _, dataset = Dataset.from_json((project / "dataset" / "dataset.json").read_text())
    own = [one for one in dataset.pictures if GENERATED in one.labels]
    assert len(dataset.pictures) == 14 and sorted(one.text[-1] for one in own) == ["0", "1"]
    assert {one.labels[GENERATED] for one in own} == {"my-style@1"}
    versions = bespoke.show_model("my-style", store=str(project))
    assert [one.number for one in versions.versions] == [1, 2] and versions.aliases == {"champion": 1}


@pytest.mark.slow
def test_what_is_no_better_is_refused_and_the_next_one_must_wait(weighed):
    said = typed("--run")
    assert said["ran"] and said["update"]["outcome"] == "refused"
    assert "better than its base" in said["update"]["why"]
    (ended,) = told(weighed, "ended")
    assert ended["version"] == 2 and any(not check["ok"] for check in ended["checks"])
    assert bespoke.show_model("my-style").aliases == {"champion": 1}
    again = typed("--run")
    assert not again["ran"] and not again["retrain"]
    assert "0.0 days ago; 7 days" in reasons(again, "against")["cool-down"]
    assert again["cost"]["spent"] > 0 and len(told(weighed, "ended")) == 1
    with Store(weighed) as store:
        caption = next(one for one in store.opinions(kind="caption") if one.sample == "picture-0")
        store.withdraw(caption.id, "Ann")
    assert "1 pictures of the dataset rest on opinions that were taken back" in reasons(typed(), "against")["consent"]


@pytest.mark.slow
def test_what_passes_waits_for_a_person_and_is_promoted_once(weighed):
    (run,) = weighed.glob("runs/*-update")
    measured_well(run)
    killed(weighed, "challenge")
    assert bespoke.show_model("my-style").aliases == {"champion": 1, "challenger": 2}
    waiting = typed("--run")
    assert waiting["update"]["outcome"] == "waiting"
    assert waiting["command"] == "bespoke models promote my-style 2"
    assert champion() == 1
    assert typed("--run")["ran"] is False, "it waits, and is not trained again"
    killed(weighed, "promote", "--approve")
    done = typed("--run", "--approve")
    assert done["update"]["outcome"] == "promoted"
    model = bespoke.show_model("my-style")
    assert model.aliases == {"champion": 2, "challenger": 2}
    assert [r.alias for r in model.records if r.kind == "promoted" and r.version == 2] == ["challenger", "champion"]
    assert not any(record.forced for record in model.records if record.version == 2)
    after = typed()
    assert after["champion"] == "my-style@2" and not after["retrain"] and after["command"] == ""
    assert "Ratings of my-style@2 and my-style@1 cannot be compared" in reasons(after, "against")["predecessor"]


@pytest.mark.slow
def test_where_nobody_is_asked_what_passes_is_promoted(weighed):
    (run,) = weighed.glob("runs/*-update")
    measured_well(run)
    (weighed / "recipe.toml").write_text(f"{RECIPE}human_approval = false\n")
    assert typed("--run")["update"]["outcome"] == "promoted"
    assert champion() == 2


@pytest.mark.slow
def test_what_a_person_promoted_and_took_back_is_not_promoted_again(weighed):
    (run,) = weighed.glob("runs/*-update")
    measured_well(run)
    waiting = typed("--run")["command"]
    assert CliRunner().invoke(app, waiting.split()[1:]).exit_code == 0
    assert typed()["command"] == ""
    bespoke.rollback_model("my-style")
    after = typed("--run", "--approve")
    assert not after["ran"] and after["command"] == ""
    assert champion() == 1


def test_what_fails_is_tried_again_and_then_given_up(project):
    (project / "recipe.toml").write_text(f"{RECIPE}most_tries = 2\n")
    lost = next(iter(sorted((project / "dataset" / "train").glob("*.png"))))
    picture = lost.read_bytes()
    lost.unlink()
    assert lost.name in typed("--run", code=2)
    under_way = typed()
    assert under_way["update"]["next"] == "train" and under_way["command"].endswith("--run")
    assert len(under_way["update"]["failures"]) == 1
    typed("--run", code=2)
    assert [line["outcome"] for line in told(project, "ended")] == ["failed"]
    lost.write_bytes(picture)
    after = typed("--run")
    assert not after["ran"] and "cool-down" in reasons(after, "against")
    assert len(list(project.glob("runs/*"))) == 1


def test_of_two_at_once_one_is_refused(project):
    with filelock.FileLock(project / ".updates.lock"):
        assert "Another command is bringing the model of my-style up to date" in typed("--run", code=2)
        assert typed()["retrain"], "asking alone is no work"
    assert told(project, "done") == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nobody"], "No version of 'nobody'"),
        (["--approve"], "--approve belongs to --run"),
        (["--feedback", "nowhere.db"], "There is no feedback at"),
    ],
)
def test_what_cannot_be_is_refused_in_words(project, words, problem):
    assert problem in typed(*words, code=2)


def test_a_drift_file_that_is_none_is_named(project):
    (file,) = project.glob("drift/*/*/newest.json")
    file.write_text("{")
    assert "newest.json is not what bespoke feedback drift writes" in typed(code=2).replace("\n", " ")
