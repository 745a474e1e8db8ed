"""Which captions keep their picture from being mirrored."""

import pytest

from bespoke.text import unmirrorable


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a cat looking to the left", "names left or right"),
        ("Right-handed guitar player", "names left or right"),
        ("a wheel turning counterclockwise", "names left or right"),
        ("a shop with a sign that says open", "names writing"),
        ('a red door, "No Entry" above it', "names writing"),
        ("a poster with German text", "names writing"),
        ("a can with a logo", "names writing"),
        ("an old man with a watch", ""),
        ("a bright cat", ""),
        ("a leftover pizza", ""),
        ("8bit illustration of a fox's den", ""),
        ("", ""),
    ],
)
def test_captions_that_name_sides_or_writing(caption, reason):
    assert unmirrorable(caption) == reason
