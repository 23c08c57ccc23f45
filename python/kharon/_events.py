"""What happens during a call."""

from __future__ import annotations

import json
import warnings
from typing import Callable, Optional, TypedDict


class Event(TypedDict, total=False):
    """An event of `kharon --progress json`; which keys there are depends on `event`."""

    event: str
    message: str
    blobs: int
    bytes: int
    digest: str
    how: str


Progress = Callable[[Event], object]


def teller(progress: Optional[Progress]) -> Callable[[str], None]:
    """What takes events as JSON: without `progress` only those that are warnings come."""
    if progress is None:
        return _warn
    if not callable(progress):
        raise TypeError(f"progress must be callable, not {type(progress).__name__}")

    def tell(text: str) -> None:
        progress(json.loads(text))

    return tell


def _warn(text: str) -> None:
    event: Event = json.loads(text)
    if event["event"] == "warning":
        # The caller of the call that this is called from.
        warnings.warn(event["message"], UserWarning, stacklevel=3)
