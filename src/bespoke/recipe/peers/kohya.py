"""kohya's sd-scripts: what becomes of the options of its training scripts.

Source: kohya-ss/sd-scripts 0.10.1 (48d368f), the argument parsers of train_network.py, train_db.py, fine_tune.py,
train_textual_inversion.py and their SDXL forms, and what library/train_util.py makes of the values.
"""

from dataclasses import replace
from typing import Any

from bespoke.recipe.peers.kohya_networks import NETWORK_ROWS, method_of
from bespoke.recipe.peers.kohya_rates import RATES
from bespoke.recipe.peers.kohya_samples import drawn_with, prompts
from bespoke.recipe.peers.table import (
    Convert,
    Left,
    Needless,
    Options,
    Peer,
    Pictures,
    Put,
    Result,
    Source,
    Table,
)  # fmt: skip
from bespoke.recipe.peers.values import (
    above_zero,
    epochs_to,
    every,
    left,
    needless,
    number,
    off,
    one_of,
    pairs,
    text,
    to,
    truth,
    when_true,
    whole,
)  # fmt: skip

NAME = "kohya's sd-scripts"
ORDERS: dict[str, Any] = {
    "augment.variants": 8, "augment.share": 1.0, "augment.shuffle": 1.0, "augment.drop": 0.0, "augment.prefix": 0.0,
    "augment.synonyms": 0.0, "augment.spelling": 0.0, "augment.similarity": 0.0,
}  # fmt: skip
"""Captions in other orders, and nothing else done to them."""
ORDERED = "eight orders of each caption are made once, and each visit to a picture reads one of them"
SUBJECT: dict[str, Any] = {
    "train.masked_training": True, "train.unmasked_weight": 0.0, "train.unmasked_probability": 0.0,
}  # fmt: skip
"""What masks cover, and nothing else."""
READ = "captions beside pictures are found whatever their ending is: .txt, .caption, .json, .yaml"


def base(value: Any, _: Options) -> Result:
    """The base: a hub id, a folder or a single file."""
    if str(value).lower().endswith((".ckpt", ".pt")):
        return Left("a pickled file is not read; name the same model as .safetensors or by its hub id with --base")
    return Put({"model.base": text(value)})


def resolution(value: Any, _: Options) -> Result:
    """One side, or width and height, of which the side of a square of as many pixels is made."""
    sides = [whole(part) for part in (value if isinstance(value, list) else str(value).replace("x", ",").split(","))]
    if len(set(sides)) == 1:
        return Put({"data.resolution": sides[0]})
    if len(sides) != 2:
        return Left("it is neither one side nor two; set data.resolution")
    square = max(8, round((sides[0] * sides[1]) ** 0.5 / 8) * 8)
    return Put({"data.resolution": square, "data.enable_bucket": True}, f"{square}² is as many pixels; shapes vary")


def bucket_sides(_: Any, options: Options) -> Result:
    """The longest shape by the shortest, from both limits and the area."""
    if not truth(options.get("enable_bucket", False)):
        return Needless("there are no buckets in the file")
    side = resolution(options.get("resolution") or options.get("max_resolution") or 512, {})
    area = (side.keys["data.resolution"] if isinstance(side, Put) else 512) ** 2
    least, most = (whole(options.get(name) or usual) for name, usual in BUCKETS.items())
    longest = min(most, area / max(1, least))
    aspect = min(10.0, max(1.0, round(longest * longest / area, 2)))
    return Put({"data.maximum_bucket_aspect": aspect}, "the longest shape by the shortest that both limits allow")


BUCKETS = {"min_bucket_reso": 256, "max_bucket_reso": 1024}


def steps(value: Any, options: Options) -> Result:
    """The steps, where the file has no epochs."""
    if not off(options.get("max_train_epochs")):
        return Needless("max_train_epochs is heard before it, there as here")
    return Needless("it is off in the file") if off(value) else Put({"train.max_train_steps": whole(value)})


def clip_skip(value: Any, _: Options) -> Result:
    """The text encoder's layers that are left out: training reads all of them."""
    if off(value) or whole(value) <= 1:
        return Needless("1 is the last layer, which bespoke reads, too")
    why = f"bespoke trains on the text encoder's last layer; sample.clip_skip = {whole(value) - 1} draws by an earlier"
    return Left(f"{why} one, for bases that want it")


def save_parts(value: Any, options: Options) -> Result:
    """How many files a run leaves, as epochs between two of them."""
    epochs = options.get("max_train_epochs")
    if off(value) or off(epochs):
        return left("set train.save_every_n_epochs; by default ten copies stay")(value, options)
    return Put({"train.save_every_n_epochs": max(1, whole(epochs) // whole(value))}, "the epochs between two copies")


def log_with(value: Any, _: Options) -> Result:
    """Where figures go."""
    chosen = text(value).lower()
    if off(value):
        return Needless("figures are kept in any case")
    return Put({"track.tensorboard": chosen in ("tensorboard", "all"), "track.wandb": chosen in ("wandb", "all")})


def tags(value: Any, options: Options) -> Result:
    """Captions in other orders."""
    kept = options.get("keep_tokens") or 0
    return Put({**ORDERS, "augment.keep_first": whole(kept)}, ORDERED) if truth(value) else Needless("it is off")


def separator(value: Any, _: Options) -> Result:
    """What divides tags."""
    return Needless("commas divide tags here, too") if text(value).strip() == "," else Left("only commas divide tags")


def extension(value: Any, _: Options) -> Result:
    """The ending of caption files."""
    known = text(value) in (".txt", ".caption", ".json", ".yaml", ".yml")
    return (
        Needless(READ) if known or off(value) else Left("rename them to .txt: captions of other endings are not seen")
    )


def pictures(*, regularisation: bool = False) -> Convert:
    """A folder of folders such as `10_cat`."""
    why = "folders such as 10_cat say how often their pictures count"

    def convert(value: Any, options: Options) -> Result:
        if off(value):
            return Needless("it is empty")
        repeats = whole(options.get("dataset_repeats") or 1)
        return Pictures(Source(text(value), float(repeats), regularisation=regularisation), why)

    return convert


def regular(options: Options) -> bool:
    """Whether there are pictures that are not the subject."""
    subsets = (value for name, value in options.items() if name.endswith(".is_reg"))
    return not off(options.get("reg_data_dir")) or any(map(truth, subsets))


def token(value: Any, options: Options) -> Result:
    """The word of a textual inversion."""
    rows, word = whole(options.get("num_vectors_per_token") or options.get("num_vectors") or 1), bare(value)
    terms: dict[str, Any] = {"terms.triggers": [word], "terms.rows": {word: rows}}
    keys = {"model.method": "words", "words.file": "words/words.safetensors", "words.terms": "terms.toml"}
    return Put({**keys, "text.trigger": word, **terms}, "make the word's rows first: bespoke words build")


def bare(value: Any) -> str:
    """A word without the brackets that others put around it."""
    return text(value).strip("<> ")


def first_word(value: Any, options: Options) -> Result:
    """What the new word means to begin with."""
    word = options.get("token_string") or options.get("placeholder_token")
    if off(value) or off(word):
        return Needless("there is no new word")
    return Put({"terms.glosses": {bare(word): text(value)}}, "its meaning, of which its rows are made, in terms.toml")


DATA: Table = {
    "train_data_dir": pictures(), "reg_data_dir": pictures(regularisation=True),
    "in_json": left("kohya's JSON of captions is not read; write them beside the pictures as .txt, or as metadata.csv"),
    "dataset_repeats": needless("it counts with the pictures"),
    "conditioning_data_dir": left("masks are found in a folder masks in or beside the pictures' folder: name it so"),
    "masked_loss": when_true(SUBJECT, "only what masks cover is learnt"),
    "alpha_mask": when_true(SUBJECT, "a picture's transparency is its mask"),
    **every("resolution", resolution), "enable_bucket": to("data.enable_bucket", truth),
    **every("min_bucket_reso max_bucket_reso", bucket_sides),
    "bucket_reso_steps": needless("shapes go by what the base's autoencoder can encode"),
    "bucket_no_upscale": lambda value, _: Put({"data.upscale": not truth(value)}),
    "resize_interpolation": one_of(
        "data.image_interpolation_mode", {"lanczos": "lanczos", "bicubic": "bicubic", "cubic": "bicubic"},
        "pictures are resized by Lanczos or bicubic filters only"),
    "flip_aug": when_true({"data.random_flip": True}, "but not where captions name left, right or writing"),
    "random_crop": when_true({"data.crop": "random"}),
    "color_aug": when_true({"data.hue_jitter": 0.04, "data.color_jitter": 0.05}, "about as weak as there"),
    "face_crop_aug_range": left('data.crop = "saliency" keeps what stands out most'),
    "shuffle_caption": tags, "keep_tokens": needless("it counts with shuffle_caption"),
    "caption_dropout_rate": to("text.proportion_empty_prompts"),
    "caption_dropout_every_n_epochs": left("text.proportion_empty_prompts spreads empty captions over all epochs"),
    "caption_tag_dropout_rate": left("augment.drop leaves out only words that say nothing of the picture"),
    **every("caption_extension caption_extention", extension), "caption_separator": separator,
    **every("caption_prefix caption_suffix", left("put it into the captions, in train/metadata.csv of the dataset")),
    **every("keep_tokens_separator secondary_separator", left("captions have no such marks here; commas divide tags")),
    "enable_wildcard": left("write other wordings into columns of captions.csv and name these in augment.captions"),
    **every("token_warmup_min token_warmup_step", lambda _, options: left(
        "captions are whole from the first step on")(options.get("token_warmup_step"), options)),
    "weighted_captions": lambda value, _: Put({"text.brackets": "weights" if truth(value) else "letters"}),
    "max_token_length": needless("captions of any length are read, in windows of 75 tokens"),
    "no_token_padding": left("captions are padded, as the base was trained"),
    "dataset_class": left("bespoke data import reads folders, archives, shards, tables and hub sets"),
    "debug_dataset": needless("bespoke data augment --preview shows what training sees"),
    **every("cache_latents cache_latents_to_disk vae_batch_size skip_cache_check cache_info", needless(
        "pictures are encoded once and kept, by their content")),
    **every("cache_text_encoder_outputs cache_text_encoder_outputs_to_disk text_encoder_batch_size", needless(
        "captions are encoded once and kept")),
    **every("max_data_loader_n_workers persistent_data_loader_workers", needless("pictures come from the cache")),
    "custom_attributes": left("columns of train/metadata.csv say more about pictures"),
}  # fmt: skip
"""Options about pictures and captions, most of which a dataset's own file may hold, too."""

NOISE: Table = {
    "min_snr_gamma": above_zero("train.snr_gamma"),
    "debiased_estimation_loss": when_true({"train.debiased_estimation": True}),
    **every("scale_v_pred_loss_like_noise_pred v_pred_like_loss", left(
        "train.snr_gamma and train.debiased_estimation weigh the loss here, v's as well")),
    "noise_offset": above_zero("train.noise_offset"),
    **every("noise_offset_random_strength ip_noise_gamma_random_strength", left("its strength is the same each time")),
    "adaptive_noise_scale": left("train.noise_offset is the same for all pictures"),
    "multires_noise_iterations": above_zero("train.multires_noise_iterations", whole),
    "multires_noise_discount": lambda value, options: Needless("there is no multires noise in the file") if off(
        options.get("multires_noise_iterations")) else Put({"train.multires_noise_discount": number(value)}),
    "ip_noise_gamma": above_zero("train.input_perturbation"),
    "zero_terminal_snr": when_true({"train.rescale_betas_zero_snr": True}),
    "min_timestep": above_zero("train.min_timestep", whole), "max_timestep": above_zero("train.max_timestep", whole),
    "loss_type": one_of("train.loss_type", {"l2": "l2", "huber": "huber", "smooth_l1": "smooth_l1"},
                        'train.loss_type = "smooth_l1" is nearest to it'),
    "huber_schedule": to("train.huber_schedule", text), "huber_c": above_zero("train.huber_c"),
    "huber_scale": lambda value, _: Needless("it is 1") if number(value) == 1 else Left("the learning rate does that"),
}  # fmt: skip

RUN: Table = {
    "pretrained_model_name_or_path": base,
    **every("v2 v_parameterization", needless("the base's own configuration says it")),
    "vae": left("the base's own autoencoder is used; put another into the base's folder"),
    **every("tokenizer_cache_dir disable_mmap_load_safetensors lowram highvram", needless("bespoke sees to it")),
    **every("xformers sdpa mem_eff_attn diffusers_xformers", needless("attention is PyTorch's own fused kernel")),
    **every("torch_compile dynamo_backend", needless("bespoke has its own fast path")),
    "train_batch_size": to("train.train_batch_size", whole),
    "gradient_accumulation_steps": to("train.gradient_accumulation_steps", whole),
    "max_train_epochs": above_zero("train.num_train_epochs", whole), "max_train_steps": steps,
    "seed": above_zero("train.seed", whole), "mixed_precision": to("train.mixed_precision", text),
    "gradient_checkpointing": to("train.gradient_checkpointing", truth),
    **every("cpu_offload_checkpointing fused_backward_pass fused_optimizer_groups blocks_to_swap", left(
        "bespoke train --fit 12GB chooses what saves memory here")),
    **every("full_fp16 full_bf16", left("trained weights are 32 bits here: small updates vanish in 16")),
    **every("fp8_base fp8_base_unet", when_true({"model.quantization": "fp8"})),
    "no_half_vae": needless("the autoencoder encodes exactly, and once"), "clip_skip": clip_skip,
    **every("deepspeed zero_stage offload_optimizer_device offload_optimizer_nvme_path offload_param_device "
            "offload_param_nvme_path zero3_init_flag zero3_save_16bit_model fp16_master_weights_and_gradients", left(
                'train.sharding = "full" under accelerate launch or torchrun shares the weights out')),
    **every("ddp_timeout ddp_gradient_as_bucket_view ddp_static_graph", needless("bespoke sees to it")),
    "prior_loss_weight": lambda value, options: Put({"train.prior_loss_weight": number(value)}) if regular(
        options) else Needless("there is no regularisation set"),
    "save_every_n_epochs": above_zero("train.save_every_n_epochs", whole), "save_n_epoch_ratio": save_parts,
    "save_every_n_steps": above_zero("train.checkpointing_steps", whole,
                                     "a state of each stays for a while, which RUN@step-N names"),
    "save_last_n_steps_state": left("train.checkpoints_total_limit says how many states are kept"),
    **every("save_last_n_epochs save_last_n_epochs_state save_last_n_steps", left(
        "copies of the weights are kept; delete those you do not want")),
    **every("save_state save_state_on_train_end", needless("each checkpoint can be resumed exactly")),
    **every("resume skip_until_initial_step initial_epoch initial_step resume_from_huggingface", left(
        "a training begun elsewhere cannot be resumed; model.adapter_file begins with its adapter")),
    **every("output_dir logging_dir log_prefix", needless("each run has its folder in runs/")),
    "output_name": needless("bespoke models export gives files their names"),
    "log_with": log_with, "log_tracker_name": to("track.experiment", text),
    **every("wandb_run_name log_tracker_config log_config", needless("each run's settings and figures are kept")),
    "wandb_api_key": left("wandb login, or WANDB_API_KEY, keeps it out of files"),
    **every("console_log_level console_log_file console_log_simple", needless("what is told is told")),
    **every("save_precision save_model_as use_safetensors", needless(
        "adapters are 32-bit safetensors; bespoke models export writes other forms")),
    **every("huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token async_upload "
            "huggingface_repo_visibility save_state_to_huggingface", left("bespoke does not upload to the hub")),
    "metadata_trigger_phrase": above_zero("text.trigger", text),
    **every("metadata_title metadata_author metadata_description metadata_license metadata_tags metadata_usage_hint "
            "metadata_thumbnail metadata_merged_from metadata_preprocessor metadata_is_negative_embedding "
            "training_comment", left("a run's passport and model card are written from its own facts")),
    "no_metadata": left("bespoke always says in an adapter how it was made"),
    **every("config_file output_config", needless("the recipe is in its place")),
    "dataset_config": needless("its own options are listed with it"),
    "sample_every_n_epochs": epochs_to("sample.sample_every_n_steps"),
    "sample_every_n_steps": above_zero("sample.sample_every_n_steps", whole),
    "sample_at_first": needless("the first column of a run's pictures is the base's"),
    "sample_prompts": prompts, "sample_sampler": drawn_with,
    "validation_split": above_zero("data.validation_fraction"),
    "validation_seed": above_zero("validation.seed", whole),
    "validate_every_n_steps": above_zero("validation.validation_steps", whole),
    "validate_every_n_epochs": epochs_to("validation.validation_steps"),
    "max_validation_steps": above_zero("validation.max_items", whole, "pictures here, batches there"),
    "token_string": token, "init_word": first_word, "num_vectors_per_token": needless("it counts with the new word"),
    "weights": left("a textual inversion to begin with is not read; bespoke words build makes the rows"),
    **every("use_object_template use_style_template", left("bespoke data caption writes captions")),
    **every("weighting_scheme mode_scale", left("train.timestep_sampling and its mean and width choose timesteps")),
    "logit_mean": to("train.logit_mean"), "logit_std": to("train.logit_std"),
}  # fmt: skip

TABLE: Table = {**NETWORK_ROWS, **RATES, **DATA, **NOISE, **RUN}
DEFAULTS: Options = {
    "train_batch_size": 1, "max_train_steps": 1600, "learning_rate": 2e-6, "lr_scheduler": "constant",
    "lr_warmup_steps": 0, "optimizer_type": "AdamW", "resolution": 512, "enable_bucket": False,
    "bucket_no_upscale": False, "caption_dropout_rate": 0.0, "weighted_captions": False, "prior_loss_weight": 1.0,
    "multires_noise_discount": 0.3,
}  # fmt: skip
"""Source: the parsers' defaults."""
ALSO = (
    ("train.adam_beta2", 0.999, "AdamW's default there"),
    ("train.num_class_images", 0, "there the base draws no plain pictures to keep it as it is"),
    ("validation.early_stopping", False, "there training goes on to its last step"),
)


def peer(options: Options, script: str = "") -> Peer:
    """sd-scripts, as the script does that a command calls or, in a file of settings, that its options belong to."""
    method = method_of(options, script)
    known = Peer(NAME, TABLE, DEFAULTS, ALSO, (("optimizer_args.", left("the optimizer's own default is used")),))
    if method == "network":
        more: dict[str, Any] = {"network_module": "networks.lora", "network_dim": 4, "network_alpha": 1}
        return replace(known, defaults={**DEFAULTS, **more, "network_train_unet_only": False})
    if method == "words":
        return known
    full = ("model.method", "full", "train_db.py and fine_tune.py train whole models")
    text_encoder = (
        "train.train_text_encoder", method == "dreambooth", "train_db.py trains it, fine_tune.py only if asked"
    )  # fmt: skip
    return replace(known, also=(full, text_encoder, *ALSO))


def spread(options: Options) -> dict[str, Any]:
    """The options with each of `network_args`, `optimizer_args` and `lr_scheduler_args` as one of its own."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        found[name] = value
        if name in ("network_args", "optimizer_args") and not off(value):
            found |= {f"{name}.{key}": inner for key, inner in pairs(value).items()}
    return found
