"""Build a model of any family with random weights, `python -m pico.families KIND FOLDER`: tiny for tests, or full size.

Nothing is trained and nothing is shipped. The tiny ones go through every code path that differs between families; the
full-sized ones have the shapes of the real models, for measuring speed and memory.
"""

import argparse
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from pico import clip

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
CROSS = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
PLAIN = "DownBlock2D", "UpBlock2D"
TINY_THIRD: dict[str, Any] = {"clips": ((32, 2, 4), (48, 2, 4)), "widths": (8, 8, 16, 16), "depth": 1, "side": 64}
"""A tiny one's width, layers and heads of each CLIP, and its autoencoder. The second CLIP is wider than the first, as
the real one is: readers of single files tell them apart by that."""


SPARE = 3
"""Rows of a tiny T5 that no token stands for; the real one has 28, 32,128 for 32,100 tokens."""


def text_encoder(kind: Any, *, width: int, layers: int, heads: int, vocabulary: int | None = None, act: str) -> Any:
    """A text encoder of CLIP's form over pico's words, or over more rows where the real model's size is wanted."""
    words = clip.load_tokenizer()
    return kind(CLIPTextConfig(
        vocab_size=vocabulary or len(words), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=heads, max_position_embeddings=77, projection_dim=width, hidden_act=act,
        bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
    ))  # fmt: skip


def autoencoder(widths: tuple[int, ...], *, layers: int, channels: int = 4, side: int, **options: Any) -> AutoencoderKL:
    """An autoencoder with a level for each width."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths), up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths, layers_per_block=layers, latent_channels=channels, sample_size=side,
        norm_num_groups=min(32, widths[0] // 2), **options,
    )  # fmt: skip


def unet(widths: tuple[int, ...], attends: tuple[bool, ...], **options: Any) -> UNet2DConditionModel:
    """A UNet with a level for each width; `attends` says which levels read the text."""
    return UNet2DConditionModel(
        down_block_types=tuple((CROSS if a else PLAIN)[0] for a in attends),
        up_block_types=tuple((CROSS if a else PLAIN)[1] for a in reversed(attends)),
        block_out_channels=widths, layers_per_block=2, norm_num_groups=min(32, widths[0] // 2), **options,
    )  # fmt: skip


def of_first(network: UNet2DConditionModel, vae: AutoencoderKL, encoder: Any, scheduler: Any) -> DiffusionPipeline:
    """A Stable Diffusion 1.x or 2.x of these parts."""
    return StableDiffusionPipeline(
        vae=vae, text_encoder=encoder, tokenizer=clip.load_tokenizer(), unet=network, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sd1() -> DiffusionPipeline:
    """A tiny Stable Diffusion 1.x: noise is predicted, and latents are an eighth of the picture's side."""
    network = unet((32, 64), (True, False), sample_size=8, cross_attention_dim=32, attention_head_dim=4)
    encoder = text_encoder(CLIPTextModel, width=32, layers=2, heads=4, act="quick_gelu")
    vae = autoencoder((8, 8, 16, 16), layers=1, side=64, scaling_factor=0.18215)
    return of_first(network, vae, encoder, PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1))


def sd2v() -> DiffusionPipeline:
    """A tiny Stable Diffusion 2.x: v is predicted, heads differ by level, projections are linear."""
    network = unet(
        (32, 64), (True, False), sample_size=8, cross_attention_dim=48, attention_head_dim=(2, 4),
        use_linear_projection=True,
    )  # fmt: skip
    encoder = text_encoder(CLIPTextModel, width=48, layers=2, heads=4, act="gelu")
    vae = autoencoder((8, 8, 16, 16), layers=1, side=64, scaling_factor=0.18215)
    scheduler = DDIMScheduler(
        **BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    return of_first(network, vae, encoder, scheduler)


def sdxl() -> DiffusionPipeline:
    """A tiny SDXL: two text encoders, a pooled state, and the picture's size and crop as conditions."""
    network = unet(
        (32, 64), (False, True), sample_size=8, cross_attention_dim=32 + 48, attention_head_dim=(2, 4),
        use_linear_projection=True, transformer_layers_per_block=(1, 2), addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=48 + 6 * 8,
    )  # fmt: skip
    vae = autoencoder((8, 8, 16, 16), layers=1, side=64, scaling_factor=0.13025)
    # Of different widths, as diffusers tells the two text encoders in one file apart by that.
    return of_xl(network, vae, (32, 48), (2, 2), (4, 4))


def of_xl(
    network: UNet2DConditionModel, vae: AutoencoderKL, widths: tuple[int, int], layers: tuple[int, int],
    heads: tuple[int, int], vocabulary: int | None = None,
) -> DiffusionPipeline:  # fmt: skip
    """An SDXL of these networks with two text encoders."""
    first, second = (
        text_encoder(kind, width=w, layers=n, heads=h, act=act, vocabulary=vocabulary)
        for kind, w, n, h, act in zip(
            (CLIPTextModel, CLIPTextModelWithProjection), widths, layers, heads, ("quick_gelu", "gelu"), strict=True
        )
    )
    with torch.device("cpu"):  # it reads its numbers, which an outline's tensors do not have
        scheduler = EulerDiscreteScheduler(**BETAS, steps_offset=1)
    other = clip.load_tokenizer()
    other.pad_token = "!"
    return StableDiffusionXLPipeline(
        vae=vae, text_encoder=first, text_encoder_2=second, tokenizer=clip.load_tokenizer(),
        tokenizer_2=other, unet=network, scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip


def t5(width: int) -> tuple[T5EncoderModel, T5Tokenizer]:
    """A tiny T5 encoder, with a tokenizer that spells; as the real one it has rows that no token stands for."""
    pieces = ("<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase, *string.digits)
    tokenizer = T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer) + SPARE, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=4
    )
    return T5EncoderModel(config), tokenizer


def sd3() -> DiffusionPipeline:
    """A tiny Stable Diffusion 3: three text encoders, a transformer, flow matching, sixteen latent channels."""
    return of_third(transformer(joint_attention_dim=80), t5(80), **TINY_THIRD)


def sd3_clips() -> DiffusionPipeline:
    """The same without T5, as whoever has little memory draws with it."""
    return of_third(transformer(joint_attention_dim=80), (None, None), **TINY_THIRD)


def sd35() -> DiffusionPipeline:
    """A tiny Stable Diffusion 3.5 medium: normalised queries and keys, a second attention over the picture alone.

    The transformer reads wider states than both CLIPs have, as the real ones do.
    """
    network = transformer(joint_attention_dim=96, qk_norm="rms_norm", dual_attention_layers=(0,))
    return of_third(network, t5(96), **TINY_THIRD)


def transformer(**options: Any) -> SD3Transformer2DModel:
    """A tiny transformer of Stable Diffusion 3's form."""
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, pooled_projection_dim=80, pos_embed_max_size=16, **options,
    )  # fmt: skip


def of_third(
    network: SD3Transformer2DModel, third: tuple[Any, Any], *, clips: Sequence[tuple[int, int, int]],
    widths: tuple[int, ...], depth: int, side: int, vocabulary: int | None = None,
) -> DiffusionPipeline:  # fmt: skip
    """A Stable Diffusion 3 of this transformer and T5, if there is one."""
    first, second = (
        text_encoder(CLIPTextModelWithProjection, width=w, layers=n, heads=h, act=act, vocabulary=vocabulary)
        for (w, n, h), act in zip(clips, ("quick_gelu", "gelu"), strict=True)
    )
    vae = autoencoder(
        widths, layers=depth, channels=16, side=side, scaling_factor=1.5305, shift_factor=0.0609,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    with torch.device("cpu"):  # it reads its numbers, which an outline's tensors do not have
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return StableDiffusion3Pipeline(
        transformer=network, scheduler=scheduler, vae=vae, text_encoder=first,
        tokenizer=clip.load_tokenizer(), text_encoder_2=second, tokenizer_2=clip.load_tokenizer(),
        text_encoder_3=third[0], tokenizer_3=third[1],
    )  # fmt: skip


def sd15_shape() -> DiffusionPipeline:
    """Stable Diffusion 1.5's shapes. Source: the configurations of stable-diffusion-v1-5/stable-diffusion-v1-5."""
    network = unet(
        (320, 640, 1280, 1280), (True, True, True, False), sample_size=64, cross_attention_dim=768,
        attention_head_dim=8,
    )  # fmt: skip
    encoder = text_encoder(CLIPTextModel, width=768, layers=12, heads=12, vocabulary=49_408, act="quick_gelu")
    vae = autoencoder((128, 256, 512, 512), layers=2, side=512, scaling_factor=0.18215)
    return of_first(network, vae, encoder, PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1))


def sd21_shape() -> DiffusionPipeline:
    """Stable Diffusion 2.1's shapes, of 768 pixels. Source: the configurations of stabilityai/stable-diffusion-2-1."""
    network = unet(
        (320, 640, 1280, 1280), (True, True, True, False), sample_size=96, cross_attention_dim=1024,
        attention_head_dim=(5, 10, 20, 20), use_linear_projection=True,
    )  # fmt: skip
    encoder = text_encoder(CLIPTextModel, width=1024, layers=23, heads=16, vocabulary=49_408, act="gelu")
    vae = autoencoder((128, 256, 512, 512), layers=2, side=768, scaling_factor=0.18215)
    scheduler = DDIMScheduler(
        **BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    return of_first(network, vae, encoder, scheduler)


def sdxl_shape() -> DiffusionPipeline:
    """SDXL's shapes. Source: the configurations of stabilityai/stable-diffusion-xl-base-1.0."""
    network = unet(
        (320, 640, 1280), (False, True, True), sample_size=128, cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20), use_linear_projection=True,
        transformer_layers_per_block=(1, 2, 10), addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    vae = autoencoder((128, 256, 512, 512), layers=2, side=1024, scaling_factor=0.13025)
    return of_xl(network, vae, (768, 1280), (12, 32), (12, 20), vocabulary=49_408)


def sd35_shape() -> DiffusionPipeline:
    """Stable Diffusion 3.5 medium's shapes, without T5. Source: stabilityai/stable-diffusion-3.5-medium."""
    network = SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=24, attention_head_dim=64,
        num_attention_heads=24, joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048,
        pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm",
    )  # fmt: skip
    return of_third(
        network, (None, None), clips=((768, 12, 12), (1280, 32, 20)), widths=(128, 256, 512, 512), depth=2, side=1024,
        vocabulary=49_408,
    )  # fmt: skip


KINDS: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd1": sd1, "sd2v": sd2v, "sdxl": sdxl, "sd3": sd3, "sd3-clips": sd3_clips,
    "sd35": sd35, "sd15-shape": sd15_shape, "sd21-shape": sd21_shape,
    "sdxl-shape": sdxl_shape, "sd35-shape": sd35_shape,
}  # fmt: skip


def write(kind: str, folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model of that kind, random by `seed`, in diffusers' layout."""
    with torch.random.fork_rng(), torch.device("cpu"):
        torch.manual_seed(seed)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)  # a full-sized model in float32 first would need twice the memory
        try:
            pipeline = KINDS[kind]()
        finally:
            torch.set_default_dtype(before)
    pipeline.save_pretrained(folder)


def outline(kind: str, folder: Path) -> None:
    """Writes what a model of that kind says of itself, in diffusers' layout, without any weights; takes no memory."""
    with torch.device("meta"):
        pipeline = KINDS[kind]()
    for name, part in pipeline.components.items():
        if hasattr(part, "save_config"):
            part.save_config(folder / name)
        elif hasattr(part, "config"):
            part.config.save_pretrained(folder / name)
        elif part is not None:
            part.save_pretrained(folder / name)
    pipeline.save_config(folder)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dtype = torch.float16 if options.kind.endswith("-shape") else torch.float32
    write(options.kind, options.folder, seed=options.seed, dtype=dtype)
    size = sum(f.stat().st_size for f in options.folder.rglob("*") if f.is_file())
    print(f"{options.kind} in {options.folder}: {size / 2**20:.0f} MB of random weights")


if __name__ == "__main__":
    main()
