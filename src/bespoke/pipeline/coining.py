"""A dataset's captions turned into a lexicon and a few new words for a model's tokenizer; or none, where none pays."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bespoke import data
from bespoke.errors import BespokeError
from bespoke.hardware import machine
from bespoke.models import NewWords, quiet
from bespoke.models.vocabulary import FILE
from bespoke.pipeline import vocabularypage
from bespoke.pipeline.fertility import coverage, fertility
from bespoke.pipeline.prepare import with_brackets
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.vocabulary import LEXICON, REPORT, Asked, BuiltWords, Sources
from bespoke.text import corpus, unweighed
from bespoke.text.candidates import Candidate, candidates
from bespoke.text.lexicon import Lexicon
from bespoke.text.phrases import Phrase, suggested
from bespoke.text.terms import Terms
from bespoke.text.vectors import Vectors
from bespoke.words import RowsReport, make_rows_for_each, several, with_t5
from bespoke.words.lessons import TEMPLATES
from bespoke.workspace import write_json

GENERIC = tuple(template.format("dog") for template in TEMPLATES)
"""Prompts of nobody's field, where the recipe names none that should stay as they are."""
_PARTS = ("train", "validation")
_END = "</w>"


def build_words(
    dataset: str | Path,
    *,
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> BuiltWords:
    """The lexicon of a dataset's training captions, and rows for the words in it that are worth a token of their own.

    Written into `out`, or `words` beside the recipe: `lexicon.parquet`, `report.json`, the page `index.html` and, if
    there are any, the new words, `words.safetensors`; those of an earlier build are removed where there are none now.
    Nothing is downloaded.

    Raises: BespokeError when `dataset` is none or has no captions, or the recipe or a file that it names cannot be
    used.
    """
    asked = Asked.of(dataset, recipe, overrides)
    rules = asked.sources.rules()
    if asked.recipe.words.t5:
        asked.base.t5()  # which says so before anything is made, where there is none
    found = with_brackets(data.load(Path(dataset)), asked.recipe)
    train, validation = ([unweighed(picture.text) for picture in found.part(part)] for part in _PARTS)
    if not any(train):
        raise BespokeError(f"{dataset} has no captions to learn words from.", "bespoke data caption makes some.")
    tokenizer, known = asked.base.tokenizer(), asked.sources.word_vectors(asked.project, report)
    with quiet():  # transformers warns of long captions, which are counted here and not read
        lexicon = _lexicon(train, tokenizer, asked.sources, known, rules, report)
        judged = candidates(lexicon, train, rules, asked.recipe.words.budget, asked.recipe.words.least_gain)
        new, rows = _made([one for one in judged if one.accepted], asked, known, rules, train, report)
    generic = asked.recipe.objective.keep_prompts or GENERIC
    larger, texts = new.extended(tokenizer), {"train": train, "validation": validation, "generic": generic}
    made = BuiltWords(
        asked.folder(out), asked.project.root, asked.sources, lexicon, tuple(judged), new, rows,
        tuple(fertility(name, some, tokenizer, larger) for name, some in texts.items() if some),
        tuple(coverage(lexicon, train, validation)), tuple(_phrases(train, rules)), removed=False,
    )  # fmt: skip
    return _saved(made)


def _lexicon(
    captions: Sequence[str], tokenizer: Any, sources: Sources, known: Vectors, rules: Terms, report: Reporter
) -> Lexicon:
    """The lexicon of all sources; what the encyclopaedia's counts take of memory is free again after it."""
    wiki = corpus.counted_words(sources.wiki, report)
    clip = {token.removesuffix(_END) for token in tokenizer.get_vocab() if token.endswith(_END)}
    return Lexicon.built(captions, lambda text: len(tokenizer.tokenize(text)), clip, wiki, known, rules, report)


def _made(
    chosen: Sequence[Candidate],
    asked: Asked,
    known: Vectors,
    rules: Terms,
    captions: Sequence[str],
    report: Reporter,
) -> tuple[NewWords, RowsReport]:
    """Rows for the words that are worth a token, and what became of each."""
    base, device = asked.base, machine().device
    encoders = {name: base.network(part).to(device) for name, part in base.rows_for.items()}
    readers = dict(zip(encoders, zip(base.tokenizers(), encoders.values(), strict=True), strict=True))
    made, told = make_rows_for_each(
        [one.word for one in chosen], readers, base.base,
        vectors=known, glosses=rules.glosses, aliases={one.word: one.surfaces for one in chosen}, captions=captions,
        method=asked.recipe.words.method, seed=asked.recipe.words.seed, report=report,
    )  # fmt: skip
    if asked.recipe.words.t5 and made.words:
        made = with_t5(made, base, asked.recipe.words.method)
    return several(made, rules.rows, asked.recipe.words.seed), told


def _phrases(captions: Sequence[str], rules: Terms) -> list[Phrase]:
    """Suggestions that no rule names yet."""
    known = {*rules.forced, *rules.protected, *rules.banned}
    return [phrase for phrase in suggested(captions) if phrase.words not in known]


def _saved(made: BuiltWords) -> BuiltWords:
    """The same, written."""
    file = made.folder / FILE
    made.lexicon.save(made.folder / LEXICON)
    removed = not made.new.words and file.exists()
    if made.new.words:
        made.new.save(file)
    else:
        file.unlink(missing_ok=True)
    made = replace(made, removed=removed)
    write_json(made.folder / REPORT, made.to_json())
    vocabularypage.write(made)
    return made
