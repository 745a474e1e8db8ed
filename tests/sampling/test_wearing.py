"""Several adapters at once: called by prompts and by settings, weighed, and each read once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, kinds
from bespoke.models.wearing import Wardrobe
from bespoke.pipeline.asked import adapter_at
from bespoke.pipeline.naming import Named
from bespoke.pipeline.sample import sample
from bespoke.pipeline.warm import Warm
from bespoke.recipe.training import Model
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw, made

QUICK = Sample(num_inference_steps=3, guidance_scale=2.0)


def saved(file, seed, method="lora", size=0.1):
    base = find("pico")
    unet = base.denoiser()
    adapters.attach(unet, kinds.config_of(Model(method=method, rank=4), unet, base.family.groups("unet")), seed=0)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.trainable(unet).values():
            parameter.copy_(size * torch.randn(parameter.shape, generator=source))
    adapterfile.save({"unet": unet}, file)
    return file


@pytest.fixture(scope="module")
def loras(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    (folder / "deep").mkdir()
    saved(folder / "one.safetensors", 1)
    saved(folder / "deep" / "two.safetensors", 2)
    saved(folder / "own.safetensors", 3, "loha", 0.5)
    return folder


def pixels(picture):
    return np.asarray(picture.convert("RGB")).astype(int)


def files(done):
    return [pixels(Image.open(file)) for file in done.pictures]


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_two_adapters_draw_as_diffusers_draws_with_both(loras, tmp_path):
    prompt = "a red car <lora:one:0.8> <lora:two:-0.5>"
    done = sample("pico", [prompt], out=tmp_path, settings=QUICK, loras=loras, safety_checker=False)
    plain = find("pico").pipeline(safety_checker=False)
    for name, file in (("one", "one.safetensors"), ("two", "deep/two.safetensors")):
        plain.load_lora_weights(str((loras / file).parent), weight_name=file.rpartition("/")[2], adapter_name=name)
    plain.set_adapters(["one", "two"], [0.8, -0.5])
    theirs = plain(
        "a red car", negative_prompt="", num_inference_steps=3, guidance_scale=2.0,
        generator=torch.Generator("cpu").manual_seed(0),
    ).images[0]  # fmt: skip
    assert abs(files(done)[0] - pixels(theirs)).max() <= 1
    told = made(done.pictures[0])
    assert told.prompt == "a red car" and sorted(told.settings["adapters"].values()) == [-0.5, 0.8]


def test_each_prompt_wears_what_it_calls_and_order_changes_nothing(loras, tmp_path):
    prompts = ["a cat <lora:one>", "a cat", "a cat <lora:two:0.5>", "a cat <lora:one>"]
    how = {"settings": QUICK, "loras": loras, "safety_checker": False, "seed": 3}
    together = files(sample("pico", prompts, out=tmp_path / "all", **how))
    alone = [files(sample("pico", [prompt], out=tmp_path / f"{n}", **how))[0] for n, prompt in enumerate(prompts)]
    assert all(abs(a - b).max() <= 1 for a, b in zip(together, alone, strict=True))
    assert (together[0] == together[3]).all() and len({picture.tobytes() for picture in together}) == 3


def test_a_run_keeps_its_own_adapter_under_another_and_without_it_again(run, loras):
    from bespoke.pipeline.naming import named

    pipeline = named(str(run)).pipeline(safety_checker=False)
    request = [Request("a cat", 1)]
    wardrobe = Wardrobe(pipeline, "the run")
    before = pixels(next(iter(draw(pipeline, request, QUICK))).picture)
    wardrobe.wear({loras / "one.safetensors": 0.7})
    with_it = pixels(next(iter(draw(pipeline, request, QUICK))).picture)
    wardrobe.wear({})
    after = pixels(next(iter(draw(pipeline, request, QUICK))).picture)
    assert abs(before - after).max() <= 1 and abs(before - with_it).mean() > 1


def test_settings_name_adapters_that_are_always_worn(loras, tmp_path):
    how = {"loras": loras, "safety_checker": False}
    always = QUICK.model_copy(update={"adapters": {"one": 0.5}})
    (by_settings,) = files(sample("pico", ["a cat"], out=tmp_path / "a", settings=always, **how))
    (by_prompt,) = files(sample("pico", ["a cat <lora:one:0.5>"], out=tmp_path / "b", settings=QUICK, **how))
    assert (by_settings == by_prompt).all()


def test_a_kind_that_diffusers_does_not_load_is_worn_with_others(loras, tmp_path):
    how = {"settings": QUICK, "loras": loras, "safety_checker": False}
    (alone,) = files(sample("pico", ["a cat <lora:own:0.5>"], out=tmp_path / "a", **how))
    (plain,) = files(sample("pico", ["a cat"], out=tmp_path / "b", **how))
    assert abs(alone - plain).mean() > 1
    mixed = files(
        sample(
            "pico",
            ["a cat <lora:own:0.5>", "a cat", "a cat <lora:one>", "a cat <lora:own:0.5>"],
            out=tmp_path / "d",
            **how,
        )
    )
    assert abs(mixed[0] - alone).max() <= 1 and abs(mixed[3] - alone).max() <= 1 and abs(mixed[1] - plain).max() <= 1
    (both,) = files(sample("pico", ["a cat <lora:own:0.5> <lora:one>"], out=tmp_path / "c", **how))
    assert all(abs(both - other).mean() > 1 for other in (alone, plain, mixed[2]))


def test_a_name_is_a_file_a_run_or_a_file_somewhere_below(loras, run, tmp_path):
    assert adapter_at("two", loras) == loras / "deep" / "two.safetensors"
    assert adapter_at(str(run), loras) == run / "adapter.safetensors"
    assert adapter_at(str(loras / "one.safetensors"), tmp_path) == loras / "one.safetensors"
    with pytest.raises(BespokeError, match="no adapter 'three'") as caught:
        adapter_at("three", loras)
    assert "one, own, two" in caught.value.hint
    (tmp_path / "x").mkdir()
    for place in (tmp_path, tmp_path / "x"):
        saved(place / "same.safetensors", 4)
    assert adapter_at("same", tmp_path) == tmp_path / "same.safetensors", "the nearest is meant"


def test_a_folder_may_lie_above_and_what_is_hidden_in_it_is_not_found(loras, tmp_path, monkeypatch):
    (loras / ".cache").mkdir(exist_ok=True)
    saved(loras / ".cache" / "two.safetensors", 5)
    (loras.parent / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(loras.parent / "here")
    assert adapter_at("two", Path("..") / loras.name) == Path("..") / loras.name / "deep" / "two.safetensors"


@pytest.mark.parametrize("method", ["lora", "dora", "loha", "lokr", "oft", "boft"])
def test_a_model_draws_by_its_own_adapter_of_any_kind_and_by_none_when_it_weighs_nothing(loras, tmp_path, method):
    base = find("pico")
    own = Named(method, base, saved(tmp_path / "own.safetensors", 5, method, 0.5 if method == "loha" else 0.05))
    here = Warm()
    fresh = (base.pipeline(safety_checker=False), own.pipeline(safety_checker=False))
    plain, worn = ([*draw(pipeline, [Request("a red car", 1)], QUICK)] for pipeline in fresh)
    with here.lent(own, QUICK, safety_checker=False) as pipeline, Wardrobe(pipeline, method) as wardrobe:
        wardrobe.wear({})
        (drawn,) = draw(pipeline, [Request("a red car", 1)], QUICK)
        if method in ("oft", "boft"):
            with pytest.raises(BespokeError, match="worn alone"):
                wardrobe.wear({loras / "one.safetensors": 1.0})
    assert np.abs(pixels(drawn.picture) - pixels(worn[0].picture)).max() <= 1
    assert np.abs(pixels(drawn.picture) - pixels(plain[0].picture)).max() > 1
    (off,) = draw(here.ready(own, QUICK, 0.0, safety_checker=False), [Request("a red car", 1)], QUICK)
    assert (pixels(off.picture) == pixels(plain[0].picture)).all()
    if method in ("oft", "boft"):
        with pytest.raises(BespokeError, match="cannot be weighed"):
            here.ready(own, QUICK, 0.5, safety_checker=False)
        (again,) = draw(here.ready(own, QUICK, 0.0, safety_checker=False), [Request("a red car", 1)], QUICK)
        assert (pixels(again.picture) == pixels(plain[0].picture)).all(), "a weight that was refused changed nothing"


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_warm_pipeline_is_as_a_fresh_one_also_with_another_programs_kinds(loras, tmp_path, dtype):
    base, wish = find("pico"), QUICK.model_copy(update={"dtype": dtype})
    theirs = tmp_path / "theirs.safetensors"
    content = load_file(saved(tmp_path / "ours.safetensors", 4, "lokr", 0.3))
    save_file({**content}, theirs)  # without what says that it is ours
    here = Warm()
    for source in (Named("one", base, loras / "one.safetensors"), Named("theirs", base, theirs), Named("pico", base)):
        warm, fresh = (
            here.ready(source, wish, safety_checker=False),
            source.pipeline(safety_checker=False, settings=wish),
        )
        ours, other = (
            {key.replace(".base_layer", ""): value for key, value in each.unet.state_dict().items()}
            for each in (warm, fresh)
        )
        assert all(torch.equal(ours[key], value) for key, value in other.items())
