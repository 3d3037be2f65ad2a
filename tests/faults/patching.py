"""Setting points into the modules of a process that has not begun its work yet."""

from collections.abc import Callable
from typing import Any

from tests.faults.orders import Points


def taken(owner: Any, name: str) -> Any:
    """What a module or class has under a name. Where that is gone, the suite stops here: a point would be missing."""
    return getattr(owner, name)


def put(owner: Any, name: str, value: Any) -> None:
    """Puts something else in its place."""
    taken(owner, name)
    setattr(owner, name, value)


def _nothing(*_: Any, **__: Any) -> str:
    return ""


def around(points: Points, owner: Any, name: str, point: str, says: Callable[..., str] = _nothing) -> None:
    """Makes points of the beginning and the end of a function or method."""
    function = taken(owner, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        said = says(*args, **kwargs)
        points.reach(f"before {point}", said)
        result = function(*args, **kwargs)
        points.reach(f"after {point}", said)
        return result

    put(owner, name, called)


def around_awaited(points: Points, owner: Any, name: str, point: str, says: Callable[..., str] = _nothing) -> None:
    """The same of a coroutine function. At the end the point says what came of it, too."""
    function = taken(owner, name)

    async def called(*args: Any, **kwargs: Any) -> Any:
        said = says(*args, **kwargs)
        points.reach(f"before {point}", said)
        result = await function(*args, **kwargs)
        points.reach(f"after {point}", said, str(result))
        return result

    put(owner, name, called)
