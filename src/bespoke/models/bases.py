"""What new words are made for: a base's text encoders with their tokenizers, each known by marks and a size."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

ENCODER = "clip_l"
"""The text encoder of SD 1 and 2, as ComfyUI and A1111 name it in files; the second one of XL and 3.x is `clip_g`."""
T5 = "t5xxl"
"""The third one of 3.x, as ComfyUI names it; OneTrainer's files say `t5`. Words need no rows for it."""
ENCODERS = {"text_encoder": ENCODER, "text_encoder_2": "clip_g", "text_encoder_3": T5}
"""What files call the rows of each text encoder, by its folder."""
PARTS = ("tokenizer", "text_encoder")


@dataclass(frozen=True)
class Vocabulary:
    """What new words find in one text encoder of their base, and the marks that tell it from others."""

    tokenizer: str
    text_encoder: str
    size: int
    """How many tokens its tokenizer knows: the ids of new words begin here."""
    eos: int
    """The id of the token that ends a prompt."""


@dataclass(frozen=True)
class Base:
    """What new words were made for: a base model, known by the marks of its tokenizers and its text encoders."""

    name: str
    readers: Mapping[str, Vocabulary]
    """Its text encoders by what files call their rows; T5 is among them where it was asked for."""
    pipeline: str = ""
    """Its kind, by the class of its pipeline in diffusers; nothing where an older file does not say."""

    @property
    def first(self) -> Vocabulary:
        """The text encoder that every base has."""
        return self.readers[ENCODER]

    @staticmethod
    def of(facts: Mapping[str, Any]) -> "Base":
        """What a file says of a base: what `asdict` gives, or the words of files of version 1.

        There the marks of all CLIPs stand side by side, and one size is that of all.
        """
        if "readers" in facts:
            readers = {name: Vocabulary(**own) for name, own in facts["readers"].items()}
            return Base(facts["name"], readers, facts["pipeline"])
        marks = zip(*(facts[part].split("-") for part in PARTS), strict=True)
        each = [Vocabulary(tokenizer, encoder, facts["size"], facts["eos"]) for tokenizer, encoder in marks]
        return Base(facts["name"], dict(zip(ENCODERS.values(), each, strict=False)))

    def other_parts(self, base: "Base", encoders: Collection[str]) -> list[str]:
        """Which of tokenizers and text encoders another base has that are not these; T5's only if it is asked for."""
        asked = {T5} if T5 in encoders and T5 in base.readers else set[str]()
        names = ({*self.readers, *base.readers} - {T5}) | asked

        def marks(of: Base, part: str) -> dict[str, Any]:
            return {name: getattr(of.readers.get(name), part, None) for name in names}

        return [part for part in PARTS if marks(self, part) != marks(base, part)]
