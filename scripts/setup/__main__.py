"""Gets a machine ready to build embedmill: checks the tools, then fetches libtorch and a real model.

In:    nothing but this repository and Python's standard library.
Out:   libtorch (for the CPU, or with --cuda) and all-MiniLM-L6-v2 in the cache folder, and the link .libtorch in the
       repository.
Keeps: ${XDG_CACHE_HOME:-~/.cache}/embedmill. A second run finds everything there and fetches nothing.
Fails: with everything that is missing at once, each with the command that provides it; exit code 1.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
from pathlib import Path
from typing import List, NoReturn, Sequence

sys.dont_write_bytecode = True
# Python puts the folder that it runs on the path; its parent takes its place, so that `setup` is a package here as it is
# for the other scripts.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from setup import libtorch, models  # noqa: E402
from setup.places import cache_folder, release_binary, target_folder  # noqa: E402
from setup.prerequisites import DiskNeed, check_prerequisites  # noqa: E402
from setup.report import SetupError, os_error_message, say  # noqa: E402

# A release build of all dependencies, the binary and the tests.
BUILD_DISK_MB = 4_000


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/setup",
        description="Checks the tools that embedmill's build needs, then fetches libtorch and a real model.",
        epilog="An exported LIBTORCH, LIBTORCH_USE_PYTORCH or EMBEDMILL_TEST_MODEL is used instead of a download.",
    )
    parser.add_argument("--check", action="store_true", help="only check the tools and the disk")
    parser.add_argument("--cuda", action="store_true", help="libtorch with CUDA, for Linux on x86-64 and NVIDIA's GPUs")
    parser.add_argument("--only", choices=("libtorch", "model"), help="fetch only this")
    parser.add_argument(
        "--print", choices=("libtorch", "model", "binary"), dest="place", help="print where it is or will be, and do nothing"
    )
    return parser.parse_args(arguments)


def place(what: str) -> str:
    if what == "libtorch":
        return libtorch.used_libtorch()
    return str(models.model_folder() if what == "model" else release_binary())


def disk_needs(options: argparse.Namespace) -> List[DiskNeed]:
    """What this run fetches and the build writes, as far as it is not there yet."""
    needs = []
    if options.only in (None, "libtorch"):
        needs.append(DiskNeed(cache_folder(), libtorch.disk_wanted_mb(options.cuda)))
    if options.only in (None, "model"):
        needs.append(DiskNeed(cache_folder(), models.disk_wanted_mb()))
    if options.only is None and not release_binary().exists():
        needs.append(DiskNeed(target_folder(), BUILD_DISK_MB))
    return [need for need in needs if need.megabytes > 0]


def run(options: argparse.Namespace) -> None:
    check_prerequisites(disk_needs(options))
    if options.check:
        return
    if options.only in (None, "libtorch"):
        libtorch.setup_libtorch(options.cuda)
    if options.only in (None, "model"):
        models.setup_model()


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    if options.place:
        print(place(options.place))
        return 0
    try:
        run(options)
    except SetupError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {os_error_message(error)}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing incomplete was left behind")
        return 130
    return 0


def stop(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    if sys.version_info < (3, 9):
        found = platform.python_version()
        sys.exit(f"setup: error: python: this is {found}; expected 3.9 or newer (set PYTHON=/path/to/python3 for make)")
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
