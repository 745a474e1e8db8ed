"""The kinds of captions that a dataset has had, as groups of the page: as imported, what models said, in training."""

from collections.abc import Mapping

from bespoke import page
from bespoke.annotation import said_before
from bespoke.pipeline.describe.view import View
from bespoke.records import Picture

IMPORTED, TRAINED = "as imported", "in training"


def kinds(view: View) -> tuple[page.CaptionKind, ...]:
    """Each kind of captions that kept pictures have: how many, by whom, and one of them; nothing where all are alike.

    Of what was said of a picture several times, the last counts.
    """
    pictures = view.dataset.pictures
    kept = {picture.sha256 for picture in pictures}
    said = [one for one in said_before(view.folder) if one.sha256 in kept]
    own = {picture.sha256: picture.source_text for picture in pictures if picture.source_text}
    now = {picture.sha256: picture.text for picture in pictures}
    if not said and own == now:
        return ()
    texts: dict[str, dict[str, str]] = {}
    by: dict[str, dict[str, str]] = {}
    for one in said:
        texts.setdefault(one.kind, {})[one.sha256] = one.text
        by.setdefault(one.kind, {})[one.sha256] = one.by
    found = {IMPORTED: own, **texts, TRAINED: now}
    return tuple(_kind(view, kind, those, by.get(kind, {})) for kind, those in found.items() if those)


def _kind(view: View, kind: str, texts: Mapping[str, str], by: Mapping[str, str]) -> page.CaptionKind:
    # The same order for every kind, so that their examples are of one picture where that has them all.
    shown = next(picture for picture in sorted(view.dataset.pictures, key=_order) if picture.sha256 in texts)
    thumb = page.Thumb(view.folder / "train" / shown.file, shown.file, shown.text)
    return page.CaptionKind(kind, len(texts), tuple(dict.fromkeys(by.values())), thumb, texts[shown.sha256])


def _order(picture: Picture) -> tuple[str, str]:
    return picture.pixels, picture.file
