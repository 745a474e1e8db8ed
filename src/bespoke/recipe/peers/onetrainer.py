"""OneTrainer: what becomes of its configuration, whose tables are laid flat: `unet.learning_rate`, `concepts[0].path`.

Source: Nerogar/OneTrainer (23df383), modules/util/config/TrainConfig.py for names and defaults.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from bespoke.recipe.peers.kohya import base
from bespoke.recipe.peers.onetrainer_concepts import concept_rows, sample_rows
from bespoke.recipe.peers.onetrainer_meanings import (
    adapter,
    alpha,
    averaged,
    cycles,
    gloss,
    huber,
    layers,
    method,
    optimizer,
    placeholder,
    resolution,
    schedule,
    skip,
    squares,
    strength,
    text_rate,
    timed,
    timesteps,
    trained,
    warmup,
    weighting,
    weights,
    with_average,
)  # fmt: skip
from bespoke.recipe.peers.onetrainer_names import GENERIC, SEEN_TO
from bespoke.recipe.peers.table import Convert, Left, Needless, Options, Peer, Put, Reading, Table
from bespoke.recipe.peers.values import (
    above_zero,
    every,
    left,
    needless,
    number,
    off,
    one_of,
    text,
    to,
    truth,
    when_true,
    whole,
)  # fmt: skip

NAME = "OneTrainer"
FILES = {"concept_file_name": "list", "sample_definition_file_name": "list"}
DTYPES = {"FLOAT_16": "fp16", "BFLOAT_16": "bf16", "FLOAT_32": "no", "TFLOAT_32": "no"}


def is_one(options: Options) -> bool:
    """Whether these are OneTrainer's settings."""
    own = ("training_method", "base_model_name", "concept_file_name", "output_model_destination", "__version")
    return sum(name in options for name in own) >= 2


CLIP = "so high that nothing is shortened"


def listed(name: str, hint: str) -> Convert:
    """A file whose tables are options of their own, if it is there."""
    return lambda _, options: (
        Needless("each of them is listed")
        if any(option.startswith(f"{name}[") for option in options)
        else Left(f"the file is not there; {hint}")
    )


TABLE: Table = {
    **GENERIC,
    "training_method": method, "peft_type": needless("it counts with training_method"),
    "model_type": lambda value, _: Needless("the base itself says it") if text(value).upper().startswith(
        "STABLE_DIFFUSION_") and text(value)[17:18] in "12" and "INPAINT" not in text(value).upper() else Left(
            "bespoke trains Stable Diffusion 1.x and 2.x, on whole pictures"),
    "base_model_name": base, "lora_model_name": above_zero("model.adapter_file", text),
    "lora_rank": adapter("model.rank", "LORA LOHA"), "lokr_dim": adapter("model.rank", "LOKR"),
    "oft_block_size": adapter("model.block_size", "OFT_2"), "lora_alpha": alpha,
    "lora_decompose": needless("it counts with training_method"),
    "lokr_decompose_both": adapter("model.decompose_both", "LOKR"),
    "lokr_decompose_factor": adapter("model.decompose_factor", "LOKR"),
    **every("lora_decompose_norm_epsilon lora_decompose_output_axis oft_block_share oft_scaled lokr_use_tucker "
            "lokr_weight_decompose lokr_dora_on_output lokr_full_matrix lokr_vec_trick", needless(
                "peft's adapters see to it")),
    "layer_filter_preset": layers, "layer_filter": left("model.targets names the layers"),
    "layer_filter_regex": left("model.targets names the ends of layers' names"),
    "epochs": above_zero("train.num_train_epochs", whole), "batch_size": to("train.train_batch_size", whole),
    "gradient_accumulation_steps": to("train.gradient_accumulation_steps", whole), "resolution": resolution,
    "unet.learning_rate": above_zero("train.learning_rate"), "learning_rate": to("train.learning_rate"),
    "text_encoder.train": trained, "text_encoder.learning_rate": text_rate, "unet.weight_dtype": weights,
    "unet.train": lambda value, _: Needless("it is trained") if truth(value) else Left("the UNet is always trained"),
    **every("text_encoder.stop_training_after text_encoder.stop_training_after_unit", needless(
        "the text encoder is trained to the end, or not (train.train_text_encoder)")),
    "learning_rate_scheduler": schedule, "learning_rate_warmup_steps": warmup, "learning_rate_cycles": cycles,
    "learning_rate_min_factor": left("the rate falls to nothing"),
    "learning_rate_scaler": one_of("", {"NONE": Needless("off")}, "multiply train.learning_rate yourself"),
    "loss_scaler": one_of("", {"NONE": Needless("off")}, "the loss of a step is the mean over its pictures"),
    **every("custom_learning_rate_scheduler scheduler_params", left("classes of one's own are not loaded")),
    "optimizer.optimizer": optimizer, "optimizer.beta1": above_zero("train.adam_beta1"),
    "optimizer.beta2": above_zero("train.adam_beta2"), "optimizer.eps": above_zero("train.adam_epsilon"),
    "optimizer.weight_decay": lambda value, _: Needless("its default") if value is None else Put(
        {"train.adam_weight_decay": number(value)}),
    "clip_grad_norm": lambda value, _: Put({"train.max_grad_norm": 1e9}, CLIP) if off(value) else Put(
        {"train.max_grad_norm": number(value)}),
    "ema": averaged, "ema_decay": with_average("train.ema_decay"),
    "ema_update_step_interval": left("the average takes in each step"),
    "train_dtype": one_of("train.mixed_precision", DTYPES, "train.mixed_precision is no, bf16 or fp16"),
    "masked_training": to("train.masked_training", truth), "unmasked_probability": to("train.unmasked_probability"),
    "unmasked_weight": to("train.unmasked_weight"),
    "normalize_masked_area_loss": to("train.normalize_masked_area_loss", truth),
    "masked_prior_preservation_weight": to("train.masked_prior_preservation_weight"),
    "custom_conditioning_image": left("pictures as conditions are not had here"),
    "offset_noise_weight": above_zero("train.noise_offset"),
    "generalized_offset_noise": left("train.noise_offset is the same at all timesteps"),
    "perturbation_noise_weight": left("the network is asked for it there; train.input_perturbation is the paper's"),
    "rescale_noise_scheduler_to_zero_terminal_snr": when_true({"train.rescale_betas_zero_snr": True}),
    **every("force_v_prediction force_epsilon_prediction", left("the base's own configuration says what it predicts")),
    "min_noising_strength": strength("train.min_timestep", 0.0),
    "max_noising_strength": strength("train.max_timestep", 1.0),
    "timestep_distribution": timesteps, **every("noising_weight noising_bias", needless("timestep_distribution's")),
    "timestep_shift": above_zero("train.timestep_shift"),
    "dynamic_timestep_shifting": left("train.timestep_shift is the same for all shapes"),
    "loss_weight_fn": weighting, "loss_weight_strength": needless("it counts with loss_weight_fn"),
    "huber_strength": huber, "huber_delta": needless("it counts with huber_strength"), "mse_strength": squares,
    **every("mae_strength log_cosh_strength", left('train.loss_type = "smooth_l1" is nearest to it')),
    "vb_loss_strength": needless("Stable Diffusion has no such loss"),
    "dropout_probability": above_zero("model.dropout"), "aspect_ratio_bucketing": to("data.enable_bucket", truth),
    **every("text_encoder_layer_skip", skip), **timed("validate_after", "validation.validation_steps"),
    "validation": needless("a part of the pictures is always kept apart to measure on"),
    **timed("save_every", "train.checkpointing_steps", "train.save_every_n_epochs"),
    **timed("backup_after", "train.checkpointing_steps"), **timed("sample_after", "sample.sample_every_n_steps"),
    "rolling_backup_count": lambda value, options: Put({"train.checkpoints_total_limit": whole(value)}) if truth(
        options.get("rolling_backup", False)) else Needless("old states go in any case"),
    "sample_image_format": one_of("sample.format", {"JPG": "jpeg", "PNG": "png"}, "sample.format is png, jpeg, webp"),
    "tensorboard": to("track.tensorboard", truth), "embedding_learning_rate": above_zero("words.learning_rate"),
    "preserve_embedding_norm": left("new rows go where training takes them"),
    "embedding.placeholder": placeholder, "embedding.initial_embedding_text": gloss,
    "concept_file_name": listed("concepts", "name the pictures' folder"),
    "sample_definition_file_name": listed("samples", "set sample.prompts"),
    **every("additional_embeddings bundle_additional_embeddings", left(
        "bespoke words build, then words.train = true, trains new words beside an adapter")),
    **every("debug_mode debug_dir workspace_dir cache_dir huggingface_cache_dir offline_mode tensorboard_expose "
            "tensorboard_always_on tensorboard_port continue_last_backup prevent_overwrites include_train_config "
            "multi_gpu device_indexes gradient_reduce_precision fused_gradient_reduce async_gradient_reduce "
            "async_gradient_reduce_buffer output_dtype output_model_format output_model_destination async_offloading "
            "compile latent_caching clear_cache_before_training dataloader_threads train_device temp_device "
            "fallback_train_dtype enable_autocast_cache only_cache frames attention_mechanism embedding_weight_dtype "
            "lora_weight_dtype optimizer_defaults sample_skip_first sample_video_format sample_audio_format "
            "samples_to_tensorboard non_ema_sampling rolling_backup backup_before_save save_skip_first "
            "save_filename_prefix text_encoder_sequence_length text_encoder_2_layer_skip "
            "text_encoder_2_sequence_length text_encoder_3_layer_skip text_encoder_4_layer_skip __version "
            "optimizer.__version weight_dtype concepts "
            "samples", SEEN_TO),
    "force_circular_padding": left("pictures that tile are not had here"),
}  # fmt: skip
DEFAULTS: Options = {
    "training_method": "FINE_TUNE", "base_model_name": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "learning_rate": 3e-6, "learning_rate_scheduler": "CONSTANT", "learning_rate_warmup_steps": 200.0, "epochs": 100,
    "batch_size": 1, "resolution": "512", "aspect_ratio_bucketing": True, "lora_rank": 16, "lora_alpha": 1.0,
    "lokr_dim": 16, "oft_block_size": 32, "layer_filter_preset": "full", "text_encoder.train": True,
    "optimizer.optimizer": "ADAMW", "clip_grad_norm": 1.0, "unmasked_probability": 0.1, "unmasked_weight": 0.1,
}  # fmt: skip
"""Source: TrainConfig.default_values."""
ALSO = (
    ("train.adam_beta2", 0.999, "AdamW's default there"),
    ("train.num_class_images", 0, "there the base draws no plain pictures to keep it as it is"),
    ("text.proportion_empty_prompts", 0.0, "captions are not left out there"),
    ("text.brackets", "letters", "brackets are letters to a tokenizer"),
    ("data.upscale", True, "small pictures are enlarged there"),
    ("validation.early_stopping", False, "there training goes on to its last step"),
)


def reading(content: Mapping[str, Any]) -> Reading:
    """A configuration on its way into a recipe, with the concepts and samples in it or in the files that it names."""
    whole_ = dict(content)
    for name, file in (("concepts", "concept_file_name"), ("samples", "sample_definition_file_name")):
        if isinstance(whole_.get(file), list):
            whole_[name], whole_[file] = whole_[file], f"{name}.json"
    options = dict(_flat(whole_))
    rows = {**concept_rows(whole_.get("concepts")), **sample_rows(whole_.get("samples"))}
    return Reading(Peer(NAME, {**TABLE, **rows}, DEFAULTS, ALSO), options)


def _flat(content: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every option with the names of the tables that it lies in; tables within lists have numbers."""
    for name, value in content.items():
        items = cast(list[Any], value) if isinstance(value, list) else []
        if before + name == "optimizer_defaults":
            yield name, value
        elif isinstance(value, Mapping) and value:
            yield from _flat(cast(Mapping[str, Any], value), f"{before}{name}.")
        elif items and all(isinstance(item, Mapping) for item in items) and name in ("concepts", "samples"):
            for number_, item in enumerate(items):
                yield from _flat(item, f"{name}[{number_}].")
        else:
            yield before + name, value
