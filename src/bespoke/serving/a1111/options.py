"""A1111's options, each caller's own: what there is of them, and what changes no picture."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bespoke.serving.asked import known, shown
from bespoke.serving.envelope import INVALID
from bespoke.serving.jobs import Facts
from bespoke.serving.wishes import Refusal

WITHOUT_EFFECT = frozenset((
    "add_model_hash_to_info", "add_model_name_to_info", "do_not_add_watermark", "enable_pnginfo", "grid_save",
    "return_grid", "return_mask", "return_mask_composite", "samples_filename_pattern", "samples_save",
    "save_images_add_number", "save_to_dirs", "sd_checkpoint_cache", "sd_checkpoints_keep_in_cpu",
    "sd_checkpoints_limit", "sd_vae_checkpoint_cache", "show_progress_type",
))  # fmt: skip
"""Options of A1111's that change no picture: they are accepted, and not kept."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "sd_vae": ("Automatic", "None", None, ""),
    "eta_noise_seed_delta": (0, None),
    "face_restoration": (False, None),
    "tiling": (False, None),
    "sd_lora": ("None", None, ""),
    "sd_hypernetwork": ("None", None, ""),
    "img2img_fix_steps": (False, None),
    "img2img_color_correction": (False, None),
    "token_merging_ratio": (0, None),
    "use_old_emphasis_implementation": (False, None),
}
"""Options that would change pictures, with the values with which they do not."""
FORMATS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}


class Options(BaseModel):
    """The options that are understood, by A1111's names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sd_model_checkpoint: str = ""
    """A name of `sd-models`; empty: the first."""
    CLIP_stop_at_last_layers: Annotated[int, Field(ge=1, le=12)] | None = None
    """The last of the text encoder's layers that is heeded, counted from the end; by default the model's own."""
    samples_format: Annotated[
        Literal["png", "jpg", "jpeg", "webp"],
        BeforeValidator(lambda form: form.lower() if isinstance(form, str) else form),
    ] = "png"
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 80
    live_previews_enable: bool = True
    """Whether `progress` shows what is being drawn."""
    show_progress_every_n_steps: Annotated[int, Field(ge=-1)] = 10
    """So often; -1 or 0 is never."""

    def previews(self, steps: int) -> int:
        """How many unfinished pictures are shown in so many steps."""
        often = self.show_progress_every_n_steps
        return steps // often if self.live_previews_enable and often > 0 else 0

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of `[sample]` that they mean."""
        last, form = self.CLIP_stop_at_last_layers, FORMATS[self.samples_format]
        files = {"format": form, "quality": self.jpeg_quality} if form != "png" else {}
        return files | ({"clip_skip": last - 1} if last else {})

    def changed(self, given: Mapping[str, Any], models: Mapping[str, Facts]) -> "Options":
        """These with others of what is given; what changes no picture is left out.

        Raises: Refusal of 400 for an option that would change pictures, and does not here; of 404 for no such model.
        """
        heeded = {key: value for key, value in given.items() if not _neutral(key, value)}
        if other := sorted(heeded.keys() - Options.model_fields.keys()):
            message = f"The option {shown(other[0])} is none here. Known: {', '.join(Options.model_fields)}."
            raise Refusal(400, INVALID, message, param=other[0])
        try:
            made = Options(**{**self.model_dump(), **heeded})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            key = str(first["loc"][0])
            raise Refusal(400, INVALID, f"{key}: {first['msg']}.", param=key) from None
        if "sd_model_checkpoint" in heeded and made.sd_model_checkpoint:
            made = made.model_copy(update={"sd_model_checkpoint": known(models, made.sd_model_checkpoint)})
        return made


def _neutral(key: str, value: object) -> bool:
    return key in WITHOUT_EFFECT or (key in NEUTRAL and value in NEUTRAL[key])
