"""A base and a tuned model turned into pictures of the same prompts and seeds, and those into a scorecard."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bespoke.evaluation import Scorecard, scorecard
from bespoke.models import Clip
from bespoke.pipeline.naming import Named
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.sample import file_name, write
from bespoke.recipe.tree import Recipe, Sample
from bespoke.sampling import Request, grid
from bespoke.text import unweighed
from bespoke.workspace import atomic_file


@dataclass(frozen=True)
class Prompts:
    """What both models draw: the style's prompts, plain ones, and one shown large."""

    reference: tuple[str, ...]
    """In the words of the reference pictures."""
    general: tuple[str, ...]
    """Without the style's words; what must stay as it was."""
    hero: str
    seed: int = 0

    @staticmethod
    def of(recipe: Recipe, hero: str) -> "Prompts":
        """The prompts that the recipe's objective names."""
        return Prompts(recipe.objective.change_prompts, recipe.objective.keep_prompts, hero, recipe.sample.seed)

    def requests(self) -> dict[str, list[Request]]:
        """The pictures to draw, by the kind of prompt; each prompt has a seed of its own."""
        return {
            "reference": [Request(prompt, self.seed + n) for n, prompt in enumerate(self.reference)],
            "general": [Request(prompt, self.seed + 500 + n) for n, prompt in enumerate(self.general)],
            "hero": [Request(self.hero, self.seed + n) for n in range(3)],
        }


@dataclass(frozen=True)
class Compared:
    """Both models' pictures, as files of equal names, and what they scored."""

    folders: dict[str, dict[str, Path]]
    """By model ("base", "tuned") and by kind of prompt."""
    requests: dict[str, list[Request]]
    hero: Path
    scores: Scorecard

    def pairs(self, kind: str) -> list[tuple[str, Path, Path]]:
        """The prompt and both models' files, for one kind of prompt."""
        base, tuned = self.folders["base"][kind], self.folders["tuned"][kind]
        names = [(r.prompt, file_name(n, r)) for n, r in enumerate(self.requests[kind])]
        return [(prompt, base / name, tuned / name) for prompt, name in names]


def compare(
    base: Named, tuned: Named, prompts: Prompts, reference: Path, out: Path, settings: Sample, report: Reporter
) -> Compared:
    """Pictures by both models in `out`, and the scorecard against the pictures in `reference`."""
    requests = prompts.requests()
    folders = {model: {kind: out / f"{model}-{kind}" for kind in requests} for model in ("base", "tuned")}
    for model, source in (("base", base), ("tuned", tuned)):
        # A black picture in place of one would be scored as if the model had drawn it.
        pipeline = source.pipeline(safety_checker=False)
        for kind, wanted in requests.items():
            write(pipeline, wanted, folders[model][kind], settings, source.name, report, f"draw {kind}, {model}")
    hero = out / "hero.png"
    shown = [image for model in ("base", "tuned") for image in _read(folders[model]["hero"])]
    with atomic_file(hero) as temporary:
        grid(shown, 3).save(temporary, format="PNG")
    return Compared(folders, requests, hero, _score(requests, folders, reference))


def _score(requests: dict[str, list[Request]], folders: dict[str, dict[str, Path]], reference: Path) -> Scorecard:
    clip = Clip()
    features = {
        (model, kind): clip.pictures(_read(folder))
        for model, kinds in folders.items()
        for kind, folder in kinds.items()
    }
    texts = {kind: clip.texts([unweighed(request.prompt) for request in wanted]) for kind, wanted in requests.items()}
    return scorecard(
        reference=clip.pictures(_read(reference)),
        base_domain=features["base", "reference"],
        tuned_domain=features["tuned", "reference"],
        domain_texts=texts["reference"],
        base_general=features["base", "general"],
        tuned_general=features["tuned", "general"],
        general_texts=texts["general"],
        extractor=clip.name,
    )


def _read(folder: Path) -> Sequence[Image.Image]:
    """The folder's PNG pictures, by name."""
    pictures: list[Image.Image] = []
    for file in sorted(folder.glob("*.png")):
        with Image.open(file) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures
