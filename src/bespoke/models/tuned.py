"""What training moves, as one network: a checkpoint's denoiser and, where they are trained too, its text encoders."""

import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, kinds, reading
from bespoke.models.bases import ENCODERS
from bespoke.models.conditions import conditions, is_sized, joint_width
from bespoke.models.embedding import trainable_rows
from bespoke.models.families import NETWORKS, Family, networks_of
from bespoke.models.load import Checkpoint
from bespoke.models.quantized import quantize
from bespoke.models.quietly import quiet
from bespoke.models.rows import still, words_of
from bespoke.models.shards import spread, whole
from bespoke.models.vocabulary import FILE as WORDS
from bespoke.models.vocabulary import NewWords
from bespoke.models.wearing import load_adapter
from bespoke.recipe.tree import Recipe
from bespoke.shapes import Latents, Sizes, TextRows, TextStates, Told
from bespoke.workspace import atomic_file

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Tuned(nn.Module):
    """A denoiser, and text encoders if their answers change too: adapters, all weights, or new words' rows are trained.

    Each network has the name of its folder, as its weights' names begin.
    """

    def __init__(
        self, networks: Mapping[str, Any], *, adapted: bool = True, trained: Sequence[str] | None = None
    ) -> None:
        """The denoiser comes first.

        `trained` names the parts that have an adapter, or whose weights are all trained; by default those given.
        """
        super().__init__()
        for name, network in networks.items():
            self.add_module(name, network)
        self._denoiser, *self._encoders = networks
        self.adapted, self.trained = adapted, list(networks if trained is None else trained)
        self.words: NewWords | None = None
        """The new words whose rows are trained, as they were at first."""
        self.fresh = True
        """Whether it answers as the base does: nothing was loaded into it."""
        self.arranged = False
        """Whether it was made to compute as its device does it fastest, or is to stay as it is."""
        self.format: torch.dtype | None = None
        """What it computes in from end to end, where that needs no autocast: its frozen weights' format."""

    def forward(self, noisy: Latents, times: Told, texts: TextStates | TextRows, sizes: Sizes | None = None) -> Latents:
        """The denoiser's answer. The texts are states or, where text encoders are trained, tokens."""
        if self.format is None:
            return self._answer(noisy, times, texts, sizes)
        with torch.autocast(noisy.device.type, enabled=False):
            return self._answer(noisy.to(self.format), times, texts, sizes).float()

    def _answer(self, noisy: Latents, times: Told, texts: TextStates | TextRows, sizes: Sizes | None) -> Latents:
        states = self._states(texts) if self._encoders else texts
        states = states if self.format is None else states.to(self.format)
        return self.denoiser(noisy, timestep=times, **conditions(self.denoiser, states, sizes), return_dict=False)[0]

    def _states(self, rows: Tensor) -> TextStates:
        encoders, width = list(self.text_encoders.values()), joint_width(self.denoiser.config)
        return reading.joint_states(encoders, rows, width) if width else reading.states(encoders, rows)

    @property
    def denoiser(self) -> Any:
        """The network that draws."""
        return getattr(self, self._denoiser)

    @property
    def networks(self) -> dict[str, Any]:
        """All its networks by their folders' names; the denoiser is first."""
        return {name: getattr(self, name) for name in (self._denoiser, *self._encoders)}

    @property
    def text_encoders(self) -> dict[str, Any]:
        """The text encoders whose answers change, by their folders' names."""
        return {name: getattr(self, name) for name in self._encoders}

    @property
    def told_sizes(self) -> bool:
        """Whether it is told the sizes of pictures, and where they were cut out."""
        return is_sized(self.denoiser.config)

    @property
    def parts(self) -> dict[str, Any]:
        """The networks that have an adapter, or whose weights are all trained, by their folders' names."""
        return {name: getattr(self, name) for name in self.trained}

    def train_rows(self, words: NewWords) -> None:
        """Makes the rows of new words trainable, which the text encoders know; all their other rows stay.

        Source: pivotal tuning, Roich et al. 2021, as diffusers' advanced training scripts have it.
        """
        for name, encoder in self.text_encoders.items():
            trainable_rows(encoder, words, ENCODERS[name])
        self.words = words

    @property
    def rows(self) -> dict[str, nn.Parameter]:
        """The rows of new words in each text encoder, by their names in files, where they are trained."""
        encoders = self.text_encoders if self.words else {}
        return {ENCODERS[name]: encoder.get_input_embeddings().rows for name, encoder in encoders.items()}

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by name, in a fixed order."""
        return adapters.trainable(self)

    @contextmanager
    def untouched(self) -> Generator[None, None, None]:
        """A block in which adapters are off and new words as at first; without adapters weights are as they are."""
        learnt = {name: rows.detach().clone() for name, rows in self.rows.items()}
        with ExitStack() as stack:
            stack.callback(_rest, self)  # peft makes all of an adapter trainable again
            for part in self.parts.values() if self.adapted else ():
                stack.enter_context(adapters.untouched(part))
            if self.words:
                self._set_rows(self.words.rows)
            try:
                yield
            finally:
                self._set_rows(learnt)

    @torch.no_grad()
    def of_base(self, noisy: Latents, times: Told, texts: TextStates | TextRows, sizes: Sizes | None = None) -> Latents:
        """What the base answers, without a gradient; not where all weights are trained, for then it is gone."""
        with self.untouched():
            return self(noisy, times, texts, sizes)

    @torch.no_grad()
    def _set_rows(self, wanted: Mapping[str, Tensor]) -> None:
        for name, rows in self.rows.items():
            rows.copy_(wanted[name])

    def save(self, folder: Path) -> None:
        """Writes what was trained: `adapter.safetensors`, or for each part a folder as diffusers has it; new words."""
        if self.words is not None:
            self.words.with_all_rows(self.rows).save(folder / WORDS)
        if self.adapted and self.parts:
            adapterfile.save(self.parts, folder / adapters.FILE)
        if self.adapted:
            return
        for name, part in self.parts.items():
            save_config(part, folder / name)
            with atomic_file(folder / name / weights_file(part)) as temporary:
                content = {key: _plain(value) for key, value in part.state_dict().items()}
                save_file(content, temporary, metadata={"format": "pt"})

    def help_save(self) -> None:
        """Gives its parts of the weights to the process that calls `save`; needed where each has but a part."""
        for part in self.parts.values():
            if self.adapted:
                adapterfile.help_save(part)
                continue
            for value in part.state_dict().values():
                whole(value)

    def begin(self, path: Path) -> None:
        """Takes over the adapter in a file, by whatever program.

        Raises: BespokeError when it is of another kind or shape.
        """
        self.fresh = False
        adapterfile.begin(self.parts, path)

    def load(self, folder: Path) -> None:
        """Takes over what `save` wrote.

        Raises: BespokeError when it was another kind of training.
        """
        self.fresh = False
        if self.words is not None and (folder / WORDS).is_file():
            self._set_rows(NewWords.read(folder / WORDS).rows)
        if self.adapted and (folder / adapters.FILE).is_file():
            adapterfile.load(self.parts, folder / adapters.FILE)
        if self.adapted:
            return
        for name, part in self.parts.items():
            content, own = load_file(folder / name / weights_file(part)), part.state_dict()
            part.load_state_dict(
                {key: spread(value, own[key]) if key in own else value for key, value in content.items()}
            )


def tuned(checkpoint: Checkpoint, recipe: Recipe) -> Tuned:
    """The networks of a checkpoint that a resolved recipe trains: with a fresh adapter, or with all weights trainable.

    Raises: BespokeError when all weights are to be trained and are to be in fp16, or weights are to be in 8 or 4 bits
    and no adapter is trained or bitsandbytes is missing.
    """
    model, train = recipe.model, recipe.train
    dtype = DTYPES[model.weight_dtype or "fp32"]
    _check_formats(recipe, dtype)
    words = words_of(checkpoint, recipe) if recipe.trains_words else None
    first, *others = _parts(checkpoint.family, recipe)
    # Read in the format it is kept in, it is never there twice; the format of what is changed first comes later.
    rounded = model.adapts and not model.quantization and model.init not in kinds.MUTATING
    drawing = {first: checkpoint.network(first, dtype if rounded else torch.float32)}
    network = _network(drawing | {part: checkpoint.network(part) for part in others}, recipe)
    for name in checkpoint.family.optional:
        if name in network.text_encoders:
            still(network.text_encoders[name], dtype)
    if network.adapted:
        if model.quantization:
            for part in network.parts.values():
                quantize(part, model.quantization)
        _adapt(network, checkpoint, recipe, dtype)
        _fuse(network, recipe, dtype)
    else:
        _free(network, dtype, train.unet_dropout)
    if words is not None:
        network.train_rows(words)
    if train.gradient_checkpointing:
        _checkpoint_activations(network)
    return network


def _parts(family: Family, recipe: Recipe) -> list[str]:
    """The folders of the networks that a recipe needs in each step; the denoiser is first, T5 last."""
    worded = family.worded if recipe.trains_text else family.worded[:1]
    t5 = [encoder for _, encoder in family.readers if encoder in family.optional and recipe.trains_t5]
    return [*worded, *t5]


def _check_formats(recipe: Recipe, dtype: torch.dtype) -> None:
    """Raises: BespokeError when weights are to be kept in a format that they cannot be trained in."""
    model = recipe.model
    if model.quantization and not model.adapts:
        hint = 'Set model.method = "lora", or take model.quantization out.'
        raise BespokeError(f"Only the base of an adapter can be {model.quantization}.", hint)
    if model.method == "full" and dtype == torch.float16:
        hint = 'Take model.weight_dtype out, or set it to "bf16", whose steps are rounded at random.'
        raise BespokeError("Weights that are all trained cannot be fp16: small updates vanish in it.", hint)


def _free(network: Tuned, dtype: torch.dtype, dropout: float) -> None:
    """Makes all weights trainable, in a format, in place."""
    for part in network.parts.values():
        with quiet():
            part.to(dtype)
        part.requires_grad_(requires_grad=True)
    _rest(network)
    for module in network.denoiser.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout


def _rest(network: Tuned) -> None:
    """Lets weights on which no answer depends be as they are, in place: they would get no gradient."""
    for parameter in reading.unread(list(network.text_encoders.values())):
        parameter.requires_grad = False


def _checkpoint_activations(network: Tuned) -> None:
    """Lets the networks compute parts twice, to save memory."""
    network.denoiser.enable_gradient_checkpointing()
    for encoder in network.text_encoders.values():
        # Older transformers know only the name that newer ones warn of.
        name = "activation_checkpointing_enable"
        instead = "gradient_checkpointing_enable"
        getattr(encoder, name if hasattr(encoder, name) else instead)()


def _network(networks: Mapping[str, Any], recipe: Recipe) -> Tuned:
    """The networks of a recipe, nothing of them trainable yet."""
    only_rows = recipe.model.method == "words"
    whole = [name for name in networks if name in NETWORKS]
    trained = () if only_rows else (whole if recipe.train.train_text_encoder else whole[:1])
    return Tuned(networks, adapted=recipe.model.method != "full", trained=list(trained))


def put_in(pipeline: Any, checkpoint: Checkpoint, recipe: Recipe, weights: Path) -> None:
    """Puts the weights of a training's state into a pipeline, in place.

    Raises: BespokeError when they are of another shape than the recipe says.
    """
    networks = networks_of(pipeline)
    parts = _parts(checkpoint.family, recipe)
    network = _network({name: networks.get(name, getattr(pipeline, name)) for name in parts}, recipe)
    network.requires_grad_(requires_grad=False)
    for part in () if network.adapted else network.parts.values():
        part.requires_grad_(requires_grad=True)
    _rest(network)
    if network.adapted:
        _adapt(network, checkpoint, recipe, torch.float32)
    if recipe.trains_words:
        network.train_rows(words_of(checkpoint, recipe))
    found, parameters = load_file(weights), network.trainable()
    if {n: w.shape for n, w in found.items()} != {n: p.shape for n, p in parameters.items()}:
        raise BespokeError(f"{weights} holds other weights than the run's recipe describes.", "Name another state.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[name])
    if recipe.model.init in kinds.MUTATING:
        _plainly(pipeline, network, checkpoint.name)
    network.requires_grad_(requires_grad=False).eval()


def _plainly(pipeline: Any, network: Tuned, name: str) -> None:
    """Puts an adapter that took weights out of the base into a pipeline as a plain LoRA, which comes off again."""
    with tempfile.TemporaryDirectory() as folder:
        adapterfile.save(network.parts, Path(folder) / adapters.FILE)
        for part in network.parts.values():
            adapters.detach(part)
        load_adapter(pipeline, Path(folder) / adapters.FILE, name)


def _adapt(network: Tuned, checkpoint: Checkpoint, recipe: Recipe, dtype: torch.dtype) -> None:
    """Adds the adapters, in float32 whatever the frozen weights are in.

    Raises: BespokeError when the recipe's settings do not fit the networks' layers.
    """
    model, wanted = recipe.model, {}
    for name, part in network.parts.items():
        wanted[name] = kinds.config_of(model, part, checkpoint.family.groups(name))
    late = model.init in kinds.MUTATING  # what is taken out is taken out of the weights as they are, then rounded
    for name, part in network.parts.items():
        with quiet():
            part.to(torch.float32 if late else dtype)
        adapters.attach(part, wanted[name], seed=model.seed)
        for parameter in part.parameters():
            if late and not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
    layers = [name for part in network.parts.values() for name, _ in adapters.tuned_layers(part)]
    if spare := kinds.unmatched(model, layers):
        problem = f"model.rank_pattern or alpha_pattern: {spare[0]!r} is the end of no adapted layer's name."
        raise BespokeError(problem, f"The layers are called {', '.join(layers[:4])} …")
    for parameter in network.trainable().values():
        parameter.data = parameter.data.float()
    _rest(network)


def _fuse(network: Tuned, recipe: Recipe, dtype: torch.dtype) -> None:
    """Lets LoRA be computed in one go and, where that is all that is trained, in the frozen weights' format alone."""
    from bespoke.models.fused import fuse  # peft takes a second to load

    fused = [fuse(part) for part in network.parts.values()]
    alone = all(fused) and not recipe.trains_words
    if alone and dtype == torch.bfloat16 and recipe.train.mixed_precision == "bf16":
        network.format = dtype


def weights_file(network: Any) -> str:
    """The name of the file of a network's weights, as diffusers or transformers calls it."""
    return "diffusion_pytorch_model.safetensors" if hasattr(network, "save_config") else "model.safetensors"


def save_config(network: Any, folder: Path) -> None:
    """Writes a network's settings as diffusers or transformers does."""
    network.save_config(folder) if hasattr(network, "save_config") else network.config.save_pretrained(folder)


def _plain(tensor: Tensor) -> Tensor:
    return whole(tensor.detach()).cpu().contiguous()
