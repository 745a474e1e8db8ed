"""What a training run measured, drew and decided, turned into the one HTML page that a person opens."""

from bespoke.page.report import (
    AsideGroup,
    Fact,
    Finding,
    Hero,
    Intake,
    Pair,
    PairGroup,
    Report,
    ScoreRow,
    Setting,
    Snippet,
    Stage,
    Thumb,
    Training,
    intake_of,
    write,
)

__all__ = [
    "AsideGroup",
    "Fact",
    "Finding",
    "Hero",
    "Intake",
    "Pair",
    "PairGroup",
    "Report",
    "ScoreRow",
    "Setting",
    "Snippet",
    "Stage",
    "Thumb",
    "Training",
    "intake_of",
    "write",
]
