"""A folder's files turned into a mark of the model that is in it."""

import hashlib
from pathlib import Path

from bespoke.workspace import sha256

CONTENT = (".json", ".txt", ".safetensors", ".bin")
"""What a model is read from. Weights that lie there in both forms count both: their names decide which are read."""


def fingerprint(folder: Path) -> str:
    """16 hexadecimal digits that are equal for folders with the same settings and weights."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.suffix in CONTENT and file.is_file()):
        digest.update(file.name.encode() + bytes.fromhex(sha256(file)))
    return digest.hexdigest()[:16]
