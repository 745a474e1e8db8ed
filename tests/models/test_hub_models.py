"""Models of Hugging Face's hub, from a stand-in on this machine that answers what diffusers and huggingface_hub ask;
the live hub was never asked."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants, hf_api
from pico import families
from PIL import Image
from safetensors.torch import save_file
from tests.flow import drawn
from tests.models.hub_server import Hub, files_in, serving
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import PICO, find, hub, singlefile
from bespoke.pipeline.naming import named

NEEDED = {
    "model_index.json", "feature_extractor/preprocessor_config.json", "safety_checker/config.json",
    "safety_checker/model.safetensors", "scheduler/scheduler_config.json", "text_encoder/config.json",
    "text_encoder/model.safetensors", "tokenizer/merges.txt", "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
}  # fmt: skip
BESIDE = {
    "README.md": b"# A model", "whole.safetensors": b"a whole model", "whole.ckpt": b"a pickle",
    "unet/diffusion_pytorch_model.bin": b"a pickle", "unet/diffusion_pytorch_model.fp16.safetensors": b"half of it",
    "text_encoder/pytorch_model.bin": b"a pickle", "vae/diffusion_pytorch_model.fp16.bin": b"a pickle",
}  # fmt: skip
"""What real repositories hold, too."""
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A stand-in with one model, which this process's huggingface_hub asks while the test runs."""
    with serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        monkeypatch.setattr(hf_api.api, "endpoint", served.address)
        template = f"{served.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        huggingface_hub.close_session()
        monkeypatch.chdir(tmp_path)
        served.publish("someone/pico", files_in(PICO, **BESIDE))
        yield served
        huggingface_hub.close_session()


def same_files(folder: Path) -> bool:
    return all((folder / name).read_bytes() == (PICO / name).read_bytes() for name in NEEDED)


def outside(served: Hub, home: Path, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """The command line in a process of its own, as a person has it, with nothing patched."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    env = {
        **kept,
        "PYTHONPATH": str(Path(bespoke.__file__).parents[1]),
        "HF_ENDPOINT": served.address,
        "HF_HOME": str(home),
        **more,
    }
    command = [sys.executable, "-m", "bespoke", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240)


def test_a_person_draws_with_a_model_of_the_hub_and_again_without_the_internet(there: Hub, tmp_path: Path) -> None:
    words = ["a red cat", "--set", "sample.num_inference_steps=2", "--no-safety-checker"]
    done = outside(there, tmp_path / "home", "sample", "someone/pico", *words, "--out", "one")
    assert done.returncode == 0, done.stderr
    assert {line.partition("/at/")[2].partition("/")[2] for line in there.asked if "GET /large" in line} == {
        name for name in NEEDED if name.endswith(".safetensors")
    }
    there.forget()
    again = outside(there, tmp_path / "home", "sample", "someone/pico", *words, "--out", "two", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert not there.asked
    assert CliRunner().invoke(app, ["sample", "pico", *words, "--out", "three"]).exit_code == 0
    one, two, three = (np.asarray(Image.open(f"{out}/000-seed0.png")) for out in ("one", "two", "three"))
    assert (one == two).all() and (one == three).all()


def test_only_what_is_needed_comes_once_and_is_the_same_to_the_last_byte(there: Hub) -> None:
    found = find("someone/pico")
    assert same_files(found.folder)
    here = {file.relative_to(found.folder).as_posix() for file in found.folder.rglob("*") if file.is_file()}
    assert here == NEEDED
    assert found.commit == there.refs["someone/pico"]["main"] and not find("pico").commit
    there.forget()
    assert find("someone/pico") == found
    assert not there.sent and not there.contents() and len(there.asked) == 1  # which commit is the newest
    assert find("someone/pico", download=False) == found


def test_a_revision_is_a_branch_a_tag_or_a_commit(there: Hub) -> None:
    other = {
        **files_in(PICO),
        "scheduler/scheduler_config.json": (PICO / "scheduler/scheduler_config.json").read_bytes(),
    }
    other["scheduler/scheduler_config.json"] += b"\n"
    first = there.refs["someone/pico"]["main"]
    there.refs["someone/pico"]["v1"] = first
    second = there.publish("someone/pico", other, "refs/pr/1")
    commits = {name: find(f"someone/pico@{name}").commit for name in ("v1", first, first[:40], "refs/pr/1", "main")}
    assert commits == {"v1": first, first: first, "refs/pr/1": second, "main": second}
    assert find("someone/pico").fingerprint("scheduler") != find("someone/pico@v1").fingerprint("scheduler")
    there.forget()
    assert find(f"someone/pico@{first}").commit == first
    assert not there.sent
    with pytest.raises(BespokeError, match="has no revision 'v9'") as caught:
        find("someone/pico@v9")
    assert "page" in caught.value.hint


def test_a_run_of_that_name_wins_over_a_revision(there: Hub, tmp_path: Path) -> None:
    there.refs["someone/pico"]["last"] = there.refs["someone/pico"]["main"]
    assert named("someone/pico@last").checkpoint.commit
    Path("someone/pico").mkdir(parents=True)
    Path("someone/pico/recipe.toml").write_text('[model]\nbase = "pico"\n')
    with pytest.raises(BespokeError, match="no last adapter yet"):
        named("someone/pico@last")


def test_an_answer_that_breaks_off_is_gone_on_with(there: Hub) -> None:
    there.cut[UNET] = 15_000_000  # of 19; huggingface_hub writes 10 MiB at once
    assert same_files(find("someone/pico").folder)
    assert there.ranges == [f"{UNET} bytes={10 << 20}-"]


def test_a_part_that_a_model_may_lack_is_fetched_where_it_has_it(there: Hub, tmp_path: Path) -> None:
    families.write("sd3", tmp_path / "three")
    there.publish("someone/three", files_in(tmp_path / "three"))
    found = find("someone/three")
    assert not found.lacked and len(found.readers()) == 3
    (found.folder / "text_encoder_3" / "model.safetensors").resolve().unlink()
    with pytest.raises(BespokeError, match="text_encoder_3"):
        find("someone/three", download=False)
    assert len(find("someone/three").readers()) == 3


def test_where_the_hub_goes_away_the_next_call_fetches_what_is_lacking(there: Hub) -> None:
    there.cut[UNET] = 15_000_000
    there.gone.add(UNET)
    with pytest.raises(BespokeError, match="did not come whole") as caught:
        find("someone/pico")
    assert "same command" in caught.value.hint
    with pytest.raises(BespokeError):
        find("someone/pico", download=False)
    there.gone.clear()
    there.forget()
    assert same_files(find("someone/pico").folder)
    assert {line.partition("/at/")[2].partition("/")[2] for line in there.asked if "GET /large" in line} == {UNET}


def test_a_file_of_another_size_or_with_other_bytes_is_refused_and_fetched_anew(there: Hub) -> None:
    whole = (PICO / UNET).read_bytes()
    there.wrong[UNET] = whole[:-9]
    with pytest.raises(BespokeError, match="did not come whole"):
        find("someone/pico")
    there.wrong[UNET] = whole[:-9] + bytes(9)
    with pytest.raises(BespokeError, match="came other than the hub says") as caught:
        find("someone/pico")
    assert UNET in caught.value.problem
    with pytest.raises(BespokeError):
        find("someone/pico", download=False).denoiser()
    there.wrong.clear()
    assert same_files(find("someone/pico").folder)


def test_without_the_internet_it_is_the_model_that_was_fetched(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    before = find("someone/pico")
    there.publish("someone/pico", files_in(PICO))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find("someone/pico") == before
    with pytest.raises(BespokeError, match="HF_HUB_OFFLINE keeps it") as caught:
        find("someone/other")
    assert "Unset" in caught.value.hint
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hf_api.api, "endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    assert find("someone/pico") == before
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between tries
    with pytest.raises(BespokeError, match="could not be asked"):
        find("someone/other")


def test_what_may_not_be_read_says_what_to_do(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    there.publish("someone/gated", files_in(PICO))
    there.publish("someone/private", files_in(PICO))
    there.gated.add("someone/gated")
    there.private.add("someone/private")
    for token in ("", "bad"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(BespokeError, match=r"someone/gated is gated\.") as caught:
            find("someone/gated")
        assert f"Accept its licence on {there.address}/someone/gated" in caught.value.hint
        assert "hf auth login" in caught.value.hint and "HF_TOKEN" in caught.value.hint
        for name in ("someone/private", "someone/none"):
            with pytest.raises(BespokeError, match=f"no model '{name}', or it is private") as caught:
                find(name)
            assert "hf auth login" in caught.value.hint
    monkeypatch.setenv("HF_TOKEN", "good")
    assert find("someone/gated").commit and find("someone/private").commit


def test_what_cannot_be_used_is_not_fetched(there: Hub) -> None:
    index = json.loads((PICO / "model_index.json").read_text())
    big = json.dumps(index | {"_class_name": "FluxPipeline"}).encode()
    there.publish("someone/other", {**files_in(PICO), "model_index.json": big})
    there.publish("someone/single", {"model.safetensors": b"one file", "README.md": b"card"})
    there.publish("someone/pickles", {"model.ckpt": b"a pickle"})
    bins = {name.replace("safetensors", "bin"): content for name, content in files_in(PICO).items()}
    there.publish("someone/bins", bins)
    there.publish("someone/damaged", {**files_in(PICO), "model_index.json": b"{"})
    for name, problem, hint in (
        ("other", "FluxPipeline", "Stable Diffusion 1.x"),
        ("single", r"no model_index\.json", "hf://someone/single/model.safetensors"),
        ("pickles", r"pickles, such as model\.ckpt", "import --ckpt"),
        ("bins", "lacks weights as safetensors", "refs/pr/1"),
        ("damaged", r"model_index\.json is damaged", "another"),
    ):
        with pytest.raises(BespokeError, match=problem) as caught:
            find(f"someone/{name}")
        assert hint in caught.value.hint
    assert not there.sent


def test_a_run_keeps_to_the_commit_that_it_began_with(there: Hub, tmp_path: Path) -> None:
    from bespoke import train

    recipe = drawn.project(tmp_path, 6, "a shape with {} corners")
    quick = ["model.base=someone/pico@main", "train.max_train_steps=1", "train.num_class_images=0",
             "validation.strata=1", "validation.validation_steps=1", "validation.probe=false", "track.mlflow=false",
             "track.tensorboard=false", "sample.sample_every_n_steps=0"]  # fmt: skip
    done = train(recipe, quick)
    first = there.refs["someone/pico"]["main"]
    assert json.loads((done.run / "begun" / "base.json").read_text()) == {"name": "someone/pico@main", "commit": first}
    config = json.loads((PICO / "scheduler/scheduler_config.json").read_text()) | {"rescale_betas_zero_snr": True}
    there.publish("someone/pico", {**files_in(PICO), "scheduler/scheduler_config.json": json.dumps(config).encode()})
    assert find("someone/pico").commit != first
    assert named(str(done.run)).checkpoint.commit == first
    invoked = CliRunner().invoke(app, ["models", "inspect", str(done.run)])
    assert first in invoked.output, invoked.output


def test_which_names_are_the_hubs() -> None:
    assert hub.parsed("a/b") == ("a/b", None) and hub.parsed("a/b@refs/pr/1") == ("a/b", "refs/pr/1")
    for name in ("a", "a/b/c", "/a/b", "./a", "~/a", "a/b@", "a b/c", "s3://a/b", "a/b@c d", ""):
        assert hub.parsed(name) is None, name
    assert not hub.commit_of(PICO)


def test_the_tests_see_a_copy_without_links_too(there: Hub, tmp_path: Path) -> None:
    """Where the cache has no links, as on Windows, files are compared by their size alone; nothing breaks."""
    found = find("someone/pico")
    plain = shutil.copytree(found.folder, tmp_path / "plain")
    hub._check(plain, 0.0, "someone/pico")


def test_a_single_file_is_named_by_its_address(there: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = find("pico")
    save_file(singlefile.content_of(base.denoiser(), base.vae(), base.text_encoder()), tmp_path / "one.safetensors")
    content = (tmp_path / "one.safetensors").read_bytes()
    commit = there.publish("someone/files", {"deep/one.safetensors": content}, "v1")
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    for url in ("hf://someone/files/deep/one.safetensors", f"hf://someone/files@{commit}/deep/one.safetensors"):
        found = named(url).checkpoint
        assert found.name == url
        assert set(found.denoiser().state_dict()) == set(base.denoiser().state_dict())
    assert named("hf://someone/pico").checkpoint.commit
    for url, problem in (
        ("hf://someone/files/two.safetensors", "has no file"),
        ("hf://someone/none/a.safetensors", "no model 'someone/none'"),
        ("hf://someone", "is no file of a model"),
    ):
        with pytest.raises(BespokeError, match=problem):
            named(url)
