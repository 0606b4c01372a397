"""Messages and progress for the user on standard error, and the error that ends a setup."""

from __future__ import annotations

import os
import sys
import time

from setup.places import cache_folder, short

MB = 1_000_000


class SetupError(Exception):
    """A problem that the user can solve, in the form `where: what is wrong; expected what (what to do)`."""


def say(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr, flush=True)


def os_error_message(error: OSError) -> str:
    """The message for an error of the operating system, which is nearly always about the cache folder."""
    where = error.filename if error.filename is not None else cache_folder()
    return (
        f"{where}: {error.strerror or error}; expected access to it and enough free disk space "
        f"(the cache folder is {short(cache_folder())}, and XDG_CACHE_HOME moves it)"
    )


def interactive() -> bool:
    return sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


class Progress:
    """On a terminal one line that is rewritten; elsewhere one line when the work is done."""

    def __init__(self, what: str, total_bytes: int) -> None:
        self.what = what
        self.total_bytes = max(total_bytes, 1)
        self.done_bytes = 0
        self.shown_at = 0.0
        self.live = interactive()

    def add(self, count_bytes: int) -> None:
        self.done_bytes += count_bytes
        now = time.monotonic()
        # Ten updates a second look smooth and cost next to nothing.
        if self.live and now - self.shown_at > 0.1:
            self.shown_at = now
            share = self.done_bytes / self.total_bytes
            bar = ("#" * int(share * 30)).ljust(30, ".")
            print(f"\rsetup: {self.what} [{bar}] {share:4.0%}", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr)
        say(f"{self.what}: {self.done_bytes / MB:,.0f} MB")
