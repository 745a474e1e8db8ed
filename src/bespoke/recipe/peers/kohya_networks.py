"""kohya's networks: which kind of adapter, on which layers, of which rank and strength.

Source: kohya-ss/sd-scripts, networks/lora.py (which layers; alpha 0 or none is the rank); LyCORIS' kohya.py and its
presets (convolutions of the same rank unless `conv_dim` says otherwise).
"""

from collections.abc import Callable
from typing import Any, Literal

from bespoke.recipe.peers.table import Convert, Left, Needless, Options, Put, Result, Table
from bespoke.recipe.peers.values import above_zero, every, left, needless, number, off, pairs, text, truth, whole

Script = Literal["network", "dreambooth", "fine-tune", "words"]
LINEAR = ["attention", "feed-forward", "projections"]
"""What sd-scripts' own LoRA sits on: all linear layers and 1 x 1 convolutions of the transformers."""
THREE_BY_THREE = ("conv1", "conv2", "conv")
ALGOS = {
    "lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr", "full": "full", "boft": "boft", "diag-oft": "oft",
}  # fmt: skip
MODULES = {
    "networks.lora": "lora", "networks.lora_fa": "lora", "networks.dylora": "lora", "networks.oft": "oft",
    "networks.loha": "loha", "networks.lokr": "lokr", "lycoris.kohya": "",
}  # fmt: skip
ALIKE = {
    "networks.lora_fa": "both of its matrices are trained here",
    "networks.dylora": "of one rank here, not of all up to it",
    "networks.oft": "its blocks are model.block_size here",
}  # fmt: skip
PRESETS = {
    "full": [*LINEAR, "convolutions"], "attn-mlp": ["attention", "feed-forward"], "attn-only": ["attention"],
    "unet-transformer-only": LINEAR, "unet-convblock-only": ["convolutions"],
}  # fmt: skip


def method_of(options: Options, script: str) -> Script:
    """Which script's options these are: by its name or, without one, by the options that only it has."""
    if "textual_inversion" in script or not off(options.get("token_string")):
        return "words"
    if "network" in script:
        return "network"
    if script in ("train_db.py", "sdxl_train_db.py"):
        return "dreambooth"
    if script:
        return "fine-tune"
    if any(name in options for name in ("network_module", "network_dim", "network_alpha", "unet_lr", "LoRA_type")):
        return "network"
    tuned = ("in_json", "dataset_repeats", "train_text_encoder", "block_lr")
    return "fine-tune" if any(name in options for name in tuned) else "dreambooth"


def arguments(options: Options) -> dict[str, str]:
    """What `network_args` say."""
    return pairs(options.get("network_args"))


def dimension(options: Options) -> int:
    """The rank, 4 where nobody says it."""
    said = options.get("network_dim")
    return 4 if off(said) else whole(said)


def network(value: Any, options: Options) -> Result:
    """The kind of adapter and the layers it sits on."""
    module, said = text(value), arguments(options)
    if module not in MODULES:
        return Left("bespoke has lora, dora, loha, lokr, oft and boft (model.method)")
    algo = said.get("algo", "lora").lower()
    kind = MODULES[module] or ALGOS.get(algo)
    if kind is None:
        return Left(f"bespoke has no {algo}; lora, dora, loha, lokr, oft and boft (model.method)")
    why = ALIKE.get(module, "")
    if kind == "lora" and truth(said.get("dora_wd", False)):
        kind = "dora"
    targets = layers(said, lycoris=module == "lycoris.kohya")
    if kind in ("oft", "boft"):
        targets = [name for name in targets if name != "convolutions"]
    return Put({"model.method": kind, "model.targets": targets}, why)


def layers(said: dict[str, str], *, lycoris: bool) -> list[str]:
    """The layers that an adapter sits on."""
    if lycoris:
        return PRESETS.get(said.get("preset", "full"), PRESETS["full"])
    return LINEAR if off(said.get("conv_dim")) else [*LINEAR, "convolutions"]


def alpha(value: Any, options: Options) -> Result:
    """The alpha, of which ours is whole; nothing means the rank."""
    rank = dimension(options)
    if off(value):
        return Put({"model.alpha": rank}, "0 means the rank there")
    found = number(value)
    near = max(1, round(found))
    why = "" if near == found else f"whole here: the scale is {near / rank:g}, it was {found / rank:g}"
    return Put({"model.alpha": near}, why)


def rank(value: Any, options: Options) -> Result:
    """The rank; a huge one of LyCORIS' LoKr means the whole factor."""
    if off(value):
        return Needless("it is off in the file")
    most = 256 if arguments(options).get("algo") == "lokr" else 10**6
    why = "a factor of full rank is not had here" if whole(value) > most else ""
    return Put({"model.rank": min(most, whole(value))}, why)


def convolutions(value: Any, options: Options) -> Result:
    """The rank of 3 x 3 convolutions, where it is another."""
    if off(value) or whole(value) == dimension(options):
        return Needless("the same as the others")
    return Put({"model.rank_pattern": dict.fromkeys(THREE_BY_THREE, whole(value))})


def convolutions_alpha(value: Any, options: Options) -> Result:
    """The alpha of 3 x 3 convolutions, where it is another."""
    other = options.get("network_alpha", 1)
    if off(value) or number(value) == number(other or 0):
        return Needless("the same as the others")
    return Put({"model.alpha_pattern": dict.fromkeys(THREE_BY_THREE, max(1, round(number(value))))})


def of_lokr(key: str, read: Callable[[Any], Any]) -> Convert:
    """A setting of LoKr's, which is none of others'."""
    row = above_zero(key, read)
    return lambda value, options: (
        row(value, options) if arguments(options).get("algo") == "lokr" else Needless("it is for LoKr")
    )


def only_text(value: Any, _: Options) -> Result:
    """A text encoder trained alone."""
    return left('an adapter of the UNet is always trained; model.method = "words" trains words alone')(value, _)


NETWORK_ROWS: Table = {
    "network_module": network, "network_dim": rank, "network_alpha": alpha,
    "network_args": needless("each of them is listed"),
    "network_args.algo": needless("it counts with network_module"),
    "network_args.preset": needless("it counts with network_module"),
    "network_args.dora_wd": needless("it counts with network_module"),
    "network_args.conv_dim": convolutions, "network_args.conv_alpha": convolutions_alpha,
    "network_args.factor": of_lokr("model.decompose_factor", whole),
    "network_args.decompose_both": of_lokr("model.decompose_both", truth),
    "network_args.dropout": above_zero("model.dropout"),
    **every("network_args.rank_dropout network_args.module_dropout", left("model.dropout leaves out values")),
    **every("network_args.loraplus_lr_ratio network_args.loraplus_unet_lr_ratio "
            "network_args.loraplus_text_encoder_lr_ratio", left("both matrices learn at one rate")),
    **every("network_args.down_lr_weight network_args.mid_lr_weight network_args.up_lr_weight "
            "network_args.block_lr_zero_threshold block_lr", left("train.layer_decay gives blocks other rates")),
    **every("network_args.block_dims network_args.block_alphas network_args.conv_block_dims "
            "network_args.conv_block_alphas", left("model.rank_pattern and alpha_pattern give layers other ranks")),
    **every("network_args.full_matrix network_args.use_tucker network_args.use_cp network_args.use_scalar "
            "network_args.rescaled network_args.constraint network_args.train_norm network_args.bypass_mode "
            "network_args.wd_on_output network_args.wd_on_out network_args.unbalanced_factorization "
            "network_args.rank_dropout_scale network_args.train_on_input network_args.unit "
            "network_args.block_size network_args.rs_lora network_args.train_t5xxl network_args.verbose "
            "network_args.train_blocks network_args.split_qkv", left("peft's adapters have no such setting")),
    "network_dropout": above_zero("model.dropout"),
    "network_train_unet_only": lambda value, options: Needless("text_encoder_lr is heard before it") if not truth(
        value) and not off(options.get("text_encoder_lr")) else Put(
            {"train.train_text_encoder": not truth(value)},
            "" if truth(value) else "sd-scripts trains the text encoder unless told not to"),
    "network_train_text_encoder_only": only_text,
    "network_weights": above_zero("model.adapter_file", text),
    "dim_from_weights": left("write the file's rank into model.rank; bespoke models inspect says it"),
    "scale_weight_norms": above_zero("train.max_adapter_norm"),
    **every("base_weights base_weights_multiplier", left(
        "bespoke models merge puts adapters into a base; then name that")),
}  # fmt: skip
"""Options about adapters; those of `network_args` behind a dot."""
