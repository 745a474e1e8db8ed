"""All pictures of a dataset sorted by the rules: into those kept, for training or validation, and those set aside."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from bespoke import scale
from bespoke.data import dataset as datasets
from bespoke.data import split
from bespoke.data.clean import Candidate, Judgement, judge
from bespoke.data.dataset import ASIDE, TRAIN
from bespoke.data.groups import Group, groups
from bespoke.data.inspect import Facts, facts
from bespoke.data.known import Known
from bespoke.data.opinions import UNSEEN, Opinion, opinions
from bespoke.data.reading import Unreadable, read
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture, SetAside, Split, SplitRule

FEWEST = 2
"""One picture to learn from and one to measure by."""
NO_CAPTION = "no caption"


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture of a dataset, kept or not, and why it has no caption, where it has none."""

    picture: Picture
    trouble: str = ""


@dataclass(frozen=True)
class Inspected:
    """One picture of a dataset with what is known about it and what the rules say."""

    picture: Picture
    facts: Facts
    judgement: Judgement
    opinion: Opinion = UNSEEN
    """What models say about it."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that find fault with it, the one that sets it aside first."""
        verdict = (self.judgement.verdict.reason,) if self.judgement.verdict else ()
        return (*verdict, *(doubt.partition(":")[0] for doubt in self.judgement.doubts))


def clean(
    folder: Path,
    recipe: Recipe,
    progress: Callable[[int, int], None] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Dataset:
    """The dataset in `folder` after the recipe's rules and its split have been applied to all that it holds.

    What a person restored stays; what the rules set aside no more comes back. `texts` are new captions, by the sha256
    of their pictures; who had none before is taken in.

    Raises: BespokeError when `folder` is no dataset, a file in it is damaged, or fewer than 2 pictures would remain.
    """
    dataset = datasets.captioned(folder, datasets.record(folder))
    known = _known(folder, dataset, recipe, progress)
    broken = [item for item in dataset.set_aside if item.picture is None]
    items = [_said(item, (texts or {}).get(item.picture.sha256)) for item in captioned_of(dataset)]
    after = sorted_out(items, broken, known, recipe, dataset)
    check_enough(str(folder), after)
    return datasets.save(folder, after, {p.file for p in after.pictures if p.sha256 in (texts or {})})


def _said(item: Captioned, text: str | None) -> Captioned:
    return item if text is None else Captioned(replace(item.picture, text=text))


def inspect(
    folder: Path, recipe: Recipe, progress: Callable[[int, int], None] | None = None
) -> tuple[Dataset, list[Inspected]]:
    """The dataset in `folder`, unchanged, and each of its pictures with what is known about it and what the rules say.

    Raises: BespokeError when `folder` is no dataset or a file in it is damaged.
    """
    dataset = datasets.captioned(folder, datasets.record(folder))
    known = _known(folder, dataset, recipe, progress)
    return dataset, _judged(captioned_of(dataset), known, recipe)


def restore(folder: Path, wanted: Sequence[str], recipe: Recipe) -> Dataset:
    """The dataset with the files of these names, or set aside for these reasons, brought back from `set-aside/`.

    Raises: BespokeError when none is there for a name, or one gives no picture or has no caption.
    """
    dataset, inspected = inspect(folder, recipe)
    known = {name for item in dataset.set_aside for name in (item.file, item.reason)}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        problem = f"Nothing in {folder / ASIDE} has the name or the reason {unknown[0]}."
        raise BespokeError(problem, f"Reasons: {', '.join(dataset.reasons()) or 'nothing is set aside'}.")
    chosen = [item for item in dataset.set_aside if {item.file, item.reason} & set(wanted)]
    kept = (*dataset.pictures, *(_brought_back(item) for item in chosen))
    aside = tuple(item for item in dataset.set_aside if item not in chosen)
    return datasets.save(
        folder, _on_sides(replace(dataset, pictures=kept, set_aside=aside), inspected, recipe, dataset)
    )


def captioned_of(dataset: Dataset) -> list[Captioned]:
    """All pictures of a dataset, those set aside among them."""
    aside = ((s.picture, s.detail if s.reason == NO_CAPTION else "") for s in dataset.set_aside)
    return [Captioned(p) for p in dataset.pictures] + [Captioned(p, trouble) for p, trouble in aside if p is not None]


def sorted_out(
    pictures: Sequence[Captioned], broken: Sequence[SetAside], known: Known, recipe: Recipe, before: Dataset
) -> Dataset:
    """The dataset that the rules and the split make of pictures, and of files that give none.

    A picture that is kept in `before` stays on its side, as far as that goes.
    """
    judged = _judged(pictures, known, recipe)
    kept = [replace(i.picture, doubts=i.judgement.doubts) for i in judged if i.judgement.verdict is None]
    aside = [
        SetAside(
            item.picture.source, item.picture.file, verdict.reason, verdict.detail, item.picture.sha256,
            replace(item.picture, doubts=item.judgement.doubts),
        )
        for item in judged
        if (verdict := item.judgement.verdict) is not None
    ]  # fmt: skip
    whole = Dataset(tuple(kept), tuple(sorted((*aside, *broken), key=_order)))
    return _on_sides(whole, judged, recipe, before)


def split_up(
    folder: Path, recipe: Recipe, progress: Callable[[int, int], None] | None = None
) -> tuple[Dataset, tuple[Picture, ...]]:
    """The dataset in `folder` after the recipe's split has been applied, and those pictures that changed sides.

    Raises: BespokeError when `folder` is no dataset or a file in it is damaged, the column that keeps pictures apart is
    not there, or pictures that belong together are asked for on both sides.
    """
    dataset, inspected = inspect(folder, recipe, progress)
    after = _on_sides(dataset, inspected, recipe, dataset)
    sides = {picture.file: picture.split for picture in dataset.pictures}
    return datasets.save(folder, after), tuple(p for p in after.pictures if p.split != sides[p.file])


def grouped(dataset: Dataset, inspected: Iterable[Inspected], recipe: Recipe) -> list[Group]:
    """The kept pictures of a dataset in groups that must be on one side; most are one picture."""
    items = {item.picture.source: item for item in inspected}
    # A picture that looks like another draws the other's number.
    keys = {name: items.get(i.judgement.like, i).picture.pixels for name, i in items.items()}
    known = {item.facts.sha256: item.facts for item in items.values()}
    return groups(sorted(dataset.pictures, key=_order), known, keys, recipe.data.split_by)


def _on_sides(dataset: Dataset, inspected: Iterable[Inspected], recipe: Recipe, before: Dataset) -> Dataset:
    """The dataset with each kept picture for training or validation, and why.

    Under the settings that the sides in `before` were drawn with, pictures stay where they were.
    """
    rule = SplitRule(recipe.data.validation_fraction, recipe.validation.seed, recipe.data.split_by)
    there = before.pictures if before.split_rule == rule else ()
    known: dict[str, Split] = {picture.file: picture.split for picture in there}
    found = grouped(dataset, inspected, recipe)
    sides = split.sides([group.unit(known) for group in found], rule.fraction, rule.seed)
    placed = [
        replace(picture, split=side, split_reason=group.reason(picture, side))
        for group, side in zip(found, sides, strict=True)
        for picture in group.members
    ]
    return replace(dataset, pictures=tuple(sorted(placed, key=_order)), split_rule=rule)


def _brought_back(item: SetAside) -> Picture:
    if item.picture is None:
        raise BespokeError(f"{item.source} gives no picture: {item.detail}.", "Mend the file and import it again.")
    if not item.picture.text:
        hint = "Write one for it where it came from, and import that again."
        raise BespokeError(f"{item.file} has no caption.", hint)
    return replace(item.picture, restored=True)


def check_enough(source: str, dataset: Dataset, *, bare: bool = False) -> None:
    """Refuses a dataset of too few pictures, with advice about what cost most of them.

    With `bare` those count that lack nothing but a caption.
    """
    count = len(dataset.pictures)
    if count + bare * dataset.reasons().get(NO_CAPTION, 0) >= FEWEST:
        return
    reasons = dataset.reasons()
    came = f"{dataset.files} file{'s' if dataset.files != 1 else ''} came in"
    counts = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
    lost = f"; set aside: {counts}" if counts else ""
    if set(reasons) <= {"not a picture", "missing file"} and not count:
        raise BespokeError(f"{source} holds no pictures: {came}{lost}.", "Name a folder with pictures in it.")
    problem = f"{count or 'No'} picture{'s' if count != 1 else ''} of {source} can be used, and {FEWEST} are needed: "
    raise BespokeError(f"{problem}{came}{lost}.", _advice(reasons, dataset.set_aside))


def _advice(reasons: dict[str, int], aside: Sequence[SetAside]) -> str:
    """What to do about the reason that cost most pictures."""
    costly = next((reason for reason in reasons if reason not in ("not a picture", "missing file")), "")
    if costly == NO_CAPTION:
        return (
            "Write captions: a metadata.csv with the columns file_name,text beside the pictures, or for each picture "
            "such as cat.png a text file cat.txt. Or let a model write them: bespoke new … --caption, or bespoke data "
            "caption."
        )
    first = next((f" For one, {item.source}: {item.detail}." for item in aside if item.reason == costly), "")
    return f"Add more pictures with captions.{first}"


def _judged(items: Sequence[Captioned], known: Known, recipe: Recipe) -> list[Inspected]:
    """What the rules say about pictures, by the facts and by what models have said."""
    said = opinions(known.folder, [item.picture for item in items], recipe.clean)
    judgements = judge([_candidate(item, known, said) for item in items], recipe.clean)
    return [
        Inspected(item.picture, known[item.picture.sha256], judgement, said[item.picture.source])
        for item, judgement in zip(items, judgements, strict=True)
    ]


def _candidate(item: Captioned, known: Known, said: Mapping[str, Opinion]) -> Candidate:
    picture = item.picture
    facts_ = known[picture.sha256]
    return Candidate(picture.source, facts_, picture.text, item.trouble, picture.restored, said[picture.source])


def _known(folder: Path, dataset: Dataset, recipe: Recipe, progress: Callable[[int, int], None] | None) -> Known:
    """The facts about all pictures of a dataset; those that are not on disk are found out from the copies."""
    known = Known(folder)
    pictures = [(p, TRAIN) for p in dataset.pictures] + [(s.picture, ASIDE) for s in dataset.set_aside if s.picture]
    todo = [(folder / part / p.file, p) for p, part in pictures if known.get(p.sha256) is None]
    there = len(pictures) - len(todo)
    if progress is not None and there:
        progress(there, len(pictures))
    with closing(scale.map(todo, _facts_again, workers=recipe.data.workers())) as found:
        for done, facts_ in enumerate(found, start=there + 1):
            known.add(facts_)
            if progress is not None:
                progress(done, len(pictures))
    known.settle({picture.sha256 for picture, _ in pictures})
    return known


def _facts_again(copy: tuple[Path, Picture]) -> Facts:
    path, picture = copy
    hint = f"Import the same pictures again to restore it; it came from {picture.source}."
    try:
        reading = read(path)
    except Unreadable as error:
        raise BespokeError(f"{path} cannot be read any more: {error.detail}.", hint) from None
    if reading.sha256 != picture.sha256:
        raise BespokeError(f"{path} has changed since it was imported.", hint)
    return facts(reading)


def _order(item: Picture | SetAside) -> tuple[str, str]:
    """Sources in the order of their names; macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", item.source), item.source
