"""What `fedelta --version` says."""

import platform
from importlib.metadata import version

import fedelta
from fedelta.wire.channel import PROTOCOL_MAX, PROTOCOL_MIN


def version_line() -> str:
    """The versions that matter where two machines do not understand each other. Imports no grpc."""
    protocol = str(PROTOCOL_MIN) if PROTOCOL_MIN == PROTOCOL_MAX else f"{PROTOCOL_MIN} to {PROTOCOL_MAX}"
    return (
        f"fedelta {fedelta.__version__}, protocol {protocol}, "
        f"Python {platform.python_version()}, grpcio {version('grpcio')}"
    )
