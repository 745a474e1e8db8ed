"""Put pico together, `python -m pico.assemble`: the trained parts in the package, fp16, in diffusers' layout."""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTextModel

from pico import clip, diffusion, tokenizer, training, vae
from pico.diffusion import SCHEDULE

MODELS = training.PACKAGE


def text_encoder(towers: CLIPModel) -> CLIPTextModel:
    """The text tower of pico-CLIP, as Stable Diffusion uses CLIP's."""
    encoder = CLIPTextModel(towers.config.text_config)
    tower = {k.removeprefix("text_model."): v for k, v in towers.text_model.state_dict().items()}
    own = encoder.state_dict()
    prefix = "text_model." if next(iter(own)).startswith("text_model.") else ""
    encoder.load_state_dict({f"{prefix}{k}": v for k, v in tower.items()})
    return encoder.eval()


def scaled_autoencoder() -> AutoencoderKL:
    """The autoencoder with its scaling factor, measured."""
    model = vae.load()
    factor = vae.latent_scale(model, vae.pixels(np.random.default_rng(5), 256, styled=0.0))
    model.register_to_config(scaling_factor=round(factor, 5))
    return model


def write(unet: UNet2DConditionModel, folder: Path = MODELS) -> None:
    """Writes `pico` and `pico_clip` under `folder`, replacing what is there."""
    towers, words = clip.load(), clip.load_tokenizer()
    pipeline = StableDiffusionPipeline(
        vae=scaled_autoencoder().to(memory_format=torch.contiguous_format).half(),
        text_encoder=text_encoder(towers).half(),
        tokenizer=words, unet=unet.to(memory_format=torch.contiguous_format).half(),
        scheduler=DDIMScheduler(**SCHEDULE), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    source = tokenizer.FOLDER if tokenizer.FOLDER.exists() else training.PACKAGE / "pico_clip"
    tables = {file: (source / file).read_bytes() for file in ("vocab.json", "merges.txt")}
    for name in ("pico", "pico_clip"):
        shutil.rmtree(folder / name, ignore_errors=True)
    pipeline.save_pretrained(folder / "pico")
    towers.half().save_pretrained(folder / "pico_clip")
    words.save_pretrained(folder / "pico_clip")
    CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, image_mean=clip.MEAN, image_std=clip.STD
    ).save_pretrained(folder / "pico_clip")
    for place in (folder / "pico" / "tokenizer", folder / "pico_clip"):
        # transformers writes tokenizer.json alone; other tools read CLIP's own two files.
        for file, content in tables.items():
            (place / file).write_bytes(content)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unet", default="unet", help="the training folder's name under pico/work")
    parser.add_argument("--folder", type=Path, default=MODELS)
    options = parser.parse_args()
    write(diffusion.load(diffusion.WORK / options.unet), options.folder)
    size = sum(f.stat().st_size for n in ("pico", "pico_clip") for f in (options.folder / n).rglob("*") if f.is_file())
    print(f"{size / 2**20:.1f} MB in {options.folder}")


if __name__ == "__main__":
    main()
