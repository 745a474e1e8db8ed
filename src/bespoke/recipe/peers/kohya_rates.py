"""kohya's optimizers, rates and schedules.

Source: kohya-ss/sd-scripts, library/train_util.py, get_optimizer and get_scheduler_fix.
"""

from typing import Any

from bespoke.recipe.peers.table import Left, Needless, Options, Put, Result, Table
from bespoke.recipe.peers.values import (
    above_zero,
    count_or_part,
    every,
    left,
    needless,
    number,
    off,
    text,
    to,
    truth,
    whole,
)

SAME = {
    "adamw": "adamw", "adamw8bit": "adamw8bit", "lion": "lion", "prodigy": "prodigy", "adafactor": "adafactor",
    "adamwschedulefree": "schedule_free", "": "adamw",
}  # fmt: skip
NEAR = {
    "pagedadamw8bit": ("adamw8bit", "not paged; train.offload_optimizer spares the GPU's memory"),
    "pagedadamw": ("adamw", "not paged; train.offload_optimizer spares the GPU's memory"),
    "pagedadamw32bit": ("adamw", "not paged; train.offload_optimizer spares the GPU's memory"),
    "lion8bit": ("lion", "in 32 bits"), "pagedlion8bit": ("lion", "in 32 bits"),
    "radamschedulefree": ("schedule_free", "on AdamW"),
    "dadaptation": ("prodigy", "which finds its rate, too"), "dadaptadam": ("prodigy", "which finds its rate, too"),
    "dadaptadampreprint": ("prodigy", "which finds its rate, too"),
    "dadaptadan": ("prodigy", "which finds its rate, too"), "dadaptlion": ("prodigy", "which finds its rate, too"),
    "dadaptadagrad": ("prodigy", "which finds its rate, too"), "dadaptsgd": ("prodigy", "which finds its rate, too"),
    "dadaptadanip": ("prodigy", "which finds its rate, too"),
}  # fmt: skip
SCHEDULES: dict[str, tuple[dict[str, Any], str]] = {
    "linear": ({"train.lr_scheduler": "linear"}, ""),
    "cosine": ({"train.lr_scheduler": "cosine"}, ""),
    "cosine_with_restarts": ({"train.lr_scheduler": "cosine_with_restarts"}, ""),
    "polynomial": ({"train.lr_scheduler": "polynomial"}, ""),
    "constant": ({"train.lr_scheduler": "constant", "train.lr_warmup_steps": 0}, ""),
    "constant_with_warmup": ({"train.lr_scheduler": "constant"}, "constant has a warm-up here"),
    "cosine_with_min_lr": ({"train.lr_scheduler": "cosine"}, "it falls to nothing here"),
    "cosine_warmup_with_min_lr": ({"train.lr_scheduler": "cosine"}, "it falls to nothing here"),
    "adafactor": ({"train.lr_scheduler": "constant"}, "Adafactor's own schedule is not had here"),
}
"""`constant` has no warm-up there. Source: diffusers' and transformers' optimization.py."""


def optimizer(value: Any, _: Options) -> Result:
    """The optimizer, by its name or its class's."""
    name = text(value).rpartition(".")[2].lower()
    if name in SAME:
        return Put({"train.optimizer": SAME[name]})
    if name in NEAR:
        kind, why = NEAR[name]
        return Put({"train.optimizer": kind}, why)
    return Left("bespoke has adamw, adamw8bit, adafactor, lion, prodigy, schedule_free; look at the rate, too")


def schedule(value: Any, _: Options) -> Result:
    """How the rate goes, and whether it has a warm-up."""
    name = text(value).lower()
    if name not in SCHEDULES:
        return Left("train.lr_scheduler is cosine, linear, constant, cosine_with_restarts or polynomial")
    return Put(*SCHEDULES[name])


def warmup(value: Any, options: Options) -> Result:
    """The warm-up, as steps or a part of them; constant has none there."""
    if text(options.get("lr_scheduler") or "constant").lower() == "constant":
        return Put({"train.lr_warmup_steps": 0}, "" if off(value) else "constant has no warm-up there")
    return Put({"train.lr_warmup_steps": count_or_part(value)})


def general(value: Any, options: Options) -> Result:
    """The rate of all that has none of its own."""
    return Needless("it is off in the file") if off(value) else Put({"train.learning_rate": number(value)})


def text_rate(value: Any, options: Options) -> Result:
    """The text encoder's rate; none means that it is not trained."""
    several = value if isinstance(value, list) else str(value).replace(",", " ").split()
    rate = 0.0 if off(value) else number(several[0])
    if not rate:
        return Put({"train.train_text_encoder": False}, "at no rate it is not trained")
    if truth(options.get("network_train_unet_only", False)):
        return Needless("network_train_unet_only leaves it out")
    keys: dict[str, Any] = {"train.train_text_encoder": True, "train.text_encoder_learning_rate": rate}
    return Put(keys, "the first of several" if len(several) > 1 else "")


def rate_of_text(value: Any, options: Options) -> Result:
    """The text encoder's rate beside a whole model's."""
    trained = truth(options.get("train_text_encoder", True))
    return text_rate(value, {}) if trained else Needless("the text encoder is not trained")


def betas(value: Any, _: Options) -> Result:
    """Both of AdamW's memories."""
    first, second = map(float, text(value).strip("()[] ").split(","))
    return Put({"train.adam_beta1": first, "train.adam_beta2": second})


def stop_text(value: Any, options: Options) -> Result:
    """When the text encoder is no longer trained."""
    if str(value) in ("-1", "-1.0"):
        return Put({"train.train_text_encoder": False})
    return left("the text encoder is trained to the end, or not (train.train_text_encoder)")(value, options)


def scheduler_class(value: Any, options: Options) -> Result:
    """The schedule of a class of torch's."""
    name = CLASSES.get(text(value).rpartition(".")[2].lower())
    if name is None:
        return left("classes of one's own are not loaded; train.lr_scheduler has five shapes")(value, options)
    return Put({"train.lr_scheduler": name, "train.lr_warmup_steps": 0}, "over all steps, whatever its arguments say")


CLASSES = {"cosineannealinglr": "cosine", "cosineannealingwarmrestarts": "cosine_with_restarts"}
RATES: Table = {
    "lr_scheduler_type": scheduler_class,
    "optimizer_type": optimizer,
    "use_8bit_adam": lambda value, _: optimizer("adamw8bit", {}) if truth(value) else Needless("it is off"),
    "use_lion_optimizer": lambda value, _: optimizer("lion", {}) if truth(value) else Needless("it is off"),
    "optimizer_args": needless("each of them is listed"),
    "optimizer_args.weight_decay": to("train.adam_weight_decay"), "optimizer_args.betas": betas,
    "optimizer_args.eps": to("train.adam_epsilon"),
    "unet_lr": above_zero("train.learning_rate"), "learning_rate": general,
    "text_encoder_lr": text_rate, **every("learning_rate_te learning_rate_te1", rate_of_text),
    "learning_rate_te2": left("of two text encoders the first's rate is used"),
    "train_text_encoder": to("train.train_text_encoder", truth), "stop_text_encoder_training": stop_text,
    "max_grad_norm": lambda value, _: Put({"train.max_grad_norm": 1e9}, "so high that nothing is shortened") if off(
        value) else Put({"train.max_grad_norm": number(value)}),
    "lr_scheduler": schedule, "lr_warmup_steps": warmup,
    "lr_scheduler_args": left("classes of one's own are not loaded; train.lr_scheduler has five shapes"),
    "lr_scheduler_num_cycles": above_zero("train.lr_num_cycles", whole),
    "lr_scheduler_power": above_zero("train.lr_power"),
    "lr_decay_steps": left("the rate falls from the warm-up to the end"),
    "lr_scheduler_timescale": left("inverse_sqrt is not had here"),
    "lr_scheduler_min_lr_ratio": left("the rate falls to nothing"),
}  # fmt: skip
