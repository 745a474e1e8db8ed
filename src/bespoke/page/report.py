"""The facts of a training run, as frozen records, turned into one self-contained HTML page."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from bespoke.page import plots, wording
from bespoke.page.rendering import render
from bespoke.page.scores import Course, Fact, NeighbourGroup, PairGroup, ScoreTable, Sheet, Verdict
from bespoke.records import Curve, Dataset

DIRECTIONS = {"lower": "↓ lower is better", "higher": "↑ higher is better", "nearer": "as your pictures is best"}
SHOWN: dict[str, object] = {"shown_at_once": 24, "directions": DIRECTIONS}
"""How many pairs or thumbnails of a group are open, the others being folded away, and what directions are called."""


@dataclass(frozen=True)
class Hero:
    """The picture at the top: one grid, the base model's row above the tuned model's."""

    picture: Path
    prompt: str
    caption: str = "Above: the base model. Below: the tuned one, with the same seeds."


@dataclass(frozen=True)
class Chart:
    """A curve with its name and what it says."""

    title: str
    words: str
    curve: Curve


@dataclass(frozen=True)
class Progress:
    """The same prompts drawn at several moments of the training: a column for each moment, a row for each prompt."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Path, ...]], ...]
    """Each prompt with its pictures, in the order of the heads."""
    sheet: Path | None = None
    """All of them as one picture."""


@dataclass(frozen=True)
class Now:
    """How a training stands that is not over, or that was stopped before its end."""

    words: str
    """Such as "training" or "stopped by SIGTERM"."""
    step: int
    steps: int
    """The most that there will be."""
    moment: datetime
    seconds_left: float | None = None
    refresh: int | None = None
    """Seconds after which the browser reads the page again; never where nothing changes any more."""
    command: str = ""
    """How to go on."""


@dataclass(frozen=True)
class Training:
    """How the training went; `loss` is raw, the page averages it; `validation` is the log-ratio to the base model."""

    loss: Curve | None = None
    validation: Curve | None = None
    learning_rate: Curve | None = None
    steps: int | None = None
    best_step: int | None = None
    images_per_second: float | None = None
    reason: str = ""
    """Why it stopped, as a sentence."""
    notes: tuple[str, ...] = ()
    """What else the figures say, each as a sentence."""
    others: tuple[Curve, ...] = ()
    """The log-ratio on other sets than the validation pictures."""
    bands: tuple[Curve, ...] = ()
    """The validation log-ratio by parts of the timesteps, from little noise to much."""
    gap: tuple[Curve, Curve, Curve] | None = None
    """How much worse held back pictures do than training pictures: the least, the middle and the most."""
    charts: tuple[Chart, ...] = ()
    """Whatever else was measured."""
    progress: Progress | None = None


@dataclass(frozen=True)
class Thumb:
    """One file that was set aside; `path` is None where nothing could be kept of it."""

    path: Path | None
    source: str
    detail: str = ""


@dataclass(frozen=True)
class AsideGroup:
    """The files that were set aside for one reason."""

    reason: str
    thumbs: tuple[Thumb, ...] = ()


@dataclass(frozen=True)
class Intake:
    """What became of the files that came in."""

    train: int = 0
    validation: int = 0
    aside: tuple[AsideGroup, ...] = ()

    @property
    def set_aside(self) -> int:
        """How many files were set aside."""
        return sum(len(group.thumbs) for group in self.aside)

    @property
    def files(self) -> int:
        """How many files came in."""
        return self.train + self.validation + self.set_aside


@dataclass(frozen=True)
class Setting:
    """One setting of the run: derived (with its reason), asked for by the person, or a fixed default."""

    key: str
    value: str
    reason: str = ""
    origin: Literal["derived", "asked", "default"] = "derived"


@dataclass(frozen=True)
class Stage:
    """How long one stage of the run took; `note` says, for example, that it was reused."""

    name: str
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Snippet:
    """Code to copy, under a heading that says where it runs."""

    title: str
    code: str


@dataclass(frozen=True)
class Report:
    """Everything that the page shows; whatever is empty is left out of it."""

    title: str
    base_model: str = ""
    finished: datetime | None = None
    seconds: float | None = None
    adapter: Path | None = None
    """The file to use; its size is read from the disk."""
    model: Path | None = None
    """The folder to use, where all weights were trained."""
    now: Now | None = None
    hero: Hero | None = None
    models: tuple[str, ...] = ("base", "tuned")
    """What is compared, in the order of pairs and scores; the first is what the others are measured by."""
    verdicts: tuple[Verdict, ...] = ()
    groups: tuple[PairGroup, ...] = ()
    tables: tuple[ScoreTable, ...] = ()
    neighbours: tuple[NeighbourGroup, ...] = ()
    courses: tuple[Course, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    instruments: tuple[Fact, ...] = ()
    unmeasured: tuple[Fact, ...] = ()
    training: Training | None = None
    intake: Intake | None = None
    settings: tuple[Setting, ...] = ()
    stages: tuple[Stage, ...] = ()
    machine: tuple[Fact, ...] = ()
    versions: tuple[Fact, ...] = ()
    snippets: tuple[Snippet, ...] = ()
    kicker: str = "Training report"
    """What kind of page it is."""


def write(report: Report, path: Path) -> None:
    """Writes the page to `path`, atomically; pictures are linked relative to its folder, never copied."""
    filters: dict[str, Callable[..., object]] = {
        "size": _size,
        "date": wording.date,
        "duration": wording.duration,
        "moment": wording.moment,
        "interval": wording.interval,
        "number": wording.number,
        "loss_plot": plots.loss,
        "validation_plot": plots.validation,
        "learning_rate_plot": plots.learning_rate,
        "bands_plot": plots.bands,
        "gap_plot": plots.gap,
        "plain_plot": plots.plain,
        "whiskers": plots.whiskers,
        "course_plot": plots.course,
    }
    render("report.html", path, filters, report=report, sections=_sections(report), **SHOWN)


def intake_of(dataset: Dataset, set_aside: Path) -> Intake:
    """What came in, from a dataset's record and the folder in which the set-aside files lie."""
    groups = tuple(
        AsideGroup(
            reason,
            tuple(
                Thumb(set_aside / item.file if item.file else None, item.source, item.detail)
                for item in dataset.set_aside
                if item.reason == reason
            ),
        )
        for reason in dataset.reasons()
    )
    return Intake(len(dataset.part("train")), len(dataset.part("validation")), groups)


def _size(path: Path) -> str:
    """The size of a file in words; empty where there is none, or a folder."""
    return wording.file_size(path.stat().st_size) if path.is_file() else ""


def _sections(report: Report) -> dict[str, str]:
    """The sections that have something to show, in the page's order: the anchor of each and its name."""
    named = {
        "verdict": ("Verdict", any(verdict.findings for verdict in report.verdicts)),
        "pictures": ("Side by side", any(group.pairs for group in report.groups)),
        "scores": ("Scores", any(table.rows for table in report.tables)),
        "checkpoints": ("Over checkpoints", bool(report.courses)),
        "neighbours": ("Nearest training pictures", any(group.pairs for group in report.neighbours)),
        "sheets": ("Settings side by side", bool(report.sheets)),
        "measured": ("How it was measured", _any(report.instruments, report.unmeasured)),
        "training": ("Training", report.training is not None and report.training != Training()),
        "progress": ("While training", bool(report.training and report.training.progress)),
        "intake": ("What came in", report.intake is not None and report.intake.files > 0),
        "settings": ("Settings", bool(report.settings)),
        "time": ("Time and machine", _any(report.stages, report.machine, report.versions)),
        "use": ("Use it", bool(report.snippets)),
    }
    return {anchor: name for anchor, (name, present) in named.items() if present}


def _any(*parts: Iterable[object]) -> bool:
    """Whether any of the parts holds something."""
    return any(True for part in parts for _ in part)
