#!/usr/bin/env python3
"""Compiles a model ahead of time into a package (.pt2), for `model.script` (`--script`) of embedmill.

In:    Python with sentence-transformers and the version of torch that embedmill's libtorch has; a C++ compiler; a model
       folder, or an id on the Hugging Face hub.
Out:   the file. The tokenizer and the modules stay in the model's folder, so embedmill needs both:
         embedmill encode docs.jsonl -o vectors.arrow --model MODEL --script OUT.pt2
Keeps: nothing else.
Fails: if the model cannot be exported for every batch size and length, or if the package does not give the model's numbers.

A package is machine code: for one kind of device (--device), for this machine's processor, and for this version of torch.
Without --text-vectors it computes the transformer's token vectors, and embedmill applies pooling and modules. With it the
package computes everything, and returns one vector for each text.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from pathlib import Path
from typing import Any, Dict

sys.dont_write_bytecode = True
from export_torchscript import TRACED, batch, check, fail, run, wrapped  # noqa: E402

ROWS_MAX = 65_536


def export(name: str, out: Path, text_vectors: bool = False, device: str = "cpu", precision: str = "float32") -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(name, device=device, model_kwargs={"dtype": getattr(torch, precision)}).eval()
    model.tokenizer.padding_side = "right"
    token_types = "token_type_ids" in inspect.signature(model[0].model.forward).parameters
    module = wrapped(model, text_vectors, token_types)
    # Both sizes must stay variable, and must not be inferred from the texts that the model is exported with.
    sizes = {0: torch.export.Dim("rows", min=1, max=ROWS_MAX), 1: torch.export.Dim("length", min=1, max=model.max_seq_length)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = tuple(batch(model, TRACED, token_types))
        try:
            exported = torch.export.export(module, inputs, dynamic_shapes=tuple(sizes for _ in inputs))
        except Exception as error:  # torch raises many exception classes of its own here
            reason = str(error).splitlines()[0]
            fail(f"{name}: torch cannot export this model: {reason}; expected one that torch.export accepts")
        # embedmill sets the number of threads when it runs the package.
        settings: Dict[str, Any] = {"cpp.dynamic_threads": True}
        torch._inductor.aoti_compile_and_package(exported, package_path=str(out), inductor_configs=settings)
        package = torch._inductor.aoti_load_package(str(out))
        check(model, module, package, (text_vectors, token_types), f"{name}: the package", precision)


if __name__ == "__main__":
    description = "Compiles a model ahead of time into a package, for embedmill's --script."
    sys.exit(run(export, description, ".pt2", sys.argv[1:]))
