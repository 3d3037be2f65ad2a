"""The clients of a simulation: their names, and where each finds its data."""

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fedelta._names import CENTRAL_NAME, NAME_RULE, is_name
from fedelta._words import plural
from fedelta.errors import ConfigError

Make = Callable[[int, int, int], Any]
"""Makes a client's data, called as `f(index, clients, seed)`: the client's index from 0, how many there are, and the
job's seed."""

Data = str | Path | Mapping[str, Any] | Sequence[Any] | Make | None
"""Where clients find their data; `sites_of` says how each kind is read."""


class Source(Protocol):
    """Gives each client what its learner finds as `data`. Goes to other processes by pickle."""

    def data(self, index: int) -> Any:
        """Of the client with this index, from 0."""
        ...


@dataclass(frozen=True)
class Listed:
    """Data that is there, or the paths of it: one value for each client."""

    values: tuple[Any, ...]

    def data(self, index: int) -> Any:
        """See `Source`."""
        return self.values[index]


@dataclass(frozen=True)
class Made:
    """Data that a function makes, where and when it is needed."""

    function: str | Make
    """As "module:function", or itself."""
    clients: int
    seed: int

    def data(self, index: int) -> Any:
        """See `Source`. Raises `ConfigError` where the function cannot be had."""
        made = _imported(self.function) if isinstance(self.function, str) else self.function
        return made(index, self.clients, self.seed)


@dataclass(frozen=True)
class Nothing:
    """No data: the learner finds the working directory, as at a client without --data."""

    def data(self, index: int) -> Path:
        """See `Source`."""
        del index
        return Path()


@dataclass(frozen=True)
class _WithCentral:
    """Data of clients, and behind it that of the central evaluation."""

    source: Source
    index: int
    central: Any

    def data(self, index: int) -> Any:
        """See `Source`."""
        return self.central if index == self.index else self.source.data(index)


@dataclass(frozen=True, kw_only=True)
class Sites:
    """All clients: names, in the order of their indices, and where their data comes from."""

    names: tuple[str, ...]
    source: Source
    central: bool = False
    """Whether there is one more, behind these, that evaluates only."""

    @property
    def indices(self) -> dict[str, int]:
        """By name, also of the one that evaluates only."""
        return {name: index for index, name in enumerate((*self.names, CENTRAL_NAME) if self.central else self.names)}

    def with_central(self, data: Any) -> "Sites":
        """The same, and one more that evaluates only."""
        return replace(self, source=_WithCentral(self.source, len(self.names), data), central=True)


def sites_of(data: Data, clients: int | None, seed: int) -> Sites:
    """The clients, from what was given as their data. Raises `ConfigError`.

    * A directory: an entry for each client, a file or a folder, in the order of their names. A client is called like
      its entry, without the suffix. The first `clients` are taken; None: all.
    * A path with `{index}` (from 0) or `{client}` in it: each client's own.
    * "module:function", or a function: see `Make`.
    * A mapping: clients' data by name. A sequence: one value for each client.
    * None: no data.

    Clients that get no name this way are called client-0, client-1 and so on, with as many digits as the last needs.
    """
    if isinstance(data, str | Path):
        return _of_text(str(data), clients, seed)
    if isinstance(data, Mapping):
        return _first(tuple(data), tuple(data.values()), clients, "data")
    if callable(data):
        wanted = _counted(clients)
        return Sites(names=_numbered(wanted), source=Made(data, wanted, seed))
    if data is None:
        return Sites(names=_numbered(_counted(clients)), source=Nothing())
    return _first(_numbered(len(data)), tuple(data), clients, "data")


def _of_text(text: str, clients: int | None, seed: int) -> Sites:
    if "{" in text:
        return _of_template(text, _counted(clients))
    if Path(text).is_dir():
        entries = sorted(path for path in Path(text).iterdir() if not path.name.startswith("."))
        return _first(tuple(_name(path) for path in entries), tuple(entries), clients, f"--data {text}")
    module, colon, function = text.partition(":")
    if colon and module and function.isidentifier() and "/" not in module:
        _imported(text)
        return Sites(names=_numbered(_counted(clients)), source=Made(text, _counted(clients), seed))
    raise ConfigError(
        f"--data {text}: there is no such directory. Say a directory with an entry for each client, a path with "
        "{index} or {client} in it, or module:function"
    )


def _of_template(text: str, clients: int) -> Sites:
    names = _numbered(clients)
    try:
        paths = tuple(Path(text.format(index=index, client=name)) for index, name in enumerate(names))
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ConfigError(f"--data {text}: what may stand in braces is {{index}} and {{client}}") from None
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise ConfigError(f"--data {text}: there is no {missing}, for {plural(clients, 'client')} (indices begin at 0)")
    return Sites(names=names, source=Listed(paths))


def _first(names: tuple[str, ...], values: tuple[Any, ...], clients: int | None, what: str) -> Sites:
    """The first so many clients of those there are."""
    wanted = len(names) if clients is None else clients
    if not names or wanted > len(names):
        needed = f"{plural(wanted, 'client')} need as many" if names else "there is nothing to simulate"
        raise ConfigError(f"{what} has {len(names)} entries; {needed}")
    chosen = names[:wanted]
    bad = next((name for name in chosen if not is_name(name)), None)
    if bad is not None:
        raise ConfigError(f"{what}: {bad!r} is not a client name: {NAME_RULE}")
    if CENTRAL_NAME in chosen:
        raise ConfigError(f"{what}: the name {CENTRAL_NAME!r} is kept for the client that evaluates only")
    double, times = Counter(chosen).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"{what}: two entries give the client name {double!r}; names must differ without the suffix")
    return Sites(names=chosen, source=Listed(values[:wanted]))


def _counted(clients: int | None) -> int:
    if clients is None:
        raise ConfigError("say how many clients there are (--clients N): the data does not tell")
    return clients


def _numbered(clients: int) -> tuple[str, ...]:
    width = len(str(clients - 1))
    return tuple(f"client-{index:0{width}}" for index in range(clients))


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _imported(text: str) -> Make:
    """The function that "module:function" names; modules are found in the working directory too."""
    module, _, name = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"--data {text} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"--data {text} is no function; it is called as f(index, clients, seed)")
    function: Make = found
    return function
