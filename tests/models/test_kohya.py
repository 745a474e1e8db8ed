"""Files in kohya's form: read as they were trained, written as published, and the same in every loader."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, formulas, kinds, kohyafile
from bespoke.models.wearing import load_adapter, unload_adapter
from bespoke.models.weightless import skeletons
from bespoke.recipe.training import Model

FOR_COMFYUI = {kohyafile.LENGTHS: kohyafile.COMFYUI}
EVERYWHERE = ("attention", "feed-forward", "projections", "convolutions")
CASES = {
    "lora": {"alpha": 2, "rank_pattern": {"attn2.to_k": 2}},
    "lora, everywhere": {"targets": EVERYWHERE},
    "dora, everywhere": {"method": "dora", "targets": EVERYWHERE, "alpha": 2},
}


@pytest.fixture(scope="module")
def checkpoint():
    return find("pico")


@pytest.fixture(scope="module")
def pipeline(checkpoint):
    return checkpoint.pipeline(safety_checker=False)


def answer(unet):
    source = torch.Generator().manual_seed(0)
    noisy, texts = torch.randn(1, 4, 8, 8, generator=source), torch.randn(1, 5, 160, generator=source)
    with torch.no_grad():
        return unet(noisy, torch.tensor([700]), texts, return_dict=False)[0]


def apart(ours, theirs):
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


def trained(checkpoint, case, folder):
    """Networks with a moved adapter, and its file in our form."""
    parts, source = {"unet": checkpoint.denoiser(), "text_encoder": checkpoint.text_encoder()}, torch.Generator()
    source.manual_seed(3)
    for name, part in parts.items():
        model = Model(**{"rank": 4, **CASES[case]})
        if name == "text_encoder":
            model = model.model_copy(update={"targets": ("attention", "feed-forward")})
        adapters.attach(part, kinds.config_of(model, part, checkpoint.family.groups(name)), seed=0)
        with torch.no_grad():
            for parameter in adapters.trainable(part).values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    adapterfile.save(parts, folder / "ours.safetensors")
    return parts


@pytest.mark.parametrize("case", CASES)
def test_a_file_in_kohyas_form_does_what_the_adapter_does(tmp_path, checkpoint, pipeline, case):
    parts, tokens = trained(checkpoint, case, tmp_path), torch.arange(77)[None]
    bare = {"unet": checkpoint.denoiser(), "text_encoder": checkpoint.text_encoder()}
    content = kohyafile.content_of(kohyafile.low_ranks(bare, tmp_path / "ours.safetensors"))
    theirs = tmp_path / "theirs.safetensors"
    save_file(content, theirs)
    assert all(key.startswith(("lora_unet_", "lora_te_text_model_")) for key in content)
    expected, words = answer(parts["unet"]), parts["text_encoder"](tokens)[0]
    assert apart(answer(pipeline.unet), expected) > 0.01
    # By the published formulas, worked into the weights.
    assert formulas.work_in(bare, theirs) == len({key.partition(".")[0] for key in content})
    assert apart(answer(bare["unet"]), expected) < 1e-4
    assert apart(bare["text_encoder"](tokens)[0], words) < 1e-4
    # By diffusers, which reads kohya's LoRA itself; DoRA with its magnitudes.
    load_adapter(pipeline, theirs, "pico")
    try:
        assert apart(answer(pipeline.unet), expected) < 1e-4
        assert apart(pipeline.text_encoder(tokens)[0], words) < 1e-4
    finally:
        unload_adapter(pipeline)
    # And training begins with it.
    again = copy.deepcopy(parts)
    for part in again.values():
        with torch.no_grad():
            for parameter in adapters.trainable(part).values():
                parameter.mul_(0.5)
    adapterfile.begin(again, theirs)
    assert apart(answer(again["unet"]), expected) < 1e-5
    assert load_file(theirs).keys() == content.keys()


def test_magnitudes_that_peft_does_not_have_are_refused(tmp_path, checkpoint):
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    bare, name = skeletons(checkpoint), kohyafile.name_of("unet", layer)
    content = {f"{name}.lora_down.weight": torch.ones(2, 48), f"{name}.lora_up.weight": torch.ones(48, 2)}
    for told, shape, problem in (({}, (1, 48), "of a layer's inputs"), (FOR_COMFYUI, (48, 1), "for ComfyUI alone")):
        path = tmp_path / "file.safetensors"
        save_file(content | {f"{name}.dora_scale": torch.ones(shape)}, path, told)
        with pytest.raises(BespokeError, match=problem):
            kohyafile.low_ranks(bare, path)
    save_file(content | {f"{name}.dora_scale": torch.ones(48, 1)}, path)
    assert list(kohyafile.low_ranks(bare, path)["unet"]) == [layer]
    with pytest.raises(BespokeError, match="which this model has not"):
        formulas.work_in({"text_encoder": bare["text_encoder"]}, path)
