"""A trained run measured against its base by the command that a person types: pictures, scores, page, card, JSON."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from scipy import stats
from scipy.spatial.distance import cdist
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.evaluation import agreement
from bespoke.models import PICO, Clip
from bespoke.pipeline import prompts
from bespoke.pipeline.evaluate import carry_out, comparison, draw_all
from bespoke.pipeline.new import new
from bespoke.pipeline.pictures import file_name, opened
from bespoke.pipeline.reporting import silent
from bespoke.sampling import Request

FEW, USUALLY = 8, prompts.FEW
EXAMPLE = Path(__file__).parents[2] / "examples" / "8bit"
SMALL = (
    "evaluate.seeds=2", "evaluate.most_prompts=5", "sample.num_inference_steps=1",
    'objective.keep_prompts=["a red bus", "a dog"]',
)  # fmt: skip


def some(part: str, count: int, out: Path) -> Path:
    """The first readable pictures of a part of the example, with their captions."""
    with (EXAMPLE / part / "metadata.csv").open(encoding="utf-8", newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["text"]][:count]
    out.mkdir(parents=True)
    for row in rows:
        shutil.copyfile(EXAMPLE / part / row["file_name"], out / row["file_name"])
    lines = ["file_name,text", *(f"{row['file_name']},{row['text']}" for row in rows)]
    (out / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return out


@pytest.fixture(scope="module", autouse=True)
def _few_captions() -> Iterator[None]:
    """Eight training captions are drawn in the place of two dozen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "FEW", FEW)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    some("train", 30, folder / "in")
    some("reference", 16, folder / "goal")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    made = new(folder / "project", folder / "in")
    settings = [
        "train.max_train_steps=14", "train.num_class_images=0", "train.save_every_n_epochs=1",
        "train.train_batch_size=4",
        "validation.validation_steps=7", "validation.strata=2", "sample.sample_every_n_steps=0", "track.mlflow=false",
    ]  # fmt: skip
    return Path(bespoke.train(made.recipe, settings).run)


@pytest.fixture(scope="module")
def content(run: Path, folder: Path):
    settings = [part for setting in (*SMALL, 'evaluate.extractors=["nobody/here"]') for part in ("--set", setting)]
    command = ["evaluate", str(run), "--reference", str(folder / "goal"), "--checkpoints", "--json", *settings]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def pictures(run: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in sorted((run / "evaluation" / "pictures").rglob("*.png"))}


def test_every_model_has_every_score_with_its_interval_around_it(content, run):
    epochs = [f"{run}@epoch-{n}" for n in (1, 2)]
    assert list(content["scores"]) == ["base", str(run), *epochs]
    names = set(content["scores"]["base"])
    assert {"kid_pico_clip_reference", "coverage_pico_clip_reference", "agreement_reference", "agreement_general",
            "agreement_complex", "clip_i_pico_clip", "copy_rate", "copying_z", "authenticity"} <= names  # fmt: skip
    for scores in content["scores"].values():
        assert set(scores) == names
        assert all(one["low"] <= one["value"] <= one["high"] for one in scores.values())
    assert content["scores"]["base"]["agreement_reference"]["count"] == 10


def test_a_score_is_what_its_instrument_says_of_the_files_that_lie_there(content, run):
    (base,) = (f for f in (run / "evaluation" / "pictures").iterdir() if f.name.startswith("pico-"))
    files = sorted((base / "general").glob("*.png"))
    requests = [Request("a red bus", 100_000), Request("a red bus", 100_001), Request("a dog", 100_002),
                Request("a dog", 100_003)]  # fmt: skip
    assert sorted(file_name(one) for one in requests) == [file.name for file in files]
    clip, files = Clip(), [base / "general" / file_name(one) for one in requests]
    seen = clip.pictures([picture for part in opened(files) for picture in part])
    expected = agreement(seen, clip.texts([one.prompt for one in requests])).mean()
    assert content["scores"]["base"]["agreement_general"]["value"] == pytest.approx(expected, rel=1e-9)


def test_what_could_not_be_measured_is_told_with_its_reason(content):
    why = content["unmeasured"]["Training pictures redrawn when asked for"]
    assert "10 prompts in the style's words that are captions of pictures which were held back" in why
    assert "nobody/here" in " ".join(content["unmeasured"])
    assert "evaluate.preference" in content["unmeasured"]["Preference"]


def test_the_page_holds_verdict_scores_neighbours_grids_and_curves(content, run):
    page = Path(content["report"])
    assert page.resolve() == (run / "report" / "index.html").resolve()
    text = page.read_text(encoding="utf-8")
    sources = [unquote(s) for s in re.findall(r'<img[^>]*src="([^"]+)"', text)]
    assert len(sources) > 40 and all((page.parent / source).is_file() for source in sources)
    for section in ("verdict", "pictures", "scores", "checkpoints", "neighbours", "sheets", "measured", "training"):
        assert f'<section id="{section}">' in text
    for said in ("Closer to your pictures?", "Copies training pictures?", "Guidance by steps", "Checkpoints"):
        assert said in text
    assert json.loads(Path(content["content"]).read_text())["seeds"] == [0, 1]


def test_the_card_is_one_that_the_hub_reads(content, run):
    card = ModelCard.load(content["card"])
    results = {one.metric_type: one for one in card.data.eval_results}
    scores = content["scores"][str(run)]
    assert card.data.base_model == "pico" and card.data.library_name == "diffusers" and "lora" in card.data.tags
    assert results["copy_rate"].metric_value == scores["copy_rate"]["value"]
    assert "Closer to your pictures?" in card.text


def test_a_second_call_draws_nothing_and_gives_the_same_scores(content, run, folder):
    before = pictures(run)
    settings = (*SMALL, "evaluate.most_prompts=5")
    again = bespoke.evaluate(str(run), reference=folder / "goal", overrides=settings)
    assert pictures(run) == before
    assert again.scorecard.to_json()["scores"]["base"]["copy_rate"] == content["scores"]["base"]["copy_rate"]
    assert list(again.verdicts) == ["tuned"]


def test_training_captions_are_told_from_unseen_ones_by_the_files_that_lie_there(run, folder, tmp_path):
    settings = ("evaluate.seeds=2", "evaluate.most_prompts=10", "sample.num_inference_steps=1")
    given = comparison([str(run)], reference=folder / "goal", out=tmp_path, overrides=settings,
                       kinds=("reference", "training"))  # fmt: skip
    done = carry_out(replace(given, run=None), silent, whole=False)
    card, drawings = done.scorecard, done.pictures
    clip = Clip()

    def likeness(model: str, kind: str, own) -> list[float]:
        """Of each prompt the mean cosine of its pictures to the pictures with that caption."""
        found: list[float] = []
        for n, prompt in enumerate(given.prompts.kinds[kind]):
            theirs = [clip.pictures([Image.open(one.file).convert("RGB")])[0] for one in own if one.text == prompt]
            ours = clip.pictures([Image.open(file) for file in drawings[model][kind][2 * n : 2 * n + 2]])
            cosines = 1 - cdist(ours, np.stack(theirs), "cosine")
            found.append(float(cosines.max(axis=1).mean()))
        return found

    for model in ("base", "tuned"):
        known = likeness(model, "training", given.references.training)
        fresh = likeness(model, "reference", given.references.goal)
        expected = stats.mannwhitneyu(known, fresh).statistic / (len(known) * len(fresh))
        score = card["membership_auc"].scores[model]
        assert score.value == pytest.approx(expected, abs=1e-9) and score.count == FEW
        assert "10 of pictures that were held back" in score.note
    assert len(card.redrawn["tuned"].nearest) == FEW
    assert "Redraws training pictures when asked with their captions?" in [
        one.question for one in done.verdicts["tuned"]
    ]
    page = done.report.read_text(encoding="utf-8")
    assert "tuned, asked with training captions" in page and page.count("<span>training picture</span>") >= FEW


def test_what_a_kill_left_is_gone_on_from(run, folder, tmp_path):
    given = comparison([str(run)], reference=folder / "goal", out=tmp_path, overrides=SMALL)

    def dies(stage: str, done: int, total: int, note: str = "") -> None:
        if "tuned" in stage and done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_all(given, dies)
    there = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.png")}
    # The base's domain, plain and complex pictures and those of training captions, and nine of the tuned model's.
    assert len(there) == 10 + 4 + 8 + 2 * FEW + 9
    drawn = draw_all(given, silent)
    assert {file: file.stat().st_mtime_ns for file in there} == there
    assert all(file.is_file() for kinds in drawn.values() for files in kinds.values() for file in files)


@pytest.mark.usefixtures("content")
def test_both_models_draw_the_same_prompts_from_the_same_noise(run, folder):
    given = comparison([str(run)], reference=folder / "goal", overrides=SMALL)
    drawn = draw_all(given, silent)
    for kind in drawn["base"]:
        base, tuned = ([file.name for file in drawn[model][kind]] for model in ("base", "tuned"))
        assert base == tuned and len(set(base)) == len(base)
    first = [next(iter(opened(drawn[model]["reference"][:1])))[0] for model in ("base", "tuned")]
    assert np.abs(np.asarray(first[0], int) - np.asarray(first[1], int)).max() > 0


@pytest.mark.parametrize(
    ("models", "options", "problem"),
    [
        (["pico"], {}, "no run"),
        (["pico"], {"against": "pico"}, "no pictures to compare with"),
        (["nowhere"], {}, "nowhere"),
        (["pico"], {"against": "pico", "reference": "nowhere"}, "no folder"),
        (["pico"], {"against": "pico", "checkpoints": True}, "no run"),
        (["pico", str(PICO)], {"against": "pico"}, "with itself"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(models, options, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BespokeError, match=problem) as raised:
        bespoke.evaluate(models, **options)
    assert raised.value.hint
    assert not list(tmp_path.rglob("*.png"))


def test_prompts_are_made_of_captions_where_the_recipe_names_none(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "FEW", USUALLY)
    given = comparison([str(run)], reference=folder / "goal", out=tmp_path, overrides=["evaluate.most_prompts=5"])
    kinds = given.prompts.kinds
    assert len(kinds["reference"]) == 5 and all(text.startswith("8bit illustration of") for text in kinds["reference"])
    assert kinds["general"] == tuple(text.removeprefix("8bit illustration of ") for text in kinds["reference"])
    assert kinds["complex"][0] == f"{kinds['reference'][0]} and {kinds['general'][1]}"
    noises = [one.seed for kind in kinds for one in given.prompts.requests(kind)]
    assert len(set(noises)) == len(noises) == 3 * (5 + 5 + 4 + 24)
    assert set(kinds["training"]) <= {own.text for own in given.references.training}


def test_of_two_captions_the_figure_of_their_one_pair_is_left_out_and_said_to_be(run, folder, tmp_path):
    """Both make one prompt that says much; where it is drawn once, one picture has no interval."""
    two = some("reference", 2, tmp_path / "two")
    settings = ["evaluate.seeds=1", "sample.num_inference_steps=1"]
    given = comparison([str(run)], reference=two, out=tmp_path / "out", overrides=settings)
    assert len(given.prompts.kinds["reference"]) == len(given.prompts.kinds["general"]) == 2
    done = carry_out(given, silent, whole=False)
    assert "agreement_general" in done.scorecard.of("tuned") and "agreement_complex" not in done.scorecard.of("tuned")
    why = done.scorecard.unmeasured["Agreement with prompts that say much"]
    assert "one picture" in why and "objective.complex_prompts" in why and "evaluate.seeds" in why
    assert why in unescape(done.report.read_text(encoding="utf-8"))
    twice = comparison([str(run)], reference=two, out=tmp_path / "out", overrides=[*settings, "evaluate.seeds=2"])
    assert len(twice.prompts.requests("complex")) == 2
