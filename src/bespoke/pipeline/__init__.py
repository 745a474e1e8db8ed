"""The verbs: whole stages of a model's life, as the command line and Python call them.

Nothing is imported here: what one verb needs, such as torch, another has no use for.
"""
