"""LoHa and LoKr of any program, worked into the weights: weighed, together with others, and taken out again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.loha.layer import HadaWeightCP
from peft.tuners.lokr.layer import make_kron
from peft.tuners.lokr.layer import make_weight_cp as kron_core
from PIL import Image
from safetensors.torch import load_file, save_file

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, formulas, kinds, load_adapter, workedin
from bespoke.models.passport import passport
from bespoke.models.wearing import Wardrobe, unload_adapter, weigh_adapter
from bespoke.pipeline.sample import sample
from bespoke.recipe.training import Model
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw

QUICK = Sample(num_inference_steps=3, guidance_scale=2.0)
TARGETS = ("attention", "convolutions")


def saved(file: Path, seed: int, method: str, size: float) -> Path:
    base = find("pico")
    unet = base.denoiser()
    wish = Model(method=method, rank=4, targets=TARGETS[: 1 if method == "oft" else 2])
    adapters.attach(unet, kinds.config_of(wish, unet, base.family.groups("unet")), seed=0)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.trainable(unet).values():
            parameter.copy_(size * torch.randn(parameter.shape, generator=source))
    adapterfile.save({"unet": unet}, file)
    return file


def foreign(own: Path, out: Path) -> Path:
    """The same file as another program writes it: it says nothing of bespoke or peft."""
    save_file(load_file(own), out, {"ss_network_module": "lycoris.kohya"})
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    saved(folder / "loha.safetensors", 1, "loha", 0.35)
    saved(folder / "lokr.safetensors", 2, "lokr", 0.3)
    saved(folder / "lora.safetensors", 3, "lora", 0.1)
    saved(folder / "oft.safetensors", 4, "oft", 0.05)
    for name in ("loha", "lokr"):
        foreign(folder / f"{name}.safetensors", folder / f"their_{name}.safetensors")
    return folder


def pixels(pipeline: Any) -> np.ndarray:
    return np.asarray(next(iter(draw(pipeline, [Request("a red car", 1)], QUICK))).picture).astype(int)


def weights(pipeline: Any) -> dict[str, torch.Tensor]:
    parts = {"unet": pipeline.unet, "text": pipeline.text_encoder}
    return {f"{n}.{key}": value.clone() for n, part in parts.items() for key, value in part.state_dict().items()}


@pytest.mark.parametrize("kind", ["loha", "lokr"])
@pytest.mark.parametrize("weight", [1.0, 0.6, -0.4])
def test_a_file_of_ours_and_of_others_draws_as_peft_does(files: Path, tmp_path: Path, kind: str, weight: float) -> None:
    by_peft = find("pico").pipeline(safety_checker=False)
    plain = pixels(by_peft)
    load_adapter(by_peft, files / f"{kind}.safetensors", "pico")
    weigh_adapter(by_peft, weight)
    wanted = pixels(by_peft)
    assert abs(wanted - plain).mean() > 3
    for number, name in enumerate((kind, f"their_{kind}")):
        how: dict[str, Any] = {"settings": QUICK, "loras": files, "safety_checker": False, "seed": 1}
        done = sample("pico", [f"a red car <lora:{name}:{weight}>"], out=tmp_path / f"{number}", **how)
        assert abs(np.asarray(Image.open(done.pictures[0])).astype(int) - wanted).max() <= 1


def test_several_are_worn_together_and_taken_out_to_the_last_bit(files: Path) -> None:
    pipeline = find("pico").pipeline(safety_checker=False)
    before, plain = weights(pipeline), pixels(pipeline)
    wardrobe = Wardrobe(pipeline, "pico")
    loha, lokr, lora = (files / f"{name}.safetensors" for name in ("their_loha", "lokr", "lora"))
    wardrobe.wear({loha: 0.5, lora: 0.8, lokr: -0.3})
    together = pixels(pipeline)
    merged = find("pico").pipeline(safety_checker=False)
    changes = [(loha, 0.5), (lokr, -0.3)]
    own = dict(merged.unet.named_modules())
    for path, much in changes:
        layers = formulas.read(path, formulas._places({"unet": merged.unet}))
        names = {formulas.kohyafile.name_of("unet", layer): layer for layer in own}
        base = find("pico").denoiser()
        for name, found in layers.items():
            weight = base.get_submodule(names[name]).weight
            own[names[name]].weight.data += much * formulas.delta(found, tuple(weight.shape))
    merged.load_lora_weights(str(files), weight_name="lora.safetensors", adapter_name="one")
    merged.set_adapters(["one"], [0.8])
    assert abs(pixels(merged) - together).max() <= 1 and abs(together - plain).mean() > 3
    wardrobe.wear({lokr: 1.0})
    wardrobe.wear({lora: 1.0})
    wardrobe.wear({})
    assert (pixels(pipeline) == plain).all()
    unload_adapter(pipeline)
    after = weights(pipeline)
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)


def test_what_is_loaded_in_python_is_unloaded_to_the_last_bit(files: Path) -> None:
    pipeline = find("pico").pipeline(safety_checker=False)
    before = weights(pipeline)
    load_adapter(pipeline, files / "their_loha.safetensors", "pico")
    assert any(not torch.equal(value, before[key]) for key, value in weights(pipeline).items())
    unload_adapter(pipeline)
    assert all(torch.equal(value, before[key]) for key, value in weights(pipeline).items())


def test_cores_are_what_peft_makes_of_them() -> None:
    source = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=source)

    r, out, into = 3, 8, 6
    hada = {f"hada_t{n}": some(r, r, 3, 3) for n in (1, 2)}
    hada |= {f"hada_w{n}_{side}": some(r, size) for n in (1, 2) for side, size in (("a", out), ("b", into))}
    two = [hada[f"hada_{name}"] for n in (1, 2) for name in (f"t{n}", f"w{n}_a", f"w{n}_b")]
    theirs = HadaWeightCP.apply(*two, torch.tensor(1.0))
    assert torch.allclose(formulas.delta(hada | {"alpha": torch.tensor(1.5)}, (out, into, 3, 3)), theirs / 2, atol=1e-5)
    kron = {"lokr_w1": some(2, 3), "lokr_t2": some(r, r, 3, 3), "lokr_w2_a": some(r, 4), "lokr_w2_b": some(r, 2)}
    second = kron_core(kron["lokr_t2"], kron["lokr_w2_a"], kron["lokr_w2_b"])
    theirs = make_kron(kron["lokr_w1"], second)
    assert torch.allclose(formulas.delta(kron, (out, into, 3, 3)), theirs, atol=1e-5)
    mid, up, down = some(r, r, 3, 3), some(out, r, 1, 1), some(r, into, 1, 1)
    one = torch.nn.functional.conv2d
    picture = some(1, into, 7, 7)
    whole = formulas.delta({"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": mid}, (out, into, 3, 3))
    assert torch.allclose(one(picture, whole), one(one(one(picture, down), mid), up), atol=1e-3)


def test_what_does_not_fit_says_so_and_leaves_nothing(files: Path, tmp_path: Path) -> None:
    pipeline = find("pico").pipeline(safety_checker=False)
    before = weights(pipeline)
    content = load_file(files / "loha.safetensors")
    key = next(key for key in content if key.endswith("hada_w1_a"))
    name = key.partition(".")[0]
    wrong = {
        "has not": {**content, "lora_unet_nowhere.hada_w1_a": torch.ones(2, 2)},
        "other shapes": {**content, key: torch.ones(7, 4)},
        "magnitudes of a layer's inputs": {**content, f"{name}.dora_scale": torch.ones(1, 64)},
    }
    for problem, tensors in wrong.items():
        save_file(tensors, tmp_path / "wrong.safetensors")
        with pytest.raises(BespokeError, match=problem):
            Wardrobe(pipeline, "pico").wear({files / "lokr.safetensors": 1.0, tmp_path / "wrong.safetensors": 1.0})
        assert all(torch.equal(value, before[name]) for name, value in weights(pipeline).items())
        assert workedin.KEPT not in pipeline.unet.__dict__
    with pytest.raises(BespokeError, match="worn alone"):
        Wardrobe(pipeline, "pico").wear({files / "oft.safetensors": 1.0, files / "lokr.safetensors": 1.0})
    assert "bespoke" in passport(files / "their_loha.safetensors").loads
