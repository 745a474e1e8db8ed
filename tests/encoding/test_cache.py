"""Everything is encoded once, found again, and made again where it was damaged; rows are what the models say."""

import json
import os
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open

from bespoke.encoding import (
    Cache,
    Items,
    Joined,
    LatentEncoder,
    TextEncoder,
    Uncached,
    cache,
    fitted,
    sampled,
    tokens,
    too_long,
    windows,
)
from bespoke.models import Tuned, find
from bespoke.text import escaped, read

CPU = torch.device("cpu")


class Encoding:
    """Encodes a key as a row that only it has, and remembers what it was asked for."""

    def __init__(self, keys: Sequence[str], fails_after: int | None = None) -> None:
        self.keys, self.asked, self.left = keys, [], fails_after

    def __call__(self, numbers: Sequence[int]) -> torch.Tensor:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        self.asked += [self.keys[number] for number in numbers]
        return torch.stack([row(self.keys[number]) for number in numbers])


def row(key: str) -> torch.Tensor:
    return torch.randn(2, 3, generator=torch.Generator().manual_seed(int.from_bytes(key.encode(), "little") % 2**60))


def ask(folder, keys, **kwargs):
    """The rows of the keys, and the keys that were encoded for it."""
    encoding = Encoding(keys, **kwargs)
    rows = Cache(folder).rows(keys, encoding)
    assert len(rows) == len(keys)
    return rows, encoding.asked


def right(rows, keys):
    return torch.equal(rows[list(range(len(keys)))], torch.stack([row(key) for key in keys]))


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(cache, "SHARD", 3)


KEYS = [f"k{n}" for n in range(8)]


@settings(deadline=None, max_examples=25)
@given(calls=st.lists(st.lists(st.sampled_from(KEYS), min_size=1, max_size=12), min_size=1, max_size=4))
def test_rows_are_what_was_encoded_and_each_key_is_encoded_once(tmp_path_factory, calls):
    folder, known = tmp_path_factory.mktemp("cache"), set()
    for keys in calls:
        rows, encoded = ask(folder, keys)
        assert right(rows, keys)
        assert sorted(encoded) == sorted(set(keys) - known)
        known |= set(keys)


def test_rows_come_in_the_order_they_are_asked_for(tmp_path):
    rows, _ = ask(tmp_path, KEYS)
    assert torch.equal(rows[[5, 0, 5]], torch.stack([row(KEYS[n]) for n in (5, 0, 5)]))


def test_a_kill_costs_one_shard_at_most(tmp_path, small_shards):
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, KEYS, fails_after=2)
    (tmp_path / ".00002-k6.safetensors.deadbeef.tmp").write_bytes(b"half a shard")
    rows, encoded = ask(tmp_path, KEYS)
    assert encoded == KEYS[6:] and right(rows, KEYS)


def truncate(shard):
    os.truncate(shard, shard.stat().st_size - 7)


def cut_header(shard):
    os.truncate(shard, 20)


def empty(shard):
    shard.write_bytes(b"")


def rubbish(shard):
    shard.write_bytes(b"\xff" * 300)


@pytest.mark.parametrize("damage", [truncate, cut_header, empty, rubbish])
def test_exactly_the_rows_of_a_damaged_shard_are_encoded_again(tmp_path, small_shards, damage):
    ask(tmp_path, KEYS)
    shards = {
        tuple(json.loads(safe_open(file, "np").metadata()["keys"])): file for file in tmp_path.glob("*.safetensors")
    }
    assert len(shards) == 3
    damage(shards[tuple(KEYS[3:6])])
    rows, encoded = ask(tmp_path, KEYS)
    assert encoded == KEYS[3:6] and right(rows, KEYS)
    assert ask(tmp_path, KEYS)[1] == []


def test_rows_stay_readable_while_others_are_added(tmp_path, small_shards):
    rows, _ = ask(tmp_path, KEYS[:2])
    more, encoded = ask(tmp_path, [*reversed(KEYS)])
    assert encoded == [*reversed(KEYS[2:])]
    assert right(rows, KEYS[:2]) and right(more, [*reversed(KEYS)])


def test_progress_counts_what_is_encoded_now(tmp_path, small_shards):
    seen = []
    Cache(tmp_path).rows(KEYS, Encoding(KEYS), lambda done, total: seen.append((done, total)))
    assert seen == [(3, 8), (6, 8), (8, 8)]
    Cache(tmp_path).rows(KEYS, Encoding(KEYS), lambda done, total: seen.append((done, total)))
    assert len(seen) == 3


# --- rows of several shapes, and what is kept beside them ---


def shaped(key: str) -> torch.Tensor:
    """A row whose shape is its key's first figure."""
    return torch.full((int(key[0]), 2), float(key[1:]))


@settings(deadline=None, max_examples=25)
@given(keys=st.lists(st.integers(100, 399).map(str), min_size=1, max_size=12), size=st.integers(1, 5))
def test_rows_of_several_shapes_are_kept_with_what_belongs_to_each(tmp_path_factory, keys, size):
    folder, encoded = tmp_path_factory.mktemp("cache"), []

    def encode(numbers):
        encoded.extend(keys[n] for n in numbers)
        return torch.stack([shaped(keys[n]) for n in numbers])  # fails if a shard would mix shapes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "SHARD", size)
        for _ in range(2):
            items = Items(keys, [key[0] for key in keys], lambda n: {"came from": keys[n], "size": [1, 2]})
            rows = Cache(folder).rows(items, encode)
            for number, key in enumerate(keys):
                assert torch.equal(rows[[number]][0], shaped(key)) and rows.shape(number) == shaped(key).shape
                assert rows.facts(number) == {"came from": key, "size": [1, 2]}
    assert sorted(encoded) == sorted(set(keys))


def test_rows_without_facts_have_none(tmp_path):
    rows, _ = ask(tmp_path, KEYS)
    assert all(rows.facts(number) == {} for number in range(len(KEYS)))


def test_rows_without_a_cache_are_those_that_it_would_keep(tmp_path):
    kept, _ = ask(tmp_path, KEYS)
    encoding = Encoding(KEYS)
    fresh = Uncached([(2, 3)] * len(KEYS), encoding)
    assert len(fresh) == len(kept) and encoding.asked == []
    assert torch.equal(fresh[[5, 0, 5]], kept[[5, 0, 5]]) and fresh.shape(3) == kept.shape(3)
    assert encoding.asked == ["k5", "k0", "k5"]


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4), wanted=st.lists(st.integers(0, 99), max_size=6))
def test_joined_rows_are_one_after_another(sizes, wanted):
    names = [[f"{part}-{n}" for n in range(size)] for part, size in enumerate(sizes)]
    joined = Joined([Uncached([(2, 3)] * len(keys), Encoding(keys)) for keys in names])
    flat = [key for keys in names for key in keys]
    assert len(joined) == len(flat)
    places = [n % len(flat) for n in wanted] if flat else []
    if places:
        assert torch.equal(joined[places], torch.stack([row(flat[n]) for n in places]))
        assert joined.shape(places[0]) == (2, 3) and joined.facts(places[0]) == {}


# --- what pico's networks say ---


@pytest.fixture(scope="module")
def pico():
    return find("pico")


@pytest.fixture(scope="module")
def pipeline(pico):
    return pico.pipeline(safety_checker=False)


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    small = draw.integers(0, 256, (4, 5, 5, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(p).resize((64, 64), Image.Resampling.BICUBIC)) for p in small]


def test_moments_are_the_pipelines_and_do_not_depend_on_neighbours(pipeline, pictures):
    encoder = LatentEncoder(pipeline.vae, CPU)
    together = encoder(lambda n: pictures[n], [0, 1, 2, 3])
    for order in ([2], [3, 2, 0], [2, 2]):
        assert torch.equal(encoder(lambda n: pictures[n], order), together[order])
    prepared = pipeline.image_processor.preprocess([Image.fromarray(p) for p in pictures])
    with torch.no_grad():
        theirs = pipeline.vae.encode(prepared).latent_dist.parameters
    torch.testing.assert_close(together, theirs, rtol=1e-4, atol=1e-4)
    assert together.shape == (4, 8, 16, 16) and together.dtype == torch.float32


CAPTIONS = ["", "8bit illustration of a cat", "a dog", "Café — ünïcode, émojis 🐈", "word " * 200]


def test_text_states_are_those_that_the_pipeline_makes(pipeline):
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, CPU)
    short = CAPTIONS[:4]
    ours = encoder(short)
    with torch.no_grad():
        for number, caption in enumerate(short):
            theirs, _ = pipeline.encode_prompt(caption, CPU, 1, do_classifier_free_guidance=False)
            torch.testing.assert_close(ours[number : number + 1], theirs, rtol=1e-5, atol=1e-5)
    assert torch.equal(encoder([short[2], short[1]]), ours[[2, 1]])
    assert not torch.equal(ours[1], ours[2])


@settings(deadline=None, max_examples=20)
@given(st.text("ab ,cé🐈1-", max_size=60), st.integers(1, 12))
def test_one_window_has_the_tokens_that_the_tokenizer_gives(pipeline, text, times):
    text = f"{text} " * times
    ids = pipeline.tokenizer(text).input_ids
    made = tokens([pipeline.tokenizer], [escaped(text)])[0][0, :, 0].long()
    padded = pipeline.tokenizer(text, padding="max_length", max_length=77).input_ids
    if len(ids) <= 77:
        assert made.tolist() == padded
    marks = {pipeline.tokenizer.bos_token_id, pipeline.tokenizer.eos_token_id, pipeline.tokenizer.pad_token_id}
    kept = [i for i in made.tolist() if i not in marks]
    assert kept == [i for i in ids if i not in marks], "no token is lost, doubled or moved"


def test_long_captions_are_read_in_windows_that_end_at_commas_or_between_words(pipeline):
    tokenizer = pipeline.tokenizer
    many = "a small red car beside an elephant, " * 12
    found = windows(tokenizer, read(many))
    assert len(found) > 1 and max(len(window.ids) for window in found) <= 75
    for window in found[:-1]:
        assert tokenizer.decode(window.ids).endswith(",")
    for window in windows(tokenizer, read(CAPTIONS[4])):
        assert not window.ids or set(tokenizer.decode(window.ids).split()) == {"word"}
    states = TextEncoder(tokenizer, pipeline.text_encoder, CPU)([many])[0].view(len(found), 77, -1)
    with torch.no_grad():
        for window, ours in zip(found, states, strict=True):
            said = tokenizer.decode(window.ids)
            theirs, _ = pipeline.encode_prompt(said, CPU, 1, do_classifier_free_guidance=False)
            torch.testing.assert_close(ours[None], theirs, rtol=1e-5, atol=1e-5)


def test_windows_end_at_spaces_alone(pipeline):
    """CLIP makes tokens of each digit and of each hyphen; what is written together stays together."""
    tokenizer = pipeline.tokenizer
    for fill in range(60, 76):
        text = "cat " * fill + "half-timbered 35mm t-shirt " * 12
        for window in windows(tokenizer, read(text))[:-1]:
            end = tokenizer.decode(window.ids).replace(" - ", "-").replace(" ", "")
            assert not end or end.endswith(("cat", "timbered", "mm", "shirt")), end


def test_break_begins_a_window_and_few_counts_of_windows_are_allowed(pipeline):
    tokenizer = pipeline.tokenizer
    assert [len(windows(tokenizer, read(" BREAK ".join(["a cat"] * n)))) for n in (1, 2, 3, 4, 5, 7, 12, 30)] == [
        1, 2, 3, 4, 6, 12, 12, 12
    ]  # fmt: skip
    first, second = TextEncoder(tokenizer, pipeline.text_encoder, CPU)(["a cat", "a dog"])
    (both,) = TextEncoder(tokenizer, pipeline.text_encoder, CPU)(["a cat BREAK a dog"])
    assert torch.equal(both, torch.cat([first, second]))


def test_repeated_windows_are_to_the_network_what_one_is(pipeline):
    """So that captions of unequal lengths can be in one batch, and none depends on those beside it."""
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, CPU)
    captions = ["a fox on a red background", "a cat BREAK a dog", "a (car:1.4) BREAK a tree BREAK a house"]
    alone, together = [encoder([caption]) for caption in captions], encoder(captions)
    assert [len(one[0]) // 77 for one in alone] == [1, 2, 3] and together.shape[1] == 6 * 77
    noisy, times = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 500, 900])
    with torch.no_grad():
        ours = Tuned({"unet": pipeline.unet})(noisy, times, together)
        for n, one in enumerate(alone):
            theirs = Tuned({"unet": pipeline.unet})(noisy[n : n + 1], times[n : n + 1], one)
            torch.testing.assert_close(ours[n : n + 1], theirs, rtol=1e-4, atol=1e-5)


def test_words_with_a_weight_stand_further_from_the_empty_caption(pipeline):
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, CPU)
    empty, plain, strong = encoder(["", "a cat with a red hat, smiling", "a cat with a (red hat:1.5), smiling"])
    tokens = pipeline.tokenizer("a cat with a red hat, smiling", return_offsets_mapping=True)["offset_mapping"]
    heavy = [place for place, (begin, end) in enumerate(tokens) if begin >= 13 and end <= 20]
    assert len(heavy) >= 2
    wanted = plain.clone()
    wanted[heavy] = empty[heavy] + 1.5 * (plain[heavy] - empty[heavy])
    torch.testing.assert_close(strong, wanted)
    assert not torch.equal(strong, plain)
    assert torch.equal(encoder(["a cat with a (red hat:1.0), smiling"])[0], plain)
    assert torch.equal(encoder(["a cat with a (red hat:0.0), smiling"])[0, heavy], empty[heavy])


@pytest.mark.parametrize("captions", [CAPTIONS, [*CAPTIONS, "a cat (red hat:1.5) BREAK hi", "(a dog:0.3)"]])
def test_a_trained_text_encoder_says_of_tokens_what_a_frozen_one_said_of_captions(pipeline, captions):
    rows = tokens([pipeline.tokenizer], captions)
    assert len(rows) == len(captions)
    assert {row.shape[-1] for row in rows} == {1 if captions == CAPTIONS else 3}
    rows = fitted([row[0] for row in rows])
    states = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, CPU)(captions)
    noisy, times = torch.randn(len(captions), 4, 16, 16), torch.full((len(captions),), 500)
    with torch.no_grad():
        ours = Tuned({"unet": pipeline.unet, "text_encoder": pipeline.text_encoder})(noisy, times, rows)
        theirs = Tuned({"unet": pipeline.unet})(noisy, times, states)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_captions_that_the_model_does_not_see_to_their_end_are_named(pipeline):
    limit = pipeline.tokenizer.model_max_length
    word = next(w for w in ("cat", "a", "the", "dog") if len(pipeline.tokenizer(w).input_ids) == 3)
    fits, over = " ".join([word] * (limit - 2)), " ".join([word] * (limit - 1))
    assert too_long(pipeline.tokenizer, [*CAPTIONS, fits, over]) == [CAPTIONS[4], over]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.05, 2), spread=st.sampled_from([0.1, 3.0, 40.0]))
def test_drawn_latents_are_diffusers(seed, scale, spread):
    """Also where log variances are far beyond what a network says, which diffusers clamps."""
    moments = spread * torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(seed))
    theirs = DiagonalGaussianDistribution(moments).sample(generator=torch.Generator().manual_seed(seed + 1))
    noise = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed + 1))
    torch.testing.assert_close(sampled(moments, noise, scale), theirs * scale, rtol=1e-5, atol=1e-6)
