"""Types and shapes are checked in every call that a test makes, by jaxtyping or by beartype alone."""

import hashlib
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import TypeCheckError

from bespoke.diffusion.flow import flow_noisy
from bespoke.hardware import memory_size
from bespoke.workspace import Run, sha256


def test_shapes_that_do_not_go_together_are_refused() -> None:
    clean, sigmas = torch.zeros(2, 4, 8, 8), torch.zeros(2)
    assert flow_noisy(clean, clean, sigmas).shape == clean.shape
    with pytest.raises(TypeCheckError, match="sigmas"):
        flow_noisy(clean, clean, torch.zeros(3))
    with pytest.raises(TypeCheckError, match="noise"):
        flow_noisy(clean, clean[:, :3], sigmas)


def test_types_are_checked_where_there_are_no_shapes() -> None:
    assert memory_size("2GB") == 2**31
    with pytest.raises(BeartypeCallHintParamViolation, match="text"):
        memory_size(2)
    with pytest.raises(BeartypeCallHintParamViolation, match="root"):
        Run("of a dataclass's own making")


def test_what_is_given_back_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: Numbers())
    with pytest.raises(BeartypeCallHintReturnViolation, match="violates type hint"):
        sha256(Path(__file__))


class Numbers:
    """A digest that is no text."""

    def hexdigest(self) -> int:
        return 1
