"""What a plan shares with clients beside the model: announced with an assignment, fetched like the model."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from fedelta.errors import BadRequestError
from fedelta.tensors import UPDATE_METADATA
from fedelta.v1 import coordinator_pb2 as pb
from tests.server.rpc.harness import BIAS, WEIGHT, digest_of, failure, job_toml, run, running, tensor_file

SCAFFOLD = '[local]\nname = "scaffold"\n[server_optimizer]\nname = "sgd"\nmomentum = 0.5\n'


def update(change: float) -> bytes:
    """An update that changes the model by 1 everywhere, and the client's control by `change`."""
    ones = {"weight": np.ones_like(WEIGHT), "bias": np.ones_like(BIAS)}
    changes = {f"shared.control/{name}": values * np.float32(change) for name, values in ones.items()}
    return tensor_file(UPDATE_METADATA, **ones, **changes)


def test_clients_fetch_what_their_changes_came_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            clients = [await system.joined(name) for name in ("a", "b")]
            await system.submit(job_toml("max = 2\nclients = 2", evaluate=1) + SCAFFOLD)
            for client, change in zip(clients, (3.0, 5.0), strict=True):
                first = await client.work()
                assert not first.HasField("shared")
                refused = await failure(client.fetch(first.id, shared=True))
                assert type(refused) is BadRequestError
                assert "shares nothing" in refused.message
                await client.push(first.id, update(change))
            for client in clients:
                found = await client.work()
                assert found.kind == pb.ASSIGNMENT_KIND_TRAIN
                header, content = await client.fetch(found.id, shared=True)
                assert header.model == found.shared
                assert found.shared.version == found.model.version == 1
                assert digest_of(content) == found.shared.digest
                control = safetensors.numpy.load(content)["shared.control/weight"]
                assert (control == 4).all()  # all two of two: the mean
                resumed, rest = await client.fetch(found.id, 100, shared=True)
                assert (resumed.offset, rest) == (100, content[100:])
                await client.push(found.id, update(0.0))
            evaluation = await clients[0].work()
            assert evaluation.kind == pb.ASSIGNMENT_KIND_EVALUATE
            assert not evaluation.HasField("shared")

    run(scenario)
