"""kohya_ss, the pages in front of sd-scripts: what becomes of the JSON in which they keep their fields.

Source: bmaltais/kohya_ss (45088f0), save_configuration and the command that lora_gui.py and its siblings make of it.
In it 0 and an empty text mostly mean that nothing is said.
"""

from dataclasses import replace
from typing import Any

from bespoke.recipe.peers import kohya
from bespoke.recipe.peers.kohya_networks import LINEAR, NETWORK_ROWS
from bespoke.recipe.peers.shell import commands
from bespoke.recipe.peers.table import Convert, Left, Needless, Options, Part, Peer, Put, Result, Table
from bespoke.recipe.peers.values import every, left, needless, number, off, text, truth, whole

NAME = "kohya_ss"
KINDS: dict[str, tuple[str, str]] = {
    "Standard": ("lora", ""), "LoRA-FA": ("lora", "both of its matrices are trained here"),
    "Kohya LoCon": ("lora", ""), "LoCon": ("lora", ""), "LyCORIS/LoCon": ("lora", ""),
    "Kohya DyLoRA": ("lora", "of one rank here, not of all up to it"), "Kohya LoHa": ("loha", ""),
    "LyCORIS/LoHa": ("loha", ""), "Kohya LoKr": ("lokr", ""), "LyCORIS/LoKr": ("lokr", ""),
    "LyCORIS/BOFT": ("boft", "its blocks are model.block_size here"),
    "LyCORIS/Diag-OFT": ("oft", "its blocks are model.block_size here"),
    "LyCORIS/Native Fine-Tuning": ("full", ""),
}  # fmt: skip
OTHERS = needless("it is for another kind of model, or for how the page looks")


def kind(value: Any, options: Options) -> Result:
    """The kind of adapter and the layers it sits on."""
    if text(value) not in KINDS:
        return Left("bespoke has lora, dora, loha, lokr, oft and boft (model.method)")
    method, why = KINDS[text(value)]
    if method == "lora" and truth(options.get("dora_wd", False)):
        method = "dora"
    everywhere = wide(options) and not off(options.get("conv_dim"))
    targets = [*LINEAR, "convolutions"] if everywhere else LINEAR
    return Put({"model.method": method, "model.targets": targets}, why)


def wide(options: Options) -> bool:
    """Whether the adapter sits on convolutions, too."""
    chosen = text(options.get("LoRA_type"))
    return chosen.startswith(("LyCORIS", "LoCon", "Kohya LoCon")) and "OFT" not in chosen


def on_convolutions(name: str) -> Convert:
    """A field that counts for adapters on convolutions only."""
    row = NETWORK_ROWS[f"network_args.{name}"]
    return lambda value, options: row(value, options) if wide(options) else Needless("it is for convolutions")


def of_lokr(name: str) -> Convert:
    """A field that counts for LoKr only."""
    row = NETWORK_ROWS[f"network_args.{name}"]
    return lambda value, options: row(value, {"network_args": ["algo=lokr"]}) if "LoKr" in text(
        options.get("LoRA_type")) else Needless("it is for LoKr")  # fmt: skip


def ranks(value: Any, options: Options) -> Result:
    """How DyLoRA trains several ranks at once."""
    if "DyLoRA" not in text(options.get("LoRA_type")):
        return Needless("it is for DyLoRA")
    return Left("LoRAs of all ranks at once are not had here")


def epochs(value: Any, options: Options) -> Result:
    """The epochs, where neither of the fields that are heard before them says anything."""
    for other in ("max_train_epochs", "max_train_steps"):
        if not off(options.get(other)):
            return Needless(f"{other} is heard before it, there as here")
    return Put({"train.num_train_epochs": max(1, whole(value))})


def warmup(value: Any, options: Options) -> Result:
    """The warm-up in per cent of the steps."""
    if text(options.get("lr_scheduler") or "").lower() == "constant" or not off(options.get("lr_warmup_steps")):
        return Needless("it does not count with the other fields")
    return Put({"train.lr_warmup_steps": Part(number(value) / 100) if not off(value) else 0}, "per cent there")


def text_rate(value: Any, options: Options) -> Result:
    """The text encoder's rate: nothing, beside a rate of the UNet, means that it is not trained."""
    if off(value) and off(options.get("unet_lr")):
        return Needless("it is off in the file")
    return kohya.TABLE["text_encoder_lr"](value, options)


def noise(name: str, of: str) -> Convert:
    """Noise of a type, which only counts where the type is chosen."""

    def convert(value: Any, options: Options) -> Result:
        if text(options.get("noise_offset_type") or of) != of:
            return Needless("another type of noise is chosen")
        return kohya.TABLE[name](value, options)

    return convert


TABLE: Table = {
    **kohya.TABLE, **{name.partition(".")[2]: row for name, row in NETWORK_ROWS.items() if "." in name},
    "optimizer": kohya.TABLE["optimizer_type"], "max_resolution": kohya.TABLE["resolution"],
    "conv_dim": on_convolutions("conv_dim"), "conv_alpha": on_convolutions("conv_alpha"),
    "factor": of_lokr("factor"), "decompose_both": of_lokr("decompose_both"),
    "LoRA_type": kind, "dora_wd": needless("it counts with LoRA_type"),
    "LyCORIS_preset": lambda value, _: Needless("all layers of the kind") if text(value) in ("", "full") else Left(
        "model.targets names the layers"),
    "unit": ranks, "constrain": left("peft's adapters have none"),
    "train_on_input": needless("it is for IA3"), "lora_network_weights": NETWORK_ROWS["network_weights"],
    "stop_text_encoder_training_pct": kohya.TABLE["stop_text_encoder_training"],
    **every("conv_dims conv_alphas generate_caption_database generate_image_buckets", OTHERS),
    "epoch": epochs, "lr_warmup": warmup,
    "lr_warmup_steps": lambda value, options: kohya.TABLE["lr_warmup_steps"](value, options) if not off(
        value) else Needless("it is off in the file"),
    "text_encoder_lr": text_rate,
    "noise_offset_type": needless("it counts with the noise"),
    "noise_offset": noise("noise_offset", "Original"),
    "adaptive_noise_scale": noise("adaptive_noise_scale", "Original"),
    "multires_noise_iterations": noise("multires_noise_iterations", "Multires"),
    "multires_noise_discount": noise("multires_noise_discount", "Multires"),
    "train_dir": needless("each run has its folder in runs/"), "image_folder": kohya.TABLE["train_data_dir"],
    "batch_size": needless("it is for preparing files"),
    **every("caption_metadata_filename latent_metadata_filename full_path create_caption create_buckets "
            "use_latent_files", needless("bespoke data import reads pictures and captions themselves")),
    "template": left("bespoke data caption writes captions"), "train_inpainting": left("inpainting is not trained"),
    "additional_parameters": needless("each of them is listed"),
    **every("num_cpu_threads_per_process num_processes num_machines multi_gpu gpu_ids main_process_port dynamo_mode "
            "dynamo_use_fullgraph dynamo_use_dynamic extra_accelerate_launch_args", needless(
                "start bespoke train under accelerate launch or torchrun to use several devices")),
    "mem_eff_save": needless("bespoke sees to it"), "lowvram": needless("bespoke sees to it"),
    "use_wandb": lambda value, _: Put({"track.wandb": truth(value)}),
    "sdxl": needless("the base itself says it"), "sdxl_checkbox": needless("the base itself says it"),
    **every("sdxl_cache_text_encoder_outputs sdxl_no_half_vae", needless("captions and pictures are encoded once")),
    **every("train_lora_ggpo ggpo_sigma ggpo_beta", left("GGPO is not had here")),
    **every("loraplus_lr_ratio loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio", left(
        "both matrices learn at one rate")),
    **every("model_list save_as_bool save_as file_path model_type ae clip_l clip_g t5xxl t5xxl_lr discrete_flow_shift "
            "model_prediction_type timestep_sampling split_mode t5xxl_max_token_length enable_all_linear "
            "guidance_scale apply_t5_attn_mask train_t5xxl single_blocks_to_swap double_blocks_to_swap show_timesteps "
            "show_timesteps_resolution img_attn_dim img_mlp_dim img_mod_dim single_dim txt_attn_dim txt_mlp_dim "
            "txt_mod_dim single_mod_dim in_dims train_double_block_indices train_single_block_indices "
            "clip_g_dropout_rate pos_emb_random_crop_rate save_clip save_t5xxl t5xxl_device t5xxl_dtype "
            "blockwise_fused_optimizers flux_fused_backward_pass logit_mean logit_std mode_scale weighting_scheme",
            OTHERS),
}  # fmt: skip
PREFIXES = ("flux1_", "sd3_", "hunyuan_", "anima_", "lumina_")


def is_option(name: str) -> bool:
    """Whether a field of this name is known."""
    return name in TABLE or name.startswith(PREFIXES)


def told(options: Options) -> dict[str, Any]:
    """The fields, with those that stand as a command's options in one of them."""
    more = options.get("additional_parameters")
    if not isinstance(more, str) or off(more):
        return dict(options)
    found = commands(f"train_network.py {more}")
    return {**options, **(dict(found[0].options) if found else {})}


def peer(options: Options) -> Peer:
    """kohya_ss, as the script does that its fields are for."""
    below = kohya.peer(options)
    chosen = {name: value for name, value in below.defaults.items() if name not in UNSAID}
    groups = tuple((prefix, OTHERS) for prefix in PREFIXES)
    return replace(below, name=NAME, table=TABLE, defaults=chosen, groups=(*groups, *below.groups))


UNSAID = ("network_module", "network_train_unet_only", "max_train_steps", "lr_warmup_steps")
"""What the pages always say, in other fields."""
