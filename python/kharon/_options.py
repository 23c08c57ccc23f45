"""Keyword arguments as the options of the command."""

from __future__ import annotations

import os
from typing import Any, Iterable


def strings(name: str, value: Any) -> list[str]:
    """`value` as a list of strings; one string alone is almost always a slip."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list of str, not {type(value).__name__}")
    items = list(value)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{name} must hold str, not {type(item).__name__}")
    return items


def access(registry: Any, secure: Any, username: Any, password: Any) -> list[str]:
    """How the registry is reached."""
    if not isinstance(registry, str):
        raise TypeError(f"registry must be a str, not {type(registry).__name__}")
    if not isinstance(secure, bool):
        raise TypeError(f"secure must be a bool, not {type(secure).__name__}")
    options = [f"--registry={registry}"]
    if not secure:
        options.append("--insecure")
    for name, value in (("username", username), ("password", password)):
        if value is None:
            continue
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        options.append(f"--{name}={value}")
    variables = ("KHARON_PASSWORD", "DOCKER_CHARON_PASSWORD")
    if username is not None and password is None and not any(map(os.environ.get, variables)):
        raise ValueError("username needs a password")
    return options


def further(values: dict[str, Any]) -> list[str]:
    """kharon's own options; `None` and `False` leave one out."""
    options = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            options.append(flag)
        elif isinstance(value, (str, int, os.PathLike)):
            options.append(f"{flag}={_text(name, value)}")
        elif isinstance(value, (list, tuple)):
            options += [f"{flag}={_text(name, item)}" for item in value]
        else:
            raise TypeError(f"{name} must be a bool, str, int, path or a list, not {type(value).__name__}")
    return options


def _text(name: str, value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"{name} must hold str, int or paths, not {type(value).__name__}")
    return str(value)
