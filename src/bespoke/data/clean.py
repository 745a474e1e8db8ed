"""Facts about pictures turned by rules into a verdict over each: kept, with what is doubtful about it, or set aside."""

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bespoke.data.alignment import same_shot
from bespoke.data.inspect import Facts
from bespoke.data.language import other_language
from bespoke.data.likeness import Gallery
from bespoke.data.opinions import UNSEEN, Opinion
from bespoke.recipe.dataset import Clean

LOSSY = ("JPEG", "MPO", "WEBP")
LOOKS = {
    "duplicate": "the same pixels as",
    "near-duplicate": "looks the same as",
    "mirrored": "looks in a mirror the same as",
    "similar": "cropped, brighter or darker, looks the same as",
}
MARKUP = ("</", "/>", "<br", "&amp;", "&quot;", "&lt;", "&#", "http://", "https://", "www.")
"""What shows that a caption was cut out of a web page."""

Finding = tuple[str, bool, str]
"""A rule, whether it finds fault, and what it then says."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a file is set aside."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One picture that the rules are asked about."""

    name: str
    facts: Facts
    text: str
    trouble: str = ""
    """Why it has no caption."""
    restored: bool = False
    """Brought back by a person: no rule sets it aside."""
    opinion: Opinion = UNSEEN
    """What models say."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say about one picture."""

    verdict: Verdict | None
    """Why it is set aside; nothing where it is kept."""
    doubts: tuple[str, ...] = ()
    """What else the rules found: "blurry: sharpness 3.1, wanted 10"."""
    like: str = ""
    """The name of the picture that it looks the same as, which is kept."""


def judge(candidates: Sequence[Candidate], rules: Clean) -> list[Judgement]:
    """The judgement over each picture, in the same order.

    Of several pictures that look the same the best is kept: the one with most pixels, then one in a format that loses
    nothing, then the one with most bytes, then the first. One that a person restored is kept beside it.
    """
    judgements = [_judgement(candidate, _alone(candidate, rules), rules) for candidate in candidates]
    twins, gallery, shown = dict[str, str](), Gallery(), dict[str, Candidate]()
    for index in sorted(range(len(candidates)), key=lambda i: _rank(candidates[i], i)):
        candidate, alone = candidates[index], judgements[index]
        if alone.verdict is not None:
            continue
        rule, like = _look_alike(candidate.facts, twins, gallery)
        if not like:
            rule, like = "similar", _similar(candidate, shown)
        if like:
            among = _judgement(candidate, [Verdict(rule, f"{LOOKS[rule]} {like}, which is kept")], rules)
            judgements[index] = Judgement(among.verdict, alone.doubts + among.doubts, like)
        else:
            twins[candidate.facts.pixels] = candidate.name
            gallery.add(candidate.facts, candidate.name)
            shown[candidate.facts.sha256] = candidate
    return judgements


def _judgement(candidate: Candidate, found: Sequence[Verdict], rules: Clean) -> Judgement:
    """The first finding sets the picture aside if its rule does; without a caption it teaches nothing in any case."""
    severe = () if candidate.restored and candidate.text else ("no caption", *rules.set_aside)
    verdict = next((f for f in found if f.reason in severe), None)
    return Judgement(verdict, tuple(f"{f.reason}: {f.detail}" for f in found if f != verdict))


def _rank(candidate: Candidate, index: int) -> tuple[bool, int, int, int]:
    facts = candidate.facts
    # Bytes tell how much a lossy format has kept, and nothing of the others, of which a BMP is always the largest.
    lost = -facts.bytes if facts.format in LOSSY else -sys.maxsize
    return candidate.restored, -facts.width * facts.height, lost, index


def _alone(candidate: Candidate, rules: Clean) -> list[Verdict]:
    """What the rules that look at one picture find."""
    asked = (_in_pixels(candidate.facts, rules), _in_caption(candidate, rules), _by_models(candidate.opinion, rules))
    found = (finding for findings in asked for finding in findings)
    return [Verdict(rule, detail) for rule, wrong, detail in found if wrong]


def _in_pixels(facts: Facts, rules: Clean) -> Iterator[Finding]:
    short, long = sorted((facts.width, facts.height))
    size = f"{facts.width}×{facts.height}"
    least = f"{size}; the shorter side must have {rules.minimum_side} pixels"
    yield "too small", short < rules.minimum_side, least
    deviation = f"one colour: its grey levels deviate by {facts.deviation:.1f}, wanted {rules.minimum_deviation:g}"
    yield "blank", facts.deviation < rules.minimum_deviation, deviation
    sharpness = f"sharpness {facts.sharpness:.1f}, wanted {rules.minimum_sharpness:g}"
    yield "blurry", facts.sharpness < rules.minimum_sharpness, sharpness
    dark = f"95 % of its pixels are darker than {facts.brightest:.0f} of 255"
    yield "dark", facts.brightest < rules.minimum_brightest, dark
    bright = f"95 % of its pixels are brighter than {facts.darkest:.0f} of 255"
    yield "bright", facts.darkest > rules.maximum_darkest, bright
    entropy = f"{facts.entropy:.1f} bits a pixel, wanted {rules.minimum_entropy:g}"
    yield "little detail", facts.entropy < rules.minimum_entropy, entropy
    narrow = f"{size}: most of it is cut off where squares are trained"
    yield "narrow", long > rules.maximum_aspect * short, narrow
    yield "bars", facts.bars > rules.maximum_bars, f"bars take {facts.bars:.0%} of it; cut them off"
    blocks = f"steps on the 8-pixel grid are {facts.blocks:.0%} larger than others"
    yield "JPEG blocks", facts.blocks > rules.maximum_blocks, blocks
    grey = f"{facts.missing:.0%} of it is the grey that stands for what the file lacks; copy it again"
    yield "cut off", facts.missing > rules.maximum_missing, grey


def _in_caption(candidate: Candidate, rules: Clean) -> Iterator[Finding]:
    text = candidate.text
    yield "no caption", not text, candidate.trouble or "neither a table nor a file beside it gives one"
    broken = f"the caption was saved in one encoding and read in another: {text[:80]}"
    yield "broken letters", _broken(text), broken
    markup = any(mark in text.lower() for mark in MARKUP)
    yield "markup", markup, f"the caption holds pieces of a web page: {text[:80]}"
    foreign = _foreign(text)
    english = f"{foreign:.0%} of the caption's letters are not Latin; most text encoders know English only"
    yield "other script", foreign > rules.maximum_foreign_letters, english
    guess = other_language(text, rules.language, rules.minimum_words)
    if guess is not None:
        yield "other language", True, f"not {rules.language} but probably {guess.language} ({guess.sure:.0%})"


def _by_models(said: Opinion, rules: Clean) -> Iterator[Finding]:
    if said.fit is not None and said.standing is not None and said.agreement is not None:
        wrong = said.fit < rules.minimum_fit and said.standing < rules.minimum_agreement
        fit = f"agreement {said.agreement:.2f}, {said.fit:.1f} deviations above that with other captions"
        yield "does not fit its caption", wrong, f"{fit}, wanted {rules.minimum_fit:g}"
    if said.strangeness is not None:
        far = f"{said.strangeness:.1f} deviations farther from its nearest neighbours than most"
        yield "unlike the others", said.strangeness > rules.maximum_strangeness, far
    if said.unsafe is not None:
        unsafe = f"{said.unsafe:.2f} above what the safety checker allows"
        yield "unsafe content", round(said.unsafe, 3) > rules.maximum_unsafe, unsafe
    if said.writing is not None:
        yield "writing", said.writing > rules.maximum_writing, f"writing covers {said.writing:.0%} of it"


def _look_alike(facts: Facts, twins: dict[str, str], gallery: Gallery) -> tuple[str, str]:
    """The rule that finds a kept picture which looks the same, and its name; nothing where there is none."""
    found = (
        ("duplicate", twins.get(facts.pixels, "")),
        ("near-duplicate", gallery.alike(facts)),
        ("mirrored", gallery.mirrored(facts)),
    )
    return next(((rule, like) for rule, like in found if like), ("", ""))


def _similar(candidate: Candidate, shown: dict[str, Candidate]) -> str:
    """The name of a kept picture that is the same shot: models find those that may be, thumbnails decide."""
    near = (shown[key] for key in candidate.opinion.near if key in shown)
    thumbnail = candidate.facts.thumbnail
    return next((other.name for other in near if same_shot(other.facts.thumbnail, thumbnail)), "")


def _broken(text: str) -> bool:
    from ftfy.badness import is_bad

    return "\ufffd" in text or is_bad(text)


def _foreign(text: str) -> float:
    """The part of the letters that are not Latin."""
    if text.isascii():
        return 0.0
    letters = [c for c in text if c.isalpha()]
    return sum("LATIN" not in unicodedata.name(c, "") for c in letters) / len(letters) if letters else 0.0
