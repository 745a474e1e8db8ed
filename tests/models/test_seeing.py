"""The CLIP and the detector that ship see what is in pictures of their world."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bespoke.errors import BespokeError
from bespoke.evaluation import agreement
from bespoke.models import Clip, Detector

PICTURES = Path(__file__).parent.parent / "annotation" / "pictures"
WORSE = (
    ["a fox on a red background", "a fox on a green background", "a bus on a green background"],
    [
        "a penguin left of a guitar in the snow", "a penguin left of a guitar in the desert",
        "a penguin left of a cactus in the desert", "a teapot left of a cactus in the desert",
    ],
    [
        "a rocket above a pizza on a white background", "a rocket above a pizza on a purple background",
        "a rocket above a lion on a purple background", "a tree above a lion on a purple background",
    ],
)  # fmt: skip
"""Captions that are made wrong, a word at a time; the first of each is right."""


def opened(name: str) -> Image.Image:
    return Image.open(PICTURES / f"{name}.png").convert("RGB")


@pytest.mark.parametrize("captions", WORSE)
def test_agreement_falls_as_a_caption_is_made_wrong_word_by_word(captions: list[str]) -> None:
    clip = Clip()
    seen = np.repeat(clip.pictures([opened(captions[0])]), len(captions), axis=0)
    agreements = agreement(seen, clip.texts(captions))
    assert (np.diff(agreements) < -2).all(), agreements


@pytest.mark.parametrize("captions", WORSE)
def test_a_shot_that_was_cut_and_made_brighter_is_still_the_same_shot(captions: list[str]) -> None:
    clip, pictures = Clip(), [opened(caption[0]) for caption in WORSE]
    shown = opened(captions[0])
    large = shown.resize((256, 256), Image.Resampling.BICUBIC).crop((8, 8, 248, 248))
    cut = large.point(lambda level: min(255, round(level * 1.06))).resize((64, 64), Image.Resampling.BOX)
    features = clip.pictures([cut, shown, *(other for other in pictures if other != shown)])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    same, *others = features[0] @ features[1:].T
    # `clean.minimum_likeness` is 0.9.
    assert same > 0.9 and max(others) < 0.8


def test_the_detector_finds_things_where_they_are() -> None:
    (found,) = Detector().things([opened("a rocket above a pizza on a white background")])
    for name, middle in (("rocket", 18), ("pizza", 46)):
        left, top, right, bottom = next(thing.box for thing in found if thing.name == name)
        # Drawn with centres at 18 and 46 of 64 pixels, 29 pixels long.
        assert abs((top + bottom) / 2 - middle) < 4
        assert abs((left + right) / 2 - 32) < 4
        assert abs(max(right - left, bottom - top) - 29) < 6


def test_boxes_count_in_the_pixels_of_the_picture_that_was_given() -> None:
    small = opened("a fox on a red background")
    (one, *_), (other, *_) = Detector().things([small, small.resize((256, 128))], 0.1)
    assert one.name == other.name == "fox"
    np.testing.assert_allclose(np.array(other.box), np.array(one.box) * [4, 2, 4, 2], atol=8)


def test_only_what_the_detector_is_sure_of_is_told() -> None:
    picture = opened("a fox on a red background")
    every, sure = (Detector().things([picture], least)[0] for least in (0.0, 0.9))
    assert len(every) > len(sure)
    assert [thing.score for thing in every] == sorted((thing.score for thing in every), reverse=True)


def test_what_is_no_detector_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(BespokeError, match="gives no detector") as raised:
        Detector(tmp_path)
    assert "hustvl/yolos-tiny" in raised.value.hint
