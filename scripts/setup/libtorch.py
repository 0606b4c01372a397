"""libtorch: downloaded from PyTorch's package or linked from an installed PyTorch, then linked as .libtorch in the repository.

What the user has set goes first, in the order in which the build reads it: LIBTORCH_USE_PYTORCH, LIBTORCH, and a folder
.libtorch that is not a link. Then nothing is fetched; it is only checked that the build can use it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

from setup.fetch import extract_all, pip_download, publish
from setup.places import REPOSITORY, cache_folder, short
from setup.report import SetupError, say

TORCH_VERSION = "2.13.0"
# libtorch_cpu.so of the Linux wheels names these two libraries and does not load without them, with or without a GPU.
CUDA_PACKAGES = ("nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*")
CUDA_LIBRARIES = ("libcudart.so.13", "libcupti.so.13")
# Glue for the Python interpreter, which libtorch works without.
PYTHON_LIBRARIES = ("libtorch_python", "libtorch_global_deps", "libshm")
# What the wheel has beside the CPU library: GPU code, which is the larger half, and that glue.
UNUSED_LIBRARIES = ("libtorch_cuda", "libc10_cuda", "libcaffe2_nvrtc", "libtorch_nvshmem", *PYTHON_LIBRARIES)

# The wheels (about 530 MB) and the files extracted from them (490 MB) lie side by side for a moment; the rest is a margin.
DISK_MB = 1_400
# The same with CUDA's libraries.
CUDA_DISK_MB = 9_000

OWN_LIBTORCH = "LIBTORCH=/path/to/libtorch"


# ---------------------------------------------------------------------------------------------------------------------
# Which libtorch is used


def cached_libtorch(cuda: bool = False) -> Path:
    return cache_folder() / f"libtorch-{TORCH_VERSION}-{'cuda' if cuda else 'cpu'}"


def own_setting() -> str:
    """The name of the user's own setting that decides which libtorch is built against, or nothing."""
    for name in ("LIBTORCH_USE_PYTORCH", "LIBTORCH"):
        if name in os.environ:
            return name
    link = REPOSITORY / ".libtorch"
    return ".libtorch" if link.is_dir() and not link.is_symlink() else ""


def used_libtorch() -> str:
    """Where the libtorch of the build is or will be; nothing if it is a PyTorch that cannot be imported."""
    setting = own_setting()
    if setting == "LIBTORCH_USE_PYTORCH":
        return str(importable_torch() or "")
    if setting == "LIBTORCH":
        return os.environ["LIBTORCH"]
    return str(REPOSITORY / ".libtorch" if setting else cached_libtorch())


def disk_wanted_mb(cuda: bool) -> int:
    """The free disk space that `setup_libtorch` needs: none if libtorch is there."""
    if own_setting() or not libtorch_problem(cached_libtorch(cuda)):
        return 0
    return CUDA_DISK_MB if cuda else DISK_MB


def setup_libtorch(cuda: bool = False) -> None:
    setting = own_setting()
    if setting:
        use_own_libtorch(setting)
        return
    folder = cached_libtorch(cuda)
    if libtorch_problem(folder):
        publish(folder, make_cuda_libtorch if cuda else make_libtorch, lambda: libtorch_problem(folder) == "")
    link_repository(folder)
    say(f"libtorch: {TORCH_VERSION} at {short(folder)}, linked as .libtorch")


def use_own_libtorch(setting: str) -> None:
    if setting == "LIBTORCH_USE_PYTORCH":
        say(f"libtorch: LIBTORCH_USE_PYTORCH is set, so PyTorch of {check_active_pytorch()} is used; nothing is fetched")
        return
    folder = Path(os.environ["LIBTORCH"]) if setting == "LIBTORCH" else REPOSITORY / ".libtorch"
    problem = libtorch_problem(folder, os.environ.get("LIBTORCH_INCLUDE"), os.environ.get("LIBTORCH_LIB"))
    if problem:
        alternative = "unset LIBTORCH" if setting == "LIBTORCH" else "move .libtorch away"
        raise SetupError(f"{setting}: {problem} (correct it, or {alternative} to have libtorch fetched)")
    say(f"libtorch: {TORCH_VERSION} from {short(folder)} ({setting}); nothing is fetched")


def check_active_pytorch() -> str:
    """The interpreter that the build will ask, if its PyTorch fits. The build imports cpp_extension, so this does too."""
    python = "python" if os.environ.get("VIRTUAL_ENV") else "python3"
    code = "import torch; from torch.utils import cpp_extension; print(torch.__version__)"
    remedies = (
        f"\n  - install it:  {python} -m pip install torch=={TORCH_VERSION} setuptools"
        f"\n  - or have libtorch fetched:  unset LIBTORCH_USE_PYTORCH"
    )
    done = subprocess.run([python, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise SetupError(
            f"LIBTORCH_USE_PYTORCH: `{python}` cannot import what the build needs from PyTorch: {reason}; "
            f"expected PyTorch {TORCH_VERSION} and setuptools{remedies}"
        )
    version = done.stdout.strip().split("+")[0]
    if not version_fits(version):
        raise SetupError(f"LIBTORCH_USE_PYTORCH: `{python}` has PyTorch {version}; expected {TORCH_VERSION}{remedies}")
    return shutil.which(python) or python


def link_repository(folder: Path) -> None:
    """Makes .libtorch, where the build looks for libtorch, a link to the folder."""
    link = REPOSITORY / ".libtorch"
    if link.is_symlink() and os.readlink(link) == str(folder):
        return
    temporary = REPOSITORY / f".libtorch.{os.getpid()}.tmp"
    temporary.symlink_to(folder)
    os.replace(temporary, link)


# ---------------------------------------------------------------------------------------------------------------------
# Whether a folder can be used


def library(name: str) -> str:
    return f"lib{name}.dylib" if sys.platform == "darwin" else f"lib{name}.so"


def version_fits(version: str) -> bool:
    return version == TORCH_VERSION or bool(os.environ.get("LIBTORCH_BYPASS_VERSION_CHECK"))


def libtorch_version(folder: Path) -> str:
    """From build-version, as in libtorch's own archives; else from the Python package's version.py; else from the header."""
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
        return f"{folder} is not a folder; expected one with libtorch {TORCH_VERSION}"
    header = Path(include_in or folder) / "include" / "torch" / "csrc" / "api" / "include" / "torch" / "torch.h"
    binary = Path(lib_in or folder) / "lib" / library("torch_cpu")
    for path in (header, binary):
        if not path.exists():
            return f"{path} is missing; expected libtorch {TORCH_VERSION} with its headers and libraries"
    version = libtorch_version(folder)
    if not version_fits(version):
        return f"{folder} holds libtorch {version or 'of an unknown version'}; expected {TORCH_VERSION}"
    return ""


def load_error(lib: Path, name: str = "torch_cpu") -> str:
    """What the dynamic loader says about libtorch in this folder, or nothing. It proves that no library was left out."""
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    ignored = ("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH")
    environment = {variable: value for variable, value in os.environ.items() if variable not in ignored}
    command = [sys.executable, "-c", code, str(lib / library(name))]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["the loader was killed"])[-1]


def check_loads(folder: Path, name: str) -> None:
    problem = load_error(folder / "lib", name)
    if problem:
        raise SetupError(
            f"libtorch: {library(name)} was fetched but does not load on this machine: {problem}; "
            f"expected a system that PyTorch {TORCH_VERSION} supports (or set {OWN_LIBTORCH} to one that loads here)"
        )


# ---------------------------------------------------------------------------------------------------------------------
# Putting a folder together


def make_libtorch(work: Path, folder: Path) -> None:
    """For the CPU: links into an installed PyTorch if it loads by itself, else a download."""
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
    check_loads(folder, "torch_cpu")


def importable_torch() -> Optional[Path]:
    """The folder of a PyTorch of exactly the right version that this Python could import, found without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return None
    folder = Path(spec.origin).resolve().parent
    return folder if libtorch_problem(folder) == "" and libtorch_version(folder) == TORCH_VERSION else None


def link_torch(torch: Path, folder: Path) -> None:
    """Makes the same folder as a download does, but of links into an installed PyTorch."""
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
    packages = [f"torch=={TORCH_VERSION}", *(CUDA_PACKAGES if sys.platform.startswith("linux") else ())]
    for package in packages:
        about = " (some 100 to 550 MB, by platform)" if package.startswith("torch==") else ""
        pip_download(package, wheels, about, OWN_LIBTORCH)
    extract_all(wheels, folder, cpu_place)
    finish_libtorch(folder)


def finish_libtorch(folder: Path) -> None:
    if sys.platform != "darwin":
        (folder / "lib" / "libtorch.so").symlink_to(library("torch_cpu"))
    write_version(folder)


def make_cuda_libtorch(work: Path, folder: Path) -> None:
    wheels = work / "wheels"
    about = " and CUDA's libraries (some 2 GB)"
    pip_download(f"torch=={TORCH_VERSION}", wheels, about, OWN_LIBTORCH, dependencies=True)
    extract_all(wheels, folder, cuda_place)
    write_version(folder)
    check_loads(folder, "torch_cuda")


def write_version(folder: Path) -> None:
    (folder / "build-version").write_text(f"{TORCH_VERSION}\n", encoding="utf-8")


def wanted_library(name: str) -> bool:
    """Whether libtorch for the CPU needs this library of PyTorch's."""
    if name.startswith(UNUSED_LIBRARIES):
        return False
    # On Linux libtorch.so is an empty library that would pull in the GPU ones; a link takes its place.
    return ".so" in name and name != "libtorch.so" or name.endswith(".dylib")


def cpu_place(member: str) -> Optional[str]:
    """Where a file of a wheel belongs in the libtorch folder, or None if it is not needed there."""
    if member.startswith("torch/include/"):
        return member[len("torch/") :]
    folder, _, name = member.rpartition("/")
    if folder == "torch/lib" and wanted_library(name) or name in CUDA_LIBRARIES:
        return f"lib/{name}"
    return None


def cuda_place(member: str) -> Optional[str]:
    """The same with CUDA: all libraries in one folder, where they look for each other."""
    if member.startswith("torch/include/"):
        return member[len("torch/") :]
    folder, _, name = member.rpartition("/")
    is_library = folder == "torch/lib" or folder.startswith("nvidia/") and folder.endswith("/lib")
    wanted = is_library and ".so" in name and not name.startswith(PYTHON_LIBRARIES)
    return f"lib/{name}" if wanted else None
