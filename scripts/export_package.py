#!/usr/bin/env python3
"""Compiles a model ahead of time into a package (.pt2), for `model.script` (`--script`) of embedmill.

In:    a Python with sentence-transformers and the version of torch that embedmill's libtorch has; a C++ compiler; a model folder
       or an id on the Hugging Face hub.
Out:   the file. Tokenizer and modules stay in the model's folder, which embedmill is given beside it:
         embedmill encode docs.jsonl -o vectors.arrow --model MODEL --script OUT.pt2
Keeps: nothing else.
Fails: if the model cannot be exported for all batches and lengths, or what was compiled does not give its own numbers.

A package is machine code: for one kind of device (--device), for this machine's processor, and for this version of torch.
Without --text-vectors it gives the transformer's token vectors, and embedmill does pooling and modules; with it, it does all
of that and gives a vector a text.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from pathlib import Path
from typing import Any, Dict

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from export_torchscript import TRACED, batch, check, fail, run, wrapped

ROWS_MAX = 65_536


def export(name: str, out: Path, text_vectors: bool = False, device: str = "cpu", precision: str = "float32") -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(name, device=device, model_kwargs={"dtype": getattr(torch, precision)}).eval()
    model.tokenizer.padding_side = "right"
    token_types = "token_type_ids" in inspect.signature(model[0].model.forward).parameters
    module = wrapped(model, text_vectors, token_types)
    # Neither may be fixed, nor be guessed from the texts that it is exported with.
    sizes = {0: torch.export.Dim("rows", min=1, max=ROWS_MAX), 1: torch.export.Dim("length", min=1, max=model.max_seq_length)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = tuple(batch(model, TRACED, token_types))
        try:
            exported = torch.export.export(module, inputs, dynamic_shapes=tuple(sizes for _ in inputs))
        except Exception as error:  # torch raises many kinds of its own here
            fail(f"{name}: torch cannot export this model: {str(error).splitlines()[0]}")
        # How many threads there are is embedmill's to say, when it runs.
        settings: Dict[str, Any] = {"cpp.dynamic_threads": True}
        torch._inductor.aoti_compile_and_package(exported, package_path=str(out), inductor_configs=settings)
        package = torch._inductor.aoti_load_package(str(out))
        check(model, module, package, (text_vectors, token_types), f"{name}: the package", precision)


if __name__ == "__main__":
    description = "Compiles a model ahead of time into a package, for embedmill's --script."
    sys.exit(run(export, description, ".pt2", sys.argv[1:]))
