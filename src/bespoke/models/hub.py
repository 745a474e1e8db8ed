"""A model of Hugging Face's hub turned into its folder on this machine: only what is needed, whole, of one commit."""

import contextlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.models.families import family_of
from bespoke.models.quietly import quiet
from bespoke.workspace import sha256

INDEX = "model_index.json"
WEIGHTLESS = ("tokenizer", "tokenizer_2", "tokenizer_3", "scheduler")
"""The parts of a model that have no weights."""
HINT = "Name `pico`, a folder in diffusers' layout, or a hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5."
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_ID = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^@\s]+))?", re.ASCII)
_FILE = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^@/\s]+))?/(?P<file>[^@]+)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def parsed(name: str) -> tuple[str, str | None] | None:
    """The id and the revision that `OWNER/NAME` or `OWNER/NAME@REVISION` means; nothing for any other name."""
    found = _ID.fullmatch(name) if "--" not in name and ".." not in name else None
    return (found["id"], found["revision"]) if found else None


def folder_of(name: str, *, download: bool = True) -> Path:
    """The folder of a model of the hub, with its weights as safetensors; what is there already is not fetched again.

    `name` may end with a branch, tag or commit: `OWNER/NAME@REVISION`. Files that an earlier
    call brought whole stay. Without the internet, or with HF_HUB_OFFLINE, it is the model that was fetched before.

    Raises: BespokeError when there is no such model or revision here, it may not be read, cannot be used, or came other
    than the hub says it is; without `download` also when it is not on this machine.
    """
    known = parsed(name)
    if known is None or os.sep * 2 in name:
        raise BespokeError(f"There is no model {name!r}.", HINT)
    from huggingface_hub import hf_hub_download

    begun = time.time()
    with quiet():
        try:
            index = Path(hf_hub_download(known[0], INDEX, revision=known[1], local_files_only=not download))
            # Asked before gigabytes come that cannot be used.
            family_of(json.loads(index.read_text(encoding="utf-8"))["_class_name"], name)
            folder = _downloaded(known[0], index.parent.name, download=download)
        except (BespokeError, MemoryError):
            raise
        except Exception as error:
            raise _refused(error, name, *known) from error
    _check(folder, begun, name)
    if lacking := _lacking(folder):
        problem = f"{name} is not whole on this machine: it lacks the weights of {', '.join(lacking)}."
        raise BespokeError(problem, "Run the same command where the hub can be asked; what is here stays.")
    return folder


def file_of(name: str, *, download: bool = True) -> Path:
    """A single file of the hub on this machine: `OWNER/NAME/FILE` or `OWNER/NAME@REVISION/FILE`.

    Raises: BespokeError as `folder_of`.
    """
    known = _FILE.fullmatch(name)
    if known is None:
        raise BespokeError(f"hf://{name} is no file of a model.", "Write hf://OWNER/NAME/FILE.safetensors.")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    repository, file, revision = known["id"], known["file"], known["revision"]
    begun = time.time()
    try:
        with quiet():
            path = Path(hf_hub_download(repository, file, revision=revision, local_files_only=not download))
    except RemoteEntryNotFoundError:
        raise BespokeError(f"{repository} has no file {file!r}.", "Look on its page which there are.") from None
    except Exception as error:
        raise _refused(error, f"hf://{name}", repository, revision) from error
    _check(path.parent, begun, f"hf://{name}")
    return path


def commit_of(folder: Path) -> str:
    """The commit of a model that `folder_of` gave; nothing for any other folder. Source: huggingface_hub's cache."""
    return folder.name if _COMMIT.fullmatch(folder.name) and folder.parent.name == "snapshots" else ""


def _downloaded(repository: str, commit: str, *, download: bool) -> Path:
    """The folder of a commit; the hub is asked only where something of it is not here."""
    from diffusers import DiffusionPipeline

    options: dict[str, Any] = {"revision": commit, "use_safetensors": True}
    if download:
        with contextlib.suppress(OSError):  # what diffusers and huggingface_hub say where files are missing
            folder = Path(DiffusionPipeline.download(repository, local_files_only=True, **options))
            if not _lacking(folder):
                return folder
    return Path(DiffusionPipeline.download(repository, local_files_only=not download, **options))


def _lacking(folder: Path) -> list[str]:
    """The parts whose weights are not in a folder; a link to what was thrown away is nothing."""
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    family = family_of(index["_class_name"], folder.name)
    offered = [part for part in family.optional if (index.get(part) or [None])[0]]
    needed = [part for part in (*family.parts, *offered) if part not in WEIGHTLESS]
    return [part for part in needed if not any(file.exists() for file in (folder / part).glob("*.safetensors"))]


def _check(folder: Path, since: float, name: str) -> None:
    """Compares the large files that came since then with the SHA-256 that the hub told.

    huggingface_hub calls each by it in its cache, and compares sizes only.

    Raises: BespokeError when one is another; it is removed.
    """
    for file in sorted(file for file in folder.rglob("*") if file.is_symlink()):
        blob = file.resolve()
        if _DIGEST.fullmatch(blob.name) and blob.stat().st_mtime >= since - 2 and sha256(blob) != blob.name:
            blob.unlink()
            file.unlink()
            problem = f"{name}: {file.relative_to(folder).as_posix()} came other than the hub says that it is."
            raise BespokeError(problem, "It was thrown away. Run the same command again.")


def _refused(error: Exception, name: str, repository: str, revision: str | None) -> BespokeError:
    """What kept a model from being had, and what a person can do about it."""
    from huggingface_hub import errors

    cause = _cause(error)
    if told := _said_by_hub(cause, name, repository, revision):
        return told
    if "necessary `safetensors`" in str(error):
        hint = f"Many models have a branch with safetensors: {repository}@refs/pr/1, or as its page says."
        return BespokeError(f"{name} lacks weights as safetensors; pickled ones (.bin) are not read.", hint)
    if isinstance(error, ValueError | KeyError | TypeError):
        return BespokeError(f"{name}: its {INDEX} is damaged.", "Name another revision or model.")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return _not_here(name, cause)
    hint = "The files that came whole stay: the same command fetches the rest."
    return BespokeError(f"{name} did not come whole from the hub: {_first_line(cause)}", hint)


def _said_by_hub(cause: BaseException, name: str, repository: str, revision: str | None) -> BespokeError | None:
    """What the hub itself refused; nothing where it did not."""
    from huggingface_hub import errors

    if isinstance(cause, errors.GatedRepoError):
        page = f"{_endpoint()}/{repository}"
        return BespokeError(f"{name} is gated.", f"Accept its licence on {page}, then {LOG_IN}.")
    if isinstance(cause, errors.RevisionNotFoundError):
        hint = f"Look on its page which branches, tags and commits there are, or name {repository} alone."
        return BespokeError(f"{repository} has no revision {revision!r}.", hint)
    if _is_missing(cause):
        problem = f"The hub has no model {repository!r}, or it is private."
        return BespokeError(problem, f"{HINT} If it is private, {LOG_IN}.")
    if isinstance(cause, errors.RemoteEntryNotFoundError):
        return _without_index(name, repository, revision)
    return None


def _cause(error: BaseException) -> BaseException:
    """What the hub said, behind what its libraries make of it."""
    from huggingface_hub import errors

    behind = error.__cause__
    while behind is not None and not isinstance(error, errors.HfHubHTTPError):
        error, behind = behind, behind.__cause__
    return error


def _is_missing(cause: BaseException) -> bool:
    """Whether the hub says that it has no such model, or none for this person, which it does not tell apart."""
    from huggingface_hub import errors

    # huggingface_hub knows what 401 means from servers with https only, and there are mirrors without.
    unknown = isinstance(cause, errors.HfHubHTTPError) and cause.response.status_code == 401
    return isinstance(cause, errors.RepositoryNotFoundError | errors.HFValidationError) or unknown


def _not_here(name: str, cause: BaseException) -> BespokeError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        hint = "Unset HF_HUB_OFFLINE to fetch it, or name `pico`, or a folder of a model that is here."
        return BespokeError(f"{name!r} is not on this machine, and HF_HUB_OFFLINE keeps it from being fetched.", hint)
    problem = f"{name!r} is no folder here, and the hub could not be asked: {_first_line(cause)}"
    return BespokeError(problem, HINT)


def _without_index(name: str, repository: str, revision: str | None) -> BespokeError:
    """A repository without an index may hold whole models in single files, which are named here."""
    from huggingface_hub import HfApi

    try:
        found = HfApi().list_repo_files(repository, revision=revision)
    except OSError:
        found = []
    problem = f"{name} is not a Stable Diffusion in diffusers' layout: it has no {INDEX}."
    single = [file for file in found if file.endswith(".safetensors") and "/" not in file]
    pickled = [file for file in found if file.endswith((".ckpt", ".bin", ".pt", ".pth"))]
    if single:
        return BespokeError(problem, f"It holds {', '.join(single[:4])}: name one, hf://{repository}/{single[0]}.")
    if pickled:
        hint = "Name a model that has safetensors; a .ckpt that you trust is read by: bespoke models import --ckpt"
        return BespokeError(f"{problem} It holds pickles, such as {pickled[0]}.", hint)
    return BespokeError(problem, HINT)


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
