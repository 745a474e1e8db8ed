"""A search in Ray Tune's clothes: what suggests trials, what ends them, and what is called between.

Tune writes down its own state with these in it, by name: they stand at a module's top, and hold the search so that it
is left out.
"""

import json
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

if TYPE_CHECKING:
    from bespoke.scale.tuning import Search


class Held:
    """A search, and the names of Tune's trials; Tune's copies of its own state hold neither."""

    def __init__(self, search: "Search | None" = None) -> None:
        self._search, self.names = search, dict[str, str]()

    @property
    def search(self) -> "Search":
        """The search."""
        assert self._search is not None
        return self._search

    def __reduce__(self) -> tuple[type["Held"], tuple[()]]:
        return Held, ()


class Asking(Searcher):
    """Suggests what the search asks to be tried."""

    def __init__(self, held: Held) -> None:
        super().__init__(metric="score", mode="min")
        self.held = held

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401 - Tune's
        """The next trial's content, or Tune's word for the end."""
        asked = self.held.search.ask()
        if asked is None:
            return Searcher.FINISHED
        self.held.names[trial_id] = asked[0]
        return {"content": asked[1]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: FBT001, FBT002 - Tune's
        """Tells the search what came of a trial."""
        whole = result is not None and not error and "result" in result
        self.held.search.ended(self.held.names[trial_id], json.loads(result["result"]) if result and whole else None)


class Heeding(FIFOScheduler):
    """Ends the trials that the search wants ended."""

    def __init__(self, held: Held) -> None:
        super().__init__()
        self.held = held

    def on_trial_result(self, tune_controller: object, trial: Any, result: dict[str, Any]) -> str:  # noqa: ANN401, ARG002 - Tune's
        """Whether the trial goes on."""
        if "result" in result:
            return TrialScheduler.CONTINUE
        name, step, score = self.held.names[trial.trial_id], int(result["step"]), float(result["score"])
        return TrialScheduler.STOP if self.held.search.heard(name, step, score) else TrialScheduler.CONTINUE


class Checking(Callback):
    """Lets the search end everything."""

    def __init__(self, held: Held) -> None:
        self.held = held

    def on_step_begin(self, iteration: int, trials: object, **info: object) -> None:  # noqa: ARG002 - Tune's
        """Raises: whatever the search's check raises."""
        self.held.search.check()
