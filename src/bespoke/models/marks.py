"""A folder's files turned into a mark of the model that is in it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from bespoke.workspace import remembered

CONTENT = (".json", ".txt", ".safetensors", ".bin", ".onnx", ".onnx_data", ".xml")
"""What a model is read from. Weights that lie there in both forms count both: their names decide which are read."""


def fingerprint(folder: Path, digest: Callable[[Path], str] = remembered) -> str:
    """16 hexadecimal digits that are equal for folders with the same settings and weights.

    `digest` gives the SHA-256 of a file: by default that of a large one which is kept, if nobody touched it since.
    """
    mark = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.suffix in CONTENT and file.is_file()):
        mark.update(file.name.encode() + bytes.fromhex(digest(file)))
    return mark.hexdigest()[:16]


def settle(path: Path) -> None:
    """Sorts a file's metadata, which safetensors writes in random order: equal contents become equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        assert len(text) == length, "the same words in another order have the same length"
        file.seek(8)
        file.write(text)
