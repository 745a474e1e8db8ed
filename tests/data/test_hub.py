"""Datasets of Hugging Face's hub, from a stand-in on this machine that answers what huggingface_hub asks; the live
hub was never asked."""

import hashlib
import io
import json
import re
import tarfile
import threading
import zipfile
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import numpy as np
import pyarrow
import pytest
from huggingface_hub import constants
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.data import build
from bespoke.data.intake import hub, landing, remote
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.records import Dataset

COMMIT = "c0ffee" * 6 + "c0ff"
FEATURES = {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}
CARD = b"---\nlicense: mit\n---\n# Things\n"


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels(number)).save(content, "PNG")
    return content.getvalue()


def published(numbers: range) -> bytes:
    """A Parquet file as `push_to_hub` of Hugging Face's datasets writes it."""
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    about = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    schema = pyarrow.schema([("image", image), ("text", pyarrow.string())], metadata=about)
    rows = [{"image": {"bytes": png(n), "path": f"{n}.png"}, "text": f"thing {n}"} for n in numbers]
    content = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), content)
    return content.getvalue()


def tables() -> dict[str, bytes]:
    parts = {f"data/train-0000{n}-of-00002.parquet": published(range(3 * n, 3 * n + 3)) for n in range(2)}
    return {".gitattributes": b"*.parquet filter=lfs\n", "README.md": CARD} | parts


def folder() -> dict[str, bytes]:
    rows = "".join(f"{n}.png,thing {n}\n" for n in range(6))
    pictures = {f"train/{n}.png": png(n) for n in range(6)}
    return {".gitattributes": b"", "train/metadata.csv": f"file_name,text\n{rows}".encode()} | pictures


@dataclass
class Shelf:
    """What the stand-in holds, and what it was asked."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    gated: set[str] = field(default_factory=set[str])
    revisions: tuple[str, ...] = ("main", "v1", COMMIT)
    page: int = 1000
    """Entries of one answer to /tree."""
    breaks: set[str] = field(default_factory=set[str])
    """Files of which the first answer ends in the middle."""
    asked: list[str] = field(default_factory=list[str])
    ranges: list[str] = field(default_factory=list[str])
    address: str = ""


class Answers(BaseHTTPRequestHandler):
    """The parts of the hub's interface that reading a dataset takes."""

    shelf: Shelf

    def do_GET(self) -> None:
        self.shelf.asked.append(self.path)
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        kind = parts.pop(0)
        if kind == "large":  # where the hub sends those who ask for a large file
            return self._content("/".join(parts[:2]), "/".join(parts[2:]))
        repository, (verb, revision, *path) = "/".join(parts[1:3]), [*parts[3:], "", ""][: max(2, len(parts) - 3)]
        if kind == "datasets":
            return self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        if (kind, parts[0]) != ("api", "datasets") or repository not in self.shelf.files:
            return self._nothing()
        if verb and revision not in self.shelf.revisions:
            return self._say(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        if verb == "tree":
            return self._tree(repository, "/".join(path))
        return self._say(200, {"id": repository, "sha": COMMIT, "private": False, "gated": False, "tags": []})

    def _nothing(self) -> None:
        """The same of what is missing and of what is private, but other to one who is logged in."""
        token = self.headers.get("Authorization", "")
        if token == "Bearer good":
            return self._say(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        said = "Invalid credentials in Authorization header" if token else "Invalid username or password."
        return self._say(401, {"error": said}, {"X-Error-Message": said})

    def do_POST(self) -> None:
        """Paths-info, which is asked of single files."""
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.shelf.asked.append(f"POST {self.path}")
        repository = "/".join(urlsplit(self.path).path.split("/")[3:5])
        self._say(200, [entry for entry in self._entries(repository, "") if entry["path"] in asked])

    def _tree(self, repository: str, below: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        entries = self._entries(repository, below)
        if query.get("recursive", ["false"])[0].lower() != "true":
            depth = len(below.split("/")) if below else 0
            entries = [entry for entry in entries if entry["path"].count("/") == depth]
        if not entries:
            return self._say(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.shelf.page
        query["cursor"] = [str(end)]
        following = "&".join(f"{key}={values[0]}" for key, values in query.items())
        link = f'<{self.shelf.address}{urlsplit(self.path).path}?{following}>; rel="next"'
        return self._say(200, entries[start:end], {"Link": link} if end < len(entries) else {})

    def _entries(self, repository: str, below: str) -> list[dict[str, Any]]:
        files = self.shelf.files[repository]
        inside = {name: content for name, content in files.items() if name.startswith(f"{below}/" if below else "")}
        folders = {name.rpartition("/")[0] for name in inside} - {"", below}
        entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": f} for f in folders]
        for name, content in inside.items():
            entry: dict[str, Any] = {"type": "file", "oid": "1" * 40, "size": len(content), "path": name}
            if name.endswith(".parquet"):
                digest = hashlib.sha256(content).hexdigest()
                entry |= {"lfs": {"oid": digest, "size": len(content), "pointerSize": 130}, "xetHash": digest}
            entries.append(entry)
        return sorted(entries, key=lambda entry: entry["path"])

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        content = self.shelf.files.get(repository, {}).get(name)
        if repository in self.shelf.gated:
            return self._say(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        if content is None or revision not in self.shelf.revisions:
            return self._say(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        if not name.endswith(".parquet"):
            return self._content(repository, name)
        self.send_response(302)
        self._about(content)
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Location", f"{self.shelf.address}/large/{repository}/{name}")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def _content(self, repository: str, name: str) -> None:
        content = self.shelf.files[repository][name]
        begin, end, asked = 0, len(content), self.headers.get("Range", "")
        if asked:
            self.shelf.ranges.append(asked)
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last) + 1, end) if last else end
        self.send_response(206 if asked else 200)
        self._about(content)
        self.send_header("Content-Length", str(end - begin))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.end_headers()
        if name in self.shelf.breaks:
            self.shelf.breaks.remove(name)
            end //= 2
        self.wfile.write(content[begin:end])

    def _about(self, content: bytes) -> None:
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")

    def _say(self, status: int, what: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(what).encode()
        self.send_response(status)
        for key, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keeps quiet."""


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Shelf]:
    """A stand-in for the hub with two datasets, which huggingface_hub asks while the test runs."""
    held = Shelf({"someone/tables": tables(), "someone/pictures": folder()})
    handler = type("Handler", (Answers,), {"shelf": held})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    held.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", held.address)
    template = f"{held.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    huggingface_hub.close_session()
    monkeypatch.chdir(tmp_path)
    yield held
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def imported(source: Path | str) -> Dataset:
    return build(source, Path("d"), Recipe())


def check(dataset: Dataset, numbers: range = range(6)) -> None:
    """The pictures and captions of the stand-in's datasets, to the last pixel."""
    assert {p.text for p in dataset.pictures} == {f"thing {n}" for n in numbers}
    assert len(dataset.pictures) == len(numbers)
    for picture in dataset.pictures:
        shown = np.asarray(Image.open(Path("d", "train", picture.file)))
        np.testing.assert_array_equal(shown, pixels(int(picture.text.split()[1])))


@pytest.mark.parametrize("name", ["tables", "pictures"])
@pytest.mark.parametrize("prefix", ["", "hf://datasets/"])
def test_a_dataset_of_the_hub_comes_in(shelf: Shelf, name: str, prefix: str) -> None:
    dataset = imported(f"{prefix}someone/{name}")
    check(dataset)
    assert not dataset.set_aside
    assert all(p.source.startswith(f"hf://datasets/someone/{name}/") for p in dataset.pictures)
    # However it is named, it is the same source, and importing it again changes nothing.
    assert imported(f"hf://datasets/someone/{name}") == dataset
    assert shelf.asked


@pytest.mark.parametrize(
    ("below", "numbers"),
    [
        ("tables@v1", range(6)),
        ("tables/data/train-00001-of-00002.parquet", range(3, 6)),
        ("tables/data", range(6)),
        ("pictures/train", range(6)),
        ("pictures/", range(6)),
    ],
)
def test_a_revision_a_folder_or_a_file_of_it_comes_in(shelf: Shelf, below: str, numbers: range) -> None:
    dataset = imported(f"hf://datasets/someone/{below}")
    check(dataset, numbers)
    assert any("v1" in path for path in shelf.asked) == ("v1" in below)


def test_a_long_list_of_files_is_read_to_its_end(shelf: Shelf) -> None:
    shelf.page = 2
    check(imported("someone/pictures"))
    assert any("cursor=2" in path for path in shelf.asked)


@pytest.mark.parametrize(
    ("name", "file"), [("tables", "data/train-00000-of-00002.parquet"), ("pictures", "train/3.png")]
)
def test_a_download_that_breaks_off_goes_on_where_it_was(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    for module in (landing, remote):
        monkeypatch.setattr(module, "CHUNK", 512)
    shelf.breaks.add(file)
    check(imported(f"someone/{name}"))
    # Tables are read by place: each of the two in one answer, and the one that broke off once more.
    assert not shelf.breaks and len(shelf.ranges) == {"tables": 3, "pictures": 1}[name]


def test_what_was_added_on_the_hub_comes_in_by_the_same_process(shelf: Shelf) -> None:
    with pytest.raises(BespokeError, match="not on the hub"):
        imported("someone/later")
    shelf.files["someone/later"] = {key: value for key, value in tables().items() if "00001-of" not in key}
    check(imported("someone/later"), range(3))
    shelf.files["someone/later"] = tables()
    check(imported("someone/later"))


@pytest.mark.parametrize("below", ["", "/things.zip"])
def test_an_archive_with_its_card_comes_in(shelf: Shelf, below: str) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in folder().items():
            archive.writestr(name, part)
    shelf.files["someone/zipped"] = {".gitattributes": b"", "README.md": CARD, "things.zip": content.getvalue()}
    dataset = imported(f"hf://datasets/someone/zipped{below}")
    check(dataset)
    assert not dataset.set_aside


def test_shards_of_the_hub_come_in(shelf: Shelf) -> None:
    files: dict[str, bytes] = {".gitattributes": b"", "README.md": CARD}
    for number in range(2):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for n in range(3):
                for name, raw in ((f"{n}.png", png(3 * number + n)), (f"{n}.txt", f"thing {3 * number + n}".encode())):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(raw)
                    archive.addfile(entry, io.BytesIO(raw))
        files[f"data/{number:05}.tar"] = content.getvalue()
    shelf.files["someone/shards"] = files
    dataset = imported("someone/shards")
    check(dataset)
    assert not dataset.set_aside
    assert imported("hf://datasets/someone/shards/data/0000{0..1}.tar").files == 6


def test_a_folder_of_that_name_wins(shelf: Shelf) -> None:
    for name, content in folder().items():
        path = Path("someone/tables", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    dataset = imported("someone/tables")
    check(dataset)
    assert not shelf.asked
    assert dataset.pictures[0].source.startswith("someone/tables/")


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "./a/b", "../a", "/a/b", "~/a", "a/b.zip", "a b/c"])
def test_what_is_no_id_is_not_asked_of_the_hub(shelf: Shelf, source: str) -> None:
    with pytest.raises(BespokeError) as told:
        imported(source)
    assert told.value.problem == f"There is no folder {Path(source)}."
    assert not shelf.asked


def test_a_path_is_no_id(shelf: Shelf) -> None:
    with pytest.raises(BespokeError, match="There is no folder someone/tables"):
        imported(Path("someone/tables"))
    assert not shelf.asked


SECRET = "hf://datasets/someone/secret is not on the hub, or it is private."


@pytest.mark.parametrize(
    ("source", "problem", "hint"),
    [
        ("hf://datasets/someone/secret", f"^{SECRET}$", "set HF_TOKEN"),
        ("someone/secret", f"^There is no folder someone/secret, and {SECRET}$", "hf auth login"),
        ("hf://someone/tables", "^hf://someone/tables is not on the hub", "at hf://datasets/OWNER/NAME"),
        ("hf://datasets/someone/tables@v9", "not what is named in it", "revisions"),
        ("hf://datasets/someone/tables/none.parquet", "not what is named in it", "files"),
        ("hf://datasets/some..one/x", "cannot be read: Invalid", "address"),
        ("hf://datasets/alone", "cannot be read", "address"),
    ],
)
def test_what_the_hub_does_not_give_is_told(shelf: Shelf, source: str, problem: str, hint: str) -> None:
    with pytest.raises(BespokeError) as told:
        imported(source)
    assert re.search(problem, told.value.problem)
    assert hint in told.value.hint
    assert not Path("d").exists()


@pytest.mark.parametrize(("token", "problem"), [("good", "is private"), ("bad", "cannot be read: .*401")])
def test_a_token_is_sent_and_what_it_does_not_open_is_told(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, token: str, problem: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(BespokeError, match=problem):
        imported("someone/secret")


def test_a_gated_dataset_is_told(shelf: Shelf) -> None:
    shelf.gated.add("someone/pictures")
    with pytest.raises(BespokeError, match=r"is gated\.\nAccept its conditions") as told:
        imported("hf://datasets/someone/pictures")
    assert "HF_TOKEN" in told.value.hint


def test_offline_nothing_is_asked_and_that_is_told(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BespokeError, match=r"^hf://datasets/someone/tables cannot be fetched: HF_HUB_OFFLINE"):
        imported("hf://datasets/someone/tables")
    with pytest.raises(BespokeError, match=r"^There is no folder someone/tables, and hf://.*HF_HUB_OFFLINE") as told:
        imported("someone/tables")
    assert "Unset HF_HUB_OFFLINE" in told.value.hint
    assert not shelf.asked


def test_a_hub_that_is_not_reached_is_told(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BespokeError, match="There is no folder my/photos, and hf://datasets/my/photos cannot be read"):
        imported("my/photos")


def test_the_commands_take_an_id_and_leave_with_2_where_there_is_none(shelf: Shelf) -> None:
    done = CliRunner().invoke(app, ["data", "import", "someone/tables", "project/dataset"])
    assert done.exit_code == 0, done.output
    assert len(list(Path("project/dataset/train").glob("*.png"))) == 6
    failed = CliRunner().invoke(app, ["data", "import", "someone/secret", "other/dataset"])
    assert failed.exit_code == 2
    assert "There is no folder someone/secret" in failed.output
    assert not Path("other").exists()


def test_a_card_beside_parquet_files_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in tables().items():
        path = Path("clone", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    dataset = imported("clone")
    check(dataset)
    assert not dataset.set_aside


@pytest.mark.parametrize("source", ["a/b", "stable-diffusion-v1-5/things_1.0"])
def test_an_id_has_an_address(source: str) -> None:
    assert hub.address(source) == f"hf://datasets/{source}"
