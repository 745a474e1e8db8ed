"""Names of models turned into a service that draws with what they mean, until it is told to end."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.pipeline import versioned
from bespoke.recipe.service import Serve
from bespoke.registry import CHAMPION, Catalogue, place
from bespoke.serving.jobs import Engine, Worker
from bespoke.serving.keys import Keys
from bespoke.workspace import Project


@dataclass(frozen=True)
class Names:
    """What the names of models mean now, by the nearest registry."""

    folder: Path = field(default_factory=Path)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue(place(start=self.folder))

    def means(self, name: str) -> str:
        """The title of what a name means now: that of a version has its number, every other name means itself.

        Raises: BespokeError when there is no such version, or the registry cannot be reached.
        """
        return self._catalogue.meant(name).title if versioned.is_registered(name) else name

    def champions(self) -> list[str]:
        """The names of all that is in use. Raises: BespokeError when nothing is."""
        catalogue = self._catalogue
        found = [name for name in catalogue.names() if CHAMPION in catalogue.standing(name).aliases]
        if not found:
            hint = "Name a model, or promote a version first: bespoke models promote NAME 1"
            raise BespokeError(f"No model in {catalogue.place.shown} has a {CHAMPION}.", hint)
        return [f"{name}@{CHAMPION}" for name in found]


def settings_of(folder: Path, overrides: Sequence[str] = ()) -> Serve:
    """`[serve]` of the recipe in a folder, if one is there, after `overrides` such as `serve.port=0`.

    Raises: BespokeError when the recipe or an override is wrong, or changes what has nothing to do with serving.
    """
    if other := [override for override in overrides if not override.strip().startswith("serve.")]:
        known = ", ".join(Serve.model_fields)
        raise BespokeError(f"--set {other[0]} does not change how pictures are served.", f"In [serve]: {known}.")
    recipe = Project(folder).recipe
    if recipe.is_file():
        return recipes.load(recipe, overrides).serve
    return recipes.parse(recipes.put({}, *overrides), "--set").serve


def engine(number: int, settings: Serve) -> Engine:
    """What draws in the worker of that number: on a GPU of its own, or on its share of the cores."""
    from bespoke.hardware import cores
    from bespoke.pipeline.easel import easel

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // settings.workers)))
    import torch

    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(number % gpus)
    among = -(-settings.workers // max(1, gpus))
    return easel(Path(), settings.adapters or None, settings.memory_gb, settings.safety_checker, among)


def workers(
    settings: Serve, made: Callable[[int, Serve], Engine] = engine, replicas: tuple[int, int] | None = None
) -> list[Worker]:
    """What draws, none of which is started yet: processes of this machine or, with `replicas`, those of a Ray cluster.

    Of replicas there are at least and at most so many.
    """
    if replicas:
        from bespoke.serving.deploy import ray_workers

        return ray_workers(partial(made, 0, settings), settings, replicas=replicas)
    from bespoke.serving.process import Process

    return [Process(partial(made, number, settings), settings) for number in range(settings.workers)]


def serve(
    models: Sequence[str] = (), *, overrides: Sequence[str] = (), keys: bool = True,
    replicas: tuple[int, int] | None = None, ready: Callable[[str, str], None],
    made: Callable[[int, Serve], Engine] = engine,
) -> None:  # fmt: skip
    """Serves models over HTTP until a signal comes: those named or, without a name, every champion of the registry.

    Whoever asks needs a key of `serve-keys.json`; where that has none, one is made for this service alone. Without
    `keys` nobody needs one. With `replicas` pictures are drawn on a Ray cluster. `ready` hears the address, and that
    key, once pictures can be drawn; `made` makes what draws.

    Raises: BespokeError when there is no such model, it cannot be drawn with, or the address cannot be listened at.
    """
    from bespoke.serving import keys as keyring
    from bespoke.serving.app import application
    from bespoke.serving.hearing import Hearing
    from bespoke.serving.logs import Events, Log
    from bespoke.serving.metrics import Metrics
    from bespoke.serving.server import listening
    from bespoke.serving.server import serve as run
    from bespoke.serving.service import LOG, Service

    settings, names, metrics, log = settings_of(Path(), overrides), Names(), Metrics(), Log()
    models = list(dict.fromkeys(models)) or names.champions()
    known = keyring.Keys(Path(keyring.FILE)) if keys else None
    passing = known.passing("local") if known is not None and not len(known) else ""
    LOG.addHandler(Events(log))
    LOG.propagate = False
    LOG.setLevel("INFO")
    with listening(settings.host, settings.port) as socket:
        service = Service(
            models, workers(settings, made, replicas), settings, metrics,
            means=names.means, adapters=partial(adapters, settings), share=partial(_share, known),
        )  # fmt: skip
        hearing = Hearing(partial(_feedback, settings), settings)
        app = application(service, settings, known, metrics, hearing=hearing, log=log)
        run(service, app, socket, lambda address: ready(address, passing))


def adapters(settings: Serve) -> list[str]:
    """The names of the adapters that requests may have: files below a folder, and runs in it, by their paths there."""
    from bespoke.pipeline.easel import adapter_names

    return adapter_names(Path(settings.adapters)) if settings.adapters else []


def _feedback(settings: Serve) -> Any:
    """Where opinions and kept pictures go. Raises: BespokeError when it cannot be reached."""
    from bespoke.feedback import Store

    return Store(settings.feedback or Path.cwd())


def _share(keys: Keys | None, owner: str) -> int | None:
    """How many pictures an owner's key says that it may have unanswered."""
    key = keys.named(owner) if keys is not None else None
    return key.most_per_key if key else None
