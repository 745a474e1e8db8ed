"""`bespoke feedback propose --run`, killed as a stage is done but not on record yet, or in the middle of training.

`python -m tests.flow.dying PROJECT STAGE [--approve]`
"""

import os
import signal
import sys
from typing import Any

from bespoke.pipeline import challenging, updating


def die(*_: Any) -> None:
    """The end of this process, without anything being cleared away."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Goes on with the update until the stage."""
    project, stage, *rest = sys.argv[1:]
    by_stage: Any = challenging.BY_STAGE
    whole = by_stage[stage]

    def heard(what: str, done: int, *_: Any) -> None:
        if stage == "train" and what == "train" and done >= 2:
            die()

    by_stage[stage] = lambda work: die(whole(work))
    updating.propose(project, run=True, approve="--approve" in rest, report=heard)


main()
