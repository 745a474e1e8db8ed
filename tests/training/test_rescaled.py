"""A schedule that ends in noise alone: trained, saved and drawn by it, and refused where it means nothing."""

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import PICO
from bespoke.pipeline.naming import marks_of, named, start_of
from bespoke.pipeline.new import new
from bespoke.pipeline.prepare import prepare
from bespoke.recipe import load, parse
from bespoke.training import Step

ASKED = "train.rescale_betas_zero_snr=true"
QUICK = (
    "train.max_train_steps=2",
    "train.train_batch_size=2",
    'train.mixed_precision="no"',
    "train.save_every_n_epochs=0",
    "validation.strata=2",
    "validation.validation_steps=2",
    "sample.sample_every_n_steps=0",
    "sample.num_inference_steps=2",
    "track.mlflow=false",
    "track.tensorboard=false",
)


@pytest.fixture(scope="module")
def project(pictures, tmp_path_factory):
    return new(tmp_path_factory.mktemp("made") / "project", pictures)


def changed(folder, **scheduler):
    """Pico with other settings of its scheduler."""
    config = shutil.copytree(PICO, folder) / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **scheduler}))
    return folder


def rescaled(scheduler):
    assert scheduler.config["timestep_spacing"] == "trailing"
    assert scheduler.config["rescale_betas_zero_snr"] is True
    return float(scheduler.alphas_cumprod[-1]) == 0


def test_what_is_trained_and_drawn_by_is_diffusers_schedule(project, tmp_path):
    of = f'model.base="{changed(tmp_path / "base", timestep_spacing="leading")}"'
    start = prepare(project.recipe, [of, ASKED]).start
    wanted = DDIMScheduler.from_pretrained(PICO / "scheduler", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler = start.checkpoint.pipeline(safety_checker=False).scheduler
    assert type(scheduler) is DDIMScheduler and rescaled(scheduler)
    assert dict(scheduler.config).items() >= start.checkpoint.scheduler_config.items()
    torch.testing.assert_close(scheduler.alphas_cumprod, wanted.alphas_cumprod)
    scheduler.set_timesteps(5)
    assert int(scheduler.timesteps[0]) == 999
    plain = prepare(project.recipe, [of]).start
    assert plain.checkpoint.scheduler_config["timestep_spacing"] == "leading"
    assert not plain.checkpoint.scheduler_config["rescale_betas_zero_snr"]
    assert marks_of(plain) != marks_of(start)
    assert plain.checkpoint.fingerprint("scheduler") != start.checkpoint.fingerprint("scheduler")


def test_an_adapter_is_drawn_by_the_schedule_it_was_trained_by(project):
    """Its plain pictures are drawn by the base as it is; the page says what to tell diffusers."""
    plain = project.project / "cache" / "plain"
    few = ("train.num_class_images=2", "model.rank=2")
    bespoke.train(project.recipe, [*QUICK, *few])
    drawn = sorted(plain.rglob("*.safetensors"))
    found = bespoke.train(project.recipe, [*QUICK, *few, ASKED])
    assert drawn and sorted(plain.rglob("*.safetensors")) == drawn
    assert load(found.run / "recipe.toml").train.rescale_betas_zero_snr
    assert rescaled(named(str(found.run)).pipeline(safety_checker=False).scheduler)
    page = (found.run / "report" / "index.html").read_text(encoding="utf-8")
    assert "rescale_betas_zero_snr=True" in page and "trailing" in page
    going_on = start_of(parse({"model": {"base": str(found.run)}}, ""), project.project)
    assert going_on.checkpoint.rescaled


def test_a_whole_model_has_the_schedule_in_its_folder(project, tmp_path):
    found = bespoke.train(project.recipe, [*QUICK, 'model.method="full"', "train.num_class_images=0", ASKED])
    assert found.model
    assert rescaled(StableDiffusionPipeline.from_pretrained(found.model, dtype=torch.float32).scheduler)
    assert rescaled(named(str(found.run)).pipeline(safety_checker=False).scheduler)
    assert json.loads((found.model / "scheduler" / "scheduler_config.json").read_text())["beta_start"] == 0.00085


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"snr_gamma": 5.0},
        {"soft_min_snr_gamma": 5.0},
        {"debiased_estimation": True},
        {"p2_gamma": 1.0},
        {"loss_type": "huber", "huber_schedule": "snr"},
    ],
    ids=str,
)
def test_the_last_timestep_gives_numbers(tmp_path, trainer, asked):
    """Where nothing of the picture is left, ratios are 0 and their inverses are none."""
    settings = {"train": {"max_train_steps": 1, "min_timestep": 999, "checkpointing_steps": 9, **asked}}
    made = trainer(tmp_path, scheduler={"rescale_betas_zero_snr": True}, validation={"max_items": 2}, **settings)
    batch = made.stream.batch(0, 2)
    assert batch.times.tolist() == [999, 999]
    assert torch.equal(made.schedule.noisy(batch.clean, batch.noise, batch.times), batch.noise)
    (step,) = [event for event in made.fit() if isinstance(event, Step)]
    assert step.skipped == 0 and step.loss >= 0
    # Min-SNR and P2 weights of v are none there; the others learn what a picture is as a whole.
    assert (step.loss > 0) == (not {"snr_gamma", "soft_min_snr_gamma", "p2_gamma"} & set(asked))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"prediction_type": "epsilon"}, "predicts the noise"), ({"_class_name": "PNDMScheduler"}, "PNDMScheduler")],
    ids=["epsilon", "a scheduler without it"],
)
def test_a_base_that_cannot_is_refused_before_training(tmp_path, project, change, said):
    base = changed(tmp_path / "base", **change)
    with pytest.raises(BespokeError, match=said) as caught:
        prepare(project.recipe, [f'model.base="{base}"', ASKED])
    assert "rescale_betas_zero_snr" in caught.value.hint
    prepare(project.recipe, [f'model.base="{base}"'])
