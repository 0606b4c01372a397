#!/usr/bin/env python3
"""Shows that embedmill's memory does not grow with its input: its peak for many records against that for a tenth of them.

In:    the release binary; the records are made up here, short and all different.
Out:   the peak resident memory of each run, and the ratio of the two medians.
Keeps: benches/memory.json with --save.
Fails: if the ratio is above --at-most.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

import compare

WORDS = "river stone boat light road farm gate rain bird wood field hill lamp door glass paper wheel sound".split()
WORDS_PER_RECORD = (3, 9)
# ru_maxrss is in kilobytes on Linux and in bytes on macOS.
MAXRSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
MB = 1_000_000


class Peak(NamedTuple):
    records: int
    peak_mb: float
    wall_seconds: float


def write_records(path: Path, count: int) -> None:
    """Line by line: a child's peak is never below what its parent holds when it starts the child."""
    draw = random.Random(count)
    with open(path, "w", encoding="utf-8") as sink:
        for number in range(count):
            text = " ".join(draw.choices(WORDS, k=draw.randint(*WORDS_PER_RECORD)))
            sink.write(json.dumps({"id": f"r-{number}", "text": f"{text} {number}"}) + "\n")


def measure(command: Sequence[str], records: int, environment: Dict[str, str]) -> Peak:
    with tempfile.TemporaryFile() as stderr:
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, stderr.fileno(), 2)]
        started = time.perf_counter()
        child = os.posix_spawn(command[0], list(command), environment, file_actions=actions)
        _, status, usage = os.wait4(child, 0)
        wall_seconds = time.perf_counter() - started
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            stderr.seek(0)
            words = stderr.read()[-2000:].decode(errors="replace")
            raise compare.BenchError(f"`{shlex.join(command)}` failed with exit code {code}:\n{words}")
    return Peak(records, usage.ru_maxrss * MAXRSS_UNIT_BYTES / MB, wall_seconds)


def check_floor(peaks: Sequence[Peak]) -> None:
    """A child starts as a copy of this process; below that size the kernel's figure says nothing about embedmill."""
    floor_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT_BYTES / MB
    if min(peak.peak_mb for peak in peaks) <= floor_mb * 1.05:
        compare.say(f"warning: peaks near {floor_mb:.0f} MB are those of this script, not of embedmill")


def run_all(options: argparse.Namespace, work: Path) -> List[Peak]:
    sizes = (options.records // 10, options.records)
    for size in sizes:
        write_records(work / f"{size}.jsonl", size)
    encoder = ["--model", str(options.model)] if options.model else ["--backend", options.backend]
    peaks = []
    for number in range(options.rounds):
        for size in sizes:
            paths = [str(work / f"{size}.jsonl"), "-o", str(work / f"{size}.arrow")]
            command = [
                str(options.binary),
                "encode",
                *paths,
                "--text",
                "text",
                "--id",
                "id",
                *encoder,
                *shlex.split(options.embedmill_args),
            ]
            peak = measure(command, size, compare.environment(options.threads))
            compare.say(
                f"round {number + 1} of {options.rounds}: {size:>9,} records, {peak.peak_mb:,.1f} MB, {peak.wall_seconds:.1f} s"
            )
            peaks.append(peak)
    check_floor(peaks)
    return peaks


def report(options: argparse.Namespace, peaks: Sequence[Peak]) -> Dict[str, Any]:
    medians = {
        size: statistics.median(peak.peak_mb for peak in peaks if peak.records == size)
        for size in (options.records // 10, options.records)
    }
    few, many = medians.values()
    return {
        "machine": compare.machine(options.threads),
        "encoder": options.model.name if options.model else options.backend,
        "median_peak_mb": {str(size): value for size, value in medians.items()},
        "ratio": many / few,
        "runs": [peak._asdict() for peak in peaks],
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benches/memory.py", description="Measures embedmill's peak memory for N records and for a tenth of them."
    )
    parser.add_argument("--binary", type=Path, default=None, help="the release binary (default: where cargo puts it)")
    encoder = parser.add_mutually_exclusive_group()
    encoder.add_argument("--backend", default="hash", help="an encoder without a model (default: %(default)s)")
    encoder.add_argument("--model", type=Path, help="a model folder instead; slower, and the truth about libtorch")
    parser.add_argument("--records", type=int, default=200_000, help="the larger number of records (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each size, in turn (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=compare.cores(), help="threads (default: the cores there are, %(default)s)"
    )
    parser.add_argument(
        "--embedmill-args", default="", metavar="ARGS", help="more arguments for `embedmill encode`, in one string"
    )
    parser.add_argument(
        "--at-most", type=float, default=1.05, metavar="RATIO", help="exit with 1 above this (default: %(default)s)"
    )
    parser.add_argument("--save", action="store_true", help="write benches/memory.json")
    options = parser.parse_args(arguments)
    options.binary = (options.binary or compare.release_binary()).resolve()
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    try:
        compare.require_binary(options.binary)
        with tempfile.TemporaryDirectory(prefix="embedmill-memory-") as work:
            result = report(options, run_all(options, Path(work)))
    except compare.BenchError as error:
        print(f"memory: error: {error}", file=sys.stderr)
        return 1
    for size, peak_mb in result["median_peak_mb"].items():
        print(f"{int(size):>9,} records: {peak_mb:,.1f} MB peak (median of {options.rounds})")
    print(f"ratio {result['ratio']:.3f}, with {result['encoder']}")
    if options.save:
        (compare.HERE / "memory.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        compare.say("wrote benches/memory.json")
    if result["ratio"] > options.at_most:
        compare.say(f"the ratio {result['ratio']:.3f} is above {options.at_most}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
