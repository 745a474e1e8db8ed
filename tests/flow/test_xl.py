"""SDXL, tiny and random: drawn, trained, gone on with, loaded elsewhere, by the code that does so for pico."""

import copy
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model_state_dict
from pico import families
from PIL import Image
from safetensors import safe_open

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import find, unpacking
from bespoke.models.passport import passport
from bespoke.models.wearing import Wardrobe, worked_in
from bespoke.pipeline.convert import convert_model
from bespoke.pipeline.naming import named
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.workspace import Run
from tests.flow.tiny import BLOTS, BRIEF, again, model_of, plain_of, project_of

QUICK = (
    *BRIEF, "train.max_train_steps=4", "train.learning_rate=0.02", "train.num_class_images=2",
    "sample.sample_every_n_steps=2",
)  # fmt: skip
PROMPT = "blot of a red cat"
REQUESTS = [Request(PROMPT, 3), Request("two words", 4)]
WISH = Sample(num_inference_steps=3, guidance_scale=4.0)
LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return model_of("sdxl", tmp_path_factory)


@pytest.fixture(scope="module")
def project(base, tmp_path_factory) -> Path:
    """Wide, high and square pictures with captions."""
    sizes = ((64, 64), (96, 64), (64, 96), (80, 64))
    return project_of(base, tmp_path_factory, size=lambda number: sizes[number % 4])


@pytest.fixture(scope="module")
def run(project):
    return bespoke.train(project / "recipe.toml", QUICK)


def generators():
    return [torch.Generator("cpu").manual_seed(request.seed) for request in REQUESTS]


def by_diffusers(pipeline, **more):
    prompts = [request.prompt for request in REQUESTS]
    made = pipeline(prompts, num_inference_steps=3, guidance_scale=4.0, generator=generators(), **more)
    return np.stack([np.asarray(each, int) for each in made.images])


def pixels(drawn):
    return np.stack([np.asarray(each.picture, int) for each in drawn])


# --- drawing ---


# diffusers leaves no layers out of negative prompts, which A1111 and we do.
@pytest.mark.parametrize(("negative", "skip"), [("", 0), ("", 1), ("a dog", 0)])
def test_pictures_are_those_of_plain_diffusers(base, negative, skip):
    ours = draw(
        named(str(base)).pipeline(), REQUESTS, WISH.model_copy(update={"negative_prompt": negative, "clip_skip": skip})
    )
    theirs = by_diffusers(plain_of(base), negative_prompt=[negative] * 2 if negative else None, clip_skip=skip or None)
    assert np.abs(pixels(ours) - theirs).max() <= 1


def test_pictures_begin_with_pictures_as_in_plain_diffusers_and_masks_keep_what_is_black(base):
    begun = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    pipeline = named(str(base)).pipeline()
    requests = [dataclasses.replace(request, image=begun) for request in REQUESTS]
    ours = pixels(draw(pipeline, requests, WISH.model_copy(update={"num_inference_steps": 4, "strength": 0.5})))
    other = StableDiffusionXLImg2ImgPipeline(**plain_of(base).components, add_watermarker=False)
    other.set_progress_bar_config(disable=True)
    theirs = other(
        [r.prompt for r in REQUESTS], image=[begun] * 2, num_inference_steps=4, strength=0.5, guidance_scale=4.0,
        generator=generators(),
    ).images  # fmt: skip
    assert np.abs(ours - np.stack([np.asarray(each, int) for each in theirs])).max() <= 1
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 32, 64))
    masked = pixels(draw(pipeline, [dataclasses.replace(r, mask=half) for r in requests], WISH))
    assert (masked[:, :, 40:] == np.asarray(begun, int)[:, 40:]).all() and (masked[:, :, :24] != ours[:, :, :24]).any()


@pytest.mark.parametrize(
    "more", [{}, {"guidance_end": 0.5}, {"deep_cache": 2}, {"width": 96}], ids=["plain", "ends", "cached", "wide"]
)
def test_a_picture_does_not_depend_on_its_batch_however_long_its_prompt(base, more):
    long = "a red (cat:1.3), " * 30
    requests = [*REQUESTS, Request(long, 5)]
    pipeline, wish = named(str(base)).pipeline(), WISH.model_copy(update=more)
    together = pixels(draw(pipeline, requests, wish))
    alone = np.stack([pixels(draw(pipeline, [one], wish))[0] for one in requests])
    assert np.abs(together - alone).max() <= 1
    assert np.abs(together[2] - pixels(draw(pipeline, [Request("a red cat", 5)], wish))[0]).max() > 1


def test_guidance_to_the_end_and_to_nearly_the_end_are_told_apart(base):
    pipeline = named(str(base)).pipeline()
    whole, early = (pixels(draw(pipeline, REQUESTS, WISH.model_copy(update={"guidance_end": e}))) for e in (1.0, 0.4))
    assert (whole != early).any()


# --- training ---


def reference(trainer, checkpoint, count):
    """One step's loss and gradients after diffusers' train_text_to_image_lora_sdxl.py."""
    unet = copy.deepcopy(checkpoint.denoiser())
    model = trainer.recipe.model
    if model.method == "lora":
        unet.add_adapter(LoraConfig(r=model.rank, lora_alpha=model.alpha, target_modules=LAYERS))
    else:
        unet.requires_grad_(True)
    own = {f"unet.{name}": p for name, p in unet.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(trainer.parameters[name])
    batch = trainer.stream.batch(0, count)
    scheduler = DDPMScheduler.from_config(checkpoint.scheduler_config)
    pipeline = plain_of(checkpoint.folder)
    states, _, pooled, _ = pipeline.encode_prompt(BLOTS, device="cpu", do_classifier_free_guidance=False)
    rows = [next(n for n, s in enumerate(states) if torch.allclose(s, row[:-1], atol=1e-5)) for row in batch.texts]
    noisy = scheduler.add_noise(batch.clean, batch.noise, batch.times)
    told = {"text_embeds": pooled[rows], "time_ids": batch.sizes}
    answer = unet.train()(noisy, batch.times, states[rows], added_cond_kwargs=told, return_dict=False)[0]
    loss = F.mse_loss(answer.float(), batch.noise.float(), reduction="mean")
    loss.backward()
    return {name: p.grad for name, p in own.items()}, loss.item()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_loss_and_gradients_are_those_of_plain_diffusers(project, base, tmp_path, method):
    from bespoke.pipeline.material import Encoder
    from bespoke.pipeline.prepare import prepare
    from bespoke.pipeline.processes import accelerator
    from bespoke.pipeline.reporting import silent
    from bespoke.pipeline.train import trainer_for
    from bespoke.training.step import losses
    from bespoke.workspace import Project, Run

    settings = (
        *QUICK, f"model.method={method}", "train.num_class_images=0", "data.enable_bucket=false",
        "train.mixed_precision=no", "text.proportion_empty_prompts=0", "model.rank=4",
    )  # fmt: skip
    ready = prepare(project / "recipe.toml", settings)
    checkpoint = find(str(base))
    encoder = Encoder(Project(tmp_path / "p"), checkpoint, ready.recipe, silent)
    material = encoder.material(ready.dataset, project / "dataset")
    ours = trainer_for(Run(tmp_path / "run"), ready.recipe, named(str(base)), material, accelerator(ready.recipe.train))
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in ours.parameters.values() if method == "lora" else ():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=source))
    gradients, loss = reference(ours, checkpoint, 4)
    batch = ours.stream.batch(0, 4)
    ours.network.train()
    found = losses(ours.network, batch, ours.schedule).mean()
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-5)
    mine, theirs = (
        torch.cat([grads[name].flatten().double() for name in sorted(gradients)])
        for grads in ({name: p.grad for name, p in ours.parameters.items()}, gradients)
    )
    assert float((mine - theirs).norm() / theirs.norm()) < 1e-5 and theirs.norm() > 0


def test_the_network_is_told_how_large_a_picture_was_and_where_it_was_cut(project, base, run):
    from bespoke.pipeline.material import Encoder
    from bespoke.pipeline.prepare import prepare
    from bespoke.pipeline.reporting import silent
    from bespoke.workspace import Project

    ready = prepare(project / "recipe.toml", (*QUICK, "data.enable_bucket=false", "train.num_class_images=1"))
    material = Encoder(Project(project), find(str(base)), ready.recipe, silent).material(
        ready.dataset, project / "dataset"
    )
    own = {example.sizes[0] for example in material.train if not example.drawn}
    assert own <= {(64, 64, 0, 0, 64, 64), (64, 96, 0, 16, 64, 64), (96, 64, 16, 0, 64, 64), (64, 80, 0, 8, 64, 64)}
    assert len(own) > 1
    assert [e.sizes for e in material.train if e.drawn] == [((64, 64, 0, 0, 64, 64),)]


def test_a_run_trains_draws_and_loads_in_plain_diffusers(base, run, tmp_path):
    assert run.steps == 4 and run.adapter is not None
    (picture,) = bespoke.sample(str(run.run), [PROMPT], out=tmp_path / "drawn", seed=3, settings=WISH).pictures
    pipeline = plain_of(base)
    bare = by_diffusers(pipeline)[0]
    pipeline.load_lora_weights(run.adapter.parent, weight_name=run.adapter.name)
    tuned = by_diffusers(pipeline)[0]
    ours = np.asarray(Image.open(picture).convert("RGB"), int)
    assert np.abs(ours - tuned).max() <= 1 < np.abs(ours - bare).max()
    assert (Path(run.run) / "samples" / "progress.png").is_file()


def test_what_is_stopped_goes_on_to_the_same_bits(run):
    whole, copied = Run(Path(run.run)), again(Path(run.run))
    assert (copied.last / "adapter.safetensors").read_bytes() == (whole.last / "adapter.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["dora", "lokr", "full"])
def test_other_ways_to_fine_tune_work_too(project, base, method, tmp_path):
    trained = bespoke.train(
        project / "recipe.toml",
        (*QUICK, f"model.method={method}", "train.use_ema=true", "sample.sample_every_n_steps=0"),
    )
    tuned = bespoke.sample(str(trained.run), [PROMPT], out=tmp_path / "a", seed=3, settings=WISH).pictures[0]
    plain = bespoke.sample(str(base), [PROMPT], out=tmp_path / "b", seed=3, settings=WISH).pictures[0]
    ours, before = (np.asarray(Image.open(file).convert("RGB"), int) for file in (tuned, plain))
    assert (ours != before).any()
    if method == "full":
        assert trained.model is not None
        whole = plain_of(trained.model)
        assert np.abs(by_diffusers(whole)[0] - ours).max() <= 1


@pytest.mark.parametrize("form", ["kohya", "comfyui", "diffusers", "model", "single-file"])
def test_exports_are_loaded_again_and_draw_the_same(run, form, tmp_path):
    out = tmp_path / ("out" if form == "model" else "out.safetensors")
    done = bespoke.export_model(str(run.run), out, form)
    assert done.likeness.mean <= 0.5 and (done.likeness.effect > 1 or form in ("model", "single-file"))
    if form == "kohya":
        assert done.metadata["ss_base_model_version"] == "sdxl_base_v1-0"
        assert done.metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
        assert done.metadata["modelspec.prediction_type"] == "epsilon" and done.metadata["ss_v2"] == "False"
        with safe_open(out, "pt") as file:
            # kohya's trainer names SDXL's blocks as the single file has them.
            assert all(re.match(r"lora_unet_(input|middle|output)_block", key) for key in file.keys())  # noqa: SIM118
    if form == "single-file":
        assert done.metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base"


def test_a_model_in_one_file_draws_the_same_in_every_program_that_reads_it(run, base, tmp_path, monkeypatch):
    """By plain diffusers, and unpacked again by us; in half the room, too."""
    done = bespoke.export_model(str(run.run), tmp_path / "one.safetensors", "single-file")
    bespoke.export_model(str(run.run), tmp_path / "whole", "model")
    wanted = by_diffusers(plain_of(tmp_path / "whole"))
    alone = {"config": str(base), "local_files_only": True, "torch_dtype": torch.float32, "add_watermarker": False}
    theirs = StableDiffusionXLPipeline.from_single_file(str(done.path), **alone)
    theirs.set_progress_bar_config(disable=True)
    assert (by_diffusers(theirs) == wanted).all()
    bespoke.import_model(done.path, tmp_path / "unpacked", config=base)
    assert (by_diffusers(plain_of(tmp_path / "unpacked")) == wanted).all()
    # A name alone is enough where the shape is that of the settings that come with the package.
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(unpacking.SHIPPED, "SDXL", base)
    (picture,) = bespoke.sample(str(done.path), [PROMPT], out=tmp_path / "drawn", seed=3, settings=WISH).pictures
    assert np.abs(np.asarray(Image.open(picture).convert("RGB"), int) - wanted[0]).max() <= 1
    half = convert_model(str(tmp_path / "whole"), tmp_path / "half.safetensors", dtype="fp16")
    assert "Loaded again by diffusers' from_single_file" in half.checked and passport(half.path).dtype == "fp16"
    folder = convert_model(str(half.path), tmp_path / "folder", dtype="bf16")
    assert "and the same" in folder.checked and find(str(tmp_path / "folder")).family.name == "Stable Diffusion XL"


def test_an_xl_that_predicts_v_says_so_in_its_file_and_comes_back_so(base, tmp_path):
    shutil.copytree(base, tmp_path / "v")
    config = tmp_path / "v" / "scheduler" / "scheduler_config.json"
    told = json.loads(config.read_text())
    wish = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    config.write_text(json.dumps(told | wish))
    done = bespoke.export_model(str(tmp_path / "v"), tmp_path / "v.safetensors", "single-file")
    assert done.metadata["modelspec.prediction_type"] == "v"
    with safe_open(done.path, "pt") as file:
        assert {"v_pred", "ztsnr"} <= set(file.keys())
    bespoke.import_model(done.path, tmp_path / "back", config=base)
    assert wish.items() <= find(str(tmp_path / "back")).scheduler_config.items()


@pytest.mark.parametrize("method", ["dora", "lokr"])
def test_other_kinds_go_out_by_the_names_that_other_programs_know(project, base, method, tmp_path):
    trained = bespoke.train(
        project / "recipe.toml",
        (*QUICK, f"model.method={method}", "sample.sample_every_n_steps=0", "train.num_class_images=0"),
    )
    done = bespoke.export_model(str(trained.run), tmp_path / "kohya.safetensors", "kohya")
    assert done.likeness.mean <= 0.5 < done.likeness.effect and "formulas" in done.likeness.loader
    found = passport(done.path)
    assert found.family == "SDXL" and "bespoke" in found.loads and set(found.layers) == {"unet"}
    with safe_open(done.path, "pt") as file:
        assert all(key.startswith(("lora_unet_input", "lora_unet_mid", "lora_unet_out")) for key in file.keys())  # noqa: SIM118
    told = Sample(num_inference_steps=3, guidance_scale=4.0, adapters={str(done.path): 1.0})
    ours, theirs = (
        np.asarray(Image.open(bespoke.sample(m, [PROMPT], out=tmp_path / o, seed=3, settings=s).pictures[0]), int)
        for m, o, s in ((str(trained.run), "a", WISH), (str(base), "b", told))
    )
    assert np.abs(ours - theirs).max() <= 1
    if method == "dora":
        done = bespoke.export_model(str(trained.run), tmp_path / "comfyui.safetensors", "comfyui")
        assert done.likeness.mean <= 0.5 < done.likeness.effect and "ComfyUI" in done.likeness.loader


def test_a_lora_of_another_program_for_both_text_encoders_is_worn_and_taken_off_again(base, tmp_path):
    other = plain_of(base)
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, ends in (("unet", LAYERS), ("text_encoder", ["q_proj"]), ("text_encoder_2", ["q_proj"])):
        part = getattr(other, name)
        part.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=ends, init_lora_weights="gaussian"))
        found = get_peft_model_state_dict(part)
        source = torch.Generator().manual_seed(1)
        layers[f"{name}_lora_layers"] = {k: 0.2 * torch.randn(v.shape, generator=source) for k, v in found.items()}
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, weight_name="theirs.safetensors", **layers)
    pipeline, plain = named(str(base)).pipeline(), plain_of(base)
    before = pixels(draw(pipeline, REQUESTS, WISH))
    plain.load_lora_weights(tmp_path, weight_name="theirs.safetensors", adapter_name="theirs")
    with Wardrobe(pipeline, "xl") as wardrobe:
        for weight in (1.0, 0.5):
            plain.set_adapters(["theirs"], [weight])
            wardrobe.wear({tmp_path / "theirs.safetensors": weight})
            with worked_in(pipeline):
                assert np.abs(pixels(draw(pipeline, REQUESTS, WISH)) - by_diffusers(plain)).max() <= 1
    after = pixels(draw(pipeline, REQUESTS, WISH))
    assert (after == before).all() and np.abs(by_diffusers(plain) - before).max() > 1


def test_models_are_merged_whole_and_a_lora_is_found_again_in_what_was_tuned(base, run, tmp_path):
    families.write("sdxl", tmp_path / "other", seed=1)
    bespoke.merge_models(str(base), tmp_path / "half", add=str(tmp_path / "other"), weight=0.25)
    half, first, second = (plain_of(folder) for folder in (tmp_path / "half", base, tmp_path / "other"))
    for part in ("unet", "text_encoder", "text_encoder_2"):
        ours, a, b = (getattr(each, part).state_dict() for each in (half, first, second))
        assert all(torch.allclose(ours[key], 0.75 * a[key] + 0.25 * b[key], atol=1e-6) for key in ours)
    blocks = ",".join(["1"] * 13)
    bespoke.merge_models(str(base), tmp_path / "blocks", add=str(tmp_path / "other"), weight=0.25, blocks=blocks)
    ours, theirs = (each.unet.add_embedding.linear_1.weight for each in (plain_of(tmp_path / "blocks"), second))
    assert torch.allclose(ours, theirs, atol=1e-6)
    bespoke.merge_models(str(run.run), tmp_path / "merged")
    found = bespoke.extract_lora(str(tmp_path / "merged"), tmp_path / "again.safetensors", base=str(base), rank=16)
    assert found.error < 1e-3 and found.outside == 0
    pipeline = plain_of(base)
    pipeline.load_lora_weights(tmp_path, weight_name="again.safetensors")
    assert np.abs(by_diffusers(pipeline) - by_diffusers(plain_of(tmp_path / "merged"))).max() <= 1


def test_what_changed_in_both_text_encoders_is_extracted_resized_and_converted(base, tmp_path):
    changed = plain_of(base)
    source = torch.Generator().manual_seed(2)
    for encoder, ends in (("text_encoder", ("q_proj", "out_proj")), ("text_encoder_2", ("fc1", "out_proj"))):
        for name, module in getattr(changed, encoder).named_modules():
            if name.endswith(ends):
                far, near = module.weight.shape
                both = torch.randn(far, 2, generator=source) @ torch.randn(2, near, generator=source)
                module.weight.data += 0.1 * both
    changed.save_pretrained(tmp_path / "changed")
    file, small = tmp_path / "texts.safetensors", tmp_path / "small.safetensors"
    found = bespoke.extract_lora(str(tmp_path / "changed"), file, base=str(base), rank=2)
    assert found.error < 1e-3 and found.outside == 0 and found.layers == 8
    layers = {"text encoder": {"out_proj": 2, "q_proj": 2}, "text encoder 2": {"fc1": 2, "out_proj": 2}}
    assert passport(file).layers == layers
    bespoke.resize_lora(file, small, rank=1, base=str(base))
    assert passport(small).ranks == (1,)
    done = convert_model(str(file), tmp_path / "peft.safetensors", base=str(base))
    assert "8 layers are the same" in done.checked
    wanted = by_diffusers(changed)
    assert np.abs(by_diffusers(plain_of(base)) - wanted).max() > 1
    for path in (file, done.path):
        pipeline = plain_of(base)
        pipeline.load_lora_weights(path.parent, weight_name=path.name)
        assert np.abs(by_diffusers(pipeline) - wanted).max() <= 1


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_runtimes_draw_what_the_run_draws(run, form, tmp_path):
    done = bespoke.export_model(str(run.run), tmp_path / form, form, dtype="fp16")
    parts = {"text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder"}
    assert set(done.parity) == parts and 0 < max(done.parity.values()) < 1e-4
    assert done.likeness.mean < 1 < done.likeness.effect and "StableDiffusionXLPipeline.from_pretrained" in done.how[0]
    index = json.loads((done.path / "model_index.json").read_text())
    assert index["text_encoder_2"] == index["text_encoder"] and "vae" not in index
    ours, theirs = (named(str(place)).pipeline() for place in (run.run, done.path))
    begun = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    long = Request("a red (cat:1.3), " * 30, 5)
    for settings, requests in (
        ({"batch_size": 3, "width": 96}, [*REQUESTS, long]),
        ({"clip_skip": 1, "negative_prompt": "grey"}, REQUESTS),
        ({"strength": 0.7, "batch_size": 1}, [dataclasses.replace(request, image=begun) for request in REQUESTS]),
    ):
        wish = WISH.model_copy(update=settings)
        one, two = (pixels(draw(pipeline, requests, wish)) for pipeline in (ours, theirs))
        assert one.shape == two.shape and np.abs(one - two).mean() < 1  # weights are rounded to fp16
    with pytest.raises(BespokeError, match="nothing can be put in"):
        bespoke.models.load_adapter(theirs, run.adapter, "x")


def test_plans_know_its_network(project):
    plan = bespoke.plan(project / "recipe.toml", QUICK)
    assert plan.estimate.memory.peak > 0
