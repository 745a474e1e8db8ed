"""What a picture's file says of how it was made, in every format, to us and to others; and drawing it again."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.pipeline.sample import sample, sample_again
from bespoke.recipe.tree import Sample
from bespoke.sampling import FORMATS, Drawn, Request, made, save_picture

QUICK = Sample(num_inference_steps=3, guidance_scale=2.0)


def drawn(prompt="a cat", seed=1, image=None):
    return Drawn(Request(prompt, seed, image), Image.new("RGB", (16, 8), (10, 20, 30)))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prompt", ["a cat", "Ein Löwe — 狮子 🦁", 'with "quotes", commas: 1\nand two lines'])
def test_every_format_says_how_it_was_made(tmp_path, form, prompt):
    wish = QUICK.model_copy(update={"negative_prompt": "blurry, red", "scheduler": "euler_a", "clip_skip": 1})
    file = tmp_path / f"a.{form}"
    save_picture(drawn(prompt, 77), file, wish, "runs/one", adapter_weight=0.5)
    found = made(file)
    assert (found.model, found.prompt, found.seed, found.adapter_weight) == ("runs/one", prompt, 77, 0.5)
    assert Sample(**found.settings) == wish


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_every_format_says_that_a_machine_made_it_in_iptcs_words(tmp_path, form):
    file = tmp_path / f"a.{form}"
    save_picture(drawn(), file, QUICK, "pico")
    with Image.open(file) as picture:
        packet = picture.info.get("xmp") or picture.info["XML:com.adobe.xmp"]
    packet = packet.decode() if isinstance(packet, bytes) else packet
    tree = ElementTree.fromstring(packet.strip("\0"))
    (about,) = tree.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    said = about.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"]
    assert said == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def test_a_jpeg_has_a1111s_words_where_a1111_puts_them(tmp_path):
    save_picture(drawn("a löwe", 5), tmp_path / "a.jpeg", QUICK, "pico")
    with Image.open(tmp_path / "a.jpeg") as picture:
        comment = picture.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be").startswith("a löwe\nSteps: 3, ")


A1111 = (
    "a (red:1.2) car, <lora:style:0.8>\nNegative prompt: blurry, ugly\n"
    "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 123, Size: 512x768, "
    'Model hash: abcdef, Model: v1-5, Clip skip: 2, Lora hashes: "style: 12ab, other: 34cd", Version: v1.10.1'
)


def test_pictures_of_a1111_are_understood(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", A1111)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    found = made(tmp_path / "a.png")
    assert (found.prompt, found.seed, found.model) == ("a (red:1.2) car, <lora:style:0.8>", 123, "v1-5")
    assert Sample(**found.settings) == Sample(
        num_inference_steps=25, guidance_scale=6.5, negative_prompt="blurry, ugly", scheduler="dpm++_2m_karras",
        width=512, height=768, clip_skip=1,
    )  # fmt: skip
    assert not found.begun


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("DPM++ 2M Karras", "dpm++_2m_karras"),
        ("DPM++ 2M", "dpm++_2m"),
        ("DPM++ 2M, Schedule type: Automatic", "dpm++_2m_karras"),
        ("Euler a, Schedule type: Automatic", "euler_a"),
        ("Euler, Schedule type: Beta", "euler_beta"),
        ("Restart, Schedule type: Automatic", "default"),
    ],
)
def test_a1111s_names_of_samplers_are_understood_before_and_since_it_names_schedule_types(said, name):
    from bespoke.recipe.made import read

    assert read(f"a cat\nSteps: 9, Sampler: {said}, Seed: 1").settings["scheduler"] == name


@pytest.mark.parametrize("text", ["", "hello", "Steps: many", "a cat\nSteps: many, Seed: 5"])
def test_a_picture_that_says_nothing_and_a_file_that_is_none_are_told(tmp_path, text):
    from PIL.PngImagePlugin import PngInfo

    save = tmp_path / "a.png"
    info = PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(save, pnginfo=info)
    with pytest.raises(BespokeError, match="does not say how it was made"):
        made(save)
    (tmp_path / "b.png").write_text(text)
    with pytest.raises(BespokeError, match="is no picture"):
        made(tmp_path / "b.png")


@settings(deadline=None, max_examples=25)
@given(
    prompt=st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30),
    steps=st.integers(1, 90), clip_skip=st.integers(0, 3), hires=st.sampled_from([1.0, 2.0]),
)  # fmt: skip
def test_what_is_written_is_what_is_read(tmp_path_factory, prompt, steps, clip_skip, hires):
    wish = Sample(num_inference_steps=steps, guidance_scale=3.0, clip_skip=clip_skip, hires_scale=hires)
    file = tmp_path_factory.mktemp("stamp") / "a.webp"
    save_picture(drawn(prompt), file, wish, "pico")
    found = made(file)
    assert (found.prompt, Sample(**found.settings)) == (prompt, wish)


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_picture_is_drawn_again_from_its_file_alone_by_the_command(tmp_path, run):
    (tmp_path / "colour.txt").write_text("# colours\nred\nblue\n")
    wish = {"settings": QUICK, "overrides": ["sample.scheduler=Euler a", "sample.width=96"], "safety_checker": False}
    first = sample(
        str(run), ["a {cat|dog} on a __colour__ background"], out=tmp_path / "one", seed=8, wildcards=tmp_path, **wish
    )
    told = made(first.pictures[0])
    assert re.fullmatch("a (cat|dog) on a (red|blue) background", told.prompt)
    command = [
        "sample",
        "--from",
        str(first.pictures[0]),
        "--out",
        str(tmp_path / "two"),
        "--no-safety-checker",
        "--json",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (again,) = json.loads(done.stdout)["pictures"]
    assert (pixels(again) == pixels(first.pictures[0])).all() and pixels(again).shape == (64, 96, 3)
    other = sample_again(first.pictures[0], "pico", out=tmp_path / "three", safety_checker=False)
    assert (pixels(other.pictures[0]) != pixels(again)).any(), "another model draws another picture"


def test_a_picture_that_began_with_another_needs_it_again(tmp_path):
    begun = tmp_path / "begun.png"
    Image.new("RGB", (64, 64), (200, 40, 40)).save(begun)
    how = {"settings": QUICK, "safety_checker": False}
    first = sample("pico", ["a red apple"], out=tmp_path / "one", image=begun, **how)
    with pytest.raises(BespokeError, match="began with another picture"):
        sample_again(first.pictures[0], out=tmp_path / "two", safety_checker=False)
    again = sample_again(first.pictures[0], out=tmp_path / "two", image=begun, safety_checker=False)
    assert (pixels(again.pictures[0]) == pixels(first.pictures[0])).all()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["sample", "pico", "a cat", "--mask", "a.png"], "mask of no picture"),
        (["sample", "pico", "a cat", "--image", "none.png"], "cannot be read"),
        (["sample", "pico", "a cat", "--wildcards", "none"], "no folder none"),
        (["sample", "pico", "a cat", "--from", "a.png"], "takes prompt and seed"),
        (["sample"], "Name a model"),
        (["sample", "pico", "a cat <lora:missing:1>"], "no adapter 'missing'"),
        (["sample", "pico", "a cat", "--set", "sample.scheduler=eulr"], "no scheduler 'eulr'"),
        (["sample", "pico", "a cat", "--set", "sample.format=gif"], "sample.format"),
    ],
)
def test_what_cannot_be_drawn_is_told_before_anything_is(tmp_path, monkeypatch, words, problem):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and problem in " ".join(done.output.split()), done.output
    assert not list(tmp_path.iterdir())


def test_a_picture_of_sixteen_bits_is_begun_with_as_one_of_eight(tmp_path):
    deep = np.full((64, 64), 40 * 257, np.uint16)
    deep[16:48, 16:48] = 200 * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray((deep // 257).astype(np.uint8)).save(tmp_path / "plain.png")
    drawn = [
        sample(
            "pico", ["a cat"], out=tmp_path / name, image=tmp_path / f"{name}.png", settings=QUICK, safety_checker=False
        )
        for name in ("deep", "plain")
    ]
    deep_one, plain_one = (pixels(one.pictures[0]) for one in drawn)
    assert (deep_one == plain_one).all()
