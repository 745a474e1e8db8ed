"""Models of random weights: plain diffusers reads them, values go through them, and their operations are counted."""

import numpy as np
import pytest
import torch
from benchmarks.side_by_side import checkpoint, pictures
from benchmarks.side_by_side.counted import operations
from diffusers import DiffusionPipeline
from pico.families import outline

from bespoke.models.load import PICO
from bespoke.models.quietly import quiet


def spreads(pipeline):
    """How widely each module's output varies while a picture is drawn and one is encoded."""
    found = []

    def note(module, given, answer):
        if torch.is_tensor(answer):
            assert answer.isfinite().all(), type(module)
            found.append(float(answer.float().std()))

    parts = [pipeline.unet, pipeline.vae, pipeline.text_encoder]
    hooks = [module.register_forward_hook(note) for part in parts for module in part.modules()]
    with torch.no_grad():
        picture = pipeline("a red square", num_inference_steps=2, output_type="np").images[0]
        moments = pipeline.vae.encode(torch.randn(1, 3, 64, 64, dtype=pipeline.dtype)).latent_dist
    for hook in hooks:
        hook.remove()
    return np.array(found), picture, moments


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # in a scheduler
@pytest.mark.parametrize(("shape", "dtype"), [("sd1", "fp32"), ("sd2v", "fp16"), ("sdxl", "fp16")])
def test_plain_diffusers_draws_with_it_and_values_neither_vanish_nor_grow(shape, dtype, tmp_path):
    checkpoint.write(shape, tmp_path / "model", dtype)
    with quiet():
        pipeline = DiffusionPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
        pipeline.set_progress_bar_config(disable=True)
    assert {str(p.dtype) for p in pipeline.unet.parameters()} == {"torch.float32"}
    found, picture, moments = spreads(pipeline)
    # SDXL's scheduler begins with noise of 15 standard deviations, which its autoencoder gets divided by 0.13.
    assert len(found) > 200 and found.min() > 0.05 and found.max() < 500
    assert picture.std() > 0.05
    assert 0.1 < moments.mean.std() < 10 and moments.logvar.abs().max() < 10


def test_the_same_seed_gives_the_same_weights_in_the_format_asked_for(tmp_path):
    from safetensors.torch import load_file

    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        checkpoint.write("sd1", tmp_path / name, "fp16", seed)
    one, two, three = (
        load_file(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors") for name in ("one", "two", "three")
    )
    assert {tensor.dtype for tensor in one.values()} == {torch.float16}
    assert all(tensor.float().std() > 0 for tensor in one.values() if tensor.numel() > 1), "nothing is constant"
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not any(torch.equal(one[key], three[key]) for key in one)


def test_pico_is_copied(tmp_path):
    checkpoint.write("pico", tmp_path / "pico")
    assert {file.name for file in (tmp_path / "pico").iterdir()} == {file.name for file in PICO.iterdir()}


@pytest.mark.parametrize(
    ("shape", "side", "forward", "step"),
    [("sd15-shape", 512, 0.803, 1.725), ("sd21-shape", 512, 0.804, 1.726), ("sdxl-shape", 1024, 6.761, 14.19)],
)
def test_operations_are_those_of_the_real_shapes(shape, side, forward, step, tmp_path):
    """Known beforehand, in 10¹² operations: of a forward pass, and of a LoRA step of rank 16 on attention."""
    outline(shape, tmp_path)
    found = operations(tmp_path, side, 16)
    assert np.array(found) / 1e12 == pytest.approx(np.array([forward, step]), rel=0.01)


def test_pictures_are_alike_to_none_and_the_same_again(tmp_path):
    for name in ("one", "two"):
        pictures.write(tmp_path / name, 24, 64)
    files = sorted((tmp_path / "one").iterdir())
    assert len(files) == 25
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in sorted((tmp_path / "two").iterdir())]
    pixels = np.stack([np.asarray(pictures.drawn(number, 64)[0]) for number in range(24)]).reshape(24, -1) / 255
    assert pixels.std(axis=1).min() > 0.05
    apart = np.abs(pixels[:, None] - pixels[None]).mean(axis=-1)[~np.eye(24, dtype=bool)]
    assert apart.min() > 0.05
