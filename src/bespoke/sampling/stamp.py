"""A drawn picture turned into a PNG that says how it was made, and that a machine made it."""

from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from bespoke.recipe.tree import Sample
from bespoke.sampling.generate import Drawn
from bespoke.workspace import atomic_file

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def save_png(
    drawn: Drawn, path: Path, settings: Sample, model: str, *, sampler: str = "", adapter_weight: float = 1.0
) -> None:
    """Writes the picture with its prompt and settings, atomically.

    The sampler is told where it is not the model's own, the adapter's weight where it is not 1.
    Source: the `parameters` text is AUTOMATIC1111's form, which galleries read; the source type is IPTC's.
    """
    info = PngInfo()
    info.add_itxt("parameters", _parameters(drawn, settings, model, sampler, adapter_weight))
    info.add_text("digitalSourceType", SOURCE_TYPE)
    with atomic_file(path) as temporary:
        drawn.picture.save(temporary, format="PNG", pnginfo=info)


def _parameters(drawn: Drawn, settings: Sample, model: str, sampler: str, adapter_weight: float) -> str:
    width, height = drawn.picture.size
    facts = {
        "Steps": settings.num_inference_steps,
        **({"Sampler": sampler} if sampler else {}),
        "CFG scale": settings.guidance_scale,
        **({"Guidance end": f"{settings.guidance_end:g}"} if settings.guidance_end != 1 else {}),
        "Seed": drawn.request.seed,
        "Size": f"{width}x{height}",
        "Model": model,
        **({"Adapter weight": f"{adapter_weight:g}"} if adapter_weight != 1 else {}),
        "Version": "bespoke",
    }
    negative = f"\nNegative prompt: {settings.negative_prompt}" if settings.negative_prompt else ""
    return drawn.request.prompt + negative + "\n" + ", ".join(f"{key}: {value}" for key, value in facts.items())
