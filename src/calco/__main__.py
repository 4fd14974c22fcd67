"""``python -m calco`` is the ``calco`` command."""

from calco.cli import main

main()
