#!/usr/bin/env python3
"""Makes the golden token ids of folders whose tokenizer transformers builds by its class, or of a vocab.txt.

In:    Python with transformers; texts.jsonl, vocabulary.json and the tiny models beside this file.
Out:   vocabulary.safetensors    for each folder of vocabulary.json `<name>.ids`, at most 48 a text, end to end, and
                                 `<name>.lengths`, how many tokens each text has, special tokens included; of every second text and
                                 of those there
Keeps: nothing else.

A variant is a folder: tokenizer.json of `base`, with `changes` to it, or with `vocab_txt` its vocabulary alone; and the
other files as they stand there.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate

IDS_MAX = 48


def write_folder(variant: Dict[str, Any], folder: Path) -> None:
    tokenizer = json.loads((HERE / variant["base"] / "tokenizer.json").read_text(encoding="utf-8"))
    if variant.get("vocab_txt"):
        vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda entry: entry[1])
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), encoding="utf-8")
    else:
        (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, **variant.get("changes", {})}), encoding="utf-8")
    for name in ("config", "tokenizer_config", "special_tokens_map", "added_tokens"):
        if name in variant:
            (folder / f"{name}.json").write_text(json.dumps(variant[name]), encoding="utf-8")


def main() -> int:
    import numpy
    from safetensors.numpy import save_file
    from transformers import AutoTokenizer

    warnings.simplefilter("ignore")
    # Beside the folders, tokens that some classes add, and runs that can be cut in several ways with nearly the same score.
    given = json.loads((HERE / "vocabulary.json").read_text(encoding="utf-8"))
    lines = (HERE / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [generate.spelled_out(json.loads(line)) for line in lines][::2] + given["texts"]
    tensors = {}
    for variant in given["folders"]:
        name = variant["name"]
        with tempfile.TemporaryDirectory() as scratch:
            write_folder(variant, Path(scratch))
            made = AutoTokenizer.from_pretrained(scratch)
            ids = [made(text, truncation=False, verbose=False)["input_ids"] for text in texts]
        tensors[f"{name}.ids"] = numpy.array([token for row in ids for token in row[:IDS_MAX]], numpy.int32)
        tensors[f"{name}.lengths"] = numpy.array([len(row) for row in ids], numpy.int32)
        generate.say(f"{name}: {type(made).__name__}, {tensors[f'{name}.lengths'].sum()} tokens of {len(texts)} texts")
    save_file(tensors, HERE / "vocabulary.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
