"""Pictures by two or three settings, as frozen records, turned into one HTML page of tables."""

from dataclasses import dataclass
from pathlib import Path

from bespoke.page.rendering import render
from bespoke.page.report import Fact


@dataclass(frozen=True)
class Place:
    """One picture of a table, or why there is none."""

    picture: Path | None
    prompt: str
    words: str
    """The other settings that it was drawn with."""
    problem: str = ""


@dataclass(frozen=True)
class Table:
    """One table: a value of the third axis, and the pictures of each row."""

    head: str
    rows: tuple[tuple[Place, ...], ...]


@dataclass(frozen=True)
class AxesReport:
    """All that the page shows; every table has a row for each of `rows`, with a picture for each of `columns`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    tables: tuple[Table, ...]
    facts: tuple[Fact, ...] = ()
    """What is the same in all pictures."""
    sheet: Path | None = None
    """All of it as one picture."""
    side: int = 192
    """How wide a picture is shown, in pixels of the page."""

    @property
    def problems(self) -> int:
        """How many places hold no picture."""
        return sum(place.picture is None for table in self.tables for row in table.rows for place in row)


def write_axes(report: AxesReport, path: Path) -> Path:
    """The page, written to `path`; nothing but the page is written."""
    heads = [table.head for table in report.tables]
    sections = {f"b{number}": head for number, head in enumerate(heads)} if len(heads) > 1 else {}
    render("axes.html", path, {}, report=report, sections=sections)
    return path
