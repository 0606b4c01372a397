"""Where the repository, the cache folder and the build's output are."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "embedmill"


def target_folder() -> Path:
    """Where cargo builds to. Only cargo knows, because its configuration files can set it too."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"]
    with contextlib.suppress(OSError, ValueError, KeyError):
        done = subprocess.run(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return Path(json.loads(done.stdout)["target_directory"])
    return Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")


def release_binary() -> Path:
    return target_folder() / "release" / "embedmill"


def existing_parent(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path


def short(path: Path) -> str:
    """The path as users write it, with ~ for their home folder."""
    text = str(path)
    home = os.path.expanduser("~")
    return "~" + text[len(home) :] if home != "/" and text.startswith(home + os.sep) else text
