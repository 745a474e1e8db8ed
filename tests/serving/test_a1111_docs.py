"""Every example of the page about A1111's interface, run against a real server; its tables held against the code."""

import re
from pathlib import Path

import pytest

from bespoke.recipe.schedulers import AUTOMATIC
from bespoke.serving.a1111.forms import ImageToImage, TextToImage
from bespoke.serving.a1111.options import Options
from bespoke.serving.a1111.samplers import as_a1111
from tests.serving.easelstand import Easel
from tests.serving.listening import app_of, served

PAGE = (Path(__file__).parents[2] / "docs" / "serving-a1111.md").read_text("utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    easel, names = Easel(), {}
    with served(app_of(easel)) as address:
        for block in CODE:
            exec(block.replace("8188", address.rpartition(":")[2]), names)
        names["api"].session.close()
    assert capsys.readouterr().out == "[7] my-style@7\nmy-style@champion\n7\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["apple.png", "changed.png"]
    assert [wish.mask is not None for wish, _ in easel.wishes] == [False, True]


@pytest.mark.parametrize("form", [TextToImage, ImageToImage])
def test_every_field_that_is_understood_is_on_the_page(form):
    assert {name for name in form.model_fields if f"`{name}`" not in PAGE and f"`{name} " not in PAGE} <= {
        "eta", "alwayson_scripts", "hr_second_pass_steps",
    }  # fmt: skip


def test_every_option_and_every_route_is_on_the_page():
    assert {name for name in Options.model_fields if f"`{name}`" not in PAGE} == set()
    paths = {path.removeprefix("/sdapi/v1/") for path in app_of(Easel()).openapi()["paths"] if "/sdapi/v1/" in path}
    assert len(paths) > 20
    assert {path for path in paths if f"`{path}`" not in PAGE and not re.search(rf"`(GET|POST) {path}`", PAGE)} == set()


def test_what_automatic_means_is_said():
    (said,) = re.findall(r"Karras for (.*?), for others", PAGE)
    assert set(re.split(", | and ", said)) == {as_a1111(name)[0] for name in AUTOMATIC}
    assert {as_a1111(other)[1] for other in AUTOMATIC.values()} == {"Karras"}
