"""A run and its scorecard turned into a model card in the hub's format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bespoke.evaluation import Judgement, Scorecard
from bespoke.recipe import Recipe
from bespoke.workspace import Run, write_text

UNKNOWN = "other"
"""What the hub calls a licence that it does not know; the pictures' and the base's own decide."""


def write(run: Run, recipe: Recipe, card: Scorecard, model: str, verdict: Sequence[Judgement]) -> Path:
    """The card of a run's model, `README.md` in the run's folder, which the hub shows.

    Source: https://huggingface.co/docs/hub/model-cards (metadata and `model-index`).
    """
    path = run.root / "README.md"
    write_text(path, f"---\n{_metadata(run, recipe, card, model)}\n---\n\n{_words(recipe, card, model, verdict)}")
    return path


def _metadata(run: Run, recipe: Recipe, card: Scorecard, model: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    name = recipe.text.trigger or run.root.name
    results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="own-pictures",
            dataset_name="The pictures it was tuned for",
            metric_type=score.name,
            metric_name=card[score.name].label,
            metric_value=score.value,
            metric_args={"low": score.low, "high": score.high, "count": score.count},
        )
        for score in card.of(model).values()
        if score.value == score.value
    ]
    full = recipe.model.method == "full"
    more: dict[str, Any] = {} if full else {"instance_prompt": recipe.text.trigger} if recipe.text.trigger else {}
    tags = ["text-to-image", "stable-diffusion", *([recipe.model.method] if recipe.model.adapts else []), "bespoke"]
    return ModelCardData(
        base_model=recipe.model.base,
        library_name="diffusers",
        license=UNKNOWN,
        model_name=name,
        pipeline_tag="text-to-image",
        tags=tags,
        eval_results=results,
        **more,
    ).to_yaml()


def _words(recipe: Recipe, card: Scorecard, model: str, verdict: Sequence[Judgement]) -> str:
    lines = [f"# {recipe.text.trigger or 'A tuned model'}", ""]
    lines += [f"Tuned from `{recipe.model.base}` ({recipe.model.method}). Compared with `{card.control}` over the same"]
    lines += [f"prompts and seeds ({len(card.seeds)} of each):", ""]
    lines += [f"- **{judgement.question}** {judgement.answer}. {judgement.detail}" for judgement in verdict]
    lines += ["", "| score | " + " | ".join((card.control, model)) + " |", "|---|---|---|"]
    for row in card.rows:
        scores = [row.scores.get(name) for name in (card.control, model)]
        cells = [f"{s.value:.3g} ({s.low:.3g} to {s.high:.3g})" if s else "" for s in scores]
        lines.append(f"| {row.label} | {' | '.join(cells)} |")
    made = "; ".join(f"{one.name} (weights {one.mark[:12]}, {one.resizer})" for one in card.instruments)
    lines += ["", f"Each value with its 95 % interval. Measured with {made}.", ""]
    lines += [f"Not measured: {what} ({why.rstrip('.')})." for what, why in card.unmeasured.items()]
    lines += ["", "Pictures made with it were made by a machine. What may be done with it depends on the licences of"]
    lines += ["the base model and of the pictures it was tuned on.", ""]
    return "\n".join(lines)
