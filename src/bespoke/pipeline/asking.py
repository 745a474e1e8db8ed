"""Prompts that are captions, matched with the pictures that have these captions."""

from collections.abc import Sequence

import numpy as np

from bespoke.evaluation.membership import Asked
from bespoke.pipeline.prompts import Prompts
from bespoke.pipeline.references import Own
from bespoke.sampling import Request


def said(prompts: Prompts, kind: str, pictures: Sequence[Own]) -> list[Own]:
    """The pictures whose captions are prompts of that kind, in their order."""
    wanted = set(prompts.kinds[kind])
    return [one for one in pictures if one.text in wanted]


def asked_for(requests: Sequence[Request], drawn: np.ndarray, pictures: Sequence[Own], features: np.ndarray) -> Asked:
    """Of features of what was `drawn` for the requests, [n d], those asked for by captions of `pictures`.

    `features` are the pictures' own, [m d].
    """
    numbers = {text: number for number, text in enumerate(dict.fromkeys(one.text for one in pictures))}
    rows = [row for row, request in enumerate(requests) if request.prompt in numbers]
    of = np.array([numbers[requests[row].prompt] for row in rows])
    return Asked(drawn[rows], of, features, np.array([numbers[one.text] for one in pictures]))
