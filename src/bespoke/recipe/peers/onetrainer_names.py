"""OneTrainer's options of which it has many alike, and those of parts that Stable Diffusion does not have.

Source: Nerogar/OneTrainer (23df383), modules/util/config.
"""

from typing import Any

from bespoke.recipe.peers.table import Left, Needless, Options, Result, Table
from bespoke.recipe.peers.values import every, left, needless, truth

SEEN_TO = needless("bespoke sees to it")
OPTIMIZER = (
    "optimizer adam_w_mode alpha amsgrad beta1 beta2 beta3 bias_correction block_wise capturable centered "
    "clip_threshold d0 d_coef dampening decay_rate decouple differentiable eps eps2 foreach fsdp_in_use fused "
    "fused_back_pass growth_rate initial_accumulator_value initial_accumulator is_paged log_every lr_decay "
    "max_unorm maximize min_8bit_size quant_block_size momentum nesterov no_prox optim_bits percentile_clipping r "
    "relative_step safeguard_warmup scale_parameter stochastic_rounding use_bias_correction use_triton warmup_init "
    "weight_decay weight_lr_power decoupled_decay fixed_decay rectify degenerated_to_sgd k xi n_sma_threshold "
    "ams_bound adanorm adam_debias slice_p cautious weight_decay_by_lr prodigy_steps use_speed split_groups "
    "split_groups_mean factored factored_fp32 use_stableadamw use_cautious use_grams use_adopt d_limiter "
    "use_schedulefree use_orthograd nnmf_factor orthogonal_gradient use_atan2 use_AdEMAMix beta3_ema alpha_grad "
    "beta1_warmup min_beta1 Simplified_AdEMAMix kourkoutas_beta schedulefree_c ns_steps MuonWithAuxAdam "
    "muon_hidden_layers muon_adam_regex muon_adam_lr muon_te1_adam_lr muon_te2_adam_lr muon_adam_config "
    "rms_rescaling normuon_variant beta2_normuon low_rank_ortho ortho_rank accelerated_ns cautious_wd approx_mars "
    "auto_kappa_p compile "
)
PARTS = (
    "unet prior transformer unconditional_transformer text_encoder text_encoder_2 text_encoder_3 text_encoder_4 vae "
    "effnet_encoder decoder decoder_text_encoder decoder_vqgan"
)
PART_FIELDS = (
    "model_name include train stop_training_after stop_training_after_unit learning_rate weight_dtype "
    "dropout_probability train_embedding attention_mask guidance_scale gradient_checkpointing offload_fraction "
    "activation_offloading"
)
EMBEDDING = "uuid model_name train stop_training_after stop_training_after_unit token_count is_output_embedding"
QUANTIZATION = "layer_filter layer_filter_preset layer_filter_regex svd_dtype svd_rank cache_dir"
CLOUD = (
    "enabled type file_sync create name tensorboard_tunnel sub_type gpu_type volume_size min_download remote_dir "
    "huggingface_cache_dir onetrainer_dir install_cmd install_onetrainer update_onetrainer detach_trainer run_id "
    "download_samples download_output_model download_saves download_backups download_tensorboard delete_workspace "
    "on_finish on_error on_detached_finish on_detached_error"
)
CLOUD_SECRETS = "api_key id host port user key_file password"


def under(before: str, names: str) -> str:
    """The names with the name of the table that they lie in."""
    return " ".join(f"{before}.{name}" for name in names.split())


ON = "stochastic_rounding weight_decay_by_lr split_groups split_groups_mean factored factored_fp32 use_stableadamw "
ON_TOO = "d_limiter use_schedulefree rms_rescaling fused"
"""What optimizers that have them do there by default."""


def usual(value: Any, _: Options) -> Result:
    """A setting of optimizers that is on unless somebody switched it off."""
    return Needless("it is the default there") if truth(value) else Left("the optimizer's own default is used")


GENERIC: Table = {
    **every(under("optimizer", OPTIMIZER), left("the optimizer's own default is used")),
    **every(under("optimizer", ON + ON_TOO), usual),
    **{name: row for part in PARTS.split() for name, row in every(under(part, PART_FIELDS), SEEN_TO).items()},
    **every(under("embedding", EMBEDDING), needless("it counts with the new word")),
    **every(under("quantization", QUANTIZATION), SEEN_TO),
    **every(under("cloud", CLOUD), needless("bespoke trains where it is started; docs/scale.md tells of clusters")),
    **every(under("secrets.cloud", CLOUD_SECRETS), needless("no cloud is asked")),
    "secrets.huggingface_token": left("hf auth login, or HF_TOKEN, keeps it out of files"),
    **every("secrets cloud secrets.cloud", needless("they are empty")),
}  # fmt: skip
"""Rows of which single ones are written anew in onetrainer.py."""
