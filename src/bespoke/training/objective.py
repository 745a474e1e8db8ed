"""The recipe's words about the objective turned into what steps and batches take."""

from functools import partial

from bespoke.diffusion import Loss, Schedule, Weighting, min_snr_weights
from bespoke.diffusion.noise import Pyramid
from bespoke.diffusion.timesteps import Sampling, cumulative
from bespoke.diffusion.weighting import (
    cosmap_weights,
    debiased_weights,
    p2_weights,
    picture_weights,
    soft_min_snr_weights,
)
from bespoke.errors import BespokeError
from bespoke.recipe.training import Train


def loss(train: Train) -> Loss:
    """How errors are counted."""
    return Loss(train.loss_type, train.huber_c, train.huber_schedule)


def weighting(train: Train) -> Weighting | None:
    """What an error counts for at its timestep; nothing where all count the same.

    Raises: BespokeError when the recipe asks for more than one.
    """
    asked: dict[str, Weighting] = {}
    if train.snr_gamma:
        asked["snr_gamma"] = partial(min_snr_weights, gamma=train.snr_gamma)
    if train.soft_min_snr_gamma:
        asked["soft_min_snr_gamma"] = partial(soft_min_snr_weights, gamma=train.soft_min_snr_gamma)
    if train.debiased_estimation:
        asked["debiased_estimation"] = debiased_weights
    if train.p2_gamma:
        asked["p2_gamma"] = partial(p2_weights, gamma=train.p2_gamma, k=train.p2_k)
    if train.flow_weighting != "none":
        asked["flow_weighting"] = {"picture": picture_weights, "cosmap": cosmap_weights}[train.flow_weighting]
    if len(asked) > 1:
        problem = f"[train] weights the loss in {len(asked)} ways at once: {', '.join(asked)}."
        raise BespokeError(problem, "Leave one of them: each says alone what a timestep counts for.")
    return next(iter(asked.values()), None)


def pyramid(train: Train) -> Pyramid | None:
    """The layers of the noise; nothing where it has one."""
    layers = train.multires_noise_iterations
    return Pyramid(layers, train.multires_noise_discount) if layers else None


def sampling(train: Train) -> Sampling:
    """How timesteps are chosen."""
    return Sampling(
        train.timestep_sampling or "uniform",
        train.logit_mean,
        train.logit_std,
        train.timestep_shift,
        train.min_timestep,
        train.max_timestep,
        train.timestep_bias,
        train.mode_scale,
    )


def check(train: Train, schedule: Schedule) -> None:
    """Raises: BespokeError when what the recipe says of the objective contradicts itself or the base's schedule."""
    weighting(train)
    if train.noise_source == "device" and train.multires_noise_iterations:
        problem = 'train.noise_source = "device" draws noise of one layer, and multires_noise_iterations asks for more.'
        raise BespokeError(problem, "Take one of them out: layers have sizes of their own in each picture.")
    if train.flow_weighting != "none" and schedule.prediction != "flow":
        problem = "train.flow_weighting is for flow matching, by which the base was not trained."
        raise BespokeError(problem, "Take it out, or weight by snr_gamma.")
    if train.max_timestep is not None and train.max_timestep > schedule.steps:
        problem = f"train.max_timestep is {train.max_timestep}, and the base has {schedule.steps} timesteps."
        raise BespokeError(problem, "Leave max_timestep out to go to the last one.")
    cumulative(sampling(train), schedule.steps)
