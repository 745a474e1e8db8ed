"""Rules about a field's own words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import BespokeError
from bespoke.text.normal import normal, words
from bespoke.text.terms import Terms, terms, whole

FILE = """
protected = ["Carbon Fiber"]
multiword = ["carbon fiber", "carbon fiber frame"]
hyphens = "both"
casing = ["iPhone"]
units = ["mm", "km/h"]
banned = ["ugly"]
triggers = ["sks"]
[aliases]
halberd = ["Halbert", "halberds", "pole axe"]
[glosses]
halberd = "an axe with a spike on a long pole"
"""


@pytest.fixture
def rules(tmp_path):
    (tmp_path / "terms.toml").write_text(FILE, encoding="utf-8")
    return terms(tmp_path / "terms.toml")


def test_terms_are_found_the_longest_first(rules):
    text = normal("A sks T-Shirt, carbon fiber frame and CARBON  FIBER; carbon fibers, 35mm 1.5 km/h 35 mmx pole axe")
    assert list(rules.found(text)) == [
        "a", "sks", "t-shirt", "t", "shirt", "carbon fiber frame", "and", "carbon fiber", "carbon", "fibers", "35mm",
        "1.5 km/h", "mmx", "pole axe",
    ]  # fmt: skip


def test_surfaces_stand_for_tokens(rules):
    assert [rules.token(s) for s in ("halbert", "halberds", "halberd", "35mm", "35 mm", "fox")] == [
        "halberd", "halberd", "halberd", "35 mm", "35 mm", "fox",
    ]  # fmt: skip
    assert rules.token("pole axe") == "halberd"
    assert rules.forced == {"carbon fiber", "carbon fiber frame", "halberd", "sks"}
    assert (rules.shown("iphone"), rules.shown("fox")) == ("iPhone", "fox")


@pytest.mark.parametrize(
    ("policy", "found"),
    [("keep", ["a", "t-shirt"]), ("split", ["a", "t", "shirt"]), ("both", ["a", "t-shirt", "t", "shirt"])],
)
def test_hyphens(policy, found):
    assert list(Terms(hyphens=policy).found("a t-shirt")) == found
    assert list(Terms(hyphens=policy, protected=("t-shirt",)).found("a t-shirt")) == ["a", "t-shirt"]


@given(st.text(st.sampled_from("ab c-'.é1"), max_size=30))
def test_without_rules_terms_are_words(text):
    assert list(Terms().found(normal(text))) == words(normal(text))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("protectd = []", r"there is no key protectd\. Did you mean protected\?"),
        ("hyphens = 'sometimes'", "hyphens = 'sometimes': Input should be 'keep', 'split' or 'both'"),
        ("units = 'mm'", "units = 'mm'"),
        ("banned = ['...']", "'...' has no word in it"),
        ("[aliases]\na = ['x']\nb = ['x']", "'x' is an alias of 'a' and of 'b'"),
        ("[aliases]\na = ['b']\nb = ['x']", "'b' is a token in aliases"),
        ("banned = ['x']\ntriggers = ['X']", "x: banned, but also"),
        ("units = [", "is not valid TOML"),
    ],
)
def test_wrong_files(tmp_path, content, problem):
    (tmp_path / "terms.toml").write_text(content)
    with pytest.raises(BespokeError, match=problem):
        terms(tmp_path / "terms.toml")


def test_a_missing_file(tmp_path):
    with pytest.raises(BespokeError, match="There is no file of terms"):
        terms(tmp_path / "terms.toml")


def test_whole_finds_what_the_tokenizer_takes_for_one_word(pico_clip):
    from tokenizers import AddedToken

    surfaces = ["cat", "carbon fiber", "t-shirt", "cat x"]
    pico_clip.add_tokens([AddedToken(s, single_word=True, normalized=True) for s in surfaces])
    known = set(pico_clip.added_tokens_encoder) & set(surfaces)
    for text in ("category cat_1 cat (cat:1.2) #cat cat's", "carbon fiber, carbon fibers t-shirt's a-cat cat x"):
        taken = [t for t in pico_clip.tokenize(text) if t in known]
        assert whole(surfaces).findall(normal(text)) == taken
