"""Tokens turned into what text encoders say of them: the states that a denoiser reads, with a summary for some."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bespoke.models.families import T5_TOKENS
from bespoke.shapes import TextRows, TextStates

COLUMNS = 5
"""What two tokenizers say of a caption with weights."""
SPELT = 3
"""What T5's says of it: tokens, weights, the tokens of the empty caption."""
LEFT_OUT = -1
"""Stands for every token of a caption that is left out, where the model is guided away from zeros."""


def inner(encoder: Any, ids: Tensor, skip: int = 0) -> tuple[Tensor, Tensor | None]:
    """What a text encoder says before its last layer, not normalised; and its summary of all, where it gives one.

    `skip` more layers are left out. Source: Podell et al. 2023, arXiv 2307.01952, section 2.1.
    """
    found = encoder(ids, output_hidden_states=True)
    return found.hidden_states[-2 - skip], getattr(found, "text_embeds", None)


def states(encoders: Sequence[Any], rows: TextRows) -> TextStates:
    """The states of tokens, as `encoding` gives those of captions: of one text encoder, or of two side by side.

    `rows` have a column of tokens for each encoder; where captions have weights also one of these, and for each encoder
    the tokens of the empty caption. Windows stand one behind the other. With two encoders the last of the states is
    the summary of the first window, filled up with zeros.
    """
    count, length = len(encoders), encoders[0].config.max_position_embeddings
    windows = rows.reshape(-1, length, rows.shape[-1])
    said = [_weighed(encoder, windows, place, count) for place, encoder in enumerate(encoders)]
    found = torch.cat([own for own, _ in said], dim=-1) if count > 1 else said[0][0]
    found = found.reshape(len(rows), -1, found.shape[-1])
    summary = said[-1][1]
    if summary is not None:
        first = summary.reshape(len(rows), -1, 1, summary.shape[-1])[:, 0]
        found = torch.cat([found, _widened(first, found.shape[-1])], dim=1)
    return found.masked_fill((rows[:, 0, 0] == LEFT_OUT)[:, None, None], 0.0)


def joint_states(encoders: Sequence[Any], rows: Float[Tensor, "b rows columns"], width: int) -> TextStates:
    """The states of tokens as a transformer of that width attends to them: two CLIPs', T5's below, the summary last.

    `rows` have CLIP's tokens, their weights and those of the empty caption as in `states`, always both. Below them are
    T5's: where it is the third of `encoders` the same of its tokens; else the states that it gave, or nothing, and then
    zeros are in their place.
    """
    clips, spelling, length = encoders[:2], encoders[2:], encoders[0].config.max_position_embeddings
    said = [_weighed(encoder, rows[:, :length, :COLUMNS], place, 2) for place, encoder in enumerate(clips)]
    states_ = torch.cat([own for own, _ in said], dim=-1)
    summary = torch.cat([own for _, own in said if own is not None], dim=-1)
    below = rows[:, length:] if rows.shape[1] > length else rows.new_zeros(len(rows), T5_TOKENS, width)
    below = _spelt(spelling[0], below[..., :SPELT]) if spelling else below
    return torch.cat([_widened(states_, width), below.to(states_), _widened(summary[:, None], width)], dim=1)


def unread(encoders: Sequence[Any]) -> list[nn.Parameter]:
    """The parameters of text encoders on which no state depends: the last layer of those that give no summary.

    One that reads alone is read to its end, and so is T5, the third.
    """
    several = encoders[:2] if len(encoders) > 1 else ()
    silent = [encoder for encoder in several if not hasattr(encoder, "text_projection")]
    found: list[nn.Parameter] = []
    for encoder in silent:
        last = f"layers.{encoder.config.num_hidden_layers - 1}."
        found += [p for name, p in encoder.named_parameters() if last in name or "final_layer_norm" in name]
    return found


def _weighed(encoder: Any, windows: Tensor, place: int, count: int) -> tuple[Tensor, Tensor | None]:
    """What one of several text encoders says of windows: states, and summaries where several encoders read."""
    tokens = windows[..., place].long().clamp(min=0)
    if windows.shape[-1] == count:
        return _said(encoder, tokens, count)
    empty = windows[:1, :, count + 1 + place].long()
    both, summary = _said(encoder, torch.cat([tokens, empty]), count)
    plain, weights = both[-1:], windows[..., count, None]
    weighed = plain + weights.to(both.dtype) * (both[:-1] - plain)
    return weighed, None if summary is None else summary[:-1]


def _spelt(encoder: Any, rows: Float[Tensor, "b tokens columns"]) -> Float[Tensor, "b tokens width"]:
    """What T5 says of tokens with weights. The empty caption has no new word: what it says of that cannot change."""
    with torch.no_grad():
        plain = encoder(rows[:1, :, 2].long())[0]
    said = encoder(rows[..., 0].long())[0]
    return plain + rows[..., 1, None].to(said.dtype) * (said - plain)


def _widened(states_: Tensor, width: int) -> Tensor:
    """States filled up with zeros."""
    return nn.functional.pad(states_, (0, width - states_.shape[-1]))


def _said(encoder: Any, tokens: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
    return inner(encoder, tokens) if count > 1 else (encoder(tokens)[0], None)
