"""Thin servicers: they translate between messages and the coordinator, and decide nothing."""

from fedelta_server.rpc._server import build_server

__all__ = ["build_server"]
