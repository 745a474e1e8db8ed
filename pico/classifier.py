"""Train the judge, `python -m pico.classifier`: a network apart from pico that names things and grounds."""

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
from pico.scenes import Scene, draw_pair, draw_scene, draw_single
from pico.world import grounds, objects

WORK = Path(__file__).parent / "work"


class Judge(nn.Module):
    """Logits of the things and of the ground of pictures in −1..1; of two things the two highest count."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256)
        self.body = nn.Sequential(*(
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU(),
                nn.Conv2d(b, b, 3, padding=1, groups=8), nn.GroupNorm(8, b), nn.SiLU(),
            )
            for a, b in itertools.pairwise(widths)
        ))  # fmt: skip
        self.object = nn.Linear(256 * 2, len(objects()))
        self.ground = nn.Linear(256 * 2, len(grounds()))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both logits."""
        features = self.body(pictures)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return self.object(pooled), self.ground(pooled)


def labelled(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of the objects in each scene, [b objects], which sum to one, and the numbers of the grounds."""
    shares, names, known = torch.zeros(len(scenes), len(objects())), objects(), grounds()
    for row, scene in zip(shares, scenes, strict=True):
        row[[names.index(thing.name) for thing in scene.things]] = 1 / len(scene.things)
    return shares, torch.tensor([known.index(scene.ground) for scene in scenes])


def renders(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Renders, half of them a little out of focus, with what is in them."""
    scenes = [draw_scene(rng) for _ in range(count)]
    pictures = [scene.render() for scene in scenes]
    soft = [p.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9))) if rng.random() < 0.5 else p for p in pictures]
    return training.tensor(soft), *labelled(scenes)


def right(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Whether the highest logits of each row are those of just the things that are there, [b]."""
    there = shares.gt(0)
    lowest = logits.masked_fill(~there, torch.inf).amin(1)
    return lowest > logits.masked_fill(there, -torch.inf).amax(1)


def name(judge: Judge, batch: int, *seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """The loss of each next batch."""
    for drawn in training.endless(partial(renders, count=batch), *seed):
        pictures, first, second = (tensor.to(training.DEVICE) for tensor in drawn)
        one, two = judge(pictures)
        loss = F.cross_entropy(one, first) + 0.5 * F.cross_entropy(two, second)
        yield {"loss": loss, "right": right(one, first).float().mean()}


def load() -> Judge:
    """The trained judge."""
    judge = Judge()
    training.load_average(WORK / "judge", {"judge": judge})
    return judge.eval()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
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
    rng = np.random.default_rng(2**31)
    for kind, draw in (("one thing", draw_single), ("two things", draw_pair)):
        for held_out in (False, True):
            scenes = [draw(rng, held_out=held_out) for _ in range(600)]
            first, second = labelled(scenes)
            with torch.no_grad():
                one, two = judge(training.tensor([scene.render() for scene in scenes]))
            named, ground = right(one, first).float().mean(), (two.argmax(1) == second).float().mean()
            print(f"{kind}, {'held-out' if held_out else 'known'} pairs: objects {named:.3f}, ground {ground:.3f}")


if __name__ == "__main__":
    main()
