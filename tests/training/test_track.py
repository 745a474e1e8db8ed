"""What the logs hold: every field of every event, as JSON that any program reads, and as curves."""

import dataclasses
import json
import math

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bespoke.training import Covered, Kept, Noted, Saved, Staged, Step, Stopped, Tracker, Validated
from bespoke.training.track import NAMES, numbers
from bespoke.workspace import Run


def events(run):
    return [
        Step(1, math.nan, 1e-3, math.inf, 12.5, 0.25, 3.0, 2, 1.5, 0.5),
        Covered(1, 1, 7, 0.5, complete=True),
        Validated(1, 0.5, -0.1, (0.1, -0.3), True, {"probe": -0.2, "faces": math.nan}, (-0.1, 0.1, 0.3), 0.04),
        Validated(2, 0.5, -0.1, (), False),
        Kept(2, 1, run.checkpoint(1)),
        Staged(2, 1, "all steps done"),
        Saved(2, run.state(2)),
        Noted(2, "there is no CUDA GPU"),
        Stopped(2, 1, "all steps done", finished=True),
    ]


def strict(line):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(line, parse_constant=refuse)


def test_every_field_of_every_event_is_a_field_of_its_line(tmp_path):
    run = Run(tmp_path)
    tracker, told = Tracker(run), events(run)
    assert {type(event) for event in told} == set(NAMES)
    for event in told:
        tracker.log(event)
    tracker.close()
    rows = [strict(line) for line in run.metrics.read_text().splitlines()]
    for event, row in zip(told, rows, strict=True):
        assert set(row) == {"event", "time"} | {field.name for field in dataclasses.fields(event)}
    assert (rows[0]["loss"], rows[0]["gradient_norm"], rows[0]["images_per_second"]) == (None, None, 12.5)
    assert rows[2]["others"] == {"probe": -0.2, "faces": None}
    assert (rows[2]["bands"], rows[2]["gap"], rows[3]["gap"]) == ([0.1, -0.3], [-0.1, 0.1, 0.3], None)
    assert (rows[4]["folder"], rows[6]["folder"]) == ("checkpoints/epoch-1", "state/step-000002")


def test_all_figures_become_curves_however_deep_they_lie(tmp_path):
    run = Run(tmp_path)
    tracker = Tracker(run)
    figures = {}
    for event in events(run):
        figures |= numbers(tracker.log(event))
    tracker.close()
    assert figures.items() >= {
        "step/skipped": 2.0, "step/memory_gb": 1.5, "covered/complete": 1.0, "validated/bands/1": -0.3,
        "validated/others/probe": -0.2, "validated/gap/low": -0.1, "validated/gap/high": 0.3, "stopped/best_step": 1.0,
    }.items()  # fmt: skip
    assert not {"step/loss", "validated/others/faces", "staged/reason", "step/step", "step/time"} & set(figures)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == set(figures)
    assert [round(e.value, 6) for e in board.Scalars("validated/gap/low")] == [-0.1]


def test_tensorboard_can_be_left_out(tmp_path):
    tracker = Tracker(Run(tmp_path), tensorboard=False)
    tracker.log(Staged(2, 1, "why"))
    tracker.close()
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
