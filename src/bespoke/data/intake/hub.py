"""Datasets of the Hugging Face hub: which names mean one, and what the hub's refusals mean."""

import os
import re
from pathlib import Path

from bespoke.errors import BespokeError

SCHEME = "hf"
DATASETS = f"{SCHEME}://datasets/"
CARDS = frozenset(("readme.md", "license", "license.md", "license.txt", "dataset_infos.json"))
"""What stands beside the tables of a published dataset and describes it, in lower case."""
_ID = re.compile(r"[a-z0-9][\w.-]*/\w[\w.-]*", re.ASCII | re.IGNORECASE)
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def address(source: str | Path) -> str | None:
    """The address of the hub's dataset that a plain id, OWNER/NAME, names; nothing where it lies on this machine.

    A path is never an id.
    """
    if not isinstance(source, str) or not _ID.fullmatch(source) or os.path.lexists(source):
        return None
    return DATASETS + source


def refused(error: Exception, name: str) -> BespokeError:
    """What kept the dataset `name` of the hub from being read, and what a person can do about it."""
    from huggingface_hub import errors

    # The file system says of much that a file is not found; the hub's own word stands behind it.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    if isinstance(cause, errors.OfflineModeIsEnabled):
        hint = "Unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or fetch the dataset elsewhere and name its folder."
        return BespokeError(f"{name} cannot be fetched: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set.", hint)
    if isinstance(cause, errors.GatedRepoError):
        return BespokeError(f"{name} is gated.", f"Accept its conditions on its page, then {_LOG_IN}.")
    if _missing(cause):
        problem = f"{name} is not on the hub, or it is private."
        return BespokeError(problem, f"{_spelling(name)} If it is private, {_LOG_IN}.")
    if isinstance(cause, FileNotFoundError | errors.EntryNotFoundError | errors.RevisionNotFoundError):
        problem = f"{name} cannot be read: the hub has the dataset, but not what is named in it."
        return BespokeError(problem, "Look on its page which revisions, folders and files there are.")
    said = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    hint = "Check the address, that this machine reaches the hub, and HF_TOKEN if it is set."
    return BespokeError(f"{name} cannot be read: {said}", hint)


def _missing(cause: BaseException) -> bool:
    """Whether the hub says that it has no such dataset, or none for this person, which it does not tell apart."""
    from huggingface_hub import errors

    # huggingface_hub knows what 401 means from servers with https only, and there are mirrors without.
    unknown = isinstance(cause, errors.HfHubHTTPError) and cause.response.status_code == 401
    known = isinstance(cause, errors.RepositoryNotFoundError | errors.HFValidationError)
    return known or (unknown and "Invalid credentials" not in str(cause))


def _spelling(name: str) -> str:
    if name.startswith(DATASETS):
        return "Check how owner and name are spelled."
    return f"Datasets are at {DATASETS}OWNER/NAME."
