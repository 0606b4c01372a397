#!/usr/bin/env python3
"""Makes a TorchScript file of a model, for `model.script` (`--script`) of embedmill.

In:    Python with sentence-transformers; a model folder, or an id on the Hugging Face hub.
Out:   the file. The tokenizer and the modules stay in the model's folder, so embedmill needs both:
         embedmill encode docs.jsonl -o vectors.arrow --model MODEL --script OUT.pt
Keeps: nothing else.
Fails: if the trace does not give the model's own numbers for other texts, batch sizes and lengths.

Without --text-vectors the file computes the transformer's token vectors, and embedmill applies pooling and modules. With it
the file computes everything, and returns one vector for each text. A trace may contain the kind of device that it was made
on, so trace on the kind of device that it will run on (--device).
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, NoReturn, Sequence, Tuple

TRACED = ("the river runs over old stones and a small boat waits near the green bank", "children count birds", "two farms")
OTHERS = ("a", "home along the quiet road past two farms with open gates before rain " * 2, "rain", "open gates", "the boat")
# Relative to the largest value. Rounding stays far below; a length or batch size that tracing has fixed is far above.
DIFFERENCE_MAX = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}


def fail(message: str) -> NoReturn:
    """Ends the program with a message in the form `where: what is wrong; expected what (what to do)`."""
    sys.exit(f"{Path(sys.argv[0]).stem}: error: {message}")


def wrapped(model: Any, text_vectors: bool, token_types: bool) -> Any:
    """A module whose forward takes the arguments and returns the output that embedmill expects."""
    import torch

    class TokenVectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = model[0].model

        def vectors(self, **inputs: Any) -> Any:
            return self.transformer(**inputs, return_dict=False)[0]

    class TextVectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def vectors(self, **inputs: Any) -> Any:
            return self.model(dict(inputs))["sentence_embedding"]

    class Plain(TextVectors if text_vectors else TokenVectors):
        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.vectors(input_ids=input_ids, attention_mask=attention_mask)

    class WithTypes(TextVectors if text_vectors else TokenVectors):
        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.vectors(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)

    return (WithTypes if token_types else Plain)().eval()


def batch(model: Any, texts: Sequence[str], token_types: bool) -> List[Any]:
    import torch

    tokenizer = model.tokenizer
    inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=model.max_seq_length, return_tensors="pt")
    tensors = [inputs["input_ids"], inputs["attention_mask"]]
    if token_types:
        tensors.append(torch.zeros_like(tensors[0]))
    return [tensor.to(model.device) for tensor in tensors]


def check(model: Any, module: Any, made: Any, vectors_and_types: Tuple[bool, bool], what: str, precision: str) -> None:
    """Fails if what was made of the module gives other numbers than the module for other texts, batch sizes and lengths."""
    text_vectors, token_types = vectors_and_types
    for texts in (OTHERS, OTHERS[3:4], TRACED[:2]):
        inputs = batch(model, texts, token_types)
        expected, found = module(*inputs).float(), made(*inputs).float()
        if not text_vectors:
            shown = inputs[1].unsqueeze(-1)
            expected, found = expected * shown, found * shown
        apart = ((expected - found).abs().max() / expected.abs().max()).item()
        if not apart <= DIFFERENCE_MAX[precision]:
            expected_most = f"expected at most {DIFFERENCE_MAX[precision]:.0e} (this model cannot be exported)"
            fail(f"{what} differs by {apart:.1e} of the largest value for {len(texts)} other texts; {expected_most}")


def export(name: str, out: Path, text_vectors: bool = False, device: str = "cpu", precision: str = "float32") -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    # The only implementation of attention whose trace does not depend on the values that it is made with.
    options: Dict[str, Any] = {"attn_implementation": "eager", "dtype": getattr(torch, precision)}
    model = SentenceTransformer(name, device=device, model_kwargs=options).eval()
    model.tokenizer.padding_side = "right"
    token_types = "token_type_ids" in inspect.signature(model[0].model.forward).parameters
    module = wrapped(model, text_vectors, token_types)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            traced = torch.jit.trace(module, tuple(batch(model, TRACED, token_types)), check_trace=False)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            fail(f"{name}: torch cannot trace this model: {reason}; expected one that torch.jit.trace accepts")
        check(model, module, traced, (text_vectors, token_types), f"{name}: the trace", precision)
        torch.jit.save(traced, str(out))


def run(export: Callable[..., None], description: str, ending: str, arguments: Sequence[str]) -> int:
    """Reads the command line and lets `export` make the file, whose name must have the ending."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", help="a model folder, or an id on the Hugging Face hub")
    parser.add_argument("out", type=Path, metavar=f"OUT{ending}")
    parser.add_argument("--text-vectors", action="store_true", help="include pooling and modules: one vector for each text")
    parser.add_argument("--device", default="cpu", help="the kind of device that it is made on and will run on: cpu or cuda")
    parser.add_argument("--precision", default="float32", choices=sorted(DIFFERENCE_MAX))
    options = parser.parse_args(arguments)
    # embedmill recognises a package by its ending.
    if (options.out.suffix == ".pt2") != (ending == ".pt2"):
        fail(f"{options.out}: the name does not say what it will be; expected a name that ends in {ending}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import sentence_transformers  # noqa: F401
    except ImportError:
        install = "python3 -m venv .venv && .venv/bin/pip install sentence-transformers"
        fail(f"{sys.executable}: sentence-transformers is not installed; expected a Python that has it ({install})")
    export(options.model, options.out, options.text_vectors, options.device, options.precision)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB; use it with --model {options.model} --script {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run(export, "Makes a TorchScript file of a model, for embedmill's --script.", ".pt", sys.argv[1:]))
