"""The admin client: typed, synchronous."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from blake3 import blake3

from fedelta._files import replaced
from fedelta._names import DEFAULT_PORT, address
from fedelta.admin import _convert
from fedelta.admin._download import Download
from fedelta.admin._transfer import Patience, StallGuard, chunks
from fedelta.admin._types import (
    ClientInfo,
    Evaluating,
    EvaluationClosed,
    EvaluationInfo,
    Event,
    JobInfo,
    ModelInfo,
    StateChanged,
)
from fedelta.config import JobSpec, Version, load_job, parse_job
from fedelta.errors import ConfigError, FedeltaError, NotFoundError, StalledError, UnavailableError, WrongStateError
from fedelta.tensors import read_layout
from fedelta.v1 import admin_pb2 as pb
from fedelta.v1 import admin_pb2_grpc
from fedelta.wire import bulk
from fedelta.wire.channel import connect, translate
from fedelta.wire.proxy import ENVIRONMENT, ProxySetting, choose
from fedelta.wire.route import Route

Q = TypeVar("Q")
R = TypeVar("R")

_SERVICE = "/fedelta.v1.AdminService/"


class AdminClient:
    """Speaks to a coordinator as its operator.

    A context manager; use it from one thread at a time. All methods raise `FedeltaError`s: `UnavailableError`
    when no coordinator answers, else what the coordinator raised, for example `NotFoundError` for an unknown job.

        with AdminClient("localhost:8470") as admin:
            job = admin.submit(Path("digits.toml"))
            for event in admin.watch(job):
                print(event.what)
            admin.download_model(job, Path("model.safetensors"))
    """

    def __init__(
        self,
        server: str = f"localhost:{DEFAULT_PORT}",
        *,
        proxy: str | ProxySetting = ENVIRONMENT,
        timeout: float = 30,
        stall: float = 60,
        patience: float = 120,
    ) -> None:
        """Opens no connection yet. Raises `ConfigError` for an address or a proxy that is none.

        Args:
            server: HOST:PORT; the port is 8470 if left out.
            proxy: the URL of an HTTP proxy to go through, "none", or "environment" for what HTTPS_PROXY, ALL_PROXY
                and NO_PROXY say.
            timeout: seconds that a call which moves no file may take.
            stall: seconds without progress after which moving a file is given up.
            patience: seconds that `watch` and `download_model` wait for a coordinator that was there and went away.
        """
        self.server = address(server)
        self._timeout = timeout
        self._stall = stall
        self._patience = patience
        setting = ProxySetting(proxy) if isinstance(proxy, str) else proxy
        self._route = Route(target=self.server, proxy=choose(self.server, setting, os.environ))
        self._channel: grpc.Channel = connect(self._route)
        self._stub = admin_pb2_grpc.AdminServiceStub(self._channel)

    def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, path: Path) -> str:
        """Submits a job file and returns the job's id.

        The file is checked here first. The initial model it names, relative to itself, is uploaded.
        """
        spec, text = load_job(path)
        return self._submit(spec, text, str(path), path.parent)

    def submit_text(self, toml: str, *, source: str = "job", directory: Path | None = None) -> str:
        """Submits the text of a job file, which errors call `source`; `model.init` is relative to `directory`."""
        return self._submit(parse_job(toml, source), toml, source, directory or Path())

    def _submit(self, spec: JobSpec, toml: str, source: str, directory: Path) -> str:
        digest = b""
        if spec.model.file is not None:
            model = directory / spec.model.file
            if not model.is_file():
                raise ConfigError(
                    f"{source}: model.init = {spec.model.init!r}: there is no file {model}; make it with "
                    f"`fedelta model init --learner MODULE:CLASS --seed {spec.job.seed} --out {model}`"
                )
            digest = bytes.fromhex(self.upload_model(model).digest)
        request = pb.SubmitJobRequest(toml=toml, file_name=source, model_digest=digest)
        return self._call(self._stub.SubmitJob, request).job_id

    def list(self) -> tuple[JobInfo, ...]:
        """All jobs, oldest first, without their rounds."""
        return tuple(map(_convert.job_info, self._call(self._stub.ListJobs, pb.ListJobsRequest()).jobs))

    def get(self, job_id: str) -> JobInfo:
        """One job with its rounds."""
        return _convert.job_info(self._call(self._stub.GetJob, pb.GetJobRequest(job_id=job_id)).job)

    def stop(self, job_id: str, reason: str = "") -> None:
        """Ends a job now. Its versions are kept."""
        self._call(self._stub.StopJob, pb.StopJobRequest(job_id=job_id, reason=reason))

    def pause(self, job_id: str, reason: str = "") -> None:
        """Lets the open round finish and opens no further one until `resume`."""
        self._call(self._stub.PauseJob, pb.PauseJobRequest(job_id=job_id, reason=reason))

    def resume(self, job_id: str) -> None:
        """Goes on with a paused job."""
        self._call(self._stub.ResumeJob, pb.ResumeJobRequest(job_id=job_id))

    def extend(self, job_id: str, rounds_max: int) -> None:
        """Lets a job run so many rounds in all; a finished one goes on."""
        self._call(self._stub.ExtendJob, pb.ExtendJobRequest(job_id=job_id, rounds_max=rounds_max))

    def evaluate(self, job_id: str, versions: Sequence[Version] = ("latest",)) -> Evaluating:
        """Has clients evaluate versions of a job, each on its own data; also of a job that has ended.

        A version that was evaluated before is evaluated again, and the new evaluation takes the place of the old one.
        Raises `NotFoundError` for a version that there is not.
        """
        info = self.get(job_id) if any(isinstance(version, str) for version in versions) else None
        numbers = {_numbered(version, info) for version in versions}
        request = pb.EvaluateJobRequest(job_id=job_id, versions=sorted(numbers))
        answer = self._call(self._stub.EvaluateJob, request)
        return Evaluating(versions=tuple(answer.versions), after=answer.after_sequence)

    def evaluated(self, job_id: str, evaluating: Evaluating) -> Iterator[EvaluationInfo]:
        """The evaluations that `evaluate` began, each when it is closed. Waits for them.

        Raises `WrongStateError` where the job ends without them.
        """
        missing = set(evaluating.versions)
        for event in self.watch(job_id, evaluating.after):
            if isinstance(event.what, EvaluationClosed) and event.what.evaluation.version in missing:
                missing.remove(event.what.evaluation.version)
                yield event.what.evaluation
            if not missing:
                return
        versions = ", ".join(map(str, sorted(missing)))
        raise WrongStateError(f"job {job_id!r} ended before these versions were evaluated: {versions}")

    def clients(self) -> tuple[ClientInfo, ...]:
        """The clients that registered since the coordinator started, by name."""
        found = self._call(self._stub.ListClients, pb.ListClientsRequest()).clients
        return tuple(map(_convert.client_info, found))

    def watch(
        self, job_id: str, after: int = 0, *, on_outage: Callable[[UnavailableError], None] | None = None
    ) -> Iterator[Event]:
        """The job's events, past ones first, then new ones as they happen, until the job has ended.

        An end that was followed by an extension is told like everything else, and what came then.
        A restart of the coordinator is waited out; no event is lost or repeated. `after` is the sequence number
        of the last event already known. `on_outage` is called when such a wait begins.
        """
        patience = Patience(self._patience)
        # A first call that finds nobody is an error at once: there is nothing to go on with.
        ended = self.get(job_id).state.ended
        while True:
            told = end_told = False
            try:
                for event in self._events(job_id, after):
                    patience.progress()
                    told, after = True, event.sequence
                    if isinstance(event.what, StateChanged):
                        # Not the last word: a finished job may have been extended.
                        end_told = event.what.state.ended
                    elif isinstance(event.what, EvaluationClosed):
                        # Of a job that had ended before: nothing else happens to it.
                        end_told |= ended
                    yield event
                if end_told or (ended and not told):
                    return
                ended = self.get(job_id).state.ended
                # A coordinator that shuts down may end its streams in order.
                away = UnavailableError(f"{self.server} ended the events of {job_id}, which has not ended")
            except UnavailableError as error:
                away = error
            if on_outage is not None and not patience.tried:
                on_outage(away)
            patience.wait(away)

    def _events(self, job_id: str, after: int) -> Iterator[Event]:
        call = self._stub.WatchJob(pb.WatchJobRequest(job_id=job_id, after_sequence=after))
        with contextlib.closing(_Cancelling(call)), self._errors():
            for response in call:
                event = _convert.event(response.event)
                if event is not None:
                    yield event

    def upload_model(self, path: Path) -> ModelInfo:
        """Uploads an initial model, a safetensors file; the digest returned is that of the stored, canonical file."""
        with path.open("rb") as file:
            read_layout(file.fileno())
        header = pb.UploadModelHeader(
            digest=blake3().update_mmap(path).digest(),
            length=path.stat().st_size,
        )
        push = self._channel.stream_unary(
            f"{_SERVICE}UploadModel",
            request_serializer=bulk.serialize,
            response_deserializer=pb.UploadModelResponse.FromString,
        )
        stored = self._push(push, header, path)
        return ModelInfo(digest=stored.digest.hex(), length=stored.length)

    def _push(self, push: Any, header: pb.UploadModelHeader, path: Path) -> pb.UploadModelResponse:
        def messages() -> Iterator[bytes | pb.UploadModelRequest]:
            yield pb.UploadModelRequest(header=header)
            for chunk in chunks(path):
                guard.progress()
                yield chunk

        call = None
        guard = StallGuard(self._stall, lambda: call and call.cancel())
        with guard, self._errors(guard):
            call = push.future(messages())
            with contextlib.closing(_Cancelling(call)):
                response: pb.UploadModelResponse = call.result()
        return response

    def download_model(
        self, job_id: str, out: Path, *, version: Version = "latest", overwrite: bool = False
    ) -> ModelInfo:
        """Fetches a model version into the file `out`: one by its number, the latest, or the best.

        The file appears when it is whole and its digest is right. A broken connection is taken up where it broke.
        Raises `ConfigError` if `out` exists and `overwrite` is false.
        """
        patience = Patience(self._patience)
        with replaced(out, overwrite=overwrite) as part, part.open("wb") as file:
            download = Download(job_id, version, file)
            while not download.complete:
                try:
                    self._pull(download, patience)
                except UnavailableError as error:
                    if download.header is None:
                        raise
                    patience.wait(error)
            return download.checked()

    def _pull(self, download: Download, patience: Patience) -> None:
        pull = self._channel.unary_stream(
            f"{_SERVICE}DownloadModel",
            request_serializer=pb.DownloadModelRequest.SerializeToString,
            response_deserializer=bulk.download_model,
        )
        call = pull(download.request())
        guard = StallGuard(self._stall, call.cancel)
        with contextlib.closing(_Cancelling(call)), guard, self._errors(guard):
            for part in call:
                guard.progress()
                patience.progress()
                download.take(part)
        download.ended()

    def _call(self, method: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q) -> R:
        with self._errors():
            return method(request, timeout=self._timeout)

    @contextlib.contextmanager
    def _errors(self, guard: StallGuard | None = None) -> Iterator[None]:
        try:
            yield
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if guard is not None and guard.stalled:
                raise StalledError(f"nothing moved to or from {self.server} for {self._stall:g} s") from None
            raise self._explain(error) from None

    def _explain(self, error: Any) -> FedeltaError:
        """The error that the coordinator raised, or why there is no answer from one."""
        # The coordinator's own errors come with metadata; this deadline is ours.
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not error.trailing_metadata():
            return UnavailableError(f"no answer from {self.server} within {self._timeout:g} s")
        return translate(error, self._route)


def _numbered(version: Version, info: JobInfo | None) -> int:
    """The number of a version. Raises `NotFoundError` where a name stands for none."""
    if isinstance(version, int) or info is None:
        return int(version)
    if version == "best":
        if info.best_version is None:
            raise NotFoundError(f"job {info.id!r} has no best version: none was evaluated by what counts")
        return info.best_version
    if not info.rounds and not info.initial_digest:
        raise NotFoundError(f"job {info.id!r} has no model yet")
    return info.rounds[-1].number if info.rounds else 0


class _Cancelling:
    """Gives a call the `close` that ends it when its caller loses interest; harmless when it has ended."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def close(self) -> None:
        self._call.cancel()
