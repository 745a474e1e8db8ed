"""Words turned into links to pictures by a search engine: Openverse, or Bing through icrawler."""

import json
import os
import queue
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote_plus

import httpx

from bespoke.data.intake.hosts import USER_AGENT, asked_wait
from bespoke.data.intake.links import Link, key_of, trouble_of
from bespoke.data.tables import TEXTS, Marks, caption_of
from bespoke.errors import BespokeError
from bespoke.recipe.dataset import Download
from bespoke.workspace import write_text

TOKEN = "OPENVERSE_TOKEN"  # noqa: S105 - the name of a variable of the environment
LICENCES = frozenset(
    ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd", "cc0", "pdm", "sampling+", "nc-sampling+")
)
USES = frozenset(("commercial", "modification", "all-cc"))
"""Uses that licences allow. Source: openverse's api/api/constants/licenses.py."""
_SERIAL = re.compile(r"(?i)(file:)?(img|dscn?|dscf|image|photo|picture|pic|scan|untitled|p)?[\W\d_]*(\.\w{3,4})?")
"""Titles that a camera gave, or nobody."""


@runtime_checkable
class Engine(Protocol):
    """Who finds pictures for words."""

    def find(self, query: str, count: int) -> Iterator[Link]:
        """Links to at most `count` pictures, the fittest first.

        Raises: BespokeError when the engine cannot be asked.
        """
        ...


def engine_of(settings: Download) -> Engine:
    """The engine that a recipe names.

    Raises: BespokeError when it knows nothing of the licences that are wanted.
    """
    return Bing(settings) if settings.engine == "bing" else Openverse(settings)


def write(path: Path, links: Iterable[Link]) -> None:
    """Writes links as a table of URLs, which `Links` reads again."""
    rows = ({"url": link.url, TEXTS[0]: link.text} | link.marks.labels for link in links)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


class Openverse:
    """Openverse, which finds pictures of free licences, with their authors.

    Asked without an account it gives 20 pictures a page, 20 pages, 20 requests a minute and 200 a day; a token in
    OPENVERSE_TOKEN allows more requests.
    Source: github.com/WordPress/openverse, api/api/serializers/media_serializers.py and api/conf/settings.
    """

    PAGE, PAGES = 20, 20

    def __init__(self, settings: Download) -> None:
        wanted = {licence.lower() for licence in settings.licences}
        if unknown := wanted - LICENCES - USES:
            known = ", ".join(sorted(LICENCES | USES))
            raise BespokeError(f"Openverse knows no licence {', '.join(sorted(unknown))}.", f"Known are {known}.")
        self._wanted = {"license": ",".join(sorted(wanted & LICENCES)), "license_type": ",".join(sorted(wanted & USES))}
        self._side = settings.minimum_side
        token = os.environ.get(TOKEN, "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._asking = _Asking("Openverse", settings, headers)
        self._address = (settings.address or "https://api.openverse.org").rstrip("/") + "/v1/images/"

    def find(self, query: str, count: int) -> Iterator[Link]:
        """Links to pictures with licence, author, page, title and tags; without a title or tags `query` is said.

        Raises: BespokeError when Openverse cannot be asked.
        """
        return islice(self._all(query), count)

    def _all(self, query: str) -> Iterator[Link]:
        filters = {name: value for name, value in self._wanted.items() if value}
        for page in range(1, self.PAGES + 1):
            told = self._asking.json(self._address, {"q": query, "page": page, "page_size": self.PAGE, **filters})
            try:
                results, pages = list(told["results"]), int(told["page_count"])
                found = [self._link(item, query) for item in results]
            except (LookupError, TypeError, ValueError, AttributeError):
                hint = "Is download.address that of an Openverse?"
                raise BespokeError(f"Openverse answers otherwise than expected: {str(told)[:200]}", hint) from None
            yield from (link for link in found if link is not None)
            if page >= pages or not results:
                return

    def _link(self, item: Mapping[str, Any], query: str) -> Link | None:
        """The link to one result; nothing where it is too small."""
        sides = [side for side in (item.get("width"), item.get("height")) if side]
        if sides and min(sides) < self._side:
            return None
        tags = ", ".join(caption_of(tag["name"]) for tag in item.get("tags") or ())
        title = caption_of(item.get("title"))
        labels = {
            "page": item.get("foreign_landing_url"), "author": item.get("creator"), "licence": _licence(item),
            "licence_url": item.get("license_url"), "attribution": item.get("attribution"), "title": title,
            "tags": tags, "engine": "openverse",
        }  # fmt: skip
        spoken = "" if _SERIAL.fullmatch(title) else title
        return _link(item["url"], spoken or tags or query, labels)


class Bing:
    """Bing, whose pages icrawler knows how to read; under which licence its pictures are, nobody says."""

    MOST = 1000
    """Results after which Bing gives the same again. Source: icrawler's BingImageCrawler."""
    _LICENCES = {  # noqa: RUF012 - never changed
        frozenset[str](): None, frozenset(("commercial",)): "commercial",
        frozenset(("commercial", "modification")): "commercial,modify",
    }  # fmt: skip

    def __init__(self, settings: Download) -> None:
        wanted = frozenset(settings.licences)
        if wanted not in self._LICENCES:
            hint = 'Ask for uses, such as ["commercial", "modification"], or ask Openverse.'
            raise BespokeError(f"Bing does not tell licences apart: {', '.join(sorted(wanted))}.", hint)
        side = settings.minimum_side
        self._filters = {"license": self._LICENCES[wanted], "size": f">{side}x{side}" if side else None}
        self._asking = _Asking("Bing", settings, {})
        self._address = settings.address.rstrip("/")

    def find(self, query: str, count: int) -> Iterator[Link]:
        """Links to pictures, with `query` as their caption, for no more is known of them.

        Raises: BespokeError when icrawler is missing, or Bing cannot be asked.
        """
        try:
            from icrawler.builtin.bing import BingFeeder, BingParser
            from icrawler.utils import Signal
        except ImportError:
            hint = "Install it with: pip install 'bespoke[data]'"
            raise BespokeError("Bing is asked through icrawler, which is not installed.", hint) from None
        pages: queue.Queue[str] = queue.Queue()
        # Of icrawler only what it knows about Bing is used: the pages' addresses, and how to read them.
        feeder, parser = BingFeeder(1, Signal(), None), BingParser(1, Signal(), None)
        feeder.out_queue = pages
        filters = {name: value for name, value in self._filters.items() if value}
        feeder.feed(quote_plus(query), 0, self.MOST, filters)
        return islice(self._all(pages, parser, query), count)

    def _all(self, pages: "queue.Queue[str]", parser: Any, query: str) -> Iterator[Link]:  # noqa: ANN401
        seen = set[str]()
        while not pages.empty():
            page = pages.get()
            answer = self._asking.get(
                self._address + page.removeprefix("https://www.bing.com") if self._address else page
            )
            new = [found["file_url"] for found in parser.parse(answer) if found["file_url"] not in seen]
            seen.update(new)
            yield from (_link(url, query, {"licence": "unknown", "engine": "bing"}) for url in new)
            if not new:
                return


class _Asking:
    """Questions to an engine, asked again after a while where a fault may pass."""

    def __init__(self, name: str, settings: Download, headers: dict[str, str]) -> None:
        self._name, self._settings = name, settings
        self._headers = {"User-Agent": USER_AGENT} | headers

    def get(self, url: str, parameters: dict[str, Any] | None = None) -> httpx.Response:
        """The answer. Raises: BespokeError when there is none."""
        trouble = ""
        for attempt in range(self._settings.retries + 1):
            try:
                answer = httpx.get(
                    url, params=parameters, headers=self._headers, timeout=self._settings.timeout, follow_redirects=True
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                trouble, wait = f"cannot be reached: {error or type(error).__name__}", 0.0
            else:
                if answer.is_success:
                    return answer
                trouble = f"answers {answer.status_code}: {answer.text[:200]}"
                wait = asked_wait(answer.headers.get("retry-after", ""))
                if (answer.status_code < 500 and answer.status_code != 429) or wait > self._settings.longest_wait:
                    break
            if attempt < self._settings.retries:
                time.sleep(max(wait, self._settings.backoff * 2**attempt))
        hint = (
            f"Try again later. A token in {TOKEN} allows more requests to Openverse; a wrong one is refused with 401."
        )
        raise BespokeError(f"{self._name} {trouble}", hint)

    def json(self, url: str, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever an engine answers
        """The answer's content. Raises: BespokeError when there is none."""
        answer = self.get(url, parameters)
        try:
            return answer.json()
        except ValueError:
            problem = f"{self._name} answers with no JSON: {answer.text[:200]!r}"
            raise BespokeError(problem, "Check download.address.") from None


def _link(url: str, text: str, labels: Mapping[str, Any]) -> Link:
    told = {name: caption_of(value) for name, value in labels.items() if caption_of(value)}
    return Link(url, key_of(url), text, marks=Marks(labels={"url": url} | told), trouble=trouble_of(url))


def _licence(item: Mapping[str, Any]) -> str:
    """The licence as its makers write it: CC BY-SA 2.0, CC0 1.0, Public Domain Mark 1.0."""
    licence = str(item.get("license") or "unknown")
    name = {"cc0": "CC0", "pdm": "Public Domain Mark", "unknown": "unknown"}.get(licence, f"CC {licence.upper()}")
    return f"{name} {item.get('license_version') or ''}".strip()
