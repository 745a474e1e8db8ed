"""What was done with a dataset, in the words that a shell shows; loaded when there is something to say."""

from collections import Counter

from bespoke.data import Balanced, Share
from bespoke.pipeline.augment import Augmented
from bespoke.pipeline.datasets import Divided, Shrinking
from bespoke.records import Split
from bespoke.workspace import relative

GROUPS = 8
"""How many groups of a kind are shown; JSON holds them all."""
MOVED = 12
"""How many pictures that changed sides are named."""


def counted(count: int, noun: str) -> str:
    """The number with its noun: "1 picture", "2 pictures"."""
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def divided(done: Divided) -> str:
    """Who is on which side of the split and why, and who changed sides."""
    lines: list[str] = []
    named: dict[Split, str] = {"train": "to learn from", "validation": "held back for validation"}
    for part, words in named.items():
        pictures = done.dataset.part(part)
        reasons = Counter(p.split_reason.partition(":")[0] or "drawn" for p in pictures)
        told = ", ".join(f"{count} {_WHY.get(reason, reason)}" for reason, count in reasons.most_common())
        lines.append(f"{len(pictures)} {words}{f': {told}' if reasons.keys() - {'drawn'} else ''}")
        subjects = Counter(p.split_reason for p in pictures if p.split_reason.startswith("subject: "))
        names = [f"{reason.removeprefix('subject: ')} ({count})" for reason, count in subjects.most_common(GROUPS)]
        lines += [f"  subjects: {', '.join(names)}{_more(len(subjects))}"] if names else []
    moved = [f"  {picture.file} to {picture.split}" for picture in done.moved[:MOVED]]
    lines.append(f"{counted(len(done.moved), 'picture')} changed sides{':' if moved else '.'}")
    rest = len(done.moved) - MOVED
    lines += [*moved, f"  and {rest} more"] if rest > 0 else moved
    if done.unwritten:
        said = ", ".join(f"{key} = {value}" for key, value in done.unwritten.items())
        lines.append(f"Write {said} into the recipe: otherwise the next import or clean draws as that says.")
    return "\n".join(lines)


def augmented(made: Augmented) -> str:
    """How many versions pictures have, what there is to know of them, and where they are shown."""
    counts = sorted({len(shown.versions) for shown in made.pictures})
    each = f"{counts[0]} to {counts[-1]} versions" if len(counts) > 1 else counted(counts[0], "version")
    versions = f", {each} each" if made.images else ""
    lines = [f"{len(made.pictures)} of {made.of:,} training pictures{versions}", *(f"  {n}" for n in made.notes)]
    if made.ways:
        lines.append("What is the same in every epoch can be varied:")
        lines += [f"  --set {setting:<26} {meaning}" for setting, meaning in made.ways.items()]
    return "\n".join([*lines, f"As training sees them: {relative(made.preview)}"])


def balanced(made: Balanced, *, applied: bool) -> str:
    """The shares by each way, and what is proposed or was written."""
    lines = [line for way, shares in made.shares.items() if way != made.by for line in (*_shares(way, shares), "")]
    if not made.changed:
        return "\n".join([*lines, *_shares(made.by, made.shares[made.by]), "Nothing to change."])
    lines += [*_proposal(made.by, made.shares[made.by]), ""]
    written = f"{counted(len(made.changed), 'picture')} count otherwise now; undo it with --reset."
    told = written if applied else f"Nothing is written; --apply lets {counted(len(made.changed), 'picture')} count so."
    return "\n".join([*lines, told])


def shrunk(done: Shrinking) -> str:
    """How many copies there are, what that saves, and what to look at."""
    made = done.made
    saved = 1 - made.bytes_after / made.bytes_before if made.bytes_before else 0.0
    change = f"{saved:.0%} saved" if saved >= 0 else f"{-saved:.0%} more"
    sizes = f"{_bytes(made.bytes_before)} before, {_bytes(made.bytes_after)} after, {change}"
    lines = [f"{counted(made.pictures, 'picture')} in {relative(made.folder)}: {sizes}"]
    if made.as_they_were:
        lines.append(f"  {made.as_they_were} not worth shrinking, there byte for byte")
    lines += [f"  {count} left out: {reason}" for reason, count in made.left_out.items()]
    if done.too_short:
        least = f"below the {done.resolution} pixels that are trained at"
        lines.append(f"  {done.too_short} now have a shorter side {least}: give a larger --side and another folder")
    return "\n".join([*lines, f"Import them with: bespoke data import {relative(made.folder)} DATASET"])


_WHY = {"drawn": "drawn alone", "subject": "drawn with all of their subject", "look-alike": "drawn with look-alikes"}


def _shares(way: str, shares: tuple[Share, ...]) -> list[str]:
    lines = [f"by {way}"]
    lines += [f"  {_name(s)}{s.pictures:>9,}{s.now:>9.1%}" for s in shares[:GROUPS]]
    return lines + ([f"  {_more(len(shares)).removeprefix(', ')}"] if len(shares) > GROUPS else [])


def _proposal(way: str, shares: tuple[Share, ...]) -> list[str]:
    lines = [f"by {way:<26} pictures      now proposed   counts"]
    lines += [f"  {_name(s)}{s.pictures:>9,}{s.now:>9.1%}{s.proposed:>9.1%}   × {s.factor:.3g}" for s in shares]
    return lines


def _name(share: Share) -> str:
    name = share.group or "(nothing said)"
    return f"{name if len(name) <= 28 else '…' + name[-27:]:<28}"


def _more(count: int) -> str:
    return f", {count - GROUPS} more" if count > GROUPS else ""


def _bytes(count: int) -> str:
    return next((f"{count / size:.1f} {unit}" for size, unit in _UNITS if count >= size), f"{count} bytes")


_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
