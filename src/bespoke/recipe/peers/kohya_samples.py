"""kohya's prompts for pictures drawn while training, and its names of the ways from noise to picture."""

import re
from typing import Any

from bespoke.recipe.peers.table import Left, Needless, Options, Put, Result
from bespoke.recipe.peers.values import number, off, one_of, whole

SAMPLERS = {
    "ddim": "ddim", "pndm": "pndm", "lms": "lms", "euler": "euler", "euler_a": "euler_a", "heun": "heun",
    "dpm_2": "dpm2", "dpm_2_a": "dpm2_a", "dpmsolver": "dpm++_2m", "dpmsolver++": "dpm++_2m", "dpmsingle": "dpm++_2s",
    "k_lms": "lms", "k_euler": "euler", "k_euler_a": "euler_a", "k_dpm_2": "dpm2", "k_dpm_2_a": "dpm2_a",
}  # fmt: skip
FLAGS = {
    "w": ("sample.width", whole), "h": ("sample.height", whole), "d": ("sample.seed", whole),
    "s": ("sample.num_inference_steps", whole), "l": ("sample.guidance_scale", number),
    "n": ("sample.negative_prompt", str),
}  # fmt: skip
"""What stands behind a prompt. Source: sd-scripts, library/train_util.py, line_to_prompt_dict."""
drawn_with = one_of("sample.scheduler", SAMPLERS, "sample.scheduler names the ways from noise to picture")


class Lines(list[str]):
    """The lines of a file that an option names, and its name."""

    def __init__(self, name: str, lines: list[str]) -> None:
        super().__init__(lines)
        self.name = name

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def prompts(value: Any, _: Options) -> Result:
    """The prompts in a file of them, with the settings of the first."""
    if off(value):
        return Needless("there are none")
    if not isinstance(value, Lines):
        return Left("the file is not there; put its prompts into sample.prompts")
    said = [_parts(line) for line in value if line.strip() and not line.lstrip().startswith("#")]
    if not said:
        return Left("the file has no prompts")
    keys: dict[str, Any] = {"sample.prompts": [prompt for prompt, _ in said]} | said[0][1]
    differ = any(settings != said[0][1] for _, settings in said)
    return Put(keys, "all are drawn with the settings of the first" if differ else "")


def _parts(line: str) -> tuple[str, dict[str, Any]]:
    prompt, *flags = line.strip().split(" --")
    found: dict[str, Any] = {}
    for flag in flags:
        name, _, value = flag.partition(" ")
        if name.lower() in FLAGS and re.fullmatch(r"[\d.]+" if name.lower() != "n" else r".+", value.strip()):
            key, read = FLAGS[name.lower()]
            found[key] = read(value.strip())
    return prompt.strip(), found
