"""A model's name and prompts turned into picture files and a grid."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.encoding import told_long
from bespoke.errors import BespokeError
from bespoke.hardware import machine
from bespoke.models import Checkpoint
from bespoke.models.compiled import Compiled
from bespoke.models.wearing import Wardrobe, worked_in
from bespoke.pipeline.asked import Asked, adapter_at, asked, lists_in, opened, said_in
from bespoke.pipeline.fetching import path_of
from bespoke.pipeline.inversions import knowing
from bespoke.pipeline.naming import named
from bespoke.pipeline.previews import Previews
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.warm import HERE
from bespoke.recipe.derive import SMALL, guidance
from bespoke.recipe.schedulers import scheduler_name
from bespoke.recipe.tree import Sample
from bespoke.sampling import Drawn, Request, draw, grid, made, save_picture
from bespoke.sampling.preview import Watch
from bespoke.sampling.ways import check
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
    image: str | Path | None = None,
    mask: str | Path | None = None,
    wildcards: str | Path | None = None,
    loras: str | Path = ".",
    words: Sequence[str] = (),
    preview: bool = False,
    safety_checker: bool = True,
    report: Reporter = silent,
) -> Sampled:
    """`n` pictures of each prompt by the model, with seeds `seed`, `seed + 1`, …, one row of the grid for each prompt.

    A run draws as its recipe says, unless `settings` say something else; `overrides` change single ones of them.
    Pictures may begin with an `image`, of which a `mask` leaves all but what is white as it is. Prompts may hold
    choices, `{red|blue} __place__`, with lists in the folder `wildcards`, and call adapters, `<lora:style:0.8>`, that
    lie below the folder `loras`. `words` are files of new words, or textual inversions of any program, that the model
    is to know. With `preview`, `preview.png` in `out` shows what is being drawn. The model stays in memory for the next
    call.

    Raises: BespokeError when there is no such model, setting, picture, list or adapter, or no prompt.
    """
    if not prompts or n < 1:
        raise BespokeError("There is nothing to draw.", 'Give at least one prompt: bespoke sample pico "a red apple"')
    source = named(model)
    files = [path_of(file, Path()) for file in words]
    source = replace(source, checkpoint=knowing(source.checkpoint, files))
    settings = settled(settings or source.settings, source.checkpoint, overrides)
    first = settings.seed if seed is None else seed
    begun = opened(*(Path(file) if file else None for file in (image, mask)))
    lists = lists_in(Path(wildcards) if wildcards else None)
    wanted = asked(prompts, range(first, first + n), lists, Path(loras), *begun)
    read_all(source.checkpoint, (*(one.request.prompt for one in wanted), settings.negative_prompt), settings, report)
    folder = Path(out)
    with HERE.lent(source, settings, safety_checker=safety_checker) as pipeline:
        drawn = _drawn(pipeline, source.name, wanted, folder, settings, Path(loras), report, preview=preview)
    sheet = folder / "grid.png"
    with atomic_file(sheet) as temporary:
        grid([d.picture for d in drawn], n if n > 1 else min(6, len(drawn))).save(temporary, format="PNG")
    return Sampled(tuple(folder / file_name(k, one.request, settings.format) for k, one in enumerate(wanted)), sheet)


def sample_again(
    picture: str | Path, model: str = "", *, out: str | Path = "drawn", overrides: Sequence[str] = (),
    image: str | Path | None = None, mask: str | Path | None = None, loras: str | Path = ".", words: Sequence[str] = (),
    preview: bool = False, safety_checker: bool = True, report: Reporter = silent,
) -> Sampled:  # fmt: skip
    """The picture in a file drawn again, as the file says it was made, or by another `model` or with `overrides`.

    Raises: BespokeError when it does not say so, or what it was made with is not there any more.
    """
    found = made(Path(picture))
    if found.begun and image is None:
        raise BespokeError(f"{picture} began with another picture, which it does not hold.", "Give that with --image.")
    settings = recipes.parse({"sample": {"dtype": "fp32", **found.settings}}, str(picture)).sample
    return sample(
        model or found.model, [escaped_calls(found.prompt)], out=out, seed=found.seed, settings=settings,
        overrides=overrides, image=image, mask=mask, loras=loras, words=words, preview=preview,
        safety_checker=safety_checker,
        report=report,
    )  # fmt: skip


def escaped_calls(prompt: str) -> str:
    """A prompt in which choices were made, so that none is made in it again."""
    return prompt.replace("{", "\\{").replace("}", "\\}")


def read_all(checkpoint: Checkpoint, prompts: Sequence[str], settings: Sample, report: Reporter = silent) -> None:
    """Reads prompts that a person typed, and tells of those that one window does not hold.

    Raises: BespokeError when something in one cannot have been meant.
    """
    if settings.brackets == "letters":
        prompts = [escaped(prompt) for prompt in prompts]
    for prompt in prompts:
        checked(prompt)
    long = told_long(checkpoint.measure(), list(dict.fromkeys(prompts)), windowed=checkpoint.windowed)
    if note := "; ".join(filter(None, (long, checkpoint.unread))):
        report("read prompts", len(prompts), len(prompts), note)


def settled(settings: Sample, checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> Sample:
    """The settings with nothing left open, for a model, after `overrides` such as `sample.guidance_scale=3`.

    Raises: BespokeError when an override is wrong, or changes what has nothing to do with drawing, or the model cannot
    be drawn so.
    """
    if overrides:
        content = recipes.put({"sample": settings.model_dump(exclude_none=True)}, *overrides)
        if other := [override for override in overrides if not override.strip().startswith("sample.")]:
            known = ", ".join(Sample.model_fields)
            raise BespokeError(f"--set {other[0]} does not change how pictures are drawn.", f"In [sample]: {known}.")
        settings = recipes.parse(content, "--set").sample
    found: dict[str, Any] = {"scheduler": scheduler_name(settings.scheduler)}
    check(settings, checkpoint.scheduler_config, checkpoint.config(checkpoint.family.denoiser))
    if settings.guidance_scale is None:
        found["guidance_scale"] = guidance(checkpoint.resolution, flows=checkpoint.flows)[0]
    found["dtype"] = settings.dtype or _fast_dtype(checkpoint)
    return settings.model_copy(update=found)


def alike(settings: Sample) -> Sample:
    """Settings for pictures that are measured or judged: unless a person says otherwise, alike on every machine."""
    return settings if settings.dtype else settings.model_copy(update={"dtype": "fp32"})


def _fast_dtype(checkpoint: Checkpoint) -> str:
    """The number format to draw in: of fewer bits where that is faster by much, which it is not for small models."""
    here = machine()
    large = checkpoint.resolution > SMALL and not isinstance(checkpoint, Compiled)
    return "bf16" if here.bf16 and large else "fp32"


def _drawn(
    pipeline: Any, model: str, wanted: Sequence[Asked], folder: Path, settings: Sample, loras: Path, report: Reporter,
    *, preview: bool,
) -> list[Drawn]:  # fmt: skip
    """The pictures, in order, each written as soon as it is drawn; those that wear the same adapters come together."""
    always = {adapter_at(name, loras): weight for name, weight in settings.adapters.items()}
    found: dict[int, Drawn] = {}

    def tell(now: str = "") -> None:
        report("draw", len(found), len(wanted), ", ".join(filter(None, (now, _blacked_out(list(found.values()))))))

    tell()
    with Wardrobe(pipeline, model) as wardrobe, Previews(pipeline, folder if preview else None, tell) as watch:
        for worn, numbers in _by_adapters(wanted, always):
            wardrobe.wear(worn)
            told = settings.model_copy(update={"adapters": {path.as_posix(): weight for path, weight in worn.items()}})
            requests = [(number, wanted[number].request) for number in numbers]
            with worked_in(pipeline):
                for number, one in _written(pipeline, requests, folder, told, model, watch):
                    found[number] = one
                    tell()
    return [found[number] for number in range(len(wanted))]


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
    for _, one in _written(pipeline, list(enumerate(requests)), folder, settings, model):
        drawn.append(one)
        report(stage, len(drawn), len(requests), _blacked_out(drawn))
    return drawn


def _written(
    pipeline: Any, requests: Sequence[tuple[int, Request]], folder: Path, settings: Sample, model: str,
    watch: Watch | None = None,
) -> Iterator[tuple[int, Drawn]]:  # fmt: skip
    """The numbers and pictures of requests, each written as soon as it is drawn."""
    pictures = draw(pipeline, [request for _, request in requests], settings, watch)
    for (number, request), one in zip(requests, pictures, strict=True):
        save_picture(one, folder / file_name(number, request, settings.format), settings, model)
        yield number, one


def _by_adapters(wanted: Sequence[Asked], always: Mapping[Path, float]) -> list[tuple[Mapping[Path, float], list[int]]]:
    """The numbers of the pictures that wear the same adapters, with these and their weights."""
    worn = [{**always, **one.adapters} for one in wanted]
    keys = [tuple(sorted((str(path), weight) for path, weight in each.items())) for each in worn]
    order = sorted(range(len(wanted)), key=lambda number: (keys[number], number))
    groups = [list(numbers) for _, numbers in itertools.groupby(order, key=lambda number: keys[number])]
    return [(worn[numbers[0]], numbers) for numbers in groups]


def _blacked_out(drawn: Sequence[Drawn]) -> str:
    count = sum(one.flagged for one in drawn)
    return f"{count} made black by the model's safety checker" if count else ""


def file_name(number: int, request: Request, form: str = "png") -> str:
    """The file of the `number`-th request."""
    return f"{number:03d}-seed{request.seed}.{form}"


def read_prompts(file: Path) -> list[str]:
    """The prompts in a text file, one a line; empty lines and lines that begin with # are left out.

    Raises: BespokeError when the file cannot be read.
    """
    try:
        return said_in(file)
    except (OSError, UnicodeDecodeError) as error:
        raise BespokeError(
            f"The prompts in {file} cannot be read: {error}", "Give a text file, one prompt a line."
        ) from None
