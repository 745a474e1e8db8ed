"""Pictures fetched from a server on this machine that has every fault of the web."""

import asyncio
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from tests.data.pictures_server import Web, serving

from bespoke.data.intake import download as module
from bespoke.data.intake.download import NOT_FETCHED, NOT_YET, download
from bespoke.data.intake.folders import Found
from bespoke.data.intake.hosts import Host, asked_wait, opted_out, private
from bespoke.data.intake.journal import Journal, Outcome
from bespoke.data.intake.links import Link, Links, key_of
from bespoke.errors import BespokeError
from bespoke.recipe.dataset import Download

QUICK = {"timeout": 1.0, "deadline": 3.0, "backoff": 0.01, "retries": 2, "longest_wait": 2.0, "maximum_bytes": 100_000}


@pytest.fixture
def web() -> Generator[Web]:
    with serving() as web:
        yield web


def fetch(urls: list[str], folder: Path, **settings: object) -> list[Found]:
    links = [Link(url, f"{number}") for number, url in enumerate(urls)]
    return list(download(links, folder, Download(**QUICK | settings)))


def one(url: str, folder: Path, **settings: object) -> Found:
    (found,) = fetch([url], folder, **settings)
    return found


GOOD = {"1": ".jpg", "text/2": ".jpg", "png/3": ".png", "gzip/4": ".jpg", "moved/5": ".jpg", "once/6": ".jpg",
        "busy/7": ".jpg", "wait/8": ".jpg", "shortonce/9": ".jpg", "torn/10": ".jpg", "inward/11": ".jpg"}  # fmt: skip
FOR_GOOD = {
    "nothing/1": "404", "gone/1": "410", "forbidden/1": "403", "page/1": "not a picture: holds a web page",
    "empty/1": "not a picture: holds nothing", "bomb/1": "more than 80 million pixels",
    "giant/1": "more than 100000 bytes", "circle/0": "in a circle", "far/0": "more than 8 times",
    "file/1": "no address of the web: file:", "noai/1": "its server says noai",
}  # fmt: skip
PASSING = {"broken/1": "500", "shut/1": "asks to wait 3600 seconds", "short/1": "asked 3 times",
           "stall/1": "no answer in time", "trickle/1": "not complete after 3 seconds",
           "trickleheaders/1": "not complete after 3 seconds", "badgzip/1": "DecodingError"}  # fmt: skip


def test_every_fault_of_the_web_is_told_and_asked_again_only_where_it_may_pass(web: Web, tmp_path: Path) -> None:
    paths = [*GOOD, *FOR_GOOD, *PASSING]
    # A server that asks for an hour must not close the others' path: it is another one for its faults.
    with serving() as other:
        urls = [(other if path.startswith("shut") else web).url(path) for path in paths]
        found = dict(zip(paths, fetch(urls, tmp_path), strict=True))
        for path, suffix in GOOD.items():
            assert found[path].path is not None, found[path]
            assert found[path].path.suffix == suffix
        for path, trouble in FOR_GOOD.items():
            assert (found[path].path, found[path].reason) == (None, NOT_FETCHED), found[path]
            assert trouble in found[path].trouble
            assert urls[paths.index(path)] in found[path].trouble
        for path, trouble in PASSING.items():
            assert (found[path].path, found[path].reason) == (None, NOT_YET), found[path]
            assert trouble in found[path].trouble
        assert web.asked["/broken/1"] == 3
        assert web.asked["/nothing/1"] == 1
        before = web.asked.copy(), other.asked.copy()
        again = fetch(urls, tmp_path)
    assert [(item.path, item.reason) for item in again] == [(item.path, item.reason) for item in found.values()]
    asked = web.asked - before[0]
    # Nothing that was finished is asked for again; "inward" and others lead to plain pictures, which are not either.
    assert {path.strip("/") for path in asked} == {path for path in PASSING if not path.startswith("shut")}
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_picture_named_twice_is_fetched_once(web: Web, tmp_path: Path) -> None:
    web.slowness = 0.05
    first, second, third = fetch([web.url("1"), web.url("1"), web.url("1#part")], tmp_path)
    assert first.path == second.path == third.path
    assert web.asked["/1"] == 1


def test_parameters_are_put_behind_each_url(web: Web, tmp_path: Path) -> None:
    fetch([web.url("1"), web.url("2?x=1#top")], tmp_path, query="w=1024&q=80")
    assert set(web.asked) == {"/1?w=1024&q=80", "/2?x=1&w=1024&q=80"}


def test_what_our_own_settings_refused_is_asked_for_under_others(web: Web, tmp_path: Path) -> None:
    assert "3 bytes" in one(web.url("1"), tmp_path, maximum_bytes=3).trouble
    assert one(web.url("1"), tmp_path, maximum_bytes=3).path is None
    assert web.asked["/1"] == 1
    assert one(web.url("1"), tmp_path).path
    assert "pixels" in one(web.url("2"), tmp_path, maximum_pixels=100).trouble
    assert one(web.url("2"), tmp_path).path
    assert one(web.url("noai/3"), tmp_path).path is None
    assert one(web.url("noai/3"), tmp_path, robots="ignore").path


def test_all_is_asked_for_again_where_that_is_wanted(web: Web, tmp_path: Path) -> None:
    urls = [web.url("nothing/1"), web.url("2")]
    fetch(urls, tmp_path)
    fetch(urls, tmp_path, again=True)
    assert web.asked == {"/nothing/1": 2, "/2": 1}


def test_a_server_is_asked_as_often_as_is_allowed(web: Web, tmp_path: Path) -> None:
    web.slowness = 0.05
    fetch([web.url(f"{n}") for n in range(24)], tmp_path, per_host=3)
    assert web.most_at_once == 3
    web.most_at_once = 0
    with serving() as other:
        fetch([w.url(f"{n}") for n in range(30, 40) for w in (web, other)], tmp_path, per_host=5, parallel=6)
        assert web.most_at_once <= 5 and other.most_at_once <= 5
        assert web.most_at_once + other.most_at_once > 5


def test_requests_to_one_server_keep_their_distance(web: Web, tmp_path: Path) -> None:
    async def turns() -> list[float]:
        host, times = Host(4, 0.02), list[float]()

        async def ask() -> None:
            async with host.slots:
                await host.turn()
                times.append(asyncio.get_running_loop().time())

        await asyncio.gather(*(ask() for _ in range(10)))
        return times

    assert all(later - earlier >= 0.02 for earlier, later in itertools.pairwise(asyncio.run(turns())))
    began = time.monotonic()
    fetch([web.url(f"{n}") for n in range(4)], tmp_path, interval=0.1)
    assert time.monotonic() - began >= 0.3


def test_a_server_that_asks_to_wait_is_left_alone_so_long(web: Web, tmp_path: Path) -> None:
    fetch([web.url("wait/1"), *(web.url(f"{n}") for n in range(4))], tmp_path, per_host=1)
    (refused, taken) = web.times["/wait/1"]
    between = [t for times in web.times.values() for t in times if refused < t < refused + 0.95]
    assert taken > refused + 0.95
    assert not between


def test_a_server_that_asks_for_an_hour_is_asked_nothing_more(web: Web, tmp_path: Path) -> None:
    found = fetch([web.url("shut/1"), *(web.url(f"{n}") for n in range(4))], tmp_path, per_host=1)
    assert web.asked == {"/shut/1": 1}
    assert all(item.reason == NOT_YET and "asks to wait" in item.trouble for item in found)


@pytest.mark.parametrize(("robots", "allowed"), [("heed", False), ("ignore", True), (None, True)])
def test_robots_txt(web: Web, tmp_path: Path, robots: str | None, allowed: bool) -> None:
    web.robots = b"User-agent: bespoke\nDisallow: /text/\nCrawl-delay: 0.1\n"
    open_, shut = fetch([web.url("1"), web.url("text/2")], tmp_path, robots=robots)
    assert open_.path
    assert bool(shut.path) == allowed
    assert web.asked["/robots.txt"] == (robots == "heed")
    assert all(agent.startswith("bespoke/") for agent in web.agents)
    if not allowed:
        assert "robots.txt forbids it" in shut.trouble
        assert one(web.url("text/2"), tmp_path, robots="ignore").path


def test_robots_txt_that_cannot_be_read_forbids_for_now(web: Web, tmp_path: Path) -> None:
    web.robots, web.robots_status = b"", 503
    found = one(web.url("1"), tmp_path, robots="heed")
    assert found.reason == NOT_YET and "robots.txt cannot be read: 503" in found.trouble
    web.robots_status = 200
    assert one(web.url("1"), tmp_path, robots="heed").path


def test_no_redirect_leads_from_the_internet_to_a_private_address(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stands in as a proxy for a host that is not on this machine, as far as its name tells."""
    host = web.address.removeprefix("http://")
    monkeypatch.setenv("HTTP_PROXY", web.address)
    monkeypatch.setenv("NO_PROXY", host.partition(":")[0])
    found = one("http://pictures.example/inward/1", tmp_path)
    assert "(download.private_addresses)" in found.trouble and found.reason == NOT_FETCHED
    assert web.asked == {"http://pictures.example/inward/1": 1}
    assert one("http://pictures.example/moved/2", tmp_path).path
    # What a table names at home may stay at home, but not where nothing private is wanted at all.
    assert one(web.url("inward/3"), tmp_path).path
    assert "(download.private_addresses)" in one(web.url("4"), tmp_path, private_addresses="refuse").trouble
    assert one("http://pictures.example/inward/1", tmp_path, private_addresses="allow").path


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("10.1.2.3", True), ("169.254.169.254", True),
     ("[::ffff:127.0.0.1]", True), ("192.168.0.1", True), ("0.0.0.0", True), ("2130706433", True), ("100.64.0.1", True),
     ("8.8.8.8", False), ("[2606:4700::1111]", False), ("no-such-name.invalid", False)],
)  # fmt: skip
def test_private_addresses(host: str, expected: bool) -> None:
    assert asyncio.run(private(httpx.URL(f"http://{host}/"))) == expected


def test_what_servers_say_in_headers() -> None:
    assert asked_wait(" 7 ") == 7
    assert asked_wait("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert asked_wait("Fri, 31 Dec 2999 23:59:59 GMT") > 1e9
    assert all(asked_wait(said) == 0 for said in ("", "soon", "-5", "²", "1e9"))
    assert opted_out(["noindex", "NoImageAI"]) == "noimageai"
    assert opted_out(["noindex, noai"]) == opted_out(["bespoke: noai"]) == "noai"
    assert opted_out(["otherbot: noai", "noindex"]) == opted_out([]) == ""


@pytest.mark.parametrize(
    ("address", "inside"),
    [("8.8.8.8", False), ("[2606:4700::1111]", False), ("[64:ff9b::808:808]", False), ("[2002:808:808::]", False),
     ("10.0.0.1", True), ("169.254.169.254", True), ("[::1]", True), ("[::ffff:10.0.0.1]", True), ("[fec0::1]", True),
     ("[64:ff9b::a9fe:a9fe]", True), ("[2002:7f00:1::]", True), ("[::7f00:1]", True), ("224.0.0.1", True)],
)  # fmt: skip
def test_addresses_of_ones_own_network_are_known_in_any_clothes(address: str, inside: bool) -> None:
    assert asyncio.run(private(httpx.URL(f"http://{address}/a.png"))) is inside


def test_a_table_that_changes_while_it_is_read(web: Web, tmp_path: Path) -> None:
    table = tmp_path / "photos.csv"
    table.write_text(f"url\n{web.url('1')}\n")

    def edited(done: int, total: int) -> None:
        table.write_text(f"url\n{web.url('1')}\n{web.url('2')}\n")

    first, second = download(Links(table), tmp_path / "in", Download(**QUICK), edited)
    assert first.path
    assert (second.path, second.reason) == (None, NOT_YET)
    assert "changed meanwhile" in second.trouble


def test_a_full_disk_is_explained_and_costs_nothing(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch([web.url("1")], tmp_path)
    replace = os.replace

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BespokeError, match="disk is full"):
        fetch([web.url(f"{n}") for n in range(3)], tmp_path)
    monkeypatch.setattr(os, "replace", replace)
    assert not list(tmp_path.rglob("*.tmp"))
    assert all(item.path for item in fetch([web.url(f"{n}") for n in range(3)], tmp_path))
    assert web.served["/1"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_disk_that_is_full_for_the_journal(web: Web, tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, Path("/dev/full").open("wb", buffering=0) as full:
        own, journal._file = journal._file, full
        with pytest.raises(BespokeError, match="disk is full"):
            journal.add(key_of(web.url("1")), web.url("1"), Outcome(trouble="404"))
        own.close()
    assert one(web.url("1"), tmp_path).path


def test_a_torn_or_damaged_journal_and_a_lost_picture_are_mended(web: Web, tmp_path: Path) -> None:
    urls = [web.url("1"), web.url("nothing/2"), web.url("gone/3")]
    kept, *_ = fetch(urls, tmp_path)
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    by_key = {json.loads(line)["key"]: line for line in whole}
    damaged = [by_key[key_of(urls[0])], b"\x00\xff{]\n", b"[]\n", by_key[key_of(urls[1])]]
    journal.write_bytes(b"".join(damaged) + by_key[key_of(urls[2])][:-9])
    fetch(urls, tmp_path)
    assert web.asked == {"/1": 1, "/nothing/2": 1, "/gone/3": 2}
    # What was written after the torn line is whole.
    fetch(urls, tmp_path)
    assert web.asked == {"/1": 1, "/nothing/2": 1, "/gone/3": 2}
    assert kept.path
    kept.path.unlink()
    assert one(urls[0], tmp_path).path == kept.path
    assert web.asked["/1"] == 2


def test_two_commands_do_not_fetch_into_one_folder(web: Web, tmp_path: Path) -> None:
    going = download([Link(web.url("1"), "1"), Link(web.url("2"), "2")], tmp_path, Download(**QUICK))
    next(going)
    with pytest.raises(BespokeError, match="Another command"):
        fetch([web.url("1")], tmp_path)
    going.close()
    assert one(web.url("1"), tmp_path).path


def test_it_works_where_a_loop_runs_already(web: Web, tmp_path: Path) -> None:
    async def notebook() -> Found:
        return one(web.url("1"), tmp_path)

    assert asyncio.run(notebook()).path


def test_few_links_are_under_way_at_once(web: Web, tmp_path: Path) -> None:
    """However long a table is, it is read as its links are fetched, and progress is told."""
    read, told = [0], list[tuple[int, int]]()

    class Table:
        def __iter__(self) -> Generator[Link]:
            for number in range(400):
                read[0] = number
                yield Link(web.url(f"{number % 7}"), f"{number}") if told or number < 20 else Link("", "x", trouble="x")

    most = [0]

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        most[0] = max(most[0], read[0] - done)

    list(download(Table(), tmp_path, Download(**QUICK, parallel=2), progress))
    assert told[-1] == (400, 400)
    assert [done for done, _ in told] == list(range(1, 401))
    assert most[0] <= module.AHEAD * 2


FETCH = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin by ignoring it
from bespoke.data.intake.download import download
from bespoke.data.intake.links import Link
from bespoke.recipe.dataset import Download
address, folder, count = sys.argv[1:]
links = [Link(f"{address}/{n}" if n % 5 else f"{address}/gone/{n}", str(n)) for n in range(int(count))]
print(sum(item.path is not None for item in download(links, Path(folder), Download(parallel=4, per_host=4))))
"""


def begun(web: Web, folder: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCH, web.address, str(folder), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT])
def test_after_a_kill_nothing_finished_is_fetched_again(web: Web, tmp_path: Path, signal_: signal.Signals) -> None:
    web.slowness, count = 0.02, 60
    paths = {key_of(web.url(path)): f"/{path}" for path in (_path(n) for n in range(count))}
    finished = dict[str, int]()
    for asked in (5, 20, 40):
        process = begun(web, tmp_path, count)
        while sum(web.asked.values()) < asked:
            time.sleep(0.002)
            assert process.poll() is None
        process.send_signal(signal_)
        assert process.wait(10) == -signal_
        process.communicate()
        lines = (tmp_path / "journal.jsonl").read_bytes().split(b"\n")[:-1]
        there = {path.stem for path in tmp_path.glob("??/*.jpg")} | {json.loads(line)["key"] for line in lines}
        assert {key: web.asked[paths[key]] for key in finished} == finished
        finished = {key: web.asked[paths[key]] for key in there}
    assert 20 < len(finished) < count
    out, errors = begun(web, tmp_path, count).communicate()
    assert out.strip() == str(count - count // 5), errors
    assert {key: web.asked[paths[key]] for key in finished} == finished
    # Nothing is lost, and at most what was under way at a kill was asked for once more.
    assert set(web.asked) == set(paths.values())
    assert sum(web.asked.values()) <= count + 3 * 4


def _path(number: int) -> str:
    return f"{number}" if number % 5 else f"gone/{number}"


def test_a_name_that_turns_private_between_look_up_and_connection_is_refused(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def public(url: httpx.URL) -> bool:
        return False

    monkeypatch.setattr(module, "private", public)  # as a name server says that changes its mind
    found = one(web.url("1"), tmp_path)
    assert found.path is None and "reached at a private address" in found.trouble
    assert "(download.private_addresses)" in found.trouble
    assert one(web.url("2"), tmp_path, private_addresses="allow").path
