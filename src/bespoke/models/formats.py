"""New words written for other programs, one textual inversion a file, and such files read as new words."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models.bases import ENCODERS, T5
from bespoke.models.load import Checkpoint
from bespoke.models.unpacking import unpickled
from bespoke.models.vocabulary import NewWords, Word
from bespoke.workspace import atomic_file

Form = Literal["diffusers", "a1111"]
NAMELESS = ("emb_params", "*", "<*>")
"""Keys that say nothing of the word: its name is the file's."""
OTHERS = {"text_encoders_0": "clip_l", "text_encoders_1": "clip_g", "t5": T5}
"""What others call the keys. Source: diffusers' advanced SDXL script, its TokenEmbeddingsHandler before v0.27;
OneTrainer's StableDiffusion3EmbeddingSaver."""
FOLDER = "embeddings"
_UNFIT = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^\.|[. ]$')


def placeholder(surface: str) -> str:
    """What calls a word in plain diffusers: `<pole-axe>`.

    diffusers looks for letters wherever they stand, so that a bare `cat` would be found in "category"; brackets are in
    no word.
    """
    return surface if surface.startswith("<") else f"<{surface.replace(' ', '-')}>"


def write_inversions(words: NewWords, folder: Path, form: Form) -> dict[str, Path]:
    """The files of all words and aliases, by what calls each in a prompt.

    `diffusers`: one key, the placeholder, for `load_textual_inversion`. `a1111`: for A1111, Forge and ComfyUI, where
    the file's name calls it: `halberd`, in ComfyUI `embedding:halberd`. A term of several words has a second file with
    hyphens there, as ComfyUI reads names up to a space. What a file's name cannot hold is `_` in it. For XL and 3.x
    keys are `clip_l`, `clip_g` and, where T5 has rows, `t5xxl` in both forms, as all programs look for.
    Raises: BespokeError when two words would be one file.
    Source: diffusers' loaders/textual_inversion.py; A1111's modules/textual_inversion; ComfyUI's comfy/sd1_clip.py and
    comfy/text_encoders/sd3_clip.py.
    """
    found: dict[str, Path] = {}
    owners: dict[Path, Word] = {}
    for word in words.words:
        for surface in word.surfaces:
            for name, key in _names(surface, form):
                path = folder / f"{_UNFIT.sub('_', name)}.safetensors"
                if owners.setdefault(path, word) is not word:
                    raise BespokeError(f"{name!r} and another word would be one file, {path.name}.", "Rename one.")
                _write(words, word, path, key)
                found[name] = path
    return found


def is_ours(path: Path) -> bool:
    """Whether a file holds new words as bespoke writes them, or is none that can be read: reading it says why."""
    try:
        with safe_open(path, "pt") as file:
            return "words" in json.loads((file.metadata() or {}).get("bespoke", "{}"))
    except (SafetensorError, ValueError):
        return False
    except OSError:
        return True


def read_inversion(path: Path, checkpoint: Checkpoint, surface: str = "", *, pickled: bool = False) -> NewWords:
    """A textual inversion made elsewhere, or by us, as new words of a checkpoint's base.

    It is called `surface` or, where that is left out, what its key says, or else its file's name. `pickled` allows a
    .pt of A1111 or kohya and a .bin of diffusers, of which only tensors are read.

    Raises: BespokeError when it is no safetensors file with one inversion, or was made for another kind of base.
    """
    hint = "Name a textual inversion in one .safetensors file. A .pt or .bin can hold programs:"
    hint += " only `bespoke words import FILE OUT --pickled` reads one, and of it only tensors."
    if pickled and path.suffix != ".safetensors":
        tensors, own = _unpickled(path), dict[str, Any]()
    else:
        tensors, own = _opened(path, hint)
    key, rows = _of_each(path, tensors, checkpoint, hint)
    name = surface or own.get("surface") or (path.stem if key in (*NAMELESS, *ENCODERS.values()) else key)
    for encoder, part in (checkpoint.rows_for | checkpoint.rows_besides).items():
        width = checkpoint.width(part)
        if encoder in rows and rows[encoder].shape[-1] != width:
            problem = f"{path.name} has rows of {rows[encoder].shape[-1]} numbers; {checkpoint.name} needs {width}."
            raise BespokeError(problem, "It was made for another kind of base.")
    told = {field: own[field] for field in ("gloss", "figures") if field in own}
    pieces = tuple(own.get("pieces", ()))
    word = Word(name, pieces=pieces, method=own.get("method", "textual inversion"), **told)
    return NewWords.of(checkpoint.base_with(*rows), [(word, rows)])


def _opened(path: Path, hint: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, and what it says of its word where it is ours."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dictionary
            return tensors, json.loads((file.metadata() or {}).get("bespoke", "{}")).get("word", {})
    except (SafetensorError, OSError, ValueError):
        raise BespokeError(f"{path} gives no textual inversion.", hint) from None


def _unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors of an inversion in a .pt or .bin. Source: A1111's modules/textual_inversion (`string_to_param`)."""
    content = unpickled(path)
    found: Any = content.get("string_to_param", content)
    return {key: value.detach() for key, value in found.items() if isinstance(value, Tensor)}


def write_plain(checkpoint: Checkpoint, folder: Path) -> None:
    """A whole model folder with the base's vocabulary, for programs that know no other; its words beside it.

    They are in `embeddings/`, in A1111's form. Rows of text encoders that were trained with the words are their own.
    """
    words, bare = checkpoint.new_words, replace(checkpoint, words=None)
    folder.mkdir(parents=True, exist_ok=True)
    if words:
        encoders = {name: (part, checkpoint.network(part)) for name, part in checkpoint.rows_for.items()}
        for name, (_, encoder) in encoders.items():
            words = words.taken_from(encoder, name) if words.words else words
        write_inversions(words, folder / FOLDER, "a1111")
        for part, encoder in encoders.values():
            if checkpoint.part(part) != checkpoint.folder / part:
                checkpoint.without_words(encoder, part).save_pretrained(folder / part)
    bare.complete(folder)


def _names(surface: str, form: Form) -> Iterator[tuple[str, str]]:
    """What calls a surface, and the key in its file."""
    if form == "diffusers":
        yield placeholder(surface), placeholder(surface)
        return
    for name in dict.fromkeys((surface, surface.replace(" ", "-"))):
        yield name, NAMELESS[0]


def _write(words: NewWords, word: Word, path: Path, key: str) -> None:
    """One file. Where a model has two text encoders, keys are their names, which all programs look for."""
    several = len(words.rows) > 1
    content = {encoder if several else key: words.of_word(word.surface, encoder) for encoder in words.rows}
    facts = {"base": asdict(words.base), "word": asdict(word)}
    metadata = {"bespoke": json.dumps(facts, ensure_ascii=False, sort_keys=True)}
    with atomic_file(path) as temporary:
        save_file({name: rows.contiguous() for name, rows in content.items()}, temporary, metadata)


def _of_each(
    path: Path, tensors: dict[str, Tensor], checkpoint: Checkpoint, hint: str
) -> tuple[str, dict[str, Tensor]]:
    """The key of the one inversion of a file, and its rows [n d] for each of a checkpoint's text encoders."""
    wanted, known = list(checkpoint.rows_for), {"clip_l", "clip_g", "clip_h", T5}
    tensors = {OTHERS.get(key, key): rows for key, rows in tensors.items()}
    besides = [T5] if checkpoint.family.optional and T5 in tensors else []
    if len(tensors) > 1 and set(tensors) <= known and len(wanted) == 1:
        names = " and ".join(sorted(tensors))
        raise BespokeError(f"{path.name} is for a model with several text encoders: {names}.", "Use it with SDXL.")
    if len(wanted) > 1 and set(tensors) != {*wanted, *besides}:
        problem = f"{path.name} has rows for {' and '.join(sorted(tensors)) or 'nothing'}; {checkpoint.name} has"
        hint = f"Name one made for {checkpoint.family.name}."
        raise BespokeError(f"{problem} {len(wanted)} text encoders, {' and '.join(wanted)}.", hint)
    if len(wanted) == 1 and len(tensors) != 1:
        raise BespokeError(f"{path.name} holds {len(tensors)} tensors, not one inversion.", hint)
    if not all(rows.is_floating_point() and rows.ndim in (1, 2) for rows in tensors.values()):
        raise BespokeError(f"{path.name} holds {len(tensors)} tensors, not one inversion.", hint)
    key = next(iter(tensors))
    wanted += besides if checkpoint.rows_besides else []  # without T5 nothing reads its rows
    found = {encoder: tensors[encoder if len(wanted) > 1 else key] for encoder in wanted}
    found = {encoder: rows.reshape(-1, rows.shape[-1]) for encoder, rows in found.items()}
    if len({len(rows) for rows in found.values()}) > 1:
        raise BespokeError(f"{path.name} has not as many rows for each text encoder.", hint)
    return key, found
