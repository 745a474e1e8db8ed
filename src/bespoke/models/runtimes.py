"""Files of exported networks turned into what runs them on the processor: ONNX Runtime or OpenVINO."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from bespoke.errors import BespokeError


@dataclass(frozen=True)
class Runtime:
    """A program that runs exported networks, and how it wants them on disk."""

    form: str
    """What `--as` calls it; also the name of the package's extra."""
    title: str
    file: str
    """The file of a network in its folder."""
    runs: str
    """The package that runs networks."""
    writes: str
    """The package that writes them."""


ONNX = Runtime("onnx", "ONNX Runtime", "model.onnx", "onnxruntime", "onnx")
OPENVINO = Runtime("openvino", "OpenVINO", "openvino_model.xml", "openvino", "openvino")
RUNTIMES = {one.form: one for one in (ONNX, OPENVINO)}
NUMPY = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip
"""The formats that networks take, by ONNX Runtime's words for them."""


def runtime_of(folder: Path) -> Runtime | None:
    """The runtime that a model's folder was exported for; none where it holds no exported UNet."""
    return next((one for one in RUNTIMES.values() if (folder / "unet" / one.file).is_file()), None)


def package(runtime: Runtime, *, writing: bool = False) -> Any:
    """The package that runs networks or, for `writing`, the one that writes them.

    Raises: BespokeError when it is not installed.
    """
    name = runtime.writes if writing else runtime.runs
    if name == "openvino":
        # As it comes it reports each import to Google, unless a person knows how to forbid it. It does without.
        cast("dict[str, Any]", sys.modules).setdefault("openvino_telemetry", None)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        problem = f"{runtime.title} needs the package {name}, which cannot be loaded: {error}"
        raise BespokeError(problem, f"pip install 'bespoke[{runtime.form}]'") from None


@runtime_checkable
class Session(Protocol):
    """A network that a runtime holds."""

    inputs: Mapping[str, tuple[np.dtype[Any], int]]
    """What it takes: formats and numbers of axes."""
    outputs: Sequence[str]

    def run(self, given: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[np.ndarray]:
        """The outputs of these names."""
        ...


class OnnxSession:
    """A network in ONNX Runtime, on the processor, with as many threads as torch has."""

    def __init__(self, file: Path) -> None:
        library = package(ONNX)
        options = library.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        self._session = library.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs: Mapping[str, tuple[np.dtype[Any], int]] = {
            one.name: (np.dtype(NUMPY[one.type]), len(one.shape)) for one in self._session.get_inputs()
        }
        self.outputs: Sequence[str] = [one.name for one in self._session.get_outputs()]

    def run(self, given: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[np.ndarray]:
        """The outputs of these names."""
        return list(self._session.run(list(wanted), dict(given)))


class OpenvinoSession:
    """A network in OpenVINO, on the processor, with as many threads as torch has.

    Arithmetic is in float32: by itself OpenVINO takes bfloat16 where the processor has it, and draws other pictures.
    """

    def __init__(self, file: Path) -> None:
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._session = package(OPENVINO).Core().compile_model(str(file), "CPU", settings)
        self.inputs: Mapping[str, tuple[np.dtype[Any], int]] = {
            port.any_name: (np.dtype(port.element_type.to_dtype()), port.partial_shape.rank.get_length())
            for port in self._session.inputs
        }
        self.outputs: Sequence[str] = [port.any_name for port in self._session.outputs]

    def run(self, given: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[np.ndarray]:
        """The outputs of these names."""
        found = self._session(dict(given))
        return [found[name] for name in wanted]


def session(file: Path, runtime: Runtime) -> Session:
    """The network in a file.

    Raises: BespokeError when the runtime is not installed, or cannot read the file.
    """
    package(runtime)
    try:
        return OnnxSession(file) if runtime is ONNX else OpenvinoSession(file)
    except (RuntimeError, ValueError, KeyError) as error:
        raise BespokeError(
            f"{runtime.title} cannot read {file}: {str(error).splitlines()[0]}", "Export again."
        ) from None


def answers(network: Session, wanted: Sequence[str], **given: Tensor) -> list[Tensor]:
    """What a network answers, on the processor; what it is given is brought into the formats that it takes."""
    fed: dict[str, np.ndarray] = {}
    for name, value in given.items():
        kind, axes = network.inputs[name]
        plain = value.detach().cpu()
        plain = plain.float() if plain.is_floating_point() else plain  # numpy has no bfloat16
        array = plain.numpy().astype(kind, copy=False)
        # A single timestep may be a number or a row of one.
        fed[name] = array if array.ndim == axes else array.reshape((1,) * axes)
    return [torch.from_numpy(value) for value in network.run(fed, wanted)]
