"""A model's name and prompts turned into PNG files and a grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.encoding import lost, too_long
from bespoke.errors import BespokeError
from bespoke.models import Checkpoint
from bespoke.pipeline.naming import named
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.recipe.derive import guidance
from bespoke.recipe.tree import Sample
from bespoke.sampling import Drawn, Request, draw, grid, save_png
from bespoke.text import checked, escaped
from bespoke.workspace import atomic_file


@dataclass(frozen=True)
class Sampled:
    """Pictures on disk, in the order of the prompts, and the grid of them all."""

    pictures: tuple[Path, ...]
    grid: Path


def sample(
    model: str,
    prompts: Sequence[str],
    *,
    out: str | Path = "drawn",
    n: int = 1,
    seed: int | None = None,
    settings: Sample | None = None,
    overrides: Sequence[str] = (),
    safety_checker: bool = True,
    report: Reporter = silent,
) -> Sampled:
    """`n` pictures of each prompt by the model, with seeds `seed`, `seed + 1`, …, one row of the grid for each prompt.

    A run draws as its recipe says, unless `settings` say something else; `overrides` change single ones of them.

    Raises: BespokeError when there is no such model or setting, or no prompt.
    """
    if not prompts or n < 1:
        raise BespokeError("There is nothing to draw.", 'Give at least one prompt: bespoke sample pico "a red apple"')
    source = named(model)
    settings = settled(settings or source.settings, source.checkpoint, overrides)
    first = settings.seed if seed is None else seed
    requests = [Request(prompt, first + k) for prompt in prompts for k in range(n)]
    read_all(source.checkpoint, (*prompts, settings.negative_prompt), settings, report)
    folder = Path(out)
    pipeline = source.pipeline(safety_checker=safety_checker)
    drawn = write(pipeline, requests, folder, settings, source.name, report)
    sheet = folder / "grid.png"
    with atomic_file(sheet) as temporary:
        grid([d.picture for d in drawn], n if n > 1 else min(6, len(drawn))).save(temporary, format="PNG")
    return Sampled(tuple(folder / file_name(k, r) for k, r in enumerate(requests)), sheet)


def read_all(checkpoint: Checkpoint, prompts: Sequence[str], settings: Sample, report: Reporter = silent) -> None:
    """Reads prompts that a person typed, and tells of those that one window does not hold.

    Raises: BespokeError when something in one cannot have been meant.
    """
    if settings.brackets == "letters":
        prompts = [escaped(prompt) for prompt in prompts]
    for prompt in prompts:
        checked(prompt)
    tokenizer = checkpoint.tokenizer()
    if long := too_long(tokenizer, list(dict.fromkeys(prompts))):
        note = f"{len(long)} in windows of 75 tokens; {lost(tokenizer, long[0])}"
        report("read prompts", len(prompts), len(prompts), note)


def settled(settings: Sample, checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> Sample:
    """The settings with nothing left open, for a model, after `overrides` such as `sample.guidance_scale=3`.

    Raises: BespokeError when an override is wrong, or changes what has nothing to do with drawing.
    """
    if overrides:
        content = recipes.put({"sample": settings.model_dump(exclude_none=True)}, *overrides)
        if other := [override for override in overrides if not override.strip().startswith("sample.")]:
            known = ", ".join(Sample.model_fields)
            raise BespokeError(f"--set {other[0]} does not change how pictures are drawn.", f"In [sample]: {known}.")
        settings = recipes.parse(content, "--set").sample
    if settings.guidance_scale is not None:
        return settings
    return settings.model_copy(update={"guidance_scale": guidance(checkpoint.resolution)[0]})


def write(
    pipeline: Any,
    requests: Sequence[Request],
    folder: Path,
    settings: Sample,
    model: str,
    report: Reporter,
    stage: str = "draw",
) -> list[Drawn]:
    """The pictures of the requests, each written as soon as it is drawn."""
    drawn: list[Drawn] = []
    report(stage, 0, len(requests))
    for number, one in enumerate(draw(pipeline, requests, settings)):
        save_png(one, folder / file_name(number, one.request), settings, model)
        drawn.append(one)
        report(stage, number + 1, len(requests), _blacked_out(drawn))
    return drawn


def _blacked_out(drawn: Sequence[Drawn]) -> str:
    count = sum(one.flagged for one in drawn)
    return f"{count} made black by the model's safety checker" if count else ""


def file_name(number: int, request: Request) -> str:
    """The file of the `number`-th request."""
    return f"{number:03d}-seed{request.seed}.png"


def read_prompts(file: Path) -> list[str]:
    """The prompts in a text file, one a line; empty lines and lines that begin with # are left out.

    Raises: BespokeError when the file cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BespokeError(
            f"The prompts in {file} cannot be read: {error}", "Give a text file, one prompt a line."
        ) from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
