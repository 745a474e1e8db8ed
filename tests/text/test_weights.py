"""Weights in captions: what is read of them, and that words without them stay as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.text import unweighed, weighed


@pytest.mark.parametrize(
    ("caption", "text", "spans"),
    [
        ("a cat with a (red hat:1.3), smiling", "a cat with a red hat, smiling", [("red hat", 1.3)]),
        ("(a:.5)(b : 2 ) c", "ab c", [("a", 0.5), ("b", 2.0)]),
        ("(hat:1.0) and (hat:0)", "hat and hat", [("hat", 0.0)]),
        ("a cat (sitting), at 10:30 (or so)", "a cat (sitting), at 10:30 (or so)", []),
        ("(hat:tall) ((nested:2)) (:2)", "(hat:tall) (nested) ", [("nested", 2.0), ("", 2.0)]),
        (r"saber \(fate\), \(red:1.3\) \(blue:2)", "saber (fate), (red:1.3) (blue:2)", []),
        (r"(saber \(fate\):1.3) at (\(:2)", "saber (fate) at (", [("saber (fate)", 1.3), ("(", 2.0)]),
        (r"(a\b:1.2) c\d", r"a\b c\d", [(r"a\b", 1.2)]),
    ],
)
def test_words_and_weights_are_told_apart(caption: str, text: str, spans: list[tuple[str, float]]) -> None:
    read, found = weighed(caption)
    assert read == unweighed(caption) == text
    assert [(read[span.begin : span.end], span.weight) for span in found] == spans


@given(st.text(st.characters(exclude_characters="(\\"), max_size=40))
def test_without_brackets_nothing_changes(caption: str) -> None:
    assert weighed(caption) == (caption, ())


@given(st.text("()\\:.12a ", max_size=40))
def test_with_every_bracket_escaped_a_caption_is_what_it_says(caption: str) -> None:
    escaped = caption.replace("(", r"\(").replace(")", r"\)")
    assert weighed(escaped) == (caption, ())


@given(st.text("()\\:.12a ", max_size=40))
def test_weights_lie_in_the_words_one_after_the_other(caption: str) -> None:
    text, spans = weighed(caption)
    ends = [place for span in spans for place in (span.begin, span.end)]
    assert ends == sorted(ends) and all(0 <= end <= len(text) for end in ends)
    assert len(text) <= len(caption) and all(span.weight != 1 for span in spans)
