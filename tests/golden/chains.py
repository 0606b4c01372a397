"""The golden vectors of what comes after a transformer: poolings, module chains, prompts, routers, smaller outputs.

In:    texts, and a function that saves a tiny random BERT with its tokenizer.
Out:   in the folder given
         tiny/<name>/            models of these modules as sentence-transformers saves them (`chained` in its older names)
         <name>.safetensors      their vectors, a tensor a way of encoding, and `rows`, the texts' numbers
         quantized.safetensors   what quantize_embeddings makes of vectors and ranges that are in it too
Keeps: nothing else; seeds are fixed.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

HIDDEN = 10
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
ACTIVATIONS = (
    "linear.Identity", "activation.Tanh", "activation.ReLU", "activation.GELU", "activation.Sigmoid", "activation.SiLU",
    "activation.ELU", "activation.CELU", "activation.SELU", "activation.Mish", "activation.ReLU6", "activation.RReLU",
    "activation.LeakyReLU", "activation.LogSigmoid", "activation.Softplus", "activation.Softsign", "activation.Softshrink",
    "activation.Hardshrink", "activation.Tanhshrink", "activation.Hardtanh", "activation.Hardsigmoid", "activation.Hardswish",
)  # fmt: skip

# Saves a tiny BERT of `HIDDEN` under a name that its weights are drawn by: (name, folder).
SaveTransformer = Callable[[str, Path], None]


def seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def transformer(name: str, save: SaveTransformer) -> Any:
    from sentence_transformers import models

    with tempfile.TemporaryDirectory() as scratch:
        save(name, Path(scratch))
        return models.Transformer(scratch)


def drawn(module: Any, name: str, scale: float = 0.5) -> Any:
    """The module with all its weights at random; torch itself leaves norms at one and biases near nothing."""
    import torch

    generator = torch.Generator().manual_seed(seed(name))
    with torch.no_grad():
        for _, weight in sorted(module.named_parameters()):
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    return module


def saved(modules: List[Any], folder: Path, **options: Any) -> Any:
    """The model as it is after saving and loading: what a user of the folder gets."""
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(modules=modules, device="cpu", **options).save_pretrained(str(folder), create_model_card=False)
    tokenizers = folder.rglob("tokenizer.json")
    for path in tokenizers:
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")), separators=(",", ":")) + "\n", "utf-8")
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def encode(model: Any, texts: Sequence[str], **options: Any) -> Any:
    return model.encode(list(texts), batch_size=32, convert_to_numpy=True, show_progress_bar=False, **options)


def write(path: Path, tensors: Dict[str, Any], rows: Sequence[int]) -> None:
    import numpy
    from safetensors.numpy import save_file

    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not numpy.isfinite(tensor).all():
            raise SystemExit(f"golden: error: {name} of {path.name} has values that are not finite")
    save_file({**{name: numpy.ascontiguousarray(tensor) for name, tensor in tensors.items()}, "rows": numpy.array(rows, numpy.int32)}, path)
    print(f"golden: {path.name}: {', '.join(f'{name} {list(tensor.shape)}' for name, tensor in tensors.items())}", flush=True)


def every(texts: Sequence[str], step: int) -> List[int]:
    return list(range(0, len(texts), step))


def make(texts: Sequence[str], work: Path, save: SaveTransformer) -> None:
    (work / "tiny").mkdir(exist_ok=True)
    poolings(texts, work, save)
    chained(texts, work, save)
    on_tokens(texts, work, save)
    activated(texts, work, save)
    prompted(texts, work, save)
    routed(texts, work, save)


def poolings(texts: Sequence[str], work: Path, save: SaveTransformer) -> None:
    """A plain model, with each pooling in turn put on it; and the smaller outputs of one of them."""
    from sentence_transformers import SentenceTransformer, models
    from sentence_transformers.util import quantize_embeddings

    folder = work / "tiny" / "poolings"
    save("poolings", folder)
    rows = list(range(len(texts)))
    vectors = {}
    for mode in MODES:
        made = SentenceTransformer(modules=[models.Transformer(str(folder)), models.Pooling(HIDDEN, mode)], device="cpu")
        vectors[mode] = encode(made, texts)
    write(work / "poolings.safetensors", vectors, rows)

    floats = vectors["mean"]
    import numpy

    # Ranges of a part, so that some values of the rest lie outside; one column that is always the same.
    floats[:, 3] = 0.25
    ranges = numpy.vstack((floats[:40].min(axis=0), floats[:40].max(axis=0)))
    tensors = {"vectors": floats, "ranges": ranges}
    for precision in ("int8", "uint8", "binary", "ubinary"):
        tensors[precision] = quantize_embeddings(floats, precision, ranges=ranges if precision.endswith("int8") else None)
    write(work / "quantized.safetensors", tensors, rows)


def chained(texts: Sequence[str], work: Path, save: SaveTransformer) -> None:
    """Every module after the pooling, all poolings side by side, cut to fewer values; rewritten in the older names."""
    from sentence_transformers import SentenceTransformer, models
    from torch import nn

    folder = work / "tiny" / "chained"
    wide = HIDDEN * len(MODES)
    saved(
        [
            transformer("chained", save),
            models.Pooling(HIDDEN, MODES),
            drawn(models.Dense(wide, 14, activation_function=nn.Tanh()), "chained-1", 0.1),
            models.Dropout(0.3),
            drawn(models.Dense(14, 9, bias=False, activation_function=nn.GELU()), "chained-2"),
            drawn(models.LayerNorm(9), "chained-3"),
            drawn(models.Dense(9, 9, activation_function=nn.Identity(), use_residual=True), "chained-4"),
            drawn(models.Dense(9, 12, activation_function=nn.SiLU(), use_residual=True), "chained-5"),
            models.Normalize(),
        ],
        folder,
        truncate_dim=8,
    )
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    for module in modules:
        module["type"] = "sentence_transformers.models." + module["type"].rsplit(".", 1)[1]
    (folder / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", "utf-8")
    flags = {"cls": "cls_token", "lasttoken": "lasttoken", "mean_sqrt_len_tokens": "mean_sqrt_len_tokens"}
    flags = {f"pooling_mode_{flags.get(mode, mode + '_tokens')}": True for mode in MODES}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": HIDDEN, **flags, "include_prompt": True}, indent=2) + "\n", "utf-8"
    )
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    rows = every(texts, 2)
    some = [texts[row] for row in rows]
    tensors = {
        "own": encode(model, some),
        "whole": encode(model, some, truncate_dim=12),
        "five_normalized": encode(model, some, truncate_dim=5, normalize_embeddings=True),
    }
    write(work / "chained.safetensors", tensors, rows)


def on_tokens(texts: Sequence[str], work: Path, save: SaveTransformer) -> None:
    from sentence_transformers import models
    from torch import nn

    dense = models.Dense(HIDDEN, 7, activation_function=nn.ReLU(), module_input_name="token_embeddings")
    model = saved(
        [
            transformer("on-tokens", save),
            drawn(dense, "on-tokens-1"),
            models.Normalize(module_input_name="token_embeddings"),
            models.Pooling(7, ["lasttoken", "mean"]),
        ],
        work / "tiny" / "on-tokens",
    )
    rows = every(texts, 2)
    write(work / "on-tokens.safetensors", {"own": encode(model, [texts[row] for row in rows])}, rows)


def activated(texts: Sequence[str], work: Path, save: SaveTransformer) -> None:
    """One model; the activation of its Dense is changed in the file, by its name in torch."""
    from sentence_transformers import SentenceTransformer, models

    folder = work / "tiny" / "activated"
    dense = drawn(models.Dense(HIDDEN, 6), "activated-1", 1.5)
    saved([transformer("activated", save), models.Pooling(HIDDEN, "mean"), dense], folder)
    path = folder / "2_Dense" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    rows = every(texts, 5)
    tensors = {}
    for name in (*ACTIVATIONS, "activation.Tanh"):
        path.write_text(json.dumps({**config, "activation_function": f"torch.nn.modules.{name}"}, indent=2) + "\n", "utf-8")
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        tensors[name.rsplit(".", 1)[1]] = encode(model, [texts[row] for row in rows])
    write(work / "activated.safetensors", tensors, rows)


def prompted(texts: Sequence[str], work: Path, save: SaveTransformer) -> None:
    """Prompts whose tokens are not pooled: short, with a special token in it, and longer than the model takes."""
    from sentence_transformers import models

    order = ["lasttoken", "cls", "weightedmean", "max", "mean", "mean_sqrt_len_tokens"]
    pooling = models.Pooling(HIDDEN, order, include_prompt=False)
    prompts = {"query": "find the river: ", "passage": "the [SEP] boat ", "long": "the river runs over old stones " * 12}
    model = saved(
        [transformer("prompted", save), pooling],
        work / "tiny" / "prompted",
        prompts=prompts,
        default_prompt_name="passage",
    )
    rows = every(texts, 5)
    some = [texts[row] for row in rows]
    tensors = {
        "default": encode(model, some),
        "query": encode(model, some, prompt_name="query"),
        "long": encode(model, some, prompt_name="long"),
        "explicit": encode(model, some, prompt="children count "),
        "empty": encode(model, some, prompt=""),
        "encode_query": model.encode_query(some, show_progress_bar=False),
    }
    model.set_pooling_include_prompt(True)
    tensors["included"] = encode(model, some)
    write(work / "prompted.safetensors", tensors, rows)


def routed(texts: Sequence[str], work: Path, save: SaveTransformer) -> None:
    from sentence_transformers import models

    router = models.Router.for_query_document(
        query_modules=[transformer("routed-query", save), models.Pooling(HIDDEN, "cls")],
        document_modules=[
            transformer("routed-document", save),
            models.Pooling(HIDDEN, "mean"),
            drawn(models.Dense(HIDDEN, HIDDEN), "routed-1"),
        ],
    )
    prompts = {"query": "find: ", "document": ""}
    model = saved([router, models.Normalize()], work / "tiny" / "routed", prompts=prompts)
    rows = every(texts, 5)
    some = [texts[row] for row in rows]
    tensors = {
        "default": encode(model, some),
        "query": encode(model, some, task="query"),
        "document": encode(model, some, task="document"),
        "encode_query": model.encode_query(some, show_progress_bar=False),
    }
    write(work / "routed.safetensors", tensors, rows)
