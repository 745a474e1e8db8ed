"""A run in a real MLflow store: complete, never doubled, and of no harm when the store is out of reach."""

import importlib.util
import math
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from bespoke.errors import BespokeError
from bespoke.registry import About, Tracking, find, of_file, shown, store

ODD = "a b#c%20é" if os.name == "nt" else "a b#c%20é?"
ABOUT = About("run-1", "my style", "file:///runs", {"train.seed": 3, "data.path": "x" * 7000}, {"bespoke.base": "pico"})


def client(address):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=address)


def runs(address):
    (experiment,) = client(address).search_experiments(filter_string="name = 'my style'")
    return client(address).search_runs([experiment.experiment_id])


def history(address, run, name):
    return [(m.step, m.value) for m in client(address).get_metric_history(run.info.run_id, name)]


@pytest.fixture
def address(tmp_path):
    """The store of a project in a folder with an odd name."""
    (tmp_path / ODD).mkdir()
    return of_file(tmp_path / ODD / "bespoke.db")


def test_a_run_is_kept_with_what_it_came_from_its_figures_and_its_end(tmp_path, address):
    tracking = Tracking(tmp_path, address, lambda: ABOUT)
    for step in (1, 2, 3):
        tracking.log({"step/loss": 1 / step, "step/nothing": math.nan, "validated/others/é, x": 2.0}, step, 1e9 + step)
    tracking.close("FINISHED", "all steps done")
    assert tracking.trouble is None
    (run,) = runs(address)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run-1")
    assert run.data.tags.items() >= {"bespoke.base": "pico", "bespoke.reason": "all steps done"}.items()
    assert run.data.params["train.seed"] == "3" and len(run.data.params["data.path"]) == 6000
    assert history(address, run, "step/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert set(run.data.metrics) == {"step/loss", "validated/others/__ x"}


def test_a_training_that_goes_on_is_the_same_run_and_no_figure_is_there_twice(tmp_path, address):
    first = Tracking(tmp_path, address, lambda: ABOUT)
    for step in (1, 2, 3):
        first.log({"loss": float(step)}, step, 1e9 + step)
    first.close("KILLED", "stopped by SIGTERM")
    assert runs(address)[0].info.status == "KILLED"
    again = Tracking(tmp_path, address, lambda: ABOUT)
    for step in (2, 3, 4):  # it resumed after step 1
        again.log({"loss": float(step), "new": 1.0}, step, 2e9 + step)
    again.close("FINISHED")
    (run,) = runs(address)
    assert history(address, run, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert [step for step, _ in history(address, run, "new")] == [2, 3, 4]
    assert run.info.status == "FINISHED"


def test_a_run_that_was_deleted_in_the_store_begins_there_anew(tmp_path, address):
    Tracking(tmp_path, address, lambda: ABOUT).close("KILLED")
    client(address).delete_run(runs(address)[0].info.run_id)
    assert runs(address) == []
    tracking = Tracking(tmp_path, address, lambda: ABOUT)
    tracking.log({"loss": 1.0}, 1, 1e9)
    tracking.close("FINISHED")
    assert tracking.trouble is None and history(address, runs(address)[0], "loss") == [(1, 1.0)]


def test_more_figures_than_mlflow_takes_at_once_arrive(tmp_path, address):
    tracking = Tracking(tmp_path, address, lambda: ABOUT)
    for step in range(700):
        tracking.log({"a": 0.5, "b": float(step)}, step, 1e9)
    tracking.close("FINISHED")
    (run,) = runs(address)
    assert history(address, run, "b") == [(step, float(step)) for step in range(700)]
    assert len(history(address, run, "a")) == 700


def test_a_server_that_cannot_be_reached_stops_nothing_and_is_told(tmp_path):
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://someone:secret@127.0.0.1:{unused.getsockname()[1]}"
    tracking = Tracking(tmp_path, url, lambda: ABOUT)
    tracking.log({"loss": 1.0}, 1, 1e9)
    tracking.close("FINISHED")
    assert (
        tracking.trouble
        and "cannot be used" in tracking.trouble
        and "metrics.jsonl has all figures" in tracking.trouble
    )
    assert "secret" not in tracking.trouble
    assert not (tmp_path / "tracking.json").exists()


def test_a_damaged_store_stops_nothing(tmp_path, address):
    (tmp_path / ODD / "bespoke.db").write_bytes(b"no database" * 100)
    tracking = Tracking(tmp_path, address, lambda: ABOUT)
    tracking.log({"loss": 1.0}, 1, 1e9)
    tracking.close("FINISHED")
    assert tracking.trouble and "cannot be used" in tracking.trouble


def test_names_and_passwords_are_not_shown():
    assert shown("http://someone:secret@host:5000/a") == "http://host:5000/a"
    assert shown("sqlite:////a@b/bespoke.db") == "sqlite:////a@b/bespoke.db"


def described(file):
    """Its tables and indexes; in which order MLflow writes a table's constraints differs from time to time."""
    with closing(sqlite3.connect(file)) as connection:
        made = connection.execute("select type, name, tbl_name, sql from sqlite_master").fetchall()
        parts = [(*names, sorted(line.strip(" ,\t") for line in (sql or "").splitlines())) for *names, sql in made]
        return sorted(parts), connection.execute("select * from alembic_version").fetchall()


@pytest.mark.slow
def test_the_store_we_make_is_the_one_that_mlflow_makes(tmp_path, monkeypatch):
    """It takes MLflow seconds to make one; after an upgrade of MLflow `store.sql` must be written anew."""
    store.load()
    monkeypatch.setattr(store, "_make", lambda file: None)
    store.client(of_file(tmp_path / "theirs.db"))
    monkeypatch.undo()
    store.client(of_file(tmp_path / "ours.db"))
    assert described(tmp_path / "ours.db") == described(tmp_path / "theirs.db")


def test_mlflow_sends_no_telemetry():
    code = "from bespoke.registry import store; store.load(); from mlflow import telemetry as t"
    code += "; print(t.get_telemetry_client())"
    known = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    done = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True)
    assert done.stdout.strip() == "None", done.stderr


def test_weights_and_biases_is_asked_for_only_where_it_is():
    if importlib.util.find_spec("wandb"):
        find()
        return
    with pytest.raises(BespokeError, match="not installed") as caught:
        find()
    assert "pip install wandb" in caught.value.hint
