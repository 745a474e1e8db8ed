"""The figures of a proof written to `docs/results/NAME.json`, with the command, the commit and the machine."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bespoke.workspace import write_json

ROOT = Path(__file__).parents[1]


def write(name: str, figures: dict[str, Any], part: str = "", room: str = "proofs") -> Path:
    """The file, written; `part` where one proof has several, `room` where it is no proof."""
    path = ROOT / "docs" / "results" / f"{'-'.join(filter(None, (name, part)))}.json"
    write_json(path, told(name, figures, room))
    return path


def told(name: str, figures: dict[str, Any], room: str = "proofs") -> dict[str, Any]:
    """The figures with the command, the commit, the day and the machine."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        # A path of this machine says nothing to anybody else.
        "command": " ".join(
            ["python -m", f"{room}.{name}", *("FOLDER" if Path(word).is_absolute() else word for word in sys.argv[1:])]
        ),
        "commit": commit.stdout.strip() or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__},
        "figures": figures,
    }
