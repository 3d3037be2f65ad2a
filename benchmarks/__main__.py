"""All benchmarks: what the machine gives, then what whole rounds take.

python -m benchmarks             # speed
python -m benchmarks --memory    # peak memory with models of up to 3 GB; takes minutes and 30 GB of disk
python -m benchmarks --durable   # the same rounds with the coordinator's state on the disk and in memory
"""

import os

# Before numpy is imported: as the coordinator does.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
from pathlib import Path

from benchmarks import durable, limits, rounds


def main() -> None:
    arguments = rounds.parse_arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.durable:
            durable.run(Path(folder))
            return
        if not arguments.memory:
            limits.run(Path(folder))
            print()
        rounds.run(Path(folder), memory=arguments.memory)


if __name__ == "__main__":
    main()
