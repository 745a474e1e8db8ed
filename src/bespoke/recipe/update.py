"""`[update]`: when a model in use is trained anew, how often at most, and who has the last word."""

from typing import Annotated

from pydantic import Field

from bespoke.recipe.section import NotNegative, Positive, Section, Share


class Update(Section):
    """`[update]`: when `bespoke feedback propose` is for a new training, what holds it back, and who promotes."""

    human_approval: bool = True
    """A challenger that passes the gate is promoted only with `--approve`: people see what figures do not."""
    alarm_days: Positive = 2
    """Drift counts once it rang on so many days: a single one may be a false alarm, of which there are a few."""
    least_served: Positive = 200
    """Drift counts once so many of the champion's pictures were kept: what hardly anybody uses can wait."""
    least_ratings: Positive = 20
    """Thumbs count from so many on; with fewer a share has no use."""
    least_raters: Positive = 3
    """Thumbs count from so many people on: one person's taste is no reason."""
    least_liked: Share = 0.5
    """The champion is disliked if surely less than this part of its thumbs is up."""
    most_flagged: Share = 0.1
    """It is at fault if surely more than this part of its kept pictures is flagged."""
    new_share: Annotated[float, Field(gt=0.0)] = 0.25
    """New pictures count from this part of those that it learnt from on: fewer change little."""
    most_age_days: Positive = 180
    """A champion that is older is trained anew if there is any new picture."""
    cool_down_days: NotNegative = 7.0
    """Days from an update, also a failed one, to the next: what changed must be used before it is judged."""
    budget_hours: NotNegative = 24.0
    """Hours of training and measuring that updates may take together in `budget_days`."""
    budget_days: Positive = 30
    """The days that `budget_hours` are for."""
    most_tries: Positive = 3
    """An update that failed so often is given up."""
