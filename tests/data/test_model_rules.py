"""The arithmetic over what models say, against other libraries', and the rules over its numbers."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from scipy.spatial.distance import cdist

from bespoke.data.alignment import same_shot
from bespoke.data.clean import Candidate, judge
from bespoke.data.embedding import agreements, directions, fits, nearest, standing
from bespoke.data.inspect import Facts, facts
from bespoke.data.language import other_language
from bespoke.data.missing import missing
from bespoke.data.opinions import Opinion, covered
from bespoke.data.reading import Reading, read
from bespoke.recipe.dataset import Clean

SHOWN = Clean(set_aside=())


def photo(seed: int = 0, side: int = 96) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def thumbnail(image: Image.Image) -> np.ndarray:
    return facts(Reading(image, "", "", *image.size)).thumbnail


def brighter(image: Image.Image, factor: float = 1.06) -> Image.Image:
    return image.point(lambda level: min(255, round(level * factor)))


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round(width * (1 - right)), round(height * (1 - bottom)))
    )


@given(st.integers(0, 2**32), st.integers(31, 60), st.integers(12, 30))
def test_measures_agree_with_scipy(seed, count, texts):
    rng = np.random.default_rng(seed)
    pictures, captions = (directions(rng.normal(size=(n, 8))) for n in (count, texts))
    own = rng.integers(0, texts, count)
    cosines = 1 - cdist(pictures, captions, "cosine")
    assert agreements(pictures, captions, own) == pytest.approx(cosines[np.arange(count), own], abs=1e-5)
    others = [np.delete(row, place) for row, place in zip(cosines, own, strict=True)]
    wanted = [stats.zmap([row[place]], rest)[0] for row, place, rest in zip(cosines, own, others, strict=True)]
    assert fits(pictures, captions, own) == pytest.approx(wanted, abs=1e-3)
    values = rng.normal(size=count)
    robust = (values - np.median(values)) / stats.median_abs_deviation(values, scale=1 / 1.4826)
    assert standing(values) == pytest.approx(robust)
    between = cdist(pictures, pictures, "cosine")
    np.fill_diagonal(between, np.inf)
    places, near = nearest(pictures)
    assert near == pytest.approx(1 - np.sort(between, axis=1)[:, :5], abs=1e-5)
    assert np.take_along_axis(between, places, axis=1) == pytest.approx(1 - near, abs=1e-5)


def test_nothing_is_said_of_too_few():
    pictures = directions(np.random.default_rng(0).normal(size=(20, 4)))
    assert np.isnan(fits(pictures, pictures[:10], np.zeros(20, np.intp))).all()
    assert np.isnan(standing(np.arange(29.0))).all()
    assert np.isnan(standing(np.ones(100))).all()
    assert nearest(pictures[:1])[0].shape == (1, 0)
    assert nearest(pictures[:3])[0].shape == (3, 2)


def test_many_pictures_are_compared_in_blocks():
    pictures = directions(np.random.default_rng(0).normal(size=(1100, 4)))
    places, cosines = nearest(pictures, 1)
    between = pictures @ pictures.T
    np.fill_diagonal(between, -np.inf)
    assert (places[:, 0] == between.argmax(axis=1)).mean() > 0.99, "but for ties"
    assert cosines[:, 0] == pytest.approx(between.max(axis=1), abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        brighter,
        lambda image: brighter(image, 0.9),
        lambda image: cropped(image, 0.03, 0.03, 0.03, 0.03),
        lambda image: cropped(brighter(image), 0.02, 0.03, 0.04, 0.0),
        lambda image: image.resize((40, 40)),
    ],
    ids=["brighter", "darker", "cropped", "both", "smaller"],
)
def test_the_same_shot_is_found_whatever_little_was_done_to_it(change):
    for seed in range(20):
        one, other = thumbnail(photo(seed)), thumbnail(change(photo(seed)))
        assert same_shot(one, other)
        assert same_shot(other, one)


def tinted(image: Image.Image) -> Image.Image:
    red, green, blue = image.split()
    return Image.merge("RGB", (red, blue, green))


def spotted(image: Image.Image) -> Image.Image:
    other = image.copy()
    other.paste((250, 250, 20), (10, 10, 26, 26))
    return other


@pytest.mark.parametrize("change", [tinted, spotted, lambda image: cropped(image, 0.3, 0.3, 0, 0)])
def test_another_picture_is_not_the_same_shot(change):
    assert not any(same_shot(thumbnail(photo(seed)), thumbnail(change(photo(seed)))) for seed in range(20))
    assert not any(same_shot(thumbnail(photo(seed)), thumbnail(photo(seed + 1))) for seed in range(20))


def disc(x: int, y: int, ground: tuple[int, int, int] = (200, 40, 40)) -> Image.Image:
    rows, columns = np.indices((96, 96))
    inside = ((rows - y) ** 2 + (columns - x) ** 2 < 20**2)[..., None]
    return Image.fromarray(np.where(inside, (230, 120, 30), ground).astype(np.uint8))


def test_a_thing_elsewhere_on_the_same_ground_is_not_the_same_shot():
    shots = [thumbnail(disc(x, y)) for x in (25, 45, 70) for y in (25, 45, 70)]
    same = [[same_shot(one, other) for other in shots] for one in shots]
    assert (np.array(same) == np.eye(len(shots), dtype=bool)).all()


def candidate(name: str, image: Image.Image, **opinion: object) -> Candidate:
    known = facts(Reading(image, name, name, *image.size))
    return Candidate(name, known, "a caption", opinion=Opinion(**opinion))


def test_models_find_who_may_be_similar_and_thumbnails_decide():
    one, copy, other = photo(), cropped(brighter(photo()), 0.03, 0.03, 0.03, 0.03), photo(5)
    asked = [candidate("one", one), candidate("copy", copy, near=("one", "other")), candidate("other", other)]
    first, second, third = judge(asked, SHOWN)
    assert (first.like, second.like, third.like) == ("", "one", "")
    assert [doubt for doubt in second.doubts if doubt.startswith("similar: ")]
    assert second.verdict is None
    unasked = [candidate("one", one), candidate("copy", copy), candidate("other", other, near=("one",))]
    assert [j.like for j in judge(unasked, SHOWN)] == ["", "", ""]
    (_, aside, _) = judge(asked, Clean(set_aside=("similar",)))
    assert aside.verdict is not None
    assert aside.verdict.reason == "similar"


def ruled(rules: Clean = SHOWN, text: str = "a caption", **opinion: object) -> set[str]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    one = facts(Reading(image, "", "", *image.size))
    (judgement,) = judge([Candidate("a", one, text, opinion=Opinion(**opinion))], rules)
    return {doubt.partition(":")[0] for doubt in judgement.doubts}


def test_each_number_has_its_rule_and_none_speaks_without_one():
    assert ruled() == set()
    assert ruled(agreement=0.1, fit=0.9, standing=-2.6) == {"does not fit its caption"}
    assert ruled(agreement=0.1, fit=1.1, standing=-9.0) == set(), "it fits better than other captions"
    assert ruled(agreement=0.1, fit=-1.0, standing=-2.0) == set(), "so do most of them"
    assert ruled(strangeness=6.1) == {"unlike the others"}
    assert ruled(unsafe=0.001, strangeness=5.9) == {"unsafe content"}
    assert ruled(unsafe=0.0004) == set()
    assert ruled(writing=0.03) == {"writing"}
    assert ruled(Clean(set_aside=(), maximum_writing=0.5, maximum_unsafe=1.0), writing=0.3, unsafe=0.9) == set()


def test_boxes_of_writing_are_counted_once_and_only_those_named():
    nothing = np.full((2, 6), -1.0)
    things = [[0, 0.9, 0, 0, 0.5, 0.5], [1, 0.9, 0.25, 0, 0.75, 0.5], [2, 0.9, 0, 0, 1, 1], [0, 0.4, 0, 0, 1, 1]]
    row = np.concatenate([things, nothing]).ravel()
    assert covered(row, ("text", "logo", "cat"), ("text", "logo"), 0.5) == pytest.approx(0.375)
    assert covered(row, ("text", "logo", "cat"), ("text",), 0.5) == pytest.approx(0.25)
    assert covered(row, ("text", "logo", "cat"), ("text",), 0.3) == 1
    assert covered(row, ("text", "logo", "cat"), (), 0.5) == 0


GERMAN = "zwei Kinder spielen mit einem Ball am Strand"


@pytest.mark.parametrize(
    "text",
    [
        GERMAN,
        "deux enfants jouent sur la plage",
        "dos niños juegan en la playa",
        "due bambini giocano sulla spiaggia",
        "twee kinderen spelen op het strand",
        "dwoje dzieci bawi się na plaży",
    ],
)
def test_other_languages_are_told(text):
    assert "other language" in ruled(text=text)
    assert "other language" not in ruled(Clean(set_aside=(), language=""), text=text)
    assert "other language" not in ruled(Clean(set_aside=(), minimum_words=20), text=text)


@pytest.mark.parametrize(
    "text",
    [
        "8bit illustration of a koala at night",
        "a cactus in a room",
        "masterpiece, best quality, 1girl, solo, long hair",
        "sushi, ramen, kimono, torii gate",
        "Schloss Neuschwanstein in winter",
        "portrait of Leonardo da Vinci in Firenze",
        "koala, kangaroo, emu, platypus",
        "red sports car, studio lighting, 85mm, f/1.8",
        "sks dog on a beach",
        "Katze",
        "",
    ],
)
def test_short_english_tags_and_names_are_left_alone(text):
    assert "other language" not in ruled(text=text)


def test_any_language_may_be_the_wanted_one():
    assert other_language(GERMAN, "de", 5) is None
    guess = other_language("two children play on a beach", "de", 5)
    assert guess is not None
    assert guess.language == "en"


def encoded(image: Image.Image, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **settings)
    return buffer.getvalue()


def grain(side: tuple[int, int] = (200, 152)) -> Image.Image:
    rough = np.random.default_rng(3).integers(0, 256, (side[1], side[0], 3), dtype=np.uint8)
    return Image.fromarray(rough)


def ended(content: bytes, part: float) -> bytes:
    """The beginning of a JPEG with an end marker."""
    return content[: int(len(content) * part)] + b"\xff\xd9"


@pytest.mark.parametrize("settings", [{"subsampling": 0}, {"subsampling": 2}, {"quality": 95}, {"grey": True}])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.8])
def test_a_jpeg_that_was_cut_and_given_an_end_is_found_out(tmp_path, settings, part):
    image = grain().convert("L") if "grey" in settings else grain()
    whole = encoded(image, **{key: value for key, value in settings.items() if key != "grey"})
    (tmp_path / "cut.jpg").write_bytes(ended(whole, part))
    (tmp_path / "whole.jpg").write_bytes(whole)
    assert facts(read(tmp_path / "cut.jpg")).missing == pytest.approx(1 - part, abs=0.12)
    assert facts(read(tmp_path / "whole.jpg")).missing == 0


def test_a_turned_one_is_found_out_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(ended(encoded(grain(), exif=exif), 0.6))
    assert facts(read(tmp_path / "turned.jpg")).missing == pytest.approx(0.4, abs=0.12)


def test_grey_that_was_painted_is_not_missing():
    assert missing(disc(48, 48, (128, 128, 128))) == 0
    assert missing(Image.new("RGB", (64, 64), (128, 128, 128))) == 0
    black = grain((128, 128))
    black.paste((0, 0, 0), (0, 64, 128, 128))
    assert missing(black) == 0
    assert ruled() == set()


def test_what_is_missing_is_told():
    one = Facts("", "", 64, 64, (), 0, 0, np.zeros((16, 16, 3), np.uint8), sharpness=99.0, deviation=50.0,
                brightest=200.0, entropy=5.0, missing=0.4)  # fmt: skip
    (judgement,) = judge([Candidate("a", one, "x")], SHOWN)
    assert judgement.doubts == ("cut off: 40% of it is the grey that stands for what the file lacks; copy it again",)
