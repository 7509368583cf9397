"""Finds the application that a server's command line names, and a place to serve it."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Callable

from ._place import TEMPLATE
from ._template import template
from ._worker import Worker, connect


class NoApplication(Exception):
    """What was named is no application."""


def start(name: str) -> tuple[Worker, Callable[..., Any]]:
    """Connects and loads `module:name`; in a template it is loaded first, and once for all workers.

    Raises a `ConnectError`, `NoApplication`, or whatever the import raises.
    """
    if TEMPLATE in os.environ:
        application = template(lambda: load(name))
        return connect(), application
    # First, so that TERM is a drain while the application loads, and started by hand it says so before that.
    worker = connect()
    return worker, load(name)


def load(name: str) -> Callable[..., Any]:
    """Imports `module:name`, from the working directory first, or raises `NoApplication`, or whatever the import raises."""
    module_name, _, attributes = name.partition(":")
    if not module_name or not attributes:
        raise NoApplication(f"{name!r} names no application: write MODULE:NAME, such as app:app")
    sys.path.insert(0, os.getcwd())
    found: object = importlib.import_module(module_name)  # its own traceback says most
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise NoApplication(f"the module {module_name} has no {attributes}") from None
    if not callable(found):
        raise NoApplication(f"{name} is {type(found).__name__}, which can't be called: is it the application?")
    return found
