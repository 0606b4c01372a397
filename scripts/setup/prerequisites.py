"""The tools and the disk space that a build needs, and how to get those that are missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Union

from setup.places import REPOSITORY, existing_parent, short
from setup.report import MB, SetupError, say

CARGO_VERSION_MIN = (1, 91)
RUSTUP_INSTALL = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"$HOME/.cargo/env\""


class Missing(NamedTuple):
    what: str
    remedy: str


# What a check found, in the words of the success message, or what is missing.
Finding = Union[str, Missing]


class DiskNeed(NamedTuple):
    path: Path
    megabytes: int


def install_command(apt: str, dnf: str, brew: str) -> str:
    """The command of this machine's package manager, or Debian's where the package manager is unknown."""
    sudo = "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "
    if shutil.which("apt-get") or not (shutil.which("dnf") or shutil.which("brew")):
        return f"{sudo}apt-get update && {sudo}apt-get install -y {apt}"
    if shutil.which("dnf"):
        return f"{sudo}dnf install -y {dnf}"
    return f"brew install {brew}" if brew else "xcode-select --install"


def missing_message(missing: Sequence[Missing]) -> str:
    """Names everything that is missing at once, each with the command that provides it."""
    count = "1 prerequisite is" if len(missing) == 1 else f"{len(missing)} prerequisites are"
    lines = [f"this machine: {count} missing; expected:"]
    for what, remedy in missing:
        lines += [f"  - {what}", f"      {remedy}"]
    return "\n".join(lines)


def first_line(command: Sequence[str]) -> str:
    """The first line that a command prints, or nothing if it fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    except OSError:
        return ""
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else ""


def check_cargo() -> Finding:
    wanted = f"cargo {'.'.join(map(str, CARGO_VERSION_MIN))} or newer"
    if not shutil.which("cargo"):
        if (Path.home() / ".cargo" / "bin" / "cargo").exists():
            return Missing("cargo on PATH (it is installed in ~/.cargo/bin)", '. "$HOME/.cargo/env"')
        return Missing(wanted, RUSTUP_INSTALL)
    match = re.match(r"cargo (\d+)\.(\d+)\.(\d+)", first_line(["cargo", "--version"]))
    if not match:
        remedy = "rustup toolchain install stable && rustup default stable"
        return Missing("a cargo that runs (`cargo --version` failed)", remedy)
    if (int(match[1]), int(match[2])) < CARGO_VERSION_MIN:
        update = "rustup update stable && rustup default stable" if shutil.which("rustup") else RUSTUP_INSTALL
        return Missing(f"{wanted} (this is {match[1]}.{match[2]}.{match[3]})", update)
    return f"cargo {match[1]}.{match[2]}.{match[3]}"


def check_compiler(variable: str, default: str, name: str) -> Finding:
    # The variable may hold a launcher too, as in `ccache c++`.
    tool = (os.environ.get(variable) or default).split()[0]
    if shutil.which(tool):
        return tool
    return Missing(f"{name} ({tool})", install_command("build-essential", "gcc gcc-c++ make", ""))


def check_python() -> Finding:
    if importlib.util.find_spec("pip") is None:
        return Missing("pip for python3", install_command("python3-pip", "python3-pip", "python3"))
    return f"python {platform.python_version()} with pip"


def check_make() -> Finding:
    return "make" if shutil.which("make") else Missing("make", install_command("make", "make", "make"))


def check_disk(needs: Sequence[DiskNeed]) -> List[Missing]:
    # Places on the same disk share its free space, so what they need is added up.
    by_disk: Dict[int, List[DiskNeed]] = {}
    for need in needs:
        by_disk.setdefault(existing_parent(need.path).stat().st_dev, []).append(need)
    missing = []
    for on_disk in by_disk.values():
        total_mb = sum(need.megabytes for need in on_disk)
        free_mb = shutil.disk_usage(existing_parent(on_disk[0].path)).free / MB
        if free_mb < total_mb:
            places = " and ".join(dict.fromkeys(short(need.path) for need in on_disk))
            missing.append(
                Missing(
                    f"{total_mb:,} MB of free disk space for {places} ({free_mb:,.0f} MB are free)",
                    "free some, or set XDG_CACHE_HOME (libtorch, model) and CARGO_TARGET_DIR (the build) to a larger disk",
                )
            )
    return missing


def check_prerequisites(disk_needs: Sequence[DiskNeed]) -> None:
    """Fails with everything that is missing at once."""
    findings: List[Finding] = [
        check_cargo(),
        check_compiler("CC", "cc", "a C compiler"),
        check_compiler("CXX", "c++", "a C++ compiler"),
        check_python(),
        check_make(),
        *check_disk(disk_needs),
    ]
    missing = [finding for finding in findings if isinstance(finding, Missing)]
    if missing:
        raise SetupError(missing_message(missing))
    say(f"{', '.join(finding for finding in findings if isinstance(finding, str))}: ready")
