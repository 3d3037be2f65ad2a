"""Addresses of coordinators."""

from typing import Self

from fedelta._names import address
from fedelta.errors import ConfigError


class Address(str):
    """HOST:PORT, with the port filled in."""

    __slots__ = ()

    @classmethod
    def parse(cls, written: object) -> Self:
        """Reads an address. Raises `ValueError` where it is none."""
        try:
            return cls(address(str(written)))
        except ConfigError as error:
            raise ValueError(str(error)) from None
