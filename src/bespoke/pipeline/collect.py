"""Words turned into a checked dataset of pictures that a search engine finds for them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke.data.intake import download, links, search
from bespoke.errors import BespokeError
from bespoke.pipeline.datasets import built, settings_of
from bespoke.pipeline.reporting import Reporter, counting, silent
from bespoke.recipe import Recipe
from bespoke.recipe.dataset import Download
from bespoke.records import Dataset
from bespoke.workspace import relative

ROUNDS = 3
"""How often the engine is asked for more in place of pictures that are not to be had."""


@dataclass(frozen=True)
class Collected:
    """A dataset from the web."""

    folder: Path
    """The dataset's."""
    table: Path
    """What the engine found: a table of URLs with licences, authors and pages."""
    dataset: Dataset


def collect(
    query: str,
    dataset: str | Path | None = None,
    *,
    count: int = 100,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    report: Reporter = silent,
) -> Collected:
    """A dataset of `count` pictures for some words, as far as the recipe's `[download]` engine finds so many.

    Without `dataset` its folder is named after the words. What was found and fetched stays in `downloads/` beside it:
    the same call again fetches what is missing, and asks the engine only where too little is known.

    Raises: BespokeError when the engine cannot be asked, or what import raises.
    """
    slug = _slug(query)
    if not slug or count < 1:
        problem = "Nothing is searched for." if not slug else f"{count} pictures are none."
        raise BespokeError(problem, 'Say what, and how many: bespoke data collect "8bit illustration" --count 100')
    folder = Path(dataset) if dataset is not None else Path(slug)
    settings = _mannerly(settings_of(folder, recipe, overrides))
    project = folder.resolve().parent
    table = Path(relative(project / download.DOWNLOADS / f"{slug}-{_asked_of(settings.download)}.jsonl"))
    _find(query, count, table, download.folder_of(table, project), settings.download, report)
    return Collected(folder, table, built(table, folder, _once(settings), report))


def _slug(query: str) -> str:
    """A name for a folder from some words, of at most 90 bytes; other words give another, but for hyphens."""
    words = " ".join(query.split())
    plain = re.sub(r"[^\w-]+", "-", words).strip("-")
    short = plain.encode()[:80].decode(errors="ignore").rstrip("-")
    if not plain or short == words.replace(" ", "-"):
        return short
    return f"{short}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def _mannerly(recipe: Recipe) -> Recipe:
    """The recipe with what nobody said of manners as it is for pictures that nobody named."""
    asked = recipe.download
    manners = {"robots": asked.robots or "heed", "private_addresses": asked.private_addresses or "refuse"}
    return recipe.model_copy(update={"download": asked.model_copy(update=manners)})


def _once(recipe: Recipe) -> Recipe:
    """The recipe by which nothing that was given up is asked for again: that was done a moment ago."""
    return recipe.model_copy(update={"download": recipe.download.model_copy(update={"again": False})})


def _asked_of(settings: Download) -> str:
    """What tells one search for the same words from another."""
    side = (f"{settings.minimum_side}px",) if settings.minimum_side else ()
    return "-".join((settings.engine, *sorted(settings.licences), *side))


def _find(query: str, count: int, table: Path, into: Path, settings: Download, report: Reporter) -> None:
    """Writes a table of so many links that `count` pictures come into a folder, if the engine finds them."""
    engine = search.engine_of(settings)
    known, wanted = list(links.Links(table)) if table.exists() else [], count
    for _ in range(ROUNDS):
        report("search", 0, 1)
        if len(known) < wanted:
            found = {link.url: link for link in (*known, *engine.find(query, wanted))}
            known = list(found.values())
            if not known:
                hint = "Use other or fewer words, or fewer conditions in [download]."
                raise BespokeError(f"{settings.engine} finds nothing for {query!r}.", hint)
            search.write(table, known)
        report("search", 1, 1, f"{len(known)} pictures found")
        got = download.download(links.Links(table), into, settings, counting(report, "fetch pictures"))
        here = sum(item.path is not None for item in got)
        if here >= count or len(known) < wanted:
            return
        wanted = len(known) + count - here
