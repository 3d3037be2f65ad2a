"""Commands whose options are the fields of a dataclass: flags, variables, --config and --print-config."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from fedelta.cli._output import print_json, print_table
from fedelta.config import Layers
from fedelta.config._kinds import bare, choices, element
from fedelta.config._settings import Setting, settings
from fedelta.config._show import in_words, shown
from fedelta.config._sources import layered
from fedelta.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_METAVARS: Mapping[Any, str] = {int: "N", float: "NUMBER", Path: "PATH", str: "TEXT"}


def configured(schema: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command an option for each setting of a schema, and calls it with the `config` that came out.

    Values come from the file that --config names, the environment and the options, the later the stronger. The
    schema's `ENVIRONMENT` is what its variables begin with.
    """
    prefix: str = schema.ENVIRONMENT
    found = settings(schema)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(config_file: Path | None, print_config: bool, as_json: bool, **given: Any) -> Any:
            flags = {each.path: given.pop(_parameter(each)) for each in found}
            try:
                layers: Layers[Any] = layered(
                    schema, prefix=prefix, file=config_file, environment=os.environ, flags=flags
                )
                config = layers.bind()
            except ConfigError as error:
                raise click.UsageError(str(error)) from None
            if print_config:
                return print_layers(layers, config, as_json=as_json)
            return command(config=config, **given)

        options = [*(_option(each, prefix) for each in found), *_common(prefix)]
        return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), run)

    return decorate


def _common(prefix: str) -> list[Callable[[F], F]]:
    """The options of every such command."""
    file = click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar=f"{prefix}CONFIG",
        show_envvar=True,
        help="TOML file with these settings; paths in it are relative to it.",
    )
    return [file, print_options]


def print_options(command: F) -> F:
    """--print-config and --json."""
    show = click.option(
        "--print-config",
        is_flag=True,
        is_eager=True,
        help="Print the settings and where each comes from, and do nothing else.",
    )
    as_json = click.option(
        "--json", "as_json", is_flag=True, callback=_only_printed, help="With --print-config: as JSON, for programs."
    )
    return show(as_json(command))


def _only_printed(context: click.Context, _parameter: click.Parameter, as_json: bool) -> bool:
    if as_json and not context.params["print_config"]:
        raise click.BadParameter("it goes with --print-config")
    return as_json


def _parameter(setting: Setting) -> str:
    return "_".join(setting.path)


def _option(setting: Setting, prefix: str) -> Callable[[F], F]:
    kind, noted = bare(setting.kind), setting.notes
    names = [_parameter(setting), *setting.flags]
    about = _help(setting, prefix)
    if kind is bool:
        names[-1] += f"/--no-{setting.flag.removeprefix('--')}"
        return click.option(*names, default=None, help=about)
    words = choices(setting.kind)
    metavar = noted.metavar or "|".join(words) or _METAVARS.get(kind, "TEXT")
    # The type is for completion only: what is wrong is found where it is bound, from whichever source it comes.
    path = click.Path() if kind is Path else None
    repeated = element(setting.kind) is not None
    return click.option(*names, type=path, metavar=metavar, multiple=repeated, default=None, help=about)


def _help(setting: Setting, prefix: str) -> str:
    """What it means, its variable and its default, as click writes them."""
    extra = [f"env var: {setting.environment(prefix)}"]
    default = default_in_words(setting)
    if setting.required:
        extra.append("required")
    elif default:
        extra.append(f"default: {default}")
    return f"{setting.doc}  [{'; '.join(extra)}]"


def default_in_words(setting: Setting) -> str:
    """The default for people; empty where there is none worth saying."""
    return setting.notes.default or (in_words(setting.default) if not setting.required and setting.default else "")


def print_layers(layers: Layers[T], config: T, *, as_json: bool) -> None:
    """Prints a configuration with where each value comes from."""
    found = list(shown(layers, config))
    if as_json:
        print_json({each.key: {"value": each.value, "from": each.source} for each in found})
    else:
        print_table(("setting", "value", "from"), [(each.key, each.words, each.source) for each in found], "nothing")
