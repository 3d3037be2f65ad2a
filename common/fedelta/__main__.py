"""`python -m fedelta` is the command `fedelta`."""

from fedelta.cli import main

main(prog_name="fedelta")
