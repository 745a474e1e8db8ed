"""Whether memory stays flat as pictures become many, `python -m benchmarks.streaming`: drawn, then read for features.

Each count runs in a process of its own, whose highest resident memory is told.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COUNTS = (64, 250, 1000)
KB, MB = 2**10, 2**20


def peak(count: int, folder: Path) -> int:
    """The highest resident memory in bytes of drawing so many pictures by pico in one step, and reading them."""
    from bespoke.hardware import machine
    from bespoke.models import Clip
    from bespoke.pipeline.measuring import features
    from bespoke.pipeline.naming import named
    from bespoke.pipeline.pictures import drawn
    from bespoke.pipeline.reporting import silent
    from bespoke.recipe.tree import Sample
    from bespoke.sampling import Request

    wish = Sample(num_inference_steps=1, guidance_scale=1.0, batch_size=16)
    requests = [Request("a red car on a blue ground", seed) for seed in range(count)]
    files = drawn(named("pico"), requests, folder, wish, silent)
    features(Clip("pico-CLIP", machine().device), files, silent, "read")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KB


def main() -> None:
    """The command."""
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(
                f"{sys.argv[1]} pictures: {peak(int(sys.argv[1]), Path(folder)) / MB:.0f} MB at the highest\n"
            )
        return
    for count in COUNTS:
        subprocess.run([sys.executable, "-m", "benchmarks.streaming", str(count)], check=True)


if __name__ == "__main__":
    main()
