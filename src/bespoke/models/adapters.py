"""A network turned into one with an adapter beside or around some of its layers, and back."""

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.kinds import MUTATING
from bespoke.models.quantized import is_quantized
from bespoke.models.shards import spread, whole

FILE = "adapter.safetensors"
NAME = "default"
"""What peft calls the adapter in a network."""
FIRST = "first_factors"
"""Where a network keeps the factors that PiSSA or OLoRA took out of its weights, by layer."""


def attach(network: Any, config: Any, *, seed: int) -> None:
    """Adds a fresh adapter by peft's configuration, in place; until it is trained the network answers as before.

    The base stays frozen; only the adapter's parameters are trainable. PiSSA and OLoRA move a part of the base's
    weights into the adapter, so that the sum of both is the base but for float32's rounding.
    Source: Hu et al. 2021, section 4.1; Meng et al. 2024, equation 4.
    """
    shapeless = next(network.parameters()).device.type == "meta"
    with torch.random.fork_rng(), _without_cuda_kernels(), warnings.catch_warnings():
        # A pattern may be for the other network; one that is for none is refused where both are known.
        warnings.filterwarnings("ignore", "The following .*_pattern keys did not match", RuntimeWarning)
        torch.manual_seed(seed)
        with torch.device("cpu") if shapeless and config.peft_type == "BOFT" else nullcontext():
            network.add_adapter(config)  # BOFT's permutations are read while they are made
    if shapeless:
        network.to("meta")
    if getattr(config, "init_lora_weights", None) in MUTATING:
        factors = {name: tuple(p.detach().clone() for p in _factors(layer)) for name, layer in tuned_layers(network)}
        setattr(network, FIRST, factors)


def detach(network: Any) -> None:
    """Takes the adapter off again, in place: the network is bit for bit what it was.

    After PiSSA and OLoRA it is so but for float32's rounding: their part of the weights is added again.
    """
    from diffusers.utils import recurse_remove_peft_layers

    first: Mapping[str, tuple[Tensor, Tensor]] = network.__dict__.pop(FIRST, {})
    for name, layer in tuned_layers(network):
        if name in first:
            weight = layer.get_base_layer().weight
            a, b = (factor.to(weight.device) for factor in first[name])
            weight.data += (layer.scaling[NAME] * (b @ a)).to(weight.dtype)
    recurse_remove_peft_layers(network)
    del network.peft_config
    network._hf_peft_config_loaded = False  # noqa: SLF001 - diffusers and transformers look there


def merge(network: Any) -> None:
    """Adds the adapter to the base's weights, in place, and takes it off: it answers as with it, but for rounding.

    Raises: BespokeError when the base is in 8 or 4 bits, which would round the adapter away.
    """
    if is_quantized(network):
        raise BespokeError("An adapter cannot be merged into weights of 8 or 4 bits.", "Merge it into the base itself.")
    for _, layer in tuned_layers(network):
        layer.merge()
    network.__dict__.pop(FIRST, None)  # what was taken out is in the merged weights
    detach(network)


@contextmanager
def untouched(network: Any) -> Generator[None, None, None]:
    """A block in which the network answers as without its adapter."""
    first: Mapping[str, tuple[Tensor, Tensor]] = getattr(network, FIRST, {})
    if not first:
        network.disable_adapters()
        try:
            yield
        finally:
            network.enable_adapters()
        return
    layers = dict(tuned_layers(network))
    learnt = {name: [p.detach().clone() for p in _factors(layer)] for name, layer in layers.items()}
    try:
        _put(layers, first)
        yield
    finally:
        _put(layers, learnt)


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training moves, by name, in a fixed order."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def tuned_layers(network: nn.Module) -> list[tuple[str, Any]]:
    """The layers of a network that have an adapter, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)]


def scale_of(layer: Any) -> float:
    """What a layer's adapter is multiplied with."""
    return float(layer.scaling[NAME])


def config_of(part: Any) -> Any:
    """Peft's configuration of a network's adapter."""
    return part.peft_config[NAME]


def kind_of(part: Any) -> str:
    """Peft's name for the kind of a network's adapter: such as `LORA` or `LOHA`."""
    return str(config_of(part).peft_type.value)


def tensors_of(part: Any) -> dict[str, Tensor]:
    """The adapter's tensors by peft's names, in float32 on the CPU."""
    from peft.utils import get_peft_model_state_dict

    found = get_peft_model_state_dict(part, save_embedding_layers=False)
    return {key: plain(value) for key, value in found.items()}


def put(part: Any, tensors: Mapping[str, Tensor]) -> None:
    """Puts tensors, by peft's names, into a network's adapter, in place."""
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    own = get_peft_model_state_dict(part, save_embedding_layers=False)
    laid_out = {key: spread(value, own[key]) if key in own else value for key, value in tensors.items()}
    left_out = set_peft_model_state_dict(part, laid_out).unexpected_keys
    assert not left_out, left_out


def plain(tensor: Tensor) -> Tensor:
    """The same numbers in float32 on the CPU, one after another; tensors without contents stay as they are."""
    return tensor if tensor.is_meta else whole(tensor.detach()).float().cpu().contiguous()


def never_left_out(network: nn.Module) -> None:
    """Lets no part of an adapter ask chance whether it takes part, in place.

    peft's LoHa, LoKr and BOFT ask in each forward pass of a training, which tensors without contents cannot answer.
    """
    from peft.tuners.lora import LoraLayer

    for _, layer in tuned_layers(network):
        if not isinstance(layer, LoraLayer):
            layer.eval()


@torch.no_grad()
def _put(layers: Mapping[str, Any], factors: Mapping[str, Any]) -> None:
    for name, layer in layers.items():
        for parameter, value in zip(_factors(layer), factors[name], strict=True):
            parameter.copy_(value)


def _factors(layer: Any) -> tuple[Tensor, Tensor]:
    """LoRA's two matrices: the first to be multiplied with, then the second."""
    return layer.lora_A[NAME].weight, layer.lora_B[NAME].weight


@contextmanager
def _without_cuda_kernels() -> Generator[None, None, None]:
    """A block in which peft's BOFT compiles no kernels for itself.

    It would try once for each layer, printing to standard output, and take other shapes where it fails. With one
    butterfly factor, the only number it can do without them, they give the same.
    """
    from peft.tuners.boft import layer

    before = layer.get_fbd_cuda
    layer.get_fbd_cuda = lambda: None
    try:
        yield
    finally:
        layer.get_fbd_cuda = before
