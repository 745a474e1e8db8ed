"""The lexicon and the captions turned into the few words that are worth a token of their own: perhaps none."""

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bespoke.errors import BespokeError
from bespoke.text.lexicon import Entry, Lexicon
from bespoke.text.normal import normal
from bespoke.text.terms import Terms, whole
from bespoke.text.typos import TIMES, meant

LEAST_TIMES, LEAST_CAPTIONS = 3, 2
"""How often captions must have a word, and how many of them, unless the terms name it."""
MOST, SHARE = 256, 0.005
"""Tokens that are added at most, and as a share of the captions' tokens."""
LEAST_GAIN = 0.005
"""What a new token must save of all the captions' tokens, unless the terms name it."""
BOTH = 0.5
"""What being in the encyclopaedia and among the vectors adds to a score."""
_ATOMS = re.compile(r"\w+")


@dataclass(frozen=True)
class Candidate:
    """A word that might become a token."""

    word: str
    surfaces: tuple[str, ...]
    """All the ways to write it; each becomes this one token."""
    pieces: int
    """Tokens that CLIP makes of the word."""
    saved: int
    """Tokens that it saves in the captions, on top of what those accepted before it save."""
    score: float
    """How much it looks like a term of this field; decides between equal savings."""
    reason: str
    """Why it was accepted or refused."""
    accepted: bool


def candidates(
    lexicon: Lexicon,
    captions: Sequence[str],
    terms: Terms | None = None,
    budget: int | None = None,
    least_gain: float = LEAST_GAIN,
) -> list[Candidate]:
    """The words of the captions that are no token yet: those accepted, in their order, then those refused.

    Words that the terms name come first. Then, again and again, the word that saves the most tokens is taken, until
    `budget` is spent (by default half a percent of the captions' tokens, 256 at most, and all that the terms name)
    or until a word saves less than `least_gain` of the tokens. Nothing accepted is a result, too.

    `captions` are those of the lexicon. After the accepted words the captions have as many tokens less as the sum of
    `saved`, where the longest of the surfaces that begin at a place is taken, leftmost first.

    Raises: BespokeError when the lexicon was built without `terms`.
    """
    rules, texts = terms or Terms(), Texts(captions)
    chosen, refused = list[Candidate](), list[Candidate]()
    forced, free = list[Candidate](), list[Candidate]()
    for word, surfaces in _surfaces(lexicon, rules).items():
        entries = [entry for surface in surfaces if (entry := lexicon.entry(surface))]
        candidate = _candidate(word, entries, texts, lexicon)
        if reason := _refusal(candidate, entries, texts, lexicon, rules):
            refused.append(replace(candidate, reason=reason))
        else:
            (forced if word in rules.forced else free).append(candidate)
    if budget is None:
        budget = max(len(forced), min(MOST, math.ceil(lexicon.facts.tokens * SHARE)))
    cost = {surface: _pieces(lexicon, surface) - 1 for one in (*forced, *free) for surface in one.surfaces}
    for waiting, least in ((forced, 1), (free, max(1, math.ceil(least_gain * lexicon.facts.tokens)))):
        refused += _taken(waiting, chosen, texts, cost, budget, least, lexicon.facts.tokens)
    return [*chosen, *sorted(refused, key=lambda one: (-one.saved, -one.score, one.word))]


class Texts:
    """Normal captions, each once, and where words stand in them."""

    def __init__(self, captions: Iterable[str]) -> None:
        self.times = Counter(map(normal, captions))
        """How many captions are this text."""
        self._having: dict[str, set[str]] = {}
        for text in self.times:
            for atom in _ATOMS.findall(text):
                self._having.setdefault(atom, set()).add(text)

    def having(self, surfaces: Iterable[str]) -> set[str]:
        """The texts that have all parts of one of the surfaces."""
        none = set[str]()
        return none.union(*(set.intersection(*(self._having.get(a, none) for a in atoms(s))) for s in surfaces))

    def matched(self, surfaces: Sequence[str], texts: Iterable[str]) -> Counter[str]:
        """How often each surface is taken in some of the texts, leftmost first and of those the longest."""
        found, pattern = Counter[str](), whole(surfaces)
        for text in texts:
            for surface in pattern.findall(text) if pattern else ():
                found[surface] += self.times[text]
        return found


def atoms(surface: str) -> set[str]:
    """The runs of letters and digits in it; two surfaces can overlap in a text only if they share one."""
    return set(_ATOMS.findall(surface))


def _surfaces(lexicon: Lexicon, rules: Terms) -> dict[str, list[str]]:
    """Each word that captions have or the terms name, and the surfaces that stand for it."""
    found = {word: [word, *rules.aliases.get(word, ())] for word in sorted(rules.forced)}
    for surface in lexicon.words("domain"):
        known = found.setdefault(rules.token(surface), [])
        if surface not in known:
            known.append(surface)
    return found


def _candidate(word: str, entries: Sequence[Entry], texts: Texts, lexicon: Lexicon) -> Candidate:
    if not entries:
        raise BespokeError(
            f"The lexicon does not know “{word}”, which the terms name.", "Build it anew with these terms."
        )
    pieces = _pieces(lexicon, word, entries)
    surfaces = tuple(entry.word for entry in entries)
    counts = texts.matched(surfaces, texts.having(surfaces))
    saved = sum((entry.pieces - 1) * counts[entry.word] for entry in entries)
    return Candidate(word, surfaces, pieces, saved, _score(entries, pieces, lexicon), "", accepted=False)


def _pieces(lexicon: Lexicon, word: str, entries: Sequence[Entry] = ()) -> int:
    """The pieces of a word, or of the first of its surfaces where it is not in the lexicon itself."""
    entry = lexicon.entry(word)
    return entry.pieces if entry else entries[0].pieces


def _score(entries: Sequence[Entry], pieces: int, lexicon: Lexicon) -> float:
    wiki, total = max(entry.wiki for entry in entries), lexicon.facts.wiki
    rare = math.log((total + 1) / (wiki + 1)) / math.log(total + 1) if total else 1.0
    both = any(entry.wiki and entry.vector for entry in entries)
    return math.log1p(sum(entry.domain for entry in entries)) * (pieces - 1) * rare * (1 + BOTH * both)


def _refusal(candidate: Candidate, entries: Sequence[Entry], texts: Texts, lexicon: Lexicon, rules: Terms) -> str:
    """Why a word cannot become a token, whatever the budget; "" where it may."""
    times = sum(entry.domain for entry in entries)
    faults = {
        "the terms ban it": not {candidate.word, *candidate.surfaces}.isdisjoint(rules.banned),
        "CLIP has it as one token already": candidate.pieces == 1,
        "no caption has it": not times,
    }
    if reason := next((reason for reason, holds in faults.items() if holds), ""):
        return reason
    return "" if candidate.word in rules.forced else _doubt(candidate, entries, times, texts, lexicon)


def _doubt(candidate: Candidate, entries: Sequence[Entry], times: int, texts: Texts, lexicon: Lexicon) -> str:
    """Why a word is no token unless the terms name it."""
    if times < LEAST_TIMES:
        return f"captions have it {times} times, fewer than {LEAST_TIMES}"
    if _captions(candidate.surfaces, texts) < LEAST_CAPTIONS:
        return "one caption alone has it"
    word = meant(entries[0], lexicon) if len(entries) == 1 else ""
    return f"it looks like a slip of “{word}”, which is {TIMES} times as frequent" if word else ""


def _captions(surfaces: Sequence[str], texts: Texts) -> int:
    pattern = whole(surfaces)
    return sum(texts.times[text] for text in texts.having(surfaces) if pattern and pattern.search(text))


def _taken(
    waiting: Sequence[Candidate],
    chosen: list[Candidate],
    texts: Texts,
    cost: Mapping[str, int],
    budget: int,
    least: int,
    tokens: int,
) -> list[Candidate]:
    """Moves the best of those waiting to `chosen`, one after the other; those refused come back.

    What a word saves is at first what it would save alone. It is counted anew when it is the best, and waits again
    where another is better now. Source: Minoux 1978, "Accelerated greedy algorithms".
    """
    heap = [(-one.saved, -one.score, one.word, one) for one in waiting]
    heapq.heapify(heap)
    refused: list[Candidate] = []
    while heap:
        *_, best = heapq.heappop(heap)
        best = replace(best, saved=_marginal(best, chosen, texts, cost))
        if heap and (-best.saved, -best.score, best.word) > heap[0][:3]:
            heapq.heappush(heap, (-best.saved, -best.score, best.word, best))
        elif len(chosen) >= budget:
            refused.append(replace(best, reason=f"the budget of {budget} tokens is spent"))
        elif best.saved < least:
            refused.append(replace(best, reason=f"it saves {best.saved} of {tokens} tokens, fewer than {least}"))
        else:
            chosen.append(replace(best, reason=f"it saves {best.saved} of {tokens} tokens", accepted=True))
    return refused


def _marginal(one: Candidate, chosen: Sequence[Candidate], texts: Texts, cost: Mapping[str, int]) -> int:
    """Tokens that one more word saves."""
    taken = [surface for other in chosen for surface in other.surfaces]
    own = set().union(*map(atoms, one.surfaces))
    having = texts.having(one.surfaces)
    if not any(own & atoms(surface) for surface in taken):
        taken = []  # nothing can overlap with it, so it saves what it saves alone
    before, after = texts.matched(taken, having), texts.matched([*taken, *one.surfaces], having)
    return sum(cost[surface] * count for surface, count in (after - before).items()) - sum(
        cost[surface] * count for surface, count in (before - after).items()
    )
