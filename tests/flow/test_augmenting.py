"""`bespoke data augment --preview` as a person uses it: the page shows what training's encoder is shown, no other."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.data import Transform, fit
from bespoke.encoding import LatentEncoder, TextEncoder
from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.pipeline.augment import WAYS, done
from bespoke.pipeline.material import Encoder
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.wordings import speller_for
from bespoke.workspace import Project, relative

EIGHT_BIT = sorted((Path(__file__).parents[2] / "examples" / "8bit" / "reference").glob("*.png"))
PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
EVERYTHING = (
    "data.random_flip=true", "data.crop=random", "data.random_rotation=8", "data.random_scale=1.3",
    "data.crop_jitter=0.05", "data.color_jitter=0.2", "data.hue_jitter=0.1", "data.image_variations=3",
)  # fmt: skip


def run(*arguments: str) -> str:
    """What a command printed."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output + done.stderr
    return done.stdout


def setting(*settings: str) -> list[str]:
    return [part for each in settings for part in ("--set", each)]


def embedded(html: str) -> list[np.ndarray]:
    """The pixels of the versions on a page."""
    sources = re.findall(r'src="data:image/\w+;base64,([^"]+)" alt="version', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB")) for source in sources]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of a dozen photographs of several shapes, one of them with a caption that names left and right."""
    source = tmp_path_factory.mktemp("augment") / "source"
    source.mkdir()
    for number in range(12):
        shutil.copy(PHOTOS / f"photo-{number:02}.jpg", source)
        (source / f"photo-{number:02}.txt").write_text(f"picture {number}")
    (source / "photo-03.txt").write_text("a cat left of a (red hat:1.3)")
    (source / "photo-05.txt").write_text("a very long view of a tall house " * 12)
    root = source.parent / "project"
    run("new", str(root), "--images", str(source), *setting("data.validation_fraction=0"))
    return root


def test_the_versions_on_the_page_are_those_that_the_encoder_caches(project: Path, tmp_path: Path) -> None:
    work = shutil.copytree(project, tmp_path / "project")
    made = bespoke.augment(work / "dataset", 12, recipe=work / "recipe.toml", overrides=EVERYTHING)
    shown = iter(embedded(made.preview.read_text("utf-8")))
    ready = prepare(work / "recipe.toml", (*EVERYTHING, "train.num_class_images=0"))
    checkpoint = find("pico")
    material = Encoder(ready.project, checkpoint, ready.recipe, silent).material(ready.dataset, work / "dataset")
    encoder = LatentEncoder(checkpoint.vae(), torch.device("cpu"))
    examples = {example.key: example for example in material.train}
    assert {each.picture.pixels for each in made.pictures} == set(examples)
    for each in made.pictures:
        rows = examples[each.picture.pixels].latents
        assert len(rows) == len(each.versions) == (3 if each.picture.file == "photo-03.jpg" else 4)
        for row, (_, fitted) in zip(rows, each.versions, strict=True):
            pixels = next(shown)
            assert np.array_equal(pixels, fitted.pixels)
            encoded = encoder(lambda _, pixels=pixels: pixels, [0])
            assert torch.equal(encoded, material.latents[[row]])
    assert next(shown, None) is None
    shapes = {fitted.target_size for each in made.pictures for _, fitted in each.versions}
    assert len(shapes) > 1


def test_a_few_pictures_are_shown_with_what_was_done_and_nothing_is_changed(project: Path) -> None:
    before = files(project)
    printed = run("data", "augment", str(project / "dataset"), "--preview", "--json", *setting(*EVERYTHING))
    content = json.loads(printed)
    assert (len(content["pictures"]), content["varied"]) == (5, True)
    page = Path(content["preview"])
    assert page == Path(relative(project / "dataset" / "report" / "augment.html"))
    html = page.read_text("utf-8")
    assert html.count('alt="version') == sum(len(each["versions"]) for each in content["pictures"])
    assert "turned " in html and "brightness ×" in html and "mirrored<" in html and "hues turned by" in html
    after = files(project)
    assert after.keys() - before.keys() == {"dataset/report/augment.html"}
    assert all(after[name] == content for name, content in before.items())
    again = run("data", "augment", str(project / "dataset"), "--preview", "--json", *setting(*EVERYTHING))
    assert again == printed
    assert page.read_text("utf-8") == html


def test_what_is_to_know_of_a_picture_stands_with_it(project: Path, tmp_path: Path) -> None:
    made = bespoke.augment(project / "dataset", 99, out=tmp_path, overrides=["data.random_flip=true"])
    html = made.preview.read_text("utf-8")
    assert made.preview == tmp_path / "augment.html"
    assert (len(made.pictures), made.of) == (12, 12)
    assert "Never mirrored: the caption names left or right." in html
    assert "“red hat” counts 1.3" in html
    unread = re.findall(r"<s [^>]+>([^<]+)</s>", html)
    assert len(unread) == 1 and unread[0].endswith("a very long view of a tall house")
    assert {len(each.versions) for each in made.pictures} == {1, 2}
    assert "In 5 % of the visits the caption is left out" in html


def test_a_recipe_without_chance_is_told_what_to_set(project: Path, tmp_path: Path) -> None:
    printed = run("data", "augment", str(project / "dataset"), "--preview", "2")
    html = (project / "dataset" / "report" / "augment.html").read_text("utf-8")
    assert "What is the same in every epoch can be varied" in printed
    assert "What the recipe leaves as it is" in html and html.count('alt="version') == 2
    for way in WAYS:
        assert f"--set {way}" in printed and f"--set {way}" in html
        made = bespoke.augment(project / "dataset", 4, out=tmp_path, overrides=[way])
        assert made.varied
        assert any(len(each.versions) > 1 and not each.alike for each in made.pictures), way


def test_pictures_are_spread_from_the_narrowest_to_the_widest(project: Path, tmp_path: Path) -> None:
    aspects = [
        each.picture.width / each.picture.height
        for each in bespoke.augment(project / "dataset", 3, out=tmp_path).pictures
    ]
    assert aspects == sorted(aspects)
    assert aspects[0] < 1 < aspects[-1]


def test_versions_that_are_all_the_same_are_told(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "source" / f"{number}.png")
        (tmp_path / "source" / f"{number}.txt").write_text(f"noise {number}")
    bespoke.import_data(tmp_path / "source", tmp_path / "dataset")
    made = bespoke.augment(tmp_path / "dataset", 1, overrides=["data.crop=random"])
    assert made.pictures[0].alike
    assert "Its 4 versions are all the same" in made.preview.read_text("utf-8")


def test_what_was_done_is_told_in_words() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8))

    def told(transform: Transform) -> tuple[str, ...]:
        return done(transform, fit(image, transform))

    assert told(Transform((200, 100))) == ("size as it is", "the whole picture")
    assert told(Transform((50, 50))) == ("made smaller: × 0.50", "shows 50 % of it, cut out in the middle")
    assert told(Transform((400, 200), mirrored=True, hue=-0.1)) == (
        "made larger: × 2.00", "the whole picture", "mirrored", "hues turned by −36.0°",
    )  # fmt: skip
    turned = told(Transform((64, 64), -5.0, (0.1, 0.0, 0.0, 0.02), 1.2, crop=(0.25, 1.0), colors=(1.1, 1.0, 0.9)))
    assert turned[:3] == ("turned 5.0° to the right", "cut off: left 10 %, top 0 %, right 0 %, bottom 2 %",
                          "zoomed in 1.20 times")  # fmt: skip
    assert turned[4].endswith("cut out 25 % across, 100 % down")
    assert turned[5] == "brightness × 1.10, contrast × 1.00, saturation × 0.90"
    assert told(Transform((50, 50), crop="saliency"))[1] == "shows 50 % of it, cut out where it stands out most"


def test_what_cannot_be_shown_is_told(project: Path) -> None:
    for arguments, said in (
        ((), "bespoke data augment DATASET --preview"),
        (("--preview", *setting("model.base=nobody/knows-this")), "depends on the base model"),
        (("--preview", *setting("data.random_flp=true")), "data.random_flip"),
    ):
        done = CliRunner().invoke(app, ["data", "augment", str(project / "dataset"), *arguments])
        assert done.exit_code == 2, done.output + done.stderr
        assert said in " ".join((done.output + done.stderr).split())
    with pytest.raises(BespokeError, match="nowhere"):
        bespoke.augment(project / "nowhere")


@pytest.mark.parametrize("arguments", [["--preview", "{}"], ["{}", "--preview"], ["{}", "--preview=5"]])
def test_the_number_may_be_left_out(project: Path, arguments: list[str]) -> None:
    words = [word.format(project / "dataset") for word in arguments]
    assert len(json.loads(run("data", "augment", *words, "--json"))["pictures"]) == 5


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of captioned pictures; two of the captions have a short one beside them, in a column of the table."""
    source = tmp_path_factory.mktemp("captioned") / "source"
    source.mkdir()
    lines = ["file_name,text,short,split"]
    said = (
        "a big car on a red background", "a small bycicle on a blue background", "a rabbit on a green background",
        "a television on a white background", "a taxi on a pink background", "a big elephant on a gray background",
        "an airplane on a blue background", "a bicycle on a brown background", "a gift on a black background",
    )  # fmt: skip
    for number, text in enumerate(said):
        shutil.copy(EIGHT_BIT[number], source / f"{number}.png")
        split = "validation" if number == len(said) - 1 else "train"
        lines.append(f"{number}.png,{text},{'a car' if number == 0 else ''},{split}")
    (source / "metadata.csv").write_text("\n".join(lines), "utf-8")
    root = source.parent / "project"
    run("new", str(root), "--images", str(source), *setting("data.validation_fraction=0"))
    return root


WORDED = ("augment.variants=4", "augment.spelling=0.3", 'augment.captions=["short"]', "train.num_class_images=0")


def test_the_wordings_on_the_page_are_those_that_training_reads(captioned: Path, tmp_path: Path) -> None:
    work = shutil.copytree(captioned, tmp_path / "project")
    made = bespoke.augment(work / "dataset", 9, images=False, overrides=WORDED)
    assert all(not each.versions for each in made.pictures)
    html = made.preview.read_text("utf-8")
    assert html.count('alt="version') == 0
    ready = prepare(work / "recipe.toml", WORDED)
    checkpoint = find("pico")
    material = Encoder(ready.project, checkpoint, ready.recipe, silent).material(ready.dataset, work / "dataset")
    encoder = TextEncoder(checkpoint.tokenizer(), checkpoint.text_encoder(), torch.device("cpu"))
    examples = {example.key: example for example in material.train}
    assert sum(len(example.wordings) for example in examples.values()) > len(examples)
    for each in made.pictures:
        others, example = made.wordings.others(each.picture), examples[each.picture.pixels]
        assert len(others) == len(example.wordings)
        assert each.picture.text not in others
        for text, row in zip(others, example.wordings, strict=True):
            assert f"<bdi>{text}</bdi>" in html
            assert torch.equal(material.texts[[row]], encoder([text]))
    (short,) = (e for e in made.pictures if "a car" in made.wordings.others(e.picture))
    assert short.picture.text == "a big car on a red background"
    assert all(not example.wordings for example in material.validation)


def test_each_half_of_the_page_can_be_shown_alone(captioned: Path) -> None:
    dataset = str(captioned / "dataset")
    command = ("data", "augment", dataset, "--preview", "--json", *setting(*WORDED, "data.random_flip=true"))
    whole, images, captions = (json.loads(run(*command, *more)) for more in ((), ("--images",), ("--captions",)))
    assert all(each["versions"] and each["wordings"] for each in whole["pictures"])
    assert all(each["versions"] and not each["wordings"] for each in images["pictures"])
    assert all(not each["versions"] and each["wordings"] for each in captions["pictures"])
    assert [each["wordings"] for each in whole["pictures"]] == [each["wordings"] for each in captions["pictures"]]


def test_misspelt_captions_are_mended_where_the_recipe_says_so(captioned: Path, tmp_path: Path) -> None:
    work = shutil.copytree(captioned, tmp_path / "project")
    checkpoint, heard = find("pico"), list[str]()

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        heard.append(note)

    def rows(*overrides: str) -> torch.Tensor:
        ready = prepare(work / "recipe.toml", ("train.num_class_images=0", *overrides))
        material = Encoder(ready.project, checkpoint, ready.recipe, report).material(ready.dataset, work / "dataset")
        return material.texts[[e.text for e in sorted(material.train, key=lambda e: e.key)]]

    encoder = TextEncoder(checkpoint.tokenizer(), checkpoint.text_encoder(), torch.device("cpu"))
    wrong, right = (encoder([f"a small {word} on a blue background"]) for word in ("bycicle", "bicycle"))
    before, after = rows(), rows("text.repair=true")
    assert any(torch.equal(row[None], wrong) for row in before)
    assert not any(torch.equal(row[None], wrong) for row in after)
    assert any(torch.equal(row[None], right) for row in after)
    assert any("bycicle → bicycle" in note for note in heard)
    assert len(before) == len(after) == 8


def test_a_column_that_no_picture_has_is_told(captioned: Path) -> None:
    with pytest.raises(BespokeError, match="No picture has a caption in the column 'long'"):
        bespoke.augment(captioned / "dataset", 3, overrides=['augment.captions=["long"]'])


def test_synonyms_come_from_word_vectors_where_the_recipe_says_so(captioned: Path, tmp_path: Path) -> None:
    """From a file in GloVe's format, whose neighbours no list of ours knows; a terms file protects words from it."""
    work = shutil.copytree(captioned, tmp_path / "project")
    rows = {"elephant": "1 0 0", "pachyderm": "0.99 0.1 0", "rabbit": "0 1 0", "coney": "0.1 0.99 0"}
    (work / "glove.txt").write_text("".join(f"{word} {row}\n" for word, row in rows.items()), "utf-8")
    settings = [
        "augment.variants=6", "augment.synonyms=1.0", 'augment.synonym_sources=["vectors"]', "augment.similarity=0",
        "words.vectors=glove.txt",
    ]  # fmt: skip

    def said(*more: str) -> set[str]:
        made = bespoke.augment(work / "dataset", 9, images=False, overrides=[*settings, *more])
        return {word for each in made.pictures for text in made.wordings.others(each.picture) for word in text.split()}

    def refused(*more: str) -> set[str]:
        made = bespoke.augment(work / "dataset", 9, images=False, overrides=[*settings, *more])
        return {word for each in made.wordings.of.values() for no in each.refused for word in no.text.split()}

    assert not {"pachyderm", "coney"} & said(), "nothing vouches for them"
    assert {"pachyderm", "coney"} <= refused()
    (work / "terms.toml").write_text('protected = ["elephant"]', "utf-8")
    some = refused("words.terms=terms.toml")
    assert "coney" in some and "pachyderm" not in some


def test_the_lexicon_tells_which_words_are_misspelt(captioned: Path, tmp_path: Path) -> None:
    work = shutil.copytree(captioned, tmp_path / "project")
    known = speller_for(["a helicoptre"], find("pico"), Project(work)).meant
    (work / "text.txt").write_text("the zeppelin flew over the town\n" * 20, "utf-8")
    assert known("zepelin") == "zepelin"
    build = ("words.wiki=text.txt", "words.method=subwords")
    bespoke.build_words(work / "dataset", overrides=build)
    assert speller_for(["a helicoptre"], find("pico"), Project(work)).meant("zepelin") == "zeppelin"
