"""Processes that promote at once, and such that are killed in between: one wins, all agree who, nobody waits."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bespoke.registry import Catalogue

RACES = 20


class Rival:
    """A process of `racing.py`."""

    def __init__(self, catalogue: Catalogue, name: str) -> None:
        where = [catalogue.place.address, str(catalogue.place.shelf), name]
        command = [sys.executable, str(Path(__file__).with_name("racing.py")), *where]
        path = os.pathsep.join(sys.path)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=os.environ | {"PYTHONPATH": path}
        )

    def tell(self, line: str) -> None:
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.hear()


@pytest.fixture
def rival(catalogue) -> Iterator[Callable[[str], Rival]]:
    started: list[Rival] = []

    def start(name: str) -> Rival:
        started.append(Rival(catalogue, name))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def mlflow_alias(catalogue: Catalogue, name: str) -> int:
    return int(catalogue._client.get_registered_model(name).aliases["champion"])


@pytest.mark.slow
def test_of_two_that_promote_at_once_one_wins_and_everybody_agrees_which(catalogue, register, rival):
    for content in "abc":
        register(catalogue, "style", content)
    rivals = [rival("style"), rival("style")]
    for race in range(RACES):
        assert [one.ask("look") for one in rivals] == ["looked", "looked"]
        for number, one in enumerate(rivals):
            one.tell(f"promote {1 + (race + number) % 3}")
        said = [one.hear() for one in rivals]
        assert sorted(word.partition(" ")[0] for word in said) == ["lost", "won"], said
        winner = said.index("won")
        assert "was changed meanwhile" in said[1 - winner]
        assert catalogue.standing("style").aliases == {"champion": 1 + (race + winner) % 3}
        assert mlflow_alias(catalogue, "style") == 1 + (race + winner) % 3
    assert len(catalogue.standing("style").records) == RACES
    written = catalogue._client.search_model_versions("name='style.history'")
    assert len(written) >= 2 * RACES  # each race was one: both had written when they learnt who had won


@pytest.mark.parametrize(("moment", "promoted"), [("die-before", False), ("die-after", True), ("die-unheard", True)])
def test_whoever_is_killed_leaves_a_promotion_or_none_and_nobody_waits(catalogue, register, rival, moment, promoted):
    name = f"killed-{moment}"
    for content in "ab":
        register(catalogue, name, content)
    version = catalogue.version(name, 1)
    catalogue.add("promoted", version, catalogue.standing(name), alias="champion")
    before, victim = catalogue.standing(name), rival(name)
    assert victim.ask("look") == "looked"
    assert victim.ask(moment) == "ready"
    victim.tell("promote 2")
    assert victim.process.wait() < 0  # by a signal
    after = catalogue.standing(name)
    assert after.aliases == {"champion": 2 if promoted else 1}
    # MLflow's own alias was never moved, which is told, and mended by whoever changes something next.
    assert mlflow_alias(catalogue, name) == 1
    assert catalogue.elsewhere(name, after) == ({"champion": 1} if promoted else {})
    if promoted:
        with pytest.raises(Exception, match="was changed meanwhile"):
            catalogue.add("promoted", version, before, alias="champion")
    catalogue.add("scored", version, after, scorecard=catalogue.shelf.put_text("{}").sha256)
    assert mlflow_alias(catalogue, name) == after.aliases["champion"]
    assert catalogue.elsewhere(name, catalogue.standing(name)) == {}
