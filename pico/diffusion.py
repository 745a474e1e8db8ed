"""Train pico's UNet, `python -m pico.diffusion`: renders encoded once, then learnt with CLIP's text states."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from pico import clip, training, vae
from pico.scenes import SIZE, Scene, draw_caption, draw_scene

WORK = Path(__file__).parent / "work"
SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
    "timestep_spacing": "trailing",
}  # fmt: skip


def build() -> UNet2DConditionModel:
    """A fresh UNet: 16², 8² and 4² with 48, 96 and 192 channels, text attended to on every level, heads of 48."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        block_out_channels=(48, 96, 192),
        layers_per_block=1,
        cross_attention_dim=160,
        attention_head_dim=(1, 2, 4),
        norm_num_groups=16,
    ).to(memory_format=torch.channels_last)


def scene(number: int) -> Scene:
    """The scene of that number: the same on every machine, so that only latents need to be kept."""
    return draw_scene(np.random.default_rng((23, number)))


PORTION = 250
RENDERS = WORK / "renders.npy"
"""Renders drawn beforehand, by `--draw`, while a GPU trains something else."""


def renders(first: int) -> torch.Tensor:
    """The renders of the `PORTION` scenes from number `first`, 8 bits, [b 64 64 3]."""
    pictures = [np.asarray(scene(number).render()) for number in range(first, first + PORTION)]
    return torch.from_numpy(np.stack(pictures))


def draw(count: int) -> None:
    """Draws the first `count` scenes into `RENDERS`."""
    drawn = np.lib.format.open_memmap(RENDERS.with_suffix(".tmp"), "w+", np.uint8, (count, SIZE, SIZE, 3))
    portions = range(0, count, PORTION)
    for first, pictures in zip(portions, training.numbered(renders, portions), strict=True):
        drawn[first : first + PORTION] = pictures.numpy()[: count - first]
    drawn.flush()
    RENDERS.with_suffix(".tmp").replace(RENDERS)


def encode(rank: int, processes: int, count: int) -> None:
    """Writes this process's share of the latents of the scenes with numbers below `count`."""
    model = vae.load()
    factor = vae.latent_scale(model, vae.pixels(np.random.default_rng(5), 256, styled=0.0))
    model.to(training.DEVICE)
    latents: list[torch.Tensor] = []
    share = range(rank * count // processes, (rank + 1) * count // processes, PORTION)
    drawn = np.load(RENDERS, mmap_mode="r") if RENDERS.exists() else None
    if drawn is not None and len(drawn) < count:
        raise SystemExit(f"{RENDERS} has {len(drawn)} renders, and {count} are asked for: draw it anew, or remove it")
    portions = training.numbered(renders, share) if drawn is None else (_portion(drawn, first) for first in share)
    for first, batch in zip(share, portions, strict=True):
        pictures = batch.to(training.DEVICE).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        with torch.no_grad():
            latents.append((model.encode(pictures).latent_dist.mode() * factor).half().cpu())
        if rank == 0 and first % 5000 == 0:
            print(f"encoded {first * processes} of {count}", flush=True)
    content = {"latents": torch.cat(latents).contiguous(), "factor": torch.tensor([factor])}
    save_file(content, WORK / f"latents-{rank}-of-{processes}.safetensors")


def _portion(drawn: np.ndarray, first: int) -> torch.Tensor:
    return torch.from_numpy(drawn[first : first + PORTION].copy())


class TextStates:
    """CLIP's text states of captions: [77 160], padded with the end token as in Stable Diffusion.

    On a processor the first are kept, for most captions come again and again; those with made-up words never do.
    """

    def __init__(self, model: CLIPModel, kept: int = 20_000 if training.DEVICE.type == "cpu" else 0) -> None:
        self.model, self.tokenizer, self.kept = model.text_model.to(training.DEVICE), clip.load_tokenizer(), kept
        self.known: dict[str, torch.Tensor] = {}

    def __call__(self, captions: list[str]) -> torch.Tensor:
        """The states of captions, [b 77 160]."""
        if not self.kept:
            return self._read(captions).float()
        new = sorted({c for c in captions if c not in self.known})
        fresh = dict(zip(new, self._read(new), strict=True)) if new else {}
        if len(self.known) < self.kept:
            self.known |= fresh
        return torch.stack([fresh[c] if c in fresh else self.known[c] for c in captions]).float()

    @torch.no_grad()
    def _read(self, captions: list[str]) -> torch.Tensor:
        ids = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with training.precision():
            return self.model(ids.to(training.DEVICE)).last_hidden_state.half()


def timesteps(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Half of them uniform, half near the middle, where an object takes shape.

    Source: Esser et al. 2024, section 3.1.
    """
    uniform, middle = rng.random(count), 1 / (1 + np.exp(-rng.normal(size=count)))
    return torch.from_numpy((np.where(rng.random(count) < 0.5, uniform, middle) * 1000).astype(np.int64))


def told(rng: np.random.Generator, batch: int, count: int) -> tuple[torch.Tensor, list[str]]:
    """The numbers of `batch` scenes below `count`, [b], and a caption of each; one in ten is empty."""
    chosen = rng.integers(0, count, size=batch)
    return torch.from_numpy(chosen), ["" if rng.random() < 0.1 else draw_caption(rng, scene(int(n))) for n in chosen]


def batches(batch: int, *seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Latents, timesteps and text states."""
    shards = sorted(WORK.glob("latents-*-of-*.safetensors"))
    latents = torch.cat([load_file(shard)["latents"] for shard in shards]).to(training.DEVICE)
    states, rng = TextStates(clip.load()), np.random.default_rng(seed)
    for chosen, captions in training.endless(partial(told, batch=batch, count=len(latents)), *seed):
        yield latents[chosen.to(training.DEVICE)].float(), timesteps(rng, batch), states(captions)


class Denoise:
    """The v-prediction loss of a batch."""

    def __init__(self, unet: UNet2DConditionModel, *, compiled: bool) -> None:
        self.network, self.schedule = torch.compile(unet) if compiled else unet, DDIMScheduler(**SCHEDULE)

    def __call__(self, latents: torch.Tensor, times: torch.Tensor, text: torch.Tensor) -> training.Values:
        """The loss, []."""
        clean = latents.contiguous(memory_format=torch.channels_last)
        noise = torch.randn_like(clean)
        noisy = self.schedule.add_noise(clean, noise, times)
        with training.precision():
            answer = self.network(noisy, times, text).sample
        return {"loss": (answer.float() - self.schedule.get_velocity(clean, noise, times)).square().mean()}


def load(folder: Path = WORK / "unet") -> UNet2DConditionModel:
    """The UNet as trained in a folder or, where nothing was, as shipped."""
    unet = build()
    training.begin(unet, "unet", training.PACKAGE / "pico" / "unet" / "diffusion_pytorch_model.safetensors", folder)
    return unet.eval()


def work(rank: int, folder: str, budget: training.Budget, count: int, shipped: bool, compiled: bool) -> None:
    """One process: its share of the encoding if nothing is encoded, then the training."""
    if not any(WORK.glob("latents-0-of-*.safetensors")):
        if budget.processes > 1:
            dist.barrier()
        encode(rank, budget.processes, count)
    if budget.processes > 1:
        dist.barrier()
    torch.manual_seed(0)
    unet = (load().train() if shipped else build()).to(training.DEVICE)
    trainer = training.Trainer({"unet": unet}, WORK / folder, budget, rank)
    trainer.restore()
    if training.DEVICE.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # a third faster here than PyTorch's fused attention, going backwards
    torch.manual_seed(trainer.step * 2 + rank)
    trainer.run(batches(budget.batch, trainer.step, rank, 13), Denoise(unet, compiled=compiled))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--processes", type=int, default=training.PROCESSES)
    parser.add_argument("--muon", type=float)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--renders", type=int, default=60_000)
    parser.add_argument("--folder", default="unet", help="the training folder's name under pico/work")
    parser.add_argument("--shipped", action="store_true", help="begin with the weights in the package")
    parser.add_argument("--compile", action="store_true", help="on cores: half as fast again, after three minutes")
    parser.add_argument("--draw", action="store_true", help="draw the renders beforehand, and do no more")
    options = parser.parse_args()
    if options.renders % (PORTION * options.processes):  # else scenes and latents would not go together
        parser.error(f"--renders must be a multiple of {PORTION * options.processes}")
    if options.draw:
        draw(options.renders)
        return
    budget = training.Budget(
        options.minutes, options.batch, options.rate, muon_rate=options.muon, processes=options.processes
    )
    if options.processes == 1 and training.DEVICE.type == "cpu":
        torch.set_num_threads(1)
    training.launch(work, options.processes, options.folder, budget, options.renders, options.shipped, options.compile)


if __name__ == "__main__":
    main()
