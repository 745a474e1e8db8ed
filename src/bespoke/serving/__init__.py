"""Versions turned into an HTTP service that people can rely on."""
