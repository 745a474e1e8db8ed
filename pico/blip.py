"""Train pico-BLIP, the captioner, on scenes and their captions: `python -m pico.blip`; resumable."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipTextConfig, BlipVisionConfig

from pico import training
from pico.clip import normalised
from pico.scenes import Scene, draw_pair, draw_scene, draw_single
from pico.styles import PRACTICE
from pico.world import PLACES, grounds, located, objects

WORK = Path(__file__).parent / "work"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-,.'!"
BEGINNINGS = ("", "", "picture of ", "illustration of ")
"""What a caption may begin with when the captioner is asked to go on from it."""


def vocabulary() -> dict[str, int]:
    """BERT's special words, every word of the world's captions, and letters, of which any other word is made."""
    rng = np.random.default_rng(0)
    texts = [truth(draw_scene(rng)) for _ in range(4000)] + [*objects(), *grounds(), *BEGINNINGS, *PRACTICE]
    texts += [located(name, ground) for name in objects() for ground in grounds()]
    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    words = sorted({w for t in texts for w in t.replace(",", " ").replace("-", " ").split()} - set(letters))
    return {word: number for number, word in enumerate([*SPECIAL, *letters, *words])}


def tokenizer() -> BertTokenizer:
    """BERT's tokenizer over the world's words."""
    return BertTokenizer(vocab=vocabulary(), bos_token="[DEC]", model_max_length=40)


def build() -> BlipForConditionalGeneration:
    """A fresh captioner: image 4 × 160 over 64 patches of 8 × 8 pixels, text 3 × 160."""
    words = vocabulary()
    text = BlipTextConfig(
        vocab_size=len(words), hidden_size=160, encoder_hidden_size=160, intermediate_size=480, projection_dim=160,
        num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=40, bos_token_id=words["[DEC]"],
        eos_token_id=words["[SEP]"], sep_token_id=words["[SEP]"], pad_token_id=words["[PAD]"],
    )  # fmt: skip
    vision = BlipVisionConfig(
        hidden_size=160, intermediate_size=640, projection_dim=160, num_hidden_layers=4, num_attention_heads=4,
        image_size=64, patch_size=8, initializer_range=0.02,
    )  # fmt: skip
    return BlipForConditionalGeneration(
        BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=160)
    )


def truth(scene: Scene) -> str:
    """The caption that pico-BLIP should give: things from left to right or from top to bottom, then the ground."""
    return located(scene.phrase, scene.ground)


def seen(rng: np.random.Generator) -> tuple[Image.Image, str]:
    """A picture to learn from with its caption; one in six redrawn in a practice style that keeps colours."""
    scene = draw_scene(rng)
    picture = scene.render()
    if rng.random() < 0.17:
        style = str(rng.choice([s for s in PRACTICE if s not in ("recoloured picture", "line art", "collage")]))
        picture = PRACTICE[style](picture, rng)
    return picture, str(rng.choice(BEGINNINGS)) + truth(scene)


def prepared(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, list[str]]:
    """`count` pictures as the captioner takes them, with their captions."""
    drawn = [seen(rng) for _ in range(count)]
    return normalised([picture for picture, _ in drawn]), [text for _, text in drawn]


def tell(model: BlipForConditionalGeneration, batch: int, *seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """The loss of each next batch: that of every next word. Source: Li et al. 2022, "BLIP", section 3.2 (LM loss)."""
    words = tokenizer()
    for pictures, texts in training.endless(partial(prepared, count=batch), *seed):
        ids = words(texts, padding=True, truncation=True, return_tensors="pt").to(training.DEVICE)
        ids.input_ids[:, 0] = words.bos_token_id
        labels = ids.input_ids.masked_fill(ids.attention_mask == 0, -100)
        with training.precision():
            output = model(
                pixel_values=pictures.to(training.DEVICE), input_ids=ids.input_ids,
                attention_mask=ids.attention_mask, labels=labels,
            )  # fmt: skip
        yield {"loss": output.loss}


def load() -> BlipForConditionalGeneration:
    """The captioner as trained or, where nothing was, as shipped."""
    model = build()
    training.begin(model, "blip", training.PACKAGE / "pico_blip" / "model.safetensors", WORK / "blip")
    return model.eval()


@torch.no_grad()
def captions(model: BlipForConditionalGeneration, pictures: list[Image.Image]) -> list[str]:
    """What the captioner says of pictures, the likeliest word each time."""
    words, said = tokenizer(), []
    for start in range(0, len(pictures), 50):
        shown = normalised(pictures[start : start + 50]).to(training.DEVICE)
        said += words.batch_decode(model.generate(shown, max_length=32), skip_special_tokens=True)
    return said


def names_all(said: str, scene: Scene) -> bool:
    """Whether a caption names every thing of a scene, and its ground where it is one colour or a place."""
    spoken = f" {said.replace(' - ', '-').replace(',', ' ')} "
    place = PLACES.get(scene.ground, f"{scene.ground} background")
    return all(f" {thing.name} " in spoken for thing in scene.things) and f" {place} " in spoken


def held_out(count: int) -> dict[str, list[Scene]]:
    """Scenes that training never sees: one thing on a colour, and two things beside or above each other."""
    rng = np.random.default_rng(2**31 + 5)
    names = objects()
    single = [draw_single(rng, [names[k % len(names)]], held_out=True) for k in range(count)]
    return {"one object": single, "two objects": [draw_pair(rng, held_out=True) for _ in range(count)]}


def work(budget: training.Budget) -> None:
    """The training, then what it came to."""
    torch.manual_seed(0)
    model = build().to(training.DEVICE)
    trainer = training.Trainer({"blip": model}, WORK / "blip", budget, 0)
    trainer.restore()
    trainer.run(tell(model, budget.batch, trainer.step, 31))
    trainer.use_average()
    model.eval()
    for kind, scenes in held_out(400).items():
        said = captions(model, [scene.render() for scene in scenes])
        right = float(np.mean([names_all(text, scene) for text, scene in zip(said, scenes, strict=True)]))
        print(f"{kind} and the ground named on held-out renders: {right:.3f}; such as {said[:3]}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work(training.Budget(options.minutes, options.batch, options.rate, processes=1, ema=0.995, weight_decay=0.05))


if __name__ == "__main__":
    main()
