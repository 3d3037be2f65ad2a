"""What this machine gives, in one run: `python -m benchmarks.limits [--directory DIR]`.

Each row is the median of several repetitions. Rows of two runs differ by a quarter on a busy machine; compare
within one run.
"""

import os

# Threads of the linear algebra library would measure the machine's core count; the daemon forbids them too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import multiprocessing
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from blake3 import blake3

from fedelta.tensors import MODEL_METADATA, UPDATE_METADATA, DType, Schema, TensorSpec, update_schema
from fedelta_server.aggregate import WeightedUpdate, admit_update, file_digest, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean

MEGA = 1_000_000
_REPETITIONS = 5
_CHUNK = 1 << 20


def formula_seconds(clients: int, nbytes: int) -> float:
    """What a round took in a bare gRPC bench on two cores: models of `nbytes` down, updates up, averaged."""
    return 1.7e-3 * clients + 1.45e-9 * clients * nbytes


def fdatasync_seconds(nbytes: int, directory: Path) -> float:
    """Seconds to write and fdatasync a new file of `nbytes`, one write of a megabyte after the other."""
    chunk = os.urandom(min(nbytes, _CHUNK))
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        start = time.perf_counter()
        left = nbytes
        while left > 0:
            left -= file.write(chunk[:left])
        os.fdatasync(file.fileno())
        return time.perf_counter() - start


def raw_tcp_round(clients: int, nbytes: int) -> float:
    """Seconds in which a server process sends `nbytes` to each of `clients` processes and gets as many back.

    Plain sockets on loopback, received into preallocated memory, nothing is computed: the floor of a round.
    Start of the processes, connecting and first touch of the memory are not counted.
    """
    context = multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0), backlog=clients) as listener:
        peers = [
            context.Process(target=_peer, args=(listener.getsockname()[1], nbytes), daemon=True) for _ in range(clients)
        ]
        for peer in peers:
            peer.start()
        connections = [listener.accept()[0] for _ in peers]
    payload, memory = _touched(nbytes), [_touched(_CHUNK) for _ in connections]
    threads = [
        threading.Thread(target=_serve, args=(connection, payload, scratch))
        for connection, scratch in zip(connections, memory, strict=True)
    ]
    for connection in connections:
        connection.recv(1)  # it is ready
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    for connection in connections:
        connection.close()
    for peer in peers:
        peer.join()
    return seconds


def _serve(connection: socket.socket, payload: memoryview, scratch: memoryview) -> None:
    _undelayed(connection)
    connection.sendall(payload)
    _receive(connection, scratch, len(payload))


def _peer(port: int, nbytes: int) -> None:
    memory = _touched(nbytes)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        _undelayed(connection)
        connection.sendall(b"!")
        _receive(connection, memory, nbytes)
        connection.sendall(memory)
        connection.recv(1)  # until the server hangs up: the end of a process costs more than a small transfer


def _undelayed(connection: socket.socket) -> None:
    """Sends what is left of a payload at once, as gRPC does, not after a delayed acknowledgement (40 ms)."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _receive(connection: socket.socket, into: memoryview, nbytes: int) -> None:
    """Receives `nbytes` into memory, over and over where it is smaller."""
    done = 0
    while done < nbytes:
        at = done % len(into)
        got = connection.recv_into(into[at : at + nbytes - done])
        if got == 0:
            raise ConnectionError("the other side hung up")
        done += got


def _touched(nbytes: int) -> memoryview:
    return memoryview(bytearray(b"\1") * nbytes)


def median_seconds(run: Callable[[], object], repetitions: int = _REPETITIONS) -> float:
    """The median time of several runs, after one that is not counted."""
    run()
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _copy_rate() -> float:
    source, target = np.ones(100 * MEGA, np.uint8), np.zeros(100 * MEGA, np.uint8)
    return source.nbytes / median_seconds(lambda: np.copyto(target, source))


def _digest_rate() -> float:
    data = bytes(100 * MEGA)
    return len(data) / median_seconds(lambda: blake3(data).digest())


class Workload:
    """A model of one tensor and updates to it, as files in a directory."""

    def __init__(self, directory: Path, clients: int, nbytes: int) -> None:
        self.directory = directory
        self.schema = Schema.of([TensorSpec("weight", DType.F32, (nbytes // 4,))])
        self._write("base", self.schema.header(MODEL_METADATA))
        for client in range(clients):
            self._write(f"update-{client}", update_schema(self.schema).header(UPDATE_METADATA))
        self.updates = [WeightedUpdate(str(k), directory / f"update-{k}", k + 1) for k in range(clients)]

    def _write(self, name: str, header: bytes) -> None:
        block = np.random.default_rng(1).standard_normal(_CHUNK // 4, np.float32).tobytes()
        left = self.schema.data_bytes
        with (self.directory / name).open("wb", buffering=0) as file:
            file.write(header)
            while left > 0:
                left -= file.write(block[:left])
            os.fdatasync(file.fileno())  # or the disk is still busy with it while something else is measured

    def fold(self) -> None:
        base, out = self.directory / "base", self.directory / "out"
        fold(base, self.updates, out, Mean(), Sgd())
        out.replace(base)  # as in rounds: a fold drops its base from the page cache

    def fold_rate(self) -> float:
        """Bytes of updates folded per second."""
        return len(self.updates) * self.schema.data_bytes / median_seconds(self.fold)

    def admission_rate(self) -> float:
        """Bytes of updates admitted per second."""
        path = self.updates[0].path
        digest, length = file_digest(path), path.stat().st_size
        return length / median_seconds(lambda: admit_update(path, self.schema, digest, length))


def _tcp_rows() -> list[tuple[str, str]]:
    rows = []
    for clients, nbytes in ((8, 40 * MEGA), (2, 400 * MEGA), (8, 400_000)):
        seconds = statistics.median(raw_tcp_round(clients, nbytes) for _ in range(3))
        what = f"raw TCP, {clients} x {nbytes / MEGA:g} MB down and up"
        rows.append((what, f"{seconds:.4f} s   (formula of a gRPC round: {formula_seconds(clients, nbytes):.4f} s)"))
    return rows


def _disk_row(directory: Path) -> tuple[str, str]:
    seconds = median_seconds(lambda: fdatasync_seconds(40 * MEGA, directory))
    return "write + fdatasync of 40 MB", f"{seconds:.4f} s"


def _file_rows(directory: Path) -> list[tuple[str, str]]:
    rows = []
    for clients, nbytes in ((8, 40 * MEGA), (2, 400 * MEGA)):
        with tempfile.TemporaryDirectory(dir=directory) as name:
            workload = Workload(Path(name), clients, nbytes)
            rows.append((f"fold, {clients} x {nbytes // MEGA} MB", _rate(workload.fold_rate())))
            rows.append((f"admission, {nbytes // MEGA} MB", _rate(workload.admission_rate())))
    return rows


def _rate(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e9:.2f} GB/s"


def run(directory: Path) -> None:
    """Measures everything, the disk in `directory`, and prints a table."""
    rows = [("memcpy, 100 MB", _rate(_copy_rate())), ("BLAKE3, 100 MB", _rate(_digest_rate()))]
    rows += [*_tcp_rows(), _disk_row(directory), *_file_rows(directory)]
    for what, found in rows:
        sys.stdout.write(f"{what:<36} {found}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to measure")
    run(parser.parse_args().directory)


if __name__ == "__main__":
    main()
