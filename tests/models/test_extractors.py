"""Extractors give what transformers gives by its own code, and say exactly which weights and pixels that was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, BitImageProcessorPil, Dinov2Config, Dinov2Model

from bespoke.errors import BespokeError
from bespoke.models import Clip, extractor
from bespoke.models.load import HERE

PICO_CLIP = HERE / "pico_clip"


def pictures(count: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [Image.fromarray(rng.integers(0, 256, (50 + n, 40, 3), dtype=np.uint8)) for n in range(count)]


def dino(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


def test_dinov2_gives_the_token_that_stands_for_the_whole_picture(tmp_path: Path) -> None:
    made = extractor(str(dino(tmp_path)))
    pixels = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")(pictures(), return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = AutoModel.from_pretrained(tmp_path).eval()(pixel_values=pixels).pooler_output
    np.testing.assert_allclose(made.pictures(pictures()), expected.double().numpy(), rtol=1e-5, atol=1e-6)
    assert made.resizer == "Pillow bicubic to 32, the middle 28 × 28"
    assert not made.is_fid and not isinstance(made, Clip)


def test_a_clip_is_known_by_its_settings_and_read_as_one() -> None:
    for name in ("pico-CLIP", str(PICO_CLIP)):
        made = extractor(name)
        assert isinstance(made, Clip)
        np.testing.assert_array_equal(made.pictures(pictures()), Clip().pictures(pictures()))
    plain = AutoModel.from_pretrained(PICO_CLIP, dtype=torch.float32)
    assert Clip().scale == pytest.approx(plain.logit_scale.exp().item())


def test_other_weights_and_only_they_have_another_mark(tmp_path: Path) -> None:
    one, same, other = (extractor(str(dino(tmp_path / str(n), seed))) for n, seed in enumerate((0, 0, 1)))
    assert one.mark == same.mark != other.mark
    assert np.abs(one.pictures(pictures()) - other.pictures(pictures())).max() > 1e-3


def test_a_processor_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    AutoModel.from_pretrained(PICO_CLIP).save_pretrained(folder)
    with pytest.raises(BespokeError):
        Clip(folder)
    made = Clip(folder, processor=PICO_CLIP)
    np.testing.assert_array_equal(made.texts(["a red bus"]), Clip().texts(["a red bus"]))
    np.testing.assert_array_equal(made.pictures(pictures()), Clip().pictures(pictures()))


@pytest.mark.parametrize("name", ["nobody/here", "nowhere", "missing.pth"])
def test_what_is_not_there_is_refused_in_words(name: str) -> None:
    with pytest.raises(BespokeError, match=name.replace(".", r"\.")) as raised:
        extractor(name)
    assert raised.value.hint
