"""What the training pictures have in common, and who is on which side of the split, as parts of the page."""

from collections import Counter
from collections.abc import Sequence

from bespoke import page
from bespoke.data import Group, Share, colours
from bespoke.data.balance import COLOUR, SOURCE, TAG_COLUMNS
from bespoke.pipeline.describe.view import View
from bespoke.records import Picture

GROUPS, TOGETHER, REPEATS = 12, 12, 10
"""How many are shown of the groups of one kind, of the groups kept together, and of different repeats."""

REASONS = {
    "drawn": "drawn alone",
    "subject": "drawn with all of their subject",
    "look-alike": "drawn with look-alikes",
    "asked for": "asked for",
}


def balance(view: View) -> tuple[page.ShareGroup, ...]:
    """The shares of the training pictures by everything that groups them."""
    return tuple(_group(view, way, shares) for way, shares in view.shares.items())


def _group(view: View, way: str, shares: Sequence[Share]) -> page.ShareGroup:
    whole = len(view.dataset.part("train"))
    parts = [
        page.Part(share.group or "nothing said", share.pictures, whole, _of_epoch(share, whole), _swatch(way, share))
        for share in shares[:GROUPS]
    ]
    rest = f" The largest {GROUPS} of {len(shares):,}." if len(shares) > GROUPS else ""
    return page.ShareGroup(_title(way), f"{_lead(way)}{rest}", tuple(parts))


def _of_epoch(share: Share, whole: int) -> str:
    """What a group makes up of an epoch, where that is not its part of the pictures."""
    return f"{100 * share.now:.0f} % of an epoch" if abs(share.now - share.pictures / whole) >= 0.02 else ""


def _swatch(way: str, share: Share) -> str:
    return colours.swatch(share.group) if way == COLOUR else ""


def _title(way: str) -> str:
    return {COLOUR: "Colours", SOURCE: "Sources"}.get(way, "Tags" if way in TAG_COLUMNS else way.capitalize())


def _lead(way: str) -> str:
    if way == COLOUR:
        return "The colour that takes most of each training picture; mixed where none takes a third."
    if way == SOURCE:
        return "The folders, archives and tables that the training pictures came from."
    if way in TAG_COLUMNS:
        return "What stands between commas, and in how many training pictures; one may have several."
    return f"The column “{way}” of train/metadata.csv."


def repeats(pictures: Sequence[Picture]) -> tuple[page.Part, ...]:
    """How many pictures count how often; nothing where all count once."""
    counts = Counter(picture.repeats for picture in pictures)
    whole = sum(picture.repeats for picture in pictures)
    parts = [
        page.Part(_times(times), count, len(pictures), f"{100 * times * count / whole:.0f} % of an epoch")
        for times, count in counts.most_common(REPEATS)
    ]
    return tuple(parts) if set(counts) != {1.0} else ()


def _times(repeats: float) -> str:
    return "once" if repeats == 1 else f"{repeats:g} times"


def split_lead(view: View) -> str:
    """How the split was drawn."""
    fraction, by = view.recipe.data.validation_fraction, view.recipe.data.split_by
    if not view.dataset.part("validation"):
        return "All pictures are trained on; none is held back to measure by."
    subject = f", and so are those with the same “{by}”" if any(by in p.labels for p in view.dataset.pictures) else ""
    return (
        f"The recipe holds back {100 * fraction:.3g} %, at least 4 pictures where there are enough and at most 64. "
        f"Pictures that look the same are on the same side{subject}. Who was placed once stays when others are added."
    )


def split_reasons(view: View) -> tuple[page.Part, ...]:
    """Why the pictures held back are held back."""
    held = view.dataset.part("validation")
    counts = Counter(picture.split_reason.partition(":")[0] or "drawn" for picture in held)
    return tuple(page.Part(REASONS.get(reason, reason), n, len(held)) for reason, n in counts.most_common())


def together(view: View) -> tuple[page.Part, ...]:
    """The groups that are kept on one side, largest first, with that side."""
    several = sorted((g for g in view.groups if len(g.members) > 1), key=lambda g: (-len(g.members), g.members[0].file))
    whole = len(view.dataset.pictures)
    return tuple(page.Part(_called(g), len(g.members), whole, _side(g)) for g in several[:TOGETHER])


def _called(group: Group) -> str:
    return " and ".join(group.subjects) if group.subjects else f"looks like {group.members[0].file}"


def _side(group: Group) -> str:
    sides = {picture.split for picture in group.members}
    if len(sides) > 1:
        return "on both sides: run bespoke data split"
    return "held back" if sides == {"validation"} else "to learn from"
