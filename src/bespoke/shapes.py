"""The names of tensor axes, declared once.

Keys: b pictures of a batch; h w latent rows and columns; c latent channels; H W pixels; l text states; t text tokens;
d features.
"""

from jaxtyping import Float, Int, Num
from torch import Tensor

Latents = Float[Tensor, "b c h w"]
Moments = Float[Tensor, "b c2 h w"]
Pixels = Float[Tensor, "b 3 H W"]
TextStates = Float[Tensor, "b l d"]
TextRows = Float[Tensor, "b t rows"]
"""Tokens by each tokenizer and, where captions have weights, the weight of each and the tokens of the empty caption."""
Sizes = Float[Tensor, "b 6"]
"""Of each picture the size it was read in, where it was cut out, and the size it has: each (height, width), pixels."""
Timesteps = Int[Tensor, " b"]
Told = Num[Tensor, " b"]
"""Timesteps as a network is told them: whole numbers, or thousandths of the way in flow matching."""
Places = Float[Tensor, "b 1 h w"]
"""One number for each row and column of the latents."""
Mask = Float[Tensor, "1 1 h w"]
"""The places of one picture."""
PerItem = Float[Tensor, " b"]
