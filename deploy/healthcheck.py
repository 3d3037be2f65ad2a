"""Exits with 0 if the coordinator at HOST:PORT (the first argument) serves, by the standard gRPC health service."""

import sys

from grpc_health.v1 import health_pb2, health_pb2_grpc

from fedelta.wire.channel import connect
from fedelta.wire.route import Route

# Never through a proxy, whatever the environment of the container names.
with connect(Route(target=sys.argv[1])) as channel:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=3)
sys.exit(answer.status != health_pb2.HealthCheckResponse.SERVING)
