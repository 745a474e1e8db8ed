"""Which pictures may be learnt from: liked or captioned with consent, flagged by nobody, accepted by a person."""

import csv
from pathlib import Path

import pytest

from bespoke.errors import BespokeError
from bespoke.feedback import Opinion, Sample, Store
from bespoke.feedback import reviewed as reviewing
from bespoke.feedback.reviewed import candidates, decide, lay_out

PNG, JPEG = b"\x89PNG\r\n\x1a\n...", b"\xff\xd8\xff\xe0..."


def add(store: Store, name: str, picture: bytes = PNG, **told) -> str:
    return store.add(Sample(name, "m@1", f"prompt of {name}", **told), picture + name.encode()).id


def like(store: Store, name: str, rater: str = "Ann", value: str = "up", **told) -> Opinion:
    return store.say(Opinion("thumb", name, rater, value, **({"consent": True, "licence": "CC0-1.0"} | told)))


def open_ones(store: Store) -> dict[str, str]:
    """The captions of those that wait, by picture."""
    return {one.sample.id: one.caption for one in candidates(store, "open")}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_only_what_people_let_be_learnt_from_waits_for_a_decision(store, monkeypatch) -> None:
    monkeypatch.setattr(reviewing, "PAGE", 2)
    liked = add(store, "liked")
    like(store, liked)
    captioned = add(store, "captioned")
    like(store, captioned, "Ben", "down")
    for words in ("an older one", "a better one"):
        store.say(Opinion("caption", captioned, "Ann", words=words, consent=True))
    like(store, add(store, "without-consent"), consent=False)
    like(store, add(store, "disliked"))
    like(store, "disliked", "Ben", "down")
    like(store, add(store, "changed-mind"))
    like(store, "changed-mind", "Ann", "down")
    like(store, add(store, "unsafe", flagged=True))
    like(store, add(store, "canary", canary=True))
    like(store, add(store, "flagged"))
    flag = store.say(Opinion("flag", "flagged", "Ben", "person"))
    store.say(Opinion("caption", add(store, "mine"), "Ann", words="only mine"))
    add(store, "unspoken")
    like(store, "never-kept")
    assert open_ones(store) == {"liked": "prompt of liked", "captioned": "a better one"}
    store.withdraw(flag.id, "Ben")
    assert "flagged" in open_ones(store)


def test_what_is_accepted_lies_in_a_folder_with_its_licence_and_origin(store, tmp_path: Path) -> None:
    said = like(store, add(store, "one"))
    better = store.say(Opinion("caption", add(store, "two", JPEG), "Ann", words="a cat", consent=True))
    like(store, add(store, "three"))
    decide(store, ["one", "two"], ["three"], "eve")
    assert open_ones(store) == {} and store.counts().accepted == 2 and store.counts().declined == 1
    assert [one.by for one in candidates(store, "accepted")] == ["eve", "eve"]
    (tmp_path / "out").mkdir()
    assert lay_out(store, tmp_path / "out") == 2
    first, second = rows(tmp_path / "out")
    assert first == {
        "file_name": f"one-{said.id[:8]}.png", "text": "prompt of one", "licence": "CC0-1.0", "generated_by": "m@1",
        "sample": "one", "opinion": said.id,
    }  # fmt: skip
    assert (second["file_name"], second["text"], second["licence"]) == (f"two-{better.id[:8]}.jpg", "a cat", "")
    assert (tmp_path / "out" / first["file_name"]).read_bytes() == PNG + b"one"


def test_nothing_is_learnt_that_nobody_read(store, tmp_path: Path) -> None:
    """What comes after a decision changes nothing of it, and a decision falls with what it rests on."""
    said = like(store, add(store, "one"))
    decide(store, ["one"], [], "eve")
    store.say(Opinion("caption", "one", "Mallory", words="something nasty", consent=True))
    assert [one.caption for one in candidates(store, "accepted")] == ["prompt of one"]
    store.withdraw(said.id, "Ann")
    assert not list(candidates(store, "accepted"))
    assert open_ones(store) == {"one": "something nasty"}, "a person must decide anew"
    decide(store, [], ["one"], "eve")
    assert not lay_out(store, tmp_path)
    decide(store, ["one"], [], "eve")
    store.say(Opinion("flag", "one", "Ben", "wrong"))
    assert not lay_out(store, tmp_path)


@pytest.mark.parametrize(
    ("accept", "decline", "words"),
    [(["one"], ["one"], "both"), (["one", "nothing"], [], "nothing is no picture"), (["flagged"], [], "flagged is no")],
)
def test_a_wrong_decision_decides_nothing(tmp_path: Path, accept, decline, words: str) -> None:
    with Store(tmp_path) as store:
        like(store, add(store, "one"))
        like(store, add(store, "flagged"))
        store.say(Opinion("flag", "flagged", "Ben", "wrong"))
        with pytest.raises(BespokeError, match=words):
            decide(store, accept, decline)
        assert not store.counts().accepted and not store.counts().declined


def test_a_file_that_was_changed_is_not_handed_out(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        kept = add(store, "one")
        like(store, kept)
        decide(store, ["one"], [])
        blob = next(one for one in store.shelf.root.glob("blobs/*/*"))
        blob.chmod(0o644)
        blob.write_bytes(b"another picture")
        (tmp_path / "out").mkdir()
        with pytest.raises(BespokeError, match="was changed") as raised:
            lay_out(store, tmp_path / "out")
        assert "forget" in raised.value.hint
