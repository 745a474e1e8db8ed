"""A training's figures turned into a run in an MLflow store, without the training ever waiting for the store."""

import json
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bespoke.registry import store
from bespoke.workspace import write_json

State = Literal["FINISHED", "KILLED", "FAILED"]
FILE = "tracking.json"
"""Says, in a run's folder, which run in which store it is."""
TOGETHER = 1000
"""Most figures that MLflow takes at once."""
PARAMETERS_TOGETHER = 100
LONGEST = 6000
"""Characters that a parameter's value may have."""
LONG = 200
"""Letters of a problem that are told."""
PAUSE = 5.0
"""Seconds between two sendings: each costs some thirtieth of a second, however little is sent."""
AGAIN = 30.0
"""Seconds after which a store that could not be reached is tried again."""
PATIENCE: dict[State, float] = {"FINISHED": 30.0, "KILLED": 10.0, "FAILED": 10.0}
"""Most seconds that the end of a training waits for the store."""


@dataclass(frozen=True)
class About:
    """What is said of a run once."""

    name: str
    experiment: str
    artifacts: str
    """Where MLflow may put files, as a URL; empty: where the server does."""
    parameters: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)


Figure = tuple[str, float, int, int]
"""Name, value, step and time in milliseconds."""


class Tracking:
    """A run in a store. A thread of its own sends; nothing that goes wrong there stops or delays a training."""

    def __init__(self, folder: Path, address: str, about: Callable[[], About]) -> None:
        store.load()  # here: modules that two threads load at once may be seen half made
        self.trouble: str | None = None
        """What went wrong, in words, if something did."""
        self._file, self._address, self._about = folder / FILE, address, about
        self._figures: deque[Figure] = deque()
        self._ending: tuple[State, str] | None = None
        self._news, self._over = threading.Event(), threading.Event()
        self._client: Any = None
        self._run, self._known = "", set[tuple[str, int]]()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def log(self, numbers: Mapping[str, float], step: int, seconds: float) -> None:
        """Takes in a step's figures, of a moment in seconds since 1970; those that the store has are not doubled."""
        finite = ((_plain(name), value) for name, value in numbers.items() if math.isfinite(value))
        self._figures.extend((name, value, step, round(1000 * seconds)) for name, value in finite)
        self._news.set()

    def close(self, state: State, reason: str = "") -> None:
        """Sends what is left, and says how the run ended."""
        self._ending = (state, reason)
        self._over.set()
        self._news.set()
        self._thread.join(PATIENCE[state])
        if self._thread.is_alive() and not self.trouble:
            self.trouble = self._words("it does not answer")

    def _work(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            ending = self._ending
            try:
                self._send()
                if ending:
                    self._end(*ending)
            except Exception as error:  # noqa: BLE001 - whatever a store and its drivers may raise
                self.trouble = self.trouble or self._words(store.words(error))
                self._client = None
                pause = AGAIN
                self._news.set()
            else:
                pause = PAUSE
            if ending:
                return
            self._over.wait(pause)

    def _send(self) -> None:
        """All that waits to be sent, in the order in which it came."""
        from mlflow.entities import Metric

        client = self._client = self._client or self._begin()
        while self._figures:
            part = [self._figures[place] for place in range(min(TOGETHER, len(self._figures)))]
            new = {(name, step): (name, value, time, step) for name, value, step, time in part}
            wanted = [Metric(*values) for key, values in new.items() if key not in self._known]
            if wanted:
                client.log_batch(self._run, metrics=wanted)
            self._known.update(new)
            for _ in part:
                self._figures.popleft()

    def _begin(self) -> Any:
        """A client of the opened store, in which the run goes on or, where it is none yet, begins."""
        client = store.client(self._address)
        if not (self._run or self._went_on(client)):
            self._run = self._new(client)
            write_json(self._file, {"store": store.shown(self._address), "run": self._run})
        return client

    def _went_on(self, client: Any) -> bool:
        self._run = known(client, self._file.parent, self._address)
        if not self._run:
            return False
        run = client.get_run(self._run)
        for name in run.data.metrics:
            self._known.update((name, old.step) for old in client.get_metric_history(self._run, name))
        client.update_run(self._run, status="RUNNING")
        return True

    def _new(self, client: Any) -> str:
        from mlflow.entities import Param

        about = self._about()
        experiment = client.get_experiment_by_name(about.experiment)
        number = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(about.experiment, about.artifacts or None)
        )
        run = client.create_run(number, tags=dict(about.tags), run_name=about.name).info.run_id
        values = [Param(name, str(value)[:LONGEST]) for name, value in about.parameters.items()]
        for part in _parts(values, PARAMETERS_TOGETHER):
            client.log_batch(run, params=part)
        return run

    def _end(self, state: State, reason: str) -> None:
        if reason:
            self._client.set_tag(self._run, "bespoke.reason", reason)
        self._client.set_terminated(self._run, status=state)

    def _words(self, problem: str) -> str:
        name, short = store.shown(self._address), problem if len(problem) <= LONG else f"{problem[:LONG]}…"
        return f"MLflow's store at {name} cannot be used: {short}. Training goes on; metrics.jsonl has all figures."


def known(client: Any, folder: Path, address: str) -> str:
    """The MLflow run that a run's folder has in the store at an address; empty where it has none there."""
    from mlflow.exceptions import MlflowException

    try:
        before = json.loads((folder / FILE).read_text(encoding="utf-8"))
        run = client.get_run(before["run"]) if before["store"] == store.shown(address) else None
    except (OSError, ValueError, KeyError, MlflowException):
        return ""  # the run, or the whole store, is gone
    return str(run.info.run_id) if run is not None and run.info.lifecycle_stage == "active" else ""


def log_scores(client: Any, run: str, scores: Mapping[str, float]) -> None:
    """Tells an MLflow run its scores; those that are no number are left out."""
    from mlflow.entities import Metric

    now = round(1000 * time.time())
    told = [Metric(f"score/{_plain(name)}", value, now, 0) for name, value in scores.items() if math.isfinite(value)]
    for part in _parts(told, TOGETHER):
        client.log_batch(run, metrics=part)


def tell_scores(folder: Path, address: str, scores: Mapping[str, float]) -> str:
    """What went wrong, in words, when the MLflow run of a run's folder was told its scores; empty where nothing did.

    A run that is not in the store stays out of it.
    """
    if not (folder / FILE).is_file():
        return ""
    store.load()
    try:
        client = store.client(address)
        if run := known(client, folder, address):
            log_scores(client, run, scores)
    except Exception as error:  # noqa: BLE001 - whatever a store and its drivers may raise
        return f"MLflow's store at {store.shown(address)} was not told the scores: {store.words(error)[:LONG]}."
    return ""


def _parts(values: list[Any], size: int) -> Iterable[list[Any]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _plain(name: str) -> str:
    """A figure's name in the letters that MLflow allows."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)
