"""Schedulers by the names that people know them by, with their classes in diffusers; nothing here loads torch."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bespoke.errors import BespokeError

OWN = "default"
"""The name of the scheduler that a model comes with."""
KARRAS = {"use_karras_sigmas": True}
BETA = {"use_beta_sigmas": True}
"""Steps that are dense at both ends. Source: Lee et al. 2024, "Beta Sampling is All You Need", arXiv 2407.12173."""
TRAILING = {"timestep_spacing": "trailing"}
"""Steps that begin in noise alone, which A1111 calls SGM Uniform."""
SDE = {"algorithm_type": "sde-dpmsolver++"}
LAST = {"lower_order_final": True}
"""What diffusers sets by itself where it must, and warns."""


@dataclass(frozen=True)
class Scheduler:
    """One way from noise to picture."""

    title: str
    """What galleries call it."""
    kind: str
    """Its class in diffusers."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


# Source: the table of A1111's names in diffusers' documentation of schedulers; PLMS is PNDM without its first steps.
SCHEDULERS = {
    "ddim": Scheduler("DDIM", "DDIMScheduler"),
    "ddpm": Scheduler("DDPM", "DDPMScheduler"),
    "pndm": Scheduler("PLMS", "PNDMScheduler", {"skip_prk_steps": True}),
    "lms": Scheduler("LMS", "LMSDiscreteScheduler"),
    "lms_karras": Scheduler("LMS Karras", "LMSDiscreteScheduler", KARRAS),
    "euler": Scheduler("Euler", "EulerDiscreteScheduler"),
    "euler_karras": Scheduler("Euler Karras", "EulerDiscreteScheduler", KARRAS),
    "euler_beta": Scheduler("Euler Beta", "EulerDiscreteScheduler", BETA),
    "euler_sgm_uniform": Scheduler("Euler SGM Uniform", "EulerDiscreteScheduler", TRAILING),
    "euler_a": Scheduler("Euler a", "EulerAncestralDiscreteScheduler"),
    "heun": Scheduler("Heun", "HeunDiscreteScheduler"),
    "heun_karras": Scheduler("Heun Karras", "HeunDiscreteScheduler", KARRAS),
    "dpm2": Scheduler("DPM2", "KDPM2DiscreteScheduler"),
    "dpm2_karras": Scheduler("DPM2 Karras", "KDPM2DiscreteScheduler", KARRAS),
    "dpm2_a": Scheduler("DPM2 a", "KDPM2AncestralDiscreteScheduler"),
    "dpm2_a_karras": Scheduler("DPM2 a Karras", "KDPM2AncestralDiscreteScheduler", KARRAS),
    "dpm++_2m": Scheduler("DPM++ 2M", "DPMSolverMultistepScheduler"),
    "dpm++_2m_karras": Scheduler("DPM++ 2M Karras", "DPMSolverMultistepScheduler", KARRAS),
    "dpm++_2m_beta": Scheduler("DPM++ 2M Beta", "DPMSolverMultistepScheduler", BETA),
    "dpm++_2m_sgm_uniform": Scheduler("DPM++ 2M SGM Uniform", "DPMSolverMultistepScheduler", TRAILING),
    "dpm++_2m_sde": Scheduler("DPM++ 2M SDE", "DPMSolverMultistepScheduler", SDE),
    "dpm++_2m_sde_karras": Scheduler("DPM++ 2M SDE Karras", "DPMSolverMultistepScheduler", {**SDE, **KARRAS}),
    "dpm++_2s": Scheduler("DPM++ 2S", "DPMSolverSinglestepScheduler", LAST),
    "dpm++_2s_karras": Scheduler("DPM++ 2S Karras", "DPMSolverSinglestepScheduler", {**LAST, **KARRAS}),
    "dpm++_sde": Scheduler("DPM++ SDE", "DPMSolverSinglestepScheduler", {**LAST, **SDE}),
    "dpm++_sde_karras": Scheduler("DPM++ SDE Karras", "DPMSolverSinglestepScheduler", {**LAST, **SDE, **KARRAS}),
    "deis": Scheduler("DEIS", "DEISMultistepScheduler"),
    "unipc": Scheduler("UniPC", "UniPCMultistepScheduler"),
    "unipc_karras": Scheduler("UniPC Karras", "UniPCMultistepScheduler", KARRAS),
    "unipc_beta": Scheduler("UniPC Beta", "UniPCMultistepScheduler", BETA),
    "lcm": Scheduler("LCM", "LCMScheduler"),
}
# Source: diffusers' schedulers that have `use_flow_sigmas`. Two kinds of them are left out: those that draw fresh noise
# at each step, for diffusers' pipelines for such models give schedulers no seeds; and DEIS, whose last step ends where
# noise is left, the more the fewer steps there are.
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
FLOWING = {
    "euler": Scheduler("Euler", "FlowMatchEulerDiscreteScheduler"),
    "euler_karras": Scheduler("Euler Karras", "FlowMatchEulerDiscreteScheduler", KARRAS),
    "euler_beta": Scheduler("Euler Beta", "FlowMatchEulerDiscreteScheduler", BETA),
    "heun": Scheduler("Heun", "FlowMatchHeunDiscreteScheduler"),
    "dpm++_2m": Scheduler("DPM++ 2M", "DPMSolverMultistepScheduler", FLOW),
    "dpm++_2s": Scheduler("DPM++ 2S", "DPMSolverSinglestepScheduler", {**LAST, **FLOW}),
    "unipc": Scheduler("UniPC", "UniPCMultistepScheduler", FLOW),
}
"""Those for models that were trained by flow matching; the names are the same."""
AUTOMATIC = {
    "dpm2": "dpm2_karras", "dpm2_a": "dpm2_a_karras", "dpm++_2m": "dpm++_2m_karras", "dpm++_sde": "dpm++_sde_karras",
}  # fmt: skip
"""What A1111 since 1.9 takes where the schedule type of a sampler is `Automatic`; of others, the plain one.

Its DPM++ 2M SDE then has exponential steps, which are none here.
"""
ELSEWHERE = {"plms": "pndm", "euler_ancestral": "euler_a", "uni_pc": "unipc", "own": OWN}


def scheduler_name(name: str) -> str:
    """The name in the table for one as people write it: "DPM++ 2M Karras", "dpmpp_2m_karras" and "Euler a", too.

    Raises: BespokeError naming the nearest known ones.
    """
    plain = "_".join(name.lower().replace("-", " ").replace("_", " ").split()).replace("dpmpp", "dpm++")
    plain = ELSEWHERE.get(plain, plain)
    known = [OWN, *SCHEDULERS]
    if plain in known:
        return plain
    near = difflib.get_close_matches(plain, [*known, *ELSEWHERE], n=1, cutoff=0.6)
    meant = f"Did you mean {ELSEWHERE.get(near[0], near[0])}? " if near else ""
    raise BespokeError(f"There is no scheduler {name!r}.", f"{meant}Known: {', '.join(known)}.")


def scheduler_names(*, flows: bool) -> tuple[str, ...]:
    """The names of all that draw with a model, by whether it was trained by flow matching; its own comes first."""
    return OWN, *(FLOWING if flows else SCHEDULERS)


def scheduler_title(name: str) -> str:
    """What galleries call the scheduler of that name; nothing for a model's own."""
    return "" if name == OWN else SCHEDULERS[name].title
