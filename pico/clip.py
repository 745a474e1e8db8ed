"""Train pico-CLIP, `python -m pico.clip`: text and image towers by contrast on renders and their captions."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from pico import tokenizer as bpe
from pico import training
from pico.styles import PRACTICE
from pico.world import GROUNDS, caption, draw_caption, draw_scene, is_held_out, objects

WORK = Path(__file__).parent / "work"
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def build(vocabulary: int) -> CLIPModel:
    """Fresh towers: text 4 × 160 over 77 tokens, image 4 × 192 over 16 patches of 16 × 16 pixels."""
    text = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=160, intermediate_size=640, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=77, projection_dim=128, bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, image_size=64,
        patch_size=16, projection_dim=128,
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


def pairs(rng: np.random.Generator, count: int) -> tuple[list[Image.Image], list[str]]:
    """Pictures with captions in fours of one object on different grounds, so that the ground must be read too."""
    pictures, texts = [], []
    while len(pictures) < count:
        name = str(rng.choice(objects()))
        for scene in {s.ground: s for s in (draw_scene(rng, [name]) for _ in range(4))}.values():
            picture, text = scene.render(), draw_caption(rng, scene)
            if rng.random() < 0.3:
                style = str(rng.choice(list(PRACTICE)))
                picture = PRACTICE[style](picture, rng)
                text = f"{style} of {caption(scene.name, scene.ground)}"
            pictures.append(picture)
            texts.append(text)
    return pictures[:count], texts[:count]


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> dict[str, torch.Tensor]:
    """Token ids and mask, padded to the longest."""
    return dict(tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))


def contrast(model: CLIPModel, rng: np.random.Generator, batch: int) -> Iterator[dict[str, torch.Tensor]]:
    """The symmetric contrastive loss of each next batch. Source: Radford et al. 2021, figure 3."""
    tokenizer = load_tokenizer()
    while True:
        pictures, texts = pairs(rng, batch)
        output = model(pixel_values=normalised(pictures), return_loss=True, **tokens(tokenizer, texts))
        right = (output.logits_per_image.argmax(1) == torch.arange(batch)).float().mean()
        yield {"loss": output.loss, "right": right}


def load(folder: Path = WORK / "clip") -> CLIPModel:
    """The towers as trained in a folder or, where nothing was, as shipped."""
    model = build(len(load_tokenizer()))
    training.begin(folder, "clip", model, training.PACKAGE / "pico_clip" / "model.safetensors")
    return model.eval()


@torch.no_grad()
def zero_shot(model: CLIPModel, pictures: list[Image.Image], names: list[str]) -> float:
    """The share of pictures whose object is the nearest of all objects' captions."""
    labels = tokens(load_tokenizer(), [caption(n, None) for n in objects()])
    logits = torch.cat([
        model(pixel_values=normalised(pictures[i : i + 100]), **labels).logits_per_image
        for i in range(0, len(pictures), 100)
    ])  # fmt: skip
    truth = torch.tensor([objects().index(n) for n in names])
    return float((logits.argmax(1) == truth).float().mean())


def work(rank: int, budget: training.Budget) -> None:
    """One process of the training."""
    torch.manual_seed(0)
    model = build(len(load_tokenizer()))
    trainer = training.Trainer({"clip": model}, WORK / "clip", budget, rank)
    trainer.restore()
    trainer.run(contrast(model, np.random.default_rng((trainer.step, rank, 11)), budget.batch))
    trainer.use_average()
    rng = np.random.default_rng(2**31)
    scenes = [draw_scene(rng, [n], held_out=True) for n in objects() for _ in range(3)]
    assert all(is_held_out(s.name, s.ground) for s in scenes) and len(GROUNDS) == 12
    score = zero_shot(model.eval(), [s.render() for s in scenes], [s.name for s in scenes])
    print(f"zero-shot top-1 over {len(objects())} objects on held-out renders {score:.3f}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--batch", type=int, default=96)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work(
        0,
        training.Budget(
            options.minutes, options.batch, 1e-3, processes=1, warmup_steps=50, ema=0.99, weight_decay=0.05
        ),
    )


if __name__ == "__main__":
    main()
