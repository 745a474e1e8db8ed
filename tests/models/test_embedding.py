"""Laws of new rows in training: only they move, whatever the optimizer does, and a plain table answers the same."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.models.embedding import SplitEmbedding, settle_rows, trainable_rows
from bespoke.models.vocabulary import NewWords, Word

PICO = find("pico")
BASE, PLAIN, ENCODER = PICO.base, PICO.tokenizer(), PICO.text_encoder()
PAIRS = [
    (Word("halberd", aliases=("pole axe",)), torch.full((1, 160), 0.02)),
    (Word("sks"), torch.linspace(-0.05, 0.05, 480).reshape(3, 160)),
]
WORDS = NewWords.of(BASE, PAIRS)
TOKENIZER = WORDS.extended(PLAIN)


def encoder():
    return WORDS.extend(copy.deepcopy(ENCODER))


def ids(*texts):
    return TOKENIZER(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids


BOTH = ids("a halberd on a hill", "a pole axe and a sks", "a red cat")


def trained(network, steps=5):
    parameter = trainable_rows(network, WORDS)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        network(BOTH).last_hidden_state.square().mean().backward()
        optimizer.step()
    return parameter


def test_before_training_the_answers_are_the_same_to_the_last_bit():
    plain, split = encoder(), encoder()
    trainable_rows(split, WORDS)
    with torch.no_grad():
        one, other = plain(BOTH), split(BOTH)
    assert torch.equal(one.last_hidden_state, other.last_hidden_state)
    assert torch.equal(one.pooler_output, other.pooler_output)


@pytest.mark.parametrize("knows", [True, False])
def test_only_new_rows_move(knows):
    network = encoder() if knows else copy.deepcopy(ENCODER)
    parameter = trained(network)
    assert [p for p in network.parameters() if p.requires_grad] == [parameter]
    assert parameter.shape == WORDS.rows["clip_l"].shape and parameter.dtype == torch.float32
    assert bool((parameter != WORDS.rows["clip_l"]).any(dim=1).all())
    found = settle_rows(network, WORDS)
    bits = ENCODER.state_dict()
    for name, value in network.state_dict().items():
        own = value[: BASE.first.size] if "token_embedding" in name else value
        assert torch.equal(own, bits[name]), name
    assert torch.equal(found.rows["clip_l"], parameter.detach())
    assert isinstance(network.get_input_embeddings(), nn.Embedding) and not any(
        p.requires_grad for p in network.parameters()
    )
    for surface in ("halberd", "pole axe", "sks"):
        table = network.get_input_embeddings().weight[found.ids()[surface]]
        assert torch.equal(table, found.of_word(surface)), surface


def test_prompts_without_the_words_answer_the_same_after_training():
    network = encoder()
    trained(network)
    with torch.no_grad():
        assert torch.equal(network(BOTH[2:]).last_hidden_state, ENCODER(BOTH[2:]).last_hidden_state)
        assert not torch.equal(network(BOTH[:1]).last_hidden_state, encoder()(BOTH[:1]).last_hidden_state)


def test_a_trained_encoder_settles_into_one_that_answers_the_same():
    network = encoder()
    trained(network)
    with torch.no_grad():
        before = network(BOTH).last_hidden_state
        assert torch.equal(network.get_input_embeddings().weight, settled(network))
        assert torch.equal(network(BOTH).last_hidden_state, before)


def settled(network):
    settle_rows(network, WORDS)
    return network.get_input_embeddings().weight


@given(st.lists(st.integers(0, 14), min_size=1, max_size=12), st.randoms())
@settings(max_examples=60)
def test_gradients_are_those_of_a_plain_table_with_tied_aliases(numbers, chance):
    """Ids 0..9 are the table's; 10..14 are new, where 12 and 14 are one row."""
    torch.manual_seed(chance.randrange(100))
    table, rows, places = nn.Embedding(10, 6), torch.randn(4, 6), torch.tensor([0, 1, 2, 3, 2])
    split, whole = SplitEmbedding(table, rows, places), torch.cat([table.weight.detach(), rows]).requires_grad_()
    asked, weights = torch.tensor(numbers), torch.randn(len(numbers), 6)
    (split(asked) * weights).sum().backward()
    spots = torch.where(asked < 10, asked, 10 + places[(asked - 10).clamp(min=0)])
    (whole[spots] * weights).sum().backward()
    assert torch.equal(split(asked), whole[spots]) and table.weight.grad is None
    found = split.rows.grad if split.rows.grad is not None else torch.zeros_like(rows)
    torch.testing.assert_close(found, torch.as_tensor(whole.grad)[10:])
    assert split.weight.shape == (15, 6)


def test_rows_stay_in_float32_beside_a_table_in_16_bits():
    network = encoder().to(torch.bfloat16)
    parameter = trainable_rows(network, WORDS)
    assert parameter.dtype == torch.float32
    state = network(BOTH).last_hidden_state
    assert state.dtype == torch.bfloat16
    state.float().sum().backward()
    assert parameter.grad is not None


def test_rows_that_are_no_numbers_are_refused():
    network = encoder()
    with torch.no_grad():
        trainable_rows(network, WORDS).fill_(float("nan"))
    with pytest.raises(BespokeError, match="no numbers"):
        settle_rows(network, WORDS)
    with pytest.raises(BespokeError, match="no new words"):
        trainable_rows(encoder(), NewWords(BASE))
