"""`python -m tests.faults.launch ORDERS COMMAND...`: a fedelta command in whose process faults can be ordered.

What it runs is the command as it is; points are set beforehand into the modules it is made of.
"""

import sys
from pathlib import Path

from tests.faults.clock import Clock
from tests.faults.orders import Points


def main() -> None:
    points = Points(Path(sys.argv[1]))
    if sys.argv[2] == "server":
        from fedelta_server import daemon as _daemon  # noqa: F401  # all of it is to be loaded
        from tests.faults.coordinator_points import install
    else:
        from tests.faults.client_points import install
    install(points)
    Clock(points).install()
    from fedelta import cli

    sys.argv = ["fedelta", *sys.argv[2:]]
    cli.main()


if __name__ == "__main__":
    main()
