"""EveryDream2: what becomes of its train.json and of the files about optimizer and validation that this names.

Source: victorchall/EveryDream2trainer (5098db8), the argument parser of train.py, optimizer.json,
validation_default.json; data/image_train_item.py for the jitter of its crops.
"""

from collections.abc import Mapping
from typing import Any, cast

from bespoke.recipe.peers.kohya import ORDERED, ORDERS, base
from bespoke.recipe.peers.kohya_samples import prompts
from bespoke.recipe.peers.table import Left, Needless, Options, Peer, Pictures, Put, Reading, Result, Source, Table
from bespoke.recipe.peers.values import (
    above_zero,
    epochs_to,
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

NAME = "EveryDream2"
FILES = {"optimizer_config": "tables", "validation_config": "tables", "sample_prompts": "lines"}
OWN = ("data_root", "resume_ckpt", "max_epochs", "cond_dropout", "optimizer_config", "zero_frequency_noise_ratio")
JITTER = 0.02
PYRAMID = 10
"""Layers of its pyramid noise. Source: train.py, pyramid_noise_like."""


def is_one(options: Options) -> bool:
    """Whether these are EveryDream2's settings."""
    return sum(name in options for name in OWN) >= 2


def folder(value: Any, options: Options) -> Result:
    """The pictures' folder, whose own files say the rest."""
    return Needless("it is empty") if off(value) else Pictures(Source(text(value)), "its multiply.txt are heard")


def flips(value: Any, options: Options) -> Result:
    """Mirrored pictures."""
    if off(value):
        return Needless("it is off in the file")
    why = "half of the visits, but not where captions name left, right or writing"
    return Put({"data.random_flip": True}, why)


def average(value: Any, options: Options) -> Result:
    """A running average of the weights."""
    if off(value):
        return Needless("it is off in the file")
    often = whole(options.get("ema_update_interval") or 1)
    why = "" if often == 1 else f"in every step here, every {often} there: the decay is made to fit"
    return Put({"train.use_ema": True, "train.ema_decay": number(value) ** (1 / often)}, why)


def tags(value: Any, options: Options) -> Result:
    """Captions in other orders."""
    kept = whole(options.get("keep_tags") or 0)
    return Put({**ORDERS, "augment.keep_first": kept}, ORDERED) if truth(value) else Needless("it is off in the file")


def pyramid(value: Any, options: Options) -> Result:
    """Noise with coarser layers."""
    if off(value):
        return Needless("it is off in the file")
    return Put({"train.multires_noise_iterations": PYRAMID, "train.multires_noise_discount": number(value)})


def validation(value: Any, options: Options) -> Result:
    """The part of the pictures that is kept apart."""
    if not truth(options.get("validation_config.validate_training", True)):
        return Needless("nothing is measured there")
    return Put({"data.validation_fraction": number(value)})


def betas(value: Any, options: Options) -> Result:
    """Both of AdamW's memories."""
    if off(value):
        return Needless("it says nothing")
    return Put({"train.adam_beta1": float(value[0]), "train.adam_beta2": float(value[1])})


def named(name: str) -> Any:
    """A file whose options are listed, if it is there."""
    return lambda value, options: (
        Needless("each of its options is listed")
        if off(value) or any(option.startswith(f"{name}.") for option in options)
        else Left("the file is not there")
    )


SCHEDULE = one_of(
    "train.lr_scheduler", {n: n for n in ("linear", "cosine", "polynomial")} | {
        "constant": Put({"train.lr_scheduler": "constant", "train.lr_warmup_steps": 0})},
    "train.lr_scheduler is cosine, linear, constant, cosine_with_restarts or polynomial")  # fmt: skip
OPTIMIZER = one_of(
    "train.optimizer", {n: n for n in ("adamw", "adamw8bit", "lion", "prodigy")} | {
        "lion8bit": Put({"train.optimizer": "lion"}, "in 32 bits"),
        "dadapt_adam": Put({"train.optimizer": "prodigy"}, "which finds its rate, too"),
        "dadapt_lion": Put({"train.optimizer": "prodigy"}, "which finds its rate, too")},
    "bespoke has adamw, adamw8bit, adafactor, lion, prodigy, schedule_free; look at the rate, too")  # fmt: skip
ONE = left("one for both networks here")
SEEN_TO = needless("bespoke sees to it")
TABLE: Table = {
    "data_root": folder, "resume_ckpt": base, "batch_size": to("train.train_batch_size", whole),
    "grad_accum": to("train.gradient_accumulation_steps", whole), "max_epochs": to("train.num_train_epochs", whole),
    "resolution": to("data.resolution", whole), "gradient_checkpointing": to("train.gradient_checkpointing", truth),
    "seed": lambda value, _: Put({"train.seed": whole(value)}) if whole(value) >= 0 else Needless(
        "every training has a seed here: 0"),
    "disable_amp": when_true({"train.mixed_precision": "no"}), "amp": SEEN_TO,
    "optimizer_config.base.lr": above_zero("train.learning_rate"), "lr": above_zero("train.learning_rate"),
    "optimizer_config.base.lr_scheduler": SCHEDULE, "lr_scheduler": SCHEDULE,
    "optimizer_config.base.lr_warmup_steps": above_zero("train.lr_warmup_steps", whole),
    "lr_warmup_steps": above_zero("train.lr_warmup_steps", whole),
    **every("optimizer_config.base.lr_decay_steps lr_decay_steps", left("the rate falls from the warm-up to the end")),
    "optimizer_config.base.optimizer": OPTIMIZER, "optimizer_config.base.betas": betas,
    "optimizer_config.base.epsilon": above_zero("train.adam_epsilon"),
    "optimizer_config.base.weight_decay": above_zero("train.adam_weight_decay"),
    **every("optimizer_config.base.d_coef optimizer_config.base.d0 optimizer_config.base.decouple "
            "optimizer_config.base.momentum optimizer_config.base.growth_rate", left("its own default is used")),
    "optimizer_config.text_encoder_overrides.lr": above_zero("train.text_encoder_learning_rate"),
    **every(" ".join(f"optimizer_config.text_encoder_overrides.{name}" for name in (
        "optimizer", "lr_scheduler", "lr_warmup_steps", "lr_decay_steps", "betas", "epsilon", "weight_decay")), ONE),
    "optimizer_config.text_encoder_lr_scale": left("train.text_encoder_learning_rate is a rate of its own"),
    "optimizer_config.text_encoder_freezing.unfreeze_last_n_layers": left(
        "train.layer_decay lets layers at the front learn less"),
    "optimizer_config.apply_grad_scaler_step_tweaks": SEEN_TO, "optimizer_config": named("optimizer_config"),
    "disable_textenc_training": lambda value, _: Put({"train.train_text_encoder": not truth(value)}),
    "disable_unet_training": left("the UNet is always trained"),
    "clip_grad_norm": lambda value, _: Put({"train.max_grad_norm": 1e9}, "nothing is shortened") if off(
        value) else Put({"train.max_grad_norm": number(value)}),
    "clip_skip": lambda value, _: Needless("the last layer, as here") if off(value) else Left(
        "bespoke trains on the text encoder's last layer; sample.clip_skip draws by an earlier one"),
    "cond_dropout": to("text.proportion_empty_prompts"), "flip_p": flips, "shuffle_tags": tags,
    "keep_tags": needless("it counts with shuffle_tags"),
    "embedding_perturbation": left("captions' states are used as they are"),
    "zero_frequency_noise_ratio": above_zero("train.noise_offset"), "pyramid_noise_discount": pyramid,
    "enable_zero_terminal_snr": when_true({"train.rescale_betas_zero_snr": True}),
    "min_snr_gamma": above_zero("train.snr_gamma"), "timestep_start": above_zero("train.min_timestep", whole),
    "timestep_end": above_zero("train.max_timestep", whole),
    "loss_type": one_of("train.loss_type", {"mse": "l2", "huber": "huber"}, "losses are not mixed here"),
    "train_sampler": needless("all add noise alike"), "ema_decay_rate": average,
    "ema_strength_target": left("train.ema_decay is the decay itself"),
    **every("ema_update_interval ema_device ema_sample_nonema_model ema_sample_ema_model", SEEN_TO),
    "ema_resume_model": left("a training begun elsewhere cannot be resumed"),
    "sample_steps": above_zero("sample.sample_every_n_steps", whole), "sample_prompts": prompts,
    "save_every_n_epochs": above_zero("train.save_every_n_epochs", whole),
    "save_ckpts_from_n_epochs": left("copies are kept from the first epochs on"),
    "ckpt_every_n_minutes": left("train.checkpointing_steps counts steps, not time"),
    "log_step": above_zero("train.log_every", whole), "wandb": to("track.wandb", truth),
    "project_name": to("track.experiment", text), "validation_config": named("validation_config"),
    "validation_config.auto_split_proportion": validation,
    "validation_config.every_n_epochs": epochs_to("validation.validation_steps"),
    "validation_config.seed": to("validation.seed", whole),
    "validation_config.manual_data_root": left("bespoke data import makes a dataset of it; name it in validation.sets"),
    "validation_config.extra_manual_datasets": left("bespoke data import each, and name them in validation.sets"),
    **every("validation_config.validate_training validation_config.val_split_mode validation_config.documentation "
            "validation_config.stabilize_training_loss validation_config.stabilize_split_proportion "
            "validation_config.use_relative_loss", needless("a part is kept apart, and training pictures are probed")),
    **every("rated_dataset rated_dataset_target_dropout_percent", left(
        "the columns repeats and weight of train/metadata.csv say what a picture counts for")),
    "plugins": left("plugins are not loaded"), "scale_lr": left("multiply train.learning_rate yourself"),
    "load_settings_every_epoch": left("a training goes on as it began"),
    **every("attn_type gpuid logdir notebook run_name save_ckpt_dir save_optimizer write_schedule config "
            "no_prepend_last no_save_ckpt save_full_precision lowvram "
            "disable_xformers", SEEN_TO),
}  # fmt: skip
DEFAULTS: Options = {
    "batch_size": 2, "max_epochs": 300, "resolution": 512, "lr": 1e-6, "lr_scheduler": "constant",
    "loss_type": "mse_huber", "cond_dropout": 0.04, "disable_textenc_training": False, "clip_grad_norm": None,
    "zero_frequency_noise_ratio": 0.02,
}  # fmt: skip
"""Source: the parser's defaults."""
ALSO = (
    ("model.method", "full", "EveryDream2 trains whole models"),
    ("train.adam_beta2", 0.999, "AdamW's default there"),
    ("train.num_class_images", 0, "there the base draws no plain pictures to keep it as it is"),
    ("data.crop_jitter", JITTER, "up to so much is cut off each side there"),
    ("data.enable_bucket", True, "pictures keep their shapes there"),
    ("text.brackets", "letters", "brackets are letters to a tokenizer"),
    ("validation.early_stopping", False, "there training goes on to its last step"),
)


def reading(content: Mapping[str, Any]) -> Reading:
    """Its settings on their way into a recipe, with the files that they name."""
    options: dict[str, Any] = {}
    for name, value in content.items():
        options[name] = str(value) if isinstance(value, dict) else value
        if isinstance(value, dict):
            options |= _flat(cast(Mapping[str, Any], value), f"{name}.")
    groups = (("optimizer_config.doc", SEEN_TO), ("validation_config.documentation", SEEN_TO))
    return Reading(Peer(NAME, TABLE, DEFAULTS, ALSO, groups), options)


def _flat(content: Mapping[str, Any], before: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        inner = isinstance(value, dict) and name not in ("doc", "documentation", "extra_manual_datasets")
        found |= _flat(cast(Mapping[str, Any], value), f"{before}{name}.") if inner else {before + name: value}
    return found
