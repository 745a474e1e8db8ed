"""What a run came from: base, pictures and code, by their hashes and licences, kept in its folder as it begins."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bespoke import registry
from bespoke.models import Checkpoint
from bespoke.models.passport import passport
from bespoke.models.safety import PART as CHECKER
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture
from bespoke.workspace import Project, Run, atomic_file, remembered, sha256, write_json

Origin = Mapping[str, Any]
UNSAFE = "unsafe content"
"""What the dataset's rule calls what the safety checker found."""


def keep(run: Run, recipe: Recipe, checkpoint: Checkpoint, more: Sequence[Picture] = ()) -> None:
    """Writes down what a run comes from, and keeps the record of its dataset; `more` are pictures beside that."""
    record = _record(run, recipe)
    write_json(run.origin, found(run, recipe, checkpoint, more))
    with atomic_file(run.begun_dataset) as copy:
        try:
            os.link(record, copy)  # it is never written to, only replaced
        except OSError:
            shutil.copyfile(record, copy)


def of_run(run: Run, recipe: Recipe, checkpoint: Checkpoint) -> Origin:
    """What a run came from, as it was written down; else as things are now."""
    if run.origin.is_file():
        return json.loads(run.origin.read_text(encoding="utf-8"))
    return found(run, recipe, checkpoint)


def found(run: Run, recipe: Recipe, checkpoint: Checkpoint, more: Sequence[Picture] = ()) -> Origin:
    """What a run that begins now comes from."""
    record = _record(run, recipe)
    _, dataset = Dataset.from_json(record.read_text(encoding="utf-8"))
    pictures = (*dataset.pictures, *more)
    return {
        "run": run.root.name,
        "method": recipe.model.method,
        "base": recipe.model.base,
        "base_hash": base_hash(checkpoint, sha256),  # written down for good, so the bytes are read
        "base_commit": checkpoint.commit,
        "base_licence": licence(checkpoint),
        "safety_checker": checkpoint.part(CHECKER).is_dir(),
        "dataset_hash": sha256(record),
        "pictures": len(dataset.pictures),
        "regularisation": {one.file: one.sha256 for one in more},
        "licences": dict(sorted(Counter(one.labels.get("licence") or registry.UNKNOWN for one in pictures).items())),
        "unsafe": sum(any(doubt.startswith(UNSAFE) for doubt in one.doubts) for one in pictures),
        "version": importlib.metadata.version("bespoke"),
        "commit": _commit(),
    }


def base_hash(checkpoint: Checkpoint, digest: Callable[[Path], str] = remembered) -> str:
    """16 hexadecimal digits, equal for bases of equal weights, settings and words; `digest` gives that of a file."""
    marks = "".join(checkpoint.fingerprint(part, digest) for part in checkpoint.family.parts)
    return hashlib.sha256(marks.encode()).hexdigest()[:16]


def licence(checkpoint: Checkpoint) -> str:
    """What a model's card says of its licence, or its file; empty where neither does."""
    card, file = checkpoint.folder / "README.md", Path(checkpoint.name)
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    told = next((line.partition(":")[2].strip() for line in lines if line.startswith("license:")), "")
    return told or (passport(file).licence if file.is_file() else "")


def about(run: Run, recipe: Recipe, origin: Origin, address: str) -> registry.About:
    """What the store at an address is told of a run once."""
    project, track = Project(run.root.parent.parent), recipe.track
    artifacts = "" if address.startswith(("http://", "https://")) else project.runs.as_uri()
    return registry.About(
        run.root.name, track.experiment or project.root.name, artifacts, parameters(recipe), _tags(origin)
    )


def parameters(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a resolved recipe by its dotted name; where figures are sent is none."""
    flat: dict[str, Any] = {}
    for section, content in recipe.model_dump(mode="json", exclude={"track", "remote"}).items():
        several = isinstance(content, list)  # of tables, such as [[stage]]
        for number, table in enumerate(content if several else [content], start=1):
            name = f"{section}.{number}" if several else section
            flat |= {f"{name}.{key}": value for key, value in table.items()}
    return flat


def _record(run: Run, recipe: Recipe) -> Path:
    return run.root.parent.parent / recipe.data.path / "dataset.json"


def _tags(origin: Origin) -> dict[str, str]:
    told = {key: origin[key] for key in ("run", "base", "base_hash", "base_commit", "base_licence", "version")}
    told |= {"dataset_hash": origin["dataset_hash"][:16], "licences": json.dumps(origin["licences"])}
    tags = {f"bespoke.{key}": value for key, value in told.items() if value}
    tags["mlflow.source.name"] = "bespoke train"
    return tags | ({"mlflow.source.git.commit": origin["commit"]} if origin["commit"] else {})


def _commit() -> str:
    """The commit of the code, where it runs from a checkout."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, check=False, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
