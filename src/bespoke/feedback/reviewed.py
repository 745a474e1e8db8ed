"""Served pictures that may be learnt from, and those of them that a person accepted, as a folder like any other source.

Someone lets a picture be learnt from by a thumb up or a better caption, given with consent. A person then accepts it
with what it rests on, so that no caption is learnt that nobody but its writer has read.
"""

import csv
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select

from bespoke.errors import BespokeError
from bespoke.feedback.records import Opinion, Sample
from bespoke.feedback.store import PAGE, Store
from bespoke.feedback.tables import opinions, reviews
from bespoke.records import GENERATED
from bespoke.workspace import write_text

State = Literal["open", "accepted", "declined"]
COLUMNS = ("file_name", "text", "licence", GENERATED, "sample", "opinion")
_ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"RIFF": ".webp"}


@dataclass(frozen=True)
class Candidate:
    """A picture that may be learnt from."""

    sample: Sample
    opinion: Opinion
    """What it rests on: what was accepted or, where nothing was, the newest caption or else the newest thumb up."""
    ups: int
    downs: int
    state: State
    by: str = ""
    """Who decided."""

    @property
    def caption(self) -> str:
        """What it is learnt with."""
        return self.opinion.words if self.opinion.kind == "caption" else self.sample.prompt

    @property
    def file(self) -> str:
        """Its name in a folder: another one where it rests on something else."""
        return f"{self.sample.id}-{self.opinion.id[:8]}"


def candidates(store: Store, state: State | None = None) -> Iterator[Candidate]:
    """The pictures that may be learnt from, oldest first; only those of one state, if that is named.

    They have a better caption, or more thumbs up than down, with consent; nobody flagged them, nor did the safety
    checker, and they are no canaries, whose worth is that nothing is learnt from them.
    """
    drawn = store.samples(canary=False)
    while page := list(islice(drawn, PAGE)):
        said, decided = _said_of(store, [sample.id for sample in page])
        for sample in page:
            found = _candidate(sample, said.get(sample.id, []), decided.get(sample.id))
            if found is not None and state in (None, found.state):
                yield found


def decide(store: Store, accept: Sequence[str], decline: Sequence[str], by: str = "") -> None:
    """Keeps what a person decided on pictures, by their ids.

    Raises: BespokeError when an id is no candidate's, or is in both; then nothing is kept.
    """
    if both := set(accept) & set(decline):
        raise BespokeError(f"{min(both)} is both accepted and declined.", "Decide on one.")
    wanted = {*accept, *decline}
    found = {one.sample.id: one for one in candidates(store) if one.sample.id in wanted}
    if unknown := sorted(wanted - found.keys()):
        hint = "It must be there, unflagged, and liked or captioned with consent: bespoke feedback review"
        raise BespokeError(f"{unknown[0]} is no picture that may be learnt from.", hint)
    for name in (*accept, *decline):
        store.review(name, accepted=name in accept, by=by, opinion=found[name].opinion.id)


def lay_out(store: Store, folder: Path) -> int:
    """Fills a folder with the accepted pictures and their `metadata.csv`, and says how many they are.

    The table has the licence of each, the version that drew it, and the ids of the picture and of what it rests on. A
    file that is gone has a row even so: whoever reads the folder sets it aside as missing.
    """
    table, names = io.StringIO(), list[str]()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in candidates(store, "accepted"):
        blob = store.shelf.path(one.sample.sha256)
        name = one.file + ending(blob)
        if blob.is_file():
            _linked(store.shelf.checked(one.sample.sha256), folder / name)
        names.append(name)
        writer.writerow((name, one.caption, one.opinion.licence, one.sample.model, one.sample.id, one.opinion.id))
    write_text(folder / "metadata.csv", table.getvalue())
    return len(names)


def withdrawn(store: Store) -> frozenset[str]:
    """The ids of the opinions that were taken back."""
    with store.reading() as connection:
        return frozenset(connection.execute(select(opinions.c.id).where(opinions.c.withdrawn != "")).scalars())


def _said_of(store: Store, ids: Sequence[str]) -> tuple[dict[str, list[Opinion]], dict[str, Mapping[str, Any]]]:
    """What was said of pictures and not taken back, in its order, and what was decided on them."""
    said, valid = dict[str, list[Opinion]](), (opinions.c.sample.in_(ids), opinions.c.withdrawn == "")
    with store.reading() as connection:
        rows = connection.execute(select(opinions).where(*valid).order_by(opinions.c.at, opinions.c.id))
        for row in rows.mappings():
            said.setdefault(row["sample"], []).append(Opinion(**row))
        decided = connection.execute(select(reviews).where(reviews.c.sample.in_(ids))).mappings()
        return said, {row["sample"]: dict(row) for row in decided}


def _candidate(sample: Sample, said: Sequence[Opinion], review: Mapping[str, Any] | None) -> Candidate | None:
    if sample.flagged or any(one.kind == "flag" for one in said):
        return None
    thumbs = {one.rater: one for one in said if one.kind == "thumb"}
    ups = [one for one in thumbs.values() if one.value == "up"]
    captions = [one for one in said if one.kind == "caption" and one.consent]
    liked = [one for one in ups if one.consent] if 2 * len(ups) > len(thumbs) else []
    rests = captions or sorted(liked, key=lambda one: (one.at, one.id))
    if not rests:
        return None
    accepted = [one for one in (*captions, *liked) if review and review["accepted"] and one.id == review["opinion"]]
    state: State = "accepted" if accepted else "declined" if review and not review["accepted"] else "open"
    by = review["by"] if review and state != "open" else ""
    return Candidate(sample, (accepted or rests)[-1], len(ups), len(thumbs) - len(ups), state, by)


def ending(file: Path) -> str:
    """What the name of a picture's file ends with, by its first bytes."""
    if not file.is_file():
        return ".png"
    with file.open("rb") as content:
        head = content.read(4)
    return next((ending for begin, ending in _ENDINGS.items() if head.startswith(begin)), ".png")


def _linked(blob: Path, target: Path) -> None:
    try:
        os.link(blob, target)
    except OSError:  # another disk
        shutil.copyfile(blob, target)
