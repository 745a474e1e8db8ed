"""The model of several GPUs: its limits are known, and the page shows what it computes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.scaling_model import TRAININGS, Machine, adding_up, efficiency, exposed, ring, rows
from benchmarks.side_by_side.counted import operations
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from pico.families import KINDS, outline

from bespoke.models import find

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
each = pytest.mark.parametrize("training", TRAININGS, ids=lambda training: training.name)


def test_the_page_shows_its_table():
    assert "\n".join(rows()) in PAGE.read_text("utf-8"), "paste it anew: python -m benchmarks.scaling_model"


def test_a_ring_of_two_sends_everything_once_and_one_alone_nothing():
    assert ring(100.0, 2, 10.0, 0.5) == pytest.approx(2 * (5 + 0.5))
    assert ring(100.0, 1, 10.0, 0.5) == 0
    assert ring(1e9, 1000, 1e9, 0.0) == pytest.approx(2, rel=0.01), "in a long ring each sends it about twice"


@each
def test_free_links_cost_nothing_and_one_gpu_waits_for_none(training):
    free = Machine(inside=1e30, between=1e30, latency=0.0)
    assert efficiency(training, 64, free) == pytest.approx(1)
    assert efficiency(training, 1, Machine()) == 1


@each
@given(st.floats(0.1, 100))
def test_slower_links_and_more_nodes_never_help(training, slower):
    machine = Machine()
    worse = replace(machine, between=machine.between / (1 + slower))
    assert efficiency(training, 64, worse) <= efficiency(training, 64, machine) <= efficiency(training, 8, machine)
    assert exposed(training, 64, machine) <= adding_up(4.0 * training.weights, 64, machine) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("number", "kind", "side"), [(0, "sd15-shape", 512), (2, "sdxl-shape", 1024)], ids=["SD 1.5", "SDXL"]
)
def test_its_counts_are_those_of_the_networks(number, kind, side, tmp_path):
    adapter, whole = TRAININGS[number], TRAININGS[number + 1]
    outline(kind, tmp_path)
    counted = operations(tmp_path, side, 16)
    assert (adapter.forward, adapter.step) == pytest.approx(counted, rel=1e-3)
    assert whole.step == pytest.approx(3 * whole.forward, rel=0.01)
    with torch.device("meta"):
        unet = KINDS[kind]().unet
        assert sum(weight.numel() for weight in unet.parameters()) == whole.weights
        unet.requires_grad_(requires_grad=False)
        unet.add_adapter(LoraConfig(r=16, target_modules=list(find(str(tmp_path)).family.lora_targets)))
    assert sum(weight.numel() for weight in unet.parameters() if weight.requires_grad) == adapter.weights
