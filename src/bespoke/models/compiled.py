"""A model exported for a runtime turned into a diffusers pipeline whose networks that runtime computes.

All that draws is diffusers' and ours: prompts, seeds, schedulers and masks mean what they mean without the runtime.
"""

import inspect
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.families import Family
from bespoke.models.load import Checkpoint
from bespoke.models.quietly import quiet
from bespoke.models.runtimes import Runtime, Session, answers, runtime_of, session

NORM = "final_layer_norm.safetensors"
"""A text encoder's last layer apart, which `sample.clip_skip` applies to the states of an earlier one."""
HIDDEN = "hidden_states.{}"


def needed(family: Family) -> tuple[str, ...]:
    """The folders that an exported model of a family must have to draw."""
    return tuple("vae_decoder" if part == "vae" else part for part in family.parts)


class Compiled(Checkpoint):
    """A Stable Diffusion exported for a runtime: it draws; its weights can be neither trained nor changed."""

    @property
    def runtime(self) -> Runtime:
        """What runs it."""
        found = runtime_of(self.folder)
        assert found, "such a checkpoint is made where there is one"
        return found

    def part(self, name: str) -> Path:
        """The folder of one part."""
        return super().part("vae_decoder" if name == "vae" else name)

    def network(self, part: str, dtype: torch.dtype = torch.float32) -> Any:  # noqa: ARG002 - as other checkpoints have it
        """Raises: BespokeError, for it has no weights that torch knows."""
        raise self.fixed

    def complete(self, folder: Path) -> None:  # noqa: ARG002 - as other checkpoints have it
        """Raises: BespokeError, for parts of another model would not fit."""
        raise self.fixed

    @property
    def fixed(self) -> BespokeError:
        """What is said where its weights are to be trained or changed."""
        problem = f"{self.name} was exported for {self.runtime.title}: its weights cannot be trained or changed."
        return BespokeError(problem, "Name the model or run that it was exported from.")

    def pipeline(
        self, adapter: Path | None = None, *, safety_checker: bool = True, parts: Mapping[str, Any] | None = None
    ) -> Any:
        """The whole pipeline, its networks computed by the runtime.

        Raises: BespokeError when an adapter is given, or the runtime is not installed.
        """
        if adapter is not None or parts:
            raise self.fixed
        with quiet():
            import diffusers
            from diffusers import AutoencoderKL, UNet2DConditionModel
        runtime, index = self.runtime, self._index
        with quiet():
            parts = {
                "vae": CompiledVae(self.folder, runtime, _config(AutoencoderKL, self.part("vae"))),
                "unet": CompiledUnet(self.part("unet"), runtime, _config(UNet2DConditionModel, self.part("unet"))),
                "scheduler": getattr(diffusers, index["scheduler"][1]).from_pretrained(self.part("scheduler")),
                **self._readers(),
            }
            options: dict[str, Any] = {}
            if self.family.checked:
                checker, prepares = self._checker(index) if safety_checker else (None, None)
                parts |= {"safety_checker": checker, "feature_extractor": prepares}
                options = {"requires_safety_checker": checker is not None}
            if self.family.sized:
                options = {"force_zeros_for_empty_prompt": self.empty_is_zero}
            pipeline = getattr(diffusers, self.family.pipeline)(**parts, **options)
            pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _readers(self) -> dict[str, Any]:
        """The tokenizers and text encoders, by their folders."""
        from transformers import CLIPTextConfig

        found: dict[str, Any] = {}
        for tokenizer, encoder in self.family.readers:
            place = self.part(encoder)
            found[tokenizer] = self.tokenizer(tokenizer)
            found[encoder] = CompiledTextEncoder(place, self.runtime, CLIPTextConfig.from_pretrained(place))
        return found

    def _checker(self, index: Mapping[str, Any]) -> tuple[Any, Any]:
        """The safety checker, which torch computes, and what prepares pictures for it; nothing where there is none."""
        if not (index.get("safety_checker") or [None])[0] or not (self.folder / "safety_checker").is_dir():
            return None, None
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
        from transformers import AutoImageProcessor

        checker: Any = StableDiffusionSafetyChecker.from_pretrained(self.folder / "safety_checker", dtype=torch.float32)
        return checker, AutoImageProcessor.from_pretrained(self.folder / "feature_extractor", backend="pil")


class _Network(nn.Module):
    """A network that a runtime computes; to a pipeline it is a module like others, with a device and a format."""

    place: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("place", torch.zeros(()), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where its answers are wanted."""
        return self.place.device

    @property
    def dtype(self) -> torch.dtype:
        """The format its answers are wanted in."""
        return self.place.dtype

    def _answers(self, network: Session, *wanted: str, **given: Tensor) -> list[Tensor]:
        return [answer.to(self.place) for answer in answers(network, wanted, **given)]


class CompiledUnet(_Network):
    """A UNet that a runtime computes."""

    def __init__(self, folder: Path, runtime: Runtime, config: Any) -> None:
        super().__init__(config)
        self.session = session(folder / runtime.file, runtime)
        # SDXL's pipeline asks the layer how much it is to be told.
        told = SimpleNamespace(in_features=config.projection_class_embeddings_input_dim)
        self.add_embedding = SimpleNamespace(linear_1=told)

    def forward(
        self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, *,
        added_cond_kwargs: Mapping[str, Tensor] | None = None, return_dict: bool = True, **others: Any,
    ) -> Any:  # fmt: skip
        """The answer [b 4 h w]; `added_cond_kwargs` is what SDXL is told besides the text's states.

        `others` is what pipelines pass to other kinds of UNets, all None.
        """
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

        assert not any(value is not None for value in others.values()), "this network takes nothing else"
        found = self._answers(
            self.session, "out_sample", sample=sample, timestep=torch.as_tensor(timestep, dtype=torch.float32),
            encoder_hidden_states=encoder_hidden_states, **(added_cond_kwargs or {}),
        )  # fmt: skip
        return UNet2DConditionOutput(sample=found[0]) if return_dict else (found[0],)


class CompiledTextEncoder(_Network):
    """A text encoder that a runtime computes."""

    def __init__(self, folder: Path, runtime: Runtime, config: Any) -> None:
        super().__init__(config)
        self.session = session(folder / runtime.file, runtime)
        if (folder / NORM).is_file():
            content = load_file(folder / NORM)
            self.final_layer_norm = nn.LayerNorm(len(content["weight"]), eps=config.layer_norm_eps)
            self.final_layer_norm.load_state_dict(content)
            self.requires_grad_(requires_grad=False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> Any:  # fmt: skip
        """The states of tokens [b l d], as transformers gives them, and what SDXL's second says of the whole [b d].

        Raises: BespokeError when the states of earlier layers are wanted, and it was exported without.
        """
        from transformers.modeling_outputs import BaseModelOutputWithPooling
        from transformers.models.clip.modeling_clip import CLIPTextModelOutput

        assert attention_mask is None, "Stable Diffusion's text encoders take none"
        hidden = [HIDDEN.format(n) for n in range(self.config.num_hidden_layers)] if output_hidden_states else []
        if not {*hidden} <= {*self.session.outputs} or (hidden and not hasattr(self, "final_layer_norm")):
            hint = "Take sample.clip_skip out, or export the model with bespoke."
            raise BespokeError("This model was exported without the states of the text encoder's layers.", hint)
        summary = "text_embeds" if "text_embeds" in self.session.outputs else "pooler_output"
        found = self._answers(self.session, "last_hidden_state", summary, *hidden, input_ids=input_ids)
        states, whole, *layers = found
        kind = CLIPTextModelOutput if summary == "text_embeds" else BaseModelOutputWithPooling
        more: dict[str, Any] = {summary: whole, "hidden_states": (*layers, states) if hidden else None}
        told = kind(last_hidden_state=states, **more)
        return told if return_dict else told.to_tuple()


class CompiledVae(_Network):
    """An autoencoder that a runtime computes; its encoder is read when it is needed."""

    def __init__(self, folder: Path, runtime: Runtime, config: Any) -> None:
        super().__init__(config)
        self.decoder = session(folder / "vae_decoder" / runtime.file, runtime)
        self._place_of_encoder, self._runtime = folder / "vae_encoder" / runtime.file, runtime

    @cached_property
    def encoder(self) -> Session:
        """What turns pictures into latents.

        Raises: BespokeError when it was not exported, or in a form that draws the noise itself.
        """
        hint = "Export the model with bespoke."
        if not self._place_of_encoder.is_file():
            raise BespokeError("This model was exported without the encoder that beginning with a picture needs.", hint)
        found = session(self._place_of_encoder, self._runtime)
        if "latent_parameters" not in found.outputs:
            raise BespokeError(f"{self._place_of_encoder} draws its own noise, which no seed decides.", hint)
        return found

    def encode(self, pixels: Tensor, *, return_dict: bool = True) -> Any:
        """The distribution of latents of pictures [b 3 H W]."""
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
        from diffusers.models.modeling_outputs import AutoencoderKLOutput

        moments = self._answers(self.encoder, "latent_parameters", sample=pixels)[0]
        found = DiagonalGaussianDistribution(moments)
        return AutoencoderKLOutput(latent_dist=found) if return_dict else (found,)

    def decode(self, latents: Tensor, *, return_dict: bool = True, generator: Any = None) -> Any:  # noqa: ARG002 - as pipelines call it
        """The pictures [b 3 H W] of latents."""
        from diffusers.models.autoencoders.vae import DecoderOutput

        found = self._answers(self.decoder, "sample", latent_sample=latents)[0]
        return DecoderOutput(sample=found) if return_dict else (found,)


def _config(kind: Any, folder: Path) -> Any:
    """The settings of a network of that kind, with diffusers' own for what its file leaves out."""
    from diffusers.configuration_utils import FrozenDict

    known = inspect.signature(kind.__init__).parameters.values()
    plain = {one.name: one.default for one in known if one.default is not one.empty}
    return FrozenDict(plain | json.loads((folder / "config.json").read_text(encoding="utf-8")))
