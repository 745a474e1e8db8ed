"""Train the judge, `python -m pico.classifier`: a network apart from pico that names objects and grounds."""

import argparse
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import ImageFilter
from torch import nn
from torch.nn import functional as F

from pico import training
from pico.world import GROUNDS, draw_scene, objects

WORK = Path(__file__).parent / "work"


class Judge(nn.Module):
    """Logits of the object and of the ground of pictures in −1..1."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 192)
        self.body = nn.Sequential(*(
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU(),
                nn.Conv2d(b, b, 3, padding=1, groups=8), nn.GroupNorm(8, b), nn.SiLU(),
            )
            for a, b in itertools.pairwise(widths)
        ))  # fmt: skip
        self.object = nn.Linear(192 * 2, len(objects()))
        self.ground = nn.Linear(192 * 2, len(GROUNDS))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both logits."""
        features = self.body(pictures)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return self.object(pooled), self.ground(pooled)


def renders(
    rng: np.random.Generator, count: int, *, held_out: bool = False, soft: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Renders, half of them a little out of focus if `soft`, with the numbers of their objects and grounds."""
    scenes = [draw_scene(rng, held_out=held_out) for _ in range(count)]
    pictures = [scene.render() for scene in scenes]
    if soft:
        pictures = [
            p.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9))) if rng.random() < 0.5 else p for p in pictures
        ]
    names, grounds = objects(), list(GROUNDS)
    numbers = [(names.index(s.name), grounds.index(s.ground)) for s in scenes]
    first, second = torch.tensor(numbers).T
    return training.tensor(pictures), first, second


def name(judge: Judge, batch: int, *seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """The loss of each next batch."""
    for drawn in training.endless(partial(renders, count=batch), *seed):
        pictures, first, second = (tensor.to(training.DEVICE) for tensor in drawn)
        one, two = judge(pictures)
        right = (one.argmax(1) == first).float().mean()
        yield {"loss": F.cross_entropy(one, first) + 0.5 * F.cross_entropy(two, second), "right": right}


def load() -> Judge:
    """The trained judge."""
    judge = Judge()
    training.load_average(WORK / "judge", {"judge": judge})
    return judge.eval()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    judge = Judge().to(training.DEVICE)
    budget = training.Budget(options.minutes, 64, 3e-3, processes=1, ema=0.99)
    trainer = training.Trainer({"judge": judge}, WORK / "judge", budget, 0)
    trainer.restore()
    trainer.run(name(judge, budget.batch, trainer.step, 17))
    trainer.use_average()
    judge.cpu().eval()
    for held_out in (False, True):
        pictures, first, second = renders(np.random.default_rng(2**31), 600, held_out=held_out, soft=False)
        with torch.no_grad():
            one, two = judge(pictures)
        object_right, ground_right = (one.argmax(1) == first).float().mean(), (two.argmax(1) == second).float().mean()
        print(f"{'held-out' if held_out else 'known'} pairs: object {object_right:.3f}, ground {ground_right:.3f}")


if __name__ == "__main__":
    main()
