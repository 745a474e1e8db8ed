"""The libraries that a process of `tests.warm` begins with. Nothing is done with them: there must be but one thread."""

import importlib

for name in (
    "bespoke.cli.commands", "bespoke.pipeline.train", "bespoke.pipeline.updating", "peft", "transformers.generation",
    "transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip",
    "transformers.models.blip.modeling_blip", "diffusers.models.unets.unet_2d_condition",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
):  # fmt: skip
    importlib.import_module(name)
