"""Where the coordinator's files lie below its state directory.

journal.db                                                   the journal
models/<digest>.safetensors                                  model versions, named by their BLAKE3 digest
states/<job>/<version>.safetensors                           what a job's plan keeps beside its models
manifests/<job>/<version>.json                               what each version was made of
uploads/<assignment>.<digest>.part                           uploads under way; they outlive a restart
updates/<job>/<round>.<attempt>/<client>.safetensors         updates that were admitted
temp/                                                        output of a fold until it has its name; what goes
spares/                                                      files that uploads may overwrite
"""

from pathlib import Path

from fedelta.errors import BadRequestError

_MAX_COMPONENT_BYTES = 160
_SUFFIX = ".safetensors"


class Layout:
    """Names files; makes and reads none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.journal = root / "journal.db"
        self.models = root / "models"
        self.states = root / "states"
        self.manifests = root / "manifests"
        self.uploads = root / "uploads"
        self.updates = root / "updates"
        self.temp = root / "temp"
        self.spares = root / "spares"

    @property
    def directories(self) -> tuple[Path, ...]:
        """All that files lie in."""
        return (self.models, self.states, self.manifests, self.uploads, self.updates, self.temp, self.spares)

    def model(self, digest: bytes) -> Path:
        """The file of the model with this digest."""
        return self.models / f"{digest.hex()}{_SUFFIX}"

    def state(self, job: str, version: int) -> Path:
        """What the parts of a job's plan keep beside a version."""
        return self.states / component(job) / f"{version:d}{_SUFFIX}"

    def kept_states(self) -> list[tuple[Path, str, int]]:
        """The states that there are, each with its job and version."""
        return [(path, path.parent.name, int(path.stem)) for path in sorted(self.states.glob(f"*/*{_SUFFIX}"))]

    def manifest(self, job: str, version: int) -> Path:
        """The manifest of a version."""
        return self.manifests / component(job) / f"{version:d}.json"

    def upload(self, key: str, digest: bytes) -> Path:
        """The spooled bytes of an upload."""
        return self.uploads / f"{component(key)}.{digest.hex()}.part"

    def round(self, job: str, round_: int, attempt: int) -> Path:
        """The directory with the updates of one attempt at a round."""
        return self.updates / component(job) / f"{round_:d}.{attempt:d}"

    def rounds(self, job: str) -> list[tuple[Path, int]]:
        """The directories with updates of a job that there are, each with the number of its round."""
        directory = self.updates / component(job)
        found = sorted(directory.iterdir()) if directory.exists() else []
        return [(path, int(path.name.partition(".")[0])) for path in found]

    def update(self, job: str, round_: int, attempt: int, client: str) -> Path:
        """An admitted update."""
        return self.round(job, round_, attempt) / f"{component(client)}{_SUFFIX}"


def component(text: str) -> str:
    """The text, if it is safe as part of a file name. Names are checked where they come in; this is the last guard."""
    if not text.isprintable() or "/" in text or text in ("", ".", "..") or len(text.encode()) > _MAX_COMPONENT_BYTES:
        raise BadRequestError(f"{text[:80]!r} cannot be part of a file name")
    return text
