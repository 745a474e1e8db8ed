"""One word turned into all that a build told of it: pieces, sources, neighbours, why it is a token or none."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.models import Checkpoint
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.vocabulary import LEXICON, Asked, read_report
from bespoke.text import normal
from bespoke.text.lexicon import Entry, Lexicon
from bespoke.text.spelling import edits
from bespoke.text.vectors import Vectors
from bespoke.words.anchors import vector_of

NEAREST = 8
ALIKE = 5
"""So many known words at most are named beside one that nothing knows."""
UNKNOWN, UNSAID = "neither the captions nor any other source knows it", "no caption has it"


@dataclass(frozen=True)
class WordShown:
    """What is known of a word."""

    word: str
    """As the tokenizer reads it."""
    shown: str
    """As the terms write it."""
    pieces: tuple[str, ...]
    """What the base's tokenizer makes of it."""
    entry: Entry | None
    """What the lexicon says; nothing where no source knows it."""
    frequency: float
    """0 for an unknown word to 1 for the commonest."""
    neighbours: tuple[tuple[str, float], ...]
    """The nearest among the word vectors, with the cosine; none where it has no vector."""
    spelt_alike: tuple[str, ...]
    """Known words that it may be a misspelling of, the most frequent first; none where it is known."""
    token: str
    """The new word whose token it is, itself or the one it is an alias of; "" where it is no new token."""
    verdict: str
    """"accepted", "to train", "refused"."""
    reason: str
    """Why it is a token, or is none."""
    spelt: tuple[str, ...]
    """What T5 makes of it, where the base has one."""
    rows_for: tuple[str, ...]
    """The text encoders for which the build made rows, as files call them; the others read pieces."""
    made: Mapping[str, Any] | None
    """How its row was made and judged, as `report.json` holds it; nothing where none was."""


def show_word(
    dataset: str | Path,
    word: str,
    *,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> WordShown:
    """What the last build of a dataset's words says of a word, or of a term of several; nothing is written.

    `out` is the folder that the build wrote into. Word vectors are read from where the recipe has them.

    Raises: BespokeError when no words were built yet, the word is none, or a file that the recipe names is missing.
    """
    text = normal(word)
    if not text:
        raise BespokeError("No word is named.", "bespoke words show DATASET WORD")
    asked = Asked.of(dataset, recipe, overrides)
    folder = asked.folder(out)
    content, lexicon = read_report(folder), Lexicon.load(folder / LEXICON)
    known, entry = asked.sources.word_vectors(asked.project, report), lexicon.entry(text)
    candidate, made = _judged(content, text)
    verdict, reason = _verdict(candidate, made, entry)
    return WordShown(
        text, asked.sources.rules().shown(text), tuple(asked.base.tokenizer().tokenize(text)), entry,
        lexicon.frequency(text), _neighbours(text, known), () if entry else tuple(_alike(text, lexicon)),
        candidate["word"] if candidate and verdict != "refused" else "", verdict, reason, _spelt(asked.base, text),
        tuple(content.get("rows_for", ())), made,
    )  # fmt: skip


def _spelt(base: Checkpoint, text: str) -> tuple[str, ...]:
    """The pieces of T5's tokenizer, where there is one."""
    return tuple(base.tokenizer(base.t5()[0]).tokenize(text)) if base.rows_besides else ()


def _judged(content: Mapping[str, Any], word: str) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The candidate that a word is, or is an alias of, and what became of its row."""
    found = (one for one in content["candidates"] if word in (one["word"], *one["surfaces"]))
    candidate = next(found, None)
    rows = (made for made in content["rows"]["words"] if candidate and made["word"]["surface"] == candidate["word"])
    return candidate, next(rows, None)


def _verdict(
    candidate: Mapping[str, Any] | None, made: Mapping[str, Any] | None, entry: Entry | None
) -> tuple[str, str]:
    if candidate is None:
        return "refused", UNSAID if entry else UNKNOWN
    if made is None:
        return "refused", candidate["reason"]
    if made["verdict"] == "refused":
        return "refused", f"{candidate['reason']}, but its row failed: {made['reason']}"
    return made["verdict"], "; ".join(filter(None, (candidate["reason"], made["reason"])))


def _neighbours(word: str, known: Vectors) -> tuple[tuple[str, float], ...]:
    row = vector_of(word, known)
    near = known.nearest(row, NEAREST + 1) if row is not None else []
    return tuple(pair for pair in near if pair[0] != word)[:NEAREST]


def _alike(word: str, lexicon: Lexicon) -> Iterator[str]:
    """Known words one mistake away or, where there are none, words of the captions that look like it."""
    near = sorted((edit for edit in edits(word) if edit in lexicon), key=lambda edit: (-lexicon.frequency(edit), edit))
    yield from near[:ALIKE] or difflib.get_close_matches(word, lexicon.words("domain"), ALIKE)
