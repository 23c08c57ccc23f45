"""Keyword arguments as the options of the command."""

from __future__ import annotations

import os
from typing import Iterable, Mapping, Optional


def strings(name: str, value: Iterable[str]) -> list[str]:
    """`value` as a list of strings; one string alone is almost always a slip."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list of str, not {type(value).__name__}")
    items = list(value)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{name} must hold str, not {type(item).__name__}")
    return items


def access(registry: str, secure: bool, username: Optional[str], password: Optional[str]) -> list[str]:
    """How the registry is reached."""
    if not isinstance(registry, str):
        raise TypeError(f"registry must be a str, not {type(registry).__name__}")
    options = [f"--registry={registry}"]
    if not flag("secure", secure):
        options.append("--insecure")
    for name, value in (("username", username), ("password", password)):
        if value is None:
            continue
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        options.append(f"--{name}={value}")
    return options


def flag(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value


def further(values: Mapping[str, object]) -> list[str]:
    """kharon's own options; `None` and `False` leave one out."""
    options = []
    for name, value in values.items():
        option = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            options.append(option)
        elif isinstance(value, (list, tuple)):
            options += [f"{option}={_text(name, item)}" for item in value]
        else:
            options.append(f"{option}={_text(name, value)}")
    return options


def _text(name: str, value: object) -> str:
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"{name} must be a bool, str, int, path or a list of them, not {type(value).__name__}")
