"""The demo, run once by its command at a small size, for all that is asked of what it leaves behind."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bespoke.pipeline.fitting import Meter

SMALL = (
    "train.max_train_steps=12", "train.num_class_images=4", "train.log_every=3", "sample.num_inference_steps=2",
    "sample.sample_every_n_steps=6",
    # By itself it would measure after every step, for much longer than it trains.
    "validation.validation_steps=6", "validation.strata=2",
)  # fmt: skip


@dataclass
class Demo:
    """The folder the command ran in, and the JSON it printed."""

    folder: Path
    content: dict[str, Any]

    def path(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("flow")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = [sys.executable, "-m", "bespoke", "demo", "--out", "demo", "--json", *settings]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Demo(folder, json.loads(done.stdout))


@pytest.fixture(scope="module")
def _each_variant_is_measured_once() -> Iterator[None]:
    """All meters of a module are of one dataset: what one has found, the others find."""
    from bespoke.pipeline.fitting import Estimate, Meter, what_counts
    from bespoke.recipe import Recipe

    found: dict[tuple[Path, str], Estimate] = {}
    measure = Meter._estimate

    def remembered(meter: Meter, recipe: Recipe) -> Estimate:
        key = (meter.checkpoint.folder, what_counts(recipe))
        if key not in found:
            found[key] = measure(meter, recipe)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Meter, "_estimate", remembered)
        yield


@pytest.fixture(scope="module")
def meter(recipe: Path) -> "Meter":
    """Estimates of a module's recipe."""
    from bespoke.pipeline.fitting import Meter
    from bespoke.pipeline.prepare import prepare

    prepared = prepare(recipe)
    return Meter(prepared.shown, prepared.start.checkpoint)
