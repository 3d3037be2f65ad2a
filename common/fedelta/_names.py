"""Names and addresses as people write them."""

import re

from fedelta.errors import ConfigError

DEFAULT_PORT = 8470

CENTRAL_NAME = "central"
"""The client that evaluates beside the coordinator."""

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
LABEL_PATTERN = rf"{NAME_PATTERN}(?:=[^=\s\x00-\x1f\x7f-\x9f]{{1,200}})?"
LABEL_RULE = "KEY or KEY=VALUE: the key like a name, the value without spaces"
NAME_RULE = "1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"

_NAME = re.compile(NAME_PATTERN)
_LABEL = re.compile(LABEL_PATTERN)
_ADDRESS = re.compile(r"(?P<host>\[[^\]\s]+\]|[^\s:/\[\]]+)(?::(?P<port>[0-9]{1,5}))?")


def is_name(text: str) -> bool:
    """Whether it can be the name of a client or a job."""
    return _NAME.fullmatch(text) is not None


def is_label(text: str) -> bool:
    """Whether it can be a label: KEY or KEY=VALUE."""
    return _LABEL.fullmatch(text) is not None


def address(server: str) -> str:
    """HOST:PORT with the default port filled in. Raises `ConfigError` for what is no address."""
    found = _ADDRESS.fullmatch(server)
    if found is None or not 0 < int(found["port"] or DEFAULT_PORT) < 65536:
        raise ConfigError(f"{server!r} is not an address; say HOST:PORT, for example localhost:{DEFAULT_PORT}")
    return f"{found['host']}:{found['port'] or DEFAULT_PORT}"
