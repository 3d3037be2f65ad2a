"""What the shell is offered to complete a word with, asked of the coordinator and of the disk.

Whatever goes wrong here goes unsaid: somebody is in the middle of typing.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from fedelta.cli._options import connect

if TYPE_CHECKING:
    from fedelta.admin import AdminClient

ANSWER_SECONDS = 1.0
"""A coordinator that takes longer is not waited for."""

MODEL_SUFFIX = ".safetensors"

F = TypeVar("F", bound=Callable[..., Any])


def job_argument(command: F) -> F:
    """ID: a job; shells complete it."""
    return click.argument("job_id", metavar="ID", shell_complete=jobs)(command)


def jobs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids of the coordinator's jobs, the newest first, each with its state."""
    found = _asked(context, lambda admin: [(job.id, str(job.state)) for job in reversed(admin.list())])
    return _beginning(incomplete, found)


def clients(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the coordinator's clients, each with its state."""
    found = _asked(context, lambda admin: [(client.name, str(client.state)) for client in admin.clients()])
    return _beginning(incomplete, found)


def jobs_or_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Job ids and the model files of this directory; other files where neither begins like this."""
    here = sorted(path.name for path in Path().glob(f"*{MODEL_SUFFIX}"))
    found = jobs(context, parameter, incomplete) + _beginning(incomplete, ((name, "file") for name in here))
    return found or [CompletionItem(incomplete, type="file")]


def _beginning(incomplete: str, found: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    return [CompletionItem(name, help=about) for name, about in found if name.startswith(incomplete)]


def _asked(context: click.Context, question: "Callable[[AdminClient], list[tuple[str, str]]]") -> list[tuple[str, str]]:
    """What the coordinator says that the command line or the environment names; nothing where it says nothing."""
    try:
        with context.scope(cleanup=False), connect(context.params["server"], timeout=ANSWER_SECONDS) as admin:
            return question(admin)
    except Exception:  # a traceback in the middle of a command line helps nobody
        return []
