"""FID's Inception v3 in stand-in weights: names, shapes and outputs are those of torch-fidelity's network."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bespoke.errors import BespokeError
from bespoke.models.inception import Inception, InceptionV3, resized

LAYOUT = "7151cff94593b8e836fb1f91b5ae5a52927bb5290e150458690d9d5ea0523e95"
"""SHA-256 of the 566 lines "name shape" of torch-fidelity 0.4.0's network, which loads the published file strictly."""
POOLED = [
    [0.1095563173, 0.3422818780, 0.0280357003, 0.6154779792, 0.2419301122, 6.458937645, 4.793865681, 0.2157856077],
    [0.1344289035, 0.3147570193, 0.0213578548, 0.6149390936, 0.2443848699, 6.443728924, 4.805044651, 0.2222330123],
]
LOGITS = [
    [0.4785906076, -2.806357861, -1.673951268, -2.569957256, -5.862729073, -2.951126099, 5.229094028, -3.957085848],
    [0.4630341530, -2.762094259, -1.652834892, -2.439516783, -5.912606239, -2.927693844, 5.160461426, -3.976169586],
]
"""What torch-fidelity 0.4.0 gives for the stand-in weights and pictures below: each 256th feature, each 126th logit."""


def stand_in(rng, name, shape):
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.long)
    if name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("bn.weight"):
        values = rng.uniform(0.8, 1.2, shape)
    else:
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        values = rng.standard_normal(shape) * scale
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(7)
    return {name: stand_in(rng, name, tuple(value.shape)) for name, value in InceptionV3().state_dict().items()}


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def pictures():
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 299, 299)).astype(np.uint8)
    return [Image.fromarray(one.transpose(1, 2, 0)) for one in pixels]


def test_every_tensor_has_the_name_and_the_shape_of_the_published_file(weights):
    lines = "\n".join(f"{name} {tuple(value.shape)}" for name, value in weights.items())
    assert hashlib.sha256(lines.encode()).hexdigest() == LAYOUT


def test_features_and_posteriors_are_those_of_torch_fidelity(file, pictures):
    network = Inception(file)
    np.testing.assert_allclose(network.pictures(pictures)[:, ::256], POOLED, rtol=1e-4)
    logits = network.posteriors(pictures)
    # Posteriors fix logits up to a number for each picture.
    found = np.log(logits[:, ::126])
    np.testing.assert_allclose(found - found[:, :1], np.array(LOGITS) - np.array(LOGITS)[:, :1], atol=1e-3)
    np.testing.assert_allclose(logits.sum(axis=1), 1, rtol=1e-12)


def test_safetensors_give_the_same_and_neither_is_called_fid(weights, file, pictures):
    other = file.with_suffix(".safetensors")
    save_file(weights, other)
    of_pickle, of_safetensors = Inception(file), Inception(other)
    np.testing.assert_array_equal(of_pickle.pictures(pictures[:1]), of_safetensors.pictures(pictures[:1]))
    assert of_pickle.mark != of_safetensors.mark
    for network in (of_pickle, of_safetensors):
        assert not network.is_fid and "not FID's weights" in network.name


def test_pictures_are_made_smaller_with_all_their_pixels_and_are_not_rounded():
    pixels = np.random.default_rng(2).integers(80, 176, (640, 512, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    made, rounded = resized(picture), np.asarray(picture.resize((299, 299), Image.Resampling.BICUBIC), np.float32)
    assert made.dtype == np.float32 and made.shape == (299, 299, 3)
    # Pillow rounds between its two passes, too.
    assert np.abs(made - rounded).max() < 2
    assert np.abs(made - np.rint(made)).mean() > 0.2
    every_other = pixels[::2, ::2].astype(np.float32)
    assert made.std() < 0.7 * every_other.std()  # without antialias noise would stay as strong as it was


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R."])
def test_a_file_of_something_else_is_refused_and_never_run(tmp_path, content):
    path = tmp_path / "inception.pth"
    path.write_bytes(content)
    with pytest.raises(BespokeError, match="does not hold the weights") as raised:
        Inception(path)
    assert "pt_inception-2015-12-05-6726825d.pth" in raised.value.hint


def test_a_missing_file_and_weights_of_another_network_are_refused(tmp_path, weights):
    with pytest.raises(BespokeError, match=r"none\.pth cannot be read"):
        Inception(tmp_path / "none.pth")
    cut = tmp_path / "cut.safetensors"
    save_file({name: value for name, value in weights.items() if not name.startswith("Mixed_7c")}, cut)
    with pytest.raises(BespokeError, match="does not hold the weights"):
        Inception(cut)
