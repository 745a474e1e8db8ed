"""Stable Diffusion 3, tiny and random: what its text encoders say, and drawn, by the code that draws pico."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from pico import families
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bespoke.encoding import text_encoder, told_long
from bespoke.encoding.text import _Spelling
from bespoke.models import find

KINDS = ("sd3", "sd3-clips", "sd35")
LONG = "a red cat, " * 30


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    folders = {kind: tmp_path_factory.mktemp("three") / kind for kind in KINDS}
    for kind, folder in folders.items():
        families.write(kind, folder)
    return folders


@pytest.fixture(params=KINDS)
def base(request, bases) -> Path:
    return bases[request.param]


def plain_of(folder):
    """The model as diffusers reads it, which must be told where there is no T5."""
    missing = {} if (folder / "text_encoder_3").is_dir() else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, **missing)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encoder_of(folder, skip=0):
    checkpoint = find(str(folder))
    return text_encoder(checkpoint.readers(), torch.device("cpu"), skip, checkpoint.joint_width)


# --- texts ---


@pytest.mark.parametrize("skip", [0, 1])
def test_states_are_those_of_plain_diffusers_with_the_summary_last(base, skip):
    captions = ["a red cat, two dogs", "", LONG]
    ours, plain, checkpoint = encoder_of(base, skip)(captions), plain_of(base), find(str(base))
    with torch.no_grad():
        states, _, pooled, _ = plain.encode_prompt(
            captions, captions, captions, do_classifier_free_guidance=False, clip_skip=skip or None
        )
    tokens, width = checkpoint.text_shape
    assert ours.shape == (3, tokens + 1, width) == (3, 77 + 256 + 1, plain.transformer.config.joint_attention_dim)
    torch.testing.assert_close(ours[:, :-1], states, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours[:, -1, : pooled.shape[1]], pooled, rtol=0, atol=1e-6)
    assert not ours[:, -1, pooled.shape[1] :].any() and checkpoint.summarised and not checkpoint.windowed


def test_weights_count_for_clip_and_t5_and_break_breaks_nothing(bases):
    encode = encoder_of(bases["sd3"])
    weighed, same, empty = encode(["a (red )cat [hat] BREAK (blue:1.3)", "a red cat hat blue", ""])
    at = {"red": (2, [79, 80, 81, 82], 1.1), "hat": (4, [87, 88, 89, 90], 1 / 1.1), "blue": (5, [*range(91, 96)], 1.3)}
    expected = same.clone()
    for first, below, weight in at.values():
        rows = [first, *below]
        expected[rows] = empty[rows] + weight * (same[rows] - empty[rows])
    torch.testing.assert_close(weighed, expected, rtol=0, atol=1e-5)
    assert (weighed[77:96] - same[77:96]).abs().max() > 1e-3


def test_a_word_s_weight_is_not_its_neighbour_s_where_tokens_begin_with_the_space_before_them():
    """As the published tokenizer.json of T5 has it."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in ("a", "red", "hat"))]
    inner = Tokenizer(models.Unigram(pieces, unk_id=2))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>")
    assert tokenizer("a red hat", return_offsets_mapping=True)["offset_mapping"][1] == (1, 5)
    reader = _Spelling(tokenizer, families.t5(64)[0], torch.device("cpu"))
    assert reader.opening("a (red )hat").weights == (1.0, 1.1, 1.0)


def test_what_no_text_encoder_reads_is_told(bases):
    whole, small = find(str(bases["sd3"])), find(str(bases["sd3-clips"]))
    word, words = "cat " * 40, "cat " * 80
    assert told_long(whole.measure(), [word, words], windowed=whole.windowed) == (
        f"1 longer than the 256 tokens that are read; lost is “{('cat ' * 17)[2:62].strip()}”"
    )
    assert told_long(whole.measure(), [word], windowed=whole.windowed) == ""
    told = told_long(small.measure(), [word, words], windowed=small.windowed)
    assert told == "1 longer than the 77 tokens that are read; lost is “cat cat cat cat cat”"
