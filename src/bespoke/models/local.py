"""A model's name turned into its folder on this machine, without downloading; the folder into what it tells apart."""

import json
import os
from pathlib import Path

from bespoke.models.load import PICO, shipped

WEIGHTS = ("*.safetensors", "*.bin")


def at_hand(name: str) -> Path | None:
    """The folder of a model that lies on this machine: one in the package, a folder, or a hub id downloaded before.

    Nothing where it would have to be downloaded, or its weights are not there.
    """
    if name == "pico":
        return PICO
    folder = Path(shipped(name))
    if not folder.is_dir():
        found = _downloaded(name)
        if found is None:
            return None
        folder = found
    return folder if any(list(folder.rglob(pattern)) for pattern in WEIGHTS) else None


def weights_gb(name: str) -> float:
    """How much the weights of a model on this machine take on disk, in GiB; 0 where it is not on it."""
    folder = at_hand(name)
    kinds = [list(folder.rglob(pattern)) for pattern in WEIGHTS] if folder else []
    # A repository may hold the same weights in both formats, of which one is read.
    return max((sum(file.stat().st_size for file in files) for files in kinds), default=0) / 2**30


def labels(folder: Path) -> tuple[str, ...]:
    """The names of what the model in a folder tells apart, by their numbers; none where it does not say."""
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        return tuple(str(names[number]) for number in sorted(names, key=int))
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _downloaded(name: str) -> Path | None:
    """The newest snapshot of a hub model in Hugging Face's cache."""
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or os.sep * 2 in name:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None
