"""Noise that the device draws: a training by it is as exact as one by the host's, and known by its name."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bespoke.diffusion import Schedule
from bespoke.diffusion.philox import normals
from bespoke.encoding import sampled
from bespoke.errors import BespokeError
from bespoke.recipe import parse
from bespoke.seeds import generator
from bespoke.training import objective
from bespoke.training.batches import Choices, Stream
from bespoke.training.loader import Loader
from bespoke.workspace import Run

DEVICE = {"noise_source": "device"}


def stream(material, size=4, *, on_device=True):
    choices = Choices(3, 1000, 0.3, 0.1, input_perturbation=0.2, on_device=on_device)
    return Stream(material, choices, size)


def test_all_but_the_noise_is_what_the_host_gives(mixed_material):
    ours, theirs = stream(mixed_material), stream(mixed_material, on_device=False)
    for turn in range(8):
        mine, other = ours.batch(4 * turn, 4), theirs.batch(4 * turn, 4)
        assert mine.tensors.keys() == other.tensors.keys()
        for name in mine.tensors.keys() - {"clean", "noise", "added"}:
            assert torch.equal(mine.tensors[name], other.tensors[name]), name
        for name in ("clean", "noise", "added"):
            assert mine.tensors[name].shape == other.tensors[name].shape
            assert not torch.equal(mine.tensors[name], other.tensors[name]), name


def test_the_noise_is_made_of_the_words_that_the_host_draws(material):
    """Of the same keys: by numpy's generator and the formula in float64."""
    ours = stream(material)
    drawn, batch = ours.drawn(0, 3), ours.batch(0, 3)

    def wanted(purpose, key, shape):
        raw = generator(purpose, *key).bit_generator.random_raw(int(np.prod(shape)) // 2)
        part, turn = (raw >> np.uint64(32)).astype(float) + 0.5, (raw & np.uint64(2**32 - 1)).astype(float) + 0.5
        radius, angle = np.sqrt(-2 * np.log(part / 2**32)), 2 * np.pi * turn / 2**32
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(shape)

    for place, (example, key) in enumerate(drawn):
        shape = tuple(batch.noise.shape[1:])
        noise = wanted("noise", key, shape) + 0.1 * wanted("offset", key, (shape[0], 1, 1))
        added = noise + 0.2 * wanted("perturbation", key, shape)
        posterior = torch.from_numpy(wanted("posterior", key, shape))[None].float()
        clean = [sampled(material.latents[[row]], posterior, material.scale, material.shift) for row in example.latents]
        np.testing.assert_allclose(batch.noise[place].numpy(), noise, atol=2e-5)
        np.testing.assert_allclose(batch.tensors["added"][place].numpy(), added, atol=2e-5)
        assert any(torch.allclose(batch.clean[place], one[0], atol=1e-4) for one in clean)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_batches_are_the_same_however_they_are_shared_out(mixed_material, processes):
    whole = stream(mixed_material).batch(8, 4)
    loaders = [
        Loader(stream(mixed_material), torch.device("cpu"), (n, processes), 4, ahead=2) for n in range(processes)
    ]
    parts = []
    for loader in loaders:
        with loader.running():
            parts.append(loader.batch(2).drawn())
    for name, tensor in whole.tensors.items():
        assert torch.equal(torch.cat([part.tensors[name] for part in parts]), tensor), name


def test_training_stops_and_goes_on_bit_for_bit(tmp_path, trainer, everything):
    settings = {"train": {**DEVICE, "noise_offset": 0.1, "input_perturbation": 0.1, "max_train_steps": 6}}
    whole = trainer(tmp_path / "whole", **settings)
    list(whole.fit())
    first, second = (trainer(tmp_path / "parts", **settings) for _ in range(2))
    list(first.fit(lambda: "enough" if first.progress.step == 3 else None))
    second.restore(Run(tmp_path / "parts").state(3))
    list(second.fit())
    ours, theirs = everything(second), everything(whole)
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    plain = trainer(tmp_path / "plain", train={key: v for key, v in settings["train"].items() if key != "noise_source"})
    list(plain.fit())
    others = everything(plain)
    assert any(not torch.equal(others[name], theirs[name]) for name in theirs)


def test_a_state_of_the_other_source_is_refused(tmp_path, trainer):
    began = trainer(tmp_path)
    list(began.fit(lambda: "enough" if began.progress.step == 1 else None))
    with pytest.raises(BespokeError, match=r"train\.noise_source: 'host' was, 'device' is"):
        trainer(tmp_path, train=DEVICE).restore(Run(tmp_path).state(1))


def test_layers_of_noise_are_the_host_s():
    asked = parse({"train": {**DEVICE, "multires_noise_iterations": 6}}, "the test").train
    with pytest.raises(BespokeError, match="noise of one layer") as caught:
        objective.check(asked, Schedule.from_config({}))
    assert "Take one of them out" in caught.value.hint


def test_drawing_reads_the_keys_and_nothing_else(material):
    """The same numbers in a batch of other pictures, and on whatever else the batch holds."""
    ours = stream(material)
    undrawn = ours.assembled(ours.drawn(0, 4))
    changed = replace(undrawn, times=undrawn.times.flip(0), keys=undrawn.keys.flip(1))
    assert torch.equal(changed.drawn().noise.flip(0), undrawn.drawn().noise)
    assert torch.equal(
        normals(undrawn.keys[1], (4, 16, 16)) + 0.1 * normals(undrawn.keys[2], (4, 1, 1)), undrawn.drawn().noise
    )
