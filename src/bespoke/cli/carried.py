"""What became of another trainer's settings, for a person and as JSON."""

from typing import TYPE_CHECKING, Any

from bespoke.workspace import relative

if TYPE_CHECKING:
    from bespoke.pipeline.new import Made


def carried_content(made: "Made") -> dict[str, Any]:
    """Every option with its fate, and the page that says the same."""
    from bespoke.pipeline.carrying import ACCOUNT
    from bespoke.recipe import peers

    return {} if made.carried is None else {**peers.as_json(made.carried), "page": made.project / ACCOUNT}


def carried_words(made: "Made") -> str:
    """The same in lines, and what is to be done before a training of new words."""
    from bespoke.pipeline.carrying import ACCOUNT
    from bespoke.recipe import peers

    if made.carried is None:
        return ""
    lines = [*peers.told(made.carried), f"All of it: {relative(made.project / ACCOUNT)}"]
    if made.carried.terms:
        lines.append(f"Make the new word's rows first:\n  bespoke words build {relative(made.project / 'dataset')}")
    return "\n".join(lines)
