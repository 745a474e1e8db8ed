"""Runs and caches behind URLs: sent while a training runs, and gone on with on a machine that has none of it."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from bespoke import train
from bespoke.cli.commands import app
from bespoke.data.intake.remote import Place
from bespoke.errors import BespokeError
from bespoke.pipeline import mirror
from bespoke.pipeline.mirror import Mirror, shared
from bespoke.workspace import atomic_folder
from tests import warm
from tests.flow import drawn, dying

QUICK = (
    "train.max_train_steps=12", "train.checkpointing_steps=2", "train.num_class_images=0", "train.train_batch_size=2",
    "validation.strata=2", "validation.validation_steps=4", "validation.probe=false", "track.mlflow=false",
    "track.tensorboard=false", "data.validation_fraction=0.3", "sample.sample_every_n_steps=0",
)  # fmt: skip


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """A store in this process's memory, empty before and after."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield
    store.store.clear()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return drawn.project(tmp_path, 6, "a shape with {} corners")


def files(folder: Path) -> dict[str, bytes]:
    every = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in every if path.name[0] != "."}


def stored(url: str) -> dict[str, bytes]:
    place = Place(url)
    return {file.name: file.open().read() for file in place.files()}


@pytest.mark.parametrize("scheme", ["memory://bucket", "file://{}/store"])
def test_a_run_lies_in_the_store_as_it_lies_here(recipe: Path, tmp_path: Path, scheme: str) -> None:
    url = scheme.format(tmp_path)
    done = train(recipe, [*QUICK, f"remote.runs={url}/runs", f"remote.cache={url}/cache"])
    assert stored(f"{url}/runs/{done.run.name}") == files(done.run)
    assert stored(f"{url}/cache") == files(recipe.parent / "cache")
    assert any(name.startswith("latents/") for name in stored(f"{url}/cache"))


def test_killed_and_with_its_machine_lost_a_run_goes_on_elsewhere_to_the_same_end(recipe: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    whole = train(recipe, QUICK)
    words = [*QUICK, f"remote.runs={url}"]
    process = warm.Process(dying.send, str(recipe), words, log=tmp_path / "log.txt")
    while process.poll() is None and not list((tmp_path / "store").glob("*/state/*/manifest.json")):
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
    (run,) = (tmp_path / "store").iterdir()
    another = tmp_path / "another"  # machine, to which the recipe and the dataset are copied
    shutil.copytree(recipe.parent, another, ignore=shutil.ignore_patterns("runs", "cache"))
    invoked = CliRunner().invoke(
        app, ["train", str(another / "recipe.toml"), "--resume", f"{url}/{run.name}", "--json"]
    )
    assert invoked.exit_code == 0, invoked.output
    content = json.loads(invoked.stdout)
    assert content["steps"] == 12
    assert Path(content["adapter"]).resolve().is_relative_to(another.resolve())
    ends = [load_file(each / "last" / "adapter.safetensors") for each in (whole.run, another / "runs" / run.name)]
    assert ends[0].keys() == ends[1].keys()
    assert all(bool((ends[0][name] == ends[1][name]).all()) for name in ends[0])
    assert (run / "result.json").is_file(), "what went on is sent, too"


def test_what_was_pruned_here_is_pruned_there_and_what_is_the_same_is_not_sent_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (2, 4):
        with atomic_folder(run / "state" / f"step-{step:06d}") as folder:
            (folder / "weights").write_bytes(bytes(step))
    (run / ".lock").touch()
    sending = Mirror(run, Place("memory://bucket/run"))
    assert sending.send() == 4 and sending.send() == 0
    assert Mirror(run, Place("memory://bucket/run")).send() == 0, "also by another process"
    shutil.rmtree(run / "state" / "step-000002")
    sending.send()
    assert sorted(stored("memory://bucket/run")) == ["state/step-000004/manifest.json", "state/step-000004/weights"]


def test_a_cache_is_filled_from_the_store_before_anything_is_encoded(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "memory://bucket/cache"
    train(recipe, [*QUICK, f"remote.cache={url}"])
    shutil.rmtree(recipe.parent / "cache")

    def never(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("bespoke.encoding.latents.LatentEncoder.__call__", never)
    train(recipe, [*QUICK, f"remote.cache={url}"])


def test_a_file_that_was_cut_off_here_comes_again(tmp_path: Path) -> None:
    url = "memory://bucket/cache"
    with shared(tmp_path / "one", url):
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "a.safetensors").write_bytes(b"whole")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "a.safetensors").write_bytes(b"who")
    with shared(tmp_path / "two", url):
        assert (tmp_path / "two" / "a.safetensors").read_bytes() == b"whole"


def test_a_store_that_cannot_be_written_is_told_before_the_training_and_does_not_end_it_later(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BespokeError, match="nowhere"):
        train(recipe, [*QUICK, "remote.runs=nowhere://bucket/runs"])
    sent = iter(range(1))
    original = Mirror.send

    def breaking(self: Mirror, *, fixed: bool = False) -> int:
        if next(sent, None) is None:
            raise BespokeError("The bucket is gone.", "")
        return original(self, fixed=fixed)

    monkeypatch.setattr(mirror.Mirror, "send", breaking)
    told: list[str] = []
    done = train(recipe, [*QUICK, "remote.runs=memory://bucket/runs"], report=lambda *words: told.append(str(words)))
    assert done.steps == 12
    assert any("the run is whole here" in words and "The bucket is gone" in words for words in told)


def test_a_url_that_is_no_run_or_no_project_is_refused(recipe: Path, tmp_path: Path) -> None:
    from bespoke.pipeline.train import resume

    with pytest.raises(BespokeError, match="is no run"):
        resume("memory://bucket/nothing", recipe)
    with pytest.raises(BespokeError, match="is no recipe of a project") as caught:
        resume("memory://bucket/nothing", tmp_path / "recipe.toml")
    assert "--resume" in caught.value.hint
