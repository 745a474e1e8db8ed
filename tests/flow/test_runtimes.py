"""A run exported for ONNX Runtime and OpenVINO: its networks answer as torch's, and it draws the run's pictures."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, kinds, runtimes, tracing
from bespoke.models.runtimes import ONNX, RUNTIMES
from bespoke.pipeline.export import Exported, export_model
from bespoke.pipeline.naming import named
from bespoke.recipe.training import Model
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw

RECIPE = """
[model]
base = "pico"
rank = 4
[sample]
num_inference_steps = 2
guidance_scale = 3.0
prompts = ["a red apple"]
"""
FORMS = (("onnx", "fp16"), ("openvino", "fp16"))
"""Weights in 16 bits take every way that 32 take, and the rounding besides."""


@dataclass
class Case:
    """A run, what it was exported to, and their pipelines."""

    run: Path
    done: dict[str, Exported]
    pipelines: dict[str, Any]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("runtimes")
    run = folder / "style" / "runs" / "20260102-030405"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(RECIPE)
    base, source = find("pico"), torch.Generator().manual_seed(1)
    unet = base.denoiser()
    adapters.attach(unet, kinds.config_of(Model(rank=4), unet, base.family.groups("unet")), seed=0)
    with torch.no_grad():
        for parameter in adapters.trainable(unet).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=source))
    adapterfile.save({"unet": unet}, run / "adapter.safetensors")
    done = {form: export_model(run, folder / form, form, dtype=dtype) for form, dtype in FORMS}
    places = {"torch": run, **{form: one.path for form, one in done.items()}}
    return Case(run, done, {name: named(str(p)).pipeline(safety_checker=False) for name, p in places.items()})


def pictures(pipeline: Any, **settings: Any) -> np.ndarray:
    """Two pictures by a pipeline, from words or begun with another, [n height width 3], levels of 255."""
    begun = settings.pop("image", None)
    requests = [Request("a red apple", 3, begun), Request("a (blue:1.3) car", 4, begun)]
    wish = Sample(num_inference_steps=2, guidance_scale=3.0, **settings)
    drawn = draw(pipeline, requests, wish)
    return np.stack([np.asarray(one.picture, dtype=np.float32) for one in drawn])


@pytest.mark.parametrize("form", RUNTIMES)
def test_its_networks_answer_as_torchs_and_its_pictures_are_the_runs(case: Case, form: str) -> None:
    done = case.done[form]
    assert (
        set(done.parity) == {"text_encoder", "unet", "vae_decoder", "vae_encoder"}
        and 0 < max(done.parity.values()) < 3e-5
    )
    # The rounding to fp16 is seen, and is far less than what the adapter does, which was worked in.
    assert done.likeness.mean < 0.5 < 3 < done.likeness.effect
    assert done.likeness.loader == RUNTIMES[form].title
    # Half the bits take half the room.
    size = sum(file.stat().st_size for file in (done.path / "unet").iterdir())
    assert size < 1.2 * (find("pico").part("unet") / "diffusion_pytorch_model.safetensors").stat().st_size


@pytest.mark.parametrize("form", RUNTIMES)
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 1, "width": 96, "height": 64},
        {"batch_size": 2, "scheduler": "dpm2_karras", "negative_prompt": "grey"},
        {"clip_skip": 1},
        {"image": Image.new("RGB", (64, 64), (200, 40, 40)), "strength": 0.7},
    ],
    ids=["size", "fractional timesteps", "clip skip", "begun with a picture"],
)
def test_settings_mean_what_they_mean_without_a_runtime(case: Case, form: str, settings: dict[str, Any]) -> None:
    ours, theirs = (pictures(case.pipelines[name], **settings) for name in ("torch", form))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 1  # of 255; weights are rounded to fp16


def test_batches_of_any_size_are_drawn_and_what_only_torch_can_do_is_refused(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bespoke.sampling.generate.AT_ONCE", 1)
    assert np.abs(pictures(case.pipelines["torch"]) - pictures(case.pipelines["onnx"])).mean() < 1
    for setting in ({"vae_tiling": True}, {"deep_cache": 2}):
        with pytest.raises(BespokeError, match=r"runtime|torch"):
            pictures(case.pipelines["onnx"], **setting)


def test_plain_diffusers_draws_the_same_picture(case: Case) -> None:
    """Its own ONNX pipeline, which is deprecated but knows nothing of ours."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import OnnxStableDiffusionPipeline

        theirs: Any = OnnxStableDiffusionPipeline.from_pretrained(
            str(case.done["onnx"].path), safety_checker=None, provider="CPUExecutionProvider"
        )
        theirs.set_progress_bar_config(disable=True)
        noise = np.random.default_rng(0).standard_normal((1, 4, 16, 16)).astype(np.float32)
        options: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 3.0}
        # It takes every autoencoder for Stable Diffusion's: that divides sides by eight, pico's by four, and latents
        # have another scale.
        decoder, factor = theirs.vae_decoder, 0.18215 / find("pico").scaling[0]
        theirs.vae_decoder = lambda latent_sample: decoder(latent_sample=latent_sample * np.float32(factor))
        drawn = theirs("a red apple", height=128, width=128, latents=noise, **options)
        known = case.pipelines["torch"]("a red apple", latents=torch.from_numpy(noise), **options)
    apart = np.abs(np.asarray(drawn.images[0], np.float32) - np.asarray(known.images[0], np.float32))
    assert apart.mean() < 1


def test_large_models_keep_their_weights_beside(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "LARGE", 1000)
    monkeypatch.setattr(tracing, "SHAPES", tracing.SHAPES[:1])
    encoder = tracing.networks(find("pico").pipeline(safety_checker=False))[0]
    with tracing._hushed():
        tracing._onnx(encoder, tmp_path / ONNX.file, half=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == [ONNX.file, tracing.BESIDE]
    assert (tmp_path / ONNX.file).stat().st_size < (tmp_path / tracing.BESIDE).stat().st_size
    assert tracing._apart(encoder, runtimes.session(tmp_path / ONNX.file, ONNX), (2, 2, 2, 1)) < 1e-5


def test_what_it_is_and_that_it_only_draws(case: Case, tmp_path: Path) -> None:
    folder = str(case.done["onnx"].path)
    told = json.loads(CliRunner().invoke(app, ["models", "inspect", folder, "--json"]).stdout)
    assert (told["what"], told["form"], told["family"]) == ("whole model", "onnx", "pico")
    one = ["sample", folder, "a cat", "--out", str(tmp_path / "drawn"), "--set", "sample.num_inference_steps=1"]
    assert CliRunner().invoke(app, one).exit_code == 0
    with pytest.raises(BespokeError, match="weights cannot be trained or changed"):
        find(folder).denoiser()
    with pytest.raises(BespokeError, match="weights cannot be trained or changed"):
        export_model(folder, tmp_path / "again", "model")
    with pytest.raises(BespokeError, match="nothing can be put in"):
        adapter = case.run / "adapter.safetensors"
        from bespoke.models import load_adapter

        load_adapter(case.pipelines["onnx"], adapter, folder)
    # openvino sends no reports.
    assert sys.modules.get("openvino_telemetry") is None


def test_bad_input_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["models", "export", "pico", *arguments])
        assert done.exit_code == 2, done.output
        return " ".join(done.output.split())

    assert "fp32 or fp16" in said(str(tmp_path / "out"), "--as", "onnx", "--dtype", "bf16")
    assert "a folder" in said(str(tmp_path / "out.safetensors"), "--as", "openvino")
    assert "is there already" in said(str(tmp_path), "--as", "onnx")
    assert "no form" in said(str(tmp_path / "out"), "--as", "tensorrt")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'bespoke[onnx]'" in said(str(tmp_path / "out"), "--as", "onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "pip install 'bespoke[openvino]'" in said(str(tmp_path / "out"), "--as", "openvino")
    assert not list(tmp_path.iterdir())


def test_networks_that_answer_otherwise_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST", 0.0)
    monkeypatch.setattr(tracing, "networks", lambda pipeline, known=tracing.networks: known(pipeline)[:1])
    with pytest.raises(BespokeError, match="text_encoder answers otherwise"):
        export_model("pico", tmp_path / "out", "onnx")
    assert not list(tmp_path.iterdir())
