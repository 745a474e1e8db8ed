"""Prompts as people write them: what is read of them, and that words without brackets stay as they are."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.text import checked, escaped, read, unweighed


def spans(text):
    return [(part.text[s.begin : s.end], round(s.weight, 4)) for part in read(text).parts for s in part.spans]


@pytest.mark.parametrize(
    ("caption", "text", "found"),
    [
        ("a cat with a (red hat:1.3), smiling", "a cat with a red hat, smiling", [("red hat", 1.3)]),
        ("(a:.5)(b : 2 ) c", "ab  c", [("a", 0.5), ("b ", 2.0)]),
        ("(hat:1.0) and (hat:0)", "hat and hat", [("hat", 0.0)]),
        ("a cat (sitting), at 10:30 (or so)", "a cat sitting, at 10:30 or so", [("sitting", 1.1), ("or so", 1.1)]),
        ("((hat)) [hat] [[hat]]", "hat hat hat", [("hat", 1.21), ("hat", 0.9091), ("hat", 0.8264)]),
        ("(a (b:2) c:0.5)", "a b c", [("a ", 0.5), (" c", 0.5)]),
        ("(hat:tall) ((nested:2))", "hat:tall nested", [("hat:tall", 1.1), ("nested", 2.2)]),
        (r"saber \(fate\), \(red:1.3\) \[x\]", "saber (fate), (red:1.3) [x]", []),
        (r"(saber \(fate\):1.3) at (\(:2)", "saber (fate) at (", [("saber (fate)", 1.3), ("(", 2.0)]),
        (r"(a\b:1.2) c\d", r"a\b c\d", [(r"a\b", 1.2)]),
        ("a cat BREAK (a dog:2)", "a cat a dog", [("a dog", 2.0)]),
        ("the BREAKING news", "the BREAKING news", []),
    ],
)
def test_words_and_weights_are_told_apart(caption, text, found):
    assert unweighed(caption) == read(caption).text == text
    assert spans(caption) == found
    assert not read(caption).faults


def test_break_begins_a_part():
    assert [part.text for part in read("a cat BREAK a dog BREAK").parts] == ["a cat", "a dog"]
    assert read("a cat").plain and not read("a cat BREAK a dog").plain and not read("(a cat)").plain


PLAIN = st.text(st.characters(exclude_characters="()[]\\"), max_size=40).filter(lambda text: "BREAK" not in text)


@given(PLAIN)
def test_without_brackets_nothing_changes(caption):
    assert read(caption).parts[0].text == unweighed(caption) == caption
    assert read(caption).plain


@given(st.text("()[]\\:.12a BREK", max_size=40))
def test_an_escaped_text_says_just_itself(caption):
    said = read(escaped(caption))
    assert said.plain and not said.faults
    assert said.text.lower() == caption.lower()


def _bracketed(made):
    """A text in brackets, and what each stretch of its words must weigh: the oracle multiplies, and reads nothing."""
    kind, inner = made
    text = "".join(said for said, _ in inner)
    factor = {"(": 1.1, "[": 1 / 1.1}.get(kind, kind)
    whole = {"(": f"({text})", "[": f"[{text}]"}.get(kind, f"({text}:{kind})")
    return whole, [(words, weight * factor) for _, parts in inner for words, weight in parts]


WORDS = st.text("ab ", min_size=1, max_size=4).map(lambda text: (text, [(text, 1.0)]))
KINDS = st.sampled_from(["(", "[", 1.5, 0.3])
NESTED = st.recursive(
    WORDS, lambda inner: st.tuples(KINDS, st.lists(inner, min_size=1, max_size=3)).map(_bracketed), max_leaves=8
)


@given(NESTED)
def test_brackets_within_brackets_multiply(made):
    text, wanted = made
    said = read(text)
    letters = [1.0] * len(said.text)
    for span in said.parts[0].spans:
        letters[span.begin : span.end] = [span.weight] * (span.end - span.begin)
    assert said.text == "".join(words for words, _ in wanted)
    oracle = [weight for words, weight in wanted for _ in words]
    assert all(math.isclose(a, b) for a, b in zip(letters, oracle, strict=True))


@given(st.text("()[]\\:.12a ", max_size=40))
def test_weights_lie_in_the_words_one_after_the_other(caption):
    for part in read(caption).parts:
        ends = [place for span in part.spans for place in (span.begin, span.end)]
        assert ends == sorted(ends) and all(0 <= end <= len(part.text) for end in ends)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a cat (with a hat", "'(' is not closed at “a cat (with a hat”"),
        ("a cat with a hat) at night", "')' closes nothing"),
        ("a [cat) here", "')' closes nothing"),
        ("a (hat:1,3)", "':1,3)' is no weight"),
        ("a (hat:-0.5)", "':-0.5)' is no weight"),
        ("a (hat:1.2.3)", "':1.2.3)' is no weight"),
        ("a [hat:0.5]", "':0.5]' is no weight"),
        ("a [hat (red:1.3)", "'[' is not closed"),
    ],
)
def test_what_cannot_have_been_meant_is_told_of_prompts_and_read_as_letters_in_captions(prompt, told):
    with pytest.raises(BespokeError) as caught:
        checked(prompt)
    assert told in caught.value.problem and "write \\(" in caught.value.hint
    assert told.split("'")[1].strip("()[]") in read(prompt).text


def test_weights_stay_finite():
    assert spans(f"(hat:{'9' * 400})") == spans("(" * 1000 + "hat" + ")" * 1000) == [("hat", 100.0)]


@pytest.mark.parametrize(
    "prompt", ["a cat", "(hat:1.3)", "(a: b)", "at 10:30 (or so)", r"hello :\)", "a cat :)", "(smiling :-) )"]
)
def test_what_can_be_meant_is_not_refused(prompt):
    assert checked(prompt) == read(prompt)
