"""A folder in diffusers' layout turned into its parts: where each lies, what its settings say, its network."""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bespoke.models.families import Family, halving
from bespoke.models.marks import fingerprint
from bespoke.models.quietly import quiet
from bespoke.models.unpacking import RESCALED
from bespoke.workspace import remembered


@dataclass(frozen=True)
class Parts:
    """A Stable Diffusion on disk in diffusers' layout; each network is read when it is asked for."""

    name: str
    folder: Path
    family: Family
    trained: Path | None = None
    """A folder whose parts stand in for those of `folder`."""
    words: Path | None = None
    """A file of new words, which its tokenizers and text encoders know."""
    rescaled: bool = False
    """Whether its schedule leaves nothing of a picture at the last timestep."""
    commit: str = ""
    """The hub's commit that it came from."""

    def part(self, name: str) -> Path:
        """The folder of one part."""
        instead = self.trained / name if self.trained else None
        return instead if instead and instead.is_dir() else self.folder / name

    def network(self, part: str, dtype: torch.dtype = torch.float32) -> Any:
        """One frozen network, in a number format."""
        return self._read(self._kind(part), self.part(part), dtype).eval().requires_grad_(requires_grad=False)

    def config(self, part: str) -> dict[str, Any]:
        """The settings of one network."""
        return json.loads((self.part(part) / "config.json").read_text(encoding="utf-8"))

    def fingerprint(self, part: str, digest: Callable[[Path], str] = remembered) -> str:
        """A mark of one part: equal exactly when its settings and weights are; `digest` gives that of a file."""
        mark = fingerprint(self.part(part), digest)
        return f"{mark}-rescaled" if self.rescaled and part == "scheduler" else mark

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The scheduler's settings."""
        own = json.loads((self.part("scheduler") / "scheduler_config.json").read_text(encoding="utf-8"))
        return own | RESCALED if self.rescaled else own

    @property
    def flows(self) -> bool:
        """Whether it was trained by flow matching."""
        return str(self.scheduler_config["_class_name"]).startswith("FlowMatch")

    @property
    def scaling(self) -> tuple[float, float]:
        """What the autoencoder's latents are multiplied with, after the second number is taken from them."""
        vae = self.config("vae")
        return float(vae["scaling_factor"]), float(vae.get("shift_factor") or 0.0)

    def moments_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """The shape of the autoencoder's moments for a picture of (width, height) pixels."""
        factor = halving(self.config("vae"))
        return 2 * int(self.config("vae")["latent_channels"]), size[1] // factor, size[0] // factor

    @property
    def resolution(self) -> int:
        """The side, in pixels, that the model was trained at."""
        return int(self.config(self.family.denoiser)["sample_size"]) * halving(self.config("vae"))

    @property
    def step(self) -> int:
        """What the sides of a picture must be multiples of, in pixels: the autoencoder's times the denoiser's."""
        return halving(self.config("vae")) * halving(self.config(self.family.denoiser))

    @property
    def _index(self) -> dict[str, Any]:
        """What the model's index says: for each part the library and the class."""
        return json.loads((self.folder / "model_index.json").read_text(encoding="utf-8"))

    def _kind(self, part: str) -> Any:
        """The class of a network, by the model's index."""
        library, kind = self._index[part]
        with quiet():
            return getattr(importlib.import_module(library), kind)

    def _read(self, kind: Any, folder: Path, dtype: torch.dtype) -> Any:
        with quiet():
            return kind.from_pretrained(folder, dtype=dtype)
