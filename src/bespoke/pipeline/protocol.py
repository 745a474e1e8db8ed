"""A comparison turned into what its scores rest on, so that another's can be told to be comparable with it or not."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bespoke.evaluation import Scorecard
from bespoke.pipeline.compared import Compared
from bespoke.pipeline.naming import marks_of
from bespoke.pipeline.prompts import TRAINED
from bespoke.pipeline.references import Own
from bespoke.sampling import choices
from bespoke.workspace import sha256


def protocol(compared: Compared, card: Scorecard) -> dict[str, Any]:
    """What was drawn and measured with, as JSON: scores are comparable exactly where all of it is equal.

    What each model was trained on is no part of it: that is what they may differ in.
    """
    kinds = {kind: list(said) for kind, said in compared.prompts.kinds.items() if kind != TRAINED}
    return {
        "prompts": kinds,
        "seeds": list(card.seeds),
        "settings": dict(choices(compared.settings)),
        "references": _digest(compared.references.goal),
        "instruments": [asdict(one) for one in card.instruments if one.slug in card.distance],
        "base": marks_of(compared.models[card.control]),
    }


def marks(compared: Compared) -> dict[str, dict[str, str | None]]:
    """By model: a mark of each part that draws."""
    return {model: marks_of(source) for model, source in compared.models.items()}


def _digest(pictures: Sequence[Own]) -> str:
    """A hash of pictures, equal for equal ones in whichever order."""
    return hashlib.sha256("".join(sorted(sha256(one.file) for one in pictures)).encode()).hexdigest()
