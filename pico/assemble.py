"""Put pico together, `python -m pico.assemble [PART…]`: the trained parts in the package, fp16, as others read them."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from transformers import BlipImageProcessorPil, CLIPImageProcessorPil, CLIPModel, CLIPTextModel, YolosImageProcessorPil

from pico import blip, clip, diffusion, safety, tokenizer, training, vae, yolos
from pico.diffusion import SCHEDULE
from pico.scenes import SIZE

MODELS = training.PACKAGE
NORMALISED = {"image_mean": clip.MEAN, "image_std": clip.STD}


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


def clip_processor() -> CLIPImageProcessorPil:
    """What brings pictures to what the image towers take."""
    return CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, **NORMALISED)


def write_pico(folder: Path, unet: str) -> None:
    """The Stable Diffusion, with the UNet of that training folder."""
    pipeline = StableDiffusionPipeline(
        vae=scaled_autoencoder().to(memory_format=torch.contiguous_format).half(),
        text_encoder=text_encoder(clip.load()).half(),
        tokenizer=clip.load_tokenizer(),
        unet=diffusion.load(diffusion.WORK / unet).to(memory_format=torch.contiguous_format).half(),
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    _write_tables(folder / "tokenizer")
    write_checker(folder, unet)


def write_checker(folder: Path, _: str) -> None:
    """The safety checker and its processor, put into the Stable Diffusion that is there."""
    safety.load().half().save_pretrained(folder / "safety_checker")
    clip_processor().save_pretrained(folder / "feature_extractor")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],  # by the name that all checkpoints have
        "requires_safety_checker": True,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_clip(folder: Path, _: str) -> None:
    """pico-CLIP: both towers, the words and the processor."""
    clip.load().half().save_pretrained(folder)
    clip.load_tokenizer().save_pretrained(folder)
    clip_processor().save_pretrained(folder)
    _write_tables(folder)


def write_blip(folder: Path, _: str) -> None:
    """pico-BLIP: the captioner, its words and its processor."""
    blip.load().half().save_pretrained(folder)
    blip.tokenizer().save_pretrained(folder)
    BlipImageProcessorPil(size={"height": SIZE, "width": SIZE}, **NORMALISED).save_pretrained(folder)


def write_yolos(folder: Path, _: str) -> None:
    """pico-YOLOS: the detector and its processor."""
    yolos.load().half().save_pretrained(folder)
    size = {"height": SIZE, "width": SIZE}
    YolosImageProcessorPil(size=size, do_pad=False, **NORMALISED).save_pretrained(folder)


PARTS: dict[str, tuple[str, Callable[[Path, str], None]]] = {
    "pico": ("pico", write_pico), "safety_checker": ("pico", write_checker), "pico_clip": ("pico_clip", write_clip),
    "pico_blip": ("pico_blip", write_blip), "pico_yolos": ("pico_yolos", write_yolos),
}  # fmt: skip
"""What can be put together: the folder it goes to, and how."""


def _write_tables(place: Path) -> None:
    """CLIP's own two files, for transformers writes tokenizer.json alone."""
    source = tokenizer.FOLDER if tokenizer.FOLDER.exists() else TABLES
    for file in ("vocab.json", "merges.txt"):
        if source != place:
            shutil.copy(source / file, place / file)


TABLES = MODELS / "pico_clip"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--unet", default="unet", help="the training folder's name under pico/work")
    parser.add_argument("--folder", type=Path, default=MODELS)
    options = parser.parse_args()
    for name in options.parts or PARTS:
        folder, write = PARTS[name]
        write(options.folder / folder, options.unet)
    folders = {folder for folder, _ in PARTS.values()}
    files = [f for folder in folders for f in (options.folder / folder).rglob("*") if f.is_file()]
    print(f"{sum(f.stat().st_size for f in files) / 2**20:.1f} MB in {options.folder}")


if __name__ == "__main__":
    main()
