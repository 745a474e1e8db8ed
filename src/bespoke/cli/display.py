"""Progress turned into a bar on standard error, results into words or one JSON object on standard output."""

import json
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bespoke.errors import BespokeError, Interrupted
from bespoke.workspace import relative

THEIRS = 2
"""The exit code of a wrong input."""

errors = Console(stderr=True, soft_wrap=True)


class Bars:
    """A reporter that draws one bar a stage, with the time left; without a terminal it prints stages and last notes."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=errors)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        if errors.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Moves the stage's bar."""
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, note=note)
            if not errors.is_terminal:
                errors.print(f"{stage} …", highlight=False)
        if note and done == total and not errors.is_terminal:
            errors.print(f"{stage}: {_safe(note)}", highlight=False)
        self._progress.update(self._tasks[stage], completed=done, total=total, note=note)


def result(content: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    """Prints one JSON object, with paths from the working directory, or the words for a person."""
    if as_json:
        sys.stdout.write(json.dumps(_plain(content), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(words.rstrip() + "\n")


@contextmanager
def explained(*, debug: bool) -> Generator[None, None, None]:
    """A block whose errors a person understands: what is wrong, what to do, and an exit code that says whose fault."""
    try:
        yield
    except BespokeError as error:
        if debug:
            raise
        errors.print(f"[bold red]Error:[/] {_safe(error.problem)}", highlight=False)
        if error.hint:
            errors.print(f"[bold]What to do:[/] {_safe(error.hint)}", highlight=False)
        sys.exit(THEIRS)
    except Interrupted as event:
        errors.print(_safe(str(event)), highlight=False)
        sys.exit(event.code)
    except KeyboardInterrupt:
        errors.print("Stopped. Run the same command again to go on.")
        sys.exit(130)


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a result holds
    if isinstance(value, Path):
        return relative(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    return value
