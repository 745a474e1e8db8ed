"""Batches made ahead by a thread: the same ones, no more than were asked for, and gone when nobody wants them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from bespoke.encoding import Joined, Stacked, Uncached
from bespoke.errors import BespokeError
from bespoke.training import Step
from bespoke.training.batches import Choices, Stream
from bespoke.training.loader import Loader, ahead_on
from bespoke.workspace import Run

HERE = torch.device("cpu")


def stream(material, size=2):
    return Stream(material, Choices(3, 1000, 0.3, 0.1, input_perturbation=0.1), size)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("bespoke-loader")]


def same(ours, theirs):
    assert ours.tensors.keys() == theirs.tensors.keys()
    return all(torch.equal(tensor, theirs.tensors[name]) for name, tensor in ours.tensors.items())


@pytest.mark.parametrize("share", [(0, 1), (1, 2)], ids=["one process", "the second of two"])
def test_batches_made_ahead_are_those_made_when_they_are_asked_for(mixed_material, share):
    """In several shapes and over epochs; also when a training goes on elsewhere than it would have."""
    plain, loader = stream(mixed_material, 4), Loader(stream(mixed_material, 4), HERE, share, 4, ahead=2)
    with loader.running():
        for turn in (*range(12), 3, 4, 30, 31):
            first = 4 * turn + share[0] * loader.size
            assert same(loader.batch(turn), plain.batch(first, loader.size)), turn
        assert len(threads()) == 1
    assert threads() == []
    assert same(loader.batch(5), plain.batch(20 + share[0] * loader.size, loader.size))


class Watched(Joined):
    """Rows that count how often they are read, and may not be readable."""

    def __init__(self, plain, broken=None):
        super().__init__([plain])
        self.reads, self.broken = 0, broken
        self.read = threading.Semaphore(0)

    def __getitem__(self, indices):
        self.reads += 1
        if self.reads == self.broken:
            raise BespokeError("The disk is gone.", "Put it back.")
        found = super().__getitem__(indices)
        self.read.release()
        return found


def test_no_more_are_made_ahead_than_are_counted(material):
    rows = Watched(material.latents)
    loader = Loader(stream(replace(material, latents=rows)), HERE, (0, 1), 2, ahead=2)
    with loader.running():
        for turn in range(5):
            loader.batch(turn)
            rows.read.acquire()
        for _ in range(2):
            assert rows.read.acquire(timeout=60)
        assert not rows.read.acquire(timeout=0.1)
    assert rows.reads == 5 + 2
    assert ahead_on("cpu") == 0 and ahead_on("cuda") == 2


def test_what_goes_wrong_in_the_thread_is_told_where_the_batch_is_asked_for(tmp_path, trainer, material):
    ours = trainer(
        tmp_path, of=replace(material, latents=Watched(material.latents, broken=5)), validation={"strata": 1}
    )
    ours.loader.ahead = 2
    ours.validator = None
    steps = []
    with pytest.raises(BespokeError, match="The disk is gone") as caught:
        steps.extend(event.step for event in ours.fit() if isinstance(event, Step))
    assert caught.value.hint == "Put it back." and steps == [1, 2, 3, 4]
    assert threads() == []


@pytest.mark.parametrize("how", ["closed", "interrupted"])
def test_the_thread_ends_with_the_training(tmp_path, trainer, how):
    ours = trainer(tmp_path)
    ours.loader.ahead = 2
    events = ours.fit()
    assert any(isinstance(event, Step) for event in events) and len(threads()) == 1
    if how == "closed":
        events.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt())
    assert threads() == []


def test_a_training_with_a_thread_stops_and_goes_on_bit_for_bit(tmp_path, trainer, everything, mixed_material):
    settings = {"train": {"gradient_accumulation_steps": 2, "max_train_steps": 6}, "of": mixed_material}
    plain = trainer(tmp_path / "plain", **settings)
    list(plain.fit())
    first, second = (trainer(tmp_path / "ahead", **settings) for _ in range(2))
    first.loader.ahead = 2
    list(first.fit(lambda: "enough" if first.progress.step == 3 else None))
    second.restore(Run(tmp_path / "ahead").state(3))
    second.loader.ahead = 2
    list(second.fit())
    ours, theirs = everything(second), everything(plain)
    assert ours.keys() == theirs.keys() and second.progress == plain.progress
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_rows_that_a_network_encodes_are_not_read_by_a_thread(material):
    fresh = Uncached([(8, 16, 16)] * len(material.latents), lambda numbers: torch.zeros(len(numbers), 8, 16, 16))
    assert material.latents.ready and not fresh.ready
    assert not Stacked(material.latents, fresh).ready and not Joined([material.latents, fresh]).ready
    assert Joined([material.latents, material.latents]).ready
    loader = Loader(stream(replace(material, latents=fresh)), HERE, (0, 1), 2, ahead=2)
    with loader.running():
        loader.batch(0)
        assert threads() == []


def test_threads_draw_what_one_draws(material):
    """Each thread has a generator of its own, which is begun anew for each key."""
    plain = stream(material)
    wanted = [plain.batch(2 * turn, 2) for turn in range(40)]
    drawn = [plain.drawn(2 * turn, 2) for turn in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(plain.assembled, drawn))
    assert all(map(same, found, wanted))
