"""One file per command, named as it: each a thin function that cli.py registers."""
