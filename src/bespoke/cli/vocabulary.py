"""What was found of a dataset's words, in the words that a shell shows; loaded when there is something to say."""

from collections.abc import Iterator
from typing import Any

from bespoke.models import Word
from bespoke.models.bases import T5
from bespoke.pipeline.lookup import WordShown
from bespoke.pipeline.vocabulary import LEXICON, REPORT, BuiltWords
from bespoke.pipeline.vocabularypage import headline
from bespoke.workspace import relative

LISTED = 12
"""So many words are listed; the page has them all."""


def built_content(made: BuiltWords) -> dict[str, Any]:
    """What a build gave, for JSON."""
    said = made.to_json()
    verdicts = {found.word.surface: found.verdict for found in made.rows.words}
    return {
        "words": made.file, "lexicon": made.folder / LEXICON, "report": made.page, "details": made.folder / REPORT,
        "setting": made.setting, "removed": made.removed, "tokens": said["words"], "verdicts": verdicts,
        "fertility": said["fertility"], "coverage": said["coverage"],
        "refused": {one.word: one.reason for one in made.candidates if not one.accepted and one.pieces > 1},
    }  # fmt: skip


def built(made: BuiltWords) -> str:
    """What came of it, each new word, and what to do with them."""
    lines = [headline(made)]
    lines += [f"  {_word(word)}" for word in made.new.words[:LISTED]]
    lines += [f"  and {len(made.new.words) - LISTED} more"] if len(made.new.words) > LISTED else []
    lines += [
        f"  {found.word.surface}: refused, {found.reason}" for found in made.rows.words if found.verdict == "refused"
    ]
    for one in made.fertility:
        before, after = one.per_word
        long = f", {one.long_before:,} → {one.long_after:,} longer than a window" if one.long_before else ""
        lines.append(f"{one.name:<11} {before:.3f} → {after:.3f} tokens a word{long}")
    if made.rows.without_vectors:
        lines.append(f"No row comes from word vectors: {made.rows.without_vectors}")
    if T5 in made.rows_for:
        lines.append("T5 has rows, too, by glosses or else pieces: train them, they are not judged.")
    lines.append(f"Page: {relative(made.page)}")
    lines += [f"Use them with:\n  bespoke train RECIPE --set {made.setting}"] if made.setting else []
    return "\n".join(lines)


def explained(shown: WordShown) -> str:
    """All that is known of a word, a line each."""
    return "\n".join(f"{name:<12}{said}" for name, said in _said(shown))


def _word(word: Word) -> str:
    also = f" (also {', '.join(word.aliases)})" if word.aliases else ""
    return f"{word.surface}{also}: {len(word.pieces)} pieces, row by {word.method}"


def _said(shown: WordShown) -> Iterator[tuple[str, str]]:
    yield "word", shown.shown
    yield "pieces", " ".join(shown.pieces)
    if shown.spelt:
        yield "T5's", " ".join(shown.spelt)
    if shown.entry:
        yield "known to", _sources(shown)
    elif shown.spelt_alike:
        yield "spelt like", ", ".join(shown.spelt_alike)
    near = ", ".join(f"{word} {cosine:.2f}" for word, cosine in shown.neighbours)
    yield "neighbours", near or "none: it has no word vector"
    new = f"yes, {shown.verdict}" if shown.token else "no"
    also = f", as {shown.token}" if shown.token not in ("", shown.word) else ""
    yield "new token", f"{new}{also}: {shown.reason}"
    if shown.token and shown.rows_for:
        yield "rows for", ", ".join(shown.rows_for)
    if shown.made:
        yield from _made(shown)


def _sources(shown: WordShown) -> str:
    entry = shown.entry
    assert entry is not None
    said = (
        "the base, as one token" if entry.clip else "",
        f"the encyclopaedia ({entry.wiki:,} times)" if entry.wiki else "",
        f"the word vectors (rank {entry.social_rank + 1:,})" if entry.social_rank is not None else "",
        f"the captions ({entry.domain:,} times in {entry.pictures:,})" if entry.domain else "",
    )
    return ", ".join(filter(None, said)) or "the terms alone"


def _made(shown: WordShown) -> Iterator[tuple[str, str]]:
    """How its row was made and judged."""
    made = shown.made
    assert made is not None
    known = {
        True: "the base knows it",
        False: "the base does not know it",
        None: "whether the base knows it cannot be told",
    }
    yield "meaning", f"from {made['meaning'] or 'nothing but its pieces'}; {known[made['standing']['known']]}"
    yield "row from", ", ".join(f"{name} {score:.3f}" for name, score in made["scores"].items())
    yield "row near", ", ".join(made["near"])
    for gate in made["gates"]:
        value = "no number" if gate["value"] is None else f"{gate['value']:.3g}"
        yield "gate", f"{gate['name']}: {value}, wanted {gate['wanted']}: {'passed' if gate['passed'] else 'failed'}"
