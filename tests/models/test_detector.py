"""Detectors: open ones look for a person's classes, closed ones tell those named; things are cut out of pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    CLIPTokenizer,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2Processor,
    OwlViTConfig,
    OwlViTForObjectDetection,
)
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil

from bespoke.errors import BespokeError
from bespoke.models import Detection, Detector, quiet
from bespoke.models.detector import BATCH, crops

PICTURES = Path(__file__).parent.parent / "annotation" / "pictures"
CLIP = Path(__file__).parents[2] / "src" / "bespoke" / "models" / "pico_clip"
KINDS = {
    "owlv2": (Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil),
    "owlvit": (OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessorPil),
}


def tiny(folder: Path, kind: str = "owlv2") -> Path:
    """A random open detector with 16 patches whose answers depend on the question, beside pico-CLIP's tokenizer."""
    config, network, processor = KINDS[kind]
    tokenizer = CLIPTokenizer.from_pretrained(CLIP)
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    with quiet(), torch.no_grad():
        model = network(
            config(
                text_config=common
                | {"vocab_size": 1600, "bos_token_id": 1598, "eos_token_id": 1599, "pad_token_id": 1599},
                vision_config=common | {"image_size": 64, "patch_size": 16},
                projection_dim=32,
            )
        )
        for weights in model.parameters():
            if weights.ndim > 1:  # so that patches differ by more than what they have in common
                torch.nn.init.normal_(weights, std=0.3)
        model.box_head.dense2.bias[2:] += 2  # so that boxes overlap
        model.save_pretrained(folder)
        processor(size={"height": 64, "width": 64}).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=sorted(KINDS))
def folder(request, tmp_path_factory):
    return tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("owlv2"))


def opened(name: str) -> Image.Image:
    return Image.open(PICTURES / f"{name}.png").convert("RGB")


def some(count: int) -> list[Image.Image]:
    """Pictures of 48 × 72 in random patches."""
    patches = (np.random.default_rng(number).integers(0, 256, (6, 4, 3), dtype=np.uint8) for number in range(count))
    return [Image.fromarray(few.repeat(12, axis=0).repeat(12, axis=1)) for few in patches]


CLASSES = ("dog", "red car", "tree")


def test_an_open_detector_finds_the_classes_that_are_named(folder):
    found = Detector(folder, classes=CLASSES).things(some(3), 0.0)
    named = {one.name for things in found for one in things}
    assert named <= set(CLASSES) and len(named) > 1
    for things in found:
        assert [one.score for one in things] == sorted((one.score for one in things), reverse=True)
        assert len({one.score for one in things}) > 1


def test_what_is_found_is_what_transformers_own_processor_finds(owlv2):
    """But for boxes of one name that overlap a surer one by more than a half."""
    pictures, names = some(2), list(CLASSES)
    processor = Owlv2Processor(
        AutoImageProcessor.from_pretrained(owlv2, backend="pil"), CLIPTokenizer.from_pretrained(owlv2)
    )
    model = Owlv2ForObjectDetection.from_pretrained(owlv2)
    call: Any = processor  # its types leave out what it passes on
    inputs = call(
        text=[[f"a photo of a {name}" for name in names]] * 2, images=pictures, return_tensors="pt",
        text_kwargs={"max_length": 16},
    )  # fmt: skip
    with torch.no_grad():
        output = model(**inputs)
    expected = processor.post_process_grounded_object_detection(
        output, threshold=0.0, target_sizes=[(72, 48)] * 2, text_labels=[names] * 2
    )
    for things, theirs in zip(Detector(owlv2, classes=CLASSES).things(pictures, 0.0), expected, strict=True):
        rows = sorted(
            zip(theirs["scores"].tolist(), theirs["text_labels"], theirs["boxes"].tolist(), strict=True), reverse=True
        )
        kept = []
        for score, name, box in rows:
            if not any(name == other and shared(box, there) > 0.5 for _, other, there in kept):
                kept.append((score, name, box))
        assert len(kept) < len(rows)
        assert [one.name for one in things] == [name for _, name, _ in kept]
        np.testing.assert_allclose([one.score for one in things], [score for score, _, _ in kept], atol=1e-5)
        np.testing.assert_allclose([one.box for one in things], [box for _, _, box in kept], atol=1e-3)


def shared(one, other):
    """Intersection over union by counting points of a fine grid."""
    left, top = np.minimum(one[:2], other[:2])
    right, bottom = np.maximum(one[2:], other[2:])
    x, y = np.meshgrid(np.linspace(left, right, 400), np.linspace(top, bottom, 400))
    within = [(x >= b[0]) & (x <= b[2]) & (y >= b[1]) & (y <= b[3]) for b in (one, other)]
    return (within[0] & within[1]).sum() / (within[0] | within[1]).sum()


def test_the_order_of_the_classes_changes_nothing(folder):
    pictures = some(2)
    one, other = (Detector(folder, classes=names).things(pictures, 0.0) for names in (CLASSES, CLASSES[::-1]))
    for things, same in zip(one, other, strict=True):
        assert [thing.name for thing in things] == [thing.name for thing in same]
        np.testing.assert_allclose([t.score for t in things], [t.score for t in same], atol=1e-5)


def test_pictures_are_seen_alike_in_any_batch(folder):
    pictures, detector = some(BATCH + 3), Detector(folder, classes=CLASSES)
    together = detector.things(pictures, 0.0)
    assert len(together) == len(pictures)
    for picture, things in zip(pictures[-4:], together[-4:], strict=True):
        (alone,) = detector.things([picture], 0.0)
        assert [thing.name for thing in things] == [thing.name for thing in alone]
        np.testing.assert_allclose([t.box for t in things], [t.box for t in alone], atol=1e-3)
    assert detector.things([]) == []


def test_a_network_never_sees_more_than_a_batch(monkeypatch):
    detector, seen = Detector(), []
    forward = detector._model.forward

    def counted(**inputs):
        seen.append(len(inputs["pixel_values"]))
        return forward(**inputs)

    monkeypatch.setattr(detector._model, "forward", counted)
    detector.things(some(2 * BATCH + 1))
    assert seen == [BATCH, BATCH, 1]


def test_boxes_count_in_the_pixels_of_the_picture(owlv2):
    """OWLv2 pads pictures to a square, which a box must not show."""
    picture = some(1)[0]
    large = picture.resize((96, 144), Image.Resampling.NEAREST)
    one, other = (Detector(owlv2, classes=CLASSES).things([p], 0.0)[0] for p in (picture, large))
    best = max(one, key=lambda thing: thing.score)
    same = min(other, key=lambda thing: np.abs(np.array(thing.box) - 2 * np.array(best.box)).sum())
    np.testing.assert_allclose(same.box, 2 * np.array(best.box), atol=6)


def test_how_sure_is_sure_depends_on_the_kind(owlv2):
    assert (Detector(owlv2, classes=CLASSES).least, Detector().least) == (0.1, 0.5)
    picture = opened("a fox on a red background")
    assert Detector().things([picture]) == Detector().things([picture], 0.5)
    detector = Detector(owlv2, classes=CLASSES)
    assert detector.things([picture]) == detector.things([picture], 0.1)


def test_an_open_detector_must_be_told_what_to_look_for(owlv2):
    with pytest.raises(BespokeError, match="no classes are named") as raised:
        Detector(owlv2)
    assert "classes=" in raised.value.hint


def test_of_a_closed_detectors_classes_only_those_named_are_told():
    picture = opened("a rocket above a pizza on a white background")
    every, few = (Detector(classes=names).things([picture])[0] for names in ((), ("pizza",)))
    assert {"rocket", "pizza"} <= {one.name for one in every}
    assert few == [one for one in every if one.name == "pizza"]
    assert "rocket" in Detector().classes


def test_what_a_closed_detector_does_not_know_is_refused_with_what_it_knows():
    with pytest.raises(BespokeError, match="does not know zeppelin") as raised:
        Detector(classes=("pizza", "zeppelin"))
    assert "OWLv2" in raised.value.hint


def painted() -> Image.Image:
    """A picture of 100 × 80 whose pixels tell where they are."""
    x, y = np.meshgrid(np.arange(100), np.arange(80))
    return Image.fromarray(np.stack([x, y, 0 * x], axis=2).astype(np.uint8))


def test_things_are_cut_out_with_a_margin():
    found = Detection("dog", 0.9, (20.0, 30.0, 60.0, 65.0))
    cut = crops(painted(), [found], least_side=20, margin=0.1)
    assert cut.detections == (found,) and cut.small == 0
    corner = np.asarray(cut.pictures[0])
    assert cut.pictures[0].size == (48, 43)
    assert corner[0, 0].tolist() == [16, 26, 0] and corner[-1, -1].tolist() == [63, 68, 0]


def test_without_a_margin_a_crop_is_the_box():
    cut = crops(painted(), [Detection("dog", 0.9, (10.2, 5.4, 50.3, 45.8))], margin=0.0)
    assert cut.pictures[0].size == (40, 41)
    assert np.asarray(cut.pictures[0])[0, 0].tolist() == [10, 5, 0]


def test_what_reaches_beyond_the_picture_is_cut_at_its_edges():
    cut = crops(painted(), [Detection("dog", 0.9, (-30.0, -10.0, 40.0, 200.0))])
    assert cut.pictures[0].size == (44, 80)
    assert np.asarray(cut.pictures[0])[0, 0].tolist() == [0, 0, 0]


def test_what_is_too_small_is_left_out_and_counted():
    boxes = [(0, 0, 31, 60), (0, 0, 32, 32), (0, 0, 60, 31), (95, 0, 140, 60), (50, 50, 40, 40)]
    detections = [Detection(str(number), 0.5, tuple(map(float, box))) for number, box in enumerate(boxes)]
    cut = crops(painted(), detections, least_side=32)
    assert [one.name for one in cut.detections] == ["1"]
    assert len(cut.pictures) == 1 and cut.small == 4
    assert crops(painted(), []).pictures == ()
