"""Models' names, or folders of pictures, turned into pairs that people rate without knowing whose they are."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from bespoke.data.reading import SUFFIXES, Unreadable, read
from bespoke.errors import BespokeError
from bespoke.feedback import FILE, Comparison, Item, Ratings
from bespoke.feedback.results import Results, results, to_csv
from bespoke.pipeline.naming import Named, named
from bespoke.pipeline.pictures import drawn, file_name, home
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.sample import alike, settled
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request
from bespoke.workspace import write_json, write_text

ENDINGS = frozenset(ending for endings in SUFFIXES.values() for ending in endings)
GRID = "grid"
"""What `bespoke sample` lays beside its pictures; it is none of them."""
PADDING = (128, 128, 128)
"""What surrounds a picture whose shape is not that of the others."""
LARGEST = 2048
"""The longest side, in pixels, of what is shown."""
Size = tuple[int, int]


@dataclass(frozen=True)
class Blind:
    """Pairs of pictures to be rated, and the ratings so far."""

    folder: Path
    comparison: Comparison
    ratings: Ratings
    files: Mapping[str, tuple[Path, ...]]
    """Each model's pictures, in the order of the items."""
    sizes: tuple[Size, ...]
    """Width and height, in pixels, in which all pictures of an item are shown."""
    notes: tuple[str, ...] = ()

    def picture(self, item: int, model: str) -> bytes:
        """A picture as raters get it: a PNG of pixels alone, as large in pixels and in bytes as its rivals.

        Raises:
            BespokeError: it cannot be read any more.
        """
        size, (image, _) = self.sizes[item], _opened(self.files[model][item])
        factor = min(size[0] / image.width, size[1] / image.height)
        if factor != 1:
            scaled = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
            image = image.resize(scaled, Image.Resampling.LANCZOS)
        canvas = Image.new("RGB", size, PADDING)
        canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
        content = io.BytesIO()
        # How well a picture can be compressed would tell a smooth one from a rich one.
        canvas.save(content, format="PNG", compress_level=0)
        return content.getvalue()

    def results(self, *, masked: bool = False) -> Results:
        """What the ratings say so far; `masked` under names that do not tell which model is which."""
        names = self.comparison.masks() if masked else None
        return results(self.comparison, self.ratings.all(), names)


@dataclass(frozen=True)
class _Drawing:
    """What models that are no folders of pictures draw."""

    sources: Mapping[str, Named]
    requests: Sequence[Request]
    settings: Sample
    root: Path

    def prompts(self) -> dict[str, str]:
        """The prompt of each picture, by its name."""
        return {Path(file_name(request)).stem: request.prompt for request in self.requests}

    def files(self, model: str) -> dict[str, Path]:
        """A model's pictures, by their names."""
        return {Path(name).stem: self._homes[model] / name for name in map(file_name, self.requests)}

    def carry_out(self, report: Reporter) -> None:
        """Draws what is not there."""
        for model, source in self.sources.items():
            drawn(source, self.requests, self._homes[model], self.settings, report, f"draw with {model}")

    @cached_property
    def _homes(self) -> dict[str, Path]:
        """Each model's folder, found once: all weights are hashed for it."""
        return {model: home(source, self.settings, self.root) for model, source in self.sources.items()}


def blind(
    models: Sequence[str],
    prompts: Sequence[str] | None = None,
    *,
    out: str | Path = "compared",
    n: int = 1,
    seed: int = 0,
    repeated: float = 0.2,
    report: Reporter = silent,
) -> Blind:
    """The pairs of pictures of all models, drawn in `out` where a model is no folder of pictures, and their ratings.

    All models draw the same prompts - without any, those of the first run's objective - with seeds `seed`, `seed + 1`,
    …, and the settings of the first run; what was drawn before is not drawn again. Of folders, `prompts` are those of
    their files in the order of names; without any, the files' own, where they hold them.

    Raises:
        BespokeError: a model or folder does not exist, folders hold other names or unreadable pictures, there is
            nothing to draw, or `out` holds the ratings of another comparison.
    """
    _checked(models, n, repeated)
    given = {model: found for model in models if (found := _pictures(model)) is not None}
    drawing = _drawing([model for model in models if model not in given], prompts, Path(out), n, seed)
    files = {model: given.get(model) or drawing.files(model) for model in models}
    said = drawing.prompts() if drawing.sources else _prompts(given[models[0]], prompts)
    _matching(files)
    items = tuple(Item(name, said[name], ()) for name in sorted(said))
    ratings = Ratings(Path(out) / FILE)
    ratings.check(Comparison(tuple(models), items, seed, repeated))
    drawing.carry_out(report)
    ordered = {model: tuple(files[model][item.name] for item in items) for model in models}
    pixels, sizes = _looked_at(ordered, report)
    items = tuple(Item(item.name, item.prompt, tuple(row)) for item, row in zip(items, pixels, strict=True))
    comparison = Comparison(tuple(models), items, seed, repeated)
    ratings.begin(comparison)
    shown = tuple(_common(row) for row in sizes)
    return Blind(Path(out), comparison, ratings, ordered, shown, _shapes(models, sizes))


def tally(out: str | Path = "compared", models: Sequence[str] = ()) -> Results:
    """What the ratings in `out` say; they are also written there as `ratings.csv` and `results.json`.

    Raises:
        BespokeError: there are none, or they are of other models than those that are named.
    """
    folder = Path(out)
    if not (folder / FILE).is_file():
        raise BespokeError(f"There are no ratings in {folder}.", "Rate first: bespoke compare A B --out DIR")
    ratings = Ratings(folder / FILE)
    try:
        comparison, given = ratings.comparison(), ratings.all()
    finally:
        ratings.close()
    if comparison is None:
        raise BespokeError(f"There are no ratings in {folder}.", "Rate first: bespoke compare A B --out DIR")
    if models and tuple(models) != comparison.models:
        hint = "Name them so, or leave the models out."
        raise BespokeError(f"The ratings in {folder} are of {', '.join(comparison.models)}.", hint)
    found = results(comparison, given)
    write_text(folder / "ratings.csv", to_csv(comparison, given))
    write_json(folder / "results.json", found.to_json())
    return found


def _checked(models: Sequence[str], n: int, repeated: float) -> None:
    if len(set(models)) < 2 or len(set(models)) < len(models):
        raise BespokeError("A comparison needs two models or more, each once.", "bespoke compare pico RUN")
    if n < 1 or not 0 <= repeated <= 1:
        hint = "Give -n 1 or more, and --repeat from 0 to 1."
        raise BespokeError(f"{n} pictures of a prompt, {repeated:g} of them twice: that cannot be shown.", hint)


def _pictures(model: str) -> dict[str, Path] | None:
    """A folder's pictures by their names without endings; nothing for what is no folder of pictures."""
    folder = Path(model)
    models = (folder / "recipe.toml", folder / "model_index.json")
    if model == "pico" or not folder.is_dir() or any(mark.is_file() for mark in models):
        return None
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in ENDINGS and file.stem != GRID]
    found = {file.stem: file for file in files}
    if len(found) < len(files):
        raise BespokeError(f"{folder} has several pictures of one name.", "Leave one for each name.")
    if not found:
        hint = "Name a folder of pictures, a run, pico, or a model's folder or hub id."
        raise BespokeError(f"{folder} holds neither pictures nor a model.", hint)
    return found


def _drawing(models: Sequence[str], prompts: Sequence[str] | None, out: Path, n: int, seed: int) -> _Drawing:
    """What is to be drawn by the models that have no pictures yet: as the first run's recipe says."""
    sources = {model: named(model) for model in models}
    if not sources:
        return _Drawing({}, (), Sample(), out)
    of_runs = [source for source in sources.values() if source.recipe]
    first = [*of_runs, *sources.values()][0]
    requests = [Request(prompt, seed + k) for prompt in _wanted(of_runs, prompts) for k in range(n)]
    return _Drawing(sources, tuple(requests), settled(alike(first.settings), first.checkpoint), out / "pictures")


def _wanted(of_runs: Sequence[Named], prompts: Sequence[str] | None) -> list[str]:
    """The prompts that are given, or those of the first recipe that names some; each once."""
    objectives = [source.recipe.objective for source in of_runs if source.recipe]
    of_recipes = [(*objective.change_prompts, *objective.keep_prompts) for objective in objectives]
    wanted = prompts if prompts is not None else next((found for found in of_recipes if found), ())
    if not wanted:
        hint = "Give a text file, one prompt a line: --prompts FILE"
        raise BespokeError("There are no prompts: none are given, and no run's recipe names any.", hint)
    return list(dict.fromkeys(wanted))


def _prompts(files: Mapping[str, Path], prompts: Sequence[str] | None) -> dict[str, str]:
    """The prompt of each picture of a folder, by its name."""
    if prompts is None:
        return {name: _stamped(file) for name, file in files.items()}
    if len(prompts) != len(files):
        hint = "Give one line for each picture, in the order of their names, or no prompts."
        raise BespokeError(f"There are {len(prompts)} prompts for {len(files)} pictures.", hint)
    return dict(zip(sorted(files), prompts, strict=True))


def _stamped(file: Path) -> str:
    """The prompt that a PNG holds in AUTOMATIC1111's form, or nothing."""
    try:
        with Image.open(file) as picture:
            return str(picture.info.get("parameters", "")).split("\n")[0].strip()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


def _matching(files: Mapping[str, Mapping[str, Path]]) -> None:
    first, *others = files
    for other in others:
        differing = sorted(set(files[first]) ^ set(files[other]))
        if differing:
            owner = first if differing[0] in files[first] else other
            raise BespokeError(
                f"{first} and {other} have pictures of different names: {differing[0]} is in {owner} only"
                f"{f', and {len(differing) - 1} more differ' if len(differing) > 1 else ''}.",
                "Give pictures of one prompt the same name in all folders.",
            )


def _looked_at(files: Mapping[str, Sequence[Path]], report: Reporter) -> tuple[list[list[str]], list[list[Size]]]:
    """The hashes and sizes of the pictures of each item, one for each model."""
    pixels: list[list[str]] = []
    sizes: list[list[Size]] = []
    rows = list(zip(*files.values(), strict=True))
    for number, row in enumerate(rows):
        opened = [_opened(file) for file in row]
        pixels.append([digest for _, digest in opened])
        sizes.append([image.size for image, _ in opened])
        report("look at pictures", number + 1, len(rows))
    return pixels, sizes


def _opened(file: Path) -> tuple[Image.Image, str]:
    """A picture and the hash of its pixels."""
    try:
        reading = read(file)
    except Unreadable as error:
        hint = "Replace it, or remove it from all folders."
        raise BespokeError(f"{file} cannot be shown: {error.detail}.", hint) from None
    return reading.image, reading.pixels


def _common(sizes: Sequence[Size]) -> Size:
    """The size that holds all pictures of an item, each magnified until it fills one of its sides."""
    width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
    factor = min(1.0, LARGEST / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _shapes(models: Sequence[str], sizes: Sequence[Sequence[Size]]) -> tuple[str, ...]:
    """A warning where the size of pictures could tell whose they are."""
    differing = next((row for row in sizes if len(set(row)) > 1), None)
    if differing is None:
        return ()
    told = ", ".join(f"{model} {w} × {h}" for model, (w, h) in zip(models, differing, strict=True))
    return (f"The pictures differ in size ({told}): they are shown equally large, but sharpness may tell them apart.",)
