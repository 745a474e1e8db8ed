"""What OneTrainer's values mean, where that is more than another name.

Source: Nerogar/OneTrainer (23df383), modules/util/create.py for rates and warm-up, modules/modelSetup/mixin for noise,
timesteps and losses.
"""

from typing import Any

from bespoke.recipe.peers.kohya import first_word
from bespoke.recipe.peers.kohya_networks import LINEAR
from bespoke.recipe.peers.table import Convert, Epochs, Left, Needless, Options, Part, Put, Result
from bespoke.recipe.peers.values import left, needless, number, off, text, truth, whole

OPTIMIZERS: dict[str, tuple[str, str]] = {
    "ADAMW": ("adamw", ""), "ADAM": ("adamw", "AdamW's decay is apart from the gradient"),
    "ADAMW_8BIT": ("adamw8bit", ""), "ADAM_8BIT": ("adamw8bit", "AdamW's decay is apart from the gradient"),
    "ADAMW_ADV": ("adamw", "without its additions"), "LION": ("lion", ""), "LION_8BIT": ("lion", "in 32 bits"),
    "LION_ADV": ("lion", "without its additions"), "PRODIGY": ("prodigy", ""),
    "PRODIGY_ADV": ("prodigy", "without its additions"), "ADAFACTOR": ("adafactor", ""),
    "SCHEDULE_FREE_ADAMW": ("schedule_free", ""),
    "PRODIGY_PLUS_SCHEDULE_FREE": ("prodigy", "without its schedule-free averages"),
    "DADAPT_ADAM": ("prodigy", "which finds its rate, too"), "DADAPT_ADAN": ("prodigy", "which finds its rate, too"),
    "DADAPT_LION": ("prodigy", "which finds its rate, too"), "DADAPT_SGD": ("prodigy", "which finds its rate, too"),
    "DADAPT_ADA_GRAD": ("prodigy", "which finds its rate, too"),
}  # fmt: skip
SCHEDULES = {
    "CONSTANT": ("constant", ""), "LINEAR": ("linear", ""), "COSINE": ("cosine", ""),
    "COSINE_WITH_RESTARTS": ("cosine_with_restarts", "it falls to nothing and begins again at once here"),
    "COSINE_WITH_HARD_RESTARTS": ("cosine_with_restarts", ""),
    "ADAFACTOR": ("constant", "Adafactor's own schedule is not had here"),
}  # fmt: skip
PRESETS = {"full": ["all-linear", "convolutions"], "attn-mlp": LINEAR, "attn-only": ["attention"]}
"""Which layers an adapter sits on. Source: modules/modelSetup/BaseStableDiffusionSetup.py."""


def method(value: Any, options: Options) -> Result:
    """What is trained, and for adapters which kind."""
    chosen = text(value).upper()
    if chosen == "LORA":
        kinds = {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr", "OFT_2": "oft"}
        kind_ = kinds.get(text(options.get("peft_type", "LORA")).upper(), "lora")
        return Put({"model.method": "dora" if kind_ == "lora" and truth(options.get("lora_decompose", 0)) else kind_})
    if chosen == "EMBEDDING":
        return Put({"model.method": "words", "words.file": "words/words.safetensors", "words.terms": "terms.toml"},
                   "make the word's rows first: bespoke words build")  # fmt: skip
    return Put({"model.method": "full"}) if chosen == "FINE_TUNE" else Left("autoencoders are not trained here")


def adapter(key: str, kinds: str) -> Convert:
    """A setting that counts for adapters of some kinds only."""

    def convert(value: Any, options: Options) -> Result:
        trained = text(options.get("training_method", "FINE_TUNE")).upper() == "LORA"
        if not trained or text(options.get("peft_type", "LORA")).upper() not in kinds.split():
            return Needless("it is for another kind of adapter")
        return Put({key: truth(value) if isinstance(value, bool) else whole(value)})

    return convert


def alpha(value: Any, options: Options) -> Result:
    """The alpha, of which ours is whole."""
    near = max(1, round(number(value)))
    found = adapter("model.alpha", "LORA LOHA LOKR")(near, options)
    changed = near != number(value) and isinstance(found, Put)
    return Put({"model.alpha": near}, f"whole here; it was {number(value):g}") if changed else found


def layers(value: Any, options: Options) -> Result:
    """The layers that an adapter sits on."""
    if text(options.get("training_method", "")).upper() != "LORA":
        return Needless("all layers are trained")
    if text(value) not in PRESETS:
        return Left("model.targets names the layers")
    chosen = PRESETS[text(value)]
    turned = text(options.get("peft_type", "")).upper() == "OFT_2"
    return Put({"model.targets": [name for name in chosen if not (turned and name == "convolutions")]})


def micro(value: Any, options: Options) -> int:
    """A count of passes as steps: a step is one pass or, with accumulation, several."""
    return max(1, int(number(value) / max(1, whole(options.get("gradient_accumulation_steps") or 1))))


def warmup(value: Any, options: Options) -> Result:
    """The warm-up: above 1 passes, else a part of the steps."""
    found = number(value)
    if found <= 0:
        return Put({"train.lr_warmup_steps": 0})
    if found <= 1:
        return Put({"train.lr_warmup_steps": Part(found)})
    steps = micro(found, options)
    return Put({"train.lr_warmup_steps": steps}, "" if steps == found else "steps of the optimizer here, passes there")


def timed(name: str, steps_key: str, epochs_key: str = "") -> dict[str, Convert]:
    """The rows of a count and of its unit, `NAME_unit`."""

    def convert(value: Any, options: Options) -> Result:
        unit = text(options.get(f"{name}_unit", "NEVER")).upper()
        if unit == "NEVER" or off(value):
            return Needless("it is off in the file")
        if unit == "EPOCH":
            return Put({epochs_key: whole(value)} if epochs_key else {steps_key: Epochs(number(value))})
        if unit == "STEP":
            return Put({steps_key: micro(value, options)})
        return Left(f"{steps_key} counts steps, not time")

    return {name: convert, f"{name}_unit": needless(f"it counts with {name}")}


def resolution(value: Any, options: Options) -> Result:
    """One side, or several of which each picture takes one there."""
    sides = [part.strip() for part in text(value).split(",")]
    why = "" if len(sides) == 1 else "one for all pictures here, the largest"
    if any("x" in side for side in sides):
        return Left("shapes go by the pictures' own; set data.resolution")
    return Put({"data.resolution": max(map(int, sides))}, why)


def huber(value: Any, options: Options) -> Result:
    """Huber's loss, where it is the only one."""
    if off(value):
        return Needless("it is off in the file")
    others = (options.get(name, default) for name, default in LOSSES.items())
    if any(not off(other) for other in others):
        return Left("losses are not mixed here; train.loss_type chooses one")
    delta = min(1.0, number(options.get("huber_delta", 1.0)))
    keys = {"train.loss_type": "huber", "train.huber_c": delta, "train.huber_schedule": "constant"}
    return Put(keys, "pseudo-Huber here, as far as that from twice Huber's")


LOSSES = {"mse_strength": 1.0, "mae_strength": 0.0, "log_cosh_strength": 0.0}


def squares(value: Any, options: Options) -> Result:
    """How much squared errors count for."""
    if number(value) in (0.0, 1.0):
        return Needless("it is so here, too")
    return Left("the learning rate does that")


def weighting(value: Any, options: Options) -> Result:
    """How timesteps are weighed."""
    strength = number(options.get("loss_weight_strength", 5.0))
    known = {"CONSTANT": {}, "MIN_SNR_GAMMA": {"train.snr_gamma": strength}, "P2": {"train.p2_gamma": strength},
             "DEBIASED_ESTIMATION": {"train.debiased_estimation": True}}  # fmt: skip
    found = known.get(text(value).upper())
    if found is None:
        return Left("train.snr_gamma, soft_min_snr_gamma, debiased_estimation and p2_gamma weigh timesteps here")
    return Put(found) if found else Needless("all timesteps alike, as here")


def timesteps(value: Any, options: Options) -> Result:
    """How often which timestep comes."""
    chosen = text(value).upper()
    if chosen == "UNIFORM":
        return Put({"train.timestep_sampling": "uniform"})
    if chosen != "LOGIT_NORMAL":
        return Left("train.timestep_sampling, timestep_shift and timestep_bias choose timesteps here")
    mean, width = number(options.get("noising_bias", 0.0)), number(options.get("noising_weight", 0.0)) + 1.0
    return Put({"train.timestep_sampling": "logit_normal", "train.logit_mean": mean, "train.logit_std": width})


def strength(key: str, unset: float) -> Convert:
    """A part of all noise as a timestep of 1,000."""
    return lambda value, _: (
        Needless("all timesteps, as here")
        if number(value) == unset
        else Put({key: int(1000 * number(value))}, "as a timestep of 1,000")
    )


def averaged(value: Any, _: Options) -> Result:
    """A running average of the weights."""
    return Put({"train.use_ema": text(value).upper() != "OFF"})


def with_average(key: str) -> Convert:
    """What only counts with a running average."""
    return lambda value, options: (
        Needless("there is no running average")
        if text(options.get("ema", "OFF")).upper() == "OFF"
        else Put({key: number(value)})
    )


def weights(value: Any, options: Options) -> Result:
    """The number format of the UNet's weights."""
    chosen = text(value).upper()
    if text(options.get("training_method", "FINE_TUNE")).upper() != "LORA":
        return (
            Needless("trained weights are 32 bits here")
            if chosen.startswith(("FLOAT_32", "TFLOAT"))
            else Left("trained weights are 32 bits here: small updates vanish in 16")
        )
    forms = {"FLOAT_16": "fp16", "BFLOAT_16": "bf16", "FLOAT_32": "fp32", "TFLOAT_32": "fp32"}
    if chosen in forms:
        return Put({"model.weight_dtype": forms[chosen]})
    if chosen == "FLOAT_8":
        return Put({"model.quantization": "fp8"})
    return Left('model.quantization = "int8" or "nf4" keeps frozen weights in 8 or 4 bits')


def trained(value: Any, options: Options) -> Result:
    """Whether the text encoder is trained."""
    if text(options.get("training_method", "FINE_TUNE")).upper() == "EMBEDDING":
        return Needless("only new words are trained")
    return Put({"train.train_text_encoder": truth(value)})


def text_rate(value: Any, options: Options) -> Result:
    """The text encoder's own rate."""
    if off(value) or not truth(options.get("text_encoder.train", True)):
        return Needless("it has none, or is not trained")
    return Put({"train.text_encoder_learning_rate": number(value)})


def skip(value: Any, options: Options) -> Result:
    """The text encoder's layers that are left out."""
    why = "bespoke trains on the text encoder's last layer; sample.clip_skip draws by an earlier one"
    return left(why)(value, options)


def placeholder(value: Any, options: Options) -> Result:
    """The new word."""
    if text(options.get("training_method", "")).upper() != "EMBEDDING":
        return Needless("no new word is trained")
    word, rows = text(value).strip("<> "), whole(options.get("embedding.token_count") or 1)
    return Put({"text.trigger": word, "terms.triggers": [word], "terms.rows": {word: rows}}, "in terms.toml")


def gloss(value: Any, options: Options) -> Result:
    """What the new word means to begin with."""
    if text(options.get("training_method", "")).upper() != "EMBEDDING" or text(value) == "*":
        return Needless("it says nothing here")
    return first_word(value, {"placeholder_token": options.get("embedding.placeholder")})


def optimizer(value: Any, _: Options) -> Result:
    """The optimizer."""
    if text(value).upper() not in OPTIMIZERS:
        return Left("bespoke has adamw, adamw8bit, adafactor, lion, prodigy, schedule_free; look at the rate, too")
    kind_, why = OPTIMIZERS[text(value).upper()]
    return Put({"train.optimizer": kind_}, why)


def schedule(value: Any, _: Options) -> Result:
    """How the rate goes."""
    if text(value).upper() not in SCHEDULES:
        return Left("train.lr_scheduler is cosine, linear, constant, cosine_with_restarts or polynomial")
    name, why = SCHEDULES[text(value).upper()]
    return Put({"train.lr_scheduler": name}, why)


def cycles(value: Any, options: Options) -> Result:
    """How often a schedule begins again."""
    again = "RESTARTS" in text(options.get("learning_rate_scheduler", "")).upper()
    return Put({"train.lr_num_cycles": max(1, round(number(value)))}) if again else Needless("it begins once")
