"""Words turned into rows for each of a base's text encoders: new words are those that none of their gates refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bespoke.models import Base, NewWords
from bespoke.words.gates import Verdict
from bespoke.words.making import make_rows
from bespoke.words.report import RowsReport, WordReport

STRICTEST: tuple[Verdict, ...] = ("refused", "to train", "accepted")


def make_rows_for_each(
    words: Sequence[str], readers: Mapping[str, tuple[Any, Any]], base: Base, **options: Any
) -> tuple[NewWords, RowsReport]:
    """New words with rows for each of `readers`, tokenizers with text encoders by the names that files have for these.

    `options` are those of `make_rows`, which makes the rows for each as if it read alone. What is told of a word is
    what came of the first text encoder, with the verdict of the strictest and the gates of all.
    """
    found = {name: make_rows(words, *reader, base, **options) for name, reader in readers.items()}
    made, told = {name: one for name, (one, _) in found.items()}, [one for _, one in found.values()]
    first = next(iter(made.values()))
    own = {name: {word.surface: rows for word, rows in one.pairs()} for name, one in made.items()}
    kept = [word for word in first.words if all(word.surface in rows for rows in own.values())]
    new = NewWords.of(base, [(word, {name: rows[word.surface] for name, rows in own.items()}) for word in kept])
    if len(made) == 1:
        return new, told[0]
    names = list(made)[1:]
    others = [{one.word.surface: one for one in report.words} for report in told[1:]]
    reports = [
        _joined(one, {name: by[one.word.surface] for name, by in zip(names, others, strict=True)})
        for one in told[0].words
    ]
    return new, replace(told[0], words=tuple(reports))


def _joined(first: WordReport, others: Mapping[str, WordReport]) -> WordReport:
    """What became of a word, by all text encoders."""
    verdict = min((first.verdict, *(one.verdict for one in others.values())), key=STRICTEST.index)
    reasons = (first.reason, *(one.reason and f"{name}: {one.reason}" for name, one in others.items()))
    gates = [replace(gate, name=f"{gate.name} ({name})") for name, one in others.items() for gate in one.gates]
    reason = "; ".join(dict.fromkeys(filter(None, reasons)))
    return replace(first, verdict=verdict, reason=reason, gates=(*first.gates, *gates))
