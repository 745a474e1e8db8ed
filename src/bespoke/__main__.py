"""`python -m bespoke` is `bespoke`."""

from bespoke.cli import main

main()
