"""Pictures turned into features by the Inception v3 of the Fréchet Inception Distance, from a file of its weights.

Source: Szegedy et al. 2016, arXiv 1512.00567 (the network); the TensorFlow graph of 2015-12-05 that Heusel et al. 2017
measured with, in the layout of pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`, which torch-fidelity also reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from bespoke.errors import BespokeError
from bespoke.workspace import remembered

SIDE = 299
CLASSES = 1008
BATCH = 32
MARK = "6726825d"
"""How the SHA-256 of the published weights begins: only what was measured with them may be called FID."""
RESIZER = "Pillow bicubic to 299 × 299, each channel in float32"
"""Source: Parmar et al. 2022, arXiv 2104.11222, "clean-fid"."""


class Inception:
    """The network in a file of weights, `.pth` or `.safetensors`; its name says whether these are FID's.

    Raises: BespokeError when the file holds no such weights.
    """

    resizer = RESIZER

    def __init__(self, file: Path, device: torch.device | str = "cpu") -> None:
        self.mark = _digest(file)
        self.is_fid = self.mark.startswith(MARK)
        self.name = "Inception v3" if self.is_fid else f"Inception v3 ({file.name}, not FID's weights)"
        self._device = torch.device(device)
        network = InceptionV3()
        try:
            network.load_state_dict(_weights(file))
        except (RuntimeError, OSError, ValueError) as error:
            hint = "Give pt_inception-2015-12-05-6726825d.pth of pytorch-fid, or the same file of torch-fidelity."
            first = str(error).splitlines()[0]
            raise BespokeError(f"{file} does not hold the weights of FID's Inception v3: {first}", hint) from None
        self._network = network.eval().requires_grad_(requires_grad=False).to(self._device)

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The features of pictures, float64 [n 2048], after the last pooling."""
        return np.concatenate([self._pooled(part).double().cpu().numpy() for part in _parts(pictures)])

    def posteriors(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The probabilities of the classes, float64 [n 1008], without the bias, as Salimans et al. 2016 had them."""
        weight = self._network.fc.weight
        rows = [(self._pooled(part) @ weight.T).double().softmax(dim=1) for part in _parts(pictures)]
        return torch.cat(rows).cpu().numpy()

    @torch.no_grad()
    def _pooled(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        batch = torch.from_numpy(np.stack([resized(picture) for picture in pictures])).permute(0, 3, 1, 2)
        return self._network((batch.to(self._device) - 128) / 128)


def resized(picture: Image.Image) -> np.ndarray:
    """The picture at 299 × 299, float32 [299 299 3] from 0 to 255, not rounded."""
    pixels = np.asarray(picture.convert("RGB"), np.float32)
    channels = (Image.fromarray(pixels[:, :, n]) for n in range(3))
    made = [np.asarray(one.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in channels]
    return np.stack(made, axis=2).clip(0, 255)


def _parts(pictures: Sequence[Image.Image]) -> list[Sequence[Image.Image]]:
    return [pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH)]


def _digest(file: Path) -> str:
    try:
        return remembered(file)
    except OSError as error:
        hint = 'Name the file of its weights: evaluate.extractors = ["pt_inception-2015-12-05-6726825d.pth"]'
        raise BespokeError(f"{file} cannot be read: {error.strerror}.", hint) from None


def _weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors in a file; a pickle is read as tensors only, so nothing in it can run."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    from pickle import UnpicklingError

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError) as error:
        said = str(error).splitlines() or ["it is cut off"]
        raise ValueError(said[0]) from None


class Convolution(nn.Module):
    """A convolution without bias, normalised, and rectified."""

    def __init__(self, width: int, out: int, kernel: int | tuple[int, int], **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What comes through, [b out h w]."""
        return F.relu(self.bn(self.conv(x)))


def _averaged(x: torch.Tensor) -> torch.Tensor:
    """The mean over 3 × 3; the border is no part of it, as in TensorFlow."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35 × 35: kernels of 1, 5 and 3 + 3 beside a mean."""

    def __init__(self, width: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(width, 64, 1)
        self.branch5x5_1 = Convolution(width, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(width, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(width, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branches side by side."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_averaged(x))], 1)


class BlockB(nn.Module):
    """35 × 35 to 17 × 17."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(width, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(width, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branches side by side."""
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17 × 17: kernels of 7 in two halves."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        wide: dict[str, Any] = {"kernel": (1, 7), "padding": (0, 3)}
        tall: dict[str, Any] = {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Convolution(width, 192, 1)
        self.branch7x7_1 = Convolution(width, inner, 1)
        self.branch7x7_2 = Convolution(inner, inner, **wide)
        self.branch7x7_3 = Convolution(inner, 192, **tall)
        self.branch7x7dbl_1 = Convolution(width, inner, 1)
        self.branch7x7dbl_2 = Convolution(inner, inner, **tall)
        self.branch7x7dbl_3 = Convolution(inner, inner, **wide)
        self.branch7x7dbl_4 = Convolution(inner, inner, **tall)
        self.branch7x7dbl_5 = Convolution(inner, 192, **wide)
        self.branch_pool = Convolution(width, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branches side by side."""
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_averaged(x))], 1)


class BlockD(nn.Module):
    """17 × 17 to 8 × 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(width, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(width, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branches side by side."""
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8 × 8; the last block takes the highest value beside its kernels where the one before takes the mean."""

    def __init__(self, width: int, *, highest: bool) -> None:
        super().__init__()
        self.highest = highest
        self.branch1x1 = Convolution(width, 320, 1)
        self.branch3x3_1 = Convolution(width, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Convolution(width, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Convolution(width, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branches side by side."""
        once, twice = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.highest else _averaged(x)
        branches = [self.branch1x1(x), self.branch3x3_2a(once), self.branch3x3_2b(once)]
        branches += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice), self.branch_pool(pooled)]
        return torch.cat(branches, 1)


class InceptionV3(nn.Module):
    """The network; its tensors have the names that the published file gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a, self.Mixed_6b, self.Mixed_6c = BlockB(288), BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = (
            BlockD(768),
            BlockE(1280, highest=False),
            BlockE(2048, highest=True),
        )
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The pooled features of pictures in −1..1, [b 2048]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean(dim=(2, 3))
