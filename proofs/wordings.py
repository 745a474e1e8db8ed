"""How often does another wording of a caption say something else? `python -m proofs.wordings`: counted, in two ways.

Pico's world has a reader of its own (`pico/reading.py`), which shares nothing with what makes wordings: it reads 2,000
wordings of captions, and says whether each names the same things, colours, sizes, ground and arrangement. For open
English `tests/text/meaning.csv` holds pairs of captions marked by hand, half of them written before the rules.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pico.reading import read
from pico.scenes import draw_caption, draw_scene

from bespoke.evaluation.significance import score_interval
from bespoke.models import find
from bespoke.pipeline.wordings import Reworded, reworded, speller_for
from bespoke.recipe import Recipe
from bespoke.recipe.training import Augment
from bespoke.records import Picture
from bespoke.text import Augmenter, Synonyms, curated
from bespoke.workspace import Project
from proofs import results

REACH = 1.96
"""Standard deviations of a 95 % interval."""
PAIRS = results.ROOT / "tests" / "text" / "meaning.csv"


def captions(count: int, seed: int) -> Iterator[str]:
    """So many different captions of the world that its reader reads without a rest."""
    random, seen = np.random.default_rng(seed), set[str]()
    while len(seen) < count:
        text = draw_caption(random, draw_scene(random))
        if text not in seen and not read(text).unknown:
            seen.add(text)
            yield text


def share(hits: int, count: int) -> dict[str, Any]:
    """A share with its 95 % interval. Source: Wilson 1927."""
    low, high = score_interval(hits / count, count, REACH) if count else (0.0, 1.0)
    return {
        "changed": hits,
        "of": count,
        "share": round(hits / max(1, count), 4),
        "interval": [round(low, 4), round(high, 4)],
    }


def in_the_world(count: int, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """What the world's reader says of `count` wordings, kept ones and refused ones."""
    texts = list(captions(count, seed))
    pictures = [Picture(str(n), text, str(n), str(n), 64, 64, str(n)) for n, text in enumerate(texts)]
    recipe = Recipe(augment=Augment(variants=2, **settings))
    with tempfile.TemporaryDirectory() as folder:
        made = reworded(pictures, recipe, find("pico"), Project(Path(folder)))
    kept = [(t, w.text, w.ways) for t, worded in made.of.items() for w in worded.kept][: 10 * count]
    chosen = [kept[place] for place in np.random.default_rng(seed).permutation(len(kept))[:count]]
    changed = [(before, after, ways) for before, after, ways in chosen if read(before) != read(after)]
    refused = [(t, r.text) for t, worded in made.of.items() for r in worded.refused]
    truly = sum(read(before) != read(after) for before, after in refused)
    return {
        "kept": share(len(changed), len(chosen)),
        "refused": share(truly, len(refused)),
        "reasons": made.reasons(),
        "limit": _limit(made),
        "ways": dict(Counter(way for _, _, ways in chosen for way in ways)),
        "examples": [f"{before} → {after}" for before, after, _ in changed[:10]],
    }


def _limit(made: Reworded) -> dict[str, Any] | None:
    limit = made.limit
    if limit is None:
        return None
    return {"cosine": limit.value and round(limit.value, 4), "area": round(limit.area, 4), "paraphrases kept":
            round(limit.kept, 3), "one word changed, let through": round(limit.let_through, 3)}  # fmt: skip


def in_english() -> dict[str, Any]:
    """How the rules judge the pairs marked by hand, for each half of them."""
    with PAIRS.open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    speller = speller_for([pair["caption"] for pair in pairs] * 2, find("pico"), Project(Path()))
    guard = Augmenter(Augment(), Synonyms(curated), speller).meaning
    found: dict[str, Any] = {}
    for written in ("before", "after"):
        for kept, wrong in (("no", "let through"), ("yes", "refused")):
            part = [pair for pair in pairs if (pair["written"], pair["kept"]) == (written, kept)]
            judged = [guard.changed(pair["caption"], pair["other"]) for pair in part]
            count = sum(bool(reason) == (kept == "yes") for reason in judged)
            found[f"written {written} the rules, meaning {'kept' if kept == 'yes' else 'changed'}"] = {
                wrong: count, "of": len(part)
            }  # fmt: skip
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="of wordings that the world's reader reads")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ways = {"as by default": {}, "one in three misspelt": {"spelling": 0.33}, "rules alone": {"similarity": 0.0},
            "synonyms from vectors too": {"synonym_sources": ("curated", "vectors"), "synonyms": 1.0}}  # fmt: skip
    content = {name: in_the_world(options.count, options.seed, how) for name, how in ways.items()}
    content["English pairs"] = in_english()
    sys.stdout.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    results.write("wordings", content)


if __name__ == "__main__":
    main()
