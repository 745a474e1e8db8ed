"""A module of work that other processes can import."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

WORK = """
import os, sys, time
from bespoke.errors import BespokeError

def whose(record):
    return os.getpid()

def slowly(record):
    time.sleep(0.002 * (record % 5))
    return record, str(record)

def picky(record):
    if record == 20:
        raise BespokeError(f"{record} is bad", "Leave it out.")
    if record == 21:
        raise Strange(1, 2)
    return record

class Strange(Exception):
    def __init__(self, one, other):
        super().__init__("it cannot be packed")

def loaded(record):
    return [name for name in ("torch", "numpy", "bespoke.data", "multiprocessing") if name in sys.modules]

def dies(record):
    if record == 20:
        os._exit(9)
    return record

def reads(record):
    if record == 0:
        return ""
    print("a library that prints", record, flush=True)
    os.system("echo and a program, too")
    return sys.stdin.read() + (os.read(0, 9).decode())

def unpackable(record):
    return lambda: record

def waits(record):
    number, path = record
    if number >= 4:
        with open(path, "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(600)
    return number

def slowly_then(record):
    with open(record[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.2 if record[0] else 0)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that other processes can import, since they get this one's path."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "work_of_a_test.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("work_of_a_test")
    del sys.modules["work_of_a_test"]
