"""Pictures of mixed aspect from the folder to the trained adapter: shapes, versions, the cache, coverage, batches."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import bespoke
from bespoke import data
from bespoke.pipeline.new import new
from bespoke.pipeline.versions import Versions
from bespoke.recipe import Facts, Recipe, comments, derive, dump
from bespoke.records import Picture
from bespoke.training import Covered, state
from bespoke.training.batches import Choices, Stream, validation_batches
from bespoke.training.step import losses, weighted
from bespoke.training.validate import Validator
from bespoke.workspace import Run

SHAPES = {(8, 16, 16), (8, 12, 20), (8, 20, 12), (8, 16, 8)}
"""Latent shapes of the mixed drawings: 64×64, 80×48, 48×80, and 32×64 of the car, which is 40 by 70."""


def shapes(material):
    return [material.latents.shape(e.latents[0]) for e in (*material.train, *material.validation)]


def test_each_picture_is_encoded_in_the_shape_nearest_to_its_own(mixed_material):
    assert set(shapes(mixed_material)) == SHAPES
    for example in mixed_material.train:
        assert len({mixed_material.latents.shape(row) for row in example.latents}) == 1
        assert len(example.latents) == 2
    assert all(len(example.latents) == 1 for example in mixed_material.validation)


def test_sdxl_finds_size_and_crop_beside_each_row(mixed_material):
    for example in (*mixed_material.train, *mixed_material.validation):
        for row in example.latents:
            facts, (_, height, width) = mixed_material.latents.facts(row), mixed_material.latents.shape(row)
            assert facts["target_size"] == [4 * height, 4 * width]
            assert min(facts["original_size"]) >= 40 and min(facts["crops_coords_top_left"]) >= 0


def test_passes_hold_one_shape_and_an_epoch_every_picture_as_often_as_it_counts(mixed_material):
    stream, shown = Stream(mixed_material, Choices(1, 1000, 0.0, 0.0), 3), Counter()
    passes = 0
    while stream.order.epochs_over(passes) < 2:
        batch = stream.batch(3 * passes, 3)
        assert tuple(batch.clean.shape) == (3, 4, *batch.noise.shape[2:])
        shown.update(stream._draw(3 * passes + place)[1][1:] for place in range(3))
        passes += 1
    assert set(shown.values()) == {1}
    for epoch in (0, 1):
        wanted = {(e.key, repeat) for e in mixed_material.train for repeat in range(int(e.repeats))}
        assert {(key, repeat) for e, key, repeat in shown if e == epoch} == wanted
        assert stream.used(epoch, passes) == len(mixed_material.train)


def test_validation_batches_hold_one_shape_and_measure_every_picture(mixed_material, checkpoint, trainer, tmp_path):
    of = replace(mixed_material, validation=mixed_material.train)
    ours = trainer(tmp_path, of=of)
    places, batches = zip(*validation_batches(of, of.validation, 4, 0, ours.schedule, 3), strict=True)
    assert [n for place in places for n in range(place.start, place.stop)] == list(range(4 * len(of.validation)))
    assert sum(len(batch.times) for batch in batches) == 4 * len(of.validation)
    assert {tuple(batch.clean.shape[2:]) for batch in batches} == {shape[1:] for shape in shapes(replace(of, train=()))}
    found = ours.validator(ours.network, torch.device("cpu"))["validation"]
    one = replace(of, validation=of.validation[:1])
    alone = trainer(tmp_path, of=one).validator(ours.network, torch.device("cpu"))["validation"]
    assert found.losses[0] == pytest.approx(alone.losses[0], rel=1e-4)


class Apart:
    """One of several processes that measure; what they have found is added up by the test."""

    def __init__(self, process_index, num_processes):
        self.process_index, self.num_processes = process_index, num_processes

    def reduce(self, values, reduction):
        assert reduction == "sum"
        return values


def test_what_processes_measure_apart_adds_up_to_what_one_measures(mixed_material, trainer, tmp_path):
    of = replace(mixed_material, validation=mixed_material.train)
    ours, cpu = trainer(tmp_path, of=of), torch.device("cpu")
    whole = ours.validator(ours.bare, cpu)
    parts = [
        Validator(of, ours.recipe.validation, ours.schedule, ours.size, Apart(process, 3))(ours.bare, cpu)
        for process in range(3)
    ]
    for name, all_of_it in whole.items():
        found = np.stack([part[name].losses for part in parts])
        assert ((found != 0).sum(axis=0) == 1).all()  # each loss is measured by one
        assert np.array_equal(found.sum(axis=0), all_of_it.losses)
    assert all((part["validation"].losses != 0).any() for part in parts)


def test_accumulating_passes_of_different_shapes_sums_their_gradients(mixed_material, trainer, tmp_path):
    settings = {"train_batch_size": 2, "gradient_accumulation_steps": 4, "max_grad_norm": 1e9}
    ours, seen = trainer(tmp_path, of=replace(mixed_material, validation=()), train=settings), {}
    with torch.no_grad():
        for parameter in ours.parameters.values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    batches = [ours.stream.batch(2 * number, 2) for number in range(4)]
    assert len({batch.clean.shape for batch in batches}) > 1
    expected = {name: torch.zeros_like(p) for name, p in ours.parameters.items()}
    for batch in batches:
        loss = weighted(losses(ours.network, batch, ours.schedule), batch, ours.schedule, None).sum() / 8
        for name, gradient in zip(expected, torch.autograd.grad(loss, list(ours.parameters.values())), strict=True):
            expected[name] += gradient
    hook = lambda *_: seen.update({n: p.grad.clone() for n, p in ours.parameters.items()})  # noqa: E731
    ours.optimizer.optimizer.register_step_pre_hook(hook)
    list(ours.fit(lambda: "one step is enough"))
    for name, gradient in expected.items():
        torch.testing.assert_close(seen[name], gradient, rtol=1e-4, atol=1e-7)


def test_every_epoch_reports_its_coverage_and_the_last_one_how_far_it_came(mixed_material, trainer, tmp_path):
    of = replace(mixed_material, validation=())
    of = replace(of, train=(*of.train, replace(of.train[0], key="plain-0", drawn=True)))
    ours = trainer(tmp_path, of=of, train={"max_train_steps": 8, "log_every": 8, "checkpointing_steps": 8})
    events = [event for event in ours.fit() if isinstance(event, Covered)]
    mine = len(of.train) - 1
    assert [event.epoch for event in events] == list(range(1, len(events) + 1)) and len(events) == 2
    assert (events[0].pictures, events[0].coverage, events[0].complete) == (mine, 1.0, True)
    assert 0 < events[1].pictures < mine and not events[1].complete
    drawn = [ours.stream._draw(position) for position in range(8 * 2)]
    seen = {example.key for example, key in drawn if key[1] == 1 and not example.drawn}
    assert events[1].pictures == len(seen) and events[1].coverage == len(seen) / mine


# --- the cache ---

KEYS = {
    "resolution": 48, "maximum_bucket_aspect": 1.0, "upscale": True, "image_interpolation_mode": "bicubic",
    "crop": "saliency", "crop_jitter": 0.2, "random_scale": 1.4, "random_rotation": 9.0, "color_jitter": 0.2,
    "hue_jitter": 0.2, "enable_bucket": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(mixed, encode, tmp_path_factory):
    """A project that keeps its cache, and how to encode in it: gives the material and how many rows were made."""
    root = tmp_path_factory.mktemp("kept")

    def make(**sections):
        made = [0]

        def report(stage, done, total, note=""):
            made[0] = total if stage == "encode pictures" else made[0]

        return encode(mixed, root, report, **sections), made[0]

    make(data={"enable_bucket": True})
    return make


def test_what_was_encoded_is_found_again(kept):
    material, made = kept(data={"enable_bucket": True})
    assert made == 0 and set(shapes(material)) == SHAPES
    for changed in ({"train": {"noise_offset": 0.1, "seed": 5}}, {"sample": {"seed": 3}}, {"text": {"trigger": "a"}}):
        assert kept(data={"enable_bucket": True, "image_variations": 9}, **changed)[1] == 0


@pytest.mark.parametrize("key", KEYS)
def test_a_changed_key_encodes_anew_exactly_the_pictures_that_it_changes(kept, key):
    settings = {"enable_bucket": True, "image_variations": 2, key: KEYS[key]}
    if key == "upscale":
        material, made = kept(data=settings)
        assert made == 1  # the car alone is smaller than its shape
        assert set(shapes(material)) == SHAPES - {(8, 16, 8)}
        return
    _, made = kept(data=settings)
    assert 0 < made <= 20
    assert kept(data=settings)[1] == 0
    if key in ("crop_jitter", "random_scale", "random_rotation", "color_jitter", "hue_jitter"):
        assert kept(data=settings, train={"seed": 1})[1] > 0
        assert kept(data={**settings, "image_variations": 3})[1] <= 10  # the third of each


# --- what is decided, and told ---


def picture(width, height, text="a fox", split="train"):
    return Picture("a.png", text, "", f"{width}x{height} {text}", width, height, "a.png", split)


def versions(recipe, **keys):
    return Versions(recipe(data={"resolution": 512, **keys}), 64)


def test_nothing_is_said_where_all_is_plain(recipe):
    assert versions(recipe).told([picture(512, 512), picture(900, 900)]) == {}


def test_shapes_and_small_pictures_are_told(recipe):
    pictures = [picture(1000, 1000), picture(1500, 1000), picture(300, 300)]
    told = versions(recipe, enable_bucket=True).told(pictures)
    assert told["shapes"].startswith("512×512 (1), 640×384 (1), 256×256 (1)") and "10% at most" in told["shapes"]
    assert told["small pictures"].startswith("1 of 3 get a smaller shape") and "data.upscale" in told["small pictures"]
    assert "3 of 3 shapes have fewer pictures than a batch" in told["shapes"]
    told = versions(recipe, enable_bucket=True, upscale=True).told(pictures)
    assert told["small pictures"] == "1 of 3 are enlarged to their shape"
    told = versions(recipe).told(pictures)
    assert told["small pictures"].startswith("1 of 3 are enlarged") and "enable_bucket" in told["small pictures"]
    assert "33% at most" in told["shapes"]


def test_pictures_whose_captions_name_sides_or_writing_are_not_mirrored_and_that_is_told(recipe):
    pictures = [picture(512, 512, text) for text in ("a fox", "a fox on the left", "a sign that says hello")]
    ours = versions(recipe, random_flip=True)
    assert [[t.mirrored for t in ours.of(p)] for p in pictures] == [[False, True], [False], [False]]
    told = ours.told(pictures)["mirroring"]
    assert told.startswith("2 of 3 are never mirrored") and "left or right (1)" in told and "writing (1)" in told
    assert [t.mirrored for t in ours.of(replace(pictures[0], split="validation"))] == [False]


def test_pictures_too_small_for_random_cuts_are_told(recipe):
    pictures = [picture(512, 512), picture(2000, 2000)]
    assert "1 of 2" in versions(recipe, random_scale=1.5).told(pictures)["random cuts"]
    assert "random cuts" not in versions(recipe, random_scale=1.5, upscale=True).told(pictures)


def test_validation_pictures_are_shown_without_chance(recipe):
    ours = versions(recipe, enable_bucket=True, crop="random", color_jitter=0.5, hue_jitter=0.5, random_rotation=20.0)
    (one,) = ours.of(picture(1500, 1000, split="validation"))
    assert one == data.Transform((640, 384))
    (one,) = versions(recipe, crop="saliency").of(picture(1500, 1000, split="validation"))
    assert one.crop == "saliency"


def test_buckets_are_used_where_pictures_are_not_square():
    for count, wanted in ((0, False), (1, True)):
        resolved, reasons = derive(Recipe(), Facts(9, 64, "", "cpu", bf16=False, not_square=count))
        assert resolved.data.enable_bucket is wanted
        assert comments(dump(resolved, reasons))["data.enable_bucket"] == reasons["data.enable_bucket"]


# --- from the folder to the adapter ---


def test_a_folder_of_mixed_pictures_trains_and_says_what_it_used(mixed, tmp_path):
    heard = {}
    project = new(tmp_path / "project", mixed)
    overrides = (
        "model.rank=2", "train.max_train_steps=6", "train.train_batch_size=4", "train.num_class_images=0",
        "train.log_every=3", 'train.mixed_precision="no"', "validation.strata=1", "data.crop=saliency",
        "data.random_flip=true", "sample.num_inference_steps=2",
    )  # fmt: skip
    trained = bespoke.train(
        project.recipe, overrides, report=lambda stage, done, total, note="": heard.update({stage: note})
    )
    resolved = (trained.run / "recipe.toml").read_text()
    assert "enable_bucket = true" in resolved and "pictures are not square" in resolved
    rows = [json.loads(line) for line in (trained.run / "metrics.jsonl").read_text().splitlines()]
    complete = [row for row in rows if row["event"] == "covered" and row["complete"]]
    assert complete and all(row["coverage"] == 1.0 for row in complete)
    assert "of the pictures used" in heard["train"] and "80×48" in heard["shapes"]
    assert all(row["loss"] > 0 for row in rows if row["event"] == "step")
    assert state.newest(Run(trained.run)) is not None and trained.adapter.is_file()
