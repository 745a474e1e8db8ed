"""Models and adapters behind URLs: fetched once from a store or a web server on this machine, and used as files are."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.data.store import Store, running
from tests.models.hub_server import files_in
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import PICO, find, singlefile
from bespoke.pipeline.fetching import brought, checkpoint_of
from bespoke.pipeline.naming import base_of, named
from bespoke.pipeline.passports import inspect_model
from bespoke.recipe import Recipe, parse

QUICK = ["--set", "sample.num_inference_steps=2", "--no-safety-checker"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """This person's cache, and a store in this process's memory, both empty before and after."""
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    fsspec.filesystem("memory").store.clear()
    yield tmp_path / "cache"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with running() as held:
        said = {"ENDPOINT_URL": held.address, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s",
                "DEFAULT_REGION": "us-east-1", "EC2_METADATA_DISABLED": "true"}  # fmt: skip
        for name, value in said.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield held


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pico in one file."""
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    base = find("pico")
    save_file(singlefile.content_of(base.denoiser(), base.vae(), base.text_encoder()), path)
    return path


def put_folder(store: Store, prefix: str) -> None:
    beside = {"unet/diffusion_pytorch_model.fp16.safetensors": b"half", "unet/diffusion_pytorch_model.bin": b"pickle"}
    store.files |= {f"{prefix}/{name}": content for name, content in files_in(PICO, **beside).items()}


def picture(model: str, out: str, *more: str) -> np.ndarray:
    invoked = CliRunner().invoke(app, ["sample", model, "a red cat", *QUICK, "--out", out, *more])
    assert invoked.exit_code == 0, invoked.output
    return np.asarray(Image.open(f"{out}/000-seed0.png"))


def test_one_file_of_a_web_server_draws_as_on_disk_and_comes_once(store: Store, whole: Path) -> None:
    store.files["models/whole.safetensors"] = whole.read_bytes()
    url = f"{store.address}/models/whole.safetensors?token=secrettoken"
    drawn = picture(url, "one")
    assert (drawn == picture(str(whole), "two")).all()
    store.asked.clear()
    found = named(url)
    assert not store.fetched() and found.name == f"{store.address}/models/whole.safetensors"
    told = CliRunner().invoke(app, ["models", "inspect", url])
    assert "whole model" in told.output and "secrettoken" not in told.output
    assert not any("secrettoken" in str(path) for path in Path("cache").rglob("*"))
    assert b"secrettoken" not in Path("one/000-seed0.png").read_bytes()


@pytest.mark.parametrize("scheme", ["s3", "memory", "file"])
def test_a_folder_in_a_store_is_the_same_model(store: Store, scheme: str) -> None:
    put_folder(store, "box/models/pico")
    memory = fsspec.filesystem("memory")
    for name, content in store.files.items():
        memory.pipe(f"/{name}", content)
    urls = {"s3": "s3://box/models/pico", "memory": "memory://box/models/pico", "file": PICO.as_uri()}
    store.asked.clear()
    found = checkpoint_of(urls[scheme])
    assert all(found.fingerprint(part) == find("pico").fingerprint(part) for part in ("unet", "vae", "text_encoder"))
    if scheme == "file":
        assert found.folder == PICO
        return
    assert {file.relative_to(found.folder).as_posix() for file in found.folder.rglob("*") if file.is_file()} == {
        name for name in files_in(PICO) if name != ".gitattributes"
    }
    before = len(store.fetched())
    assert checkpoint_of(urls[scheme]).folder == found.folder and len(store.fetched()) == before
    assert checkpoint_of(urls[scheme], download=False).folder == found.folder


def test_what_changed_there_is_fetched_anew_and_what_went_away_is_still_here(store: Store, whole: Path) -> None:
    store.files["models/a.safetensors"] = whole.read_bytes()
    url = f"{store.address}/models/a.safetensors"
    first = brought(url)
    content = load_file(whole)
    save_file({key: tensor + 1 for key, tensor in content.items()}, "other.safetensors")
    store.files["models/a.safetensors"] = Path("other.safetensors").read_bytes()
    second = brought(url)
    assert first.read_bytes() == whole.read_bytes() and second.read_bytes() == Path("other.safetensors").read_bytes()
    del store.files["models/a.safetensors"]
    assert brought(url) == second


def test_a_killed_fetch_goes_on_where_it_was(store: Store, whole: Path, cache: Path) -> None:
    content = whole.read_bytes()
    store.files["models/whole.safetensors"], half = content, len(content) // 2
    store.halts["models/whole.safetensors"] = half
    url = f"{store.address}/models/whole.safetensors"
    code = "import sys; from bespoke.pipeline.fetching import brought; brought(sys.argv[1])"
    env = {**os.environ, "PYTHONPATH": str(Path(bespoke.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", code, url], env=env)
    assert store.halted.wait(120)
    while not (parts := list(cache.rglob(".*.part"))) or parts[0].stat().st_size < half - (2 << 20):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    store.go.set()
    store.halts.clear()
    store.asked.clear()
    kept = parts[0].stat().st_size
    assert 0 < kept <= half
    assert brought(url).read_bytes() == content
    assert not list(cache.rglob(".*.part"))
    assert store.ranges and min(int(asked.removeprefix("bytes=").partition("-")[0]) for asked in store.ranges) == kept


def test_a_file_that_came_short_is_no_file(store: Store, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bespoke.data.intake import remote

    fsspec.filesystem("memory").pipe("/m/a.safetensors", whole.read_bytes())
    about = remote.Remote.about
    monkeypatch.setattr(remote.Remote, "about", lambda file: ((about(file)[0] or 0) + 5, "tag"))
    with pytest.raises(BespokeError, match="did not come whole"):
        brought("memory://m/a.safetensors")
    with pytest.raises(BespokeError, match="not on this machine"):
        brought("memory://m/a.safetensors", download=False)


def test_recipes_and_adapters_may_name_urls(store: Store, run: Path, whole: Path) -> None:
    store.files |= {
        "models/whole.safetensors": whole.read_bytes(),
        "models/a.safetensors": (run / "adapter.safetensors").read_bytes(),
        "models/123": (run / "adapter.safetensors").read_bytes(),
    }
    url = f"{store.address}/models/whole.safetensors"
    recipe: Recipe = parse(
        {"model": {"base": url, "rank": 4, "adapter_file": f"{store.address}/models/a.safetensors"}}, "a test"
    )
    with pytest.raises(BespokeError, match="not on this machine"):
        base_of(recipe, Path(), download=False)
    assert base_of(recipe, Path()).name == url and base_of(recipe, Path(), download=False).name == url
    own = picture("pico", "own", "--set", f"sample.adapters={{ '{run / 'adapter.safetensors'}' = 0.7 }}")
    for number, name in enumerate(("a.safetensors", "123")):
        there = f"sample.adapters={{ '{store.address}/models/{name}' = 0.7 }}"
        assert (own == picture("pico", f"{number}", "--set", there)).all()
    assert inspect_model(f"{store.address}/models/123").what == "LoRA"
    resized = ["models", "resize", f"{store.address}/models/a.safetensors", "small.safetensors", "--rank", "2"]
    assert CliRunner().invoke(app, [*resized, "--base", url]).exit_code == 0
    unpacked = CliRunner().invoke(app, ["models", "import", url, "unpacked"])
    assert unpacked.exit_code == 0 and Path("unpacked/model_index.json").is_file()


def test_what_is_not_there_or_cannot_be_reached_says_so(store: Store) -> None:
    store.files["box/notes/readme.txt"] = b"no model"
    fsspec.filesystem("memory").pipe("/notes/readme.txt", b"no model")
    for url, problem in (
        (f"{store.address}/box/none.safetensors", "nothing at"),
        ("s3://box/none.safetensors", "nothing at"),
        ("memory://notes", "no model in diffusers' layout"),
        ("memory://none/at/all", "nothing at"),
        ("file:///nowhere/at/all.safetensors", "nothing at"),
        ("nosuch://a/b.safetensors", "package that is missing|cannot be read"),
        ("az://box/a.safetensors", "package that is missing"),
    ):
        with pytest.raises(BespokeError, match=problem):
            named(url)
