"""Shell scripts read without a shell."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.recipe.peers.shell import commands


def only(script: str):
    (command,) = commands(script)
    return command


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("python train_network.py --a 1 --b=2 --c", {"a": "1", "b": "2", "c": True}),
        ("python train_network.py \\\n  --a 1 \\\n --b", {"a": "1", "b": True}),
        ("A=x\npython train_network.py --a $A --b ${A}y --c '$A'", {"a": "x", "b": "xy", "c": "$A"}),
        ('A=x\npython train_network.py --d "$A z"', {"d": "x z"}),
        ("python train_network.py --a ${B:-usual} --b $C", {"a": "usual", "b": "$C"}),
        ("python train_network.py --a 1 2 3 --b -0.5", {"a": ["1", "2", "3"], "b": "-0.5"}),
        ("cd x && python train_network.py --a 1; rm y | cat", {"a": "1"}),
        ("python train_network.py --a 1 # --b 2", {"a": "1"}),
        ("python train_network.py --a '#1' --b x#y --c '' --d ';'", {"a": "#1", "b": "x#y", "c": "", "d": ";"}),
        ("set A=C:\\x\npython train_network.py ^\n --a %A% ^\n --b", {"a": "C:\\x", "b": True}),
        ('$env:A = "x"\npython train_network.py `\n --a $env:A', {"a": "x"}),
        ("# python train_network.py --no\npython sdxl_train_network.py --yes", {"yes": True}),
        ("DEVICES=0 accelerate launch --x 1 train_network.py --a 1", {"a": "1"}),
        ("A=$(hostname)\npython train_network.py --a $A", {"a": "$(hostname)"}),
    ],
)  # fmt: skip
def test_words_are_taken_as_a_shell_would(script, options):
    assert only(script).options == options


def test_prose_around_a_command_does_not_matter():
    assert only("Don't forget:\n\npython train_network.py --a 1\n\nIt isn't long").options == {"a": "1"}


def test_the_launcher_speaks_for_itself():
    command = only("accelerate launch --num_processes 2 path/to/train_dreambooth.py --a 1")
    assert command.script == "train_dreambooth.py"
    assert command.launcher == {"num_processes": "2"} and command.options == {"a": "1"}


@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1), min_size=1, max_size=4)
)
def test_quoted_values_come_back_letter_by_letter(values):
    values = [v for v in values if not (v.startswith("-") or "$" in v or "%" in v)]
    words = " ".join(f"--o{n} {shlex.quote(v)}" for n, v in enumerate(values))
    assert only(f"python train_network.py {words}").options == {f"o{n}": v for n, v in enumerate(values)}
