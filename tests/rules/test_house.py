"""The rules of the house that a machine can hold."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "bespoke"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEXT = {".py", ".md", ".toml", ".txt", ".html", ".js", ".css", ".sh", ".yml", ".yaml", ""}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)


def identifier(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


each_module = pytest.mark.parametrize("path", MODULES, ids=identifier)


def test_imports_go_only_downwards():
    done = python("from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])")
    assert done.returncode == 0, done.stdout + done.stderr


HEAVY = "{'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'matplotlib', 'pandas', 'scipy', 'mlflow'}"
RUN = """
import runpy
sys.argv = ["bespoke", "--help"]
try: runpy.run_module("bespoke", run_name="__main__")
except SystemExit as done: assert not done.code
"""


IMPORTS = "from bespoke import import_data, shrink_data"
SERVES = "import bespoke.serving.app, bespoke.serving.server"


@pytest.mark.parametrize(
    "code",
    ["import bespoke", "import bespoke.cli", RUN, IMPORTS, SERVES],
    ids=["bespoke", "cli", "--help", "data import", "what answers over HTTP"],
)
def test_what_needs_no_network_loads_nothing_heavy(code):
    done = python(f"import sys\n{code}\nprint('loaded:', *sorted(set(sys.modules) & {HEAVY}))")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "bespoke":
            yield from (f"bespoke.{alias.name}" for alias in node.names)


@each_module
def test_no_room_imports_the_package_root(path):
    """The root's verbs are for those who use the package; a room that used them would import upwards unseen."""
    if path.parent != PACKAGE or path.stem != "__init__":
        rooms = {f"bespoke.{room.stem}" for room in PACKAGE.iterdir()}
        names = {name for name in imported(ast.parse(path.read_text("utf-8"))) if name.split(".")[0] == "bespoke"}
        assert {".".join(name.split(".")[:2]) for name in names} <= rooms


@each_module
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


def undocumented(node: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    if not ast.get_docstring(node):
        yield name
    for child in node.body:
        public = not getattr(child, "name", "_").startswith("_")
        if isinstance(child, ast.ClassDef) and public:
            yield from undocumented(child, f"{name}.{child.name}")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and public and not ast.get_docstring(child):
            yield f"{name}.{child.name}"


@each_module
def test_everything_public_has_a_docstring(path):
    assert list(undocumented(ast.parse(path.read_text("utf-8")), path.stem)) == []


@each_module
def test_modules_are_named_for_what_they_hold(path):
    assert not {path.stem, path.parent.name} & {"utils", "util", "helpers", "misc", "common", "manager"}


def ours() -> list[Path]:
    """Every text file that git holds or would hold."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.suffix in TEXT and path.is_file()]


OF_ONE_MACHINE = re.compile(
    r"(?<![\w.>])/(?:work|root|tmp)\b/?|pypi\.org|pythonhosted\.org|download\.pytorch\.org|npmjs\.org"
)


def test_no_file_names_a_place_of_one_machine():
    found = {
        f"{identifier(path)}:{number}: {match.group()}"
        for path in ours()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        for match in OF_ONE_MACHINE.finditer(line)
    }
    assert found == set()


def test_every_key_of_the_recipe_is_explained():
    from bespoke.recipe.document import document

    page = (ROOT / "docs" / "recipe.md").read_text("utf-8")
    assert page == document(), "write it anew: python -m bespoke.recipe.document > docs/recipe.md"


def test_every_room_is_in_the_architecture():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {room for room in rooms if not room.startswith("_") and f"`{room}`" not in page} == set()


def test_one_version_everywhere():
    import bespoke

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert bespoke.__version__ == declared
    assert f"## {declared}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
