"""A diffusers pipeline turned into files of its networks for ONNX Runtime or OpenVINO, and both compared.

Layout, names and axes are those of Hugging Face's optimum, so that it, optimum-intel and diffusers read the folder.
Source: optimum-onnx, optimum/onnxruntime/modeling_diffusion.py; diffusers, pipelines/onnx_utils.py.
"""

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.compiled import HIDDEN, NORM
from bespoke.models.conditions import is_sized, summary_width
from bespoke.models.families import networks_of
from bespoke.models.quietly import quiet
from bespoke.models.runtimes import ONNX, OPENVINO, Runtime, answers, package, session
from bespoke.seeds import generator, normal
from bespoke.workspace import write_json

OPSET = 17
"""Of ONNX's operators; what every ONNX Runtime since 1.12 has."""
LARGE = 2**31 - 2**20
"""Bytes of weights from which on they lie in a file of their own: a protobuf holds 2 GB at most."""
BESIDE = "model.onnx_data"
"""That file, as optimum calls it."""
SHAPES = ((1, 2, 2, 1), (3, 4, 6, 2))
"""What networks are compared on: pictures, rows and columns in units of what the UNet halves sides to, windows."""
AREA, STATES, WHOLE = {0: "batch", 2: "height", 3: "width"}, {0: "batch", 1: "tokens"}, {0: "batch"}
"""The open axes of pictures and latents, of tokens and their states, and of what is told of each picture."""
MOST = 1e-3
"""How far a network's answer may lie from torch's, as a part of the largest number in it."""
CLASSES = {
    "text_encoder": "OVModelTextEncoder", "text_encoder_2": "OVModelTextEncoder", "unet": "OVModelUnet",
    "vae_decoder": "OVModelVaeDecoder", "vae_encoder": "OVModelVaeEncoder",
}  # fmt: skip
"""What loads each part for OpenVINO, for the model's index; for ONNX Runtime it is one class for all."""


@dataclass(frozen=True)
class Network:
    """One network as it is exported, on the processor and in float32."""

    name: str
    module: nn.Module
    axes: Mapping[str, Mapping[int, str]]
    """Inputs and outputs, in order, with those of their axes whose length is open."""
    example: Callable[[tuple[int, int, int, int]], tuple[Tensor, ...]]
    """Random inputs of one of `SHAPES`."""
    config: Callable[[Path], Any]
    """Writes its settings into a folder."""

    @property
    def inputs(self) -> list[str]:
        """The names of what it takes."""
        return list(self.axes)[: len(self.example(SHAPES[0]))]

    @property
    def outputs(self) -> list[str]:
        """The names of what it gives."""
        return list(self.axes)[len(self.inputs) :]


class _Unet(nn.Module):
    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class _SizedUnet(nn.Module):
    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, text_embeds: Tensor, time_ids: Tensor
    ) -> Tensor:
        told = {"text_embeds": text_embeds, "time_ids": time_ids}
        return self.unet(sample, timestep, encoder_hidden_states, added_cond_kwargs=told, return_dict=False)[0]


class _TextEncoder(nn.Module):
    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder, self.projects = encoder, _projects(encoder)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        found = self.encoder(input_ids, output_hidden_states=True)
        if self.projects:
            return found.text_embeds, found.last_hidden_state, *found.hidden_states[:-1]
        return found.last_hidden_state, found.pooler_output, *found.hidden_states[:-1]


class _Decoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: Tensor) -> Tensor:
        return self.vae.decode(latent_sample, return_dict=False)[0]


class _Encoder(nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, sample: Tensor) -> Tensor:
        return self.vae.encode(sample, return_dict=False)[0].parameters


def networks(pipeline: Any) -> tuple[Network, ...]:
    """The networks of a pipeline, in float32 and on the processor, as they are exported."""
    unet, vae = pipeline.unet, pipeline.vae
    encoders = {name: part for name, part in networks_of(pipeline).items() if name != "unet"}
    halves = 2 ** (len(unet.config.block_out_channels) - 1)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    length, width = pipeline.text_encoder.config.max_position_embeddings, unet.config.cross_attention_dim
    sized = is_sized(unet.config)

    def latents(shape: tuple[int, int, int, int], unit: int, channels: int) -> Tensor:
        count, rows, columns, _ = shape
        return _random("pixels", (count, channels, rows * unit, columns * unit))

    def noisy(shape: tuple[int, int, int, int]) -> tuple[Tensor, ...]:
        texts = _random("texts", (shape[0], shape[3] * length, width))
        # Some schedulers' timesteps lie between whole numbers.
        given = latents(shape, halves, unet.config.in_channels), torch.tensor([440.5 + shape[0]]), texts
        if not sized:
            return given
        sizes = generator("export", "sizes", shape[0]).integers(1024, size=(shape[0], 6))
        return *given, _random("summaries", (shape[0], summary_width(unet))), torch.from_numpy(sizes).float()

    def small(shape: tuple[int, int, int, int]) -> tuple[Tensor, ...]:
        return (latents(shape, halves, vae.config.latent_channels),)

    def pictures(shape: tuple[int, int, int, int]) -> tuple[Tensor, ...]:
        return (latents(shape, halves * factor, vae.config.in_channels),)

    asked = {"sample": AREA, "timestep": {0: "steps"}, "encoder_hidden_states": STATES}
    asked |= {"text_embeds": WHOLE, "time_ids": WHOLE} if sized else {}
    out, back = {"latent_sample": AREA, "sample": AREA}, {"sample": AREA, "latent_parameters": AREA}
    draws = (_SizedUnet if sized else _Unet)(unet)
    return (
        *(_text(name, encoder) for name, encoder in encoders.items()),
        Network("unet", draws, asked | {"out_sample": AREA}, noisy, unet.save_config),
        Network("vae_decoder", _Decoder(vae), out, small, vae.save_config),
        Network("vae_encoder", _Encoder(vae), back, pictures, vae.save_config),
    )


def _text(name: str, encoder: Any) -> Network:
    """A text encoder as it is exported."""
    config: Any = encoder.config

    def words(shape: tuple[int, int, int, int]) -> tuple[Tensor, ...]:
        size = (shape[0], config.max_position_embeddings)
        drawn = generator("export", "words", shape[0]).integers(config.vocab_size, size=size)
        drawn[:, -1] = config.eos_token_id
        return (torch.from_numpy(drawn).int(),)

    layers = dict.fromkeys((HIDDEN.format(n) for n in range(config.num_hidden_layers)), STATES)
    if _projects(encoder):
        told: Mapping[str, Mapping[int, str]] = {"text_embeds": WHOLE, "last_hidden_state": STATES}
    else:
        told = {"last_hidden_state": STATES, "pooler_output": WHOLE}
    return Network(name, _TextEncoder(encoder), {"input_ids": STATES, **told, **layers}, words, config.save_pretrained)


def _projects(encoder: Any) -> bool:
    """Whether a text encoder sums a text up, as SDXL's second does."""
    return hasattr(encoder, "text_projection")


def write(pipeline: Any, model: Path, folder: Path, runtime: Runtime, *, half: bool) -> None:
    """Writes the networks of a pipeline for a runtime, and all else of the model's folder beside them; the index last.

    With `half` weights take 16 bits on disk, if they were rounded to that; all arithmetic stays in float32.

    Raises: BespokeError when the runtime is not installed.
    """
    writes = _onnx if runtime is ONNX else _openvino
    parts = networks(pipeline)
    for network in parts:
        place = folder / network.name
        place.mkdir(parents=True)
        network.config(place)
        with _hushed():
            writes(network, place / runtime.file, half=half)
    for name, part in networks_of(pipeline).items():
        if name != "unet":
            norm = getattr(part, "text_model", part).final_layer_norm
            content = {key: value.contiguous() for key, value in norm.state_dict().items()}
            save_file(content, folder / name / NORM)
    written = [network.name for network in parts]
    for entry in sorted(model.iterdir()):
        if entry.is_dir() and entry.name not in (*written, "vae"):
            shutil.copytree(entry, folder / entry.name)
    index = json.loads((model / "model_index.json").read_text(encoding="utf-8"))
    index.pop("vae")
    onnx = ["diffusers", "OnnxRuntimeModel"]
    kinds = {name: onnx if runtime is ONNX else ["optimum", CLASSES[name]] for name in written}
    write_json(folder / "model_index.json", index | kinds)


def parity(pipeline: Any, folder: Path, runtime: Runtime) -> dict[str, float]:
    """For each network how far its file's answers lie from torch's at most, as a part of the largest number in them.

    Inputs are random, in two shapes and numbers of pictures.

    Raises: BespokeError when that is too far.
    """
    found: dict[str, float] = {}
    for network in networks(pipeline):
        held = session(folder / network.name / runtime.file, runtime)
        found[network.name] = max(_apart(network, held, shape) for shape in SHAPES)
        if not found[network.name] <= MOST:
            problem = f"{network.name} answers otherwise in {runtime.title}: {found[network.name]:.1e} apart."
            raise BespokeError(
                problem, "Nothing was kept. Try --dtype fp32; if it stays so, it is our fault: report it."
            )
    return found


@torch.no_grad()
def _apart(network: Network, held: Any, shape: tuple[int, int, int, int]) -> float:
    given = network.example(shape)
    theirs = answers(held, network.outputs, **dict(zip(network.inputs, given, strict=True)))
    ours = network.module(*given)
    pairs = zip(ours if isinstance(ours, tuple) else (ours,), theirs, strict=True)
    return max(float((one - two).abs().max() / one.abs().max()) for one, two in pairs)


def _onnx(network: Network, file: Path, *, half: bool) -> None:
    """Writes a network as ONNX; weights of more than 2 GB lie beside it."""
    onnx = package(ONNX, writing=True)
    # A large network leaves a file for each of its tensors.
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        traced = Path(scratch) / file.name
        torch.onnx.export(
            network.module, network.example(SHAPES[0]), str(traced), dynamo=False, opset_version=OPSET,
            input_names=network.inputs, output_names=network.outputs,
            dynamic_axes={name: dict(axes) for name, axes in network.axes.items()},
        )  # fmt: skip
        model = onnx.load(traced)
    if half:
        _halve(model, onnx)
    large = sum(len(one.raw_data) for one in model.graph.initializer) > LARGE
    onnx.save_model(model, file, save_as_external_data=large, all_tensors_to_one_file=True, location=BESIDE)


def _halve(model: Any, onnx: Any) -> None:
    """Keeps a network's weights in 16 bits where they lose nothing by it, each widened where it is used, in place."""
    widened: list[Any] = []
    for weight in model.graph.initializer:
        halves = _halves(onnx.numpy_helper.to_array(weight))
        if halves is not None:
            name = str(weight.name)
            weight.CopyFrom(onnx.numpy_helper.from_array(halves, f"{name}.half"))
            widened.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    own = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*widened, *own])


def _openvino(network: Network, file: Path, *, half: bool) -> None:
    """Writes a network in OpenVINO's form."""
    openvino = package(OPENVINO, writing=True)
    given = network.example(SHAPES[0])
    model = openvino.convert_model(network.module, example_input=given)
    for ports, names in ((model.inputs, network.inputs), (model.outputs, network.outputs)):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().set_names({name})
    sizes = {
        name: [-1 if axis in network.axes[name] else length for axis, length in enumerate(value.shape)]
        for name, value in zip(network.inputs, given, strict=True)
    }
    model.reshape(sizes)
    for weight in model.get_ops() if half else ():
        halves = _halves(weight.data) if weight.get_type_name() == "Constant" else None
        if halves is not None:
            widened = openvino.opset13.convert(openvino.opset13.constant(halves), "f32")
            for target in weight.output(0).get_target_inputs():
                target.replace_source_output(widened.output(0))
    # Its own way also rounds numbers that were computed while tracing: pico's UNet then answers 70 times less exactly.
    openvino.save_model(model, file, compress_to_fp16=False)


def _halves(numbers: np.ndarray) -> np.ndarray | None:
    """Weights in 16 bits; none where they would lose by it, as settings that a network computed for itself do."""
    if numbers.dtype != np.float32 or numbers.ndim < 2:
        return None
    with np.errstate(over="ignore"):
        found = numbers.astype(np.float16)
    return found if bool((found == numbers).all()) else None


def _random(purpose: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(normal(shape, "export", purpose, *shape))


@contextmanager
def _hushed() -> Generator[None, None, None]:
    """A block in which networks are traced without the warnings of it, and without gradients.

    That values of Python become constants is meant: `parity` says whether the result holds for other shapes.
    """
    with warnings.catch_warnings(), quiet(), torch.no_grad():
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript", DeprecationWarning)  # decision 13
        # Tracing touches whatever old names these have, and they tell of it in words that change.
        warnings.filterwarnings("ignore", module=r"(torch|transformers|diffusers|openvino)\.")
        yield
