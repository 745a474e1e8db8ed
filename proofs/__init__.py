"""Experiments that take too long for the test suite: each writes its figures to `docs/results/`."""
