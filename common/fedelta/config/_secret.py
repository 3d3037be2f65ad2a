"""Values that nobody is to read over a shoulder, in a list of processes or in a log."""

from pathlib import Path
from typing import Self


class Secret:
    """A secret. It prints as `***`; `reveal` gives it to whoever needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file; the line break at its end is none of the secret. Raises `ValueError`."""
        try:
            value = path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"the file {path} is not text") from None
        if not value:
            raise ValueError(f"the file {path} is empty")
        return cls(value)

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)
