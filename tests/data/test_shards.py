"""Datasets in shards, here and on stores: WebDataset's tars and Parquet files in and out, in one pass, after a kill."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Generator
from hashlib import sha256
from pathlib import Path
from typing import Any

import braceexpand
import fsspec
import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.data.store import Store, running
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.data import build, export, load
from bespoke.data.intake import archives, shards
from bespoke.data.intake.landing import Landing
from bespoke.data.intake.remote import Place
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.records import Dataset

Samples = dict[str, dict[str, bytes]]


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels(number)).save(content, "PNG")
    return content.getvalue()


def shard(samples: Samples) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for key, members in samples.items():
            for ending, raw in members.items():
                entry = tarfile.TarInfo(f"{key}.{ending}")
                entry.size = len(raw)
                archive.addfile(entry, io.BytesIO(raw))
    return content.getvalue()


def numbered(number: int, count: int = 3) -> bytes:
    """A shard of pictures that are called the same in each."""
    first = number * count
    return shard({f"{n:04}": {"png": png(first + n), "txt": f"thing {first + n}".encode()} for n in range(count)})


SET = {f"shards-{number:06d}.tar": numbered(number) for number in range(3)}


def imported(source: Path | str, folder: Path) -> Dataset:
    return build(source, folder, Recipe())


def told(dataset: Dataset) -> set[tuple[object, ...]]:
    """What an import is about, whatever names its files have."""
    return {
        (p.pixels, p.text, p.repeats, p.weight, p.split, p.asked_split, *sorted(p.labels.items()))
        for p in dataset.pictures
    }


def check(dataset: Dataset, folder: Path, numbers: range = range(9)) -> None:
    """The pictures and captions of `SET`, to the last pixel, and nothing left of how they came."""
    assert {p.text for p in dataset.pictures} == {f"thing {n}" for n in numbers}
    assert len(dataset.pictures) == len(numbers) and not dataset.set_aside
    for picture in dataset.pictures:
        shown = np.asarray(Image.open(folder / "train" / picture.file))
        np.testing.assert_array_equal(shown, pixels(int(picture.text.split()[1])))
    assert not (folder / ".incoming").exists()


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Generator[Store]:
    with running() as held:
        said = {"ENDPOINT_URL": held.address, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s",
                "DEFAULT_REGION": "us-east-1", "EC2_METADATA_DISABLED": "true"}  # fmt: skip
        for name, value in said.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        held.files |= {f"things/set/{name}": content for name, content in SET.items()}
        yield held


@pytest.fixture
def memory() -> dict[str, bytes]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name, content in SET.items():
        system.pipe(f"/set/{name}", content)
    return system.store


FORMS = ["{}", "{}/shards-{{000000..000002}}.tar", "{}/*.tar", "{}/shards-{{000000,000001,000002}}.tar"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["folder", "file", "memory", "s3"])
def test_shards_come_in_wherever_they_lie_and_however_they_are_named(
    tmp_path: Path, memory: object, store: Store, where: str, form: str
) -> None:
    here = lay(tmp_path / "in", SET)
    base = {"folder": here, "file": here.as_uri(), "memory": "memory://set", "s3": "s3://things/set"}[where]
    source = form.format(base)
    dataset = imported(source, tmp_path / "d")
    check(dataset, tmp_path / "d")
    # Equal keys in different shards are different pictures, and each says where it is from.
    named = {"file": here}.get(where, base)
    assert {p.source for p in dataset.pictures} == {f"{named}/{name}/{n:04}.png" for name in SET for n in range(3)}
    assert imported(FORMS[0].format(base), tmp_path / "d") == dataset


@pytest.mark.parametrize("name", ["shards-{000000..000002}.tar", "shards-000001.tar"])
def test_shards_of_a_web_server_are_read_in_one_answer_each(tmp_path: Path, store: Store, name: str) -> None:
    dataset = imported(f"{store.address}/things/set/{name}?signature=secret", tmp_path / "d")
    check(dataset, tmp_path / "d", range(9) if "{" in name else range(3, 6))
    gets = [line for line in store.asked if line.startswith("GET")]
    assert len(gets) == len(set(gets)) == (3 if "{" in name else 1)
    assert "secret" not in (tmp_path / "d" / "dataset.json").read_text()


def test_the_files_of_a_sample_speak_of_its_picture(tmp_path: Path) -> None:
    # Source: img2dataset, README, "Output format"; WebDataset's README: a key ends at the first dot.
    about = {"caption": "not heard", "url": "https://x/y.jpg", "key": "1", "status": "success", "width": 40,
             "error_message": None, "sha256": "0" * 64, "licence": "CC0", "score": 0.5,
             "exif": "{}", "list": [{}]}  # fmt: skip
    samples: Samples = {
        "a/1": {"png": png(1), "txt": b"first", "json": json.dumps(about).encode()},
        "a/2": {"json": json.dumps({"caption": "second", "repeats": 3}).encode(), "png": png(2), "cls": b"7"},
        "b/2": {"front.png": png(3), "txt": b"third", "json": b"{"},
        "b/3": {"png": png(4), "mask.png": png(5), "caption": b"fourth"},
        "b/4": {"png": png(6), "json": b'{"url": "u"}'},
        "b/5": {"json": b'{"weight": 2, "split": "val", "labels": {"source": "hand"}}', "png": png(7), "txt": b"fifth"},
    }
    dataset = imported(lay(tmp_path, {"one.tar": shard(samples)}) / "one.tar", tmp_path / "d")
    by_text = {p.text: p for p in dataset.pictures}
    assert by_text["first"].labels == {"url": "https://x/y.jpg", "licence": "CC0", "score": "0.5"}
    assert (by_text["second"].labels, by_text["second"].repeats) == ({"cls": "7"}, 3)
    assert by_text["third"].source.endswith("one.tar/b/2.front.png")
    fifth = by_text["fifth"]
    assert (fifth.weight, fifth.asked_split, fifth.labels) == (2, "validation", {"source": "hand"})
    # The mask beside a picture that has the caption gets none, and what no file says is told.
    assert {item.source.rpartition("/")[2] for item in dataset.set_aside} == {"3.mask.png", "4.png"}
    assert dataset.reasons() == {"no caption": 2} and len(dataset.pictures) == 5


def test_what_img2dataset_puts_beside_a_shard_is_no_picture(tmp_path: Path) -> None:
    beside = {"00000.parquet": b"PAR1", "00000_stats.json": b"{}", "README.md": b"# Things", ".cache/x": b""}
    lay(tmp_path / "in", {"00000.tar": numbered(0)} | beside)
    check(imported(tmp_path / "in", tmp_path / "d"), tmp_path / "d", range(3))
    (tmp_path / "in" / "other.png").write_bytes(png(20))  # then it is a folder as any other
    with pytest.raises(BespokeError, match="No picture"):
        imported(tmp_path / "in", tmp_path / "d2")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them to Python
def test_shards_that_webdataset_wrote_come_in_and_it_reads_those_that_go_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pattern = (tmp_path / "in" / "%06d.tar").as_posix()
    with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
        for n in range(9):
            writer.write({"__key__": f"{n:04}", "png": pixels(n), "txt": f"thing {n}", "cls": n % 2})
    dataset = imported(tmp_path / "in", tmp_path / "d")
    check(dataset, tmp_path / "d")
    assert all(p.labels == {"cls": str(int(p.text.split()[1]) % 2)} for p in dataset.pictures)
    counts, unsaid = export(tmp_path / "d", tmp_path / "out", "webdataset", most=12_000)
    assert not unsaid
    for part, count in counts.items():
        files = sorted((tmp_path / "out" / part).glob("*.tar"))
        assert [file.name for file in files] == [f"{n:06d}.tar" for n in range(len(files))]
        read = webdataset.WebDataset([str(file) for file in files], shardshuffle=False, empty_check=False).decode(
            "rgb8"
        )
        samples = list(read)
        by_text = {p.text: p for p in dataset.part(part)}
        assert len(samples) == count == len(by_text)
        for sample in samples:
            picture = by_text[sample["txt"]]
            np.testing.assert_array_equal(sample["png"], pixels(int(picture.text.split()[1])))
            assert sample["json"] == {
                "caption": picture.text, "repeats": 1.0, "weight": 1.0, "labels": picture.labels,
                "source": picture.source, "sha256": picture.sha256,
            }  # fmt: skip
    assert len(list((tmp_path / "out" / "train").glob("*.tar"))) > 1


def rich(tmp_path: Path) -> Dataset:
    """A dataset that says all that one can say, and has names that need care."""
    names = ["a.b.png", "a_b.png", "ünï.png", "x" * 110 + ".png", "multiply.png", "README.png", "a.png"]
    files = {name: png(40 + n) for n, name in enumerate(names)}
    rows = [f'{name},"said, ""of"" {n} ñ",{n + 1},{0.5 + n},{["", "train", "validation"][n % 3]},who {n},,'
            for n, name in enumerate(names)]  # fmt: skip
    table = "\n".join(["file_name,text,repeats,weight,split,subject,key,source", *rows, ""])
    lay(tmp_path / "rich", files | {"metadata.csv": table.encode()})
    return imported(tmp_path / "rich", tmp_path / "d")


@pytest.mark.parametrize("layout", ["webdataset", "parquet"])
@pytest.mark.parametrize("where", ["folder", "memory", "s3"])
def test_out_and_in_again_loses_nothing_of_what_can_be_said(
    tmp_path: Path, memory: object, store: Store, layout: str, where: str
) -> None:
    dataset = rich(tmp_path)
    out = {"folder": str(tmp_path / "out"), "memory": "memory://out/there", "s3": "s3://things/out"}[where]
    _, unsaid = export(tmp_path / "d", out, layout, most=8_000)
    again = imported(out, tmp_path / "d2")
    assert told(again) == told(dataset) and not again.set_aside and not unsaid
    assert told(load(tmp_path / "d2")) == told(dataset)


@pytest.mark.parametrize("layout", ["webdataset", "parquet"])
def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path, layout: str) -> None:
    rich(tmp_path)
    made = []
    for turn in range(2):
        export(tmp_path / "d", tmp_path / f"out{turn}", layout, most=9_000)
        made.append({p.relative_to(tmp_path / f"out{turn}").as_posix(): p.read_bytes()
                     for p in (tmp_path / f"out{turn}").rglob("*") if p.is_file()})  # fmt: skip
        for path in (tmp_path / "d" / "train").iterdir():
            os.utime(path, (turn, turn))
    assert made[0] == made[1] and len(made[0]) >= 4
    export(tmp_path / "d", tmp_path / "one", layout)
    suffix = "/000000.tar" if layout == "webdataset" else ".parquet"
    assert {p.relative_to(tmp_path / "one").as_posix() for p in (tmp_path / "one").rglob("*") if p.is_file()} == {
        f"{part}{suffix}" for part in ("train", "validation")
    }


def sent(store: Store, place: str) -> dict[str, bytes]:
    """What lies at a place, but for what stands for a folder there."""
    start = f"things/{place}/"
    return {name.removeprefix(start): c for name, c in store.files.items() if name.startswith(start) and c}


@pytest.mark.parametrize("layout", ["webdataset", "parquet"])
def test_an_export_that_was_stopped_sends_only_what_is_missing(tmp_path: Path, store: Store, layout: str) -> None:
    rich(tmp_path)
    export(tmp_path / "d", "s3://things/whole", layout, most=8_000)
    whole = sent(store, "whole")
    assert store.fetched("PUT")[-1] == "whole/.manifest.json"
    manifest = json.loads(whole[".manifest.json"])["files"]
    assert whole.keys() == {*manifest, ".manifest.json"} and len(manifest) >= 4
    assert all(len(whole[name]) == said["bytes"] for name, said in manifest.items())
    assert {name: sha256(whole[name]).hexdigest() for name in manifest} == {n: m["sha256"] for n, m in manifest.items()}
    with pytest.raises(BespokeError, match=r"is there already: \.manifest"):
        export(tmp_path / "d", "s3://things/whole", layout, most=8_000)
    first, second, third, *_ = manifest
    store.refuses = f"things/out/{third}"
    with pytest.raises(BespokeError, match=f"^You may not read or write s3://things/out/{third}"):
        export(tmp_path / "d", "s3://things/out", layout, most=8_000)
    assert sent(store, "out").keys() == {".begun.json", first, second}
    store.refuses = ""
    with pytest.raises(BespokeError, match="begun and is another"):
        export(tmp_path / "d", "s3://things/out", layout, most=20_000)
    store.files[f"things/out/{second}"] = whole[second][:100]
    store.asked.clear()
    export(tmp_path / "d", "s3://things/out", layout, most=8_000)
    assert sent(store, "out") == whole
    assert f"out/{first}" not in store.fetched("PUT")
    store.files["things/other/a.tar"] = b"somebody's"
    with pytest.raises(BespokeError, match=r"is there already: a\.tar"):
        export(tmp_path / "d", "s3://things/other", layout)


def test_folders_go_to_no_url(tmp_path: Path) -> None:
    rich(tmp_path)
    with pytest.raises(BespokeError, match="goes to no URL"):
        export(tmp_path / "d", "memory://out", "kohya")


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_a_damaged_shard_is_named_and_the_others_are_not_fetched_again(
    tmp_path: Path, store: Store, where: str
) -> None:
    cut = SET["shards-000001.tar"][:4000]
    here = lay(tmp_path / "in", SET | {"shards-000001.tar": cut})
    store.files["things/set/shards-000001.tar"] = cut
    source = here if where == "folder" else "s3://things/set"
    with pytest.raises(BespokeError, match=r"/shards-000001\.tar cannot be unpacked") as caught:
        imported(source, tmp_path / "d")
    assert "make it anew, or leave it out" in caught.value.hint
    arrived = {path.name: path.stat().st_ino for path in (tmp_path / "d").rglob("shards-000000.tar/*.png")}
    assert len(arrived) == 3
    store.asked.clear()
    lay(here, {"shards-000001.tar": SET["shards-000001.tar"]})
    store.files["things/set/shards-000001.tar"] = SET["shards-000001.tar"]
    dataset = imported(source, tmp_path / "d")
    check(dataset, tmp_path / "d")
    if where == "s3":
        assert store.fetched() == ["set/shards-000001.tar", "set/shards-000002.tar"]
    # No byte was copied: the files are those that arrived first.
    moved = {p.source.rpartition("/")[2]: (tmp_path / "d" / "train" / p.file).stat().st_ino
             for p in dataset.pictures if "shards-000000" in p.source}  # fmt: skip
    assert moved == arrived


KILLED = """
import sys
from pathlib import Path
from bespoke.data import build
from bespoke.recipe import Recipe
build(sys.argv[1], Path(sys.argv[2]), Recipe())
"""


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_kill_costs_the_member_being_written_at_most(tmp_path: Path, store: Store, part: float) -> None:
    name = "things/set/shards-000001.tar"
    store.files[name] = content = numbered(1, 30)
    store.files["things/set/shards-000000.tar"] = numbered(0, 30)
    store.files["things/set/shards-000002.tar"] = numbered(2, 30)
    store.halts[name] = int(part * len(content))
    source = f"{store.address}/things/set/shards-{{000000..000002}}.tar"
    victim = subprocess.Popen([sys.executable, "-c", KILLED, source, str(tmp_path / "d")])
    assert store.halted.wait(60)
    spool, wanted = tmp_path / "d" / ".incoming", int(part * 30) - 3
    try:
        while len(list(spool.rglob("shards-000001.tar/*.png"))) < wanted:
            assert victim.poll() is None
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    there = {f"{p.parent.name}/{p.name}": p.stat() for p in spool.rglob("*.png")}
    assert len(there) >= 30 + wanted and not (tmp_path / "d" / "dataset.json").exists()
    store.halts.clear()
    store.go.set()
    store.asked.clear()
    dataset = imported(source, tmp_path / "d")
    check(dataset, tmp_path / "d", range(90))
    assert store.fetched() == ["set/shards-000001.tar", "set/shards-000002.tar"]
    by_source = {p.source: (tmp_path / "d" / "train" / p.file).stat() for p in dataset.pictures}
    for name, before in there.items():
        (after,) = [state for source, state in by_source.items() if source.endswith(name)]
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_shard_that_changed_after_a_kill_is_read_anew(tmp_path: Path) -> None:
    here = lay(tmp_path / "in", SET | {"shards-000002.tar": b"x"})
    with pytest.raises(BespokeError, match="cannot be unpacked"):
        imported(here, tmp_path / "d")
    lay(here, SET | {"shards-000000.tar": numbered(9)})
    os.utime(here / "shards-000000.tar", (1, 1))
    dataset = imported(here, tmp_path / "d")
    assert {p.text for p in dataset.pictures} == {f"thing {n}" for n in (*range(3, 9), *range(27, 30))}


@pytest.mark.parametrize("when", ["_copy", "sorted_out"])
def test_a_kill_after_everything_arrived_costs_nothing(tmp_path: Path, store: Store, when: str) -> None:
    code = f"""
import os, signal
from bespoke.data import importing
there, count = importing.os.link, []
def late(*names):
    count.append(names)
    if len(count) == 4: os.kill(os.getpid(), signal.SIGKILL)
    return there(*names)
if {when!r} == "_copy": importing.os.link = late
else: importing.sorted_out = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
    words = [sys.executable, "-c", code + KILLED, "s3://things/set", str(tmp_path / "d")]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "d").glob("train/*.png"))) == (3 if when == "_copy" else 0)
    store.asked.clear()
    check(imported("s3://things/set", tmp_path / "d"), tmp_path / "d")
    assert not store.fetched()


def test_what_arrives_is_counted(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build(lay(tmp_path / "in", SET), tmp_path / "d", Recipe(), arriving=lambda *told: seen.append(told))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_what_was_left_of_other_shards_does_not_come_in(tmp_path: Path) -> None:
    here = lay(tmp_path / "in", SET | {"shards-000002.tar": b"x"})
    with pytest.raises(BespokeError, match="cannot be unpacked"):
        imported(f"{here}/shards-00000{{0..2}}.tar", tmp_path / "d")
    check(imported(f"{here}/shards-00000{{1..1}}.tar", tmp_path / "d"), tmp_path / "d", range(3, 6))


def test_passwords_are_kept_nowhere(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name, content in SET.items():
        system.pipe(f"/user:secret@host/{name}", content)
    system.pipe("/user:secret@host/shards-000003.tar", b"x")
    for last in (3, 2):
        source = f"memory://user:secret@host/shards-{{000000..{last:06d}}}.tar"
        if last == 3:
            with pytest.raises(BespokeError) as caught:
                imported(source, tmp_path / "d")
            assert "secret" not in str(caught.value)
        else:
            imported(source, tmp_path / "d")
        written = [path for path in (tmp_path / "d").rglob("*") if path.is_file()]
        assert written
        assert not [path for path in written if b"secret" in path.read_bytes() or "secret" in str(path)]
    export(tmp_path / "d", "memory://user:secret@host/out", "webdataset")
    assert not [name for name, file in system.store.items() if "/out/" in name and b"secret" in file.getvalue()]


@pytest.mark.parametrize(
    ("source", "problem", "hint"),
    [
        ("s3://things/none.tar", r"^There is nothing at s3://things/none\.tar\.$", "Check the address"),
        ("s3://things/set/shards-{000000..000004}.tar", "nothing at s3://things/set/shards-000003.tar", "goes on"),
        ("s3://nowhere/a.tar", "^There is no bucket nowhere: s3://nowhere/a.tar leads nowhere", "Check the address"),
        ("s3://locked/a.tar", "^You may not read or write s3://locked/a.tar", "AWS_ACCESS_KEY_ID"),
        ("s3://locked/*.tar", "^You may not read or write s3://locked", "AWS_PROFILE"),
        ("abfs://things@account.dfs.core.windows.net/a.tar", "needs a package that is missing.*adlfs", "with pip"),
        ("s3://things/set/*.zip", r"^No file fits s3://things/set", "quotation marks"),
        ("memory://set/{0..999999999}.tar", "names 1000000000 files", "at most"),
        ("memory://set/*", "is a file, not a folder", "parquet"),
        ("memory://set/{a,..}/b.tar", "leads out of the folder", "one after the other"),
        ("s3://things[/a.tar", "is no URL: Invalid IPv6", "%5B"),
        ("https://ann:secret@web[/a.tar", "^The source is no URL: Invalid IPv6 URL.$", "%5B"),
    ],
)
def test_what_a_store_does_not_give_is_told(
    tmp_path: Path, store: Store, memory: dict[str, bytes], source: str, problem: str, hint: str
) -> None:
    fsspec.filesystem("memory").pipe("/set/other.bin", b"x")
    with pytest.raises(BespokeError) as caught:
        imported(source, tmp_path / "d")
    assert re.search(problem, caught.value.problem), caught.value.problem
    assert hint in caught.value.hint


def test_messages_keep_secrets_however_a_library_tells_them() -> None:
    place = Place("s3://ann:p%40ss@bucket/a.tar?signature=ab%2Fcdef&v=1")
    said = [place._refused(ValueError(f"no {secret} here"), "it").problem
            for secret in ("ann:p%40ss", "ann:p@ss", "p@ss", "signature=ab%2Fcdef&v=1", "ab/cdef")]  # fmt: skip
    assert said == ["it cannot be read: no … here"] * 5


def test_a_pattern_leads_nowhere_else(tmp_path: Path) -> None:
    lay(tmp_path / "in", {"a/0.tar": numbered(0), "0.tar": numbered(1)})
    with pytest.raises(BespokeError, match="leads out of the folder in which it begins"):
        imported(f"{tmp_path}/in/a/{{.,..}}/0.tar", tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_disk_that_is_full_for_a_small_picture_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".writing").symlink_to("/dev/full")
    with pytest.raises(BespokeError, match="disk is full"):
        Landing(tmp_path).write(tmp_path / "a.png", io.BytesIO(b"small"))


def test_shards_and_tables_are_not_mixed(tmp_path: Path) -> None:
    lay(tmp_path / "in", {"a.tar": numbered(0), "b.parquet": b"PAR1"})
    with pytest.raises(BespokeError, match="several kinds"):
        imported(f"{tmp_path}/in/*", tmp_path / "d")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    lay(tmp_path, {"a.tar": entry.tobuf(tarfile.GNU_FORMAT) + numbered(0)})
    with pytest.raises(BespokeError, match="too long"):
        imported(tmp_path / "a.tar", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_one_bomb_among_shards_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1 << 20)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a.png")
        entry.size = 64 << 20
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    lay(tmp_path / "in", SET | {"z.tar.gz": content.getvalue()})
    with pytest.raises(BespokeError, match=r"z\.tar\.gz cannot be unpacked: .* as a bomb does"):
        imported(tmp_path / "in", tmp_path / "d")


@given(st.lists(st.sampled_from(["a", "{0..3}", "{08..11}", "{x,y,}", "/", ".tar", "{3..1}"]), max_size=4).map("".join))
def test_braces_mean_what_webdataset_takes_them_for(pattern: str) -> None:
    if "{3..1}" not in pattern:
        assert shards.expanded(pattern) == list(braceexpand.braceexpand(pattern))
    else:  # bash counts down; nobody names shards so
        assert shards.expanded(pattern) == []


def test_a_file_whose_name_has_braces_is_itself(tmp_path: Path) -> None:
    lay(tmp_path, {"a{0..1}.tar": numbered(0)})
    check(imported(tmp_path / "a{0..1}.tar", tmp_path / "d"), tmp_path / "d", range(3))


def run(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_commands_of_the_manual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.chdir(tmp_path)
    manual = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    block = manual.partition("## Shards and stores")[2].partition("```\n")[2].partition("```")[0]
    lines = [line.split() for line in block.strip().splitlines()]
    assert len(lines) == 5
    store.files = {f"bucket/set/shards-{number:06d}.tar": numbered(number) for number in range(12)}
    for line in lines:
        words = [word.strip("'") for word in line[1:]]
        if words[:2] == ["data", "export"]:
            assert sum(run(*words)["pictures"].values()) == 36
        else:
            assert run(*words)["kept"] == 36
    assert any(name.startswith("bucket/out/train/") for name in store.files)
