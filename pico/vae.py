"""Train pico's autoencoder, `python -m pico.vae`, then its decoder alone, `python -m pico.vae decoder`; resumable."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from pico import training
from pico.scenes import draw_scene, draw_single
from pico.styles import PRACTICE

WORK = Path(__file__).parent / "work"


def build() -> AutoencoderKL:
    """A fresh autoencoder: three levels, 64 px → 16×16×4, without attention so that it takes any size."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 112),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )
    with torch.no_grad():  # without this the sampled latents are all noise for the first thousand steps
        vae.quant_conv.bias[4:] = -5.0
        for name, parameter in vae.named_parameters():
            if name.endswith("conv2.weight"):  # each residual block begins as the identity
                parameter.zero_()
    return vae.to(memory_format=torch.channels_last)


def pixels(rng: np.random.Generator, count: int, *, styled: float = 0.5, held_out: bool = False) -> torch.Tensor:
    """`count` renders in −1..1, [b 3 64 64]; a share `styled` of them redrawn in a practice style or two."""
    styles = [*PRACTICE.values(), PRACTICE["tiles"], PRACTICE["tiles"]]  # a block is what a latent can hold best
    pictures: list[Image.Image] = []
    for _ in range(count):
        picture = (draw_single(rng, held_out=True) if held_out else draw_scene(rng)).render()
        for _ in range(int(rng.random() < styled) * int(rng.integers(1, 3))):
            picture = styles[int(rng.integers(len(styles)))](picture, rng)
        pictures.append(picture)
    return training.tensor(pictures).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: torch.Tensor) -> float:
    """The mean over pictures of the peak signal-to-noise ratio of decode(encode(picture)), in dB."""
    decoded = torch.cat([vae.decode(vae.encode(p).latent_dist.mode()).sample.clamp(-1, 1) for p in pictures.split(32)])
    error = ((decoded - pictures) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, pictures: torch.Tensor) -> float:
    """One over the standard deviation of the latents of renders: the scaling factor."""
    return float(1 / torch.cat([vae.encode(p).latent_dist.mode() for p in pictures.split(32)]).std())


def reconstruct(vae: AutoencoderKL, pictures: torch.Tensor) -> training.Values:
    """The loss of a batch: squared and a little absolute error, and a faint pull of latents to the normal."""
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    with training.precision():
        posterior = vae.encode(pictures).latent_dist
        decoded = vae.decode(posterior.sample()).sample.float()
    squared = (decoded - pictures).square().mean()
    loss = squared + 0.1 * (decoded - pictures).abs().mean() + 1e-7 * posterior.kl().mean()
    return {"loss": loss, "mse": squared}


def batches(batch: int, uses: int, *seed: int) -> Iterator[tuple[torch.Tensor]]:
    """Batches of renders; each picture comes `uses` times in the mean."""
    fresh = training.endless(partial(pixels, count=batch // uses), *seed)
    return zip(training.reused(fresh, batch) if uses > 1 else fresh)


def load() -> AutoencoderKL:
    """The autoencoder as trained, with its refined decoder if there is one, or, where nothing was, as shipped."""
    vae = build()
    shipped = training.PACKAGE / "pico" / "vae" / "diffusion_pytorch_model.safetensors"
    training.begin(vae, "vae", shipped, WORK / "vae", WORK / "decoder")
    return vae.eval()


def work(rank: int, stage: str, budget: training.Budget, shipped: bool, uses: int) -> None:
    """One process of the training."""
    torch.manual_seed(0)
    vae = (build() if stage == "vae" and not shipped else load()).to(training.DEVICE)
    frozen = [] if stage == "vae" else [vae.encoder, vae.quant_conv]
    for module in frozen:
        module.requires_grad_(False)
    trainer = training.Trainer({"vae": vae}, WORK / stage, budget, rank)
    trainer.restore()
    torch.manual_seed(1 + rank)
    trainer.run(batches(budget.batch, uses, trainer.step, rank, 7), partial(reconstruct, vae))
    if rank == 0:
        trainer.use_average()
        rng = np.random.default_rng(2**31)
        held = pixels(rng, 200, styled=0.0, held_out=True)
        styled = pixels(rng, 200, styled=1.0)
        plain, practised = (psnr(vae, pictures.to(training.DEVICE)) for pictures in (held, styled))
        print(f"PSNR on held-out renders {plain:.2f} dB, in practice styles {practised:.2f} dB")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["vae", "decoder"], nargs="?", default="vae")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--processes", type=int, default=training.PROCESSES)
    parser.add_argument("--muon", type=float, default=0.004)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--shipped", action="store_true", help="begin with the weights in the package")
    parser.add_argument(
        "--uses", type=int, default=1, help="how often a picture comes: a GPU learns faster than cores draw"
    )
    options = parser.parse_args()
    budget = training.Budget(
        options.minutes,
        options.batch,
        options.rate,
        muon_rate=options.muon,
        weight_decay=0.0,
        processes=options.processes,
    )
    training.launch(work, options.processes, options.stage, budget, options.shipped, options.uses)


if __name__ == "__main__":
    main()
