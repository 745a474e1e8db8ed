"""Shards sent to a place behind a URL, one after the other, so that a kill costs one of them at most."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bespoke.data.intake.remote import Place
from bespoke.data.sharding import Measured, Shard
from bespoke.errors import BespokeError

BEGUN, DONE = ".begun.json", ".manifest.json"
"""What is sent first and last. Hidden, so that nobody takes them for a part of the dataset."""


def send(shards: Sequence[Shard], source: Path, url: str, progress: Callable[[int, int], None] | None = None) -> int:
    """How many shards were sent; those that an earlier call sent whole were not. The pictures lie in `source`.

    Raises: BespokeError when something else lies at `url`, or it cannot be written.
    """
    place = Place(url)
    mark = _mark(shards)
    with place.explained(place.shown):
        sizes = _sizes(place)
        _check_ours(place, sizes, mark)
        if BEGUN not in sizes:
            _write(place, BEGUN, mark)
    sent, files = 0, dict[str, Any]()
    for number, shard in enumerate(shards, start=1):
        with place.explained(f"{place.shown}/{shard.name}"):
            size, digest = shard.write(source, Measured()) if shard.name in sizes else (None, "")
            if size is None or size != sizes[shard.name]:
                sent += 1
                with _opened(place, shard.name) as out:
                    size, digest = shard.write(source, out)
        files[shard.name] = {"bytes": size, "sha256": digest, "pictures": len(shard.pictures)}
        if progress is not None:
            progress(number, len(shards))
    with place.explained(place.shown):
        _write(place, DONE, {"files": files})
        place.system.rm_file(place.below(BEGUN))
    return sent


def _mark(shards: Sequence[Shard]) -> Mapping[str, str]:
    """What tells this export from any other."""
    digest = hashlib.sha256()
    for shard in shards:
        said = [asdict(picture) for picture in shard.pictures]
        digest.update(json.dumps([shard.name, said], sort_keys=True).encode())
    return {"export": digest.hexdigest()}


def _sizes(place: Place) -> dict[str, int]:
    """The sizes of the files that are there, by name."""
    with contextlib.suppress(FileNotFoundError):
        return {file.name: file.about()[0] or 0 for file in place.files()}
    return {}


def _check_ours(place: Place, sizes: Mapping[str, int], mark: Mapping[str, str]) -> None:
    if BEGUN in sizes:
        with contextlib.suppress(ValueError):
            if json.loads(place.system.cat_file(place.below(BEGUN))) == mark:
                return
    if sizes:
        what = "an export that was begun and is another" if BEGUN in sizes else f"{min(sizes)}, for one"
        raise BespokeError(f"{place.shown} is there already: {what}.", "Name a new place; nothing is overwritten.")


def _opened(place: Place, name: str) -> Any:  # noqa: ANN401 - whatever fsspec opens
    path = place.below(name)
    place.make_room(path)
    return place.system.open(path, "wb")


def _write(place: Place, name: str, content: object) -> None:
    with _opened(place, name) as out:
        out.write(json.dumps(content, indent=1).encode() + b"\n")
