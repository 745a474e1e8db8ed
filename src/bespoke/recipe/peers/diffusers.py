"""diffusers' example scripts: what becomes of their options.

Source: huggingface/diffusers (58eb52c), the argument parsers of examples/text_to_image, examples/dreambooth,
examples/textual_inversion and examples/advanced_diffusion_training.
"""

from dataclasses import replace
from typing import Any

from bespoke.recipe.peers.kohya import bare, base, first_word, resolution, token
from bespoke.recipe.peers.kohya_rates import schedule, warmup
from bespoke.recipe.peers.table import Left, Needless, Options, Peer, Pictures, Put, Result, Source, Table
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

NAME = "diffusers' example scripts"


def folder(value: Any, options: Options) -> Result:
    """A folder of pictures, or a dataset of the hub."""
    repeats = float(whole(options.get("repeats") or 1))
    return Needless("it is empty") if off(value) else Pictures(Source(text(value), repeats, _caption(options)))


def class_folder(value: Any, options: Options) -> Result:
    """A folder that the base fills with plain pictures, or that holds others."""
    if off(value) or not _prior(options):
        return Needless("there is no prior preservation")
    said = Source(text(value), caption=text(options.get("class_prompt") or ""), regularisation=True)
    return Pictures(said, "if it holds pictures; else the base draws them, and keeps them in cache/")


def prior(value: Any, options: Options) -> Result:
    """Plain pictures that the base draws."""
    if not truth(value):
        return Put({"train.num_class_images": 0})
    drawn = whole(options.get("num_class_images") or 100)
    prompt = text(options.get("class_prompt") or "")
    weight = number(options.get("prior_loss_weight") or 1.0)
    keys = {"train.num_class_images": drawn, "train.class_prompts": [prompt], "train.prior_loss_weight": weight}
    return Put(keys) if prompt else Left("class_prompt is not there, and says what the base draws")


def with_prior(value: Any, options: Options) -> Result:
    """What only counts with prior preservation."""
    return Needless("it counts with with_prior_preservation" if _prior(options) else "there is no prior preservation")


def instance_prompt(value: Any, options: Options) -> Result:
    """The caption of all pictures, which calls the subject."""
    return Put({"text.trigger": text(value)}, "and the caption of every picture without one of its own")


def rate(value: Any, options: Options) -> Result:
    """The rate, with `scale_lr` times the pictures in a step."""
    found = number(value)
    if not truth(options.get("scale_lr", False)):
        return Put({"train.learning_rate": found})
    seen = whole(options.get("train_batch_size") or 1) * whole(options.get("gradient_accumulation_steps") or 1)
    return Put({"train.learning_rate": found * seen}, f"scale_lr: {found:g} times {seen} pictures in a step")


def epochs(value: Any, options: Options) -> Result:
    """The epochs, where the file has no steps."""
    if not off(options.get("max_train_steps")):
        return Needless("max_train_steps is heard before it, there as here")
    return Put({"train.num_train_epochs": whole(value)})


def report_to(value: Any, _: Options) -> Result:
    """Where figures go."""
    chosen = text(value).lower()
    return Put({"track.tensorboard": chosen in ("tensorboard", "all"), "track.wandb": chosen in ("wandb", "all")})


def optimizer(value: Any, options: Options) -> Result:
    """The optimizer, in 8 bits if another option says so."""
    if truth(options.get("use_8bit_adam", False)):
        return Put({"train.optimizer": "adamw8bit"})
    found = one_of("train.optimizer", {"adamw": "adamw", "prodigy": "prodigy"}, "bespoke has no such optimizer")
    return found(value, options)


def batch(value: Any, options: Options) -> Result:
    """The pictures in a pass: with prior preservation there are as many plain ones beside them."""
    if not _prior(options):
        return Put({"train.train_batch_size": whole(value)})
    return Put({"train.train_batch_size": 2 * whole(value)}, "as many plain pictures as own come in a pass")


def rank(value: Any, _: Options) -> Result:
    """The rank, which is the alpha, too."""
    return Put({"model.rank": whole(value), "model.alpha": whole(value)})


def _caption(options: Options) -> str:
    return bare(options.get("instance_prompt") or options.get("placeholder_token") or "")


def _prior(options: Options) -> bool:
    return truth(options.get("with_prior_preservation", False))


TABLE: Table = {
    "pretrained_model_name_or_path": base,
    **every("revision variant non_ema_revision", left("the base's main revision is used; name a folder for another")),
    "pretrained_vae_model_name_or_path": left("the base's own autoencoder is used"),
    "tokenizer_name": left("the base's own tokenizer is used"),
    **every("train_data_dir instance_data_dir dataset_name", folder), "repeats": needless("it counts with them"),
    "dataset_config_name": left("bespoke data import reads what a repository holds"),
    "image_column": one_of("", {"image": Needless("it is found")}, "call the column image"),
    "caption_column": one_of("", {name: Needless("it is found") for name in ("text", "caption", "prompt")},
                             "call the column text, caption or prompt"),
    "max_train_samples": left("name a folder of fewer pictures"),
    "with_prior_preservation": prior, "class_data_dir": class_folder,
    **every("class_prompt num_class_images prior_loss_weight", with_prior),
    **every("sample_batch_size prior_generation_precision", needless("bespoke sees to it")),
    "instance_prompt": instance_prompt, "resolution": resolution,
    "center_crop": lambda value, _: Put({"data.crop": "center" if truth(value) else "random"}),
    "random_flip": when_true({"data.random_flip": True}, "but not where captions name left, right or writing"),
    "image_interpolation_mode": one_of(
        "data.image_interpolation_mode", {"lanczos": "lanczos", "bicubic": "bicubic"},
        "pictures are resized by Lanczos or bicubic filters only"),
    "proportion_empty_prompts": to("text.proportion_empty_prompts"),
    "tokenizer_max_length": needless("captions of any length are read, in windows of 75 tokens"),
    "text_encoder_use_attention_mask": left("captions are read as the base was trained, without a mask"),
    "pre_compute_text_embeddings": needless("captions are encoded once and kept"),
    "cache_latents": needless("pictures are encoded once and kept, by their content"),
    "train_batch_size": batch,
    "gradient_accumulation_steps": to("train.gradient_accumulation_steps", whole),
    "max_train_steps": above_zero("train.max_train_steps", whole), "num_train_epochs": epochs,
    "gradient_checkpointing": to("train.gradient_checkpointing", truth), "seed": above_zero("train.seed", whole),
    "mixed_precision": to("train.mixed_precision", text),
    "learning_rate": rate, "scale_lr": needless("it counts with learning_rate"),
    "text_encoder_lr": lambda value, options: Put({"train.text_encoder_learning_rate": number(value)}) if truth(
        options.get("train_text_encoder", False)) else Needless("the text encoder is not trained"),
    "train_text_encoder": to("train.train_text_encoder", truth),
    "train_text_encoder_frac": left("the text encoder is trained to the end, or not"),
    "lr_scheduler": schedule, "lr_warmup_steps": warmup, "lr_num_cycles": above_zero("train.lr_num_cycles", whole),
    "lr_power": above_zero("train.lr_power"), "optimizer": optimizer,
    "use_8bit_adam": lambda value, options: optimizer("adamw", options) if truth(value) else Needless("it is off"),
    "adam_beta1": to("train.adam_beta1"), "adam_beta2": to("train.adam_beta2"),
    "adam_weight_decay": to("train.adam_weight_decay"), "adam_epsilon": to("train.adam_epsilon"),
    "adam_weight_decay_text_encoder": left("all weights decay alike"), "max_grad_norm": to("train.max_grad_norm"),
    **every("prodigy_beta3 prodigy_decouple prodigy_safeguard_warmup prodigy_use_bias_correction", left(
        "Prodigy's own defaults are used")),
    "snr_gamma": above_zero("train.snr_gamma"), "noise_offset": above_zero("train.noise_offset"),
    "offset_noise": when_true({"train.noise_offset": 0.1}, "0.1 is what the script adds"),
    "input_perturbation": above_zero("train.input_perturbation"),
    **every("dream_training dream_detail_preservation", left("DREAM is not had here")),
    "do_edm_style_training": left("bespoke trains by the base's own schedule"),
    **every("timestep_bias_strategy timestep_bias_multiplier timestep_bias_begin timestep_bias_end "
            "timestep_bias_portion", left("train.timestep_bias says how often equal parts of the timesteps come")),
    "prediction_type": left("the base's own configuration says what it predicts"),
    "class_labels_conditioning": left("Stable Diffusion has no class labels"),
    "rank": rank, "lora_dropout": above_zero("model.dropout"), "use_dora": when_true({"model.method": "dora"}),
    "use_ema": to("train.use_ema", truth), **every("offload_ema foreach_ema", needless("bespoke sees to it")),
    "placeholder_token": token, "initializer_token": first_word,
    "num_vectors": needless("it counts with placeholder_token"),
    "learnable_property": left("the script writes captions of its own; bespoke data caption writes others"),
    "train_text_encoder_ti": left("bespoke words build, then words.train = true, trains new words beside an adapter"),
    **every("train_text_encoder_ti_frac token_abstraction num_new_tokens_per_abstraction", left(
        "bespoke words build, then words.train = true, trains new words beside an adapter")),
    "validation_prompt": lambda value, _: Needless("there is none") if off(value) else Put(
        {"sample.prompts": [text(value)]}),
    "validation_prompts": lambda value, _: Put({"sample.prompts": value if isinstance(value, list) else [text(value)]}),
    "num_validation_images": left("one picture of each prompt is drawn in a column"),
    "validation_epochs": epochs_to("sample.sample_every_n_steps"),
    "validation_steps": above_zero("sample.sample_every_n_steps", whole, "it is when pictures are drawn there"),
    **every("validation_images", left("pictures are drawn from words alone while training")),
    "validation_scheduler": one_of("sample.scheduler", {"DPMSolverMultistepScheduler": "dpm++_2m",
                                                        "DDPMScheduler": "ddpm"}, "sample.scheduler names the ways"),
    "checkpointing_steps": above_zero("train.checkpointing_steps", whole),
    "checkpoints_total_limit": above_zero("train.checkpoints_total_limit", whole),
    "save_steps": above_zero("train.checkpointing_steps", whole, "a state of each stays for a while"),
    "resume_from_checkpoint": left("a training begun elsewhere cannot be resumed"),
    **every("output_dir logging_dir cache_dir", needless("each run has its folder in runs/")),
    **every("no_safe_serialization save_as_full_pipeline output_kohya_format skip_save_text_encoder", needless(
        "bespoke models export writes other forms")),
    "report_to": report_to, "tracker_project_name": to("track.experiment", text),
    **every("push_to_hub hub_token hub_model_id", left("bespoke does not upload to the hub")),
    **every("allow_tf32 enable_xformers_memory_efficient_attention enable_npu_flash_attention set_grads_to_none "
            "dataloader_num_workers local_rank debug_loss", needless("bespoke sees to it")),
}  # fmt: skip
DEFAULTS: Options = {
    "resolution": 512, "center_crop": False, "learning_rate": 1e-4, "lr_scheduler": "constant", "lr_warmup_steps": 500,
    "adam_beta2": 0.999, "adam_weight_decay": 0.01, "max_grad_norm": 1.0, "proportion_empty_prompts": 0.0,
    "with_prior_preservation": False,
}  # fmt: skip
ALSO = (
    ("data.enable_bucket", False, "every picture is cropped to a square there"),
    ("data.upscale", True, "small pictures are enlarged there"),
    ("text.brackets", "letters", "brackets are letters to a tokenizer"),
    ("validation.early_stopping", False, "there training goes on to its last step"),
)
SCRIPTS: dict[str, tuple[str, dict[str, Any]]] = {
    "train_text_to_image_lora": ("lora", {"train_batch_size": 16, "num_train_epochs": 100, "rank": 4}),
    "train_text_to_image": ("full", {"train_batch_size": 16, "num_train_epochs": 100}),
    "train_dreambooth_lora": ("lora", {"train_batch_size": 4, "num_train_epochs": 1, "learning_rate": 5e-4, "rank": 4}),
    "train_dreambooth": ("full", {"train_batch_size": 4, "num_train_epochs": 1, "learning_rate": 5e-6}),
    "textual_inversion": ("words", {"train_batch_size": 16, "num_train_epochs": 100, "repeats": 100}),
}  # fmt: skip
"""How each trains, and its defaults. Source: their parsers; for LoRA the layers of their LoraConfig: attention."""


def peer(script: str) -> Peer:
    """Diffusers' script of a file's name, as it does where the command is silent.

    Those for SDXL and the advanced ones are read as the script that they were made from.
    """
    stem = script.removesuffix(".py")
    kind = next((name for name in SCRIPTS if stem.startswith(name)), "train_text_to_image_lora")
    if "lora" in stem and "dreambooth" in stem:
        kind = "train_dreambooth_lora"
    method, defaults = SCRIPTS[kind]
    also = (("model.method", method, f"{script} trains so"), *ALSO)
    return replace(Peer(NAME, TABLE, also=also), defaults={**DEFAULTS, **defaults})
