"""bespoke customises Stable Diffusion on one's own images."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bespoke.pipeline.augment import augment
    from bespoke.pipeline.caption import caption_data, preview_captions
    from bespoke.pipeline.catalogued import diff_models, list_models, show_model
    from bespoke.pipeline.coining import build_words
    from bespoke.pipeline.collect import collect
    from bespoke.pipeline.datasets import (
        balance_data,
        export_data,
        import_data,
        restore_data,
        shrink_data,
        split_data,
        unbalance_data,
    )
    from bespoke.pipeline.demo import demo
    from bespoke.pipeline.describe import report_data
    from bespoke.pipeline.drift import drift
    from bespoke.pipeline.evaluate import evaluate
    from bespoke.pipeline.exchange import export_words
    from bespoke.pipeline.export import export_model
    from bespoke.pipeline.grid import grid
    from bespoke.pipeline.inspection import clean_data, inspect_data
    from bespoke.pipeline.lookup import show_word
    from bespoke.pipeline.new import new
    from bespoke.pipeline.passports import inspect_model
    from bespoke.pipeline.plan import plan
    from bespoke.pipeline.promoting import promote_model, retire_model, rollback_model
    from bespoke.pipeline.registering import register_model
    from bespoke.pipeline.sample import sample
    from bespoke.pipeline.surgery import extract_lora, merge_models, resize_lora
    from bespoke.pipeline.sweep import sweep
    from bespoke.pipeline.train import train
    from bespoke.pipeline.unneeded import prune_versions
    from bespoke.pipeline.unpack import import_model
    from bespoke.pipeline.updating import propose

__version__ = "0.1.0"
__all__ = [
    "augment", "balance_data", "build_words", "caption_data", "clean_data", "collect", "demo", "diff_models", "drift",
    "evaluate", "export_data", "export_model", "export_words", "extract_lora", "grid", "import_data", "import_model",
    "inspect_data", "inspect_model", "list_models", "merge_models", "new", "plan", "preview_captions",
    "promote_model", "propose", "prune_versions", "register_model", "report_data", "resize_lora", "restore_data",
    "retire_model", "rollback_model", "sample", "show_model", "show_word", "shrink_data", "split_data", "sweep",
    "train", "unbalance_data",
]  # fmt: skip
_VERBS = {
    "augment": ("augment",),
    "caption": ("caption_data", "preview_captions"),
    "catalogued": ("diff_models", "list_models", "show_model"),
    "coining": ("build_words",),
    "collect": ("collect",),
    "datasets": (
        "balance_data",
        "export_data",
        "import_data",
        "restore_data",
        "shrink_data",
        "split_data",
        "unbalance_data",
    ),
    "demo": ("demo",),
    "describe": ("report_data",),
    "drift": ("drift",),
    "evaluate": ("evaluate",),
    "exchange": ("export_words",),
    "export": ("export_model",),
    "grid": ("grid",),
    "inspection": ("clean_data", "inspect_data"),
    "lookup": ("show_word",),
    "new": ("new",),
    "passports": ("inspect_model",),
    "plan": ("plan",),
    "promoting": ("promote_model", "retire_model", "rollback_model"),
    "registering": ("register_model",),
    "sample": ("sample",),
    "surgery": ("extract_lora", "merge_models", "resize_lora"),
    "sweep": ("sweep",),
    "train": ("train",),
    "unneeded": ("prune_versions",),
    "unpack": ("import_model",),
    "updating": ("propose",),
}
"""The module of `pipeline` that each verb is in."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the verbs have their own signatures
    """The verbs, loaded when they are first used, each with what it needs and no more."""
    for module, verbs in _VERBS.items():
        if name in verbs:
            import importlib

            return getattr(importlib.import_module(f"bespoke.pipeline.{module}"), name)
    raise AttributeError(f"module 'bespoke' has no attribute {name!r}")
