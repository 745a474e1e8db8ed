"""Train pico's UNet, `python -m pico.diffusion`: renders encoded once, then learnt with CLIP's text states."""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from pico import clip, training, vae
from pico.world import GROUNDS, Scene, draw_caption, draw_scene, objects

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


Numbers = list[tuple[int, int]]


def labelled(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, Numbers]:
    """Renders in −1..1, [b 3 64 64], with the numbers of their objects and grounds."""
    names, grounds = objects(), list(GROUNDS)
    scenes = [draw_scene(rng) for _ in range(count)]
    return training.tensor([s.render() for s in scenes]), [
        (names.index(s.name), grounds.index(s.ground)) for s in scenes
    ]


def encode(rank: int, processes: int, count: int) -> None:
    """Writes this process's share of `count` renders as latents, with the numbers of their objects and grounds."""
    model = vae.load()
    factor = vae.latent_scale(model, vae.pixels(np.random.default_rng(5), 256, styled=0.0))
    model.to(training.DEVICE)
    latents: list[torch.Tensor] = []
    labels: Numbers = []
    drawn = training.endless(partial(labelled, count=50), rank, 23)
    for start, (batch, numbers) in zip(range(0, count // processes, 50), drawn, strict=False):
        pictures = batch.to(training.DEVICE, memory_format=torch.channels_last)
        with torch.no_grad():
            latents.append((model.encode(pictures).latent_dist.mode() * factor).half().cpu())
        labels += numbers
        if rank == 0 and start % 2000 == 0:
            print(f"encoded {start * processes} of {count}", flush=True)
    content = {"latents": torch.cat(latents).contiguous(), "labels": torch.tensor(labels)}
    save_file(content | {"factor": torch.tensor([factor])}, WORK / f"latents-{rank}.safetensors")


class TextStates:
    """CLIP's text states of captions: [77 160], padded with the end token as in Stable Diffusion.

    The first are kept, for most captions come again and again; those with made-up words never do.
    """

    def __init__(self, model: CLIPModel, kept: int = 20_000) -> None:
        self.model, self.tokenizer, self.kept = model.text_model.to(training.DEVICE), clip.load_tokenizer(), kept
        self.known: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, captions: list[str]) -> torch.Tensor:
        """The states of captions, [b 77 160]."""
        new = sorted({c for c in captions if c not in self.known})
        fresh: dict[str, torch.Tensor] = {}
        if new:
            ids = self.tokenizer(new, padding="max_length", truncation=True, return_tensors="pt").input_ids
            states = self.model(ids.to(training.DEVICE)).last_hidden_state.half()
            fresh = dict(zip(new, states, strict=True))
        if len(self.known) < self.kept:
            self.known |= fresh
        return torch.stack([fresh[c] if c in fresh else self.known[c] for c in captions]).float()


def timesteps(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Half of them uniform, half near the middle, where an object takes shape.

    Source: Esser et al. 2024, section 3.1.
    """
    uniform, middle = rng.random(count), 1 / (1 + np.exp(-rng.normal(size=count)))
    return torch.from_numpy((np.where(rng.random(count) < 0.5, uniform, middle) * 1000).astype(np.int64))


def denoise(unet: UNet2DConditionModel, rng: np.random.Generator, batch: int) -> Iterator[dict[str, torch.Tensor]]:
    """The v-prediction loss of each next batch; one caption in ten is empty."""
    shards = [load_file(path) for path in sorted(WORK.glob("latents-*.safetensors"))]
    latents, labels = torch.cat([s["latents"] for s in shards]), torch.cat([s["labels"] for s in shards])
    latents = latents.to(training.DEVICE)
    names, grounds = objects(), list(GROUNDS)
    states, schedule = TextStates(clip.load()), DDIMScheduler(**SCHEDULE)
    while True:
        chosen = torch.from_numpy(rng.integers(0, len(latents), size=batch))
        scenes = [Scene(names[o], grounds[g], 0.8, 0.5, 0.5) for o, g in labels[chosen].tolist()]
        captions = ["" if rng.random() < 0.1 else draw_caption(rng, s) for s in scenes]
        clean = latents[chosen.to(training.DEVICE)].float().contiguous(memory_format=torch.channels_last)
        noise, times = torch.randn_like(clean), timesteps(rng, batch).to(training.DEVICE)
        noisy = schedule.add_noise(clean, noise, times)
        target = schedule.get_velocity(clean, noise, times)
        with training.precision():
            answer = unet(noisy, times, states(captions)).sample
        yield {"loss": (answer.float() - target).square().mean()}


def load(folder: Path = WORK / "unet") -> UNet2DConditionModel:
    """The UNet as trained in a folder or, where nothing was, as shipped."""
    unet = build()
    training.begin(unet, "unet", training.PACKAGE / "pico" / "unet" / "diffusion_pytorch_model.safetensors", folder)
    return unet.eval()


def work(rank: int, folder: str, budget: training.Budget, count: int, shipped: bool) -> None:
    """One process: its share of the encoding if that is not done, then the training."""
    if not (WORK / f"latents-{rank}.safetensors").exists():
        encode(rank, budget.processes, count)
    if budget.processes > 1:
        dist.barrier()
    torch.manual_seed(0)
    unet = (load().train() if shipped else build()).to(training.DEVICE)
    trainer = training.Trainer({"unet": unet}, WORK / folder, budget, rank)
    trainer.restore()
    torch.manual_seed(trainer.step * 2 + rank)
    trainer.run(denoise(unet, np.random.default_rng((trainer.step, rank, 13)), budget.batch))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--processes", type=int, default=training.PROCESSES)
    parser.add_argument("--muon", type=float)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--renders", type=int, default=16_000)
    parser.add_argument("--folder", default="unet", help="the training folder's name under pico/work")
    parser.add_argument("--shipped", action="store_true", help="begin with the weights in the package")
    options = parser.parse_args()
    budget = training.Budget(
        options.minutes, options.batch, options.rate, muon_rate=options.muon, processes=options.processes
    )
    if options.processes == 1 and training.DEVICE.type == "cpu":
        torch.set_num_threads(1)
    training.launch(work, options.processes, options.folder, budget, options.renders, options.shipped)


if __name__ == "__main__":
    main()
