"""Regularisation sets and class pictures: how often they come, what they count for, and what is kept by them."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from tests.training.conftest import drawing
from tests.training.test_memory import computed

from bespoke import data
from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.pipeline.material import Encoder
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.reporting import silent
from bespoke.recipe import Facts, derive, parse
from bespoke.training.batches import Choices, Stream
from bespoke.training.step import losses
from bespoke.training.window import Window
from bespoke.workspace import Project, write_text


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A project with a regularisation set beside its dataset: four pictures of which one counts three times."""
    root = tmp_path_factory.mktemp("others")
    (root / "in").mkdir()
    rows = ["file_name,text,repeats,weight"]
    for number in range(4):
        drawing(number).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(root / "in" / f"{number}.png")
        rows.append(f"{number}.png,a dog of number {number},{3 if number == 2 else 1},{2 if number == 0 else 1}")
    (root / "in" / "metadata.csv").write_text("\n".join(rows))
    data.build(root / "in", root / "reg", parse({"data": {"validation_fraction": 0.25}}, "the test"))
    return root


@pytest.fixture(scope="module")
def encoded(others, pictures, recipe):
    """The ten drawings with the regularisation set, by a recipe."""
    dataset = data.build(pictures, others / "dataset", parse({"data": {"validation_fraction": 0.2}}, "the test"))

    def make(**train):
        wanted = recipe(data={"regularisation": "reg"}, train=train)
        return Encoder(Project(others), find("pico"), wanted, silent).material(dataset, others / "dataset")

    return make


def test_all_its_pictures_come_as_often_as_the_training_pictures_and_their_repeats_hold(encoded):
    made = encoded(prior_loss_weight=0.5)
    own, regular = ([e for e in made.train if e.drawn is side] for side in (False, True))
    assert len(own) == 8 and len(regular) == 4, "the set's own split is not heeded: all of it is there to be trained on"
    assert sum(e.repeats for e in regular) == pytest.approx(sum(e.repeats for e in own))
    assert sorted(e.repeats for e in regular) == pytest.approx([8 / 6, 8 / 6, 8 / 6, 8 / 2])
    assert sorted(e.weight for e in regular) == [0.5, 0.5, 0.5, 1.0] and {e.weight for e in own} == {1.0}
    assert not {e.key for e in own} & {e.key for e in regular}
    stream = Stream(made, Choices(0, 1000, 0.0, 0.0), 2)
    assert stream.epoch == pytest.approx(16) and stream.pictures == 8


def test_the_share_is_as_asked_and_none_is_none(encoded):
    half, none = encoded(regularisation_share=0.5), encoded(regularisation_share=0.0)
    assert sum(e.repeats for e in half.train if e.drawn) == pytest.approx(4)
    assert not any(e.drawn for e in none.train) and none.fingerprint != half.fingerprint


def test_its_pictures_come_with_their_own_captions_and_latents(encoded, checkpoint, others):
    made = encoded()
    dataset = data.load(others / "reg")
    encoder = Encoder(Project(others), checkpoint, parse({"data": {"resolution": 64}}, "it"), silent)
    for picture in dataset.pictures:
        example = next(e for e in made.train if e.key == f"regular-{picture.pixels}")
        whole = data.fit(data.read(others / "reg" / data.TRAIN / picture.file).image, data.Transform((64, 64)))
        pixels = torch.from_numpy(whole.pixels.copy()).permute(2, 0, 1)[None] / 127.5 - 1
        moments = checkpoint.vae().encode(pixels).latent_dist.parameters
        assert torch.allclose(made.latents[[example.latents[0]]], moments, atol=1e-4)
        assert torch.equal(made.texts[[example.text]], encoder._texts([picture.text])[[0]])


def test_by_the_base_its_pictures_teach_what_the_base_says_and_others_what_they_show(encoded, trainer, tmp_path):
    made = encoded(regularisation_target="base")
    assert all(e.taught is e.drawn for e in made.train)
    one = trainer(tmp_path, of=made)
    with torch.no_grad():
        for parameter in one.parameters.values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    drawn = [one.stream._draw(position) for position in range(8)]
    taught = torch.tensor([example.taught for example, _ in drawn])
    assert taught.any() and not taught.all()
    batch = one.stream.batch(0, 8)
    found = losses(one.network, batch, one.schedule, base=one.bare.of_base)
    noisy = one.schedule.noisy(batch.clean, batch.noise, batch.times)
    with one.bare.untouched():
        base = one.bare(noisy, batch.times, batch.texts)
    target = one.schedule.target(batch.clean, batch.noise, batch.times)
    wanted = torch.where(taught[:, None, None, None], base, target)
    assert torch.allclose(found, (one.bare(noisy, batch.times, batch.texts) - wanted).square().mean(dim=(1, 2, 3)))


def test_a_fresh_adapter_has_nothing_to_learn_from_the_base(encoded, trainer, tmp_path):
    made = encoded(regularisation_target="base")
    one = trainer(tmp_path, of=replace(made, train=tuple(e for e in made.train if e.taught)))
    one.step(Window(one.accelerator.device))
    assert all(not torch.any(p) for name, p in one.parameters.items() if "lora_B" in name)


def test_a_training_with_it_goes_on_bit_for_bit(encoded, trainer, everything, tmp_path):
    from bespoke.workspace import Run

    settings = {"of": encoded(regularisation_target="base"), "train": {"max_train_steps": 4}}
    whole = trainer(tmp_path / "whole", **settings)
    list(whole.fit())
    first = trainer(tmp_path / "parts", **settings)
    list(first.fit(lambda: "enough" if first.progress.step == 2 else None))
    second = trainer(tmp_path / "parts", **settings)
    second.restore(Run(tmp_path / "parts").state(2))
    list(second.fit())
    ours, theirs = everything(second), everything(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_memory_knows_of_the_base_that_is_asked(recipe, checkpoint):
    plain = computed(checkpoint, recipe(data={"regularisation": "reg"}))
    asked = computed(checkpoint, recipe(data={"regularisation": "reg"}, train={"regularisation_target": "base"}))
    assert plain.peak < asked.peak < 1.2 * plain.peak


def test_length_and_plain_pictures_are_derived_with_it():
    known = Facts(40, 64, "sks dog", "cpu", bf16=False, visits=50.0)
    recipe, reasons = derive(parse({"data": {"regularisation": "reg"}, "train": {"num_train_epochs": 2}}, "it"), known)
    assert recipe.train.num_class_images == 0 and "regularisation" in reasons["train.num_class_images"]
    assert recipe.train.max_train_steps == 2 * 100 / 8
    prompted, _ = derive(parse({"train": {"class_prompts": ["a dog"]}}, "it"), replace(known, trigger=""))
    assert prompted.train.num_class_images == 40, "prompts of one's own need no trigger"


def test_a_set_that_is_none_is_refused_and_the_plan_counts_one_that_is(others, encoded):
    from bespoke.pipeline.plan import plan

    encoded()
    write_text(others / "recipe.toml", '[model]\nbase = "pico"\n[data]\nregularisation = "reg"\n')
    prepared = prepare(others / "recipe.toml")
    assert len(prepared.regularisation) == 4 and len(prepared.shown.pictures) == 14
    made = plan(others / "recipe.toml", ["train.max_train_steps=32", "train.train_batch_size=1"])
    assert made.length.regular == 4 and made.length.epochs == pytest.approx(2.0)
    with pytest.raises(BespokeError, match="is no dataset"):
        prepare(others / "recipe.toml", ["data.regularisation=elsewhere"])


def test_class_pictures_are_drawn_from_the_recipes_prompts_each_once(others, pictures, recipe):
    dataset = data.load(others / "dataset")
    told = []
    prompts = ["a dog on a red background", "a (big:1.3) house"]
    quick = {"num_inference_steps": 2, "guidance_scale": 1.0}

    def make(train):
        report = lambda subject, *_: told.append(subject)  # noqa: E731
        wanted = recipe(train=train, text={"trigger": ""}, sample=quick)
        return Encoder(Project(others), find("pico"), wanted, report).material(dataset, others / "dataset")

    made = make({"class_prompts": prompts, "num_class_images": 5})
    drawn = [e for e in made.train if e.drawn]
    texts = Encoder(Project(others), find("pico"), recipe(), silent)._texts(prompts)
    assert [torch.equal(made.texts[[e.text]], texts[[n % 2]]) for n, e in enumerate(drawn)] == [True] * 5
    rows = made.latents[[e.latents[0] for e in drawn]]
    assert len({row.numpy().tobytes() for row in rows}) == 5, "each has a first noise of its own"
    assert told.count("draw plain pictures") >= 1
    told.clear()
    again = make({"class_prompts": prompts, "num_class_images": 5})
    assert "draw plain pictures" not in told
    assert torch.equal(again.latents[[e.latents[0] for e in again.train if e.drawn]], rows)
