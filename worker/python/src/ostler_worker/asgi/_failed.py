"""Says why an application does not serve."""

from __future__ import annotations


class StartupFailed(Exception):
    """The application's lifespan did not come to its `startup.complete`."""

    def __init__(self) -> None:
        super().__init__("the application's startup failed: its reason stands above")
