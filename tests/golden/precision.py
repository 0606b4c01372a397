#!/usr/bin/env python3
"""Makes the golden vectors of models that compute in bfloat16: what sentence-transformers gives with dtype=bfloat16 on a CPU.

In:    Python with sentence-transformers; the models beside this file, and the real all-MiniLM-L6-v2 (`make setup`).
Out:   bfloat16.safetensors    a tensor a model: its vectors on every third text of texts.jsonl
Keeps: nothing else. Prints how far bfloat16 is from float32 there, which is what the tests' tolerance comes from.
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

MODELS = ("roberta", "mpnet", "deberta-v3", "modernbert", "qwen3", "t5", "gemma3_text")


def main() -> int:
    generate.require_packages()
    warnings.simplefilter("ignore")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TQDM_DISABLE", "1")
    import numpy
    import torch
    from safetensors.numpy import save_file
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    lines = (HERE / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [generate.spelled_out(json.loads(line)) for line in lines][::3]
    real = os.environ.get("EMBEDMILL_TEST_MODEL") or Path.home() / ".cache/embedmill/models" / generate.MODEL_NAME
    tensors = {}
    for name, folder in [(generate.MODEL_NAME, real), *((name, HERE / "families" / name) for name in MODELS)]:

        def encode(precision: str) -> numpy.ndarray:
            options = {"dtype": getattr(torch, precision)}
            model = SentenceTransformer(str(folder), device="cpu", model_kwargs=options, local_files_only=True)
            return model.encode(texts, batch_size=32, convert_to_tensor=True).float().numpy()

        exact, tensors[name] = encode("float32"), encode("bfloat16")
        lengths = numpy.linalg.norm(exact, axis=1, keepdims=True)
        apart = (numpy.abs(exact - tensors[name]) / lengths).max()
        generate.say(f"{name}: bfloat16 is up to {apart:.1e} of a vector's length from float32")
    save_file(tensors, HERE / "bfloat16.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
