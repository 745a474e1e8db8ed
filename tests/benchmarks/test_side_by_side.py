"""Both programs run in turn and measured; the peer here is a toy that makes steps, for its script is not shipped."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import training
from benchmarks.side_by_side import arms, comparing, pictures, runs
from benchmarks.side_by_side.comparing import compared
from benchmarks.side_by_side.result import Comparison, Ratios, Spread, table

from bespoke.errors import BespokeError
from bespoke.models.load import PICO

TOY = """
import time
import torch
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight], lr=0.1)
for _ in range({steps}):
    weight.grad = torch.ones(3)
    time.sleep(0.02)
    optimizer.step()
"""


@pytest.fixture(scope="module", autouse=True)
def _the_machines_rates_are_measured_once() -> Iterator[None]:
    """Whoever compares measures them again in each round, for seconds; here all find what the first one found."""
    found: dict[int, dict[str, float]] = {}
    measure = comparing._rates

    def remembered(work: arms.Work) -> dict[str, float]:
        threads = work.threads * work.processes
        if threads not in found:
            found[threads] = measure(work)
        return dict(found[threads])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "_rates", remembered)
        yield


@pytest.fixture
def work(tmp_path: Path) -> arms.Work:
    """Three steps of pico."""
    pictures.write(tmp_path / "pictures", 8, 64)
    (tmp_path / "work").mkdir()
    return arms.Work(PICO, tmp_path / "pictures", tmp_path / "work", 3, batch=4, side=64, rank=2, threads=1)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A script that makes three steps, whatever it is told."""
    script = tmp_path / "toy_lora.py"
    script.write_text(TOY.format(steps=3))
    return script


@pytest.mark.slow
def test_a_training_of_pico_beside_a_toy(work, toy, tmp_path, monkeypatch, capsys):
    """What is written has the result's form, and its figures agree with each other."""
    words = [
        "run", "--model", str(work.model), "--pictures", str(work.pictures), "--peer", str(toy), "--steps", "2",
        "--warm-up", "1", "--repeats", "1", "--batch", "4", "--side", "64", "--rank", "2", "--threads", "1",
        "--ours", "train.mixed_precision=no train.max_grad_norm=9", "--theirs", "--mixed_precision bf16",
        "--json", str(tmp_path / "found.json"), "--keep", str(work.folder),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["training", *words])
    training.main()
    content = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert set(content) == {"command", "commit", "date", "machine", "figures"}
    assert str(tmp_path) not in json.dumps(content), "places of this machine mean nothing elsewhere"
    found = Comparison.model_validate_json(json.dumps(content["figures"]))
    assert (found.steps, found.warm_up, found.repeats, found.pictures, found.threads) == (2, 1, 1, 8, 1)
    assert set(found.scripts) == {"toy_lora.py"} and set(found.peak_operations_per_second) == {"fp32", "bf16"}
    mine, other = found.arms
    assert (mine.arm, mine.precision) == ("bespoke, train.mixed_precision=no, train.max_grad_norm=9", "no")
    assert (other.arm, other.precision) == ("toy_lora, --mixed_precision bf16", "bf16")
    assert [line.split()[:4] for line in mine.commands] == [
        ["python", "-m", "bespoke", "new"], ["python", "-m", "bespoke", "train"]
    ]  # fmt: skip
    assert mine.seconds_to_prepare > 0 == other.seconds_to_prepare
    for arm in found.arms:
        (run,) = arm.runs
        assert run.images_per_second > 0 and 0.05 < run.memory_gb < 16 and run.device_memory_gb >= 0
        assert run.seconds_to_first_step < run.seconds_to[100] < run.seconds_to[500] < run.seconds_to[2000]
        assert run.seconds_to_first_step < run.seconds_in_all and all(
            wall.extrapolated for wall in arm.seconds_to.values()
        )
        assert arm.versions["torch"]
    assert other.images_per_second.median <= 4 / 0.02
    ratio = found.times_the_peer[mine.arm][other.arm].median
    assert ratio == pytest.approx(mine.images_per_second.median / other.images_per_second.median, rel=1e-2)
    said = capsys.readouterr().out
    assert mine.arm in said and "extrapolated" in said and said.strip() == table(found)


def test_the_first_steps_do_not_count(work):
    """A window of two steps of half a second after a slow first one; the rest is computed from it."""
    stamps = [runs.Stamp(9.0, 5.0), runs.Stamp(9.5, 5.2), runs.Stamp(10.0, 5.4, 2**30, 2**31)]
    run = runs.measured(stamps, 1, work, 12.0)
    assert run.images_per_second == pytest.approx(8) and run.processor_seconds_per_image == pytest.approx(0.05)
    assert run.seconds_to_first_step == 9 and run.seconds_in_all == 12
    assert run.seconds_to == pytest.approx({100: 10 + 97 * 0.5, 500: 10 + 497 * 0.5, 2000: 10 + 1997 * 0.5})
    assert (run.memory_gb, run.device_memory_gb) == (1, 2)
    long = [runs.Stamp(float(number) ** 1.1, 0.0) for number in range(1, 121)]
    assert runs.measured(long, 20, work, 200.0).seconds_to[100] == 100.0**1.1, "what was measured is not computed"


def test_ratios_are_taken_round_by_round():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(median=2, lowest=1, highest=3)
    ratios: Ratios = {"one": {"other": Spread.of([1.23456])}}
    assert ratios["one"]["other"].median == 1.235


def test_a_program_that_makes_other_steps_is_refused(work, toy):
    toy.write_text(TOY.format(steps=2))
    arm = arms.theirs(work, toy, sys.executable, "--mixed_precision=bf16")
    with pytest.raises(BespokeError, match="made 2 steps that were stamped, not 3"):
        runs.run(arm, work, 1)
    assert arms.precision(arm) == "bf16" and arms.told(arm, work)[0].startswith("python toy_lora.py --pretrained")


def test_a_program_that_fails_is_quoted(work, toy):
    toy.write_text("raise SystemExit('no such option')")
    with pytest.raises(BespokeError, match="no such option"):
        runs.run(arms.theirs(work, toy, sys.executable, ""), work, 1)


def test_whole_rounds_are_kept_when_it_is_stopped(work, toy):
    arm = arms.theirs(work, toy, sys.executable, "")

    def stop(words: str) -> None:
        if words.startswith("2 of 3"):
            raise KeyboardInterrupt

    found = compared(work, [], [arm, replace(arm, name="again")], warm_up=1, repeats=3, say=stop)
    assert found.repeats == 1 and [len(each.runs) for each in found.arms] == [1, 1]
    with pytest.raises(KeyboardInterrupt):
        compared(work, [], [arm, replace(arm, name="again")], warm_up=1, repeats=3, say=lambda _: stop("2 of 3"))


def test_left_out_pictures_are_noticed(work):
    copy = work.pictures / "00008.jpg"
    copy.write_bytes((work.pictures / "00000.jpg").read_bytes())
    with (work.pictures / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": copy.name, "text": "the same again, on the same ground"}) + "\n")
    with pytest.raises(BespokeError, match="trains on 8 of 9 pictures"):
        runs.prepared(arms.ours(work, ""), work)


def test_pictures_that_do_not_fill_batches_are_refused(work):
    words = ["run", "--model", str(work.model), "--pictures", str(work.pictures), "--batch", "3"]
    with pytest.raises(BespokeError, match="8 pictures in batches of 3"):
        training.run(training.parser().parse_args(words), work.folder)


def test_the_commands_of_the_page_are_understood():
    """They take hours on a GPU, so that their words are read only."""
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text("utf-8")
    blocks = re.findall(r"```\n(.*?)```", page, re.DOTALL)
    lines = [
        line for block in blocks for line in block.splitlines() if line.startswith("python -m benchmarks.training ")
    ]
    asked = [training.parser().parse_args(shlex.split(line)[3:]) for line in lines]
    assert [each.verb for each in asked].count("run") == 6
    pictures_of, runs_of = ({each.side for each in asked if each.verb == verb} for verb in ("pictures", "run"))
    assert pictures_of == {64, 512} and runs_of == {64, 256, 512}
