"""Whole models in one file: diffusers' own reader gives every tensor back, bit for bit."""

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils as diffusers_own
from pico import families
from safetensors.torch import save_file

from bespoke.models import PICO, find, singlefile, unpacking

OPTIONS = {"local_files_only": True, "torch_dtype": torch.float32}
UNCHECKED = {"safety_checker": None, "requires_safety_checker": False}
SECOND = "transformer.resblocks.0.attn.in_proj_weight"
KINDS = {
    "pico": "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "sd1": "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "sd2v": f"cond_stage_model.model.{SECOND}",
    "sdxl": f"conditioner.embedders.1.model.{SECOND}",
}


def parts_of(base):
    names = ("text_encoder", "text_encoder_2")
    texts = [encoder for _, encoder in base.readers()]
    return {"unet": base.denoiser(), "vae": base.vae(), **dict(zip(names, texts, strict=False))}


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_reads_back_every_bit(tmp_path, kind):
    folder = PICO if kind == "pico" else tmp_path / kind
    if kind != "pico":
        families.write(kind, folder)
    parts = parts_of(find(str(folder)))
    content = singlefile.content_of(*parts.values())
    assert sum(value.numel() for value in content.values()) >= sum(
        p.numel() for n in parts.values() for p in n.parameters()
    )
    assert KINDS[kind] in content
    save_file(content, tmp_path / "one.safetensors")
    path = str(tmp_path / "one.safetensors")
    if kind == "sdxl":
        again = StableDiffusionXLPipeline.from_single_file(path, config=str(folder), **OPTIONS)
    else:
        again = StableDiffusionPipeline.from_single_file(path, config=str(folder), **OPTIONS, **UNCHECKED)
    for name, part in parts.items():
        theirs = getattr(again, name).state_dict()
        assert theirs.keys() == part.state_dict().keys()
        assert all(torch.equal(value, theirs[key]) for key, value in part.state_dict().items()), name


@pytest.mark.parametrize(("folder", "tensors"), [("sd1", 686), ("sd2", 686), ("sdxl", 1680)])
def test_every_name_of_the_real_networks_is_one_that_diffusers_looks_for(folder, tensors):
    """The real shapes, without weights: each name goes in as a tensor's place and comes back as diffusers' own name."""
    with torch.device("meta"):
        settings = unpacking.CONFIGS / folder
        unet, vae = (
            kind.from_config(kind.load_config(settings / part))
            for kind, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"))
        )
    assert len(unet.state_dict()) == tensors
    for network, names, convert in (
        (unet, {key: singlefile.UNET + singlefile.unet_name(key, unet.config) for key in unet.state_dict()},
         diffusers_own.convert_ldm_unet_checkpoint),
        (vae, {key: singlefile.VAE + singlefile.vae_name(key, 4) for key in vae.state_dict()},
         diffusers_own.convert_ldm_vae_checkpoint),
    ):  # fmt: skip
        assert len(set(names.values())) == len(names)
        content = {name: torch.full((1, 1, 1, 1), number) for number, name in enumerate(names.values())}
        theirs = convert(dict(content), network.config)
        known = list(names.values())
        assert {key: known[int(value.flatten()[0])] for key, value in theirs.items()} == names
