"""OneTrainer's concepts, which are folders of pictures with settings of their own, and its samples.

Source: Nerogar/OneTrainer (23df383), modules/util/config/ConceptConfig.py and SampleConfig.py.
"""

from collections.abc import Mapping
from typing import Any, cast

from bespoke.recipe.peers.kohya import ORDERED, ORDERS, READ
from bespoke.recipe.peers.table import Convert, Left, Needless, Options, Pictures, Put, Result, Source, Table
from bespoke.recipe.peers.values import above_zero, every, left, needless, number, off, text, to, truth, whole

SAMPLERS = {
    "DDIM": "ddim", "EULER": "euler", "EULER_A": "euler_a", "DPMPP": "dpm++_2m", "DPMPP_SDE": "dpm++_2m_sde",
    "UNIPC": "unipc", "EULER_KARRAS": "euler_karras", "DPMPP_KARRAS": "dpm++_2m_karras",
    "DPMPP_SDE_KARRAS": "dpm++_2m_sde_karras", "UNIPC_KARRAS": "unipc_karras",
}  # fmt: skip


def _path(value: Any, concept: Options) -> Result:
    if off(value):
        return Needless("it is empty")
    kind = text(concept.get("type", "STANDARD")).upper()
    if kind == "VALIDATION":
        return Left("bespoke data import makes a dataset of it, which validation.sets names")
    repeats = number(concept.get("balancing", 1.0))
    if text(concept.get("balancing_strategy", "REPEATS")).upper() != "REPEATS":
        repeats = 1.0
    return Pictures(Source(text(value), repeats, regularisation=kind == "PRIOR_PREDICTION"))


def _kind(value: Any, _: Options) -> Result:
    if text(value).upper() == "PRIOR_PREDICTION":
        return Put({"train.regularisation_target": "base"})
    return Needless("it counts with the path")


def _balance(value: Any, _: Options) -> Result:
    repeats = text(value).upper() == "REPEATS"
    return Needless("it counts with the path") if repeats else Left("pictures count by repeats; bespoke data balance")


def _captions(value: Any, _: Options) -> Result:
    if text(value) == "filename":
        return Put({"data.file_name_captions": True}, "a name up to its first underscore")
    return Needless(READ) if text(value) == "sample" else Left("write its captions beside the pictures, as .txt")


def _tags(value: Any, concept: Options) -> Result:
    kept = whole(concept.get("text.keep_tags_count", 1))
    return Put({**ORDERS, "augment.keep_first": kept}, ORDERED) if truth(value) else Needless("it is off in the file")


def _random(switch: str, key: str, most: float, scale: float = 1.0) -> Convert:
    """The most that a picture is changed at random, where a switch is on."""

    def convert(value: Any, concept: Options) -> Result:
        if not truth(concept.get(switch, False)) or off(value):
            return Needless("it is off in the file")
        found = min(most, number(value) * scale)
        return Put({key: found}, "the most that bespoke does" if found < number(value) * scale else "")

    return convert


FIXED = left("pictures are changed at random only, or before they are imported")
COLOURS = "image.random_brightness_max_strength image.random_contrast_max_strength image.random_saturation_max_strength"
CONCEPT: Table = {
    "path": _path, "type": _kind, "balancing": needless("it counts with the path"), "balancing_strategy": _balance,
    "include_subdirectories": lambda value, _: Needless("they are read in any case") if truth(value) else Needless(
        "folders within are read, too: take out what you do not want"),
    "image_variations": to("data.image_variations", whole),
    "loss_weight": lambda value, _: Needless("it is 1") if number(value) == 1 else Left(
        "the column weight of train/metadata.csv says what a picture's loss counts for"),
    "text_variations": needless("wordings are made once and kept"),
    "image.enable_crop_jitter": lambda value, _: Put({"data.crop": "random" if truth(value) else "center"}),
    "image.enable_random_flip": lambda value, _: Put({"data.random_flip": truth(value)},
                                                     "but not where captions name left, right or writing"),
    "image.random_rotate_max_angle": _random("image.enable_random_rotate", "data.random_rotation", 45.0),
    **{name: _random(name.replace("random", "enable_random").replace("_max_strength", ""), "data.color_jitter", 0.99)
       for name in COLOURS.split()},
    "image.random_hue_max_strength": _random("image.enable_random_hue", "data.hue_jitter", 0.5),
    **every("image.enable_fixed_flip image.enable_fixed_rotate image.enable_fixed_brightness "
            "image.enable_fixed_contrast image.enable_fixed_saturation image.enable_fixed_hue", FIXED),
    **every("image.enable_random_rotate image.enable_random_brightness image.enable_random_contrast "
            "image.enable_random_saturation image.enable_random_hue", needless("it counts with its strength")),
    "image.enable_resolution_override": left("all pictures have one resolution; import a second project for another"),
    "image.resolution_override": needless("it counts with enable_resolution_override"),
    **every("image.enable_random_circular_mask_shrink image.enable_random_mask_rotate_crop", left(
        "masks are used as they are")),
    "text.prompt_source": _captions, "text.prompt_path": needless("it counts with prompt_source"),
    "text.enable_tag_shuffling": _tags, "text.keep_tags_count": needless("it counts with enable_tag_shuffling"),
    "text.tag_delimiter": lambda value, _: Needless("commas divide tags here, too") if text(value).strip() in (
        ",", "") else Left("only commas divide tags"),
    "text.tag_dropout_enable": left("augment.drop leaves out only words that say nothing of the picture"),
    **every("text.tag_dropout_mode text.tag_dropout_probability text.tag_dropout_special_tags_mode "
            "text.tag_dropout_special_tags text.tag_dropout_special_tags_regex", needless(
                "it counts with tag_dropout_enable")),
    "text.caps_randomize_enable": left("capitals are the same to CLIP"),
    **every("text.caps_randomize_mode text.caps_randomize_probability text.caps_randomize_lowercase", needless(
        "capitals are the same to CLIP")),
    **every("name seed enabled concept_stats", needless("bespoke sees to it")),
}  # fmt: skip
SAMPLE: Table = {
    "negative_prompt": above_zero("sample.negative_prompt", text), "width": to("sample.width", whole),
    "height": to("sample.height", whole), "seed": to("sample.seed", whole),
    "diffusion_steps": to("sample.num_inference_steps", whole), "cfg_scale": to("sample.guidance_scale"),
    "noise_scheduler": lambda value, _: Put({"sample.scheduler": SAMPLERS[text(value).upper()]}),
    **every("frames length random_seed enabled text_encoder_1_layer_skip text_encoder_1_sequence_length "
            "text_encoder_2_layer_skip text_encoder_2_sequence_length text_encoder_3_layer_skip "
            "text_encoder_4_layer_skip transformer_attention_mask force_last_timestep", needless("bespoke sees to it")),
    **every("sample_inpainting base_image_path mask_image_path", left("pictures are drawn from words while training")),
}  # fmt: skip
FOLDED = ("text.keep_tags_count", "image.resolution_override")
"""Options that count with another's row."""
OFF = needless("it is switched off")


def concept_rows(concepts: object) -> dict[str, Convert]:
    """What becomes of each option of each concept; where they differ, the first that is on is heard."""
    found: dict[str, Convert] = {}
    flat = [_flat(item) for item in _tables(concepts)]
    on = [truth(item.get("enabled", True)) for item in flat]
    main = next((item for item, used in zip(flat, on, strict=True) if used), {})
    for number_, item in enumerate(flat):
        for name in item:
            row = _of_concept(name, item, main) if on[number_] else OFF
            if row is not None:
                found[f"concepts[{number_}].{name}"] = row
    return found


def sample_rows(samples: object) -> dict[str, Convert]:
    """What becomes of each option of each sample: all prompts are drawn with the settings of the first."""
    found: dict[str, Convert] = {}
    tables = [dict(item) for item in _tables(samples)]
    on = [item for item in tables if truth(item.get("enabled", True)) and not off(item.get("prompt"))]
    wanted = [text(item["prompt"]) for item in on]
    for number_, item in enumerate(tables):
        for name, value in item.items():
            row: Convert | None = SAMPLE.get(name)
            if item not in on:
                row = OFF
            elif name == "prompt":
                row = _prompts(wanted)
            elif row is not None and on[0].get(name) != value:
                row = needless("all prompts are drawn with the settings of the first")
            if row is not None:
                found[f"samples[{number_}].{name}"] = row
    return found


def _prompts(wanted: list[str]) -> Convert:
    return lambda _value, _options: Put({"sample.prompts": wanted})


def _of_concept(name: str, item: Options, main: Options) -> Convert | None:
    row = CONCEPT.get(name)
    if row is None:
        return None

    def convert(value: Any, _: Options) -> Result:
        found = row(value, item)
        if (isinstance(found, Put) or name in FOLDED) and name != "type" and main.get(name) != value:
            return Left(f"it is one for all here: {main.get(name)}, as of the first concept")
        return found

    return convert


def _tables(content: object) -> list[Mapping[str, Any]]:
    if not isinstance(content, list):
        return []
    return [cast(Mapping[str, Any], item) for item in cast(list[object], content) if isinstance(item, Mapping)]


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    """A concept's options, those about pictures and captions with `image.` and `text.` before them."""
    found: dict[str, Any] = {}
    for name, value in item.items():
        if name in ("image", "text") and isinstance(value, Mapping):
            found |= {f"{name}.{inner}": said for inner, said in cast(Mapping[str, Any], value).items()}
        else:
            found[name] = value
    return found
