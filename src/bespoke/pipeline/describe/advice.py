"""What is known about a dataset turned into advice: what was found, why it matters and what to do."""

from collections import Counter
from collections.abc import Callable
from statistics import median

from bespoke.data.balance import COLOUR, SOURCE, TAG_COLUMNS
from bespoke.data.colours import MIXED
from bespoke.page import SEVERITIES, Advice, Severity
from bespoke.pipeline.describe.captions import usual_beginning, word_counts
from bespoke.pipeline.describe.view import LOOK_ALIKE, View
from bespoke.records import GENERATED, MOST_GENERATED

FEWEST = 15
"""Training pictures below which a style is seldom learnt well."""
MANY_EQUAL = 0.2
"""The part of the pictures from which on captions that are equal are spoken of."""
DOMINATES = 0.6
"""The part of the captions from which on a word is one that nearly all pictures have in common."""
EXTREME = 10
"""How many times as often as the median a picture must count to be spoken of."""
STEP = 64
"""Resolutions are advised in such steps, for models below 256 pixels in steps of 8."""

DOUBTS = {
    "too small": ("too small to show much", "They are enlarged many times and will look soft", "Add larger ones"),
    "blank": ("nearly one colour", "They teach the model to draw nothing", "Remove them"),
    "blurry": ("blurry", "The model learns blur as part of what they show", "Add sharper ones in their place"),
    "dark": (
        "very dark",
        "The model learns to draw darkly where nobody asks for it",
        "Brighten them or leave them out",
    ),
    "bright": ("very bright", "The model learns to draw pale pictures", "Darken them or leave them out"),
    "little detail": ("almost without detail", "There is little to learn from them", "Look whether they are meant"),
    "narrow": (
        "much longer one way than the other",
        "Squares are cut from the middle: the rest is lost",
        "Crop them by hand",
    ),
    "bars": ("framed by bars", "The model learns to draw the bars", "Cut the bars off"),
    "JPEG blocks": ("marked by strong JPEG compression", "The model learns the blocks", "Find better copies"),
    "broken letters": ("broken letters in the caption", "The model reads gibberish", "Mend the captions"),
    "markup": ("pieces of a web page in the caption", "The model reads code", "Clean the captions"),
    "cut off": ("cut off", "The model learns the grey that stands for what is missing", "Copy them again"),
    "other language": (
        "a caption that is not in the language wanted",
        "Most text encoders know only English",
        "Translate them",
    ),
    "does not fit its caption": (
        "a caption that another picture fits better",
        "The model learns wrong words for what it sees",
        "Look at them and mend the captions",
    ),
    "unlike the others": (
        "unlike the others",
        "They teach something other than what the rest has in common",
        "Look whether they belong",
    ),
    "unsafe content": ("unsafe, says the safety checker", "The model learns to draw such", "Look at them"),
    "writing": ("marked with writing", "The model learns to draw letters and watermarks", "Crop or replace them"),
    "other script": ("a caption in another script", "Most text encoders know only English", "Translate them"),
}
"""For each rule: what the pictures are or have, why it matters, what to do."""
HAVE = ("broken letters", "markup", "other script", "other language", "does not fit its caption")
"""The rules about what pictures have, not are."""


def advice(view: View) -> tuple[Advice, ...]:
    """All that follows from the facts, what matters most first."""
    alone: tuple[Callable[[View], Advice | None], ...] = (
        _few, _unvalidated, _smaller, _cut, _equal, _without_trigger, _one_word, _one_colour, _one_group, _divided,
        _counting_often, _copies, _outdated, _uncaptioned, _unreadable, _generated,
    )  # fmt: skip
    found = [each for each in (ask(view) for ask in alone) if each is not None] + _doubts(view)
    return tuple(sorted(found, key=lambda each: (SEVERITIES.index(each.severity), -each.count)))


def share(count: int, whole: int, noun: str = "picture", *, have: bool = False) -> str:
    """The count in words, ready for what follows: "12 of 80 pictures are", "1 of 80 pictures has"."""
    verb = ("has" if have else "is") if count == 1 else ("have" if have else "are")
    plural = noun if whole == 1 else f"{noun}s"
    return f"All {whole:,} {plural} {verb}" if count == whole > 1 else f"{count:,} of {whole:,} {plural} {verb}"


def _severity(count: int, whole: int) -> Severity:
    return "serious" if 4 * count >= whole else "worth a look" if 20 * count >= whole else "good to know"


def _few(view: View) -> Advice | None:
    count = len(view.dataset.part("train"))
    if count >= FEWEST:
        return None
    finding = f"There {'is' if count == 1 else 'are'} only {count} picture{'s' * (count != 1)} to learn from."
    why = "From so few the model learns the pictures by heart rather than what they have in common."
    return Advice("serious", count, finding, why, f"Add pictures until there are {FEWEST} or more; 50 are better.")


def _generated(view: View) -> Advice | None:
    part, training = view.dataset.generated, view.dataset.part("train")
    if part <= MOST_GENERATED:
        return None
    count = sum(GENERATED in picture.labels for picture in training)
    finding = f"{share(count, len(training))} drawn by a model of ours."
    why = "A model that learns from itself repeats its faults, and draws less and less different things."
    return Advice("worth a look", count, finding, why, "Add pictures that no model drew, or take in fewer of these.")


def _unvalidated(view: View) -> Advice | None:
    if view.dataset.part("validation"):
        return None
    why = "Nothing tells when the model begins to learn by heart, or which step was the best."
    do = "Give data.validation_fraction a value such as 0.12 and run bespoke data split."
    if view.recipe.data.validation_fraction:
        why = f"Too many of them belong together, as look-alikes or by their {view.recipe.data.split_by}. {why}"
        do = "Add pictures of others, or leave data.split_by empty and run bespoke data split."
    return Advice("serious", 0, "No picture is held back for validation.", why, do)


def _smaller(view: View) -> Advice | None:
    sides = [min(item.picture.width, item.picture.height) for item in view.kept]
    side = view.resolution or 0
    count = sum(s < side for s in sides)
    if not count:
        return None
    finding = f"{share(count, len(sides))} smaller than the training resolution of {side}."
    other = _resolution_for(sides, side)
    instead = (
        f"train at {other}: data.resolution = {other}" if other else f"leave them out: clean.minimum_side = {side}"
    )
    why = "They are enlarged for training and will look soft."
    return Advice(_severity(count, len(sides)), count, finding, why, f"Add larger ones, or {instead}.")


def _resolution_for(sides: list[int], side: int) -> int | None:
    """The next lower resolution that all but one in fifty pictures have; at least half of what was wanted."""
    step = STEP if side >= 4 * STEP else 8
    lower = range((side - 1) // step * step, (side + 1) // 2 - 1, -step)
    return next((other for other in lower if 50 * sum(s < other for s in sides) <= len(sides)), None)


def _cut(view: View) -> Advice | None:
    lengths = [view.lengths.of[text].length for text in view.captions if view.lengths.too_long(text)]
    if not lengths or view.lengths.most is None:
        return None
    whole, most = len(view.captions), view.lengths.most
    finding = f"{share(len(lengths), whole, 'caption')} longer than the {most} tokens that are read at once."
    why = f"They are read in several windows, which takes time; others cut up to {max(lengths) - most} tokens off."
    do = "Put what matters first; what would be cut is underlined below."
    return Advice("good to know", len(lengths), finding, why, do)


def _equal(view: View) -> Advice | None:
    counts, whole = Counter(view.captions), len(view.captions)
    shared = sum(count for count in counts.values() if count > 1)
    if len(counts) == 1 < whole:
        why = "The model cannot tell the style from what each picture shows: it learns to draw all of it at once."
        do = "Let each caption begin with the same words and then say what its picture shows."
        return Advice("serious", whole, f"All {whole:,} captions are the same.", why, do)
    if shared < MANY_EQUAL * whole:
        return None
    (text, most), *_ = counts.most_common(1)
    finding = f"{share(shared, whole, have=True)} the same caption as another."
    why = f"For equal words the model learns something in between; {most:,} say “{_short(text)}”."
    return Advice("worth a look", shared, finding, why, "Say in each caption what is different in its picture.")


def _without_trigger(view: View) -> Advice | None:
    captions, whole = view.captions, len(view.captions)
    trigger = view.trigger or usual_beginning(captions)
    if len(set(captions)) == 1 and not trigger:
        return None
    if not trigger:
        why = "No words call the style, so it shows everywhere or nowhere, and no plain pictures guard the others."
        do = 'Let all captions begin with the same words, such as "my style drawing of", or set text.trigger.'
        return Advice("worth a look", whole, "The captions have no first words in common.", why, do)
    lacking = [text for text in captions if not text.startswith(trigger)]
    if not lacking:
        return None
    finding = f"{share(len(lacking), whole, 'caption', have=True)} other first words than “{_short(trigger)}”."
    why = f"The model learns the style for other words, too; one is “{_short(lacking[0])}”."
    do = "Put these words first in every caption in train/metadata.csv."
    return Advice(_severity(len(lacking), whole), len(lacking), finding, why, do)


def _one_word(view: View) -> Advice | None:
    counts, whole = word_counts(view.captions, view.trigger or usual_beginning(view.captions)), len(view.captions)
    word, count = counts.most_common(1)[0] if counts else ("", 0)
    if count <= DOMINATES * whole or len(set(view.captions)) == 1:
        return None
    finding = f"“{_short(word)}” stands in {count:,} of {whole:,} captions."
    why = "What nearly all pictures have becomes part of the style: it comes without being asked for."
    return Advice("good to know", count, finding, why, "If that is not meant, add pictures of other things.")


def _one_colour(view: View) -> Advice | None:
    largest = max(view.shares.get(COLOUR, ()), key=lambda share: share.now, default=None)
    if largest is None or largest.now < DOMINATES or largest.group == MIXED:
        return None
    finding = f"{share(largest.pictures, len(view.dataset.part('train')), 'training picture')} mostly {largest.group}."
    why = f"{100 * largest.now:.0f} % of what the model sees has this colour: it becomes part of the style."
    return Advice("good to know", largest.pictures, finding, why, _even_out(COLOUR, "in other colours"))


def _one_group(view: View) -> Advice | None:
    """Word of the column whose largest group takes most of the training."""
    columns = {way: found for way, found in view.shares.items() if way not in (COLOUR, SOURCE, *TAG_COLUMNS)}
    found = {way: max((s for s in shares if s.group), key=lambda s: s.now) for way, shares in columns.items()}
    way, largest = max(found.items(), key=lambda pair: pair[1].now, default=("", None))
    if largest is None or largest.now < DOMINATES:
        return None
    whole, said = len(view.dataset.part("train")), f"“{_short(largest.group)}” as {way}"
    finding = f"{share(largest.pictures, whole, 'training picture', have=True)} {said}."
    why = f"{100 * largest.now:.0f} % of what the model sees is of that: the others are learnt worse."
    return Advice("worth a look", largest.pictures, finding, why, _even_out(way, "of others"))


def _even_out(way: str, others: str) -> str:
    command = f"bespoke data balance --set balance.by={way}"
    return f"If that is not meant, add pictures {others}, or see what {command} proposes."


def _divided(view: View) -> Advice | None:
    """Word of groups that people or an older split have torn apart."""
    torn = [group for group in view.groups if len({picture.split for picture in group.members}) > 1]
    if not torn:
        return None
    count = sum(len(group.members) for group in torn)
    finding = (
        f"{share(count, len(view.kept))} in {len(torn):,} group{'s' * (len(torn) != 1)} on both sides of the split."
    )
    why = "Training gives away what is held out, so the validation loss looks better than it is."
    return Advice("serious", count, finding, why, "Run bespoke data split.")


def _counting_often(view: View) -> Advice | None:
    repeats = [picture.repeats for picture in view.dataset.part("train")]
    often = [r for r in repeats if r >= EXTREME * median(repeats)]
    if not often:
        return None
    finding = (
        f"{share(len(often), len(repeats), 'training picture')} counted {EXTREME} times as often as most, or more."
    )
    why = (
        f"They make up {100 * sum(often) / sum(repeats):.0f} % of what the model sees, and it may learn them by heart."
    )
    return Advice("worth a look", len(often), finding, why, "Lower their repeats in train/metadata.csv.")


def _copies(view: View) -> Advice | None:
    count = sum(item.judgement.like in view.kept_names for item in view.kept)
    if not count:
        return None
    finding = f"{share(count, len(view.kept))} kept although another looks the same."
    why = "Together they count several times, and the model may learn them by heart."
    do = "If that is not meant, name the rule in clean.set_aside and run bespoke data clean."
    return Advice(_severity(count, len(view.kept)), count, finding, why, do)


def _outdated(view: View) -> Advice | None:
    verdicts = [item.judgement.verdict for item in view.kept if not item.judgement.like and item.judgement.verdict]
    if not verdicts:
        return None
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in Counter(v.reason for v in verdicts).most_common())
    finding = f"{share(len(verdicts), len(view.kept))} kept although the recipe's rules set such ones aside."
    why = f"The rules have changed since: {reasons}."
    return Advice("worth a look", len(verdicts), finding, why, "Run bespoke data clean to apply them.")


def _uncaptioned(view: View) -> Advice | None:
    count = view.dataset.reasons().get("no caption", 0)
    if not count:
        return None
    finding = f"{share(count, view.dataset.files, 'file')} set aside for want of a caption."
    do = "Write a text file beside each, cat.txt for cat.png, or fill in its row of the table, and import again."
    return Advice(_severity(count, view.dataset.files), count, finding, "Without one a picture teaches nothing.", do)


def _unreadable(view: View) -> Advice | None:
    count = view.dataset.reasons().get("unreadable", 0)
    if not count:
        return None
    finding = f"{share(count, view.dataset.files, 'file')} damaged or of a kind that is not read."
    do = "Copy them again from where they came from, then import again."
    return Advice(_severity(count, view.dataset.files), count, finding, "They are left out.", do)


def _doubts(view: View) -> list[Advice]:
    """What the rules find in kept pictures, a word for each rule."""
    whole = len(view.kept)
    found = {rule: len(items) for rule, items in view.doubtful.items() if rule not in LOOK_ALIKE and rule in DOUBTS}
    told = [(count, rule, *DOUBTS[rule]) for rule, count in found.items()]
    return [
        Advice(
            "worth a look" if 4 * count >= whole else "good to know",
            count,
            f"{share(count, whole, have=rule in HAVE)} {what}.",
            f"{why}.",
            f"{do}, or name “{rule}” in clean.set_aside and run bespoke data clean.",
        )
        for count, rule, what, why, do in told
    ]


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
