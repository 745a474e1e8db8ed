"""Stable Diffusion 3, tiny and random: what its text encoders say, and drawn, by the code that draws pico."""

import copy
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline, StableDiffusion3Pipeline
from peft import LoraConfig, get_peft_model_state_dict
from pico import families
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.encoding import text_encoder, told_long
from bespoke.encoding.text import _Spelling
from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, kinds
from bespoke.models.wearing import Wardrobe, worked_in
from bespoke.pipeline.naming import named
from bespoke.pipeline.sample import sample_again
from bespoke.recipe.schedulers import FLOWING
from bespoke.recipe.training import Model
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw, latents, made
from bespoke.sampling.preview import Colours
from tests.flow.tiny import plain_of

KINDS = ("sd3", "sd3-clips", "sd35")
LONG = "a red cat, " * 30
REQUESTS = [Request("a red cat", 3), Request("two words", 4)]
WISH = Sample(num_inference_steps=3, guidance_scale=4.0)
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj"]
BEGUN = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
HALF = Image.new("L", (64, 64))
HALF.paste(255, (0, 0, 32, 64))


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    folders = {kind: tmp_path_factory.mktemp("three") / kind for kind in KINDS}
    for kind, folder in folders.items():
        families.write(kind, folder)
    return folders


@pytest.fixture(params=KINDS)
def base(request, bases) -> Path:
    return bases[request.param]


def encoder_of(folder, skip=0):
    checkpoint = find(str(folder))
    return text_encoder(checkpoint.readers(), torch.device("cpu"), skip, checkpoint.joint_width)


# --- texts ---


@pytest.mark.parametrize("skip", [0, 1])
def test_states_are_those_of_plain_diffusers_with_the_summary_last(base, skip):
    captions = ["a red cat, two dogs", "", LONG]
    ours, plain, checkpoint = encoder_of(base, skip)(captions), plain_of(base), find(str(base))
    with torch.no_grad():
        states, _, pooled, _ = plain.encode_prompt(
            captions, captions, captions, do_classifier_free_guidance=False, clip_skip=skip or None
        )
    tokens, width = checkpoint.text_shape
    assert ours.shape == (3, tokens + 1, width) == (3, 77 + 256 + 1, plain.transformer.config.joint_attention_dim)
    torch.testing.assert_close(ours[:, :-1], states, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours[:, -1, : pooled.shape[1]], pooled, rtol=0, atol=1e-6)
    assert not ours[:, -1, pooled.shape[1] :].any() and checkpoint.summarised and not checkpoint.windowed


def test_weights_count_for_clip_and_t5_and_break_breaks_nothing(bases):
    encode = encoder_of(bases["sd3"])
    weighed, same, empty = encode(["a (red )cat [hat] BREAK (blue:1.3)", "a red cat hat blue", ""])
    at = {"red": (2, [79, 80, 81, 82], 1.1), "hat": (4, [87, 88, 89, 90], 1 / 1.1), "blue": (5, [*range(91, 96)], 1.3)}
    expected = same.clone()
    for first, below, weight in at.values():
        rows = [first, *below]
        expected[rows] = empty[rows] + weight * (same[rows] - empty[rows])
    torch.testing.assert_close(weighed, expected, rtol=0, atol=1e-5)
    assert (weighed[77:96] - same[77:96]).abs().max() > 1e-3


def test_a_word_s_weight_is_not_its_neighbour_s_where_tokens_begin_with_the_space_before_them():
    """As the published tokenizer.json of T5 has it."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in ("a", "red", "hat"))]
    inner = Tokenizer(models.Unigram(pieces, unk_id=2))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")
    assert tokenizer("a red hat", return_offsets_mapping=True)["offset_mapping"][1] == (1, 5)
    reader = _Spelling(tokenizer, families.t5(64)[0], torch.device("cpu"))
    assert reader.opening("a (red )hat").weights == (1.0, 1.1, 1.0)


def test_what_no_text_encoder_reads_is_told(bases):
    whole, small = find(str(bases["sd3"])), find(str(bases["sd3-clips"]))
    word, words = "cat " * 40, "cat " * 80
    assert told_long(whole.measure(), [word, words], windowed=whole.windowed) == (
        f"1 longer than the 256 tokens that are read; lost is “{('cat ' * 17)[2:62].strip()}”"
    )
    assert told_long(whole.measure(), [word], windowed=whole.windowed) == ""
    told = told_long(small.measure(), [word, words], windowed=small.windowed)
    assert told == "1 longer than the 77 tokens that are read; lost is “cat cat cat cat cat”"


# --- drawing ---


def seeds():
    return [torch.Generator("cpu").manual_seed(request.seed) for request in REQUESTS]


def by_diffusers(pipeline, **more):
    prompts = [request.prompt for request in REQUESTS]
    options = {"num_inference_steps": 3, "guidance_scale": 4.0, "generator": seeds(), **more}
    return np.stack([np.asarray(each, int) for each in pipeline(prompts, **options).images])


def other_way(kind, folder):
    """Another pipeline of diffusers with the same networks."""
    made_so = kind(**plain_of(folder).components)
    made_so.set_progress_bar_config(disable=True)
    return made_so


def pixels(drawn):
    return np.stack([np.asarray(each.picture, int) for each in drawn])


def wished(**changes):
    return WISH.model_copy(update=changes)


@pytest.fixture(params=KINDS, scope="module")
def both(request, bases):
    """The folder of a model, and our pipeline of it."""
    return bases[request.param], named(str(bases[request.param])).pipeline()


@pytest.fixture(scope="module")
def pipeline(bases):
    return named(str(bases["sd35"])).pipeline()


# diffusers leaves no layers out of negative prompts, which A1111 and we do.
@pytest.mark.parametrize(("negative", "skip"), [("", 0), ("", 1), ("a dog", 0)])
def test_pictures_are_those_of_plain_diffusers(both, negative, skip):
    base, ours = both
    plain, more = plain_of(base), {"clip_skip": skip or None}
    if skip:  # so that they are left out of both, negative prompts are given as states
        none = plain.encode_prompt("", "", "", do_classifier_free_guidance=False, clip_skip=skip)
        more |= {"negative_prompt_embeds": none[0].repeat(2, 1, 1).detach()}
        more |= {"negative_pooled_prompt_embeds": none[2].repeat(2, 1).detach()}
    else:
        more["negative_prompt"] = [negative] * 2 if negative else None
    theirs = by_diffusers(plain, **more)
    assert np.abs(pixels(draw(ours, REQUESTS, wished(negative_prompt=negative, clip_skip=skip))) - theirs).max() <= 1
    assert theirs[0].std() > 5 and (theirs[0] != theirs[1]).any()


def test_latents_are_those_of_plain_diffusers(both):
    base, ours = both
    prompts = [request.prompt for request in REQUESTS]
    theirs = plain_of(base)(
        prompts, num_inference_steps=3, guidance_scale=4.0, generator=seeds(), output_type="latent"
    ).images
    torch.testing.assert_close(next(latents(ours, REQUESTS, WISH)), theirs, rtol=0, atol=1e-5)


def test_pictures_begin_with_pictures_as_in_plain_diffusers_and_masks_keep_what_is_black(both):
    base, ours = both
    requests = [dataclasses.replace(request, image=BEGUN) for request in REQUESTS]
    more = {"num_inference_steps": 4, "strength": 0.5}
    size = {"width": 64, "height": 64}
    theirs = by_diffusers(other_way(StableDiffusion3Img2ImgPipeline, base), image=[BEGUN] * 2, **size, **more)
    assert np.abs(pixels(draw(ours, requests, wished(**more))) - theirs).max() <= 1
    masked = pixels(draw(ours, [dataclasses.replace(r, mask=HALF) for r in requests], wished(**more)))
    inpainting = other_way(StableDiffusion3InpaintPipeline, base)
    theirs = by_diffusers(inpainting, image=[BEGUN] * 2, mask_image=[HALF] * 2, **size, **more)
    assert np.abs(masked - theirs)[:, :, :32].max() <= 1
    before = np.asarray(BEGUN, int)
    assert (masked[:, :, 32:] == before[:, 32:]).all() and np.abs(masked - before)[:, :, :32].max() > 1


@pytest.mark.parametrize("begun", ["words", "picture", "mask"])
@pytest.mark.parametrize("more", [{}, {"guidance_end": 0.5}, {"width": 96}, {"hires_scale": 1.5}], ids=str)
def test_a_picture_does_not_depend_on_its_batch(pipeline, begun, more):
    parts = {"words": {}, "picture": {"image": BEGUN}, "mask": {"image": BEGUN, "mask": HALF}}[begun]
    requests = [dataclasses.replace(r, **parts) for r in (REQUESTS[0], Request("a (red cat:1.2), " * 30, 5))]
    together = pixels(draw(pipeline, requests, wished(**more)))
    alone = np.concatenate([pixels(draw(pipeline, [one], wished(**more))) for one in requests])
    assert np.abs(together - alone).max() <= 1
    high = 96 if "hires_scale" in more else 64
    assert together.shape[1:3] == (high, max(high, more.get("width", 0)))


@pytest.mark.parametrize("begun", [None, BEGUN], ids=["words", "picture"])
def test_guidance_that_ends_early_asks_for_the_prompt_alone(pipeline, begun):
    requests, asked = [dataclasses.replace(r, image=begun) for r in REQUESTS], []
    hook = pipeline.transformer.register_forward_hook(lambda _, __, answer: asked.append(len(answer[0])))
    more = {"num_inference_steps": 4, "strength": 1.0}
    ended = pixels(draw(pipeline, requests, wished(guidance_end=0.5, **more)))
    hook.remove()
    assert asked == [4, 4, 2, 2]
    whole = pixels(draw(pipeline, requests, wished(**more)))
    none = pixels(draw(pipeline, requests, wished(guidance_end=0.0, **more)))
    assert (ended != whole).any() and (ended != none).any()


# --- samplers ---


@pytest.fixture(scope="module")
def fine(pipeline):
    """What many of the smallest steps lead to."""
    return next(latents(pipeline, REQUESTS[:1], wished(num_inference_steps=100, scheduler="euler")))


@pytest.mark.parametrize("name", FLOWING)
def test_every_sampler_comes_to_the_same_picture_with_many_steps(pipeline, name, fine):
    """DEIS does not: diffusers' ends where noise is left."""
    coarse, finer = (
        (next(latents(pipeline, REQUESTS[:1], wished(num_inference_steps=n, scheduler=name))) - fine).abs().mean()
        for n in (4, 25)
    )
    assert finer < 0.015 * fine.abs().mean() and finer < coarse


@pytest.mark.parametrize("name", ["default", *FLOWING])
@pytest.mark.parametrize("begun", [None, BEGUN], ids=["words", "picture"])
def test_each_step_is_told_and_the_estimate_becomes_the_picture(pipeline, name, begun):
    requests, heard, estimates = [dataclasses.replace(r, image=begun) for r in REQUESTS], [], []

    def watch(step):
        heard.append((step.number, step.steps, step.pictures))
        estimates.append(step.estimate().float())

    wish = wished(num_inference_steps=4, scheduler=name)
    plain, watched = pixels(draw(pipeline, requests, wish)), pixels(draw(pipeline, requests, wish, watch))
    assert (plain == watched).all()
    last = heard[-1][0]
    assert last in (3, 4, 5, 7) and heard == [(number, last, 2) for number in range(1, last + 1)]
    config = pipeline.vae.config
    with torch.no_grad():
        decoded = pipeline.vae.decode(estimates[-1] / config.scaling_factor + config.shift_factor).sample
    near = (decoded.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1).numpy() * 255
    assert np.abs(near - watched).mean() < 0.5 * np.abs(near[::-1] - watched).mean()


def test_colours_of_latents_heed_the_shift_of_the_autoencoder(pipeline):
    """Latents mean the same colours however they are shifted; a large shift shows whether it is heeded."""
    vae = pipeline.vae
    shifted, plain = copy.deepcopy(vae), copy.deepcopy(vae)
    shifted.register_to_config(shift_factor=0.5)
    plain.register_to_config(shift_factor=None)
    pixels_of = torch.from_numpy(np.asarray(BEGUN, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        mode = vae.encode(pixels_of).latent_dist.mode()
    scale = vae.config.scaling_factor
    first, second = Colours(shifted)((mode - 0.5) * scale)[0], Colours(plain)(mode * scale)[0]
    assert np.abs(np.asarray(first, int) - np.asarray(second, int)).mean() < 5, (
        "but for rounding, which random ones need"
    )


# --- refusals ---


@pytest.mark.parametrize(
    ("wish", "said", "hint"),
    [
        ({"deep_cache": 2}, "deep_cache = 2 is for UNets", "Take it out"),
        ({"guidance_rescale": 0.5}, "guidance_rescale = 0.5 is for models with a UNet", "Take it out"),
        ({"scheduler": "euler_a"}, "'euler_a' is none for models that were trained by flow", "default, euler, "),
        ({"scheduler": "dpm++_2m_karras"}, r"'dpm\+\+_2m_karras' is none", "dpm++_2m, "),
        ({"scheduler": "deis"}, "'deis' is none", "unipc"),
        ({"width": 512}, "places in pictures of up to 256 pixels a side; 512 × 64", "Lower"),
        ({"hires_scale": 5.0}, "up to 256 pixels a side; 320 × 320", "hires_scale"),
    ],
)
def test_what_it_cannot_be_drawn_with_is_refused_by_name(pipeline, wish, said, hint):
    with pytest.raises(BespokeError, match=said) as told:
        list(draw(pipeline, REQUESTS, wished(**wish)))
    assert hint in told.value.hint


def test_it_is_refused_before_the_model_is_read_and_before_it_is_trained(bases, tmp_path):
    with pytest.raises(BespokeError, match="euler_a"):
        bespoke.sample(str(bases["sd3"]), ["a cat"], out=tmp_path / "drawn", overrides=["sample.scheduler=euler_a"])
    (tmp_path / "pictures").mkdir()
    for number, name in enumerate(("cat", "dog", "fox", "cow")):
        noise = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "pictures" / f"{name}.png")
        (tmp_path / "pictures" / f"{name}.txt").write_text(f"blot of a {name}")
    project = bespoke.new(tmp_path / "project", tmp_path / "pictures", base=str(bases["sd3"]))
    with pytest.raises(BespokeError, match="deep_cache"):
        bespoke.train(project.recipe, ("sample.deep_cache=3",))


# --- adapters ---


@pytest.fixture(scope="module")
def theirs(bases, tmp_path_factory):
    """A LoRA for the transformer and both CLIPs, made with peft and written by diffusers."""
    other, layers = plain_of(bases["sd35"]), {}
    for name, ends in (("transformer", ATTENTION), ("text_encoder", ["q_proj"]), ("text_encoder_2", ["q_proj"])):
        part, source = getattr(other, name), torch.Generator().manual_seed(1)
        part.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=ends, init_lora_weights="gaussian"))
        found = get_peft_model_state_dict(part)
        layers[f"{name}_lora_layers"] = {k: 0.2 * torch.randn(v.shape, generator=source) for k, v in found.items()}
    folder = tmp_path_factory.mktemp("theirs")
    StableDiffusion3Pipeline.save_lora_weights(folder, weight_name="theirs.safetensors", **layers)
    return folder / "theirs.safetensors"


def test_a_lora_of_another_program_is_worn_and_taken_off_again(bases, theirs):
    pipeline, plain = named(str(bases["sd35"])).pipeline(), plain_of(bases["sd35"])
    before = pixels(draw(pipeline, REQUESTS, WISH))
    plain.load_lora_weights(theirs.parent, weight_name=theirs.name, adapter_name="theirs")
    with Wardrobe(pipeline, "3.5") as wardrobe:
        for weight in (1.0, 0.5):
            plain.set_adapters(["theirs"], [weight])
            wardrobe.wear({theirs: weight})
            with worked_in(pipeline):
                assert np.abs(pixels(draw(pipeline, REQUESTS, WISH)) - by_diffusers(plain)).max() <= 1
    assert np.abs(by_diffusers(plain) - before).max() > 1
    assert (pixels(draw(pipeline, REQUESTS, WISH)) == before).all()


@pytest.mark.parametrize("method", ["lora", "dora", "loha", "lokr", "oft"])
def test_our_adapters_draw_as_they_were_trained(bases, method, tmp_path):
    base = find(str(bases["sd35"]))
    network = base.denoiser()
    wish = Model(method=method, rank=4, targets=("attention",))
    adapters.attach(network, kinds.config_of(wish, network, base.family.groups("transformer")), seed=0)
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapters.trainable(network).values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=source))
    file = tmp_path / "ours.safetensors"
    adapterfile.save({"transformer": network}, file)
    pipeline, trained = base.pipeline(), base.pipeline(parts={"transformer": network})
    before, wanted = pixels(draw(pipeline, REQUESTS, WISH)), pixels(draw(trained, REQUESTS, WISH))
    with Wardrobe(pipeline, "3.5") as wardrobe:
        wardrobe.wear({file: 1.0})
        with worked_in(pipeline):
            worn = pixels(draw(pipeline, REQUESTS, WISH))
    assert np.abs(worn - wanted).max() <= 1 < np.abs(wanted - before).max()
    assert (pixels(draw(pipeline, REQUESTS, WISH)) == before).all()


# --- commands ---


def test_commands_draw_again_and_grids_show_what_cannot_be_drawn(bases, theirs, tmp_path):
    base, wish = str(bases["sd35"]), "sample.num_inference_steps=2"
    call = ["sample", base, f"a cat <lora:{theirs.stem}:0.5>", "a dog", "--loras", str(theirs.parent)]
    heard = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "a"), "--set", wish, "--preview"])
    assert heard.exit_code == 0, heard.output
    picture = tmp_path / "a" / "000-seed0.png"
    said = made(picture)
    assert said.prompt == "a cat" and said.settings["num_inference_steps"] == 2
    again = sample_again(picture, out=tmp_path / "b", loras=theirs.parent).pictures[0]
    assert (np.asarray(Image.open(picture)) == np.asarray(Image.open(again))).all()
    grid = ["grid", base, "a cat", "--x", "sampler=euler,heun,euler_a", "--out", str(tmp_path / "g"), "--set", wish]
    heard = CliRunner().invoke(app, grid)
    assert heard.exit_code == 2, "a picture is missing"
    assert "1 could not be drawn" in heard.output


def test_a_model_without_the_folder_of_t5_is_drawn_without_it(bases, tmp_path):
    """Whoever deletes 9 GB does not mend the index."""
    shutil.copytree(bases["sd3"], tmp_path / "small")
    shutil.rmtree(tmp_path / "small" / "text_encoder_3")
    ours = pixels(draw(named(str(tmp_path / "small")).pipeline(), REQUESTS, WISH))
    assert np.abs(ours - by_diffusers(plain_of(tmp_path / "small"))).max() <= 1
