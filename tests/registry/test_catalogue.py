"""Versions in a real store, a file and a server: whole or not there, found again, and on any machine the same bytes."""

import errno
import shutil

import pytest
from tests.registry.test_blobs import all_files, spoil

from bespoke.errors import BespokeError
from bespoke.registry import Catalogue, Place, place


def test_a_version_is_found_by_its_number_and_by_its_alias(catalogue, register):
    first, second = (register(catalogue, "found", content) for content in ("a", "b"))
    assert (first.number, second.number) == (1, 2)
    assert "found" in catalogue.names() and "found.history" not in catalogue.names()
    catalogue.add("promoted", first, catalogue.standing("found"), alias="champion")
    assert catalogue.meant("found@champion") == first and catalogue.meant("found@2") == second
    assert "found.history" not in catalogue.names()
    assert (catalogue.folder(second) / "adapter.safetensors").read_text() == "b"
    assert catalogue.manifest(first).origin["base"] == "pico"
    for model, words in {
        "found@3": "no version 3", "found@challenger": "no version|No version of found is its challenger",
        "lost@1": "No version of 'lost'", "a/b@1": "no name", "pico@1": "no name", "found.history@1": "no name",
    }.items():  # fmt: skip
        with pytest.raises(BespokeError, match=words) as refused:
            catalogue.meant(model)
        assert refused.value.hint


def test_the_same_content_is_the_same_version(catalogue, register):
    first = register(catalogue, "same", "a")
    assert register(catalogue, "same", "a") == first
    catalogue.add("retired", first, catalogue.standing("same"))
    assert register(catalogue, "same", "a").number == 2  # what is retired stays so


def test_a_run_has_its_figures_and_its_versions_their_origin_in_mlflow(catalogue, register):
    version = register(catalogue, "told", "a")
    run = catalogue._client.get_run(version.tracked)
    assert run.data.metrics["loss"] == 0.5 and run.data.tags["bespoke.base"] == "pico"
    found = catalogue._client.get_model_version("told", "1")
    assert found.tags["bespoke.base_hash"] == "0" * 16 and found.tags["bespoke.manifest"] == version.manifest


def test_the_newest_scorecard_counts(catalogue, register):
    version = register(catalogue, "scored", "a", scorecard="first")
    assert catalogue.text(version, catalogue.scorecard(version, catalogue.standing("scored"))) == "first"
    newer = catalogue.shelf.put_text("second").sha256
    after = catalogue.add("scored", version, catalogue.standing("scored"), scorecard=newer)
    assert catalogue.text(version, catalogue.scorecard(version, after)) == "second"


def test_another_machine_gets_the_same_bytes_from_a_server_or_none(server, register, tmp_path):
    here, there = (Catalogue(Place(server, tmp_path / name)) for name in ("here", "there"))
    version = register(here, "fetched", "the same bytes")
    assert all_files(tmp_path / "there") == []
    assert (there.folder(there.meant("fetched@1")) / "adapter.safetensors").read_text() == "the same bytes"
    digest = here.manifest(version).files["adapter.safetensors"].sha256
    (kept,) = (file for file in tmp_path.parent.glob(f"server0/artifacts/**/bespoke/{digest}"))
    spoil(kept)
    assert there.folder(version)  # what was fetched stays
    third = Catalogue(Place(server, tmp_path / "third"))
    with pytest.raises(BespokeError, match="not what it should be"):
        third.folder(version)
    assert not third.shelf.holds(digest)
    assert register(here, "fetched", "the same bytes") == version  # which puts it back
    assert (third.folder(version) / "adapter.safetensors").read_text() == "the same bytes"
    kept.unlink()
    with pytest.raises(BespokeError, match="cannot be used"):
        Catalogue(Place(server, tmp_path / "fourth")).folder(version)


def test_an_alias_whose_version_was_deleted_or_replaced_in_mlflow_means_nothing(catalogue, register):
    version, client = register(catalogue, "replaced", "a"), catalogue._client
    catalogue.add("promoted", version, catalogue.standing("replaced"), alias="champion")
    client.delete_model_version("replaced", "1")
    assert register(catalogue, "replaced", "b").number == 2  # numbers go on
    with pytest.raises(BespokeError, match="deleted or replaced"):
        catalogue.meant("replaced@champion")
    client.delete_registered_model("replaced")
    with pytest.raises(BespokeError, match=r"replaced\.history, which says .* was not"):
        register(catalogue, "replaced", "b")
    client.create_registered_model("replaced")  # by another program
    assert register(catalogue, "replaced", "b").number == 1
    with pytest.raises(BespokeError, match="deleted or replaced"):
        catalogue.meant("replaced@champion")
    for name in ("replaced", "replaced.history"):
        client.delete_registered_model(name)
    assert register(catalogue, "replaced", "b").number == 1
    with pytest.raises(BespokeError, match="no alias is given"):
        catalogue.meant("replaced@champion")


def test_an_alias_that_was_moved_by_hand_is_told_and_does_not_count(catalogue, register):
    first, second = (register(catalogue, "moved", content) for content in ("a", "b"))
    standing = catalogue.add("promoted", first, catalogue.standing("moved"), alias="champion")
    catalogue._client.set_registered_model_alias("moved", "champion", "2")
    assert catalogue.meant("moved@champion") == first
    assert catalogue.elsewhere("moved", standing) == {"champion": 2}
    catalogue.add("promoted", second, standing, alias="challenger")
    assert catalogue.elsewhere("moved", catalogue.standing("moved")) == {}


@pytest.mark.parametrize("moment", range(6))
def test_a_registration_that_breaks_off_leaves_no_version_and_is_gone_on_with(
    catalogue, register, monkeypatch, moment, tmp_path
):
    """By a full disk or a signal, after so many of its steps: each file kept, each one sent, the version itself."""
    name, steps = f"broken-{moment}", iter(range(100))

    def breaking(function, error):
        def step(*given, **more):
            if next(steps) == moment:
                raise error
            return function(*given, **more)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", breaking(shutil.copyfile, OSError(errno.ENOSPC, "full")))
        for call in ("log_artifact", "create_model_version"):
            client = catalogue._client
            patch.setattr(client, call, breaking(getattr(client, call), KeyboardInterrupt()), raising=False)
        broken = True
        try:
            register(catalogue, name, f"content {moment}", scorecard="{}")
            broken = False
        except (BespokeError, KeyboardInterrupt):
            pass
    steps_taken = next(steps)
    assert broken == (steps_taken > moment)
    if broken:
        with pytest.raises(BespokeError, match="No version"):
            catalogue.versions(name)
        assert not [file for file in all_files(catalogue.shelf.root) if file.name.endswith(".tmp")]
    version = register(catalogue, name, f"content {moment}", scorecard="{}")
    assert version.number == 1
    assert (catalogue.folder(version) / "adapter.safetensors").read_text() == f"content {moment}"


def test_the_nearest_store_is_found_from_anywhere_in_a_project(tmp_path, monkeypatch):
    project = tmp_path / "project"
    (project / "runs" / "one").mkdir(parents=True)
    monkeypatch.delenv("BESPOKE_STORE", raising=False)
    with pytest.raises(BespokeError, match="no registry here"):
        place(start=project)
    (project / "bespoke.db").touch()
    found = place(start=project / "runs" / "one")
    assert found.file == project / "bespoke.db" and found.shelf == project / "versions"
    assert place(str(project)) == place(found.address) == place(str(project / "bespoke.db")) == found
    with pytest.raises(BespokeError, match="no registry at"):
        place(str(tmp_path / "elsewhere.db"))
    (project / "recipe.toml").write_text('[track]\nstore = "http://someone:secret@host:5000"\n')
    found = place(start=project)
    assert found.address == "http://someone:secret@host:5000" and found.shelf == project / "versions"
    assert found.shown == "http://host:5000" and found.file is None
    monkeypatch.setenv("BESPOKE_STORE", "http://other:5000")
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    assert place(start=tmp_path) == Place("http://other:5000", tmp_path / "cache" / "versions")


def test_a_store_that_cannot_be_used_is_told_in_words(tmp_path):
    (tmp_path / "bespoke.db").write_bytes(b"no database" * 100)
    with pytest.raises(BespokeError, match=r"registry at .*bespoke\.db cannot be used") as refused:
        Catalogue(place(str(tmp_path))).names()
    assert "file" in refused.value.hint
    with pytest.raises(BespokeError, match=r"registry at http://127\.0\.0\.1:9 cannot be used") as refused:
        Catalogue(Place("http://someone:secret@127.0.0.1:9", tmp_path)).names()
    assert "secret" not in str(refused.value.problem) and "MLFLOW_TRACKING_PASSWORD" in refused.value.hint
