"""Whole models in one file: diffusers' own reader gives every tensor back, bit for bit."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from pico import families
from safetensors.torch import save_file

from bespoke.models import PICO, find, singlefile

OPTIONS = {"safety_checker": None, "requires_safety_checker": False, "local_files_only": True}


@pytest.mark.parametrize("kind", ["pico", "sd1", "sd2v"])
def test_diffusers_reads_back_every_bit(tmp_path, kind):
    folder = PICO if kind == "pico" else tmp_path / kind
    if kind != "pico":
        families.write(kind, folder)
    base = find(str(folder))
    parts = {"unet": base.denoiser(), "vae": base.vae(), "text_encoder": base.text_encoder()}
    content = singlefile.content_of(**parts)
    assert sum(value.numel() for value in content.values()) >= sum(
        p.numel() for n in parts.values() for p in n.parameters()
    )
    text = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    assert (text in content) == (kind == "sd2v")
    save_file(content, tmp_path / "one.safetensors")
    path = str(tmp_path / "one.safetensors")
    again = StableDiffusionPipeline.from_single_file(path, config=str(folder), torch_dtype=torch.float32, **OPTIONS)
    for name, part in parts.items():
        theirs = getattr(again, name).state_dict()
        assert theirs.keys() == part.state_dict().keys()
        assert all(torch.equal(value, theirs[key]) for key, value in part.state_dict().items()), name
