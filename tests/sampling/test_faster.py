"""Faster ways to draw: what they change, what they leave alone, and that they do less."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from bespoke.models import find
from bespoke.models.wearing import worked_in
from bespoke.pipeline import warm
from bespoke.pipeline.naming import named
from bespoke.pipeline.sample import sample, settled
from bespoke.pipeline.warm import HERE, Warm
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.sampling.deepcache import remembering

REQUESTS = [Request("a red car", 3), Request("a blue house on a green background", 4)]
QUICK = Sample(num_inference_steps=6, guidance_scale=2.0)


@pytest.fixture(scope="module")
def pipeline():
    return named("pico").pipeline(safety_checker=False)


def pixels(drawn):
    return np.stack([np.asarray(one.picture, int) for one in drawn])


def weights(pipeline):
    parts = (pipeline.unet, pipeline.text_encoder)
    return [value.clone() for part in parts for value in part.state_dict().values()]


# --- deep layers that answer once for several steps ---


def test_deep_layers_are_asked_at_every_third_step_and_shallow_ones_at_each(pipeline):
    asked = {"deep": 0, "shallow": 0}
    unet = pipeline.unet
    hooks = [
        unet.mid_block.resnets[0].register_forward_hook(lambda *_: asked.__setitem__("deep", asked["deep"] + 1)),
        unet.conv_out.register_forward_hook(lambda *_: asked.__setitem__("shallow", asked["shallow"] + 1)),
    ]
    list(draw(pipeline, REQUESTS, QUICK.model_copy(update={"deep_cache": 3})))
    for hook in hooks:
        hook.remove()
    assert asked == {"deep": 2, "shallow": 6}


def test_the_cache_is_what_the_paper_says_computed_by_hand(pipeline):
    """The second call is the deep features of the first, with the shallow layers' answer to what is new."""
    unet, generator = pipeline.unet, torch.Generator().manual_seed(1)
    side, width = unet.config.sample_size, unet.config.cross_attention_dim
    first, second = (torch.randn(2, 4, side, side, generator=generator) for _ in range(2))
    text = torch.randn(2, 77, width, generator=generator)
    kept = {}
    hook = unet.up_blocks[-2].register_forward_hook(lambda module, args, output: kept.__setitem__("deep", output))
    with torch.no_grad(), remembering(unet, 2):
        unet(first, 900, text)
        told = unet(second, 850, text).sample
        hook.remove()
        embedding = unet.time_embedding(unet.time_proj(torch.tensor([850, 850])))
        begun = unet.conv_in(second)
        block, last = unet.down_blocks[0], unet.up_blocks[-1]
        inner = block.attentions[0](block.resnets[0](begun, embedding), encoder_hidden_states=text, return_dict=False)[
            0
        ]
        hidden = kept["deep"]
        for resnet, attention, skip in zip(last.resnets, last.attentions, (inner, begun), strict=True):
            hidden = resnet(torch.cat([hidden, skip], 1), embedding)
            hidden = attention(hidden, encoder_hidden_states=text, return_dict=False)[0]
        by_hand = unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))
    assert torch.allclose(told, by_hand, atol=1e-5)


def test_a_cache_changes_pictures_a_little_and_leaves_the_pipeline_as_it_was(pipeline):
    wish = QUICK.model_copy(update={"num_inference_steps": 20})
    before = pixels(draw(pipeline, REQUESTS, wish))
    cached = pixels(draw(pipeline, REQUESTS, wish.model_copy(update={"deep_cache": 2})))
    often = pixels(draw(pipeline, REQUESTS, wish.model_copy(update={"deep_cache": 5})))
    assert 0 < np.abs(cached - before).mean() < np.abs(often - before).mean() < np.abs(before[::-1] - before).mean()
    assert (pixels(draw(pipeline, REQUESTS, wish)) == before).all()


def test_where_the_network_is_asked_twice_in_a_step_both_are_of_the_same_step(pipeline):
    """Heun asks for a step's slope at its beginning and at its end: 11 calls for 6 steps, in pairs."""
    asked, deep = [], []
    hooks = [
        pipeline.unet.mid_block.resnets[0].register_forward_hook(lambda *_: deep.append(len(asked))),
        pipeline.unet.register_forward_pre_hook(lambda *_: asked.append(0)),
    ]
    list(draw(pipeline, REQUESTS, QUICK.model_copy(update={"deep_cache": 2, "scheduler": "heun"})))
    for hook in hooks:
        hook.remove()
    assert len(asked) == 11 and deep == [1, 2, 5, 6, 9, 10]


def test_guidance_that_ends_early_and_enlarging_go_with_a_cache(pipeline):
    more = {"deep_cache": 3, "guidance_end": 0.5, "hires_scale": 1.5}
    alone = [pixels(draw(pipeline, [one], QUICK.model_copy(update=more)))[0] for one in REQUESTS]
    together = pixels(draw(pipeline, REQUESTS, QUICK.model_copy(update=more)))
    assert np.abs(together - np.stack(alone)).max() <= 1 and together.shape[1:3] == (96, 96)


# --- adapters worked into the weights while pictures are drawn ---


def test_adapters_are_worked_in_for_the_block_and_weights_are_the_same_bits_after_it(run):
    pipeline = named(str(run)).pipeline(safety_checker=False)
    before, plain = weights(pipeline), pixels(draw_unmerged(pipeline))
    with worked_in(pipeline):
        layers = [layer for layer in pipeline.unet.modules() if getattr(layer, "merged_adapters", [])]
        inside = pixels(draw_unmerged(pipeline))
    assert layers and not any(layer.merged_adapters for layer in layers)
    assert all(torch.equal(*pair) for pair in zip(before, weights(pipeline), strict=True))
    assert np.abs(inside - plain).max() <= 1
    with pytest.raises(KeyboardInterrupt), worked_in(pipeline):
        raise KeyboardInterrupt
    assert all(torch.equal(*pair) for pair in zip(before, weights(pipeline), strict=True))


def draw_unmerged(pipeline):
    """Pictures by the pipeline as it is, without our own `draw`."""
    from bespoke.sampling import Drawn

    made = pipeline(
        [one.prompt for one in REQUESTS], num_inference_steps=6, guidance_scale=2.0, negative_prompt=["", ""],
        generator=[torch.Generator("cpu").manual_seed(one.seed) for one in REQUESTS],
    ).images  # fmt: skip
    return [Drawn(*pair) for pair in zip(REQUESTS, made, strict=True)]


def test_weights_in_bfloat16_are_left_alone(run):
    rounded = named(str(run)).pipeline(safety_checker=False, settings=Sample(dtype="bf16"))
    with worked_in(rounded):
        assert not any(getattr(layer, "merged_adapters", []) for layer in rounded.unet.modules())


# --- number formats, layouts, tiles ---


def test_fewer_bits_give_nearly_the_same_pictures_by_networks_that_are_channels_last():
    rounded = named("pico").pipeline(safety_checker=False, settings=Sample(dtype="bf16"))
    assert {part.dtype for part in (rounded.unet, rounded.vae, rounded.text_encoder)} == {torch.bfloat16}
    assert rounded.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    exact = pixels(draw(named("pico").pipeline(safety_checker=False), REQUESTS, QUICK))
    assert 0 < np.abs(pixels(draw(rounded, REQUESTS, QUICK)) - exact).mean() < 6


def test_large_models_are_drawn_with_in_bf16_where_that_is_fast_and_small_ones_never(monkeypatch, tmp_path):
    from dataclasses import replace

    from pico.families import sd1

    from bespoke.hardware import machine

    large = sd1()
    large.unet.register_to_config(sample_size=64)
    large.save_pretrained(tmp_path / "large")
    checkpoint = find(str(tmp_path / "large"))
    for bf16, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(sys.modules[settled.__module__], "machine", lambda bf16=bf16: replace(machine(), bf16=bf16))
        assert settled(Sample(), checkpoint).dtype == expected
        assert settled(Sample(), find("pico")).dtype == "fp32"
        assert settled(Sample(dtype="fp16"), checkpoint).dtype == "fp16"


def test_tiles_and_slices_decode_to_nearly_the_same_and_are_off_again_afterwards(pipeline, monkeypatch):
    wish = QUICK.model_copy(update={"width": 128, "height": 128, "num_inference_steps": 2})
    plain = pixels(draw(pipeline, REQUESTS, wish))
    sizes = []
    hook = pipeline.vae.decoder.register_forward_hook(lambda _, args, output: sizes.append(tuple(args[0].shape)))
    monkeypatch.setattr("bespoke.sampling.generate.AT_ONCE", 128 * 128)
    sliced = pixels(draw(pipeline, REQUESTS, wish))
    assert np.abs(sliced - plain).max() <= 1 and [size[0] for size in sizes] == [1, 1]
    sizes.clear()
    tiled = pixels(draw(pipeline, REQUESTS, wish.model_copy(update={"vae_tiling": True})))
    hook.remove()
    # pico's decoder sees all of a picture, so tiles change more than with autoencoders that are made for large ones.
    assert max(max(size[2:]) for size in sizes) < 32 and np.abs(tiled - plain).mean() < 20
    assert not (pipeline.vae.use_slicing or pipeline.vae.use_tiling)


# --- one pipeline for a process ---


def test_a_model_is_read_once_for_many_calls_and_again_when_its_files_change(tmp_path, monkeypatch):
    read, whole = [], warm.Named.pipeline

    def counted(self, **options):
        read.append(self.name)
        return whole(self, **options)

    monkeypatch.setattr(warm.Named, "pipeline", counted)
    folder = tmp_path / "model"
    find("pico").complete(folder)
    HERE.cool()
    once = [sample(str(folder), ["a fox"], out=tmp_path / name, settings=QUICK, seed=1) for name in ("a", "b")]
    assert len(read) == 1 and once[0].pictures[0].read_bytes() == once[1].pictures[0].read_bytes()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4000:] = bytes(4000)
    weights.write_bytes(content)
    changed = sample(str(folder), ["a fox"], out=tmp_path / "c", settings=QUICK, seed=1)
    assert len(read) == 2
    assert np.any(np.asarray(Image.open(changed.pictures[0])) != np.asarray(Image.open(once[0].pictures[0])))


def test_what_a_failed_drawing_leaves_is_not_used_again(pipeline):
    here = Warm()
    source = named("pico")
    with pytest.raises(ZeroDivisionError), here.lent(source, QUICK, safety_checker=False) as lent:
        lent.unet.conv_in.weight.data.zero_()
        raise ZeroDivisionError
    again = here.ready(source, QUICK, safety_checker=False)
    assert again is not lent and again.unet.conv_in.weight.any()


def test_compiled_blocks_draw_the_same(tmp_path):
    """In a process of its own, for a compiler changes more than the networks."""
    from pico.families import sd1

    torch.manual_seed(0)
    sd1().save_pretrained(tmp_path / "tiny")
    script = """
import numpy as np
from bespoke.pipeline.sample import sample
from bespoke.recipe.tree import Sample
from PIL import Image
from torch import nn
wish = Sample(num_inference_steps=1, guidance_scale=1.0)
made = []
for compiled in (False, True):
    now = wish.model_copy(update={"compile": compiled})
    done = sample("tiny", ["a fox"], out=f"{compiled}", settings=now, safety_checker=False)
    made.append(np.asarray(Image.open(done.pictures[0]), int))
from torch._dynamo.utils import counters
assert counters["frames"]["ok"] > 0, counters
assert abs(made[0] - made[1]).max() <= 1, abs(made[0] - made[1]).max()
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=400)
