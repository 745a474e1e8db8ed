"""Weights of a UNet's blocks, by the layout that CompVis published, and what merges make of them."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from pico import families
from safetensors.torch import load_file

from bespoke.errors import BespokeError
from bespoke.models import blocks, find, unpacking
from bespoke.pipeline.surgery import merge_models

PLACES = {
    "time_embedding.linear_1.weight": "IN00",
    "conv_in.weight": "IN00",
    "down_blocks.0.resnets.0.conv1.weight": "IN01",
    "down_blocks.0.attentions.1.proj_in.weight": "IN02",
    "down_blocks.0.downsamplers.0.conv.weight": "IN03",
    "down_blocks.1.resnets.0.conv1.weight": "IN04",
    "down_blocks.2.attentions.1.proj_in.weight": "IN08",
    "down_blocks.2.downsamplers.0.conv.weight": "IN09",
    "down_blocks.3.resnets.1.conv1.weight": "IN11",
    "mid_block.attentions.0.proj_in.weight": "M00",
    "mid_block.resnets.1.conv1.weight": "M00",
    "up_blocks.0.resnets.0.conv1.weight": "OUT00",
    "up_blocks.0.upsamplers.0.conv.weight": "OUT02",
    "up_blocks.1.attentions.0.proj_in.weight": "OUT03",
    "up_blocks.2.upsamplers.0.conv.weight": "OUT08",
    "up_blocks.3.attentions.2.proj_in.weight": "OUT11",
    "conv_norm_out.weight": "OUT11",
    "conv_out.weight": "OUT11",
}
"""By hand from the configuration `v1-inference.yaml`: two layers a level, four levels, with down- and upsamplers."""


def test_the_blocks_of_stable_diffusion() -> None:
    with torch.device("meta"):
        config = UNet2DConditionModel.load_config(unpacking.CONFIGS / "sd1" / "unet")
        unet = UNet2DConditionModel.from_config(config)
    keys = unet.state_dict()
    assert PLACES.keys() <= keys.keys()
    assert {key: blocks.block_of(key, unet.config) for key in PLACES} == PLACES
    every = blocks.names(unet.config)
    assert len(every) == 25 and (every[0], every[11], every[12], every[13], every[24]) == (
        "IN00", "IN11", "M00", "OUT00", "OUT11",
    )  # fmt: skip
    assert {blocks.block_of(key, unet.config) for key in keys} == set(every)
    much = blocks.weights(",".join(map(str, range(25))), unet.config)
    assert much["IN00"] == 0 and much["M00"] == 12 and much["OUT11"] == 24
    for text, problem in (("1,2", "25 blocks and 2"), ("1," * 24 + "x", "no numbers"), ("nan," * 25, "25 blocks")):
        with pytest.raises(BespokeError, match=problem) as caught:
            blocks.weights(text, unet.config)
        assert "IN00 to IN11, M00, OUT00 to OUT11" in caught.value.hint


def test_a_merge_is_what_each_block_says(tmp_path: Path) -> None:
    families.write("sd1", tmp_path / "a", seed=1)
    families.write("sd1", tmp_path / "b", seed=2)
    one, two = find(str(tmp_path / "a")), find(str(tmp_path / "b"))
    config = one.denoiser().config
    every = blocks.names(config)
    text = ",".join(f"{n / 10:g}" for n in range(len(every)))
    merge_models(one.name, tmp_path / "c", add=two.name, weight=0.25, blocks=text)
    first, second, third = (load_file(tmp_path / n / "unet" / "diffusion_pytorch_model.safetensors") for n in "abc")
    for key in first:
        weight = every.index(blocks.block_of(key, config)) / 10
        assert torch.allclose(third[key], (1 - weight) * first[key] + weight * second[key], atol=1e-5), key
    first, second, third = (load_file(tmp_path / n / "text_encoder" / "model.safetensors") for n in "abc")
    for key in first:
        assert torch.allclose(third[key], 0.75 * first[key] + 0.25 * second[key], atol=1e-5), key
    with pytest.raises(BespokeError, match="for what is added"):
        merge_models(one.name, tmp_path / "d", blocks=text)
