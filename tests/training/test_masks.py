"""Masked training on pico: the subject is learnt, its surroundings are not, and all laws of training hold."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tests.training.test_memory import computed
from tests.training.test_resume import told

from bespoke import data
from bespoke.data.transforms import Transform
from bespoke.errors import BespokeError
from bespoke.pipeline.prepare import resolved
from bespoke.recipe import parse
from bespoke.training import masking
from bespoke.training.batches import Choices, Stream, validation_batches
from bespoke.training.step import losses
from bespoke.training.window import Window
from bespoke.workspace import Run

ODD = (255, 0, 255)
MASKED = {"masked_training": True, "unmasked_weight": 0.0, "unmasked_probability": 0.0}
KEPT = {**MASKED, "masked_prior_preservation_weight": 1.0}


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    """Ten balls on grounds of one odd colour, each with a mask of the ball; the last one has none."""
    folder = tmp_path_factory.mktemp("balls")
    for number in range(10):
        picture, mask = Image.new("RGB", (64, 64), ODD), Image.new("L", (64, 64))
        corner, side = (5 + 7 * number % 19, 4 + 5 * number % 21), 22 + 3 * number % 17
        box = (*corner, corner[0] + side, corner[1] + side)
        ImageDraw.Draw(picture).ellipse(box, fill=(20 + 20 * number, 120, 220 - 20 * number))
        stripe = (corner[0] + 4 + number, corner[1] + 8, corner[0] + 9 + number, corner[1] + side - 8)
        ImageDraw.Draw(picture).rectangle(stripe, fill=(250, 220, 30))
        ImageDraw.Draw(mask).ellipse(box, fill=255)
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("an emoji of a ball")
        if number < 9:
            mask.save(folder / f"{number}-masklabel.png")
    return folder


@pytest.fixture(scope="module")
def masked(balls, encode):
    """The balls with their masks, and what was told of them."""
    said = []
    report = lambda subject, done, total, note="": said.append((subject, note))  # noqa: E731
    made = encode(balls, report=report, train=MASKED, text={"proportion_empty_prompts": 0.0})
    return made, dict(said)


def by_diffusers(checkpoint, batch):
    """The noisy latents and the target of a batch, by diffusers' own scheduler."""
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler.from_config(checkpoint.scheduler_config)
    noisy = theirs.add_noise(batch.clean, batch.noise, batch.times)
    return noisy, theirs.get_velocity(batch.clean, batch.noise, batch.times)


def choices(**more):
    return Choices(0, 1000, 0.0, 0.0, **more)


def test_examples_have_their_masks_at_latent_size_and_pictures_without_one_have_none(masked, balls):
    made, said = masked
    both = (*made.train, *made.validation)
    assert len(both) == 10 and sum(bool(example.masks) for example in both) == 9
    assert "training pictures have masks; they cover" in said["masks"]
    example = next(e for e in made.train if e.masks)
    assert made.masks.shape(example.masks[0]) == (1, *made.latents.shape(example.latents[0])[1:])
    file = {data.read(path).pixels: path for path in balls.glob("?.png")}[example.key]
    kept = np.asarray(Image.open(file.with_name(f"{file.stem}-masklabel.png")))
    theirs = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(kept / 255.0)[None, None], (16, 16))
    assert np.allclose(made.masks[[example.masks[0]]], theirs, atol=1e-6)


def test_without_masked_training_masks_are_told_of_and_nothing_else_changes(balls, encode, masked):
    said = []
    made = encode(balls, report=lambda subject, done, total, note="": said.append(note))
    assert any("they are not used: train.masked_training is false" in note for note in said)
    assert not any(example.masks for example in made.train)
    batch = Stream(made, choices(), 4).batch(0, 4)
    assert batch.places is None and batch.kept is None
    assert made.fingerprint != masked[0].fingerprint


def test_mirrored_and_cut_versions_have_masks_of_their_own(balls, encode):
    settings = {"random_flip": True, "crop_jitter": 0.2, "image_variations": 4, "upscale": True}
    made = encode(balls, train=MASKED, data=settings)
    example = next(e for e in made.train if e.masks)
    assert len(example.masks) == len(example.latents) == 4
    rows = made.masks[list(example.masks)]
    assert not torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[1].flip(-1))  # another cut each
    plain = data.fit(Image.new("RGB", (64, 64)), Transform((64, 64)), Image.new("L", (64, 64), 255)).mask
    assert plain is not None and plain.min() == 255


def test_the_chance_to_ignore_a_mask_is_keyed_and_as_asked(masked):
    made = masked[0]
    some = replace(made, masking=replace(made.masking, unmasked_probability=0.3))
    stream, asked = Stream(some, choices()), range(1500)
    seen = [stream._draw(position) for position in asked]
    ignored = [stream._mask(example, key, 0) is None for example, key in seen if example.masks]
    assert abs(np.mean(ignored) - 0.3) < 4 * (0.3 * 0.7 / len(ignored)) ** 0.5
    again = [stream._mask(example, key, 0) is None for example, key in reversed(seen) if example.masks]
    assert again[::-1] == ignored


def test_a_batch_counts_places_by_the_mask_and_pictures_without_one_whole(masked):
    made = replace(masked[0], masking=masking.Masking(0.25, 0.0, prior_weight=2.0))
    stream = Stream(made, choices(), 8)
    batch = stream.batch(0, 8)
    for number in range(8):
        example, _ = stream._draw(number)
        mask = made.masks[[example.masks[0]]][0] if example.masks else None
        assert batch.places is not None and batch.kept is not None
        wanted = torch.ones(1, 16, 16) if mask is None else mask.clamp(min=0.25)
        assert torch.equal(batch.places[number], wanted)
        assert torch.equal(batch.kept[number], 2 * (1 - wanted))


def test_measuring_goes_by_the_mask_without_chance_and_never_by_the_base(masked, checkpoint):
    from bespoke.diffusion import Schedule

    made = replace(masked[0], masking=masking.Masking(0.0, 1.0, prior_weight=2.0))
    schedule = Schedule.from_config(checkpoint.scheduler_config)
    (_, batch), *_ = validation_batches(made, made.train[:2], 2, 0, schedule, 4)
    assert batch.kept is None and batch.places is not None
    assert torch.equal(batch.places[0], made.masks[[made.train[0].masks[0]]][0])


def test_the_loss_and_its_gradient_are_those_of_plain_torch(masked, trainer, checkpoint, tmp_path):
    """Masked errors against the picture, and against a base that has no adapter at all, written out once more."""
    made = replace(masked[0], masking=masking.Masking(0.0, 0.0, prior_weight=0.5))
    one = trainer(tmp_path, of=made, train=KEPT)
    with torch.no_grad():
        for parameter in one.parameters.values():
            parameter.add_(0.05 * torch.ones_like(parameter))
    batch = one.stream.batch(0, 2)
    losses(one.network, batch, one.schedule, base=one.bare.of_base).mean().backward()
    ours = {name: p.grad.clone() for name, p in one.parameters.items()}
    one.optimizer.zero_grad()
    untrained = trainer(tmp_path / "other", of=made, train=KEPT).bare.unet
    untrained.disable_adapters()
    noisy, target = by_diffusers(checkpoint, batch)
    with torch.no_grad():
        base = untrained(noisy, batch.times, batch.texts).sample
    answer = one.bare.unet(noisy, batch.times, batch.texts).sample
    masks = batch.places.expand_as(answer)
    own = torch.nn.functional.mse_loss(answer, target, reduction="none") * masks
    rest = torch.nn.functional.mse_loss(answer, base, reduction="none") * (1 - masks) * 0.5
    (own + rest).mean().backward()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, one.parameters[name].grad, rtol=1e-4, atol=1e-7), name


def held_out(made, network, untrained, checkpoint):
    """How far answers are from the base's around the subject, and from the picture within, on noise of its own."""
    stream = Stream(replace(made, masking=masking.Masking()), replace(choices(), seed=77), 8)
    around, within = [], []
    with torch.no_grad():
        for first in (0, 8):
            batch = stream.batch(first, 8)
            masks = batch.places
            assert masks is not None
            noisy, target = by_diffusers(checkpoint, batch)
            answer, base = (n(noisy, batch.times, batch.texts) for n in (network, untrained))
            has = torch.tensor([bool((m < 1).any()) for m in masks])
            around.append((((answer - base) ** 2) * (1 - masks))[has].mean())
            within.append((((answer - target) ** 2) * masks)[has].mean())
    return float(torch.stack(around).mean()), float(torch.stack(within).mean())


@pytest.mark.slow
def test_with_masks_the_subject_is_learnt_and_its_odd_ground_is_not(masked, trainer, checkpoint, tmp_path):
    train = {"max_train_steps": 30, "train_batch_size": 4, "learning_rate": 3e-3, "lr_warmup_steps": 2}
    untrained = None
    found = {}
    for name, more in {"whole": {}, "masked": MASKED, "kept": KEPT}.items():
        of = masked[0]
        plain = tuple(replace(e, masks=()) for e in of.train)
        of = replace(of, train=plain) if name == "whole" else of
        made = trainer(tmp_path / name, of=replace(of, masking=masking.of(parse({"train": more}, "it").train)),
                       train={**train, **more})  # fmt: skip
        untrained = untrained or copy.deepcopy(made.bare)
        for _ in range(30):
            made.step(Window(made.accelerator.device))
        found[name] = held_out(masked[0], made.bare, untrained, checkpoint)
    base = held_out(masked[0], untrained, untrained, checkpoint)
    around, within = ({name: values[n] for name, values in found.items()} for n in (0, 1))
    assert max(within.values()) < 0.8 * base[1], (base, found)  # all of them have learnt the subject
    assert around["masked"] < 0.75 * around["whole"] and around["kept"] < 0.35 * around["whole"], found


def test_a_masked_training_goes_on_bit_for_bit(masked, trainer, everything, tmp_path):
    settings = {"of": replace(masked[0], masking=masking.Masking(0.1, 0.3, normalize=True, prior_weight=1.0))}
    settings["train"] = {**KEPT, "unmasked_weight": 0.1, "unmasked_probability": 0.3, "max_train_steps": 5}
    whole = trainer(tmp_path / "whole", **settings)
    through = list(whole.fit())
    first = trainer(tmp_path / "parts", **settings)
    before = list(first.fit(lambda: "enough" if first.progress.step == 3 else None))
    second = trainer(tmp_path / "parts", **settings)
    second.restore(Run(tmp_path / "parts").state(3))
    after = list(second.fit())
    assert told(before) + told(after) == told(through)
    ours, theirs = everything(second), everything(whole)
    assert ours and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_another_mask_is_another_material(masked):
    made = masked[0]
    other = replace(made, train=tuple(replace(e, mask="other" if e.mask else "") for e in made.train))
    assert other.fingerprint != made.fingerprint


@pytest.mark.parametrize("init", ["gaussian", "pissa"])
def test_asking_the_base_changes_nothing_of_the_adapter(init, trainer, tmp_path):
    made = trainer(tmp_path, model={"init": init})
    with torch.no_grad():
        for parameter in made.parameters.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = {name: p.detach().clone() for name, p in made.parameters.items()}
    batch = made.stream.batch(0, 2)
    asked = (batch.clean, batch.times, batch.texts)
    own, base = made.bare(*asked), made.bare.of_base(*asked)
    assert all(torch.equal(p, before[name]) and p.requires_grad for name, p in made.parameters.items())
    assert torch.equal(made.bare(*asked), own) and not torch.allclose(own, base, atol=1e-3)
    assert not base.requires_grad


def test_memory_knows_of_masks_and_of_the_base_that_is_asked(recipe, checkpoint):
    plain, masks, kept = (computed(checkpoint, recipe(train=more)) for more in ({}, MASKED, KEPT))
    assert plain.peak <= masks.peak <= kept.peak < 1.2 * plain.peak
    assert kept.trained == plain.trained and kept.gradients == plain.gradients


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"method": "full"}, "train": KEPT}, "where all weights are trained it is there no more"),
        ({"train": {"masked_prior_preservation_weight": 1.0}}, "train.masked_training is not"),
        ({"train": MASKED}, "no training picture has a mask"),
        (
            {"model": {"method": "full"}, "data": {"regularisation": "r"}, "train": {"regularisation_target": "base"}},
            'regularisation_target = "base" asks the base',
        ),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_encoded(sections, said, pictures, checkpoint, tmp_path):
    dataset = data.build(pictures, tmp_path / "set", parse({}, "it"))
    with pytest.raises(BespokeError, match=said):
        resolved(parse(sections, "it"), dataset, checkpoint)
