"""Train pico-CLIP by contrast on renders and captions, and by naming what is in them: `python -m pico.clip`.

Then its image tower alone: `python -m pico.clip --image`.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from pico import tokenizer as bpe
from pico import training
from pico.scenes import Scene, draw_caption, draw_pair, draw_scene, draw_single
from pico.styles import EIGHT_BIT, PRACTICE, eight_bit
from pico.world import GROUNDS, PLACES, caption, is_held_out, located, objects

WORK = Path(__file__).parent / "work"
STYLES = [*PRACTICE, "tiles", "tiles", "mosaic"]
"""What pictures are redrawn in; blocks, which it sees worst, more often."""
BLOCKS = 1 / 3
"""The share of pictures in the example's style where the image tower learns alone: it may know what a UNet may not."""
PLAIN = "plain"
LOOKS = [PLAIN, EIGHT_BIT, *PRACTICE]
"""The styles that the image tower must tell apart: a text tower that knows no style would make it blind to them."""
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def build(vocabulary: int) -> CLIPModel:
    """Fresh towers: text 4 × 160 over 77 tokens, image 4 × 192 over 64 patches of 8 × 8 pixels."""
    text = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=160, intermediate_size=640, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=77, projection_dim=128, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, image_size=64,
        patch_size=8, projection_dim=128,
    )  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128))


def load_tokenizer() -> CLIPTokenizer:
    """The tokenizer that `python -m pico.tokenizer` made or, where it made none, the shipped one."""
    folder = bpe.FOLDER if bpe.FOLDER.exists() else training.PACKAGE / "pico_clip"
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), bos_token=bpe.START,
        eos_token=bpe.END, unk_token=bpe.END, pad_token=bpe.END, model_max_length=77,
    )  # fmt: skip


def normalised(pictures: list[Image.Image]) -> torch.Tensor:
    """Pictures as the image tower takes them, [b 3 64 64]."""
    batch = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float().div(255)
    return (batch - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def pairs(
    rng: np.random.Generator, count: int, blocks: float = 0.0
) -> tuple[list[Image.Image], list[str], list[list[int]], list[int]]:
    """Pictures, captions, numbers of objects and of styles, in fours that differ in a thing or two: every word counts.

    A share of `blocks` comes in the 8-bit style.
    """
    names = objects()
    pictures, texts, labels, styles = [], [], [], []
    while len(pictures) < count:
        for scene in alike(rng):
            picture, text, last = scene.render(), draw_caption(rng, scene), PLAIN
            if rng.random() < blocks:
                picture, text = eight_bit(picture, scene.mask()), f"{EIGHT_BIT} {located(scene.phrase, scene.ground)}"
                last = EIGHT_BIT
            elif rng.random() < 0.5:
                chosen = rng.choice(STYLES, size=rng.integers(1, 3))
                for style in chosen:
                    picture = PRACTICE[style](picture, rng)
                ground = None if "recoloured picture" in chosen else scene.ground
                text, last = f"{chosen[-1]} of {located(scene.phrase, ground)}", chosen[-1]
            pictures.append(picture)
            styles.append(LOOKS.index(last))
            texts.append(text)
            labels.append([names.index(thing.name) for thing in scene.things])
    return pictures[:count], texts[:count], labels[:count], styles[:count]


def alike(rng: np.random.Generator) -> list[Scene]:
    """A scene and others like it: on another ground, with the things turned round, or with one of them alone."""
    scene = draw_scene(rng)
    if len(scene.things) == 1:
        others = [draw_single(rng, [scene.name]) for _ in range(2)]
        return [scene, *{s.ground: s for s in others if s.ground != scene.ground}.values(), draw_scene(rng)]
    names = [thing.name for thing in scene.things[:2]]
    turned = draw_pair(rng, names, above=scene.above) if len(scene.things) == 2 else draw_single(rng, names)
    grounds = [g for g in (*GROUNDS, *PLACES) if g != scene.ground]
    return [scene, turned, replace(scene, ground=str(rng.choice(grounds))), draw_single(rng, names)]


def prepared(
    rng: np.random.Generator, count: int, blocks: float
) -> tuple[torch.Tensor, list[str], torch.Tensor, torch.Tensor]:
    """`pairs` as the towers take them; the objects as shares, [b objects], that sum to one."""
    pictures, texts, labels, styles = pairs(rng, count, blocks)
    shares = torch.zeros(count, len(objects()))
    for row, numbers in zip(shares, labels, strict=True):
        row[numbers] = 1 / len(numbers)
    return normalised(pictures), texts, shares, torch.tensor(styles)


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> dict[str, torch.Tensor]:
    """Token ids and mask, padded to the longest."""
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return {key: value.to(training.DEVICE) for key, value in ids.items()}


def learn(model: CLIPModel, styles: nn.Linear | None, batch: int, *seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """The loss of each next batch: the symmetric contrastive one, and that of naming each object among all.

    With `styles` there is also that of naming the style from the same features, in which distances between sets of
    pictures are measured. A frozen text tower reads the names of the objects only once.
    Source: Radford et al. 2021, figure 3; Yang et al. 2022, "UniCL", equation 2 (labels).
    """
    tokenizer, names = load_tokenizer(), objects()
    own = torch.arange(batch, device=training.DEVICE)
    plain = [tokens(tokenizer, [caption(n, None, phrasing) for n in names]) for phrasing in range(3)]
    frozen = not any(parameter.requires_grad for parameter in model.text_model.parameters())
    draw = partial(prepared, count=batch, blocks=BLOCKS if frozen else 0.0)
    with training.precision():
        fixed = [model.text_model(**ids).pooler_output for ids in plain] if frozen else []
    for step, (pictures, texts, labels, looks) in enumerate(training.endless(draw, *seed)):
        truth = labels.to(training.DEVICE)
        with training.precision():
            image = model.vision_model(pictures.to(training.DEVICE)).pooler_output
            read = model.text_model(**tokens(tokenizer, texts)).pooler_output
            known = fixed[step % len(plain)] if frozen else model.text_model(**plain[step % len(plain)]).pooler_output
        seen, scale = unit(model.visual_projection(image.float())), model.logit_scale.exp().clamp(max=100)
        logits = scale * seen @ unit(model.text_projection(read.float())).T
        named = scale * seen @ unit(model.text_projection(known.float())).T
        contrastive = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
        right = truth.gather(1, named.argmax(1, keepdim=True)).gt(0).float().mean()
        loss = contrastive + cross_entropy(named, truth)
        if styles is not None:
            loss = loss + cross_entropy(10 * styles(seen), looks.to(training.DEVICE))
        yield {"loss": loss, "contrast": contrastive, "right": right}


def unit(features: torch.Tensor) -> torch.Tensor:
    """The features at length one."""
    return features / features.norm(dim=-1, keepdim=True)


def load() -> CLIPModel:
    """The towers as trained, with the later image tower if there is one, or, where nothing was, as shipped."""
    model = build(len(load_tokenizer()))
    shipped = training.PACKAGE / "pico_clip" / "model.safetensors"
    training.begin(model, "clip", shipped, WORK / "clip", WORK / "clip-image")
    return model.eval()


@torch.no_grad()
def zero_shot(model: CLIPModel, pictures: list[Image.Image], names: list[str]) -> float:
    """The share of pictures whose object is the nearest of all objects' captions."""
    labels = tokens(load_tokenizer(), [caption(n, None) for n in objects()])
    logits = torch.cat([
        model(pixel_values=normalised(pictures[i : i + 100]).to(training.DEVICE), **labels).logits_per_image.cpu()
        for i in range(0, len(pictures), 100)
    ])  # fmt: skip
    truth = torch.tensor([objects().index(n) for n in names])
    return float((logits.argmax(1) == truth).float().mean())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--muon", type=float)
    parser.add_argument("--shipped", action="store_true", help="begin with the weights in the package")
    parser.add_argument("--image", action="store_true", help="train on all but the text tower, which a UNet knows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    budget = training.Budget(
        options.minutes, options.batch, options.rate, options.muon, processes=1, warmup_steps=50, ema=0.99,
        weight_decay=0.05,
    )  # fmt: skip
    model = (load() if options.shipped or options.image else build(len(load_tokenizer()))).to(training.DEVICE)
    model.text_model.requires_grad_(not options.image)
    styles = nn.Linear(model.config.projection_dim, len(LOOKS)).to(training.DEVICE) if options.image else None
    parts: dict[str, nn.Module] = {"clip": model}
    if styles is not None:
        parts["styles"] = styles
    trainer = training.Trainer(parts, WORK / ("clip-image" if options.image else "clip"), budget, 0)
    trainer.restore()
    trainer.run(learn(model, styles, budget.batch, trainer.step, 11))
    trainer.use_average()
    scenes = [draw_single(np.random.default_rng((2**31, k)), [n], held_out=True) for n in objects() for k in range(3)]
    assert all(is_held_out(s.name, s.ground) for s in scenes) and len(GROUNDS) == 12
    names, plain = [s.name for s in scenes], [s.render() for s in scenes]
    blocks = [eight_bit(picture, s.mask()) for picture, s in zip(plain, scenes, strict=True)]
    for what, pictures in (("held-out renders", plain), ("them in the 8-bit style", blocks)):
        print(f"zero-shot top-1 over {len(objects())} objects on {what} {zero_shot(model.eval(), pictures, names):.3f}")


if __name__ == "__main__":
    main()
