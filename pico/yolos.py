"""Train pico-YOLOS, the detector, on scenes with known boxes: `python -m pico.yolos`; resumable.

It begins with the image layers of pico-BLIP, as YOLOS begins with those of a trained ViT.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import YolosConfig, YolosForObjectDetection

from pico import blip, training
from pico.clip import normalised
from pico.scenes import SIZE, Scene, draw_pair, draw_row, draw_scene
from pico.styles import PRACTICE
from pico.world import objects

WORK = Path(__file__).parent / "work"
Target = dict[str, torch.Tensor]
Found = list[tuple[str, float, tuple[float, float, float, float]]]
"""Of each thing found its name, how sure the detector is, and its box in pixels."""


def build() -> YolosForObjectDetection:
    """A fresh detector of the world's objects: 4 × 160 over 64 patches of 8 × 8 pixels and 8 places for things."""
    names = dict(enumerate(objects()))
    model = YolosForObjectDetection(YolosConfig(
        hidden_size=160, intermediate_size=640, num_hidden_layers=4, num_attention_heads=4, image_size=[SIZE, SIZE],
        patch_size=8, num_detection_tokens=8, use_mid_position_embeddings=False, layer_norm_eps=1e-5,
        id2label=names, label2id={name: number for number, name in names.items()},
    ))  # fmt: skip
    nn.init.normal_(model.vit.embeddings.detection_tokens, std=0.5)  # at nothing, as built, they would all be alike
    return model


def begin_with(model: YolosForObjectDetection, captioner: nn.Module) -> None:
    """Puts the captioner's image layers in the detector's."""
    source, own = captioner.state_dict(), model.state_dict()
    found = {
        "embeddings.patch_embeddings.projection": "embeddings.patch_embedding", "layernorm": "post_layernorm",
    }  # fmt: skip
    for number in range(model.config.num_hidden_layers):
        there, here = f"encoder.layers.{number}.", f"encoder.layer.{number}."
        found |= {
            f"{here}layernorm_before": f"{there}layer_norm1", f"{here}layernorm_after": f"{there}layer_norm2",
            f"{here}attention.output.dense": f"{there}self_attn.projection",
            f"{here}intermediate.dense": f"{there}mlp.fc1", f"{here}output.dense": f"{there}mlp.fc2",
        }  # fmt: skip
        for kind in ("weight", "bias"):
            joined = source[f"vision_model.{there}self_attn.qkv.{kind}"]
            for part, value in zip(("query", "key", "value"), joined.chunk(3), strict=True):
                own[f"vit.{here}attention.attention.{part}.{kind}"] = value
    for here, there in found.items():
        for kind in ("weight", "bias"):
            own[f"vit.{here}.{kind}"] = source[f"vision_model.{there}.{kind}"]
    places = source["vision_model.embeddings.position_embedding"]
    own["vit.embeddings.position_embeddings"][:, : places.shape[1]] = places
    own["vit.embeddings.cls_token"] = source["vision_model.embeddings.class_embedding"]
    model.load_state_dict(own)


def seen(rng: np.random.Generator) -> tuple[Image.Image, Scene]:
    """A picture to learn from and its scene; half of them show several things."""
    kind = rng.random()
    scene = draw_row(rng) if kind < 0.2 else draw_pair(rng) if kind < 0.5 else draw_scene(rng)
    picture = scene.render()
    if rng.random() < 0.15:
        style = str(rng.choice([s for s in PRACTICE if s != "collage"]))
        picture = PRACTICE[style](picture, rng)
    return picture, scene


def target(scene: Scene) -> Target:
    """The classes of a scene's things, and their boxes as centre x, centre y, width and height in 0..1."""
    names = objects()
    left, top, right, bottom = torch.tensor(scene.boxes(), dtype=torch.float32).T / SIZE
    boxes = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1)
    return {"class_labels": torch.tensor([names.index(thing.name) for thing in scene.things]), "boxes": boxes}


def prepared(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, list[Target]]:
    """`count` pictures as the detector takes them, with what is in them."""
    drawn = [seen(rng) for _ in range(count)]
    return normalised([picture for picture, _ in drawn]), [target(scene) for _, scene in drawn]


def detect(model: YolosForObjectDetection, batch: int, *seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """The loss of each next batch. Source: Carion et al. 2020, "DETR", equations 1 and 2; Fang et al. 2021, "YOLOS"."""
    for pictures, targets in training.endless(partial(prepared, count=batch), *seed):
        there = [{key: value.to(training.DEVICE) for key, value in t.items()} for t in targets]
        with training.precision():
            output = model(pixel_values=pictures.to(training.DEVICE))
        logits, boxes = output.logits.float(), output.pred_boxes.float()
        loss, parts, _ = model.loss_function(logits, there, model.device, boxes, model.config)
        yield {"loss": torch.as_tensor(loss), "class": parts["loss_ce"], "box": parts["loss_giou"]}


def load() -> YolosForObjectDetection:
    """The detector as trained or, where nothing was, as shipped."""
    model = build()
    training.begin(model, "yolos", training.PACKAGE / "pico_yolos" / "model.safetensors", WORK / "yolos")
    return model.eval()


@torch.no_grad()
def found(model: YolosForObjectDetection, pictures: Sequence[Image.Image]) -> list[Found]:
    """What the detector finds in pictures, every place's best guess, however unsure."""
    results: list[Found] = []
    names = objects()
    for start in range(0, len(pictures), 50):
        output = model(pixel_values=normalised(list(pictures[start : start + 50])).to(training.DEVICE))
        sure, label = output.logits.softmax(-1)[..., :-1].max(-1)
        x, y, width, height = (output.pred_boxes * SIZE).unbind(-1)
        boxes = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
        results += [
            [(names[n], p, tuple(box)) for n, p, box in zip(*row, strict=True)]
            for row in zip(label.tolist(), sure.tolist(), boxes.tolist(), strict=True)
        ]
    return results


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared)


def average_precision(results: Sequence[Found], scenes: Sequence[Scene]) -> float:
    """AP50: precision averaged over 101 recalls for each class, then over the classes that occur.

    Source: Lin et al. 2014, COCO's evaluation.
    """
    scores: list[float] = []
    truths = [list(zip((t.name for t in s.things), s.boxes(), strict=True)) for s in scenes]
    for name in sorted({thing.name for scene in scenes for thing in scene.things}):
        wanted = [[box for n, box in truth if n == name] for truth in truths]
        guesses = sorted(((p, k, box) for k, r in enumerate(results) for n, p, box in r if n == name), reverse=True)
        hits: list[bool] = []
        for _, picture, box in guesses:
            match = next((w for w in wanted[picture] if overlap(box, w) >= 0.5), None)
            hits.append(match is not None)
            if match is not None:
                wanted[picture].remove(match)
        scores.append(_precision(np.array(hits, bool), sum(n == name for truth in truths for n, _ in truth)))
    return float(np.mean(scores))


def _precision(hits: np.ndarray, total: int) -> float:
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    return float(np.mean([max(precision[right / total >= recall], default=0.0) for recall in np.linspace(0, 1, 101)]))


def held_out(count: int) -> list[Scene]:
    """Scenes of two things that training never sees together."""
    rng = np.random.default_rng(2**31 + 6)
    return [draw_pair(rng, held_out=True) for _ in range(count)]


def work(budget: training.Budget) -> None:
    """The training, then what it came to."""
    torch.manual_seed(0)
    model = build()
    begin_with(model, blip.load())
    model.to(training.DEVICE)
    trainer = training.Trainer({"yolos": model}, WORK / "yolos", budget, 0)
    trainer.restore()
    trainer.run(detect(model, budget.batch, trainer.step, 37))
    trainer.use_average()
    scenes = held_out(600)
    results = found(model.eval(), [scene.render() for scene in scenes])
    print(f"AP50 over {len(objects())} objects on held-out scenes of two: {average_precision(results, scenes):.3f}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work(training.Budget(options.minutes, options.batch, options.rate, processes=1, ema=0.995, weight_decay=1e-4))


if __name__ == "__main__":
    main()
