"""The master vocabulary: all words that CLIP, an encyclopaedia, a social network or the captions know, as a table."""

import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bespoke.errors import BespokeError
from bespoke.text.lines import Report, silent
from bespoke.text.normal import normal, words
from bespoke.text.terms import Terms
from bespoke.text.vectors import Vectors
from bespoke.text.vocabulary import Index, Words
from bespoke.workspace import atomic_file

LEAST_WIKI = 5
"""Times that the encyclopaedia must have a word for it to enter."""
TOP = 200_000
"""Words of the vectors' file that enter, from its first, which is the most frequent."""
COLUMNS = ("word", "pieces", "clip", "wiki", "social_rank", "domain", "pictures")
FACTS = b"bespoke.lexicon"
"""Where the Parquet file keeps what is true of the whole."""
TELL = 10_000

Source = Literal["clip", "wiki", "social", "domain"]


@dataclass(frozen=True)
class Entry:
    """What is known of one normal word, or of one term of several."""

    word: str
    pieces: int
    """Tokens that CLIP makes of it."""
    clip: bool
    """Whether it is one whole-word token, `word</w>`."""
    wiki: int
    """How often the encyclopaedia has it."""
    social_rank: int | None
    """Its row among the vectors; 0 is the most frequent word."""
    domain: int
    """How often the captions have it."""
    pictures: int
    """How many captions have it."""

    @property
    def vector(self) -> bool:
        """Whether it has a word vector."""
        return self.social_rank is not None


@dataclass(frozen=True)
class Facts:
    """What a lexicon was made of."""

    captions: int = 0
    tokens: int = 0
    """Tokens that CLIP makes of all captions, without their start and end."""
    words: int = 0
    """Words in all captions; tokens / words is the fertility."""
    wiki: int = 0
    """Words of the encyclopaedia, running."""
    vectors: int = 0
    """Words with vectors."""


class Lexicon:
    """A table of words with what each source knows of them; it finds a word without building a dictionary."""

    def __init__(self, table: Any, facts: Facts) -> None:  # noqa: ANN401 - pyarrow is typed in part only
        """`table` is Arrow's, with `COLUMNS`, sorted by `word`, in one chunk."""
        self.table, self.facts = table, facts
        found = Words(table["word"].chunk(0) if len(table) else table["word"])
        self._index = Index(found, range(len(table)))

    @classmethod
    def built(
        cls,
        captions: Sequence[str],
        pieces: Callable[[str], int],
        clip: Collection[str],
        wiki: Mapping[str, int] | None = None,
        vectors: Vectors | None = None,
        terms: Terms | None = None,
        report: Report = silent,
    ) -> "Lexicon":
        """The lexicon of all sources.

        `pieces` says how many tokens CLIP makes of a normal text; `clip` are the words that are one, without `</w>`;
        `wiki` says how often an encyclopaedia has each word. Words of the captions are found by the rules of `terms`,
        so that terms of several words are entries, too; words that the rules name are there though no caption has them.
        """
        wiki, rules = wiki or {}, terms or Terms()
        domain, pictures, tokens, running = _counted(captions, pieces, rules)
        whole = {word for word in clip if words(word) == [word]}
        named = {*rules.forced, *(surface for surfaces in rules.aliases.values() for surface in surfaces)}
        found = sorted({*_known(wiki, vectors), *whole, *domain, *named})
        parts: list[int] = []
        for number, word in enumerate(found):
            parts.append(1 if word in whole else pieces(word))
            if not number % TELL:
                report("lexicon", number, len(found))
        facts = Facts(len(captions), tokens, running, sum(wiki.values()), len(vectors) if vectors else 0)
        report("lexicon", len(found), len(found))
        return cls(_table(found, parts, whole, wiki, vectors, domain, pictures), facts)

    def __len__(self) -> int:
        """How many words there are."""
        return len(self.table)

    def __contains__(self, word: str) -> bool:
        """Whether a source knows the word."""
        return normal(word) in self._index

    def entry(self, word: str) -> Entry | None:
        """What is known of a word."""
        number = self._index.get(normal(word))
        if number is None:
            return None
        return Entry(**{name: self.table[name][number].as_py() for name in COLUMNS})

    def words(self, source: Source) -> list[str]:
        """The words that one source brings, in the order of the alphabet."""
        if source == "social":
            chosen = self.table["social_rank"].to_numpy() < TOP  # no rank becomes not-a-number, which is never less
        else:
            chosen = self.table[source].to_numpy() >= (LEAST_WIKI if source == "wiki" else 1)
        return self.table["word"].filter(chosen).to_pylist()

    def frequency(self, word: str) -> float:
        """How common a word is, 0 for an unknown one to 1 for the commonest: the highest that any source says.

        Counts are taken on a logarithmic scale up to the source's highest; a rank counts down on such a scale, for
        counts fall with the rank (Zipf's law).
        """
        entry = self.entry(word)
        if entry is None:
            return 0.0
        counts = zip((entry.wiki, entry.domain), self._highest, strict=True)
        said = [math.log1p(count) / math.log1p(highest) for count, highest in counts if count]
        if entry.social_rank is not None:
            said.append(1 - math.log1p(entry.social_rank) / math.log1p(self.facts.vectors))
        return max(said, default=0.0)

    @functools.cached_property
    def _highest(self) -> tuple[int, int]:
        return int(self.table["wiki"].to_numpy().max()), int(self.table["domain"].to_numpy().max())

    def save(self, path: Path) -> None:
        """Writes it as a Parquet file."""
        from pyarrow import parquet

        table = self.table.replace_schema_metadata({FACTS: json.dumps(vars(self.facts))})
        with atomic_file(path) as temporary:
            parquet.write_table(table, temporary, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "Lexicon":
        """The lexicon that `save` wrote.

        Raises: BespokeError when the file is missing, damaged, or another table.
        """
        import pyarrow
        from pyarrow import parquet

        try:
            table = parquet.read_table(path).combine_chunks()
            facts = Facts(**json.loads(table.schema.metadata[FACTS]))
            return cls(table.select(COLUMNS).replace_schema_metadata(None), facts)
        except FileNotFoundError:
            raise BespokeError(f"There is no lexicon at {path}.", "Build one first.") from None
        except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise BespokeError(f"{path} is no lexicon, or a damaged one: {error}", "Build it anew.") from error


def _counted(
    captions: Sequence[str], pieces: Callable[[str], int], rules: Terms
) -> tuple[Counter[str], Counter[str], int, int]:
    """How often captions have each word, how many captions do, their tokens, and their words."""
    domain, pictures, tokens, running = Counter[str](), Counter[str](), 0, 0
    for text, times in Counter(map(normal, captions)).items():
        found = Counter(rules.found(text))
        for word, count in found.items():
            domain[word] += count * times
            pictures[word] += times
        tokens += pieces(text) * times
        running += len(words(text)) * times
    return domain, pictures, tokens, running


def _known(wiki: Mapping[str, int], vectors: Vectors | None) -> Iterable[str]:
    """The general words of encyclopaedia and vectors that are frequent enough, and words."""
    yield from (word for word, count in wiki.items() if count >= LEAST_WIKI)
    if vectors:
        yield from (word for word in vectors.words[:TOP] if words(word) == [word])


def _table(
    found: list[str],
    parts: list[int],
    whole: set[str],
    wiki: Mapping[str, int],
    vectors: Vectors | None,
    domain: Mapping[str, int],
    pictures: Mapping[str, int],
) -> Any:  # noqa: ANN401 - pyarrow is typed in part only
    import pyarrow
    from pyarrow import compute

    word = pyarrow.array(found, pyarrow.string())
    ranks = pyarrow.nulls(len(found), pyarrow.int32())
    if vectors:
        ranks = compute.call_function("index_in", [word], compute.SetLookupOptions(vectors.words.array))
    columns = (
        word, pyarrow.array(parts, pyarrow.int32()), pyarrow.array([w in whole for w in found], pyarrow.bool_()),
        pyarrow.array([wiki.get(w, 0) for w in found], pyarrow.int64()), ranks,
        pyarrow.array([domain.get(w, 0) for w in found], pyarrow.int32()),
        pyarrow.array([pictures.get(w, 0) for w in found], pyarrow.int32()),
    )  # fmt: skip
    return pyarrow.table(dict(zip(COLUMNS, columns, strict=True)))
