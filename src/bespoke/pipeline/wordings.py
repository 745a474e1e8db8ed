"""The captions of a dataset turned into the other wordings that training reads, with what was refused and why."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bespoke.encoding import Sense
from bespoke.errors import BespokeError
from bespoke.hardware import machine
from bespoke.models import Checkpoint
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.vocabulary import FOLDER, LEXICON, Sources
from bespoke.recipe import Recipe
from bespoke.records import Picture
from bespoke.text import (
    Augmenter,
    Limit,
    Refusal,
    Speller,
    Synonyms,
    Worded,
    Wording,
    calibrated,
    curated,
    neighbours,
    normal,
    spoilt,
    unweighed,
    wordnet,
    words,
)
from bespoke.text.lexicon import Lexicon
from bespoke.text.synonyms import Source
from bespoke.workspace import Project

Similar = Callable[[Sequence[tuple[str, str]]], np.ndarray]
"""The cosines of pairs of captions, float [n]."""
CALIBRATED_ON = 200
"""Most captions that the limit of similarity is found on."""
STAGE = "reword captions"
GENERAL: tuple[Literal["wiki", "social"], ...] = ("wiki", "social")
LESS_ALIKE = "the text encoder finds it less alike than paraphrases"
UNVOUCHED = "only word vectors say so, and the text encoder does not find it alike"


@dataclass(frozen=True)
class Reworded:
    """Captions with their other wordings, and how much what was refused."""

    of: Mapping[str, Worded]
    limit: Limit | None = None
    """How alike a wording must be to its caption; nothing where that is not asked."""

    columns: tuple[str, ...] = ()
    """Columns of the table with other captions; those are a person's own, and none is judged."""

    def others(self, picture: Picture) -> list[str]:
        """What training may read of a picture in place of its caption, each once."""
        worded = self.of.get(picture.text, Worded(picture.text))
        written = (picture.labels.get(column, "") for column in self.columns)
        found = dict.fromkeys([*(wording.text for wording in worded.kept), *written])
        return [text for text in found if text and text != picture.text]

    def reasons(self) -> dict[str, int]:
        """How many wordings were refused for each reason, the most frequent first."""
        counted = Counter(_short(refusal) for worded in self.of.values() for refusal in worded.refused)
        return dict(counted.most_common())

    def told(self) -> str:
        """How many wordings there are, how many were refused and why, in words."""
        kept = sum(len(worded.kept) for worded in self.of.values())
        reasons = ", ".join(f"{count} × {reason}" for reason, count in list(self.reasons().items())[:3])
        refused = sum(self.reasons().values())
        return f"{kept} other wordings of {len(self.of)} captions; refused {refused}{f': {reasons}' * bool(refused)}"

    def judged(self) -> tuple[str, ...]:
        """How the limit of similarity was found, in a sentence; nothing where it was not asked for."""
        limit = self.limit
        if limit is None:
            return ()
        if limit.value is None:
            why = f"its vectors tell {limit.area:.0%} of pairs" if all(limit.pairs) else "there are too few captions"
            return (f"The text encoder is not asked how alike wordings are: {why}; the rules alone decide.",)
        told = f"{limit.kept:.0%} of paraphrases are above it, and {limit.let_through:.0%} of captions with one word"
        return (f"Wordings must be as alike as {limit.value:.3f} (cosine of the text encoder): {told} changed.",)


def reworded(
    pictures: Sequence[Picture], recipe: Recipe, checkpoint: Checkpoint, project: Project, report: Reporter = silent
) -> Reworded:
    """The other wordings of the pictures' captions by the recipe's `[augment]`; none where that is off.

    Raises: BespokeError when a source of synonyms is not on this machine, or no picture has a column of captions.
    """
    if not recipe.augment.variants and not recipe.augment.captions:
        return Reworded({})
    captions = sorted({picture.text for picture in pictures if picture.text})
    sources, device = Sources.of(recipe, project.root), torch.device(machine().device)
    settings = recipe.augment.model_copy(update={"protected": (*recipe.augment.protected, *sources.rules().protected)})
    speller, trigger = speller_for(captions, checkpoint, project), recipe.text.trigger or ""
    augmenter, vouched = (
        Augmenter(settings, Synonyms(*_synonyms(names, sources, project, report)), speller, trigger)
        for names in (settings.synonym_sources, [name for name in settings.synonym_sources if name != "vectors"])
    )
    of = {caption: augmenter(caption, caption) for caption in captions}
    similar = functools.cache(lambda: _similar(Sense(checkpoint.tokenizer(), checkpoint.text_encoder(), device)))
    limit = _limit(captions, vouched, similar()) if recipe.augment.similarity and recipe.augment.variants else None
    of = _alike(of, limit, vouched, similar)
    found = Reworded(of, limit, _checked(recipe.augment.captions, pictures))
    report(STAGE, len(captions), len(captions), found.told())
    return found


def speller_for(captions: Sequence[str], checkpoint: Checkpoint, project: Project) -> Speller:
    """Knows the words of the captions that come more than once, those of the model's tokenizer, and of the lexicon.

    The lexicon is the one that `bespoke words build` wrote, if it has.
    """
    vocabulary = checkpoint.tokenizer().get_vocab()
    whole = sorted((place, word.removesuffix("</w>")) for word, place in vocabulary.items() if word.endswith("</w>"))
    # A tokenizer's words come by how frequent they were where it was made; only their order is known.
    known = {word: 1 / (rank + 10) for rank, (_, word) in enumerate(whole) if word.isalpha()}
    known |= _from_lexicon(project.root / FOLDER / LEXICON)
    counted = Counter(word for caption in captions for word in words(normal(unweighed(caption))))
    most = max(counted.values(), default=1)
    return Speller(known | {word: max(known.get(word, 0), n / most) for word, n in counted.items() if n > 1})


def _from_lexicon(file: Path) -> dict[str, float]:
    """How frequent words are that the encyclopaedia or the vectors have, 0 to 1; nothing without a lexicon."""
    if not file.is_file():
        return {}
    lexicon = Lexicon.load(file)
    return {word: lexicon.frequency(word) for source in GENERAL for word in lexicon.words(source) if word.isalpha()}


def mended(
    pictures: Sequence[Picture], checkpoint: Checkpoint, project: Project
) -> tuple[list[Picture], dict[str, str]]:
    """The pictures with misspelt words of their captions mended, and each word that was, with what it was meant to be.

    A word is misspelt if no source of words and no other caption has it, and one known word is near.
    """
    speller = speller_for([picture.text for picture in pictures], checkpoint, project)
    changed: dict[str, str] = {}
    found = list[Picture]()
    for picture in pictures:
        text, done = speller.mended(picture.text)
        changed |= done
        found.append(replace(picture, text=text) if done else picture)
    return found, changed


def _synonyms(names: Sequence[str], sources: Sources, project: Project, report: Reporter) -> list[Source]:
    """The sources of synonyms of these names."""
    made: dict[str, Callable[[], Source]] = {
        "curated": lambda: curated,
        "wordnet": wordnet,
        "vectors": lambda: neighbours(sources.word_vectors(project, report)),
    }
    return [made[name]() for name in names]


def _similar(sense: Sense) -> Similar:
    def cosines(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        texts = list(dict.fromkeys(unweighed(text) for pair in pairs for text in pair))
        place, rows = {text: number for number, text in enumerate(texts)}, sense(texts)
        left, right = ([place[unweighed(text)] for text in side] for side in zip(*pairs, strict=True))
        return (rows[left] * rows[right]).sum(axis=1)

    return cosines


def _limit(captions: Sequence[str], augmenter: Augmenter, similar: Similar) -> Limit:
    """The limit of similarity for these captions: their wordings by rule against captions with one word changed."""
    some = captions[:: max(1, len(captions) // CALIBRATED_ON)][:CALIBRATED_ON]
    paraphrases = [(text, wording.spelt) for text in some for wording in augmenter(text, "calibrate", text).kept]
    same = [pair for pair in paraphrases if pair[0] != pair[1]]
    different = spoilt(some, augmenter.settings.seed)
    if not same or not different:
        return calibrated([], [], augmenter.settings.similarity)
    cosines = similar([*same, *different])
    return calibrated(cosines[: len(same)].tolist(), cosines[len(same) :].tolist(), augmenter.settings.similarity)


def _alike(
    of: Mapping[str, Worded], limit: Limit | None, vouched: Augmenter, similar: Callable[[], Similar]
) -> dict[str, Worded]:
    """The same without the wordings that are less alike than the limit; one misspelt is judged as it was before.

    A synonym that word vectors alone propose must reach the strict limit, and where there is none it is refused.
    """
    pairs = [(worded, wording) for worded in of.values() for wording in worded.kept if wording.spelt != worded.caption]
    doubted = [bool(vouched.meaning.changed(worded.caption, wording.text)) for worded, wording in pairs]
    if not pairs or (limit is None and not any(doubted)):
        return dict(of)
    least = [(limit.strict if doubt else limit.value) if limit else None for doubt in doubted]
    asked = any(bound is not None for bound in least)
    cosines = similar()([(w.caption, wording.spelt) for w, wording in pairs]) if asked else np.zeros(len(pairs))
    below: dict[str, dict[str, list[Wording]]] = {}
    for (worded, wording), cosine, bound, doubt in zip(pairs, cosines, least, doubted, strict=True):
        if (doubt and bound is None) or (bound is not None and cosine < bound):
            below.setdefault(worded.caption, {}).setdefault(UNVOUCHED if doubt else LESS_ALIKE, []).append(wording)
    return {text: _less(worded, below.get(text, {})) for text, worded in of.items()}


def _less(worded: Worded, refused: Mapping[str, Sequence[Wording]]) -> Worded:
    for reason, wordings in refused.items():
        worded = worded.less(wordings, reason)
    return worded


def _checked(columns: Sequence[str], pictures: Sequence[Picture]) -> tuple[str, ...]:
    """The columns of further captions.

    Raises: BespokeError when one is in no picture's row.
    """
    for column in columns:
        if not any(picture.labels.get(column) for picture in pictures):
            hint = "It must be a column beside file_name and text in the table of captions."
            raise BespokeError(f"No picture has a caption in the column {column!r} of augment.captions.", hint)
    return tuple(columns)


def _short(refusal: Refusal) -> str:
    """A reason without the word it names, so that reasons can be counted."""
    for kind in ("the word", "the protected"):
        if refusal.reason.startswith(kind):
            return "a word that is not accounted for" if kind == "the word" else "a protected term"
    return refusal.reason
