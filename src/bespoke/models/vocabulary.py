"""New words of a model: their tokens put into a tokenizer, their rows into a text encoder, both kept in one file."""

import copy
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.bases import ENCODER, T5, Base
from bespoke.workspace import atomic_file

FILE = "words.safetensors"
VERSIONS = (1, 2)
"""Of files that are read; the last is written. The first knew one size for all tokenizers, and no T5."""
INNER = "\ue000"
"""Stands between a word of several rows and a row's number; a private letter, which nobody types."""

Rows = Float[Tensor, "n d"]


@dataclass(frozen=True)
class Word:
    """One new word, written as the tokenizer reads it, in small letters; its aliases have the same rows."""

    surface: str
    aliases: tuple[str, ...] = ()
    rows: int = 1
    """How many rows, and so tokens, it stands for; several only in textual inversion."""
    pieces: tuple[str, ...] = ()
    """What the base's tokenizer makes of it."""
    method: str = ""
    """What its rows came from: "subwords", "neighbours", "distilled", …"""
    gloss: str = ""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the gates measured, by name."""

    @property
    def surfaces(self) -> tuple[str, ...]:
        """All ways to write it."""
        return (self.surface, *self.aliases)


@dataclass(frozen=True)
class Token:
    """One added token: the `number`-th of a word as it is written, and the row it stands for."""

    surface: str
    number: int
    row: int


@dataclass(frozen=True, eq=False)
class NewWords:
    """Words in sorted order with their rows for each text encoder, one below the other.

    Ids follow from the order alone: from what each tokenizer knows up, over words, their surfaces, their rows. A text
    encoder that has no rows among them reads the words in its own pieces.

    Raises: BespokeError when two words are written alike, a row is no number, or there are more or fewer rows than the
    words need.
    """

    base: Base
    words: tuple[Word, ...] = ()
    rows: Mapping[str, Rows] = field(default_factory=dict[str, Tensor])

    def __post_init__(self) -> None:
        surfaces = [surface for word in self.words for surface in word.surfaces]
        odd = [s for s in surfaces if s != written(s) or not s or INNER in s]
        double = sorted({s for s in surfaces if surfaces.count(s) > 1}) if len(set(surfaces)) < len(surfaces) else []
        if odd or double or list(self.words) != sorted(self.words, key=lambda word: word.surface):
            told = f"{(odd or double)[0]!r} {'is not as a tokenizer reads it' if odd else 'stands twice'}"
            problem = f"New words: {told if odd or double else 'they are not in sorted order'}."
            raise BespokeError(problem, "Make them with `NewWords.of`, each surface once.")
        count = self.count
        for encoder, rows in self.rows.items():
            if len(rows) != count or not bool(torch.isfinite(rows).all()):
                raise BespokeError(f"{encoder} has {len(rows)} rows for {count}, or some are no numbers.", "")

    @property
    def count(self) -> int:
        """How many rows the words have in each text encoder."""
        return sum(word.rows for word in self.words)

    @staticmethod
    def of(
        base: Base, words: Iterable[tuple[Word, Tensor | Mapping[str, Tensor]]], encoder: str = ENCODER
    ) -> "NewWords":
        """Words and the rows of each, [n d], for one text encoder, or for several by their names in files.

        They come in order, and written as tokenizers read them.

        Raises: BespokeError when not all words have rows for the same text encoders, or as many for each.
        """
        found = [(word, rows if isinstance(rows, Mapping) else {encoder: rows}) for word, rows in words]
        pairs = [(_tidy(word, len(next(iter(rows.values())))), rows) for word, rows in found]
        pairs.sort(key=lambda pair: pair[0].surface)
        names = list(pairs[0][1]) if pairs else []
        for word, rows in pairs:
            if rows.keys() != {*names} or {len(own) for own in rows.values()} != {word.rows}:
                problem = (
                    f"{word.surface!r} has not as many rows for each text encoder, or for others than other words."
                )
                raise BespokeError(problem, "Make all of them for one base.")
        whole = {name: torch.cat([rows[name].detach().float().cpu() for _, rows in pairs]) for name in names}
        return NewWords(base, tuple(word for word, _ in pairs), whole)

    def tokens(self) -> Iterator[Token]:
        """All added tokens in the order of their ids."""
        first = 0
        for word in self.words:
            for surface in word.surfaces:
                yield from (Token(surface, number, first + number) for number in range(word.rows))
            first += word.rows

    @property
    def places(self) -> Int[Tensor, " t"]:
        """The row of each added token, by the order of ids: an alias's tokens have the rows of its word."""
        return torch.tensor([token.row for token in self.tokens()], dtype=torch.long)

    def ids(self, encoder: str = ENCODER) -> dict[str, list[int]]:
        """The token ids of each surface."""
        found: dict[str, list[int]] = {}
        for number, token in enumerate(self.tokens(), self.base.readers[encoder].size):
            found.setdefault(token.surface, []).append(number)
        return found

    def of_word(self, surface: str, encoder: str = ENCODER) -> Rows:
        """The rows of one word."""
        places = [token.row for token in self.tokens() if token.surface == surface]
        return self.rows[encoder][places]

    def pairs(self, encoder: str = ENCODER) -> list[tuple[Word, Rows]]:
        """Each word with its rows: what `of` takes."""
        return [(word, self.of_word(word.surface, encoder)) for word in self.words]

    def entries(self) -> list[tuple[Word, dict[str, Rows]]]:
        """Each word with its rows for all text encoders: what `of` takes."""
        return [(word, {name: self.of_word(word.surface, name) for name in self.rows}) for word in self.words]

    def taken_from(self, text_encoder: Any, encoder: str = ENCODER) -> "NewWords":
        """The same words with the rows that a text encoder has, which may have been trained."""
        table, places = text_encoder.get_input_embeddings().weight, self.places.tolist()
        size = self.base.readers[encoder].size
        first = [size + places.index(row) for row in range(len(self.rows[encoder]))]
        return self.with_rows(table[first], encoder)

    def with_rows(self, rows: Rows, encoder: str = ENCODER) -> "NewWords":
        """The same words with other rows, such as trained ones.

        Raises: BespokeError when there are more or fewer, or some are no numbers.
        """
        return self.with_all_rows({encoder: rows})

    def with_all_rows(self, rows: Mapping[str, Rows]) -> "NewWords":
        """The same words with other rows for text encoders; those that are not named keep theirs.

        Raises: BespokeError as `with_rows`.
        """
        new = {name: own.detach().float().cpu().clone() for name, own in rows.items()}
        return replace(self, rows={**self.rows, **new})

    def fits(self, base: Base) -> None:
        """Nothing where the words were made for this base.

        Raises: BespokeError where they were not.
        """
        if other := self.base.other_parts(base, self.rows):
            problem = f"These words were made for {self.base.name}; {base.name} has another {' and '.join(other)}."
            raise BespokeError(problem, "Use them with that base, or make them anew for this one.")

    def extended(self, tokenizer: Any, encoder: str = ENCODER, *, plain: bool = False) -> Any:
        """A copy of the base's tokenizer of a text encoder that knows the words, wherever they stand as whole words.

        A word of several rows becomes so many tokens. `plain` gives them names that are found without our help,
        `word word_1 word_2`: diffusers' pipelines of 1.x, 2.x and XL put those in the word's place themselves, and T5
        knows them in small letters only.

        Raises: BespokeError when the tokenizer is another one, or has a word already.
        """
        from tokenizers import AddedToken

        tokenizer, spelt = copy.deepcopy(tokenizer), encoder == T5
        known, size = tokenizer.get_vocab(), self.base.readers[encoder].size
        if len(tokenizer) != size:
            raise BespokeError(f"The tokenizer knows {len(tokenizer)} tokens, not {size}.", "Use the base's.")
        ids = self.ids(encoder).items()
        counts = {} if plain else {surface: len(own) for surface, own in ids if len(own) > 1 or spelt}
        names = [_name(token, plain=token.surface not in counts) for token in self.tokens()]
        asked = [_name(token, plain=True) for token in self.tokens()] if spelt else names
        if taken := [name for name in asked if name in known]:
            whose = "T5's" if spelt else "the base's"
            raise BespokeError(f"{taken[0]!r} is a piece of {whose} vocabulary already.", "Write it in another way.")
        # A space before a token of T5 is its own: where spaces are no ends of words, it would be a piece.
        more = {"single_word": True, "normalized": True, "lstrip": spelt}
        tokenizer.add_tokens([AddedToken(name, **more) for name in names])
        if counts:
            _put_rows_in(tokenizer.backend_tokenizer, counts, spelt=spelt)
        found = tokenizer.convert_tokens_to_ids(names) if names else []
        assert found == list(range(size, size + len(names))), "ids follow from the order of words"
        return tokenizer

    def extend(self, text_encoder: Any, encoder: str = ENCODER) -> Any:
        """The text encoder with the words' rows below its own, in place; its own rows keep every bit.

        T5's table has more rows than its tokenizer has tokens: words take those first. A CLIP that has as many rows as
        it needs already, such as a trained one, keeps them. Where prompts end is told too: SD 1.5's configuration says
        so wrongly, which with new words would pool at the word.

        Raises: BespokeError when it is of another shape, or its format cannot hold the rows.
        Source: transformers #24650; diffusers #10754.
        """
        size, eos = self.base.readers[encoder].size, self.base.readers[encoder].eos
        mend_pooling(text_encoder, eos)
        own, places = text_encoder.get_input_embeddings().weight, self.places
        end = size + len(places)
        if not len(places) or (len(own) == end and encoder != T5):
            return text_encoder
        rows = self.rows[encoder][places].to(own)
        if len(own) < size or (len(own) > size and encoder != T5) or rows.shape[1] != own.shape[1]:
            problem = f"The text encoder has {len(own)} rows of {own.shape[1]} numbers; the words were made for"
            raise BespokeError(f"{problem} {size} of {rows.shape[1]}.", "Use them with their own base.")
        if own.device.type != "meta" and not bool(torch.isfinite(rows).all()):
            raise BespokeError(f"Some rows are too large for {own.dtype}.", "Load the text encoder in float32.")
        whole = torch.cat([own.detach()[:size], rows, own.detach()[end:]])
        table = nn.Embedding.from_pretrained(whole, freeze=not own.requires_grad)
        text_encoder.set_input_embeddings(table)
        text_encoder.config.vocab_size = len(table.weight)
        return text_encoder

    def sliced(self, text_encoder: Any, encoder: str = ENCODER) -> Any:
        """A CLIP that knows the words brought back to the base's vocabulary, in place."""
        own, size = text_encoder.get_input_embeddings().weight, self.base.readers[encoder].size
        kept = own.detach()[:size].clone()
        text_encoder.set_input_embeddings(nn.Embedding.from_pretrained(kept, freeze=not own.requires_grad))
        text_encoder.config.vocab_size = size
        return text_encoder

    def save(self, path: Path) -> None:
        """Writes words and rows as one safetensors file, atomically; equal words are equal files."""
        words = [asdict(word) for word in self.words]
        ids = {encoder: self.ids(encoder) for encoder in self.rows}
        facts = {"version": VERSIONS[-1], "base": asdict(self.base), "ids": ids, "words": words}
        text = json.dumps(facts, ensure_ascii=False, sort_keys=True)
        with atomic_file(path) as temporary:
            save_file({name: rows.contiguous() for name, rows in self.rows.items()}, temporary, {"bespoke": text})

    @staticmethod
    def read(path: Path) -> "NewWords":
        """What `save` wrote.

        Raises: BespokeError when there is no such file, it holds no words, is damaged, or of a later version.
        """
        hint = "Name a words.safetensors that bespoke wrote."
        try:
            with safe_open(path, "pt") as file:
                facts = json.loads((file.metadata() or {})["bespoke"])
                rows = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
            if facts["version"] not in VERSIONS:
                raise BespokeError(f"{path} is of version {facts['version']}.", f"This bespoke reads {VERSIONS[-1]}.")
            found = NewWords(Base.of(facts["base"]), tuple(_word(word) for word in facts["words"]), rows)
            ids = {encoder: found.ids(encoder) for encoder in rows}
        except FileNotFoundError:
            raise BespokeError(f"There are no words at {path}.", hint) from None
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            raise BespokeError(f"{path} holds no words, or is damaged.", hint) from None
        told = dict.fromkeys(ids, facts["ids"]) if facts["version"] == 1 else facts["ids"]
        if ids != told:
            raise BespokeError(f"{path} is damaged: its words and their ids do not agree.", hint)
        return found


def written(text: str) -> str:
    """Text as CLIP's tokenizers read it: composed, single spaces, small letters, each letter for itself."""
    composed = re.sub(r"[^\S\x1c-\x1f]+", " ", unicodedata.normalize("NFC", text)).strip(" ")
    return "".join(letter.lower() for letter in composed)


def stands_in(surface: str, text: str) -> bool:
    """Whether a text has the word, as a whole word."""
    return re.search(_whole(surface), written(text)) is not None


def mend_pooling(text_encoder: Any, eos: int) -> None:
    """Tells a text encoder which token ends a prompt, in its configuration and where it looks when it runs."""
    text_encoder.config.eos_token_id = eos
    for module in text_encoder.modules():
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = eos


def _whole(surface: str, *, spelt: bool = False) -> str:
    """A pattern for a surface that is no part of a longer word, nor of a token's name.

    T5 tells capitals from small letters and spaces from line breaks; where it is `spelt`, they are the same.
    """
    plain = "".join(map(_any_case, surface)) if spelt else re.sub(r"([^\w\s])", r"\\\1", surface)
    return rf"(?<!\w){plain}(?![\w{INNER}])"


def _any_case(letter: str) -> str:
    """A pattern for all that CLIP reads as this letter."""
    if letter.isspace():
        return r"\s+"
    large = {other for other in (letter.upper(), letter.title()) if other.lower() == letter and other != letter}
    plain = re.sub(r"([^\w\s])", r"\\\1", letter)
    return f"[{plain}{''.join(sorted(large))}]" if large else plain


def _put_rows_in(backend: Any, counts: Mapping[str, int], *, spelt: bool) -> None:
    """Lets a tokenizer put the names of a word's tokens in its place, in place; a longer word goes first."""
    from tokenizers import Regex, normalizers

    own = [backend.normalizer] if backend.normalizer else []

    def read(surface: str) -> str:
        return backend.normalizer.normalize_str(surface) if spelt and own else surface

    longest = sorted(counts.items(), key=lambda pair: -len(pair[0]))
    expand = [normalizers.Replace(Regex(_whole(read(s), spelt=spelt)), _row_names(s, n)) for s, n in longest]
    backend.normalizer = normalizers.Sequence([*own, *expand])


def _name(token: Token, *, plain: bool) -> str:
    if not plain:
        return f"{token.surface}{INNER}{token.number}"
    return f"{token.surface}_{token.number}" if token.number else token.surface


def _row_names(surface: str, count: int) -> str:
    return " ".join(_name(Token(surface, number, 0), plain=False) for number in range(count))


def _tidy(word: Word, rows: int) -> Word:
    """A word as a tokenizer reads it, its aliases in order, each once."""
    surface = written(word.surface)
    aliases = tuple(sorted({written(alias) for alias in word.aliases} - {surface}))
    figures = {name: float(value) for name, value in word.figures.items() if math.isfinite(value)}
    return replace(word, surface=surface, aliases=aliases, rows=rows, figures=figures)


def _word(facts: dict[str, Any]) -> Word:
    return Word(**dict(facts, aliases=tuple(facts["aliases"]), pieces=tuple(facts["pieces"])))
