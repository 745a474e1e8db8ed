"""New words turned into files that other programs read."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bespoke.errors import BespokeError
from bespoke.models import NewWords
from bespoke.models.bases import T5
from bespoke.models.formats import Form, write_inversions
from bespoke.models.vocabulary import FILE
from bespoke.pipeline.fetching import checkpoint_of
from bespoke.pipeline.vocabulary import FOLDER
from bespoke.workspace import check_new

MODEL = "model"
FORMS = (*get_args(Form), MODEL)


@dataclass(frozen=True)
class ExportedWords:
    """What was written for another program, and how it is used there."""

    folder: Path
    form: str
    files: dict[str, Path]
    """The file of each word and alias, by what calls it in a prompt; none for a whole model."""
    words: tuple[str, ...]
    """What can be written in prompts."""
    how: tuple[str, ...]
    """What goes where, in sentences."""


def export_words(source: str | Path, out: str | Path, form: str = "a1111", *, base: str = "") -> ExportedWords:
    """New words as textual inversions, `diffusers` or `a1111` (Forge and ComfyUI, too), or with their base as a model.

    `source` is a words.safetensors, or a run, project or dataset that has one; `base` is where the base model is now,
    if its place has changed.

    Raises: BespokeError when there are no words, no such form, `out` is there already, or the base is another one.
    """
    file, folder = _file(Path(source)), Path(out)
    if form not in FORMS:
        raise BespokeError(f"There is no form {form!r}.", f"Known are {', '.join(FORMS)}.")
    check_new(folder, "folder")
    words = NewWords.read(file)
    if form == "diffusers" and _three(words):
        problem = "diffusers' pipelines of Stable Diffusion 3 have no load_textual_inversion."
        raise BespokeError(problem, "Use --as model, a whole folder that they read, or a1111, files for ComfyUI.")
    surfaces = tuple(surface for word in words.words for surface in word.surfaces)
    if form == MODEL:
        checkpoint = checkpoint_of(base or words.base.name, download=False).with_words(file)
        folder.mkdir(parents=True)
        checkpoint.complete(folder)
        return ExportedWords(folder, form, {}, surfaces, _how(form, folder, words, {}))
    files = write_inversions(words, folder, "diffusers" if form == "diffusers" else "a1111")
    return ExportedWords(folder, form, files, surfaces, _how(form, folder, words, files))


def _file(source: Path) -> Path:
    """The words that a path means."""
    if source.is_file():
        return source
    places = (source / FILE, source / FOLDER / FILE, source.resolve().parent / FOLDER / FILE)
    found = next((place for place in places if place.is_file()), None)
    if found is None or not source.is_dir():
        raise BespokeError(f"There are no new words at {source}.", "Build them: bespoke words build DATASET")
    return found


def _three(words: NewWords) -> bool:
    """Whether words are known to be Stable Diffusion 3's; older files do not say."""
    return words.base.pipeline.startswith("StableDiffusion3") or T5 in words.rows


def _how(form: str, folder: Path, words: NewWords, files: dict[str, Path]) -> tuple[str, ...]:
    name, several = next(iter(files), ""), len(words.rows) > 1
    if form == MODEL:
        kind = words.base.pipeline or ("StableDiffusionXLPipeline" if several else "StableDiffusionPipeline")
        load, word = f'{kind}.from_pretrained("{folder.as_posix()}")', words.words[0]
        # Other pipelines put the names of a word's further rows in its place themselves.
        names = [word.surface, *(f"{word.surface}_{n}" for n in range(1, word.rows if _three(words) else 1))]
        return (
            f"diffusers: {load}; write “{' '.join(names)}” in prompts.",
            "A1111, Forge and ComfyUI cannot read it: give them the words alone, --as a1111.",
        )
    if form == "diffusers" and several:
        file = files[name].as_posix()
        first, second = (
            f'pipe.load_textual_inversion(rows["{key}"], token="{name}", text_encoder=pipe.text_encoder{end}, '
            f"tokenizer=pipe.tokenizer{end})"
            for key, end in (("clip_l", ""), ("clip_g", "_2"))
        )
        load = f'rows = safetensors.torch.load_file("{file}")'
        return (f"diffusers: {load}, then {first} and {second}; write “{name}” in prompts.",)
    if form == "diffusers":
        file = files[name].as_posix()
        return (f'diffusers: pipe.load_textual_inversion("{file}"), one call a file; write “{name}” in prompts.',)
    # ComfyUI reads a name up to a space: a term of several words has a second file, with hyphens.
    comfy = f"ComfyUI: put them into models/embeddings/; write “embedding:{name.replace(' ', '-')}” in prompts."
    if _three(words):
        return (comfy,)
    return (
        f"A1111 and Forge: put the files into embeddings/; write “{name}” in prompts.",
        comfy,
    )
