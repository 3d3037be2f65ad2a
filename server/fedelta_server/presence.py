"""What the coordinator's log says of clients whose connection breaks, and of those that come back."""

import asyncio
import logging

from fedelta._logs import about
from fedelta_server.engine import Client

GONE_SECONDS = 1.0
"""Who is back within this, or leaves in order, was not gone: a client that ends breaks off its call for work first."""

_log = logging.getLogger(__name__)


class Presence:
    """Listens to the calls for work: a live client always has one, unless it works."""

    def __init__(self) -> None:
        self._gone: dict[str, str] = {}
        """By client: the session that was told to be gone."""

    def polls(self, client: Client) -> None:
        """It asks for work."""
        if self._gone.pop(client.name, None) == client.session:
            _log.info("is back")

    def broke_off(self, client: Client) -> None:
        """Its call ended, and not by an answer."""
        asyncio.get_running_loop().call_later(GONE_SECONDS, self._tell, client)

    def _tell(self, client: Client) -> None:
        if client.disconnected and not client.left:
            self._gone[client.name] = client.session
            with about(client=client.name):
                _log.info("is gone: its connection broke")
