"""A checkpoint's folder turned into what reads prompts: tokenizers and text encoders, and the new words they know."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.bases import ENCODERS, T5, Base, Vocabulary
from bespoke.models.conditions import joint_width, takes_summary
from bespoke.models.families import T5_TOKENS
from bespoke.models.parts import Parts
from bespoke.models.unpacking import left_out
from bespoke.models.vocabulary import NewWords
from bespoke.workspace import remembered


@dataclass(frozen=True)
class Readers(Parts):
    """The parts of a checkpoint, of which those that read prompts know its new words."""

    @property
    def new_words(self) -> NewWords | None:
        """The new words, if there are any."""
        return NewWords.read(self.words) if self.words else None

    @property
    def base(self) -> Base:
        """What new words are made for: the model as it is in its folder, untrained; without T5."""
        return self.base_with()

    def base_with(self, *encoders: str) -> Base:
        """The same; with T5, whose mark is that of many gigabytes, where it is among `encoders` and there."""
        plain = replace(self, trained=None, words=None)
        asked = self.rows_for | {name: part for name, part in self.rows_besides.items() if name in encoders}
        pairs = {encoder: tokenizer for tokenizer, encoder in self.reading}
        found = {name: plain._vocabulary(pairs[part], part) for name, part in asked.items()}  # noqa: SLF001 - its own
        return Base(self.name, found, self.family.pipeline)

    def _vocabulary(self, tokenizer: str, encoder: str) -> Vocabulary:
        words = self.tokenizer(tokenizer)
        marks = self.fingerprint(tokenizer), self.fingerprint(encoder)
        return Vocabulary(*marks, size=len(words), eos=int(words.eos_token_id))

    def tokenizer(self, part: str = "tokenizer") -> Any:
        """A tokenizer; of several, the first."""
        import transformers

        kind = transformers.CLIPTokenizer if part == "tokenizer" else getattr(transformers, self._index[part][1])
        # Training changes no tokenizer; a model it wrote has one that knows the words already.
        tokenizer = kind.from_pretrained(self.folder / part if self.words else self.part(part))
        words = self.new_words if part in self.worded else None
        return words.extended(tokenizer, self.name_of(part)) if words else tokenizer

    def tokenizers(self) -> list[Any]:
        """The tokenizers of the text encoders that can be trained; more than one in some families."""
        return [self.tokenizer(tokenizer) for tokenizer, _ in self._learning]

    def text_encoder(self) -> Any:
        """The frozen text encoder, in float32; of several, the first."""
        return self.network("text_encoder")

    def network(self, part: str, dtype: torch.dtype = torch.float32) -> Any:
        """One frozen network, in a number format; a text encoder knows the new words."""
        network = super().network(part, dtype)
        words = self.new_words if part in self.worded else None
        return words.extend(network, ENCODERS[part]) if words else network

    def without_words(self, network: Any, part: str) -> Any:
        """A text encoder of its own brought back to the base's vocabulary, in place."""
        words = self.new_words if part in self.worded else None
        if words is None:
            return network
        if part not in self.family.optional:
            return words.sliced(network, ENCODERS[part])
        own = replace(self, trained=None).table(part)  # T5 is not trained, but words took rows of its table
        network.set_input_embeddings(nn.Embedding.from_pretrained(own.to(network.dtype)))
        network.config.vocab_size = len(own)
        return network

    def width(self, part: str) -> int:
        """How many numbers a row of a text encoder has."""
        config = self.config(part)
        return int(config["hidden_size"] if "hidden_size" in config else config["d_model"])

    def table(self, part: str) -> Tensor:
        """The rows of a text encoder's own tokens, [v d], float32, of which nothing else is read.

        Raises: BespokeError when its weights are not in safetensors.
        """
        for file in sorted(self.part(part).glob("*.safetensors")):
            with safe_open(file, "pt") as content:
                for key in content.keys():  # noqa: SIM118 - it is no dictionary
                    if key.endswith(("token_embedding.weight", "shared.weight", "embed_tokens.weight")):
                        return content.get_tensor(key).float()
        raise BespokeError(f"{self.part(part)} has no safetensors with its tokens' rows.", "Copy the model again.")

    def readers(self) -> list[tuple[Any, Any]]:
        """The tokenizers with their frozen text encoders, in float32; more than one in some families."""
        return [(self.tokenizer(tokenizer), self.network(encoder)) for tokenizer, encoder in self.reading]

    def measure(self) -> Any:
        """The tokenizer that says whether a prompt is too long: of several that of the text encoder that reads most."""
        last = self.reading[-1][0]
        return self.tokenizer(last if self.joint_width and last in self.family.optional else "tokenizer")

    @property
    def reading(self) -> tuple[tuple[str, str], ...]:
        """The folders of the tokenizers and text encoders that it has, of all that its family knows."""
        there, lacked = (pair for pair in self.family.readers if self.part(pair[1]).is_dir()), self.lacked
        return tuple(pair for pair in there if pair[1] not in lacked)

    @property
    def lacked(self) -> tuple[str, ...]:
        """The folders that its family knows and it does without: one is missing, or its index leaves it out."""
        index, those = self._index, self.family.optional
        there = all((index.get(part) or [None])[0] and self.part(part).is_dir() for part in those)
        return () if there else those

    @property
    def unread(self) -> str:
        """What the one file that it came in holds and it does without, in words; empty where it has all of it."""
        if not (lost := left_out(self.folder)):
            return ""
        hint = "bespoke models import FILE FOLDER --config MODEL takes it in"
        return f"{' and '.join(lost)} of the file is left out, for its vocabulary is not in it: {hint}"

    @property
    def rows_for(self) -> dict[str, str]:
        """The folders of the text encoders that must know new words, by what files call their rows: CLIPs."""
        return {ENCODERS[encoder]: encoder for _, encoder in self._learning}

    @property
    def rows_besides(self) -> dict[str, str]:
        """The same of those that may know new words or read them in their own pieces: T5, where there is one."""
        return {ENCODERS[encoder]: encoder for _, encoder in self.reading if encoder in self.family.optional}

    def t5(self) -> tuple[str, str]:
        """The folders of T5's tokenizer and of T5, for which words.t5 asks.

        Raises: BespokeError when it has none.
        """
        found = [pair for pair in self.reading if pair[1] in self.family.optional]
        if not found:
            problem = f"words.t5 is set, and {self.name} has no T5."
            raise BespokeError(problem, "Take words.t5 out of the recipe, or name a Stable Diffusion 3 with T5.")
        return found[0]

    @property
    def worded(self) -> tuple[str, ...]:
        """The folders of the tokenizers and text encoders that know new words: of T5 if it has rows for them."""
        words = self.new_words
        besides = () if words is None or T5 not in words.rows else self.rows_besides.values()
        pairs = [pair for pair in self.reading if pair in self._learning or pair[1] in besides]
        return tuple(part for pair in pairs for part in pair)

    def name_of(self, part: str) -> str:
        """What files call the rows for which a tokenizer, or a text encoder, stands; each by its folder."""
        return next(ENCODERS[pair[1]] for pair in self.family.readers if part in pair)

    @property
    def _learning(self) -> tuple[tuple[str, str], ...]:
        """The folders of the text encoders that can be trained as a whole, with their tokenizers."""
        return tuple(pair for pair in self.reading if pair[1] not in self.family.optional)

    @property
    def empty_is_zero(self) -> bool:
        """Whether the states of an empty prompt are zeros, as the model learnt to be guided away from."""
        return bool(self._index.get("force_zeros_for_empty_prompt", False))

    @property
    def summarised(self) -> bool:
        """Whether the last row of a text's states is a summary of it."""
        return takes_summary(self.config(self.family.denoiser))

    @property
    def joint_width(self) -> int:
        """The width of the states that a transformer attends to together with a picture; 0 for a UNet."""
        return joint_width(self.config(self.family.denoiser))

    @property
    def windowed(self) -> bool:
        """Whether longer prompts are read in several windows."""
        return not self.joint_width

    @property
    def text_shape(self) -> tuple[int, int]:
        """How many tokens a caption has, and how many features each of its states: those of all text encoders.

        A summary is a row more.
        """
        texts = [self.config(encoder) for _, encoder in self.family.readers[:2]]
        tokens = int(texts[0]["max_position_embeddings"])
        if width := self.joint_width:
            return tokens + T5_TOKENS, width
        return tokens, sum(int(text["hidden_size"]) for text in texts)

    def fingerprint(self, part: str, digest: Callable[[Path], str] = remembered) -> str:
        """A mark of one part: equal exactly when its settings and weights are, and the new words it knows."""
        mark = super().fingerprint(part, digest)
        if not self.words or part not in self.worded:
            return mark
        return hashlib.sha256(f"{mark} {digest(self.words)}".encode()).hexdigest()[:16]
