"""A UNet's deep layers asked once for several steps: what they say of a picture changes slowly while it is drawn.

Source: Ma, Fang & Wang 2024, "DeepCache", arXiv 2312.00858, section 3.3, with its shallowest branch.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from bespoke.errors import BespokeError


@contextmanager
def remembering(unet: Any, interval: int, order: int = 1) -> Generator[None, None, None]:
    """A block in which the UNet's deep layers answer anew at every `interval`-th step, and as before in between.

    In a step of an `order` above 1 the UNet is called so often.

    The first layer on the way down and the last two on the way up, which hold most of the detail, answer at each call.
    With 1 nothing is changed. A batch of another size, as where guidance ends early, is always answered anew.

    Raises: BespokeError when the network's layers are not torch's.
    """
    if interval == 1:
        yield
        return
    if not hasattr(unet, "down_blocks"):
        raise BespokeError("Only networks of torch can keep what their deep layers say.", "Set sample.deep_cache = 1.")
    memory = _Memory(interval, order)
    deep = _deep(unet)
    handle = unet.register_forward_pre_hook(memory.turn, with_kwargs=True)
    for module in deep:
        module.forward = memory.of(module.forward)
    try:
        yield
    finally:
        handle.remove()
        for module in deep:
            del module.forward  # the class's own is there again


class _Memory:
    """What modules answered at the last call at which all were asked."""

    def __init__(self, interval: int, order: int) -> None:
        self._interval, self._order = interval, order
        self._calls, self._pictures, self._asked = 0, 0, True

    def turn(self, _: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Called before each pass through the UNet: decides whether the deep layers are asked."""
        pictures = len(args[0] if args else named["sample"])
        if pictures != self._pictures:
            self._calls, self._pictures = 0, pictures
        self._asked = self._calls // self._order % self._interval == 0
        self._calls += 1

    def of(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The same function with a memory."""
        last: list[Any] = [None]

        def remembered(*args: Any, **named: Any) -> Any:
            if self._asked:
                last[0] = forward(*args, **named)
            return last[0]

        return remembered


def _deep(unet: Any) -> list[Any]:
    """All layers of a UNet but the first on its way down and the last two on its way up."""
    first, last = unet.down_blocks[0], unet.up_blocks[-1]
    return [
        *first.resnets[1:],
        *getattr(first, "attentions", ())[1:],
        *(first.downsamplers or ()),
        *unet.down_blocks[1:],
        unet.mid_block,
        *unet.up_blocks[:-1],
        *last.resnets[:-2],
        *getattr(last, "attentions", ())[:-2],
    ]
