"""bitsandbytes read without torch's compiler, which it asks for as it is read, though what it compiles is hardly used.

diffusers and peft read bitsandbytes wherever it is installed. The compiler takes longer to read than all of them.
"""

import functools
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = "bitsandbytes"


def read_lightly() -> None:
    """From now on, functions that bitsandbytes has compiled are compiled when they are first called."""
    if NAME not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one package where it lies, and has it read in another way."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Where the package lies; nothing for all others."""
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target) if fullname == NAME else None
        if found is not None and found.loader is not None:
            found.loader.exec_module = functools.partial(_read, found.loader.exec_module)
        return found


def _read(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    import torch

    original: Any = torch.compile
    torch.compile = functools.partial(_compiled_when_called, original)
    try:
        execute(module)
    finally:
        torch.compile = original


def _compiled_when_called(compiler: Any, function: Any = None, **how: Any) -> Any:
    if function is None:
        return functools.partial(_compiled_when_called, compiler, **how)
    compiled = functools.cache(lambda: compiler(function, **how))

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        return compiled()(*arguments, **named)

    return called
