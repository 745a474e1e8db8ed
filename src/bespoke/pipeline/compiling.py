"""What to do where torch cannot compile a training's network."""

from collections.abc import Generator
from contextlib import contextmanager

from bespoke.errors import BespokeError

COMPILERS = ("torch._dynamo", "torch._inductor")
"""Where the errors of torch's compilers come from; to import their kinds takes a second."""


@contextmanager
def compiling_explained() -> Generator[None, None, None]:
    """A block in which a training runs.

    Raises: BespokeError when torch cannot compile on this machine, or not this network.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(COMPILERS):
            raise
        told = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = "Take train.compile out. If a C++ compiler or Python's headers are missing: apt install g++ python3-dev"
        raise BespokeError(f"torch could not compile the network: {told}", hint) from error
