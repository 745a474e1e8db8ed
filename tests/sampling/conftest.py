"""A run as training leaves it, made at once: adapters of two epochs, the best, the last, and a state."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

RECIPE = {"model": {"rank": 4, "alpha": 4}, "sample": {"num_inference_steps": 3, "batch_size": 4}}


def adapted() -> Any:
    """pico's UNet with a fresh adapter."""
    from bespoke.models import Tuned, adapters, find, kinds
    from bespoke.recipe.training import Model

    checkpoint = find("pico")
    unet = checkpoint.denoiser()
    adapters.attach(unet, kinds.config_of(Model(rank=4), unet, checkpoint.family.groups("unet")), seed=0)
    return Tuned({"unet": unet})


def shaken(network: Any, seed: int) -> Any:
    """The adapter as no training made it, but so that everyone sees it."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.trainable().values():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=source))
    return network


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's folder."""
    from bespoke import recipe as recipes
    from bespoke.workspace import Run

    made = Run(tmp_path_factory.mktemp("project") / "runs" / "one")
    made.root.mkdir(parents=True)
    made.recipe.write_text(recipes.dump(recipes.parse(RECIPE, "the test")))
    network = adapted()
    for number, folder in enumerate((made.root, made.checkpoint(1), made.checkpoint(2), made.last)):
        shaken(network, number).save(folder)
    made.state(4).mkdir(parents=True)
    weights = {name: value.detach().clone() for name, value in shaken(network, 9).trainable().items()}
    save_file(weights, made.state(4) / "weights.safetensors")
    return made.root
