"""Trials of a search on a Ray cluster, by Ray Tune: several at a time, each where there is room for it.

What is tried and which trials are ended early is another's matter: Tune asks for trials and tells what they report.
Source: Ray Tune's documentation, "Tune Search Algorithms" and "Tune Trial Schedulers".
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bespoke.errors import BespokeError
from bespoke.scale.connection import connected
from bespoke.scale.worker import at_home, loaded

LIVES = 2
"""How often a trial whose worker is lost is begun again elsewhere."""

Told = Callable[[int, float], object]
"""What a trial calls with a step and its score there."""


@runtime_checkable
class Search(Protocol):
    """Whoever asks for trials and judges them; all of it happens in the process that searches."""

    def ask(self) -> tuple[str, Any] | None:
        """The name of the next trial and what its function takes; nothing when no other is wanted."""
        ...

    def heard(self, name: str, step: int, score: float) -> bool:
        """Takes in what a trial tells; whether it is to be ended now."""
        ...

    def ended(self, name: str, result: dict[str, Any] | None) -> None:
        """Takes in what the function returned; nothing where the trial was ended early or was lost."""
        ...

    def check(self) -> None:
        """Called again and again; what it raises ends the search."""
        ...


def tuned(function: bytes, search: Search, parallel: int | None = None) -> None:
    """Runs a search's trials on the cluster, `parallel` at a time, by default as many as there is room for.

    The packed function takes a trial's content and a `Told`, and returns a dictionary of plain values. Each trial has a
    processor and, where the cluster has any, a GPU.

    Raises: BespokeError when Ray is not installed or cannot be reached, or has no room; whatever `search.check` raises.
    """
    ray, leave = connected("sweep.backend")
    try:
        has = ray.cluster_resources()
        if has.get("CPU", 0) < 1:
            raise BespokeError("The Ray cluster has no processor for a training.", "Look at it with `ray status`.")
        needs: dict[str, float] = {"cpu": 1.0, **({"gpu": 1.0} if has.get("GPU", 0) >= 1 else {})}
        with tempfile.TemporaryDirectory(prefix="bespoke-tune-") as folder:
            _run(function, search, parallel, needs, folder)
    finally:
        leave()


def _run(function: bytes, search: Search, parallel: int | None, needs: dict[str, float], folder: str) -> None:
    # Signals are the caller's matter, and Tune's tables of trials are none that our users know.
    os.environ |= dict.fromkeys(("TUNE_DISABLE_SIGINT_HANDLER", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"), "1")
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    from ray import tune

    from bespoke.scale.asking import Asking, Checking, Heeding, Held

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

    held = Held(search)
    config = tune.TuneConfig(
        search_alg=Asking(held),
        scheduler=Heeding(held),
        num_samples=-1,
        max_concurrent_trials=parallel,
        metric="score",
        mode="min",
    )
    lives = tune.FailureConfig(max_failures=LIVES)
    run = tune.RunConfig(name="sweep", storage_path=folder, failure_config=lives, callbacks=[Checking(held)], verbose=0)
    trainable = tune.with_resources(
        tune.with_parameters(_trial, packed=function, path=sys.path, at=str(Path.cwd())), needs
    )
    tune.Tuner(trainable, tune_config=config, run_config=run).fit()


def _trial(config: dict[str, Any], packed: bytes, path: list[str], at: str) -> dict[str, Any]:
    """What runs on a worker."""
    from ray import tune

    at_home(path, at)
    function: Callable[..., Any] = loaded(packed)
    result = function(config["content"], lambda step, score: tune.report({"step": step, "score": score}))
    return {"step": -1, "score": 0.0, "result": json.dumps(result)}
