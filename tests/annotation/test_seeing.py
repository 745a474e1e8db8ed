"""What models say of pictures, kept: it is what they say when asked directly, and they are asked once."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bespoke.annotation import seeing
from bespoke.annotation.seeing import Onlooker, look
from bespoke.data import read
from bespoke.data.opinions import caption_key, covered
from bespoke.data.seen import CAPTIONS, PICTURES, SAFETY, THINGS, Rows, Seen
from bespoke.models import Clip, Detector
from bespoke.models.load import PICO, shipped
from bespoke.models.local import at_hand, labels
from bespoke.models.marks import fingerprint
from bespoke.models.safety import SafetyChecker

EXAMPLE = Path(__file__).parents[2] / "examples" / "8bit" / "train"
NAMES = ("109-rabbit.png", "023-pizza.png", "033-castle.png", "026-car.png", "086-cloud.png")
FILES = {read(EXAMPLE / name).sha256: EXAMPLE / name for name in NAMES}


def opened(sha256: str, path: Path) -> Image.Image:
    return read(path).image


def told(folder: Path, onlookers: Sequence[Onlooker], texts: Sequence[str] = ()) -> list[tuple[int, int]]:
    """How far the work was said to have come."""
    steps: list[tuple[int, int]] = []
    look(folder, FILES, texts, onlookers, opened, lambda done, whole: steps.append((done, whole)))
    return steps


def rows(folder: Path, kind: str) -> Rows:
    found = Seen(folder).rows(kind)
    assert found is not None
    return found


def of(rows: Rows, name: str) -> np.ndarray:
    (key,) = (key for key, path in FILES.items() if path.name == name)
    return rows.values[rows.at[key]].astype(np.float64)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [read(path).image for path in FILES.values()]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip()


def test_clip_says_of_pictures_and_captions_what_it_says_directly(tmp_path, clip, images):
    texts = ["a rabbit", "a castle on a white background", "a rabbit", ""]
    pair = [
        Onlooker(PICTURES, "pico-CLIP", "x", lambda: seeing.features_of(clip)),
        Onlooker(CAPTIONS, "pico-CLIP", "x", lambda: seeing.text_features_of(clip)),
    ]
    assert told(tmp_path, pair, texts)[-1] == (5, 5)
    features, captions = rows(tmp_path, PICTURES), rows(tmp_path, CAPTIONS)
    wanted = clip.pictures(images)
    for key, row in zip(FILES, wanted, strict=True):
        assert features.values[features.at[key]] == pytest.approx(row / np.linalg.norm(row), abs=2e-3)
    assert set(captions.keys) == {caption_key("a rabbit"), caption_key(texts[1])}
    own = captions.values[captions.at[caption_key("a rabbit")]].astype(np.float64)
    agreement = {name: float(of(features, name) @ own) for name in NAMES}
    assert max(agreement, key=lambda name: agreement[name]) == "109-rabbit.png"


def test_nothing_is_asked_twice_and_a_stop_loses_nothing(tmp_path, monkeypatch, clip):
    asked: list[int] = []

    def stopping(pictures: Sequence[Image.Image]) -> np.ndarray:
        asked.append(len(pictures))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return clip.pictures(pictures)

    onlooker = Onlooker(PICTURES, "pico-CLIP", "x", lambda: stopping)
    monkeypatch.setattr(seeing, "BATCH", 2)
    with pytest.raises(KeyboardInterrupt):
        told(tmp_path, [onlooker])
    assert Seen(tmp_path).rows(PICTURES) is None
    assert told(tmp_path, [onlooker]) == [(4, 5), (5, 5)]
    assert asked == [2, 2, 2, 1]

    def never() -> seeing.See:
        raise AssertionError("it was asked before")

    assert told(tmp_path, [Onlooker(PICTURES, "pico-CLIP", "x", never)]) == []
    with pytest.raises(AssertionError):
        told(tmp_path, [Onlooker(PICTURES, "another", "y", never)])


def test_the_checker_flags_what_diffusers_flags(tmp_path, images):
    checker = SafetyChecker()
    told(tmp_path, [Onlooker(SAFETY, "pico", "x", lambda: seeing.excesses_of(checker))])
    excesses = [float(row[0]) for row in rows(tmp_path, SAFETY).values]
    noise = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (64, 64, 3), dtype=np.uint8)) for n in range(20)]
    shown = [*images, *noise]
    pixels = checker._processor(images=shown, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        flags = checker._model(pixels, [np.zeros((4, 4, 3)) for _ in shown])[1]
    assert [bool(round(excess, 3) > 0) for excess in checker.excesses(shown)] == flags
    assert 0 < sum(flags) < len(flags), "the test shows nothing otherwise"
    assert sum(excess > 0 for excess in excesses) == sum(flags[: len(images)])


def test_the_checker_is_stricter_where_care_is_wanted(images):
    checker = SafetyChecker()
    (excess,) = checker.excesses(images[:1])
    checker._model.concept_embeds_weights += excess + 0.005
    assert checker.excesses(images[:1])[0] == pytest.approx(-0.005, abs=1e-5)
    checker._model.special_care_embeds_weights.fill_(-1)
    assert checker.excesses(images[:1])[0] == pytest.approx(0.005, abs=1e-5)
    pixels = checker._processor(images=images[:1], return_tensors="pt")["pixel_values"]
    assert checker._model(pixels, [np.zeros((4, 4, 3))])[1] == [True]


def test_a_detectors_things_are_kept_with_their_boxes(tmp_path, images):
    detector, names = Detector(), labels(Path(shipped("pico-YOLOS")))
    told(tmp_path, [Onlooker(THINGS, "pico-YOLOS", "x", lambda: seeing.things_of(detector, names), names)])
    found, (rabbit, *_) = rows(tmp_path, THINGS), detector.things(images[:1], 0.3)
    assert found.labels == names
    assert rabbit[0].name == "rabbit"
    side = images[0].width
    left, top, right, bottom = rabbit[0].box
    share = (min(right, side) - max(left, 0)) * (min(bottom, side) - max(top, 0)) / side**2
    assert covered(of(found, NAMES[0]), names, ("rabbit",), 0.3) == pytest.approx(share, abs=0.03)
    assert covered(of(found, NAMES[0]), names, ("castle",), 0.3) == 0


def test_models_are_told_apart_by_what_is_in_them(tmp_path):
    folder = Path(shipped("pico-CLIP"))
    assert at_hand("pico-CLIP") == folder
    assert at_hand("pico") == PICO
    assert at_hand("nobody/has-this") is None
    assert at_hand(str(tmp_path)) is None, "it holds no weights"
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    (tmp_path / "README.md").write_text("words")
    assert fingerprint(tmp_path) == first
    content = bytearray((tmp_path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    assert fingerprint(tmp_path) != first
