"""`bespoke grid` in a shell: what it leaves, what it says, and how it ends where something could not be drawn."""

import json
import re
from pathlib import Path

from PIL import Image
from tests.cli.test_messages import refused, run, said_in_json

APPLE = ("grid", "pico", "a red apple on a blue background")
ROOT = Path(__file__).parents[2]


def test_two_axes_become_one_picture_and_one_page_and_are_not_drawn_again(tmp_path: Path) -> None:
    wanted = (*APPLE, "--x", "cfg=1,2", "--y", "steps=1..2..2", "--out", str(tmp_path / "out"), "--seed", "3")
    content = said_in_json(*wanted)
    assert set(content) == {"grid", "page", "pictures", "failures"}
    assert len(set(content["pictures"])) == 4 and content["failures"] == []
    files = [Path(file) for file in content["pictures"]]
    with Image.open(content["grid"]) as sheet, Image.open(files[3]) as picture:
        assert sheet.width > 2 * 192 and sheet.height > 2 * 192
        assert re.search(r"Steps: 2, CFG scale: 2.0, Seed: 3", picture.text["parameters"])
    page = Path(content["page"]).read_text(encoding="utf-8")
    assert all(page.count(f"pictures/{file.name}") == 3 for file in files), "in the table, large, and as a file"
    before = [file.stat().st_mtime_ns for file in files]
    code, said = run(*wanted)
    assert code == 0 and "4 pictures in one: " in said and "Page: " in said and "all were there already" in said
    assert [file.stat().st_mtime_ns for file in files] == before


def test_what_could_not_be_drawn_is_told_and_the_exit_tells(tmp_path: Path) -> None:
    wanted = (*APPLE, "--x", "scheduler=lcm", "--y", "steps=51..58..8", "--out", str(tmp_path))
    code, said = run(*wanted)
    assert code == 2 and "Error:" not in said
    assert "8 could not be drawn:" in said and "  steps 51, lcm: " in said and "  and 3 more" in said
    code, said = run(*wanted, "--json")
    content = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert code == 2 and content["pictures"] == [None] * 8 and len(content["failures"]) == 8
    assert (tmp_path / "grid.png").is_file() and (tmp_path / "index.html").is_file()


def test_what_is_typed_wrong_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert "Did you mean steps?" in refused(*APPLE, "--x", "stpes=1", *out)
    assert "Did you mean euler_a?" in refused(*APPLE, "--x", "scheduler=euler_b", *out)
    assert "'cat' does not occur in the prompt: a red apple" in refused(*APPLE, "--x", "prompt=cat,dog", *out)
    assert "no model 'picasso'" in refused("grid", "picasso", "a cat", "--x", "cfg=1", *out)
    assert "Two axes change" in refused(*APPLE, "--x", "cfg=1", "--y", "guidance_scale=2", *out)
    assert "no adapter to weigh" in refused(*APPLE, "--x", "weight=0,1", *out)
    assert not (tmp_path / "out").exists()


def test_every_command_of_the_page_about_grids_is_understood() -> None:
    """Each axis in it is read; a command that named no setting of ours would be refused."""
    from bespoke.pipeline.axes import axis, different

    commands = re.findall(
        r"^bespoke grid (\S+) \"([^\"]+)\"(.*)$", (ROOT / "docs" / "grids.md").read_text(), re.MULTILINE
    )
    assert len(commands) >= 5
    for _, prompt, options in commands:
        given = [(a or b) for a, b in re.findall(r"--[xyz] (?:'([^']+)'|(\S+))", options)]
        assert given
        axes = [axis(one, "pico", prompt) for one in given if not one.startswith("checkpoint=")]
        different(axes)
