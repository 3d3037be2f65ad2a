"""The job file that asks the sites: an ordinary one."""

from collections.abc import Sequence
from dataclasses import asdict

from fedelta.statistics._request import LEARNER, Request


def job_file(request: Request, *, name: str, clients: int, labels: Sequence[str] = ()) -> str:
    """The text of a job file.

    It waits for at least so many clients and takes a round only where as many answer: sums over fewer sites would be
    wrong without looking wrong. `labels` are the job's.
    """
    import tomli_w

    job = {"name": name, "learner": LEARNER, "labels": list(labels)}
    return tomli_w.dumps(
        {
            "job": {key: value for key, value in job.items() if value},
            "model": {
                "init": "first-client",
                "arguments": {key: value for key, value in asdict(request).items() if value},
            },
            "rounds": {"max": request.rounds, "min_clients": clients, "min_updates": clients},
            "aggregator": {"name": "sum"},
            "server_optimizer": {"name": "sgd", "lr": 1.0},
            "evaluate": {"every": 0},
        }
    )
