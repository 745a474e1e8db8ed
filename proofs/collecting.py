"""Are pictures of the web lost or fetched twice when the import is killed? `python -m proofs.collecting`.

A table such as Unsplash's is imported by the command from a server on this machine that has every fault of the web. The
command is killed (SIGKILL) while it fetches, early and late, and while it checks what it fetched, and typed again each
time. Nothing may be lost, nothing that was finished asked for again, every row must be accounted for, and the dataset
must be the one that an import makes which nobody kills, and the one that a Ray cluster makes.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.data.pictures_server import Web, serving

from bespoke.data.intake.download import download
from bespoke.data.intake.links import Link, key_of
from bespoke.recipe.dataset import Download
from proofs import results

FAULTS = (
    "text", "png", "gzip", "moved", "once", "busy", "shortonce", "inward", "torn", "page", "empty", "gone", "forbidden",
    "missing", "bomb", "giant", "circle", "far", "file", "noai", "broken", "short", "stall", "trickle",
    "trickleheaders", "badgzip", "again", "no address", "no URL",
)  # fmt: skip
"""What befalls every seventh row, in turn; the server's words for it, and three faults of the table itself."""
SETTINGS = {"timeout": 2.0, "deadline": 4.0, "retries": 1, "backoff": 0.05, "per_host": 32, "maximum_bytes": 100_000}
COLUMNS = ("photo_id", "photo_url", "photo_image_url", "photo_description", "photographer_username", "ai_description")


def path_of(number: int) -> str | None:
    """What a row's URL says after the server's address; nothing where it has none that can be asked for."""
    fault = FAULTS[number // 7 % len(FAULTS)] if number % 7 == 6 else ""
    if fault in ("no address", "no URL"):
        return None
    if fault == "again":
        return f"{number - 1}"
    return f"{fault}/{number}" if fault else f"{number}"


def write_table(path: Path, web: Web, other: Web, count: int) -> None:
    """A table of so many rows; the last one's server asks to wait an hour, so it is a server of its own."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for number in range(count):
            own = path_of(number)
            url = web.url(own) if own is not None else "" if number % 2 else "neither here nor there"
            url = other.url(f"shut/{number}") if number == count - 1 else url
            page, said = f"https://photos.example/{number}", f"a thing with the number {number}"
            writer.writerow((f"id{number}", page, url, said if number % 3 else "", f"Ann {number % 50}", said))


@dataclass
class Command:
    """The import, typed in a folder of its own."""

    folder: Path
    count: int
    more: tuple[str, ...] = ()
    """Settings of the recipe."""

    def begin(self) -> subprocess.Popen[str]:
        """The process."""
        settings = [word for name, value in SETTINGS.items() for word in ("--set", f"download.{name}={value}")]
        settings += [word for setting in self.more for word in ("--set", setting)]
        words = [sys.executable, "-m", "bespoke", "data", "import", "photos.tsv", "dataset", "--json", *settings]
        environment = os.environ | {"PYTHONPATH": str(results.ROOT / "src")}
        return subprocess.Popen(
            words, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def finish(self) -> dict[str, Any]:
        """What the command says at its end."""
        process = self.begin()
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        return json.loads(out)

    def finished(self) -> set[str]:
        """The keys of what was fetched, or given up for good."""
        folder = self.folder / "downloads" / "photos"
        journal = folder / "journal.jsonl"
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        told = {line["key"]: line for line in map(json.loads, lines)}
        there = {path.stem for path in folder.glob("??/*") if not path.name.endswith(".tmp")}
        return there | {key for key, line in told.items() if not line["suffix"] and not line.get("passing")}

    def made(self) -> dict[str, str]:
        """The SHA-256 of every file of the dataset."""
        files = sorted(path for path in (self.folder / "dataset").rglob("*") if path.is_file())
        return {
            path.relative_to(self.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }


def killed(command: Command, web: Web, moments: Sequence[float]) -> list[dict[str, Any]]:
    """Kills the command when so many parts of the rows were asked for; beyond 1, when it checks what it fetched."""
    paths = {key_of(web.url(path)): f"/{path}" for path in map(path_of, range(command.count - 1)) if path is not None}
    kills: list[dict[str, Any]] = []
    finished = dict[str, int]()
    for moment in moments:
        process = command.begin()
        while process.poll() is None:
            asked = sum(path in web.asked for path in paths.values())
            if (moment <= 1 and asked >= moment * len(paths)) or (moment > 1 and _checking(command)):
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        check_not_again(web, paths, finished)
        finished = {key: web.asked[paths[key]] for key in command.finished() if key in paths}
        kills.append({"finished by then": len(finished), "while": "fetching" if moment <= 1 else "checking"})
    command.finish()
    check_not_again(web, paths, finished)
    lost = [path for path in paths.values() if path not in web.asked]
    assert not lost, f"never asked for: {lost[:5]}"
    return kills


def _checking(command: Command) -> bool:
    """Whether pictures are being checked: what was found out about the first 256 of them is there."""
    noted = list((command.folder / "dataset").glob(".facts-*"))
    return any(path.read_bytes().count(b"\n") > 256 for path in noted) or (command.count < 300 and _all_told(command))


def _all_told(command: Command) -> bool:
    journal = command.folder / "downloads" / "photos" / "journal.jsonl"
    return b"trickleheaders" in journal.read_bytes() if journal.exists() else False


def check_not_again(web: Web, paths: dict[str, str], finished: dict[str, int]) -> None:
    """Refuses that something was asked for since it was finished."""
    again = [paths[key] for key, times in finished.items() if web.asked[paths[key]] != times]
    assert not again, f"asked for again: {again[:5]}"


def prove(count: int, moments: Sequence[float], folder: Path) -> dict[str, Any]:
    """The figures; every claim is asserted on the way."""
    with serving() as web, serving() as other:
        web.stall = 2 * SETTINGS["timeout"]
        commands = [Command(folder / name, count) for name in ("killed", "whole")]
        for command in commands:
            command.folder.mkdir()
            write_table(command.folder / "photos.tsv", web, other, count)
        kills = killed(commands[0], web, moments)
        requests_killed = web.asked.total()
        web.asked.clear()
        other.asked.clear()
        began = time.perf_counter()
        told = commands[1].finish()
        seconds, requests = time.perf_counter() - began, web.asked.total()
        assert told["files"] == count, f"{told['files']} rows of {count} accounted for"
        first, second = (command.made() for command in commands)
        assert first == second, [name for name in {**first, **second} if first.get(name) != second.get(name)][:5]
        before = web.asked.copy()
        commands[1].finish()
        once_more = (web.asked - before).total()
        _check_ray(folder, count)
    record = json.loads((folder / "whole/dataset/dataset.json").read_text(encoding="utf-8"))
    why = Counter(_short(item["detail"]) for item in record["set_aside"] if item["reason"].startswith("not fetched"))
    return {
        "rows": count, "kept": told["kept"], "set_aside": told["set_aside"], "not_fetched_because": dict(why),
        "kills": kills, "seconds_of_the_whole_command": round(seconds, 1), "requests": requests,
        "requests_with_kills": requests_killed, "requests_of_one_more_import": once_more,
    }  # fmt: skip


def _check_ray(folder: Path, count: int) -> None:
    """Refuses that a Ray cluster makes another dataset of what was fetched."""
    command = Command(folder / "ray", count, ("data.backend=ray", "data.processes=2"))
    command.folder.mkdir()
    shutil.copy(folder / "whole" / "photos.tsv", command.folder)
    shutil.copytree(folder / "whole" / "downloads", command.folder / "downloads")
    command.finish()
    first, second = (Command(folder / name, count).made() for name in ("whole", "ray"))
    assert first == second, [name for name in {**first, **second} if first.get(name) != second.get(name)][:5]


def _short(detail: str) -> str:
    """Why a picture is not there, without its address and its line."""
    words = detail.removeprefix("line ").lstrip("0123456789: ") if detail.startswith("line ") else detail
    return words.split(": http")[0].split(" (")[0].split(": '")[0]


def speed(count: int, folder: Path) -> dict[str, Any]:
    """How fast sound, small pictures come, by default settings, from a server that shares this machine's cores."""
    command = [sys.executable, "-m", "tests.data.pictures_server"]
    server = subprocess.Popen(command, cwd=results.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    links, seconds = [Link(f"{address}/{number}", f"{number}") for number in range(count)], list[float]()
    for _ in range(2):
        began = time.perf_counter()
        assert all(item.path is not None for item in download(links, folder, Download()))
        seconds.append(time.perf_counter() - began)
    server.communicate("")
    return {
        "pictures": count,
        "pictures_a_second": round(count / seconds[0]),
        "seconds_once_they_are_there": seconds[1],
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        content = prove(options.rows, (0.2, 0.8, 2.0), Path(folder))
        content["sound pictures"] = speed(2000, Path(folder, "speed"))
    sys.stdout.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    results.write("collecting", content)


if __name__ == "__main__":
    main()
