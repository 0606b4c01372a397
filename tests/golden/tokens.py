#!/usr/bin/env python3
"""Makes the golden token vectors: what sentence-transformers gives with output_value="token_embeddings".

In:    Python with sentence-transformers; texts.jsonl and the tiny models beside this file.
Out:   tokens.safetensors    of every sixth text, for each model `<name>.vectors`, end to end, and `<name>.lengths`
Keeps: nothing else.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate

# A plain model, modules on token vectors before the pooling, and a prompt that the pooling leaves out.
MODELS = ("poolings", "on-tokens", "prompted")


def main() -> int:
    generate.require_packages()
    warnings.simplefilter("ignore")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import numpy
    import torch
    from safetensors.numpy import save_file
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    lines = (HERE / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [generate.spelled_out(json.loads(line)) for line in lines][::6]
    tensors = {}
    for name in MODELS:
        model = SentenceTransformer(str(HERE / "tiny" / name), device="cpu", local_files_only=True)
        vectors = [row.numpy() for row in model.encode(texts, output_value="token_embeddings")]
        tensors[f"{name}.vectors"] = numpy.concatenate(vectors).astype(numpy.float32)
        tensors[f"{name}.lengths"] = numpy.array([len(row) for row in vectors], numpy.int32)
        generate.say(f"{name}: {len(tensors[f'{name}.vectors'])} token vectors of {len(texts)} texts")
    save_file(tensors, HERE / "tokens.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
