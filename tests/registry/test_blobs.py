"""Files by their hashes: once, whole or not at all, and never handed out when they are not what they were."""

import errno
import os
import stat
from pathlib import Path

import pytest

from bespoke.errors import BespokeError
from bespoke.registry import Manifest, Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "versions")


@pytest.fixture
def manifest(shelf: Shelf, tmp_path: Path) -> Manifest:
    """A version of two files, one of them in a folder."""
    files = {"adapter.safetensors": b"weights", "begun/words.safetensors": b"words"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return Manifest({name: shelf.put(tmp_path / name) for name in files}, {"run": "one"}, {"adapter": None})


def all_files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def spoil(path: Path) -> None:
    """One byte of a file is another, its length the same."""
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def test_equal_files_are_kept_once_and_cannot_be_written_to(shelf, manifest, tmp_path):
    (tmp_path / "copy").write_bytes(b"weights")
    blob = shelf.put(tmp_path / "copy")
    assert blob == manifest.files["adapter.safetensors"] and blob.bytes == 7
    assert len(all_files(shelf.root)) == 2
    assert not shelf.path(blob.sha256).stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)


def test_a_version_is_laid_out_as_it_was_and_takes_no_more_room(shelf, manifest):
    folder = shelf.lay_out(manifest)
    assert folder.name == manifest.sha256
    assert (folder / "begun" / "words.safetensors").read_bytes() == b"words"
    for name, blob in manifest.files.items():
        assert (folder / name).samefile(shelf.path(blob.sha256))
    assert shelf.lay_out(manifest) == folder


def test_a_manifest_is_read_as_it_was_written_and_names_its_content(manifest):
    assert Manifest.of(manifest.text) == manifest
    other = Manifest(manifest.files, {"run": "two"}, manifest.marks)
    assert other.sha256 != manifest.sha256 == Manifest.of(manifest.text).sha256


def test_what_a_killed_or_other_process_has_half_placed_is_not_in_the_way(shelf, manifest):
    folder = shelf.lay_out(manifest)
    (folder / ".adapter.safetensors.0a1b2c3d.tmp").write_bytes(b"wei")
    assert shelf.lay_out(manifest) == folder
    (folder / "more.safetensors").write_bytes(b"weights")
    with pytest.raises(BespokeError, match=r"not registered: more\.safetensors"):
        shelf.lay_out(manifest)


def test_a_changed_byte_is_refused_wherever_it_is(shelf, manifest):
    folder = shelf.lay_out(manifest)
    spoil(folder / "adapter.safetensors")  # which is a link to the blob
    with pytest.raises(BespokeError, match=r"adapter\.safetensors .* was changed") as refused:
        shelf.lay_out(manifest)
    assert "Register the run again" in refused.value.hint
    with pytest.raises(BespokeError, match="was changed"):
        shelf.read(manifest.files["adapter.safetensors"].sha256)


def test_a_missing_file_is_refused_and_registering_it_again_mends_it(shelf, manifest, tmp_path):
    folder, blob = shelf.lay_out(manifest), manifest.files["adapter.safetensors"]
    (folder / "adapter.safetensors").unlink()
    assert (shelf.lay_out(manifest) / "adapter.safetensors").read_bytes() == b"weights"
    (folder / "adapter.safetensors").unlink()
    shelf.path(blob.sha256).unlink()
    with pytest.raises(BespokeError, match=r"adapter\.safetensors .* is missing"):
        shelf.lay_out(manifest)
    shelf.put(tmp_path / "adapter.safetensors")
    assert (shelf.lay_out(manifest) / "adapter.safetensors").read_bytes() == b"weights"


def test_what_was_changed_is_mended_by_what_it_was(shelf, manifest, tmp_path):
    folder = shelf.lay_out(manifest)
    spoil(folder / "adapter.safetensors")
    shelf.put(tmp_path / "adapter.safetensors")
    assert (shelf.lay_out(manifest) / "adapter.safetensors").read_bytes() == b"weights"


def test_a_file_that_somebody_put_beside_is_refused(shelf, manifest):
    (shelf.lay_out(manifest) / "pytorch_model.bin").write_bytes(b"run me")
    with pytest.raises(BespokeError, match=r"pytorch_model\.bin"):
        shelf.lay_out(manifest)


def test_a_file_of_another_hash_than_was_asked_for_is_not_taken(shelf, tmp_path):
    (tmp_path / "came").write_bytes(b"half of i")
    with pytest.raises(BespokeError, match="not what it should be"):
        shelf.put(tmp_path / "came", "0" * 64)
    assert all_files(shelf.root) == []


def test_a_disk_without_links_gets_copies(shelf, manifest, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    folder = shelf.lay_out(manifest)
    assert (folder / "adapter.safetensors").read_bytes() == b"weights"
    spoil(folder / "adapter.safetensors")
    assert (shelf.lay_out(manifest) / "adapter.safetensors").read_bytes() == b"weights"  # from the blob, which is whole
