"""Puts the services on a gRPC server."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fedelta.v1 import admin_pb2, coordinator_pb2
from fedelta.wire import bulk
from fedelta.wire.route import LEAST_KEEPALIVE_SECONDS, MAX_MESSAGE_BYTES
from fedelta_server.config import KEEP_FREE
from fedelta_server.coordinator import Coordinator
from fedelta_server.models import ModelImports
from fedelta_server.room import Room
from fedelta_server.rpc._admin import AdminService
from fedelta_server.rpc._coordinator import CoordinatorService
from fedelta_server.transfers import Downloads
from fedelta_server.updates import Updates
from fedelta_server.uploads import Uploads
from fedelta_server.versions import Versions

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Let alone, each connection's window grows with its speed, and with it what the coordinator buffers.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 << 20),
    # Two daemons on one port would each get some of the clients.
    ("grpc.so_reuseport", 0),
    # A machine that lost its power closes no connection: its polls and transfers would be held for hours.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    # By default gRPC takes a ping in less than five minutes for abuse, also while a call is held.
    ("grpc.http2.min_ping_interval_without_data_ms", int(LEAST_KEEPALIVE_SECONDS * 1000 / 2)),
]

_COORDINATOR = coordinator_pb2.DESCRIPTOR.services_by_name["CoordinatorService"]
_ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]

_BULK_UP: dict[str, Callable[[bytes], Any]] = {"PushUpdate": bulk.push_update, "UploadModel": bulk.upload_model}
_BULK_DOWN = {"FetchModel", "DownloadModel"}

_MAKE_HANDLER: "dict[tuple[bool, bool], Callable[..., grpc.RpcMethodHandler[Any, Any]]]" = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


async def build_server(coordinator: Coordinator, keep_free: int = KEEP_FREE) -> aio.Server:
    """A server with both services, health and reflection. Ports are the caller's to add.

    `keep_free`: the bytes that uploads leave free on the disk.
    """
    server = aio.server(options=_OPTIONS)
    uploads = Uploads(coordinator, Room(coordinator, keep_free))
    downloads, versions = Downloads(coordinator), Versions(coordinator)
    _add(server, _COORDINATOR, CoordinatorService(coordinator, Updates(coordinator, uploads), downloads))
    models = ModelImports(coordinator, uploads, versions)
    _add(server, _ADMIN, AdminService(coordinator, models, versions, downloads))
    await _add_health(server)
    names = (_COORDINATOR.full_name, _ADMIN.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    return server


def _add(server: aio.Server, service: ServiceDescriptor, servicer: object) -> None:
    """Registers a service from its descriptor rather than by the generated function.

    What the generated function registers cannot be given other serializers afterwards in all versions of grpcio:
    some prefer its handlers to any that are added later, some the other way round.
    """
    handlers = {method.name: _handler(method, getattr(servicer, method.name)) for method in service.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def _handler(method: MethodDescriptor, behaviour: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    make = _MAKE_HANDLER[method.client_streaming, method.server_streaming]
    return make(
        behaviour,
        request_deserializer=_BULK_UP.get(method.name, request.FromString),
        response_serializer=bulk.serialize if method.name in _BULK_DOWN else response.SerializeToString,
    )


async def _add_health(server: aio.Server) -> None:
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", _COORDINATOR.full_name, _ADMIN.full_name):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
