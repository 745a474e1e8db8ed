"""What a build of new words gave, turned into its page."""

from collections.abc import Iterator

from bespoke import page
from bespoke.models.bases import T5
from bespoke.models.vocabulary import FILE
from bespoke.page.wording import number
from bespoke.pipeline.vocabulary import BuiltWords
from bespoke.text.candidates import Candidate
from bespoke.words import Quality, WordReport
from bespoke.words.mapping import RANKS
from bespoke.workspace import relative

TEXTS = {"train": "training captions", "validation": "validation captions", "generic": "prompts of other fields"}
SOURCES = {
    "clip": "the base's whole words", "wiki": "the encyclopaedia", "social": "the word vectors",
    "domain": "the training captions", "general": "all but the captions",
}  # fmt: skip
KINDS = {"ridge": "Ridge regression", "procrustes": "An orthogonal matrix"}
MEANINGS = {"gloss": "your gloss", "neighbours": "its neighbours among the word vectors"}


def write(made: BuiltWords) -> None:
    """The page of a build, written."""
    counts = tuple(
        page.TokenCount(
            TEXTS[one.name], one.captions, one.words, one.before, one.after, one.per_word,
            (one.long_before, one.long_after),
        )
        for one in made.fertility
    )  # fmt: skip
    refused = [one for one in made.candidates if not one.accepted]
    costly = [page.RefusedWord(one.word, one.pieces, one.saved, one.reason) for one in refused if one.pieces > 1]
    report = page.VocabularyReport(
        title=made.project.name,
        headline=headline(made),
        facts=tuple(_facts(made)),
        counts=counts,
        words=tuple(_words(made)),
        refused=tuple(costly),
        single=len(refused) - len(costly),
        sources=tuple(page.Source(SOURCES[one.source], one.words, one.train, one.validation) for one in made.coverage),
        maps=tuple(map(_map, made.rows.maps)),
        map_words=_about_map(made),
        phrases=tuple(page.Suggestion(one.words, one.captions, one.score) for one in made.phrases),
        use=tuple(_use(made)),
    )
    page.write_vocabulary(report, made.page)


def headline(made: BuiltWords) -> str:
    """What came of it, in a sentence or two."""
    train, count = made.fertility[0], len(made.new.words)
    if not count:
        asked = len(made.rows.words)
        tried = f"all {asked:,} words that were tried" if asked > 1 else "the one word that was tried"
        why = f"gates refused {tried}" if asked else "no word of the captions is worth a token"
        gone = f" The {FILE} of an earlier build was removed." if made.removed else ""
        return f"No extension: {why}. The base's own tokenizer is the best one for these captions.{gone}"
    said = "1 new word" if count == 1 else f"{count:,} new words"
    before, after = train.per_word
    (before, after), them = train.per_word, "it" if count == 1 else "them"
    return f"{said}. Training captions need {before:.2f} tokens a word without {them}, {after:.2f} with {them}."


def _facts(made: BuiltWords) -> Iterator[page.Fact]:
    facts, names = made.lexicon.facts, made.sources.names
    yield page.Fact("Base", made.new.base.name)
    yield page.Fact(
        "Captions", f"{facts.captions:,} to learn from, with {facts.words:,} words, {facts.tokens:,} tokens"
    )
    yield page.Fact("Encyclopaedia", f"{names['wiki']}: {facts.wiki:,} running words")
    yield page.Fact("Word vectors", f"{names['vectors']}: {facts.vectors:,} words")
    yield page.Fact("Terms", names["terms"])
    yield page.Fact("Lexicon", f"{len(made.lexicon):,} words")
    yield page.Fact("Rows by", f"{made.rows.method}, seed {made.rows.seed}")
    if made.new.words:
        spelt = ", T5's by glosses or else pieces" if T5 in made.rows_for else ""
        yield page.Fact("Rows for", f"{', '.join(made.rows_for)}{spelt}")


def _words(made: BuiltWords) -> Iterator[page.NewWord]:
    chosen = {one.word: one for one in made.candidates if one.accepted}
    for found in made.rows.words:
        gates = tuple(page.Gate(gate.name, gate.value, gate.wanted, gate.passed) for gate in found.gates)
        word = found.word
        yield page.NewWord(
            word.surface, found.verdict, _why(found, chosen.get(word.surface)), word.aliases, word.pieces,
            _meaning(found), tuple(found.scores.items()), found.neighbours, found.near, gates,
        )  # fmt: skip


def _why(found: WordReport, chosen: Candidate | None) -> str:
    reason = f"Chosen because {chosen.reason}." if chosen else ""
    if found.verdict == "to train":
        reason += " Nothing says what it means: train its row."
    more = f"{found.reason[:1].upper()}{found.reason[1:]}." if found.reason else ""
    return f"{reason} {more}".strip()


def _meaning(found: WordReport) -> str:
    """Whether the model knows the word, and what says what it means."""
    if not found.meaning:
        return "Neither a gloss nor word vectors say what it means; its pieces are all there is."
    source = MEANINGS[found.meaning]
    gloss = f" (“{found.word.gloss}”)" if found.meaning == "gloss" else ""
    if found.standing.known is None:
        return f"Its meaning is that of {source}{gloss}; whether the base knows it cannot be told."
    likeness, asked = (number(value, 2) for value in (found.standing.likeness, found.standing.threshold))
    measured = f"its prompts are {likeness} like it, where more than {asked} is asked for"
    if found.standing.known:
        return f"The base knows it by its pieces: by {source}{gloss} {measured}. The pieces teach its row."
    return f"The base does not know it: by {source}{gloss} {measured}. That meaning teaches its row."


def _map(found: Quality) -> page.MapQuality:
    recall = tuple(zip(RANKS, found.recall, found.null_recall, strict=True))
    return page.MapQuality(KINDS[found.kind], found.usable, (found.cosine, found.null_cosine), recall)


def _about_map(made: BuiltWords) -> str:
    how = "A linear map from word vectors to the base's rows"
    tried = f"{how}, fitted on {made.rows.anchors:,} words that both know and tried on a fifth of them at a time"
    if made.rows.without_vectors:
        why = f"{tried}, cannot be trusted: {made.rows.without_vectors}."
        return f"{why} No row begins as word vectors say; they may still say what words mean."
    return f"{tried}, beside one of shuffled pairs. It can be trusted, so word vectors take part in the tournament."


def _use(made: BuiltWords) -> Iterator[page.Fact]:
    if made.file:
        yield page.Fact("In training and in pictures", f"bespoke train recipe.toml --set {made.setting}")
        yield page.Fact("In other programs", f"bespoke words export {relative(made.file)} for-others --as a1111")
