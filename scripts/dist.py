#!/usr/bin/env python3
"""Packs embedmill for machines without Rust: an archive, and a Debian package if dpkg-deb is installed.

In:    the release binary and libtorch, as `make build` leaves them.
Out:   dist/embedmill-VERSION-MACHINE.tar.gz    a folder: bin, libtorch in lib; completions, manual and unit in share
       dist/embedmill_VERSION_ARCH.deb          the same under /usr
Keeps: nothing else.
Fails: if the binary or libtorch is missing, or if the binary does not start from the folder that is packed.

The binary looks for libtorch in ../lib, relative to its own folder, so the archive can be unpacked anywhere.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NoReturn, Sequence

sys.dont_write_bytecode = True
from setup.places import REPOSITORY, release_binary, short  # noqa: E402

# Debian's packages with the libraries that the binary and libtorch need and do not contain.
DEPENDS = "ca-certificates, libc6, libgcc-s1, libstdc++6, zlib1g"
COMPLETIONS = {
    "bash": "bash-completion/completions/embedmill",
    "zsh": "zsh/vendor-completions/_embedmill",
    "fish": "fish/vendor_completions.d/embedmill.fish",
}


def fail(message: str) -> NoReturn:
    """Ends the program with a message in the form `where: what is wrong; expected what (what to do)`."""
    sys.exit(f"dist: error: {message}")


def say(path: Path) -> None:
    print(f"dist: {short(path)}: {path.stat().st_size / 1e6:.0f} MB", flush=True)


def version() -> str:
    text = (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    return found.group(1) if found else "0"


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    if done.returncode != 0:
        fail(f"`{' '.join(map(str, command))}`: failed with {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def stage_program(folder: Path) -> None:
    """The binary in bin and libtorch in lib."""
    binary, libraries = release_binary(), REPOSITORY / ".libtorch/lib"
    for path in (binary, libraries):
        if not path.exists():
            fail(f"{short(path)}: missing; expected the result of a build (run `make build`)")
    (folder / "bin").mkdir(parents=True)
    # Debug information is left out. The symbol table stays, so that backtraces still name functions.
    run("strip", "--strip-debug", "-o", folder / "bin/embedmill", binary)
    shutil.copytree(libraries, folder / "lib", symlinks=True)
    said = run(folder / "bin/embedmill", "--version")
    if version() not in said:
        fail(f"{short(binary)}: its version is {said.strip()!r}; expected {version()}, as in Cargo.toml (run `make build`)")


def stage_shared(binary: Path, share: Path) -> None:
    """Completions, the manual, and documents with the unit and the example pipelines."""
    for shell, place in COMPLETIONS.items():
        (share / place).parent.mkdir(parents=True)
        (share / place).write_text(run(binary, "completions", shell), encoding="utf-8")
    run(binary, "man", share / "man/man1")
    for page in (share / "man/man1").iterdir():
        # Without a time in its header, the same page gives the same file.
        page.with_name(page.name + ".gz").write_bytes(gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()
    documents = share / "doc/embedmill"
    documents.mkdir(parents=True)
    for name in ("README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"):
        shutil.copy(REPOSITORY / name, documents)
    shutil.copy(REPOSITORY / "deploy/systemd/embedmill@.service", documents)
    shutil.copytree(REPOSITORY / "pipelines", documents / "pipelines")


def make_archive(work: Path, out: Path) -> None:
    name = f"embedmill-{version()}-{platform.machine()}"
    folder = work / name
    stage_program(folder)
    stage_shared(folder / "bin/embedmill", folder / "share")
    path = out / f"{name}.tar.gz"
    partial = path.with_name(f".{path.name}.partial")
    with tarfile.open(partial, "w:gz", compresslevel=6) as archive:
        archive.add(folder, name)
    os.replace(partial, path)
    say(path)


def make_package(work: Path, out: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        print("dist: no Debian package was made, because dpkg-deb is not installed", flush=True)
        return
    architecture = run("dpkg", "--print-architecture").strip()
    root = work / "root"
    stage_program(root / "usr/lib/embedmill")
    stage_shared(root / "usr/lib/embedmill/bin/embedmill", root / "usr/share")
    (root / "usr/bin").mkdir()
    (root / "usr/bin/embedmill").symlink_to("../lib/embedmill/bin/embedmill")
    units = root / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    shutil.move(str(root / "usr/share/doc/embedmill/embedmill@.service"), str(units))
    (root / "etc/embedmill").mkdir(parents=True)
    size_kb = sum(path.lstat().st_size for path in root.rglob("*") if not path.is_dir()) // 1000
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        f"Package: embedmill\nVersion: {version()}\nArchitecture: {architecture}\nInstalled-Size: {size_kb}\n"
        f"Depends: {DEPENDS}\nSection: utils\nPriority: optional\nMaintainer: embedmill's developers <embedmill@localhost>\n"
        "Description: text records in, vectors out\n"
        " Embeds records from Kafka or files with models of sentence-transformers, batched by\n"
        " token length through libtorch, and delivers them in order as Arrow.\n",
        encoding="utf-8",
    )
    path = out / f"embedmill_{version()}_{architecture}.deb"
    partial = path.with_name(f".{path.name}.partial")
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", root, partial)
    os.replace(partial, path)
    say(path)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Makes an archive and a Debian package of the release binary and libtorch.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "dist", help="the folder for them [default: dist]")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for make in (make_archive, make_package):
        with tempfile.TemporaryDirectory(dir=options.out, prefix=".dist-") as scratch:
            make(Path(scratch), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
