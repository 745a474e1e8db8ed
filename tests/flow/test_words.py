"""`bespoke words …` as a person uses it: what the page says is what tokenizers count, and files load elsewhere."""

import json
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from tokenizers import AddedToken
from transformers import CLIPTokenizer
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import PICO, NewWords, find
from bespoke.text.lexicon import Lexicon
from tests.page.test_report import Page

THINGS = ("vulpenor", "turrovan", "vulpenors", "dog")
COLOURS = ("rubrine", "cerulith", "(rubrine:1.2)", "gray")
TERMS = """
aliases = { vulpenor = ["vulpenors"] }
triggers = ["rubrine"]
multiword = ["tungsten light"]
casing = ["Rubrine"]

[glosses]
vulpenor = "a fox"
rubrine = "red"
"tungsten light" = "a white wall"
"""
QUICK = ("words.method=tournament", "words.budget=3")
SENTENCE = "8bit illustration of a {} {} in tungsten light"


def run(*arguments: str) -> str:
    """What a command printed."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output + done.stderr
    return done.stdout


def refused(*arguments: str) -> str:
    """What a command that ends with 2 said, on one line."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2, done.output + done.stderr
    return " ".join((done.output + done.stderr).split())


def setting(*settings: str) -> list[str]:
    return [part for each in settings for part in ("--set", each)]


def project_of(root: Path, captions: Sequence[str]) -> Path:
    """A project of a picture for each caption, the last two of them held back."""
    (root / "source").mkdir(parents=True)
    lines = ["file_name,text,split"]
    for number, text in enumerate(captions):
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "source" / f"{number}.png")
        lines.append(f'{number}.png,"{text}",{"train" if number < len(captions) - 2 else "validation"}')
    (root / "source" / "metadata.csv").write_text("\n".join(lines), "utf-8")
    bespoke.new(root / "project", root / "source", overrides=("data.validation_fraction=0",))
    (root / "project" / "terms.toml").write_text(TERMS, "utf-8")
    return root / "project"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    captions = [SENTENCE.format(COLOURS[n % 4], THINGS[n // 4 % 4]) for n in range(16)]
    captions[3] += ", and a very small house by a long road" * 12
    root = project_of(tmp_path_factory.mktemp("words"), captions)
    run("words", "build", str(root / "dataset"), *setting(*QUICK, "words.terms=terms.toml"))
    return root


@pytest.fixture
def report(project: Path) -> dict[str, Any]:
    return json.loads((project / "words" / "report.json").read_text("utf-8"))


def captions_of(project: Path, side: str) -> list[str]:
    """What the tokenizer is asked to read: captions without the signs of their weights."""
    pictures = json.loads((project / "dataset" / "dataset.json").read_text("utf-8"))["pictures"]
    return [p["text"].replace("(rubrine:1.2)", "rubrine") for p in pictures if p["split"] == side]


def test_files_are_where_they_are_said_to_be(project: Path, report: dict[str, Any]) -> None:
    assert {f.name for f in (project / "words").iterdir()} == {
        "index.html", "lexicon.parquet", "report.json", "words.safetensors",
    }  # fmt: skip
    words = NewWords.read(project / "words" / "words.safetensors")
    words.fits(find("pico").base)
    assert [word.surface for word in words.words] == report["words"] == ["rubrine", "tungsten light", "vulpenor"]
    assert words.words[2].aliases == ("vulpenors",) and words.words[2].gloss == "a fox"
    assert Lexicon.load(project / "words" / "lexicon.parquet").entry("vulpenors").domain == 4
    assert (project / "cache" / "vectors").is_dir()


def test_tokens_on_the_page_are_those_that_transformers_counts(project: Path, report: dict[str, Any]) -> None:
    before = CLIPTokenizer.from_pretrained(PICO / "tokenizer")
    after = CLIPTokenizer.from_pretrained(PICO / "tokenizer")
    after.add_tokens(
        [
            AddedToken(w, single_word=True, normalized=True)
            for w in ("tungsten light", "rubrine", "vulpenor", "vulpenors")
        ]
    )
    page = Page((project / "words" / "index.html").read_text("utf-8")).text
    for side, name in (("train", "training captions"), ("validation", "validation captions")):
        captions = captions_of(project, side)
        (found,) = (each for each in report["fertility"] if each["name"] == side)
        words = sum(len(text.replace(",", "").split()) for text in captions)
        assert (found["captions"], found["words"]) == (len(captions), words)
        for tokenizer, when in ((before, "before"), (after, "after")):
            lengths = [len(tokenizer(text, verbose=False).input_ids) for text in captions]
            assert found[when] == sum(lengths) - 2 * len(lengths)
            assert found[f"long_{when}"] == sum(length > 77 for length in lengths)
        said = f"{name} {len(captions)} {words} {found['before']} → {found['after']}"
        rates = f"{found['before'] / words:.3f} → {found['after'] / words:.3f}"
        assert f"{said} {rates} {found['long_before']}" in page
    assert report["fertility"][0]["long_before"] == 1
    saved = sum(one["saved"] for one in report["candidates"] if one["accepted"])
    assert saved == report["fertility"][0]["before"] - report["fertility"][0]["after"] > 0


def test_coverage_is_that_of_the_captions_words(project: Path, report: dict[str, Any]) -> None:
    whole = {token.removesuffix("</w>") for token in find("pico").tokenizer().get_vocab() if token.endswith("</w>")}
    found = {each["source"]: each for each in report["coverage"]}
    for side in ("train", "validation"):
        words = [word for text in captions_of(project, side) for word in text.lower().replace(",", "").split()]
        assert found["clip"][side] == pytest.approx(sum(word in whole for word in words) / len(words))
    assert found["domain"]["train"] == 1.0
    assert found["general"]["train"] >= max(found[source]["train"] for source in ("clip", "wiki", "social"))


def test_the_page_says_why_of_every_word(project: Path, report: dict[str, Any]) -> None:
    page = Page((project / "words" / "index.html").read_text("utf-8")).text
    assert "3 new words" in page
    assert "--set words.file=words/words.safetensors" in (project / "words" / "index.html").read_text("utf-8")
    for made in report["rows"]["words"]:
        assert made["word"]["surface"] in page
        assert all(piece in page for piece in made["word"]["pieces"])
        assert all(f"{name} {score:.3f}" in page for name, score in made["scores"].items())
    for one in report["candidates"]:
        if not one["accepted"] and one["pieces"] > 1:
            assert f"{one['word']} {one['pieces']} {one['saved']:,} {one['reason']}" in page
    (best, *_) = report["rows"]["maps"]
    assert f"found among 10 {100 * best['recall'][2]:.3g} %" in page
    assert f"shuffled, among 10 {100 * best['null_recall'][2]:.3g} %" in page


def test_a_build_is_the_same_again(project: Path, tmp_path: Path) -> None:
    own = ("words.terms=terms.toml", "words.file=words/words.safetensors")
    made = bespoke.build_words(project / "dataset", out=tmp_path / "again", overrides=(*QUICK, *own))
    for name in ("words.safetensors", "report.json", "lexicon.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (project / "words" / name).read_bytes(), name
    assert made.file == tmp_path / "again" / "words.safetensors"
    assert (project / made.setting.removeprefix("words.file=")).resolve() == made.file.resolve()


def test_no_extension_is_a_result_and_takes_an_older_one_away(project: Path, tmp_path: Path) -> None:
    dataset, out = str(project / "dataset"), tmp_path / "words"
    shutil.copytree(project / "words", out)
    nothing = ("words", "build", dataset, "--out", str(out), *setting("words.budget=0"))
    said = run(*nothing)
    assert "No extension" in said and "words.safetensors of an earlier build was removed" in said
    assert not (out / "words.safetensors").exists() and "--set words.file" not in said
    page = Page((out / "index.html").read_text("utf-8")).text
    assert "No extension" in page and "the budget of 0 tokens is spent" in page
    content = json.loads(run(*nothing, "--json"))
    assert (content["words"], content["tokens"], content["removed"], content["setting"]) == (None, [], False, "")
    (train, *_) = content["fertility"]
    assert train["before"] == train["after"]
    assert "There are no new words" in refused("words", "export", str(out), str(tmp_path / "out"))


def test_what_cannot_be_read_is_told_with_its_path(project: Path, tmp_path: Path) -> None:
    dataset = str(project / "dataset")
    (project / "broken.toml").write_text("protectd = ['x']", "utf-8")
    (project / "broken.txt").write_text("no numbers here\n", "utf-8")
    for wrong, said in (
        ("words.wiki=nowhere.raw", f"There is no file {project}/nowhere.raw"),
        ("words.vectors=nowhere.txt", f"There is no file {project}/nowhere.txt"),
        ("words.vectors=broken.txt", "holds no word vectors"),
        ("words.terms=nowhere.toml", f"no file of terms at {project}/nowhere.toml"),
        ("words.terms=broken.toml", "Did you mean protected?"),
        ("words.methd=subwords", "words.methd"),
        ("model.base=nobody/knows-this", "New words are made for a base model, which cannot be had"),
    ):
        assert said in refused("words", "build", dataset, "--out", str(tmp_path), *setting(wrong)), wrong
    assert list(tmp_path.iterdir()) == []
    assert "nowhere" in refused("words", "build", str(project / "nowhere"))


def test_paths_count_from_the_recipe_that_is_named(project: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[words]\nmethod = "subwords"\nterms = "terms.toml"\nbudget = 1\n', "utf-8")
    (tmp_path / "terms.toml").write_text('triggers = ["turrovan"]', "utf-8")
    made = bespoke.build_words(project / "dataset", recipe=recipe)
    assert [one.word for one in made.candidates if one.accepted] == ["turrovan"]
    assert made.folder == tmp_path / "words" and (tmp_path / "cache" / "vectors").is_dir()


def test_a_word_is_explained(project: Path, report: dict[str, Any]) -> None:
    dataset = str(project / "dataset")

    def shown(word: str) -> dict[str, Any]:
        return json.loads(run("words", "show", dataset, word, *setting("words.terms=terms.toml"), "--json"))

    new, alias, term = shown("Rubrine"), shown("vulpenors"), shown("tungsten light")
    assert (new["word"], new["shown"], new["token"]) == ("rubrine", "Rubrine", "rubrine")
    assert "".join(new["pieces"]) == "rubrine</w>" and len(new["pieces"]) == new["entry"]["pieces"]
    (made,) = (each for each in report["rows"]["words"] if each["word"]["surface"] == "rubrine")
    assert new["made"] == made and new["verdict"] == made["verdict"]
    assert {near["word"] for near in new["neighbours"]} & {"red", "cerulith"}
    assert (alias["token"], alias["verdict"]) == ("vulpenor", "accepted") and term["token"] == "tungsten light"
    assert shown("turrovan")["token"] == "" and "the budget of 3 tokens is spent" in shown("turrovan")["reason"]
    assert "one token already" in shown("gray")["reason"] and shown("gray")["entry"]["clip"]
    assert shown("castle")["reason"] == "no caption has it" and shown("castle")["entry"]["wiki"] > 0
    unknown = shown("rubrinr")
    assert unknown["entry"] is None and unknown["spelt_alike"] == ["rubrine"] and unknown["neighbours"] == []
    assert unknown["pieces"] and unknown["frequency"] == 0
    words = run("words", "show", dataset, "rubrine")
    assert "ru b r ine</w>" in words and "the captions (" in words and "passed" in words


def test_a_word_whose_row_failed_says_which_gate(project: Path, tmp_path: Path) -> None:
    dataset, options = str(project / "dataset"), ("--out", str(tmp_path), *setting("words.terms=terms.toml"))
    (tmp_path / "far.toml").write_text('triggers = ["rubrine"]', "utf-8")
    settings = (f"words.terms={tmp_path / 'far.toml'}", "words.method=subwords", "words.budget=1")
    said = run("words", "build", dataset, "--out", str(tmp_path), *setting(*settings))
    assert (
        "No extension: gates refused the one word that was tried" in said and "rubrine: refused, neighbours: 0" in said
    )
    assert not (tmp_path / "words.safetensors").exists()
    shown = json.loads(run("words", "show", dataset, "rubrine", *options, "--json"))
    assert (shown["verdict"], shown["token"]) == ("refused", "")
    assert "but its row failed: neighbours: 0, wanted 1" in shown["reason"]


def test_nothing_is_explained_before_it_is_built(project: Path, tmp_path: Path) -> None:
    said = refused("words", "show", str(project / "dataset"), "rubrine", "--out", str(tmp_path))
    assert "bespoke words build" in said
    (tmp_path / "report.json").write_text("{", "utf-8")
    assert "is damaged" in refused("words", "show", str(project / "dataset"), "rubrine", "--out", str(tmp_path))
    assert "No word is named" in refused("words", "show", str(project / "dataset"), " ")


def test_the_commands_of_the_page_in_the_docs_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "words.md").read_text("utf-8")
    (block,) = re.findall(r"^## First use\n\n```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (terms,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    captions = [f"8bit illustration of a {w} of carbon fiber" for w in ("halberd", "halberds", "fox", "halberd") * 3]
    root = project_of(tmp_path, captions).rename(tmp_path / "my-style")
    (root / "terms.toml").write_text(terms, "utf-8")
    recipe = root / "recipe.toml"
    recipe.write_text(recipe.read_text("utf-8") + '\n[words]\nmethod = "tournament"\n', "utf-8")
    monkeypatch.chdir(tmp_path)
    lines = block.splitlines()
    plainly, ruled, word, term, a1111, diffusers, model = (run(*shlex.split(line)[1:]) for line in lines)
    assert "my-style/words/index.html" in plainly and "halberd (also halberds, halbert): " in ruled
    assert "halberd" in word and "passed" in word and json.loads(term)["word"] == "carbon fiber"
    assert "“embedding:carbon-fiber”" in a1111 and (tmp_path / "for-a1111" / "carbon-fiber.safetensors").is_file()
    assert "“<carbon-fiber>”" in diffusers and 'from_pretrained("my-model")' in model
    assert (tmp_path / "my-model" / "model_index.json").is_file()
    assert (tmp_path / "for-diffusers" / "_halberd_.safetensors").is_file()


def states(pipeline: Any, prompt: str) -> torch.Tensor:
    return pipeline.encode_prompt(prompt, "cpu", 1, False)[0]


def plain() -> Any:
    return StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32, local_files_only=True)


def test_what_is_exported_means_the_same_in_diffusers(project: Path, tmp_path: Path) -> None:
    ours = find("pico").with_words(project / "words" / "words.safetensors").pipeline()
    prompt = "a rubrine castle in tungsten light"
    inversions = bespoke.export_words(project, tmp_path / "inversions", "diffusers")
    theirs = plain()
    for file in inversions.files.values():
        theirs.load_textual_inversion(str(file.parent), weight_name=file.name)
    assert torch.equal(states(theirs, "a <rubrine> castle in <tungsten-light>"), states(ours, prompt))
    model = bespoke.export_words(project / "dataset", tmp_path / "model", "model")
    whole = StableDiffusionPipeline.from_pretrained(model.folder, dtype=torch.float32, local_files_only=True)
    assert torch.equal(states(whole, prompt), states(ours, prompt))
    assert not torch.equal(states(plain(), prompt), states(ours, prompt))


def test_where_files_go_is_told(project: Path, tmp_path: Path) -> None:
    file = str(project / "words" / "words.safetensors")
    content = json.loads(run("words", "export", file, str(tmp_path / "a"), "--json"))
    assert sorted(content["files"]) == ["rubrine", "tungsten light", "tungsten-light", "vulpenor", "vulpenors"]
    assert {f.stem for f in (tmp_path / "a").iterdir()} == set(content["files"])
    assert "models/embeddings/" in content["how"][1] and "embedding:" in content["how"][1]
    assert "is there already" in refused("words", "export", file, str(tmp_path / "a"))
    assert "no form 'kohya'" in refused("words", "export", file, str(tmp_path / "b"), "--as", "kohya")
    assert "no new words at" in refused("words", "export", str(tmp_path / "b"), str(tmp_path / "c"))


def test_captions_without_words_teach_none(tmp_path: Path) -> None:
    root = project_of(tmp_path, ["a dog", "a cat", "a red dog", "a blue cat"])
    table = root / "dataset" / "train" / "metadata.csv"
    assert table.is_file()
    made = bespoke.build_words(root / "dataset", overrides=("words.method=subwords",))
    assert made.file is None and made.rows.words == () and not made.removed
    with pytest.raises(BespokeError, match="There are no new words"):
        bespoke.export_words(root, tmp_path / "out")
