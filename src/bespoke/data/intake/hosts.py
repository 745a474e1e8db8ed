"""The manners of fetching: how often each server is asked, what its robots.txt forbids, and which are private."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from urllib.request import getproxies
from urllib.robotparser import RobotFileParser

import httpx

AGENT = "bespoke"
"""Our name in a robots.txt."""
USER_AGENT = f"{AGENT}/{version('bespoke')} (fetches pictures for a dataset)"
LONGEST_CRAWL_DELAY = 60.0
"""Seconds between two requests that a robots.txt may ask for."""
LARGEST_ROBOTS = 512_000
"""Bytes of a robots.txt that are read. Source: RFC 9309, section 2.5, asks for 500 KiB at least."""
_TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
"""Addresses whose last 32 bits are one of IPv4, to which a router may lead. Source: RFC 6052; RFC 4291, 2.5.5."""
_OPT_OUTS = frozenset(("noai", "noimageai"))


class Refused(Exception):  # noqa: N818 - a verdict over a URL, never shown as an error
    """A picture that is not to be had: `passing` where it may be another time, `by` where a setting of ours says so."""

    def __init__(self, trouble: str, *, passing: bool = False, by: dict[str, object] | None = None) -> None:
        super().__init__(trouble)
        self.trouble, self.passing, self.by = trouble, passing, by or {}


class Host:
    """One server: how many requests are under way there, and when the next one may begin."""

    def __init__(self, most: int, interval: float) -> None:
        self.slots = asyncio.Semaphore(most)
        self.interval = interval
        self.rules: asyncio.Task[RobotFileParser] | None = None
        self._free = self._paused = 0.0

    async def turn(self) -> None:
        """Waits until a request may begin."""
        while (wait := max(self._free, self._paused) - _now()) > 0:
            await asyncio.sleep(wait)
        self._free = _now() + self.interval

    def pause(self, seconds: float) -> None:
        """Lets no request begin for so long."""
        self._paused = max(self._paused, _now() + seconds)

    def paused(self) -> float:
        """Seconds for which no request may begin, as the server asked."""
        return max(0.0, self._paused - _now())


class Hosts:
    """All servers that were asked so far."""

    def __init__(self, most: int, interval: float) -> None:
        self._most, self._interval = most, interval
        self._hosts = dict[str, Host]()

    def of(self, url: httpx.URL) -> Host:
        """The server of a URL; another port is another server."""
        name = origin(url)
        if name not in self._hosts:
            self._hosts[name] = Host(self._most, self._interval)
        return self._hosts[name]

    async def check_robots(self, url: httpx.URL, ask: Callable[[str], Awaitable[tuple[int, bytes]]]) -> None:
        """Reads the server's robots.txt, once, with `ask`: URL to status and content.

        Raises: Refused when it forbids this URL to us, or cannot be read.
        """
        host = self.of(url)
        if host.rules is None:
            host.rules = asyncio.ensure_future(_robots(f"{origin(url)}/robots.txt", ask))
        rules = await asyncio.shield(host.rules)
        delay = float(rules.crawl_delay(AGENT) or 0)  # pyright: ignore[reportArgumentType]
        host.interval = max(self._interval, min(delay, LONGEST_CRAWL_DELAY))
        if not rules.can_fetch(AGENT, str(url)):
            raise Refused("robots.txt forbids it", by={"robots": True})


async def _robots(url: str, ask: Callable[[str], Awaitable[tuple[int, bytes]]]) -> RobotFileParser:
    """What a robots.txt says; one that is not there allows all. Source: RFC 9309, section 2.3.1."""
    status, content = await ask(url)
    if status >= 500 or status == 429:
        raise Refused(f"its robots.txt cannot be read: {status}", passing=True)
    rules = RobotFileParser()
    rules.parse(content.decode("utf-8", "replace").splitlines() if status < 300 else [])
    return rules


def origin(url: httpx.URL) -> str:
    """Scheme, host and port of a URL."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


async def private(url: httpx.URL) -> bool:
    """Whether a URL leads to this machine or into a network that is not the internet.

    A name that cannot be looked up leads nowhere; behind a proxy it is the proxy that looks it up.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port or 80, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(not _global(str(entry[4][0])) for entry in found)


def reached_private(answer: httpx.Response) -> bool:
    """Whether an answer came from a private address; behind a proxy nobody here knows."""
    stream = answer.extensions.get("network_stream")
    address = stream.get_extra_info("server_addr") if stream is not None else None
    return bool(address) and not getproxies() and not _global(str(address[0]))


def _global(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        translated = any(parsed in network for network in _TRANSLATED)
        inner = (
            ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF) if translated else parsed.ipv4_mapped or parsed.sixtofour
        )
        local = parsed.is_site_local
    else:
        inner, local = None, False
    asked = inner or parsed
    return asked.is_global and not asked.is_multicast and not local


def opted_out(tags: Iterable[str]) -> str:
    """The word by which one of an answer's X-Robots-Tags forbids training on a picture; empty where none does.

    Source: the directives noai and noimageai of DeviantArt, 2022.
    """
    for tag in (part for line in tags for part in line.split(",")):
        agent, colon, word = tag.strip().lower().rpartition(":")
        if word.strip() in _OPT_OUTS and (not colon or agent.strip() in (AGENT, "*")):
            return word.strip()
    return ""


def asked_wait(said: str) -> float:
    """The seconds that a Retry-After asks to wait, given as seconds or as a date; 0 where it says nothing."""
    said = said.strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        when = parsedate_to_datetime(said)
    except (ValueError, TypeError, IndexError):
        return 0.0
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _now() -> float:
    return asyncio.get_running_loop().time()
