#!/usr/bin/env python3
"""Makes the golden token ids of folders that have a vocab.txt, or a tokenizer.json that BERT's class changes.

In:    Python with transformers; texts.jsonl and the tiny models beside this file.
Out:   vocabulary.safetensors    for each variant in VARIANTS `<name>.ids`, at most 64 a text, end to end, and `<name>.lengths`,
                                 how many tokens each text has, special tokens included
Keeps: nothing else.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate

# Name: tokenizer_config.json. tests/model/vocabulary.rs has the same list.
VARIANTS = {
    "lowered": {"tokenizer_class": "BertTokenizer"},
    "cased": {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False},
    "stripped": {"do_lower_case": False, "tokenize_chinese_chars": False, "strip_accents": True},
    # Beside a tokenizer.json that does not lower.
    "changed": {"tokenizer_class": "BertTokenizerFast"},
}
IDS_MAX = 64


def main() -> int:
    import numpy
    from safetensors.numpy import save_file
    from transformers import AutoTokenizer

    lines = (HERE / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [generate.spelled_out(json.loads(line)) for line in lines]
    source = HERE / "tiny" / "mean"
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    tensors = {}
    for name, config in VARIANTS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda entry: entry[1])
            if name == "changed":
                changed = {**tokenizer, "post_processor": None, "normalizer": {**tokenizer["normalizer"], "lowercase": False}}
                (folder / "tokenizer.json").write_text(json.dumps(changed), encoding="utf-8")
            else:
                (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocabulary), encoding="utf-8")
            (folder / "config.json").write_text((source / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
            (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
            made = AutoTokenizer.from_pretrained(str(folder))
            ids = [made(text, truncation=False)["input_ids"] for text in texts]
        tensors[f"{name}.ids"] = numpy.array([token for row in ids for token in row[:IDS_MAX]], numpy.int32)
        tensors[f"{name}.lengths"] = numpy.array([len(row) for row in ids], numpy.int32)
        generate.say(f"{name}: {tensors[f'{name}.lengths'].sum()} tokens of {len(texts)} texts")
    save_file(tensors, HERE / "vocabulary.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
