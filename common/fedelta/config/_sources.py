"""What files, the environment and the command line give: each as a layer of configuration."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fedelta.config._bind import nearest
from fedelta.config._kinds import bare, element, is_table, schema_of
from fedelta.config._layers import Given, Kind, Layers, Source, flat
from fedelta.config._secret import Secret
from fedelta.config._settings import Key, Setting, hints, kind_at, settings
from fedelta.config._text import read, read_one
from fedelta.errors import ConfigError

T = TypeVar("T")

_HERE = Path()


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The table in a TOML file, and the file's text. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse_toml(text, str(path)), text


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """The table that a text in TOML stands for. Raises `ConfigError`."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML: {error}") from None


def from_table(schema: type, table: Mapping[str, Any], name: str, directory: Path = _HERE) -> Iterator[Given]:
    """The layer of a file called `name`. Relative paths are relative to `directory`."""
    source = Source(kind=Kind.FILE, name=name)
    for key, value in flat(table):
        yield _given(schema, key, value, source, directory)


def from_environment(
    schema: type, prefix: str, environment: Mapping[str, str], others: tuple[str, ...] = ()
) -> Iterator[Given]:
    """The layer of the environment. Empty variables count as not set.

    Raises `ConfigError` for a variable that begins with `prefix` and is neither a setting's nor one of `others`.
    """
    names = {each.environment(prefix): each for each in settings(schema)}
    for variable in sorted(environment):
        key = _key(variable, names)
        if key is not None and environment[variable]:
            yield from_text(schema, key, environment[variable], Source(kind=Kind.ENVIRONMENT, name=variable))
        elif key is None and variable.startswith(prefix) and variable not in others:
            raise ConfigError(f"{variable}: there is no such variable{nearest(variable, [*names, *others])}")


def _key(variable: str, names: Mapping[str, Setting]) -> tuple[str, ...] | None:
    """The key that a variable sets: a setting, or a value in a table whose keys are free."""
    if variable in names:
        return names[variable].path
    for name, setting in names.items():
        if is_table(setting.kind) and variable.startswith(f"{name}_"):
            return (*setting.path, variable.removeprefix(f"{name}_").lower())
    return None


def from_flags(schema: type, given: Mapping[tuple[str, ...], Any]) -> Iterator[Given]:
    """The layer of the command line's options: texts, or tuples of them for what may be repeated, or booleans."""
    for setting in settings(schema):
        value = given.get(setting.path)
        if value is None or value == ():
            continue
        source = Source(kind=Kind.FLAG, name=setting.flag)
        yield _given(schema, setting.path, _told(value, setting, source), source, _HERE)


def _told(value: Any, setting: Setting, source: Source) -> Any:
    if isinstance(value, tuple):
        return [read_one(each, element(setting.kind)) for each in value]
    return _read(value, setting.kind, source) if isinstance(value, str) else value


def from_assignments(schema: type, assignments: tuple[str, ...], flag: str) -> Iterator[Given]:
    """The layer of options like `--set rounds.max=5`. Raises `ConfigError`."""
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        key = _assigned(name)
        if not equals or key is None:
            raise ConfigError(f"{flag} {assignment}: say {flag} SECTION.KEY=VALUE, for example {flag} rounds.max=5")
        yield from_text(schema, key, text.strip(), Source(kind=Kind.FLAG, name=f"{flag} {name.strip()}"))


def _assigned(name: str) -> tuple[str, ...] | None:
    """The key that a name stands for, written as in TOML: parts in quotes may hold anything. None: it is no key."""
    try:
        found = list(flat(tomllib.loads(f"{name} = 0")))
    except tomllib.TOMLDecodeError:
        return None
    return found[0][0] if len(found) == 1 else None


def from_text(schema: type, key: tuple[str, ...], text: str, source: Source) -> Given:
    """A value given as text, relative to the working directory."""
    kind = kind_at(schema, key)
    return _given(schema, key, _read(text, Any if kind is None else kind, source), source, _HERE)


def _read(text: str, kind: Any, source: Source) -> Any:
    if bare(kind) is Secret:
        return text
    try:
        return read(text, kind)
    except ValueError as error:
        raise ConfigError(f"{source.name}: {error}") from None


def _given(schema: type, key: tuple[str, ...], value: Any, source: Source, directory: Path) -> Given:
    try:
        placed = _placed(value, kind_at(schema, key), source, directory)
    except ValueError as error:
        raise ConfigError(f"{source.where(key, key)}: {error}") from None
    return Given(key=key, value=placed, source=source)


def _placed(value: Any, kind: Any, source: Source, directory: Path) -> Any:
    """The value with its relative paths as seen from the working directory, and its secrets fetched."""
    found = bare(kind)
    if isinstance(value, str) and found is Path:
        return str(directory / value)
    if isinstance(value, str) and found is Secret:
        return _secret(value, source, directory)
    if isinstance(value, list) and element(kind) is not None:
        return [_placed(each, element(kind), source, directory) for each in value]
    if isinstance(value, dict) and schema_of(kind) is not None:
        kinds = hints(found)
        return {name: _placed(each, kinds.get(name), source, directory) for name, each in value.items()}
    return value


def _secret(text: str, source: Source, directory: Path) -> Secret:
    if text.startswith("@"):
        return Secret.load(directory / text[1:])
    if source.kind is Kind.ENVIRONMENT:
        return Secret(text)
    raise ValueError("a secret does not stand here itself; write it into a file that only you can read, and say @FILE")


def ways(setting: Setting, prefix: str) -> str:
    """How to give a setting, for errors: "say --state, FEDELTA_SERVER_STATE or `state` in the --config file"."""
    return f"say {setting.flag}, or set {setting.environment(prefix)}, or {setting.key} in the --config file"


def bind(schema: type[T], table: Mapping[str, Any], source: str) -> T:
    """Makes a `schema` from a table. Raises `ConfigError` naming `source`, the key and the remedy."""
    layers = Layers(schema)
    layers.file = source
    layers.add(from_table(schema, table, source))
    return layers.bind()


def layered(
    schema: type[T],
    *,
    prefix: str,
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, ...], Any],
) -> Layers[T]:
    """The layers of a daemon's configuration: file < environment < flags. Raises `ConfigError`."""
    remedies: dict[Key, str] = {each.path: ways(each, prefix) for each in settings(schema)}
    layers = Layers(schema, remedies)
    if file is not None:
        layers.file = str(file)
        layers.add(from_table(schema, read_toml(file)[0], str(file), file.parent))
    layers.add(from_environment(schema, prefix, environment, (f"{prefix}CONFIG",)))
    layers.add(from_flags(schema, flags))
    return layers
