"""Batches in which every random choice is a function of its key: no order, batch size or neighbour changes it."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.diffusion import Schedule
from bespoke.encoding import Rows
from bespoke.errors import BespokeError
from bespoke.training import Example, Material
from bespoke.training.batches import Choices, Stream, validation_batches

CERTAIN = -30.0
SCALE = 0.5
STEPS = 1000


def material(count, *, validation=0, flip=False, variance=CERTAIN):
    """Rows that say which they are: latents are their number, so are text states; the mirrored ones are 1000 more."""

    def latent(value):
        return np.concatenate([np.full((4, 6, 6), value), np.full((4, 6, 6), variance)]).astype(np.float32)

    total = count + validation
    rows = [latent(n) for n in range(total)] + [latent(1000 + n) for n in range(total)]
    texts = [np.full((3, 2), n, np.float32) for n in range(total)] + [np.full((3, 2), -1, np.float32)]
    made = tuple(Example(f"key {n}", (n, total + n) if flip else (n,), n, weight=1.0 + n) for n in range(total))
    return Material(Rows(rows), Rows(texts), total, made[:count], made[count:], SCALE)


def stream(of, *, seed=0, empty=0.0, offset=0.0):
    return Stream(of, Choices(seed, STEPS, empty, offset))


def which(batch):
    """The numbers of the examples in a batch, from their latents."""
    return [round(float(item.mean()) / SCALE) for item in batch.clean]


FIELDS = ("clean", "noise", "times", "texts", "weights")


def same(a, b):
    return all(torch.equal(getattr(a, field), getattr(b, field)) for field in FIELDS)


def joined(*batches):
    return type(batches[0])(*(torch.cat([getattr(b, field) for b in batches]) for field in FIELDS))


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 12), size=st.integers(1, 9), epochs=st.integers(1, 3), seed=st.integers(0, 2**40))
def test_each_epoch_shows_every_example_once_whatever_the_batch_size(count, size, epochs, seed):
    source = stream(material(count), seed=seed)
    shown = []
    for first in range(0, count * epochs, size):
        shown += which(source.batch(first, size))
    for epoch in range(epochs):
        assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(deadline=None, max_examples=30)
@given(repeats=st.lists(st.floats(0.1, 5), min_size=1, max_size=8), seed=st.integers(0, 2**40))
def test_an_example_comes_as_often_as_it_counts(repeats, seed):
    of = material(len(repeats))
    of = replace(of, train=tuple(replace(e, repeats=r) for e, r in zip(of.train, repeats, strict=True)))
    source, epochs = stream(of, seed=seed), 60
    counts = np.zeros((epochs + 1, len(repeats)))
    keys = set()
    for position in range(int(source.epoch * epochs)):
        example, key = source._draw(position)
        counts[key[1], example.latents[0]] += 1
        assert key not in keys  # each repeat has noise of its own
        keys.add(key)
    whole = counts[: epochs - 1]
    assert (whole >= np.floor(repeats)).all() and (whole <= np.ceil(repeats)).all()
    assert (np.abs(whole.sum(axis=0) - len(whole) * np.array(repeats)) < 1 + 1e-6).all()
    last = int(source.epoch * (epochs - 1))
    assert stream(of, seed=seed)._draw(last) == source._draw(last)  # wherever one begins


def test_what_counts_half_comes_every_second_epoch_and_takes_nothing_from_the_others():
    of = material(2)
    of = replace(of, train=(of.train[0], replace(of.train[1], repeats=0.5)))
    shown = [which(stream(of).batch(first, 3)) for first in range(0, 30, 3)]
    assert all(sorted(epochs) == [0, 0, 1] for epochs in shown)


def test_a_repeat_has_noise_and_a_timestep_of_its_own():
    of = material(1)
    batch = stream(replace(of, train=(replace(of.train[0], repeats=2.0),))).batch(0, 2)
    assert not torch.equal(batch.noise[0], batch.noise[1])
    assert batch.times[0] != batch.times[1]


def test_epochs_and_seeds_have_orders_of_their_own():
    of = material(10)
    orders = {tuple(which(stream(of, seed=seed).batch(10 * epoch, 10))) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_each_picture_comes_with_its_own_caption_and_weight():
    batch = stream(material(6)).batch(0, 12)
    assert batch.texts[:, 0, 0].tolist() == which(batch)
    assert batch.weights.tolist() == [1.0 + n for n in which(batch)]
    assert batch.texts.shape == (12, 3, 2) and batch.clean.shape == batch.noise.shape == (12, 4, 6, 6)


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(1, 7),
    asked=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=6),
)
def test_a_position_holds_the_same_however_it_is_asked_for(count, asked):
    of = material(count, flip=True, variance=0.0)
    options = {"empty": 0.5, "offset": 0.1, "seed": 4}
    whole = stream(of, **options).batch(0, 36)
    source = stream(of, **options)
    for first, size in asked:  # any order, back and forth, overlapping
        part = source.batch(first, size)
        assert same(part, type(whole)(*(getattr(whole, field)[first : first + size] for field in FIELDS)))


@settings(deadline=None, max_examples=20)
@given(processes=st.integers(1, 4), size=st.integers(1, 4), passes=st.integers(1, 3))
def test_processes_together_see_what_one_would(processes, size, passes):
    """Positions as the loop deals them out, for two steps."""
    of = material(5, variance=0.0)
    sources = [stream(of, empty=0.3) for _ in range(processes)]
    parts = [
        sources[index].batch((number * processes + index) * size, size)
        for number in range(2 * passes)
        for index in range(processes)
    ]
    assert same(joined(*parts), stream(of, empty=0.3).batch(0, 2 * passes * processes * size))


def by_example(of, epoch, **options):
    count = len(of.train)
    batch = stream(of, **options).batch(epoch * count, count)
    numbers = batch.weights.tolist()
    return {number: {field: getattr(batch, field)[place] for field in FIELDS} for place, number in enumerate(numbers)}


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 8), epoch=st.integers(0, 3), seed=st.integers(0, 1000))
def test_another_picture_in_the_dataset_changes_nothing_about_the_others(count, epoch, seed):
    options = {"seed": seed, "empty": 0.4, "offset": 0.2}
    of = material(count, flip=True, variance=0.0)
    more = material(count + 1, flip=True, variance=0.0)
    few, many = by_example(of, epoch, **options), by_example(more, epoch, **options)
    assert len(many) == len(few) + 1
    for number, fields in few.items():
        empty = {-1.0, number - 1}  # the row of the empty caption, or the example's own
        assert float(fields["texts"][0, 0]) in empty
        for field in FIELDS:
            assert torch.equal(fields[field], many[number][field]), field


def test_equal_keys_mean_equal_randomness_and_other_keys_other():
    of = material(2)
    twins = replace(of, train=(of.train[0], replace(of.train[1], key=of.train[0].key)))
    batch, apart = stream(twins).batch(0, 2), stream(of).batch(0, 2)
    assert torch.equal(batch.noise[0], batch.noise[1])
    assert not torch.equal(apart.noise[0], apart.noise[1])


def test_every_epoch_draws_anew():
    of = material(1, variance=0.0)
    batch = stream(of).batch(0, 50)
    for field in ("clean", "noise"):
        assert len({item.numpy().tobytes() for item in getattr(batch, field)}) == 50
    assert len(set(batch.times.tolist())) > 40


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_empty_captions_is_as_asked(share):
    batch = stream(material(20), empty=share).batch(0, 1000)
    found = float((batch.texts[:, 0, 0] == -1).float().mean())
    assert abs(found - share) <= 4 * (share * (1 - share) / 1000) ** 0.5


def test_mirrored_pictures_are_drawn_half_of_the_time_where_they_are_allowed():
    mirrored = np.array(which(stream(material(10, flip=True)).batch(0, 600))) >= 1000
    assert abs(mirrored.mean() - 0.5) < 0.09
    batch = stream(material(10, flip=True)).batch(0, 600)
    assert (np.array(which(batch)) % 1000 == batch.texts[:, 0, 0].numpy()).all()  # still its own caption
    assert max(which(stream(material(10)).batch(0, 100))) < 10


def test_the_first_batches_are_for_ever():
    """Runs that began with an earlier version go on: these figures come from the first one."""
    of = material(5, flip=True)
    counts = (1.0, 2.0, 0.5, 1.0, 1.5)
    of = replace(of, train=tuple(replace(e, repeats=r) for e, r in zip(of.train, counts, strict=True)))
    batch = stream(of, seed=3, empty=0.3).batch(0, 12)
    assert which(batch) == [1001, 2, 1000, 3, 1001, 4, 3, 1000, 1001, 1004, 4, 1001]
    assert batch.times.tolist() == [250, 767, 943, 817, 240, 68, 498, 292, 642, 931, 999, 972]
    assert batch.texts[:, 0, 0].tolist() == [1, -1, 0, -1, 1, 4, 3, 0, 1, 4, -1, 1]


def test_versions_are_taken_equally_often():
    of = material(4, flip=True)
    three = tuple(replace(e, latents=(0, 1, 2)) for e in of.train)
    counts = np.bincount(which(stream(replace(of, train=three)).batch(0, 900)))
    assert counts.shape == (3,) and (abs(counts - 300) < 60).all()


def test_noise_is_standard_normal_and_times_are_uniform():
    batch = stream(material(10)).batch(0, 400)
    noise, count = batch.noise.flatten(), batch.noise.numel()
    assert batch.noise.dtype == torch.float32
    assert abs(float(noise.mean())) < 5 / count**0.5
    assert abs(float(noise.var()) - 1) < 5 * (2 / count) ** 0.5
    assert abs(float((noise.abs() < 0.6744898).float().mean()) - 0.5) < 5 * 0.5 / count**0.5
    shares = torch.bincount(batch.times // 250, minlength=4) / 400
    assert shares.sub(0.25).abs().max() < 0.1
    assert int(batch.times.min()) >= 0 and int(batch.times.max()) < STEPS


def test_latents_are_drawn_from_their_moments():
    batch = stream(material(1, variance=2.0)).batch(0, 300)  # mean 0, log variance 2
    drawn = batch.clean.flatten() / SCALE
    assert abs(float(drawn.mean())) < 0.15
    assert float(drawn.std()) == pytest.approx(np.e, rel=0.03)
    assert abs(float((drawn * batch.noise.flatten()).mean())) < 0.15  # not with the noise that is added


def test_noise_offset_shifts_whole_channels():
    of = material(10)
    plain, shifted = stream(of).batch(0, 200), stream(of, offset=0.3).batch(0, 200)
    shift = shifted.noise - plain.noise
    assert float(shift.std(dim=(2, 3)).max()) < 1e-6
    amount = shift.mean(dim=(2, 3))
    assert float(amount.std()) == pytest.approx(0.3, rel=0.1)
    assert torch.equal(plain.times, shifted.times) and torch.equal(plain.clean, shifted.clean)


def measured(of, size, strata=4, seed=0, share=(0, 1), *, even=False):
    schedule = Schedule.from_config({"prediction_type": "v_prediction"})
    return list(validation_batches(of, of.validation, strata, seed, schedule, size, share, even=even))


def validation(of, size, strata=4, seed=0):
    return joined(*(batch for _, batch in measured(of, size, strata, seed)))


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 9), strata=st.integers(1, 9), items=st.integers(1, 4), processes=st.integers(1, 5))
def test_processes_share_the_batches_of_a_validation_equally(size, strata, items, processes):
    of = material(2, validation=items, variance=1.0)
    whole = measured(of, size, strata)
    parts = [measured(of, size, strata, share=(process, processes)) for process in range(processes)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    joint = sorted((one for part in parts for one in part), key=lambda one: one[0].start)
    assert [places for places, _ in joint] == [places for places, _ in whole]
    assert [n for places, _ in joint for n in range(places.start, places.stop)] == list(range(items * strata))
    assert all(same(ours, theirs) for (_, ours), (_, theirs) in zip(joint, whole, strict=True))
    evenly = [measured(of, size, strata, share=(process, processes), even=True) for process in range(processes)]
    assert len(set(map(len, evenly))) == 1
    for ours, theirs in zip(evenly, parts, strict=True):
        assert [places for places, _ in ours[: len(theirs)]] == [places for places, _ in theirs]
        assert [places for places, _ in ours[len(theirs) :]] in ([], [slice(0, 0)])


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 30), strata=st.integers(1, 9), items=st.integers(1, 4))
def test_validation_measures_every_picture_in_every_stratum(size, strata, items):
    of = material(2, validation=items, variance=1.0)
    batch = validation(of, size, strata)
    assert which(batch) == [2 + n for n in range(items) for _ in range(strata)]  # the mean: nothing is drawn
    assert batch.texts[:, 0, 0].tolist() == which(batch)
    edges = [(stratum * STEPS / strata, (stratum + 1) * STEPS / strata) for stratum in range(strata)] * items
    assert all(low <= time < high for (low, high), time in zip(edges, batch.times.tolist(), strict=True))
    assert same(batch, validation(of, 1, strata))
    noise = batch.noise.reshape(items, strata, -1)
    assert torch.equal(noise, noise.flip(1))  # strata that mirror each other share their noise


def test_validation_noise_hangs_on_picture_and_seed_only():
    few, many = validation(material(2, validation=2), 3), validation(material(2, validation=3), 5)
    assert torch.equal(few.noise, many.noise[: len(few.noise)])
    assert not torch.equal(few.noise, validation(material(2, validation=2), 3, seed=1).noise)
    noise = few.noise.reshape(2, 4, -1)
    assert not torch.equal(noise[0], noise[1]) and not torch.equal(noise[0, 0], noise[0, 1])


def test_a_training_without_a_cache_reads_the_same_batches(mixed, mixed_material, encode):
    """In several shapes and random versions: bit for bit, and nothing is written."""
    settings = {"enable_bucket": True, "crop": "random", "random_flip": True, "image_variations": 2}
    fresh = encode(mixed, data={**settings, "cache_latents": False})
    choices = Choices(0, 1000, 0.1, 0.1, input_perturbation=0.1)
    ours, theirs = (Stream(material, choices, 2) for material in (fresh, mixed_material))
    for first in range(0, 24, 2):
        one, other = ours.batch(first, 2), theirs.batch(first, 2)
        for field in dataclasses.fields(one):
            ours_, theirs_ = getattr(one, field.name), getattr(other, field.name)
            assert ours_ is theirs_ is None or torch.equal(ours_, theirs_), field.name


def test_the_probe_is_as_many_training_pictures_always_the_same(pictures, encode, material):
    again = encode(pictures)
    assert material.others.keys() == again.others.keys() == {"probe"}
    keys = [[e.key for e in m.others["probe"]] for m in (material, again)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == len(material.validation)
    assert set(keys[0]) <= {e.key for e in material.train}
    assert encode(pictures, validation={"probe": False}).others == {}


def test_further_sets_are_measured_plain_each_by_its_name(pictures, mixed, encode, tmp_path):
    other = encode(mixed, tmp_path / "other")
    here = encode(pictures, tmp_path / "here", validation={"sets": {"wide": "../other/dataset"}, "max_items": 6})
    assert list(here.others) == ["probe", "wide"]
    known = {e.key for e in (*other.train, *other.validation)}
    assert len(here.others["wide"]) == 6
    assert {e.key for e in here.others["wide"]} <= known
    with pytest.raises(BespokeError, match="every training has"):
        encode(pictures, tmp_path / "wrong", validation={"sets": {"probe": "../other/dataset"}})


def test_another_wording_is_read_in_its_share_of_the_visits_and_never_measured():
    """Text states are their row's number, so a batch tells which wording each picture was shown with."""
    count, others = 40, 4
    rows = [np.full((3, 2), n, np.float32) for n in range(count * (others + 1) + 1)]
    plain = material(count, validation=2)
    train = tuple(
        replace(e, text=n, wordings=tuple(count + n * others + k for k in range(others)))
        for n, e in enumerate(plain.train)
    )
    validation = tuple(replace(e, text=0, wordings=(1, 2)) for e in plain.validation)
    source = replace(plain, texts=Rows(rows), train=train, validation=validation, empty=len(rows) - 1)

    def read(share, seed=0, first=0, number=10 * count):
        batch = Stream(source, Choices(seed, STEPS, 0.0, 0.0, share)).batch(first, number)
        return [int(text[0, 0]) for text in batch.texts], which(batch)

    shown, pictures = read(0.5)
    worded = [text for text in shown if text >= count]
    assert 0.4 < len(worded) / len(shown) < 0.6
    assert all(text == n or (text - count) // others == n for text, n in zip(shown, pictures, strict=True))
    assert {(text - count) % others for text in worded} == set(range(others))
    assert read(0.5) == (shown, pictures)
    assert read(0.5, first=7, number=9)[0] == shown[7:16]
    assert read(0.5, seed=1)[0] != shown
    assert read(0.0)[0] == read(0.0)[1]
    assert min(read(1.0)[0]) >= count
    measured = validation_batches(source, validation, 2, 0, Schedule.from_config({}), 4)
    assert {int(text[0, 0]) for _, batch in measured for text in batch.texts} == {0}
