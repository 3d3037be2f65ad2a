"""All benchmarks: what the machine gives, then what whole rounds take.

python -m benchmarks             # speed
python -m benchmarks --memory    # peak memory with models of up to 3 GB; takes minutes and 30 GB of disk
"""

import os

# Before numpy is imported: as the coordinator does.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from benchmarks import limits, rounds

if __name__ == "__main__":
    arguments = rounds.parse_arguments()
    if not arguments.memory:
        limits.main()
        print()
    rounds.run(arguments)
