"""How pico, the embedded Stable Diffusion, is made: its world, its training and its measurement."""
