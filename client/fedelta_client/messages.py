"""What the runtime and the trainer process say to each other: one JSON object per line over a socket pair.

The runtime gives one command at a time and reads until its answer. Models and updates go as files; only their
paths and digests are said here.
"""

from collections.abc import Callable

import msgspec

MAX_MESSAGE_CHARACTERS = 2000
"""Of the message of a failure, as the contract has it."""


class Command(msgspec.Struct, frozen=True, tag_field="say", tag=True):
    """What the runtime asks for."""


class Prepare(Command, frozen=True, kw_only=True):
    """Load the learner. The first command, answered by `Ready` or `Failed`."""

    learner: str
    """The "module:Class" to load."""
    data: str
    """The client's `--data`, absolute."""
    device: str
    """The client's `--device`; "auto" is resolved by the trainer."""


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """What the learner is told of an assignment of any kind."""

    job: str
    round: int
    client: str
    seed: int
    config: str
    """The job's [train] table as JSON."""
    model_arguments: str
    """The job's [model.arguments] as JSON."""
    plan: str
    """What of the job's plan concerns the client, as JSON (`fedelta.local.ClientPlan`); empty: plain training."""
    state: str | None
    """File of what is kept from assignment to assignment; None where nothing is kept."""


class Work(Command, frozen=True, kw_only=True):
    """An assignment."""

    assigned: Assigned


class Train(Work, frozen=True, kw_only=True):
    """Train from the model file `model` and write the update to `out`. Answered by `Trained`."""

    model: str
    out: str
    shared: str | None
    """File of the tensors that the plan shares beside the model; None where there are none, or none yet."""
    state_out: str
    """Where the next `state` goes, if there is any."""


class Evaluate(Work, frozen=True, kw_only=True):
    """Evaluate the model file `model`. Answered by `Evaluated`."""

    model: str


class Initialize(Work, frozen=True, kw_only=True):
    """Write a fresh model to `out`. Answered by `Initialized`."""

    out: str


class Message(msgspec.Struct, frozen=True, tag_field="say", tag=True):
    """What the trainer process says. All but `Progress` answer a command."""


class Ready(Message, frozen=True, kw_only=True):
    """The learner is loaded."""

    learner: str
    """The name under which jobs ask for it."""
    device: str
    """Where it computes."""


class Progress(Message, frozen=True, kw_only=True):
    """How far the running assignment is. Some are dropped where the learner reports often."""

    fraction: float
    metrics: dict[str, float]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file the trainer wrote."""

    digest: str
    """BLAKE3-256 of the whole file, in hexadecimal."""
    length: int
    """Bytes."""
    norm: float
    """Of an update: its Euclidean norm. Zero for models."""


class Trained(Message, frozen=True, kw_only=True):
    """The update is written."""

    file: File
    state_saved: bool
    """Whether `state_out` is written, too."""
    examples: int
    metrics: dict[str, float]
    seconds: float
    facts: dict[str, float] = {}
    """What the plan wants to know of the update."""


class Evaluated(Message, frozen=True, kw_only=True):
    """The model is evaluated."""

    examples: int
    metrics: dict[str, float]
    seconds: float


class Initialized(Message, frozen=True, kw_only=True):
    """The model is written."""

    file: File


class Interrupted(Message, frozen=True):
    """The work was stopped by a signal; the process is ready for more."""


class Failed(Message, frozen=True, kw_only=True):
    """The command could not be done; the process is ready for more, except after `Prepare`."""

    kind: str
    """Code of the `FedeltaError` it stands for: "learner", "model-mismatch" or "storage"."""
    message: str


ANY_COMMAND = Prepare | Train | Evaluate | Initialize
ANY_MESSAGE = Ready | Progress | Trained | Evaluated | Initialized | Interrupted | Failed

read_command: Callable[[bytes], ANY_COMMAND] = msgspec.json.Decoder(ANY_COMMAND).decode
read_message: Callable[[bytes], ANY_MESSAGE] = msgspec.json.Decoder(ANY_MESSAGE).decode

_encoder = msgspec.json.Encoder()


def line(said: Command | Message) -> bytes:
    """The line that says it."""
    return _encoder.encode(said) + b"\n"
