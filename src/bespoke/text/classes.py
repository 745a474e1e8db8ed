"""Words sorted by what they say of a picture: colours, numbers, relations, sizes, and words that say nothing of it.

Written by hand for bespoke, as the closed classes that a caption's meaning hangs on.
"""

import re
from collections.abc import Callable

WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
"""One word, as in "jack-o-lantern", "it's" or "2.5"."""

PHRASES: tuple[tuple[str, str], ...] = (
    (r"to the (left|right) of", r"\1-of"),
    (r"on the (left|right) (?:side )?of", r"\1-of"),
    (r"(left|right) of", r"\1-of"),
    (r"next to|adjacent to|alongside|by the side of|at the side of", "beside"),
    (r"on top of|atop", "on-top-of"),
    (r"in front of", "before-it"),
    (r"at the back of|in back of", "behind"),
    (r"in between", "between"),
    (r"in the middle of|in the center of|in the centre of", "amid"),
    (r"inside of", "inside"),
    (r"outside of", "outside"),
    (r"out of", "out-of"),
    (r"away from", "away-from"),
    (r"close to", "near"),
    (r"far from", "far-from"),
    (r"taking off", "taking-off"),
    (r"without any|with no|with out|lacking", "without"),
    (r"underneath|beneath", "under"),
    (r"towards", "toward"),
    (r"upon", "on"),
)
"""What is said in several words as one token, and what is said in several ways in one."""

COLOURS = frozenset((
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray", "turquoise",
    "violet", "magenta", "cyan", "teal", "beige", "ivory", "cream", "golden", "gold", "silver", "silvery", "bronze",
    "crimson", "scarlet", "maroon", "navy", "azure", "indigo", "lavender", "lilac", "olive", "khaki", "tan", "amber",
    "blond", "blonde", "ginger", "monochrome", "multicolored", "colorless", "reddish", "bluish", "greenish",
    "yellowish", "dark", "light", "pale", "bright",
))  # fmt: skip
NUMBERS: dict[str, str] = {
    word: str(value)
    for value, word in enumerate((
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
    ))
}  # fmt: skip
AMOUNTS = frozenset((
    "many", "few", "several", "some", "all", "both", "each", "every", "half", "quarter", "double", "triple", "single",
    "pair", "couple", "dozen", "dozens", "hundred", "hundreds", "thousand", "lots", "multiple", "numerous", "only",
    "empty", "full", "alone", "first", "second", "third", "last", "next",
))  # fmt: skip
NEGATORS = frozenset((
    "no", "not", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot", "isn't", "aren't",
    "don't", "doesn't", "didn't", "wasn't", "weren't", "won't", "hasn't", "haven't", "can't", "except", "minus",
    "hardly", "barely", "absent",
))  # fmt: skip
RELATIONS = frozenset((
    "above", "below", "over", "under", "behind", "before-it", "before", "after", "beside", "between", "inside",
    "outside", "left-of", "right-of", "on-top-of", "on", "off", "in", "into", "out-of", "around", "through", "toward",
    "away-from", "against", "along", "across", "near", "far-from", "facing", "with", "amid", "among", "at", "up",
    "down", "from", "to", "onto", "for", "by", "of", "wearing", "holding", "carrying", "riding",
))  # fmt: skip
SIDES = frozenset(("left", "right", "leftmost", "rightmost", "top", "bottom", "front", "back", "upper", "lower"))
SIZES = frozenset((
    "big", "small", "tiny", "enormous", "tall", "short", "long", "wide", "narrow", "thick", "thin", "giant", "mini",
    "medium", "high", "low", "deep", "shallow", "fat", "slim", "oversized", "miniature",
))  # fmt: skip
OPPOSITES: tuple[tuple[str, str], ...] = (
    ("new", "old"), ("young", "old"), ("young", "elderly"), ("happy", "sad"), ("happy", "unhappy"), ("open", "closed"),
    ("day", "night"), ("morning", "evening"), ("dawn", "dusk"), ("sunrise", "sunset"), ("noon", "midnight"),
    ("summer", "winter"), ("spring", "autumn"), ("hot", "cold"), ("warm", "cold"), ("warm", "cool"), ("wet", "dry"),
    ("clean", "dirty"), ("rough", "smooth"), ("soft", "hard"), ("fresh", "rotten"), ("alive", "dead"),
    ("man", "woman"), ("boy", "girl"), ("male", "female"), ("king", "queen"), ("father", "mother"),
    ("brother", "sister"), ("husband", "wife"), ("son", "daughter"), ("indoor", "outdoor"), ("indoors", "outdoors"),
    ("north", "south"), ("east", "west"), ("sunny", "cloudy"), ("sunny", "rainy"), ("clear", "foggy"),
    ("empty", "full"), ("rich", "poor"), ("fast", "slow"), ("loud", "quiet"), ("modern", "ancient"),
    ("standing", "sitting"), ("standing", "lying"), ("walking", "running"), ("smiling", "frowning"),
    ("asleep", "awake"), ("sleeping", "playing"), ("rising", "setting"), ("landing", "taking-off"), ("pull", "push"),
    ("buy", "sell"), ("adult", "child"), ("wild", "tame"), ("simple", "complex"), ("plain", "patterned"),
    ("straight", "curved"), ("round", "square"), ("sharp", "blunt"), ("sharp", "blurry"), ("heavy", "light"),
)  # fmt: skip

ARTICLES = frozenset(("a", "an", "the"))
INTENSIFIERS = frozenset(("very", "really", "quite", "rather", "extremely", "highly", "so", "such", "truly"))
PRAISE = frozenset((
    "beautiful", "lovely", "gorgeous", "stunning", "amazing", "awesome", "wonderful", "nice", "pretty",
    "excellent", "incredible", "breathtaking", "masterpiece", "fantastic", "charming", "elegant",
    "best quality", "high quality", "masterpiece quality", "award winning", "trending on artstation",
))  # fmt: skip
SAYS_NOTHING = ARTICLES | INTENSIFIERS | {"is", "are", "that", "which", "there", "being"}
"""Words whose loss changes nothing that a picture shows."""
GENERIC = ("picture", "image", "photo", "photograph", "pic", "snapshot")
"""What any picture may be called. A drawing or a painting is another kind of picture, and is none of these."""
PREFIX = re.compile(rf"(?:(?:a|an|the|this) )?(?:{'|'.join(GENERIC)}) (?:of|showing|depicting|shows) ", re.IGNORECASE)
"""What captions begin with that only say that they are captions."""
PLACES = frozenset(("in", "on", "at", "under", "near", "beside", "above", "below", "behind", "before-it", "inside",
                    "outside", "left-of", "right-of", "on-top-of", "over", "between", "amid", "by"))  # fmt: skip
"""Relations that a phrase of place begins with, which may stand at a caption's beginning as well as at its end."""

KINDS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("negation", NEGATORS.__contains__),
    ("a number", lambda token: token in AMOUNTS or any(letter.isdigit() for letter in token)),
    ("a colour", COLOURS.__contains__),
    ("left or right", lambda token: token in SIDES or token in ("left-of", "right-of")),
    ("a relation", RELATIONS.__contains__),
    ("a size", SIZES.__contains__),
)
_OPPOSED = {pair for one, other in OPPOSITES for pair in ((one, other), (other, one))}
CANONICAL: dict[str, str] = {
    "grey": "gray",
    "greyish": "grayish",
    "large": "big",
    "little": "small",
    "minuscule": "tiny",
    "huge": "enormous",
    "gigantic": "enormous",
    **NUMBERS,
}


def canonical(word: str) -> str:
    """The word that stands for all that are written otherwise and mean the same measure: "big" for "large"."""
    return CANONICAL.get(word, word)


def opposed(word: str, other: str) -> bool:
    """Whether two words are opposites, or are of a kind whose words never stand for one another."""
    first, second = (canonical(each) for each in (word, other))
    if first == second:
        return False
    return (first, second) in _OPPOSED or any(of_kind(each) for _, of_kind in KINDS for each in (first, second))


def matters(word: str) -> bool:
    """Whether a word is of a kind that a caption's meaning hangs on: a colour, a number, and so on."""
    token = canonical(word)
    return any(of_kind(token) for _, of_kind in KINDS)
