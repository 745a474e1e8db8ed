"""How harsh pictures look: known values, pictures pushed with Pillow each named, and false alarms counted."""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import signal

from bespoke.errors import BespokeError
from bespoke.evaluation.burnt import STATISTICS, burnt, looks

EXAMPLES = Path(__file__).parents[2] / "examples" / "8bit" / "reference"
NAMES = [statistic.name for statistic in STATISTICS]


def opened(count=100):
    return [Image.open(file).convert("RGB") for file in sorted(EXAMPLES.glob("*.png"))[:count]]


def seen(pictures):
    return [looks(np.asarray(picture)) for picture in pictures]


@pytest.fixture(scope="module")
def own():
    """How a hundred drawn pictures look; half are references, the rest the base's."""
    return seen(opened())


@pytest.fixture(scope="module")
def pale():
    return seen([ImageEnhance.Color(picture).enhance(0.6) for picture in opened()])


def tiled(picture, times=2):
    small = picture.resize((picture.width // times, picture.height // times))
    wide = Image.new("RGB", picture.size)
    for number in range(times**2):
        wide.paste(small, (number % times * small.width, number // times * small.height))
    return wide


def noisy(picture):
    noise = np.random.default_rng(0).normal(0, 30, (picture.height, picture.width, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Image.open(file).convert("RGB")


def flat(value, size=(40, 30)):
    return np.full((*size, 3), value, np.uint8)


def test_a_plain_picture_has_nothing_of_anything():
    look = asdict(looks(flat(128)))
    assert look.pop("side") == 1200**0.5
    assert list(look.values()) == pytest.approx([0] * 7, abs=1e-12)


def test_colours_have_the_saturation_that_is_written():
    picture = flat(100)
    picture[:10] = (200, 50, 100)
    look = looks(picture)
    assert look.saturation == pytest.approx(150 / 255 / 4)
    assert look.vividness == pytest.approx(150 / 255)
    assert look.colours == pytest.approx(-(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)))


def test_contrast_is_the_deviation_of_luma():
    picture = flat(0)
    picture[:15] = 255
    picture[15:30] = (255, 0, 0)
    luma = np.repeat([1, 0.299, 0], [15, 15, 10])
    assert looks(picture).contrast == pytest.approx(luma.std())
    assert looks(picture).clipped == 1


def test_channel_values_near_the_ends_are_clipped():
    picture = flat(100)
    picture[0, :, 0], picture[1, :, 1], picture[2, :, 2] = 2, 253, 3
    assert looks(picture).clipped == pytest.approx(2 * 30 / (40 * 30 * 3))


def wave(frequency, size=128, angle=0.0):
    y, x = np.mgrid[:size, :size]
    turned = 128 + 100 * np.sin(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y))
    return np.repeat(turned[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("angle", [0, 0.5, np.pi / 2])
def test_a_wave_is_fine_detail_above_a_quarter_of_the_sampling_rate(angle):
    assert looks(wave(0.2, angle=angle)).high_frequency < 0.01
    assert looks(wave(0.3, angle=angle)).high_frequency > 0.99


def test_white_noise_has_the_share_of_the_plane_beyond_a_quarter():
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 1), dtype=np.uint8).repeat(3, axis=2)
    assert looks(noise).high_frequency == pytest.approx(1 - np.pi / 16, abs=0.02)
    assert looks(noise).repetition < 0.2


def test_the_jump_between_opposite_edges_is_no_detail():
    ramp = np.linspace(0, 255, 128).astype(np.uint8)[None, :, None].repeat(128, axis=0).repeat(3, axis=2)
    assert looks(ramp).high_frequency < 0.001
    assert looks(ramp).repetition < 0.1


@pytest.mark.parametrize("times", [2, 3])
def test_a_tiled_picture_repeats(times):
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 3), dtype=np.uint8)
    patch = np.tile(noise, (times, times, 1))
    assert looks(patch).repetition > 0.95
    assert looks(np.tile(noise, (1, times, 1))).repetition > 0.95
    large = Image.fromarray(patch).resize((700, 700), Image.Resampling.BICUBIC)
    assert looks(np.asarray(large)).repetition > 0.8


def test_what_stays_alike_along_a_line_does_not_repeat():
    """A horizon is alike at every lag along it, but its likeness never comes up again."""
    rows = np.random.default_rng(1).integers(0, 256, (96, 1, 3), dtype=np.uint8)
    blurred = Image.fromarray(rows.repeat(96, axis=1)).filter(ImageFilter.GaussianBlur(8))
    assert looks(np.asarray(blurred)).repetition < 0.3


def test_repetition_is_the_autocorrelation_of_scipy():
    """Where one peak stands alone: a patch on a plain ground that comes twice."""
    plane = np.zeros((64, 64))
    patch = np.random.default_rng(0).standard_normal((12, 12))
    plane[8:20, 8:20] = plane[8:20, 34:46] = patch
    picture = np.repeat((128 + 20 * plane).clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    correlation = signal.correlate(plane, plane)
    expected = correlation[63, 63 + 26] / (plane[:, 26:] ** 2).sum() ** 0.5 / (plane[:, :-26] ** 2).sum() ** 0.5
    assert looks(picture).repetition == pytest.approx(expected, abs=0.1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@example(3, 3, 228)  # all its power is high: a sum over the rest of it was larger by a last bit
@settings(max_examples=60)
def test_pictures_of_any_size_have_figures_within_bounds(height, width, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    look = asdict(looks(picture))
    assert look.pop("side") == pytest.approx((height * width) ** 0.5)
    assert 0 <= look.pop("colours") <= 12 and look["contrast"] <= 0.5
    assert all(0 <= value <= 1 for value in look.values())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_turning_and_mirroring_change_nothing(seed):
    picture = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    expected = asdict(looks(picture))
    for other in (picture[::-1], picture[:, ::-1], np.rot90(picture)):
        assert asdict(looks(np.ascontiguousarray(other))) == pytest.approx(expected, abs=1e-9)


PUSHED = {
    "saturation": lambda picture: ImageEnhance.Color(picture).enhance(2.5),
    "vividness": lambda picture: ImageEnhance.Color(picture).enhance(2.5),
    "contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.7),
    "clipped": lambda picture: ImageEnhance.Contrast(picture).enhance(1.5),
    "high_frequency": lambda picture: ImageEnhance.Sharpness(picture).enhance(5),
    "repetition": tiled,
    "colours": lambda picture: ImageOps.posterize(picture, 1),
}


def named(found):
    return {one.statistic.name for one in found.statistics if one.burnt}


@pytest.mark.parametrize("name", NAMES)
def test_pictures_that_are_pushed_are_burnt_in_what_was_pushed(name, pale):
    """The references are others than those that are pushed; all were paler, or they could be no more vivid."""
    tuned = seen([PUSHED[name](picture) for picture in opened()[::2]])
    found = burnt(tuned, pale[::2], pale[1::2])
    assert found.burnt and name in named(found)
    (one,) = (one for one in found.statistics if one.statistic.name == name)
    label = next(statistic.label for statistic in STATISTICS if statistic.name == name)
    assert f"The {label} {'is below' if name == 'colours' else 'exceeds'}" in found.sentence
    assert f"{one.tuned:.3g}" in one.sentence and f"{one.reference:.3g}" in one.sentence
    assert one.beyond_reference.low < one.beyond_reference.value < one.beyond_reference.high


def test_noise_is_fine_detail_and_nothing_is_tiled(own):
    found = burnt(seen([noisy(picture) for picture in opened()[::2]]), own[::2], own[1::2])
    assert "high_frequency" in named(found) and "repetition" not in named(found)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture,
        lambda picture: saved(picture, "PNG"),
        lambda picture: saved(picture, "JPEG", quality=85),
        lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
        lambda picture: ImageEnhance.Color(picture).enhance(0.5),
        lambda picture: ImageEnhance.Contrast(picture).enhance(0.6),
        lambda picture: ImageEnhance.Color(picture).enhance(1.05),
    ],
    ids=["same", "png", "jpeg", "softer", "paler", "flatter", "hardly"],
)
def test_pictures_that_are_not_pushed_are_not_burnt(change, own):
    found = burnt(seen([change(picture) for picture in opened()[::2]]), own[::2], own[1::2])
    assert not found.burnt and found.sentence.startswith("Not burnt") and found.note == ""


def test_whoever_moves_towards_harsh_references_is_not_burnt(own):
    """Harsher than the base is not enough, nor is harsher than the references."""
    harsh = seen([ImageEnhance.Contrast(picture).enhance(2) for picture in opened()])
    assert not burnt(harsh[::2], own[::2], harsh[1::2]).burnt
    assert not burnt(harsh[::2], harsh[::2], own[1::2]).burnt
    assert burnt(harsh[::2], own[::2], own[1::2]).burnt


@pytest.mark.parametrize(("count", "most"), [(10, 0.05), (33, 0.01)])
def test_random_splits_of_the_same_pictures_are_hardly_ever_burnt(count, most, own):
    """At most one in a hundred with 33 pictures in each set, one in twenty with only ten; over all statistics."""
    alarms = 0
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(len(own))
        tuned, base, reference = ([own[i] for i in order[k * count : (k + 1) * count]] for k in range(3))
        alarms += burnt(tuned, base, reference, draws=200, seed=seed).burnt
    assert alarms / 200 <= most


def test_a_third_of_burnt_pictures_is_enough_and_they_are_shown(own):
    tuned = own[::2].copy()
    harsh = list(range(0, 50, 3))
    for row in harsh:
        tuned[row] = looks(np.asarray(tiled(opened()[2 * row])))
    found = burnt(tuned, own[::2], own[1::2])
    (one,) = (one for one in found.statistics if one.statistic.name == "repetition")
    assert one.burnt
    assert set(one.pictures) >= set(harsh) and len(one.pictures) < 25


def test_one_wild_picture_does_not_speak_for_all(own):
    tuned = own[::2].copy()
    tuned[0] = looks(np.asarray(tiled(opened(1)[0])))
    assert not burnt(tuned, own[::2], own[1::2]).burnt


def test_shifts_are_what_their_definition_says(own):
    pushed = seen([PUSHED["contrast"](picture) for picture in opened()[::2]])
    found = burnt(pushed, own[::2], own[1::2])
    for one in found.statistics:
        tuned, base, reference = (
            np.array([getattr(look, one.statistic.name) for look in some]) for some in (pushed, own[::2], own[1::2])
        )
        sign = -1 if one.statistic.name == "colours" else 1
        assert (one.tuned, one.base, one.reference) == tuple(map(np.median, (tuned, base, reference)))
        for other, shift in ((reference, one.beyond_reference), (base, one.beyond_base)):
            low, high = np.percentile(other, [16, 84])
            spread = max((high - low) / 2, one.statistic.visible)
            ours, theirs = (np.clip((some - np.median(other)) / spread, -3, 3).mean() for some in (tuned, other))
            assert shift.value == pytest.approx(sign * (ours - theirs), abs=1e-9)


def test_pairs_and_prompts_are_drawn_together(own):
    """The same pictures are at no distance from themselves, in any sample; several of a prompt tell less."""
    found = burnt(own[::2], own[::2], own[1::2])
    assert all((one.beyond_base.low, one.beyond_base.high) == (0, 0) for one in found.statistics)
    tuned = [look for look in own[:20] for _ in range(4)]
    alone, grouped = (burnt(tuned, own[:80], own, groups) for groups in (None, np.repeat(np.arange(20), 4)))
    for one, other in zip(alone.statistics, grouped.statistics, strict=True):
        assert one.beyond_reference.value == other.beyond_reference.value
    widths = [[s.beyond_reference.high - s.beyond_reference.low for s in f.statistics] for f in (alone, grouped)]
    assert np.mean(widths[1]) > 1.3 * np.mean(widths[0])


def test_few_pictures_and_other_sizes_are_noted(own):
    assert "only 8 pictures" in burnt(own[:8], own[:8], own[8:]).note
    large = seen([picture.resize((128, 128)) for picture in opened(30)])
    assert "128, 64 and 64 pixels" in burnt(large, own[:30], own[30:]).note


def test_references_that_are_all_alike_are_measured_by_what_can_be_seen(own):
    found = burnt(own[:30], own[30:60], [own[0]] * 30)
    assert all(np.isfinite(one.beyond_reference.value) for one in found.statistics)


def test_what_cannot_be_compared_is_refused_with_a_hint(own):
    for sets, words in (((own[:5], own[:6], own), "no pairs"), ((own[:1], own[:1], own), "one has 1")):
        with pytest.raises(BespokeError, match=words) as raised:
            burnt(*sets)
        assert raised.value.hint
