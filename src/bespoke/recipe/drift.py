"""`[drift]`: how served pictures are watched, and how seldom an alarm may be false."""

from pydantic import Field

from bespoke.recipe.section import Positive, Prompts, Rate, Section


class Drift(Section):
    """`[drift]`: what `bespoke feedback drift` compares served pictures with, and how seldom it may be wrong."""

    reference_pictures: int = Field(default=400, ge=20)
    """So many pictures of different prompts are what is usual: a version's first, or another version's last."""
    least: int = Field(default=20, ge=2)
    """A day with fewer pictures is joined with the next one."""
    most: int = Field(default=200, ge=2)
    """Of more pictures a day a random choice is looked at: thousands would ring for what nobody sees."""
    false_alarms: Rate = 0.5
    """So many false alarms are expected at most in `days` days, over all figures together, if nothing changes."""
    days: Positive = 200
    """The days that `false_alarms` is about."""
    canaries: Prompts = ()
    """Prompts that are drawn anew each day; without any, four of the objective's prompts or of the captions."""
    canary_seeds: Positive = 2
    """Seeds that each of these is drawn with."""
