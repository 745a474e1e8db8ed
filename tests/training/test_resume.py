"""A training that was stopped, killed or damaged goes on and ends bit for bit where it would have ended."""

import json
import os
import signal
import time

import pytest
import torch
from tests import warm
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.pipeline.new import new
from bespoke.pipeline.train import resume
from bespoke.registry import of_file, store
from bespoke.training import Covered, Saved, Step, Stopped, Tracker, Validated, read, state
from bespoke.workspace import Project, Run, verified

SETTINGS = (
    "model.rank=4",
    "train.max_train_steps=14",
    "train.train_batch_size=2",
    "train.learning_rate=0.001",
    "train.checkpointing_steps=4",
    "train.log_every=1",
    "train.num_class_images=0",
    "train.use_ema=true",
    'train.mixed_precision="no"',
    "data.crop=random",
    "data.image_variations=2",
    "validation.validation_steps=3",
    "validation.strata=2",
    "sample.num_inference_steps=2",
    "sample.sample_every_n_steps=5",
)
PATIENCE = 120.0


def untimed(event):
    """What an event says, without how fast it went and where it was kept."""
    if isinstance(event, Step):
        return ("step", event.step, event.loss, event.learning_rate, event.gradient_norm, event.epoch)
    return event


def told(events):
    return [untimed(e) for e in events if isinstance(e, (Step, Covered, Validated))]


# --- one process: a fresh trainer takes over ---


@pytest.mark.parametrize(
    ("passes", "steps", "shapes"),
    [(1, 8, "one"), (2, 5, "one"), (2, 6, "several")],
    ids=["one pass a step", "two passes a step", "several shapes"],
)
def test_stopping_and_going_on_changes_no_bit(tmp_path, trainer, everything, request, passes, steps, shapes):
    train = {"gradient_accumulation_steps": passes, "max_train_steps": steps, "use_ema": True, "ema_decay": 0.9}
    settings = {"train": train, "of": request.getfixturevalue("mixed_material") if shapes == "several" else None}
    whole = trainer(tmp_path / "whole", **settings)
    through = list(whole.fit())

    first = trainer(tmp_path / "parts", **settings)
    before = list(first.fit(lambda: "enough" if first.progress.step == 3 else None))
    assert before[-1] == Stopped(3, before[-1].best_step, "enough", finished=False)
    second = trainer(tmp_path / "parts", **settings)
    second.restore(Run(tmp_path / "parts").state(3))
    after = list(second.fit())

    assert told(before) + told(after) == told(through)
    assert second.progress == whole.progress
    ours, theirs = everything(second), everything(whole)
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("average ") for name in ours)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    for file in ("adapter.safetensors", "last/adapter.safetensors"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_restoring_gives_the_state_that_was_saved(tmp_path, trainer, everything):
    began = trainer(tmp_path, train={"use_ema": True})
    fresh = everything(trainer(tmp_path, train={"use_ema": True}))
    list(began.fit(lambda: "enough" if began.progress.step == 2 else None))
    again = trainer(tmp_path, train={"use_ema": True})
    again.restore(Run(tmp_path).state(2))
    ours, theirs = everything(again), everything(began)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(ours[name], fresh[name]) for name in fresh)  # the steps did move it
    assert again.progress == began.progress


def test_a_truncated_newest_state_is_passed_over(tmp_path, trainer):
    began = trainer(tmp_path)
    list(began.fit(lambda: "enough" if began.progress.step == 4 else None))
    run = Run(tmp_path)
    assert state.newest(run) == run.state(4)
    weights = run.state(4) / "weights.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    assert state.newest(run) == run.state(3)
    (run.state(3) / "manifest.json").unlink()
    assert state.newest(run) is None


def test_a_damaged_state_does_not_push_out_the_good_ones(tmp_path, trainer):
    """The newest of two states is damaged, one is to be kept: what is saved next must survive the pruning."""
    settings = {"train": {"checkpointing_steps": 2, "checkpoints_total_limit": 1}}
    began = trainer(tmp_path, **settings)
    list(began.fit(lambda: "enough" if began.progress.step == 6 else None))
    run = Run(tmp_path)
    (run.state(6) / "state.json").write_text("{")
    again = trainer(tmp_path, **settings)
    list(again.fit(lambda: "enough" if again.progress.step == 2 else None))
    assert state.newest(run) == run.state(2)


def test_a_state_of_another_adapter_is_refused(tmp_path, trainer):
    began = trainer(tmp_path)
    list(began.fit(lambda: "enough" if began.progress.step == 1 else None))
    other = trainer(tmp_path, model={"rank": 8})
    with pytest.raises(BespokeError, match="another recipe") as caught:
        other.restore(Run(tmp_path).state(1))
    assert "new run" in caught.value.hint


# --- the real thing: processes that are stopped and killed ---


def started(*words, log):
    return warm.Process(warm.command, *map(str, words), log=log)


def rows(run):
    return list(read(run.metrics))


def frozen_when(process, ready, log):
    """Stops the clock of a process as soon as something is so; fails if it ends before."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.005)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.05)


def steps_of(run):
    return [row["step"] for row in rows(run) if row["event"] == "step"]


class Story:
    """One run that heard SIGTERM, was resumed and killed with SIGKILL, and was resumed to its end; and its twin."""

    def __init__(self, folder, pictures):
        self.log = folder / "log.txt"
        project = new(folder / "project", pictures)
        self.whole = Run(bespoke.train(project.recipe, SETTINGS).run)
        known = set((folder / "project" / "runs").iterdir())

        process = started("train", project.recipe, *(w for s in SETTINGS for w in ("--set", s)), log=self.log)
        try:
            fresh = lambda: set((folder / "project" / "runs").iterdir()) - known  # noqa: E731
            frozen_when(process, lambda: fresh() and steps_of(Run(next(iter(fresh())))), self.log)
            (root,) = fresh()
            self.run = Run(root)
            self.at_term = max(steps_of(self.run))
            process.terminate()
            process.send_signal(signal.SIGCONT)
            self.term_code, self.term_log = process.wait(PATIENCE), self.log.read_text()
            self.after_term = [folder.name for folder in self.run.states()]

            process = started("train", "--resume", self.run.root, log=self.log)
            frozen_when(process, lambda: self.run.state(8).exists(), self.log)
            try:
                resume(self.run.root)
                self.refused = None
            except BespokeError as error:
                self.refused = error
            self.at_kill, self.steps_at_kill = [f.name for f in self.run.states()], steps_of(self.run)
        finally:
            process.kill()
            self.kill_code = process.wait(PATIENCE)
        self.result_at_kill = self.run.result.exists()
        # What a kill in the middle of writing leaves behind.
        (self.run.root / ".step-000012.deadbeef.tmp").mkdir()
        (self.run.root / ".adapter.safetensors.deadbeef.tmp").write_bytes(b"half")

        ended = CliRunner().invoke(app, ["train", "--resume", str(self.run.root)])
        self.end_code, self.end_log = ended.exit_code, ended.output


@pytest.fixture(scope="module")
def story(tmp_path_factory, mixed):
    """Of pictures of several shapes, in random versions."""
    return Story(tmp_path_factory.mktemp("story"), mixed)


def test_sigterm_saves_within_a_step_and_exits_143(story):
    assert story.term_code == 143, story.term_log
    assert len(story.after_term) == 1
    saved = int(story.after_term[0].removeprefix("step-"))
    assert story.at_term <= saved <= story.at_term + 1
    assert "SIGTERM" in story.term_log and "--resume" in story.term_log


def test_a_second_process_on_the_same_run_is_refused(story):
    assert story.refused is not None
    assert "Another process" in story.refused.problem and str(story.run.root) in story.refused.problem


def test_a_killed_run_ends_bit_for_bit_where_an_undisturbed_one_does(story):
    assert story.kill_code == -signal.SIGKILL and not story.result_at_kill
    assert "step-000008" in story.at_kill and max(story.steps_at_kill) < 14
    assert story.end_code == 0, story.end_log
    for file in ("adapter.safetensors", "last/adapter.safetensors"):
        assert (story.run.root / file).read_bytes() == (story.whole.root / file).read_bytes(), file
    ours, theirs = (json.loads(run.result.read_text()) for run in (story.run, story.whole))
    assert {k: ours[k] for k in ("steps", "best_step", "reason")} == {
        k: theirs[k] for k in ("steps", "best_step", "reason")
    }
    final = story.run.state(14)
    assert verified(final)
    for file in ("weights.safetensors", "optimizer.safetensors", "average.safetensors", "state.json"):
        assert (final / file).read_bytes() == (story.whole.state(14) / file).read_bytes(), file


def test_a_killed_runs_metrics_are_those_of_an_undisturbed_one(story):
    def measured(run):
        return [
            {key: value for key, value in row.items() if key not in ("images_per_second", "time", "memory_gb")}
            for row in rows(run)
            if row["event"] in ("step", "covered", "validated")
        ]

    assert measured(story.run) == measured(story.whole)
    assert steps_of(story.whole) == list(range(1, 15))


def test_the_store_has_the_killed_run_once_and_each_of_its_figures_once(story):
    client = store.client(of_file(Project(story.run.root.parent.parent).store))
    (experiment,) = client.search_experiments(filter_string="name = 'project'")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {story.run.root.name, story.whole.root.name}
    for run in (story.run, story.whole):
        kept = found[run.root.name]
        assert kept.info.status == "FINISHED" and kept.data.params["train.max_train_steps"] == "14"
        tags = kept.data.tags
        assert len(tags["bespoke.dataset_hash"]) == len(tags["bespoke.base_hash"]) == 16 and tags["bespoke.version"]
        ours = [(row["step"], row["loss"]) for row in rows(run) if row["event"] == "step"]
        history = client.get_metric_history(kept.info.run_id, "step/loss")
        assert sorted((m.step, m.value) for m in history) == ours
    theirs = found[story.run.root.name]
    gaps = client.get_metric_history(theirs.info.run_id, "validated/gap/middle")
    assert sorted(m.step for m in gaps) == [row["step"] for row in rows(story.run) if row["event"] == "validated"]


def test_the_killed_runs_page_and_pictures_are_those_of_an_undisturbed_one(story):
    def columns(run):
        return sorted(folder.name for folder in run.samples.glob("progress/step-*"))

    assert columns(story.run) == columns(story.whole) != []
    page = story.run.report.read_text("utf-8")
    assert "refresh" not in page and "Training report" in page and "While training" in page


def test_what_a_kill_left_half_written_is_swept_away(story):
    assert not list(story.run.root.rglob(".*.tmp"))


def test_resuming_a_finished_run_says_so_and_changes_nothing(story):
    before = {file: file.stat().st_mtime_ns for file in story.run.root.rglob("*") if file.is_file()}
    heard = CliRunner().invoke(app, ["train", "--resume", str(story.run.root)])
    assert heard.exit_code == 0, heard.output
    assert "finished before" in heard.output
    assert {file: file.stat().st_mtime_ns for file in story.run.root.rglob("*") if file.is_file()} == before


def test_metrics_begin_anew_when_a_run_starts_over(tmp_path):
    """A run killed before its first state starts over when resumed: its rows must not stand there twice."""
    run = Run(tmp_path)
    event = Step(1, 0.5, 1e-3, 0.1, 10.0, 0.2)
    for _ in range(2):
        tracker = Tracker(run, None)
        tracker.log(event)
        tracker.close()
    assert [row["step"] for row in rows(run)] == [1]


def test_metrics_after_the_state_are_dropped_when_they_happen_again(tmp_path):
    run = Run(tmp_path)
    tracker = Tracker(run)
    for step in (1, 2, 3):
        tracker.log(Step(step, 0.5, 1e-3, 0.1, 10.0, 0.2))
    tracker.log(Saved(3, run.state(3)))
    tracker.close()
    with run.metrics.open("a") as lines:
        lines.write('{"event": "step", "st')  # a kill in the middle of a line
    Tracker(run, 2).close()
    assert [row["step"] for row in rows(run)] == [1, 2]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(BespokeError, match="no run"):
        resume(tmp_path)
