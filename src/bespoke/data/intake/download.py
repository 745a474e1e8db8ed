"""Links turned into picture files in a folder, many at once, within limits of size, time and manners; resumable."""

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpx

from bespoke import seeds
from bespoke.data.intake.containers import Opened
from bespoke.data.intake.folders import Found, printable
from bespoke.data.intake.hosts import (
    LARGEST_ROBOTS,
    USER_AGENT,
    Hosts,
    Refused,
    asked_wait,
    opted_out,
    origin,
    private,
    reached_private,
)
from bespoke.data.intake.journal import Journal, Outcome
from bespoke.data.intake.links import Link, Links, key_of, kind_of, public
from bespoke.data.reading import SUFFIXES, Unreadable, recognise
from bespoke.recipe.dataset import Download
from bespoke.workspace import atomic_file

NOT_FETCHED, NOT_YET = "not fetched", "not fetched yet"
"""The reasons of pictures that are not to be had, and of those that the next call asks for again."""
DOWNLOADS = "downloads"
"""The folder beside a dataset in which fetched pictures are kept."""
MOST_REDIRECTS = 8
AHEAD = 8
"""Links that are looked at at once, as a multiple of the requests: most may wait for one server."""
_GONE_ASTRAY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
"""Answers below 500 that may be others a moment later."""
Progress = Callable[[int, int], None]


@contextmanager
def fetched(
    table: str | Path, dataset: Path, settings: Download, progress: Progress | None
) -> Generator[Opened, None, None]:
    """The pictures of a table of URLs as a source; those that are not here yet are fetched.

    They stay in `downloads/` beside the dataset, so that no later call asks for them again.

    Raises: BespokeError when the table cannot be read, or nothing can be written.
    """
    path = Path(table)
    folder = folder_of(path, dataset.resolve().parent)
    found = tuple(download(Links(path), folder, settings, progress))
    yield Opened(folder, printable(path.as_posix()), found=found, walk=False)


def folder_of(table: Path, project: Path) -> Path:
    """Where the pictures of a table of URLs lie: in `downloads/`, in a folder that is called as the table is."""
    return project / DOWNLOADS / (table.name[: table.name.lower().rfind(kind_of(table))] or "table")


def download(
    links: Iterable[Link], folder: Path, settings: Download, progress: Progress | None = None
) -> Iterator[Found]:
    """What became of each link, in their order, after all were fetched into a folder that are not there yet.

    `links` is gone through several times. `progress` is called with (links done, links in all).

    Raises: BespokeError when nothing can be written, or another process fetches into the folder.
    """
    total = len(links) if isinstance(links, Sized) else sum(1 for _ in links)
    with Journal(folder) as journal:
        _run(functools.partial(_Fetching(journal, settings, total, progress).all, links))
        for link in links:
            yield _found(link, journal, settings)


def _found(link: Link, journal: Journal, settings: Download) -> Found:
    """What became of one link."""
    if link.trouble:
        return Found(link.name, None, trouble=link.trouble, reason=NOT_FETCHED)
    key = key_of(asked(link.url, settings.query))
    outcome = journal.get(key)
    if outcome is None:
        return Found(link.name, None, trouble=f"its row changed meanwhile: {public(link.url)}", reason=NOT_YET)
    if outcome.suffix:
        path = journal.path(key, outcome.suffix)
        return Found(link.name, path, link.text, link.repeats, notes=link.notes, marks=link.marks)
    reason = NOT_YET if outcome.passing else NOT_FETCHED
    return Found(link.name, None, trouble=f"{outcome.trouble}: {public(link.url)}", reason=reason)


def asked(url: str, query: str) -> str:
    """The URL that is asked for: with the parameters of the recipe, and without what only a browser reads."""
    plain = url.partition("#")[0]
    return f"{plain}{'&' if '?' in plain else '?'}{query}" if query else plain


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine to its end, also in a notebook, where a loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work())
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(work())).result()


class _Fetching:
    """One call's work: many links at once, each asked for until it is there or given up."""

    def __init__(self, journal: Journal, settings: Download, total: int, progress: Progress | None) -> None:
        self._journal, self._settings = journal, settings
        self._hosts = Hosts(settings.per_host, settings.interval)
        self._slots = asyncio.Semaphore(settings.parallel)
        self._total, self._progress, self._done = total, progress, 0
        self._under_way = set[str]()
        self._client: httpx.AsyncClient
        self._by = {
            "robots": settings.robots == "heed", "opt_out": settings.robots != "ignore",
            "private": settings.private_addresses or "named",
            "bytes": settings.maximum_bytes, "pixels": settings.maximum_pixels,
        }  # fmt: skip
        """What may refuse a picture that other settings allow."""

    async def all(self, links: Iterable[Link]) -> None:
        """Fetches all links that are not finished."""
        settings = self._settings
        # A server's cookies are of no use here, and a million servers' would fill the memory.
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        # The semaphores say how many requests there are; idle connections to servers long done with are not kept.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=settings.parallel)
        headers = {"User-Agent": USER_AGENT, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        patience = httpx.Timeout(settings.timeout, pool=None)
        waiting = iter(links)
        async with httpx.AsyncClient(cookies=cookies, limits=limits, headers=headers, timeout=patience) as self._client:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(AHEAD * settings.parallel):
                        group.create_task(self._some(waiting))
            except BaseExceptionGroup as several:
                raise several.exceptions[0] from None

    async def _some(self, waiting: Iterator[Link]) -> None:
        """Takes link after link, and sees each through."""
        for number, link in enumerate(waiting):
            if not link.trouble:
                await self._one(asked(link.url, self._settings.query))
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)
            if number % 50 == 0:
                await asyncio.sleep(0)  # the others' clocks run while finished links are passed over

    async def _one(self, url: str) -> None:
        """Sees one URL through, and writes down what became of it."""
        key = key_of(url)
        if key in self._under_way or self._journal.finished(key, self._by, again=self._settings.again):
            return
        self._under_way.add(key)
        try:
            outcome = Outcome(await self._patiently(url, key))
        except Refused as refused:
            outcome = Outcome("", refused.trouble, refused.passing, refused.by)
        self._journal.add(key, public(url), outcome)
        self._under_way.remove(key)

    async def _patiently(self, url: str, key: str) -> str:
        """The ending of the picture's file, asked for again after a while where a fault may pass."""
        settings = self._settings
        for attempt in itertools.count():
            try:
                return await self._once(httpx.URL(url), key)
            except _Again as fault:
                if attempt >= settings.retries:
                    tries = f", asked {attempt + 1} times" if attempt else ""
                    raise Refused(fault.trouble + tries, passing=True) from None
                jitter = 0.5 + seeds.uniform("download", key, attempt)
                await asyncio.sleep(max(fault.wait, settings.backoff * 2**attempt * jitter))
        raise AssertionError("counting has no end")

    async def _once(self, url: httpx.URL, key: str) -> str:
        """The same, asked for once, with all redirects followed."""
        first, seen, left = url, {str(url)}, self._settings.deadline
        home = self._by["private"] != "allow" and await private(url)
        if self._by["private"] == "refuse" and home:
            raise Refused("it lies on a private address (download.private_addresses)", by=self._because("private"))
        guarded = self._by["private"] != "allow" and not home
        part = self._journal.path(key, "").with_name(f".{key}.tmp")
        try:
            while True:
                if self._by["robots"]:
                    await self._hosts.check_robots(url, self._robots)
                answer, seconds = await self._hop(url, part, key, left, guarded=guarded)
                if isinstance(answer, str):
                    return answer
                left -= seconds
                await self._check_redirect(first, answer, seen)
                seen.add(str(answer))
                url = answer
        finally:
            part.unlink(missing_ok=True)

    async def _check_redirect(self, first: httpx.URL, url: httpx.URL, seen: set[str]) -> None:
        """Refuses a redirect that leads in a circle, too far, or from the internet to a private address."""
        if str(url) in seen:
            raise Refused("redirected in a circle")
        if len(seen) > MOST_REDIRECTS:
            raise Refused(f"redirected more than {MOST_REDIRECTS} times")
        if url.scheme not in ("http", "https"):
            raise Refused(f"redirected to no address of the web: {url}")
        # What a table names at home may redirect to where it likes.
        if self._by["private"] != "allow" and await private(url) and not await private(first):
            raise Refused(
                f"redirected to a private address, {url.host} (download.private_addresses)", by=self._because("private")
            )

    async def _hop(
        self, url: httpx.URL, part: Path, key: str, left: float, *, guarded: bool
    ) -> tuple[str | httpx.URL, float]:
        """The ending of the picture's file, or where the server says that it is; and the seconds that took."""
        host, clock = self._hosts.of(url), asyncio.get_running_loop().time
        async with host.slots:
            if host.paused() > self._settings.longest_wait:
                raise Refused(f"{origin(url)} asks to wait {host.paused():.0f} seconds", passing=True)
            await host.turn()
            async with self._slots:
                began = clock()
                target = await self._answer(url, part, left, guarded=guarded)
                # No slot is free before the picture is settled: a kill costs what is under way, and that is not more.
                return target or await asyncio.to_thread(self._settled, part, key), clock() - began

    async def _answer(self, url: httpx.URL, part: Path, left: float, *, guarded: bool) -> httpx.URL | None:
        """Where the server says that the picture is; nothing where it is in `part` now."""
        try:
            async with asyncio.timeout(left), self._client.stream("GET", url) as answer:
                if guarded and reached_private(answer):
                    # The name was public when it was looked up, and no more when it was connected to.
                    where = f"its server was reached at a private address, {url.host}"
                    raise Refused(f"{where} (download.private_addresses)", by=self._because("private"))
                return await self._taken(answer, part)
        except TimeoutError:
            problem = f"not complete after {self._settings.deadline:g} seconds"
            raise Refused(problem, passing=True) from None
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise _Again(_told(error)) from None
        except (httpx.InvalidURL, ValueError) as error:
            raise Refused(_told(error)) from None

    async def _taken(self, answer: httpx.Response, part: Path) -> httpx.URL | None:
        """Where an answer points to; nothing where it is a picture, which is in `part` now."""
        if answer.next_request is not None:
            return answer.next_request.url
        self._check(answer)
        with self._journal.writing():
            part.parent.mkdir(exist_ok=True)
            file = part.open("wb")
        with file:
            size = 0
            async for block in answer.aiter_bytes(1 << 16):
                size += len(block)
                self._check_size(size)
                with self._journal.writing():
                    file.write(block)
            with self._journal.writing():
                file.flush()
        return None

    def _check(self, answer: httpx.Response) -> None:
        """Refuses an answer by its status and its headers."""
        status = answer.status_code
        wait = asked_wait(answer.headers.get("retry-after", ""))
        trouble = f"{status} {answer.reason_phrase}".strip()
        if status in _GONE_ASTRAY or status >= 500:
            if wait:
                self._hosts.of(answer.url).pause(wait)
            if wait > self._settings.longest_wait:
                raise Refused(f"{trouble}, asks to wait {wait:.0f} seconds", passing=True)
            raise _Again(trouble, wait)
        if not answer.is_success:
            raise Refused(trouble)
        if self._by["opt_out"] and (word := opted_out(answer.headers.get_list("x-robots-tag"))):
            raise Refused(f"its server says {word}", by=self._because("opt_out"))
        length = answer.headers.get("content-length", "")
        self._check_size(int(length) if length.isdigit() else 0)

    def _check_size(self, size: int) -> None:
        if size > self._settings.maximum_bytes:
            problem = f"more than {self._settings.maximum_bytes} bytes"
            raise Refused(problem, by=self._because("bytes"))

    def _settled(self, part: Path, key: str) -> str:
        """The ending of the picture, which now lies whole in its place."""
        try:
            suffix = SUFFIXES[recognise(part, self._settings.maximum_pixels)][0]
        except Unreadable as refused:
            by = self._because("pixels") if "pixels" in refused.detail else {}
            raise Refused(f"{refused.reason}: {refused.detail}", by=by) from None
        with self._journal.writing(), atomic_file(self._journal.path(key, suffix)) as target:
            part.replace(target)
        return suffix

    def _because(self, *names: str) -> dict[str, object]:
        return {name: self._by[name] for name in names}

    async def _robots(self, url: str) -> tuple[int, bytes]:
        """Status and content of a robots.txt, wherever its server says that it is."""
        at, seen = httpx.URL(url), {url}
        try:
            async with self._slots, asyncio.timeout(self._settings.deadline):
                while True:
                    async with self._client.stream("GET", at) as answer:
                        if answer.next_request is None:
                            return answer.status_code, await _beginning(answer, LARGEST_ROBOTS)
                        target = answer.next_request.url
                    await self._check_redirect(httpx.URL(url), target, seen)
                    seen.add(str(target))
                    at = target
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise Refused(f"its robots.txt cannot be read: {_told(error)}", passing=True) from None


class _Again(Exception):  # noqa: N818 - a fault that may pass, never shown as an error
    """A fault after which asking again may help, and the seconds that the server asks to wait."""

    def __init__(self, trouble: str, wait: float = 0.0) -> None:
        super().__init__(trouble)
        self.trouble, self.wait = trouble, wait


async def _beginning(answer: httpx.Response, most: int) -> bytes:
    content = b""
    async for block in answer.aiter_bytes(1 << 16):
        content += block
        if len(content) >= most:
            break
    return content[:most]


def _told(error: Exception) -> str:
    """What an error of the network says, in one line: "no answer in time", "ReadError: …"."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ReadTimeout | httpx.WriteTimeout):
        return "no answer in time"
    first = (str(error).splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
