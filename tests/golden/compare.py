#!/usr/bin/env python3
"""Compares embedmill's vectors with sentence-transformers' for any model folder: the largest difference, and where it is.

In:    a Python with sentence-transformers and pyarrow; the embedmill binary; a model folder or id that both can load.
Out:   on standard output the largest differences, as shares of the vectors' lengths; exit code 1 over --most.
Keeps: nothing.
Fails: with what either of the two says.

Texts are those of texts.jsonl: all lengths from empty to over every model's maximum, scripts, spaces, special tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Sequence

HERE = Path(__file__).resolve().parent


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Compares embedmill's vectors with sentence-transformers' for any model.")
    parser.add_argument("model", help="a model folder or id")
    parser.add_argument("--binary", default="embedmill", help="the embedmill binary (default: the one on PATH)")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--script", help="a TorchScript file of the model, for embedmill")
    parser.add_argument("--most", type=float, default=1e-5, help="the largest difference allowed (default: %(default)s)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import numpy
        import pyarrow.ipc
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        sys.exit(f"compare: error: {sys.executable}: {error}; pip install sentence-transformers pyarrow")

    entries = [json.loads(line) for line in (HERE / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [entry["text"] if "text" in entry else entry["repeat"] * entry["times"] for entry in entries]
    model = SentenceTransformer(options.model, device=options.device, model_kwargs={"dtype": getattr(torch, options.precision)})
    expected = model.encode(texts, convert_to_tensor=True, show_progress_bar=False).float().cpu().numpy()
    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "texts.jsonl", Path(scratch) / "vectors.arrow"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        command = [options.binary, "encode", str(source), "-o", str(out), "--model", options.model, "--device", options.device]
        command += ["--script", options.script] if options.script else ["--precision", options.precision]
        if subprocess.run(command).returncode != 0:
            return 1
        with pyarrow.memory_map(str(out)) as file:
            column = pyarrow.ipc.open_file(file).read_all()["vector"].combine_chunks()
            found = column.flatten().to_numpy().reshape(len(texts), -1).copy()
    if found.shape != expected.shape:
        sys.exit(f"compare: error: embedmill gives vectors of {found.shape[1]} values, sentence-transformers of {expected.shape[1]}")
    lengths = numpy.maximum(numpy.linalg.norm(expected, axis=1), 1e-12)
    apart = numpy.abs(found - expected).max(axis=1) / lengths
    for row in numpy.argsort(-apart)[:3]:
        print(f"{apart[row]:.2e}  text {row}: {texts[row][:60]!r}")
    print(f"largest difference {apart.max():.2e} over {len(texts)} texts; at most {options.most:.0e} is allowed")
    return 0 if apart.max() <= options.most else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
