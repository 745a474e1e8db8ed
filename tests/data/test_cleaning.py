"""The rules: what counts as the same picture and what does not, and which of several is kept."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from scipy import ndimage, stats

from bespoke.data.clean import Candidate, Verdict, judge
from bespoke.data.inspect import Facts, exposure, facts, sharpness
from bespoke.data.likeness import Gallery, looks_same
from bespoke.data.reading import Reading, pixel_hash
from bespoke.recipe.dataset import Clean


def flat(shape: str, ground: str = "skyblue", ink: str = "red", side: int = 64) -> Image.Image:
    image = Image.new("RGB", (side, side), ground)
    box = tuple(round(side * part) for part in (0.3, 0.3, 0.7, 0.7))
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse(box, fill=ink)
    elif shape == "square":
        draw.rectangle(box, fill=ink)
    elif shape == "triangle":
        draw.polygon([(box[0], box[3]), (box[2], box[3]), (side // 2, box[1])], fill=ink)
    return image


def known(image: Image.Image) -> Facts:
    return facts(Reading(image, "", pixel_hash(image), *image.size))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def reasons(*images: Image.Image, texts: tuple[str, ...] = ()) -> list[str]:
    texts = texts or ("a caption",) * len(images)
    candidates = [
        Candidate(f"{n}.png", known(image), text) for n, (image, text) in enumerate(zip(images, texts, strict=True))
    ]
    return [j.verdict.reason if j.verdict else "kept" for j in judge(candidates, Clean())]


def photo(seed: int = 0, side: int = 256) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def test_equal_pixels_are_duplicates_and_the_first_is_kept():
    first, second = judge([Candidate(name, known(photo()), "x") for name in ("a.png", "b.png")], Clean())
    assert first.verdict is None
    assert second.verdict == Verdict("duplicate", "the same pixels as a.png, which is kept")


def test_recompressed_and_resized_copies_are_near_duplicates():
    assert reasons(photo(), jpeg(photo(), 80)) == ["kept", "near-duplicate"]
    assert reasons(photo(), photo().resize((100, 100), Image.Resampling.LANCZOS)) == ["kept", "near-duplicate"]
    assert reasons(flat("circle", side=512), jpeg(flat("circle", side=512), 60)) == ["kept", "near-duplicate"]


def test_other_pictures_are_kept():
    assert reasons(*(photo(seed) for seed in range(50))) == ["kept"] * 50


def test_different_objects_on_the_same_ground_are_kept():
    assert reasons(flat("circle"), flat("square"), flat("triangle"), flat("nothing")) == ["kept"] * 3 + ["blank"]


def test_the_same_object_in_other_colours_or_on_other_grounds_is_kept():
    inks = [flat("circle", ink=ink) for ink in ("red", "orange", "brown", "green")]
    grounds = [flat("circle", ground=ground) for ground in ("pink", "lightgrey", "white", "navy")]
    assert reasons(*inks, *grounds) == ["kept"] * 8


def test_a_small_change_in_one_place_is_no_near_duplicate():
    one, other = flat("circle"), flat("circle")
    ImageDraw.Draw(other).rectangle((4, 4, 11, 11), fill="black")
    assert reasons(one, other) == ["kept", "kept"]


def test_a_slight_change_everywhere_is_no_near_duplicate():
    one = photo().point(lambda value: value * 0.8)
    assert reasons(one, one.point(lambda value: value + 2)) == ["kept", "near-duplicate"]
    assert reasons(one, one.point(lambda value: value + 5)) == ["kept", "kept"]
    grey = np.full((32, 32, 3), 100, dtype=np.uint8)
    warmer = grey + np.array([5, 0, 5], dtype=np.uint8)
    halves = np.where(np.arange(32)[:, None, None] < 16, grey + np.uint8(5), grey - np.uint8(5))
    assert not looks_same(grey, warmer)
    assert not looks_same(grey, halves)


def test_captionless_and_small_pictures_are_set_aside_and_do_not_displace_others():
    assert reasons(photo(), photo(), texts=("", "caption")) == ["no caption", "kept"]
    assert reasons(photo(side=31), photo(side=32)) == ["too small", "kept"]


def test_a_mirrored_copy_is_told_from_an_equal_one():
    assert reasons(photo(), ImageOps.mirror(photo())) == ["kept", "mirrored"]
    assert reasons(photo(), photo(), ImageOps.mirror(photo(1))) == ["kept", "duplicate", "kept"]


def test_the_best_of_a_group_is_kept_whatever_the_order():
    small, large = photo(), photo().resize((512, 512), Image.Resampling.BICUBIC)
    assert reasons(small, large, jpeg(small, 90)) == ["near-duplicate", "kept", "near-duplicate"]
    lossless, lossy = known(photo()), replace(known(jpeg(photo(), 90)), format="JPEG", bytes=10**9)
    verdicts = [j.verdict for j in judge([Candidate("a", lossy, "x"), Candidate("b", lossless, "x")], Clean())]
    assert verdicts == [Verdict("near-duplicate", "looks the same as b, which is kept"), None]
    more = replace(lossy, pixels="other", format="JPEG", bytes=2 * 10**9)
    first, second = judge([Candidate("a", lossy, "x"), Candidate("b", more, "x")], Clean())
    assert (first.like, second.verdict) == ("b", None)


def test_a_restored_picture_stays_beside_the_better_one():
    candidates = [Candidate("a", known(jpeg(photo(), 80)), "x", restored=True), Candidate("b", known(photo()), "x")]
    first, second = judge(candidates, Clean())
    assert (first.verdict, first.like, second.verdict) == (None, "b", None)
    assert judge([Candidate("a", known(photo()), "", restored=True)], Clean())[0].verdict is not None


def sharp(side: int = 256) -> Image.Image:
    grain = np.random.default_rng(5).integers(-8, 9, (side, side, 3))
    return Image.fromarray((np.asarray(photo(side=side)) + grain).clip(0, 255).astype(np.uint8))


def ruled(image: Image.Image, text: str = "a picture of a thing", **more: object) -> set[str]:
    """The rules that find fault with one picture, none of which sets it aside."""
    candidate = Candidate("a", replace(known(image), **more), text)
    (judgement,) = judge([candidate], Clean(set_aside=()))
    assert judgement.verdict is None
    return {doubt.partition(":")[0] for doubt in judgement.doubts}


def test_each_rule_finds_its_fault_and_no_other():
    good = sharp()
    framed = Image.new("RGB", (256, 256), "black")
    framed.paste(good.resize((256, 160)), (0, 48))
    blocky = photo(side=512).resize((512, 512)).filter(ImageFilter.GaussianBlur(2))
    assert ruled(good) == set()
    assert ruled(good.filter(ImageFilter.GaussianBlur(16))) == {"blurry"}
    assert ruled(good.point(lambda v: v / 8)) == {"blurry", "dark"}
    assert ruled(good.point(lambda v: 238 + v / 16)) == {"blurry", "bright"}
    assert ruled(Image.new("RGB", (64, 64), (90, 120, 40))) == {"blank", "blurry", "little detail"}
    assert ruled(flat("circle", side=256)) == set()
    assert ruled(framed) == {"bars"}
    assert ruled(framed.rotate(90)) == {"bars"}
    assert ruled(sharp(400).crop((0, 0, 400, 100))) == {"narrow"}
    assert "JPEG blocks" in ruled(jpeg(blocky, 5), blocks=facts_of_jpeg(blocky, 5).blocks)
    assert facts_of_jpeg(blocky, 95).blocks < 0.2
    assert facts_of_jpeg(flat("square", side=256), 90).blocks < 0.5


def facts_of_jpeg(image: Image.Image, quality: int) -> Facts:
    decoded = jpeg(image, quality)
    return facts(Reading(decoded, "", pixel_hash(decoded), *decoded.size, format="JPEG"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a café's naïve “menu”", set()),
        ("cafÃ© on a plate", {"broken letters"}),
        ("a \ufffd cat", {"broken letters"}),
        ("a cat &amp; a dog", {"markup"}),
        ("a cat, https://example.org/cat.jpg", {"markup"}),
        ("красное яблоко", {"other script"}),
        ("8bit 猫", set()),
        ("一只红色的猫 cat", {"other script"}),
        ("1234 :-)", set()),
    ],
)
def test_captions_are_looked_at(text, wanted):
    assert ruled(sharp(), text) == wanted


def test_a_rule_that_is_listed_sets_aside():
    blurred = known(photo().filter(ImageFilter.GaussianBlur(16)))
    (judgement,) = judge([Candidate("a", blurred, "x")], Clean(set_aside=("blurry",)))
    assert judgement.verdict is not None
    assert judgement.verdict.reason == "blurry"
    assert judge([Candidate(n, known(photo()), "x") for n in "ab"], Clean(set_aside=()))[1].like == "a"


@given(st.integers(0, 2**32), st.integers(3, 40), st.integers(3, 40))
def test_measures_agree_with_scipy(seed, height, width):
    grey = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    laplacian = ndimage.laplace(grey.astype(float))[1:-1, 1:-1]
    assert sharpness(grey.astype(np.float32)) == pytest.approx(laplacian.var(), rel=1e-4, abs=1e-3)
    counts = np.bincount(grey.ravel(), minlength=256)
    darkest, brightest, deviation, entropy = exposure(counts.tolist())
    assert entropy == pytest.approx(stats.entropy(counts, base=2))
    assert deviation == pytest.approx(grey.std(), abs=1e-6)
    assert darkest == np.quantile(grey, 0.05, method="inverted_cdf")
    assert brightest == np.quantile(grey, 0.95, method="inverted_cdf")


def test_minimum_side_is_the_shorter_one():
    (judgement,) = judge([Candidate("a.png", known(photo().resize((500, 63))), "x")], Clean(minimum_side=64))
    assert judgement.verdict == Verdict("too small", "500×63; the shorter side must have 64 pixels")


def test_a_large_gallery_finds_what_it_holds_and_nothing_else():
    rng = np.random.default_rng(0)
    thumbnail = np.zeros((16, 16, 3), dtype=np.uint8)
    gallery = Gallery()
    for number in range(1_000):
        item = Facts("", str(number), 64, 64, (), int(rng.integers(2**63)), 0, thumbnail)
        assert not gallery.alike(item)
        gallery.add(item, str(number))
    assert gallery.alike(item) == "999"


@pytest.mark.parametrize("plain", [False, True], ids=["photographs", "plain grounds"])
def test_the_gallery_finds_what_comparing_with_every_picture_finds(plain):
    rng = np.random.default_rng(3)
    gallery, seen = Gallery(), list[Facts]()
    for number in range(600):
        dhash = int(rng.integers(2**16 if plain else 2**63))
        if seen and rng.random() < 0.5:
            dhash = seen[int(rng.integers(len(seen)))].dhash ^ sum({1 << int(b) for b in rng.integers(0, 64, 3)})
        thumbnail = np.full((16, 16, 3), 100 + rng.integers(0, 3), dtype=np.uint8)
        item = Facts("", str(number), 64, 64, (), dhash, 0, thumbnail)
        wanted = (o.pixels for o in seen if (o.dhash ^ dhash).bit_count() <= 2 and looks_same(o.thumbnail, thumbnail))
        assert gallery.alike(item) == next(wanted, "")
        gallery.add(item, item.pixels)
        seen.append(item)


@given(st.integers(0, 2**32))
def test_looking_the_same_is_symmetric_and_reflexive(seed):
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    other = (one.astype(int) + rng.integers(-6, 7, one.shape)).clip(0, 255).astype(np.uint8)
    assert looks_same(one, one)
    assert looks_same(one, other) == looks_same(other, one)
