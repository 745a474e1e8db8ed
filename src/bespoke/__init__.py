"""bespoke customises Stable Diffusion on one's own images."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bespoke.pipeline import (
        augment,
        balance_data,
        build_words,
        caption_data,
        clean_data,
        collect,
        demo,
        evaluate,
        export_data,
        export_model,
        export_words,
        extract_lora,
        grid,
        import_data,
        import_model,
        inspect_data,
        inspect_model,
        merge_models,
        new,
        plan,
        preview_captions,
        report_data,
        resize_lora,
        restore_data,
        sample,
        show_word,
        shrink_data,
        split_data,
        sweep,
        train,
        unbalance_data,
    )

__version__ = "0.1.0"
__all__ = [
    "augment", "balance_data", "build_words", "caption_data", "clean_data", "collect", "demo", "evaluate",
    "export_data", "export_model", "export_words", "extract_lora", "grid", "import_data", "import_model",
    "inspect_data", "inspect_model", "merge_models", "new", "plan", "preview_captions", "report_data", "resize_lora",
    "restore_data", "sample", "show_word", "shrink_data", "split_data", "sweep", "train",
    "unbalance_data",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the verbs have their own signatures
    """The verbs, loaded when they are first used, so that `import bespoke` stays quick."""
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("bespoke.pipeline"), name)
    raise AttributeError(f"module 'bespoke' has no attribute {name!r}")
