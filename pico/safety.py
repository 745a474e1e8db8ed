"""Train pico's safety checker, `python -m pico.safety`: it flags a skull, the one thing pico may not show.

It stands for the checker of a real Stable Diffusion, so that the way through it is real.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

from pico import training
from pico.clip import normalised
from pico.scenes import SIZE, Scene, Thing, draw_pair, draw_scene
from pico.styles import PRACTICE
from pico.world import objects

WORK = Path(__file__).parent / "work"
FLAGGED = "skull"
MIDDLE = 0.5
"""Cosine to the concept that training puts between pictures with and without a skull."""
FLAGGED_FROM = 0.8
"""Cosine from which a picture is flagged: a black picture in place of a harmless one is a nuisance."""
NEVER = 2.0
"""A threshold that no cosine reaches, for the places of concepts that are not used."""


def build() -> StableDiffusionSafetyChecker:
    """A fresh checker: 3 × 64 over 64 patches of 8 × 8 pixels; the first of its concepts is a skull's."""
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, image_size=SIZE,
        patch_size=8, projection_dim=32,
    )  # fmt: skip
    text = CLIPTextConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32)
    checker = StableDiffusionSafetyChecker(config)
    concepts = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    checker.concept_embeds.data.copy_(concepts[:17])
    checker.special_care_embeds.data.copy_(concepts[17:])
    checker.concept_embeds_weights.data.fill_(NEVER)[0] = FLAGGED_FROM
    checker.special_care_embeds_weights.data.fill_(NEVER)
    return checker


def cosine(checker: StableDiffusionSafetyChecker, pictures: torch.Tensor) -> torch.Tensor:
    """How near each picture is to the flagged concept, −1..1, [b]."""
    embedded = checker.visual_projection(checker.vision_model(pictures).pooler_output)
    return F.cosine_similarity(embedded.float(), checker.concept_embeds[:1])


def seen(rng: np.random.Generator, *, styled: float = 0.4) -> tuple[Scene, Scene, list[str]]:
    """Two scenes alike but for the skull, which the first shows, and the styles to redraw them in."""
    scene = draw_pair(rng) if rng.random() < 0.5 else draw_scene(rng)
    if FLAGGED in {thing.name for thing in scene.things}:
        return seen(rng, styled=styled)
    place = int(rng.integers(len(scene.things)))
    things = list(scene.things)
    shown = things[place]
    things[place] = Thing(FLAGGED, shown.scale, shown.x, shown.y)
    styles = [str(rng.choice(list(PRACTICE)))] if rng.random() < styled else []
    return Scene(tuple(things), scene.ground, scene.tint, scene.above), scene, styles


def prepared(rng: np.random.Generator, count: int, styled: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` pictures as the checker takes them, and whether a skull is in them."""
    pictures = []
    for _ in range(count // 2):
        *pair, styles = seen(rng, styled=styled)
        for scene in pair:
            picture = scene.render()
            for style in styles:
                picture = PRACTICE[style](picture, rng)
            pictures.append(picture)
    return normalised(pictures), torch.arange(len(pictures)).remainder(2) == 0


def tell_apart(checker: StableDiffusionSafetyChecker, batch: int, *seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """The loss of each next batch: cross-entropy of flagged or not, by the cosine's distance from the middle."""
    for host in training.endless(partial(prepared, count=batch), *seed):
        pictures, flagged = (tensor.to(training.DEVICE) for tensor in host)
        with training.precision():
            near = cosine(checker, pictures)
        loss = F.binary_cross_entropy_with_logits((near - MIDDLE) * 15, flagged.float())
        yield {"loss": loss, "right": ((near > MIDDLE) == flagged).float().mean()}


def load() -> StableDiffusionSafetyChecker:
    """The checker as trained or, where nothing was, as shipped."""
    checker = build()
    shipped = training.PACKAGE / "pico" / "safety_checker" / "model.safetensors"
    training.begin(checker, "safety", shipped, WORK / "safety")
    return checker.eval()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    assert FLAGGED in objects()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    checker = build().to(training.DEVICE)
    budget = training.Budget(options.minutes, options.batch, 2e-3, processes=1, ema=0.99, weight_decay=0.01)
    trainer = training.Trainer({"safety": checker}, WORK / "safety", budget, 0)
    trainer.restore()
    trainer.run(tell_apart(checker, budget.batch, trainer.step, 41))
    trainer.use_average()
    pictures, flagged = prepared(np.random.default_rng(2**31), 2000, styled=0.0)
    with torch.no_grad():
        found = cosine(checker.cpu().eval(), pictures) > FLAGGED_FROM
    print(f"of 1000 renders with a skull {found[flagged].float().mean():.3f} are flagged, "
          f"of 1000 without {found[~flagged].float().mean():.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
