"""What a file says of itself, read from its header; ModelSpec and kohya's keys as they are published."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from bespoke.errors import BespokeError
from bespoke.models import find, modelspec
from bespoke.models.modelspec import Facts, Network
from bespoke.models.passport import passport

UNET = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
KOHYA = f"lora_unet_{UNET.replace('.', '_')}"
FILES = {
    "kohya": ({f"{KOHYA}.lora_down.weight": (4, 768), f"{KOHYA}.lora_up.weight": (320, 4)}, "LoRA", "kohya"),
    "kohya's DoRA": (
        {f"{KOHYA}.lora_down.weight": (4, 1024), f"{KOHYA}.lora_up.weight": (320, 4), f"{KOHYA}.dora_scale": (320, 1)},
        "DoRA",
        "kohya",
    ),
    "diffusers": (
        {
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight": (4, 768),
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.up.weight": (320, 4),
        },
        "LoRA",
        "diffusers",
    ),
    "peft": ({f"unet.{UNET}.lora_A.weight": (4, 768), f"unet.{UNET}.lora_B.weight": (320, 4)}, "LoRA", "peft"),
    "LyCORIS": (
        {f"{KOHYA}.{one}": (4, 768) if one.endswith("b") else (320, 4) for one in
         ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
        "LoHa",
        "LyCORIS",
    ),
}  # fmt: skip
FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}


def written(folder, shapes, metadata=None):
    path = folder / "file.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path, metadata)
    return path


@pytest.mark.parametrize("case", FILES)
def test_adapters_of_every_form(tmp_path, case):
    shapes, what, form = FILES[case]
    found = passport(written(tmp_path, shapes | ({f"{KOHYA}.alpha": ()} if "kohya" in case else {})))
    assert (found.what, found.form, found.ranks) == (what, form, (4,))
    assert found.family == FAMILIES[max(max(shape) for shape in shapes.values())]
    assert found.layers == {"unet": {"to_k": 1}}
    assert found.dtype == "fp32" and found.loads
    assert ("diffusers" in found.loads) == (what == "LoRA")


def test_what_is_not_an_adapter(tmp_path):
    one = passport(written(tmp_path, {"emb_params": (2, 768)}))
    assert (one.what, one.family) == ("textual inversion", "Stable Diffusion 1.x")
    two = passport(written(tmp_path, {"clip_l": (2, 768), "clip_g": (2, 1280)}))
    assert (two.what, two.form) == ("textual inversion", "a key for each encoder")
    names = {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}
    attention = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    whole = passport(written(tmp_path, names | {attention: (320, 768)}))
    assert (whole.what, whole.family) == ("whole model", "Stable Diffusion 1.x")
    other = passport(written(tmp_path, {"lora_te2_x.lora_down.weight": (4, 1280), "lora_te2_x.lora_up.weight": (9, 4)}))
    assert other.family == "SDXL" and "bespoke" in other.loads
    flux = passport(written(tmp_path, {"lora_unet_double_blocks_0_x.lora_down.weight": (4, 8)}))
    assert flux.family == "FLUX" and "bespoke" not in flux.loads
    assert passport(written(tmp_path, {"a.b": (3, 3), "c.d": (2, 2)})).what == "unknown"
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(BespokeError, match="no safetensors file"):
        passport(tmp_path / "model.ckpt")
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(BespokeError, match="cannot be read"):
        passport(tmp_path / "broken.safetensors")


def test_what_is_written_is_what_is_published_and_is_read_back(tmp_path):
    """Kohya's marks and ModelSpec's, computed again as their pages say."""
    shapes, _, _ = FILES["kohya"]
    content = {name: torch.randn(shape) for name, shape in shapes.items()}
    facts = Facts(
        "style", "some/base", kind="1", prediction="epsilon", resolution=512, trigger="8bit",
        words=("vulpenor",), licence="cc0-1.0", training={"ss_seed": "3"},
    )  # fmt: skip
    network = Network("networks.lora", frozenset({4}), frozenset({2.0}))
    path, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    told = modelspec.write(content, path, facts, network)
    modelspec.write(content, again, facts, network)
    assert path.read_bytes() == again.read_bytes()
    whole = path.read_bytes()
    data = whole[8 + int.from_bytes(whole[:8], "little") :]
    assert told["modelspec.hash_sha256"] == f"0x{hashlib.sha256(data).hexdigest()}"
    plain = save(content, {key: value for key, value in told.items() if key.startswith("ss_")})
    assert told["sshs_model_hash"] == hashlib.sha256(plain[8 + int.from_bytes(plain[:8], "little") :]).hexdigest()
    wanted = {"modelspec.sai_model_spec", "modelspec.architecture", "modelspec.implementation", "modelspec.title"}
    assert wanted <= told.keys()
    assert told["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert (told["ss_network_dim"], told["ss_network_alpha"], told["ss_base_model_version"]) == ("4", "2", "sd_v1")
    found = passport(path)
    assert (found.base, found.title, found.trigger, found.licence) == ("some/base", "style", "8bit", "cc0-1.0")
    assert found.training["seed"] == "3"
    assert all(torch.equal(value, content[key]) for key, value in load_file(path).items())


def test_a_base_says_its_own_kind():
    facts = Facts.of(find("pico"), "pico")
    assert (facts.architecture, facts.prediction, facts.resolution) == ("stable-diffusion-v1", "v_prediction", 64)
    v2 = Facts("x", "y", kind="2", prediction="v_prediction", resolution=768)
    assert v2.architecture == "stable-diffusion-v2-768-v"
    assert json.dumps(dict(facts.training)) == "{}"
