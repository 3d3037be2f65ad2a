"""Who is connected. Volatile: after a restart clients register again."""

from collections.abc import Iterator

from fedelta.errors import BadRequestError, NameInUseError, UnknownSessionError
from fedelta_server.engine._client import LIVENESS_SECONDS, Client
from fedelta_server.engine.events import ClientRegistered, SessionEvent


class Clients:
    """The registered clients by name and by session."""

    def __init__(self) -> None:
        self._by_name: dict[str, Client] = {}
        self._by_session: dict[str, Client] = {}

    def __iter__(self) -> Iterator[Client]:
        return (self._by_name[name] for name in sorted(self._by_name))

    def __len__(self) -> int:
        """How many have registered since the start."""
        return len(self._by_name)

    def register(self, event: ClientRegistered) -> None:
        """Opens a session. Raises `NameInUseError` while another one under the name is live.

        A session is one client's: raises `BadRequestError` where it was opened under another name.
        """
        holder = self._by_session.get(event.session)
        if holder is not None and holder.name != event.name:
            raise BadRequestError(f"the session is that of client {holder.name!r}; open another one for {event.name!r}")
        known = self._by_name.get(event.name)
        if known is not None and known.session == event.session:
            known.learners, known.labels = event.learners, event.labels
            known.evaluates_only = event.evaluates_only
            # It may be a process of another version, which took the place of a dead one.
            known.software_version = event.software_version
            known.last_heard, known.left = event.at, False
            known.declined.clear()
            return
        if known is not None:
            if known.live(event.at):
                raise NameInUseError(
                    f"another live process is registered as {event.name!r}. Give this one another --name, or stop that "
                    f"one; if it is dead, its name is free {LIVENESS_SECONDS:g} s after it was last heard"
                )
            del self._by_session[known.session]
        client = Client(
            name=event.name,
            session=event.session,
            learners=event.learners,
            labels=event.labels,
            software_version=event.software_version,
            last_heard=event.at,
            evaluates_only=event.evaluates_only,
        )
        self._by_name[event.name] = self._by_session[event.session] = client

    def heard(self, event: SessionEvent) -> Client:
        """Notes the sign of life and says whose it is. Raises `UnknownSessionError`."""
        client = self.of_session(event.session)
        client.last_heard = event.at
        client.disconnected = False
        return client

    def of_session(self, session: str) -> Client:
        """The client of a session. Raises `UnknownSessionError`."""
        client = self._by_session.get(session)
        if client is None or client.left:
            raise UnknownSessionError("the session is not open; register again")
        return client

    def lose(self, name: str) -> None:
        """Takes a client for dead until it is heard again: its name is free, and it gets no work."""
        if name in self._by_name and not self._by_name[name].polls:
            self._by_name[name].disconnected = True

    def of_name(self, name: str) -> Client:
        """The client that registered under a name last. Raises `UnknownSessionError`."""
        if name not in self._by_name:
            raise UnknownSessionError(f"no client {name!r} has registered")
        return self._by_name[name]
