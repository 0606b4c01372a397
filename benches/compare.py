#!/usr/bin/env python3
"""Compares embedmill with sentence-transformers on the same texts, the same machine, in one run.

In:    the release binary, a model folder, and real paragraphs of scripts/corpus.py.
Out:   seconds of each side in pairs, one right after the other; their ratio; how far apart the vectors are.
Keeps: benches/results.json with --save, a picture with --plot.
Fails: with the command that installs what is missing; with --at-least, if embedmill is not that much faster.

What is timed: sentence-transformers' `encode`, with the model loaded and warm; and embedmill from its first record read
to its last row written, reading and writing files included, as its own summary says. The model's load is in neither.
Both run in fp32 on the CPU with the same number of threads. Which side goes first alternates, so that a machine that
slows down or speeds up favours none.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.util
import json
import logging
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "scripts"))
import corpus  # noqa: E402
from setup.models import model_folder  # noqa: E402
from setup.places import REPOSITORY, release_binary  # noqa: E402

PACKAGES = ("sentence_transformers", "torch", "numpy", "pyarrow")
BATCH_SIZE = 32
WARM_UP_TEXTS = 256
# OpenBLAS picks its kernels by these; set for some other program, they would slow one side and not the other.
DROPPED_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class BenchError(Exception):
    """Something that the user must see and can act on."""


class Run(NamedTuple):
    """One run of embedmill, by its own summary and by the clock of this process."""

    records: int
    rows: int
    tokens: int
    seconds: float
    load_seconds: float
    wall_seconds: float


# ---------------------------------------------------------------------------------------------------------------------
# The machine


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    if sys.platform == "darwin":
        return subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        ).stdout.strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use, which is not always all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine(threads: int) -> Dict[str, Any]:
    return {"cpu": cpu_model(), "cores": cores(), "threads": threads, "system": f"{platform.system()} {platform.release()}"}


# ---------------------------------------------------------------------------------------------------------------------
# embedmill


def require_binary(binary: Path) -> None:
    if not os.access(binary, os.X_OK):
        raise BenchError(f"{binary} is not there; `make build` makes it, or name another with --binary")


def environment(threads: int) -> Dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED_VARIABLES}
    return {**kept, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}


def summary(stderr: str) -> Dict[str, Any]:
    """The last line on stderr that is a JSON object; progress and warnings may come before it."""
    for line in reversed(stderr.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except ValueError:
                continue
    raise BenchError(f"embedmill printed no summary; its last words were:\n{stderr[-2000:]}")


def run_embedmill(binary: Path, arguments: Sequence[str], threads: int) -> Run:
    command = [str(binary), "encode", *arguments, "--summary", "json"]
    started = time.perf_counter()
    done = subprocess.run(
        command, env=environment(threads), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    wall_seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise BenchError(f"`{shlex.join(command)}` failed with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    found = summary(done.stderr)
    return Run(wall_seconds=wall_seconds, **{name: found[name] for name in Run._fields if name != "wall_seconds"})


def version_of(binary: Path) -> str:
    return subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False).stdout.strip()


def read_vectors(out: Path) -> Tuple[List[str], Any]:
    import pyarrow as pa

    with pa.OSFile(str(out)) as source:
        table = pa.ipc.open_file(source).read_all()
    column = table.column("vector").combine_chunks()
    column = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    return table.column("id").to_pylist(), column.flatten().to_numpy().reshape(len(table), -1)


# ---------------------------------------------------------------------------------------------------------------------
# Both sides


def load_reference(model: Path, threads: int) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    return SentenceTransformer(str(model), device="cpu", local_files_only=True)


def encode_reference(model: Any, texts: Sequence[str]) -> Tuple[float, Any]:
    started = time.perf_counter()
    vectors = model.encode(list(texts), batch_size=BATCH_SIZE, show_progress_bar=False)
    return time.perf_counter() - started, vectors


def count_tokens(model: Any, texts: Sequence[str]) -> int:
    return sum(int(model.preprocess([text])["attention_mask"].sum()) for text in texts)


def compare(options: argparse.Namespace, paragraphs: Sequence[corpus.Paragraph], work: Path) -> Dict[str, Any]:
    import numpy

    texts = [paragraph.text for paragraph in paragraphs]
    source, out = work / "texts.jsonl", work / "vectors.arrow"
    corpus.write(paragraphs, source)
    arguments = [
        str(source),
        "--text",
        "text",
        "--id",
        "id",
        "-o",
        str(out),
        "--model",
        str(options.model),
        *shlex.split(options.embedmill_args),
    ]

    say("loading and warming up both sides")
    model = load_reference(options.model, options.threads)
    encode_reference(model, texts[:WARM_UP_TEXTS])
    run_embedmill(options.binary, arguments, options.threads)

    rounds = []
    reference_vectors = None
    for number in range(options.rounds):
        gc.collect()
        if number % 2 == 0:
            seconds, reference_vectors = encode_reference(model, texts)
            run = run_embedmill(options.binary, arguments, options.threads)
        else:
            run = run_embedmill(options.binary, arguments, options.threads)
            seconds, reference_vectors = encode_reference(model, texts)
        rounds.append({"sentence_transformers_seconds": seconds, "embedmill": run._asdict(), "ratio": seconds / run.seconds})
        say(
            f"pair {number + 1} of {options.rounds}: sentence-transformers {seconds:.2f} s, embedmill {run.seconds:.2f} s "
            f"({run.load_seconds:.2f} s load, {run.wall_seconds:.2f} s in all), ratio {seconds / run.seconds:.2f}"
        )

    ids, vectors = read_vectors(out)
    if ids != [paragraph.id for paragraph in paragraphs]:
        raise BenchError(f"{out.name} holds {len(ids)} rows that are not the {len(texts)} records in their order")
    difference = float(numpy.abs(vectors - reference_vectors).max())
    return report(options, rounds, count_tokens(model, texts), difference)


def report(options: argparse.Namespace, rounds: List[Dict[str, Any]], tokens: int, difference: float) -> Dict[str, Any]:
    from importlib.metadata import version

    reference_seconds = statistics.median(entry["sentence_transformers_seconds"] for entry in rounds)
    own_seconds = statistics.median(entry["embedmill"]["seconds"] for entry in rounds)
    names = ("sentence-transformers", "transformers", "tokenizers", "torch", "numpy")
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(options.threads),
        "versions": {
            "embedmill": version_of(options.binary),
            "commit": commit(),
            "python": platform.python_version(),
            **{name: version(name) for name in names},
        },
        "model": options.model.name,
        "records": options.records,
        "tokens": tokens,
        "embedmill_tokens": rounds[-1]["embedmill"]["tokens"],
        "sentence_transformers": {
            "batch_size": BATCH_SIZE,
            "median_seconds": reference_seconds,
            "tokens_per_second": tokens / reference_seconds,
        },
        "embedmill": {
            "arguments": options.embedmill_args,
            "median_seconds": own_seconds,
            "tokens_per_second": tokens / own_seconds,
        },
        "median_ratio": statistics.median(entry["ratio"] for entry in rounds),
        "largest_difference": difference,
        "rounds": rounds,
    }


# ---------------------------------------------------------------------------------------------------------------------
# What the user sees


def say(message: str) -> None:
    print(f"bench: {message}", file=sys.stderr, flush=True)


def print_report(result: Dict[str, Any]) -> None:
    ratios = [entry["ratio"] for entry in result["rounds"]]
    print(f"{result['records']:,} paragraphs, {result['tokens']:,} tokens, {result['model']}, fp32")
    print(f"{result['machine']['cpu']}, {result['machine']['cores']} cores, {result['machine']['threads']} threads a side")
    print(f"{'':24}{'median':>10}{'tokens/s':>12}")
    for label, key in (
        (f"sentence-transformers {result['versions']['sentence-transformers']}", "sentence_transformers"),
        (result["versions"]["embedmill"], "embedmill"),
    ):
        print(f"{label[:28]:28}{result[key]['median_seconds']:>6.2f} s{result[key]['tokens_per_second']:>10,.0f}")
    print(f"ratio                   {result['median_ratio']:.2f} (pairs: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    print(f"largest difference      {result['largest_difference']:.1e}")
    if result["tokens"] != result["embedmill_tokens"]:
        say(f"warning: embedmill counted {result['embedmill_tokens']:,} tokens, sentence-transformers {result['tokens']:,}")


def plot(result: Dict[str, Any], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = result["records"]
    sides = (
        (
            f"sentence-transformers {result['versions']['sentence-transformers']}\nbatch {BATCH_SIZE}",
            "#8a8f98",
            [entry["sentence_transformers_seconds"] for entry in result["rounds"]],
        ),
        (
            result["versions"]["embedmill"] or "embedmill",
            "#2b6cb0",
            [entry["embedmill"]["seconds"] for entry in result["rounds"]],
        ),
    )
    figure, axes = pyplot.subplots(figsize=(7.2, 2.6), constrained_layout=True)
    for row, (_, colour, seconds) in enumerate(sides):
        rates = [records / value for value in seconds]
        middle = statistics.median(rates)
        axes.barh(row, middle, color=colour, height=0.6)
        axes.plot(rates, [row] * len(rates), "|", color="black", markersize=14)
        axes.text(middle * 0.02, row, f"{middle:,.0f} paragraphs/s", va="center", color="white", fontweight="bold")
    axes.set_yticks(range(len(sides)), [label for label, _, _ in sides])
    axes.invert_yaxis()
    axes.set_xlabel("paragraphs a second (bar: median; marks: each of the pairs)")
    where = f"{result['model']}, fp32, {result['machine']['threads']} threads of {result['machine']['cpu']}"
    figure.suptitle(f"{result['median_ratio']:.2f} times as fast. {where}", fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(out, dpi=150)
    say(f"wrote {out}")


def require_packages(names: Sequence[str]) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchError(
            f"{sys.executable} lacks {', '.join(missing)}. A Python that has them, which `make bench` then finds:\n"
            "  python3 -m venv .venv && .venv/bin/pip install sentence-transformers pyarrow matplotlib"
        )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benches/compare.py", description="Compares embedmill's speed and vectors with sentence-transformers'."
    )
    parser.add_argument("--binary", type=Path, default=None, help="the release binary (default: where cargo puts it)")
    parser.add_argument("--model", type=Path, default=None, help="a model folder (default: the one of `make setup`)")
    parser.add_argument("--records", type=int, default=2_000, help="paragraphs (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=cores(), help="threads of each side (default: the cores there are, %(default)s)"
    )
    parser.add_argument(
        "--embedmill-args", default="", metavar="ARGS", help="more arguments for `embedmill encode`, in one string"
    )
    parser.add_argument(
        "--at-least", type=float, default=0.0, metavar="RATIO", help="exit with 1 if the median ratio is below this"
    )
    parser.add_argument("--save", action="store_true", help="write benches/results.json")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the result as PNG or SVG, by the name")
    options = parser.parse_args(arguments)
    options.binary = (options.binary or release_binary()).resolve()
    options.model = (options.model or model_folder()).resolve()
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    # Before torch and numpy are loaded, for they read these when they are.
    for name in DROPPED_VARIABLES:
        os.environ.pop(name, None)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        require_packages([*PACKAGES, "matplotlib"] if options.plot else PACKAGES)
        require_binary(options.binary)
        paragraphs = corpus.load(options.records)
        options.records = len(paragraphs)
        with tempfile.TemporaryDirectory(prefix="embedmill-bench-") as work:
            result = compare(options, paragraphs, Path(work))
    except (BenchError, corpus.CorpusError) as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 1
    print_report(result)
    if options.save:
        (HERE / "results.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        say("wrote benches/results.json")
    if options.plot:
        plot(result, options.plot)
    if result["median_ratio"] < options.at_least:
        say(f"the median ratio {result['median_ratio']:.2f} is below {options.at_least}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
