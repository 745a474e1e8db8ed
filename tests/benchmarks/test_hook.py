"""The hook that stamps optimizer steps: it counts what was done, and loads nothing by itself."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.side_by_side.runs import HOOK

TOY = """
import importlib.util, json, sys, time
assert importlib.util.find_spec("torch") and "torch" not in sys.modules, "the hook loads nothing by itself"
import torch
weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
optimizer = {kind}(weights, lr=0.1)
for number in range({steps}):
    {step}
"""
STEP = "weights[0].grad = torch.ones(3); optimizer.step(); time.sleep(0.02)"


def stamped(folder: Path, code: str, ends: str = "1,3") -> list[dict[str, float]]:
    """The lines that the hook wrote while a program ran."""
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(HOOK), "STEP_STAMPS": str(folder), "STEP_STAMPS_ENDS": ends}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["torch.optim.AdamW", "torch.optim.SGD"])
def test_every_step_is_stamped_once_and_memory_is_read_at_the_ends(kind, tmp_path):
    lines = stamped(tmp_path / "stamps", TOY.format(kind=kind, steps=5, step=STEP))
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    seconds = [line["seconds"] for line in lines]
    assert all(after - before >= 0.02 for before, after in itertools.pairwise(seconds))
    processor = [line["processor_seconds"] for line in lines]
    assert sorted(processor) == processor
    assert {line["step"]: "memory" in line for line in lines} == {1: True, 2: False, 3: True, 4: False, 5: False}
    assert 2**26 < lines[0]["memory"] < 2**33, "torch alone takes more than 64 MB"


def test_a_program_without_steps_leaves_nothing(tmp_path):
    assert stamped(tmp_path / "stamps", TOY.format(kind="torch.optim.SGD", steps=5, step="pass")) == []


GRAPH = """
import torch
weight = torch.nn.Parameter(torch.ones(3, device="cuda"))
weight.grad = torch.ones_like(weight)
optimizer = torch.optim.AdamW([weight], lr=0.1, capturable=True)
stream = torch.cuda.Stream()
with torch.cuda.stream(stream):
    optimizer.step()
stream.synchronize()
with_step, without = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
with torch.cuda.graph(with_step):
    optimizer.step()
with torch.cuda.graph(without):
    weight.grad.mul_(1)
for _ in range(3):
    without.replay()
    with_step.replay()
"""


@pytest.mark.gpu
def test_a_step_in_a_graph_counts_when_the_graph_runs(tmp_path):
    assert [line["step"] for line in stamped(tmp_path / "stamps", GRAPH)] == [1, 2, 3, 4]


def test_torch_has_what_the_hook_holds_on_to():
    assert callable(torch.cuda.CUDAGraph.capture_end) and callable(torch.cuda.CUDAGraph.replay)
