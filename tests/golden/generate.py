#!/usr/bin/env python3
"""Makes the golden vectors: what sentence-transformers computes, for embedmill's tests to be held to.

In:    Python with sentence-transformers, the real all-MiniLM-L6-v2 (`make setup`), and the crates in Cargo.lock.
Out:   beside this file
         tiny/<name>/                          small random models of odd sizes, as sentence-transformers saves them
         texts.jsonl                           odd texts: {"text": s}, or {"repeat": s, "times": n} for s * n
         <name>.safetensors                    their vectors, for each tiny model
         and what chains.py makes
         all-MiniLM-L6-v2.odd.safetensors      the same texts, real model
         all-MiniLM-L6-v2.corpus.json          ids and SHA-256 of real paragraphs of scripts/corpus.py, in order
         all-MiniLM-L6-v2.corpus.safetensors   their vectors
         versions.json                         the packages that computed all this
Keeps: nothing else. Seeds are fixed: on one machine, a second run gives the same bytes.
Fails: with the command that installs what is missing.

Each .safetensors holds `vectors` [texts, dim] float32; `tokens` [texts] int32, the length with special tokens after
truncation; and `cut` [texts] int32, how many tokens truncation took away.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
MODEL_NAME = "all-MiniLM-L6-v2"
PACKAGES = ("sentence_transformers", "transformers", "tokenizers", "torch", "numpy", "safetensors")
CORPUS_TEXTS = 400
BATCH_SIZE = 32
# With the usual 0.02 a model is nearly linear and a wrong activation or a forgotten bias hides in the rounding.
WEIGHT_STD = 0.4
NORM_WEIGHT_STD = 0.3


def require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"golden: error: {sys.executable} lacks {', '.join(missing)}. A Python that has them, which `make golden` then finds:\n"
            "  python3 -m venv .venv && .venv/bin/pip install sentence-transformers"
        )


def say(message: str) -> None:
    print(f"golden: {message}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Odd texts

WORDS = (
    "the river runs over old stones and a small boat waits near the green bank while children count birds "
    "in the evening light then walk home along the quiet road past two farms with open gates before rain"
).split()


def word_texts() -> List[Dict[str, Any]]:
    """Every length from none to 40 words, each a token of its own: all lengths around every model's limit."""
    return [{"text": " ".join((WORDS * 2)[:count])} for count in range(41)]


def space_texts() -> List[str]:
    return [
        " ", "   ", "\t", "\n\n\n", " \t \r\n ", "\u00a0", "\u3000", "\u2028\u2029", "\u0085",
        "  the river ", "the\triver\nruns\r\nover", "the\u00a0river", "the\u3000river", "the\u2009river\u200aruns", "the   river",
    ]  # fmt: skip


def invisible_texts() -> List[str]:
    return [
        "\ufeff", "\ufeffthe river", "the\ufeff river", "\u0000", "the\u0000river", "\u0000\u0000 boat \u0000",
        "\u0007the \u001briver\u007f", "\u200b", "the\u200briver", "co\u00adoperate", "\u2060boat", "\u202eriver eht\u202c",
        "\ufffd", "the \ufffd river", "\ue000\uf8ff", "\uffff", "\u0378", "\U000e0067\U000e0062",
    ]  # fmt: skip


def special_token_texts() -> List[str]:
    return [
        "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "[CLS] [MASK] ##ing", "[cls] [mask]", "the [SEP] river", "the[SEP]river",
        " [MASK] ", "[CLS", "CLS]", "[ CLS ]", "##ing", "# #ing", "##", "walk ##ing", "[PAD] [PAD] boat [PAD]",
    ]  # fmt: skip


def emoji_texts() -> List[str]:
    return [
        "\U0001f600", "the \U0001f600 river", "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f44d\U0001f3fd",
        "\U0001f3f3\ufe0f\u200d\U0001f308 boat", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "1\ufe0f\u20e3 2\ufe0f\u20e3",
        "\u2764\ufe0f\u2764",
    ]  # fmt: skip


def script_texts() -> List[str]:
    return [
        "Caf\u00e9 na\u00efve \u00c5ngstr\u00f6m", "Cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
        "r\u0338i\u0489v\u0315e\u0360r\u0362", "\u0301", "\ufb01sh \ufb02ow \u0133",
        "Stra\u00dfe STRASSE", "\u0130stanbul \u0131", "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3", "\u01c5 \u01c8",
        "\uff21\uff22\uff23 \uff11\uff12\uff13",
        "\U0001d518\U0001d52b\U0001d526", "\u6df1\u5733\u5e02", "the\u6cb3river", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c",
        "\uc548\ub155 \ud558\uc138\uc694", "\U00020000\U00020001",
        "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
        "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",
        "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
        "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01",
        "river \u0440\u0435\u043a\u0430 \u6cb3 \u05e0\u05d4\u05e8 \u0646\u0647\u0631 \U0001f30a",
    ]  # fmt: skip


def punctuation_texts() -> List[str]:
    return [
        "0", "42", "3.14159", "1,234,567.89", "1e-7", "-12", "\u0663\u0664\u0665", "\u00bd \u00b2 \u2166",
        "2026-07-06T21:56:00Z", "007 00042",
        "...", "!!!???", "don't", "U.S.A.", "the, river; runs: over!", "$^`~+=<>|",
        "\u201cthe\u201d \u2018river\u2019 \u2014 \u2026", "snake_case CamelCase C++ #!/bin",
        "https://example.org/a?b=c&d=%20", "{\"text\": [1, 2.5, null]}", "<p class='x'>river</p>", "a", "Z", "A a B b",
    ]  # fmt: skip


def long_texts() -> List[Dict[str, Any]]:
    """Around WordPiece's limit of 100 characters a word, around the real model's 256 tokens, and far beyond both."""
    rules = (
        ("a", 99), ("a", 100), ("a", 101), ("river", 60), ("boat ", 253), ("boat ", 254), ("boat ", 255), ("boat ", 300), ("[SEP] ", 300),
        ("\u6cb3", 600), ("\U0001f600", 300), ("e\u0301", 400), (" ", 5_000), ("the river runs, ", 400), ("x", 100_000), ("word ", 20_000),
    )  # fmt: skip
    return [{"repeat": text, "times": times} for text, times in rules]


def odd_texts() -> List[Dict[str, Any]]:
    plain = [*space_texts(), *invisible_texts(), *special_token_texts(), *emoji_texts(), *script_texts(), *punctuation_texts()]
    return [*word_texts(), *({"text": text} for text in plain), *long_texts()]


def spelled_out(entry: Dict[str, Any]) -> str:
    return entry["text"] if "text" in entry else entry["repeat"] * entry["times"]


# ---------------------------------------------------------------------------------------------------------------------
# Tiny models


class Tiny(NamedTuple):
    """Sizes are odd on purpose: none divides another where the architecture does not ask for it."""

    name: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    activation: str
    norm_eps: float
    positions: int
    types: int
    pooling: str = "mean"
    normalize: bool = False
    max_seq_length: Optional[int] = None
    # Generation one of the names, written by hand; or a Hugging Face model and nothing else.
    form: str = "saved"
    shard_size: str = ""


TINY = (
    Tiny("mean", 2, 24, 3, 40, "gelu", 1e-12, 52, 2, normalize=True, max_seq_length=48),
    Tiny("cls", 1, 20, 5, 33, "gelu_new", 1e-5, 41, 2, pooling="cls"),
    Tiny("max", 3, 22, 2, 17, "relu", 1e-7, 50, 3, pooling="max", max_seq_length=19, shard_size="30KB"),
    Tiny("old-names", 2, 18, 2, 31, "gelu", 1e-12, 37, 2, normalize=True, max_seq_length=33, form="old"),
    Tiny("plain", 1, 21, 7, 25, "gelu", 1e-12, 45, 1, form="plain"),
)


def vocabulary() -> Dict[str, int]:
    """A few hundred tokens: whole words, letters and pieces enough that most texts are not just [UNK]."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens += [*letters, *(f"##{letter}" for letter in letters)]
    tokens += [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", *"\u201c\u201d\u2018\u2019\u2014\u2026\u00e9\u00df"]
    tokens += [
        *"\u6cb3\u6df1\u5e02\u4e16\u754c\u4e2d\u6587",
        *"\u0430\u0435\u0438\u043a\u043c\u043f\u0440",
        *"\u05e0\u05d4\u05e8\u0646\u0647\u0631",
        "\U0001f600",
        "\u2764",
    ]
    tokens += [f"##{letter}" for letter in "\u0435\u0440\u0438\u0430\u05d4\u05e8\u0647\u0631\u00e9\u0301"]
    tokens += [*sorted(set(WORDS)), "word", "fish", "cafe", "https", "text"]
    tokens += [
        f"##{piece}"
        for piece in ("ing", "ed", "er", "est", "ly", "s", "tion", "ive", "ver", "an", "en", "on", "at", "or", "th", "ou")
    ]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def tokenizer(tiny: Tiny, folder: Path) -> Any:
    from transformers import BertTokenizer

    # The old folder leaves lowercasing to do_lower_case in sentence_bert_config.json.
    made = BertTokenizer(vocab=vocabulary(), do_lower_case=tiny.form != "old")
    made.save_pretrained(folder)
    return made


def bert(tiny: Tiny, vocab_size: int) -> Any:
    """A BERT with every weight and bias drawn at random; transformers itself leaves biases at zero and norms at one."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=tiny.hidden,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        intermediate_size=tiny.intermediate,
        hidden_act=tiny.activation,
        layer_norm_eps=tiny.norm_eps,
        max_position_embeddings=tiny.positions,
        type_vocab_size=tiny.types,
    )
    model = BertModel(config).eval()
    seed = int.from_bytes(hashlib.sha256(tiny.name.encode()).digest()[:4], "little")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            is_norm_weight = name.endswith("LayerNorm.weight")
            weight.copy_(1 + NORM_WEIGHT_STD * noise if is_norm_weight else WEIGHT_STD * noise)
    return model


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_tiny(tiny: Tiny, folder: Path) -> None:
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch)
        bert(tiny, vocab_size=len(tokenizer(tiny, source))).save_pretrained(source)
        if tiny.form == "plain":
            shutil.copytree(source, folder, dirs_exist_ok=True)
        elif tiny.form == "old":
            save_in_old_names(tiny, source, folder)
        else:
            save_through_library(tiny, source, folder)
    compact_tokenizer(folder / "tokenizer.json")


def compact_tokenizer(path: Path) -> None:
    """A line a token is three times as large and nobody reads it."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")), separators=(",", ":")) + "\n", encoding="utf-8")


def save_through_library(tiny: Tiny, source: Path, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer, models

    limits = {} if tiny.max_seq_length is None else {"max_seq_length": tiny.max_seq_length}
    modules = [models.Transformer(str(source), **limits), models.Pooling(tiny.hidden, tiny.pooling)]
    if tiny.normalize:
        modules.append(models.Normalize())
    made = SentenceTransformer(modules=modules, device="cpu")
    made.save_pretrained(str(folder), create_model_card=False)
    if tiny.shard_size:
        (folder / "model.safetensors").unlink()
        made[0].model.save_pretrained(str(folder), max_shard_size=tiny.shard_size)


def save_in_old_names(tiny: Tiny, source: Path, folder: Path) -> None:
    """The folder as the library's second generation wrote it, around a checkpoint with the names of the first BERTs."""
    from safetensors.torch import load_file, save_file
    import torch

    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
            for i, (path, name) in enumerate(modules)
        ],
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": tiny.max_seq_length, "do_lower_case": True})
    versions = {"sentence_transformers": "2.0.0", "transformers": "4.6.1", "pytorch": "1.8.1"}
    write_json(folder / "config_sentence_transformers.json", {"__version__": versions})
    modes = {
        f"pooling_mode_{mode}": mode == "mean_tokens"
        for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    }
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": tiny.hidden, **modes})
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for newer in (
        "dtype",
        "transformers_version",
        "classifier_dropout",
        "is_decoder",
        "add_cross_attention",
        "tie_word_embeddings",
    ):
        config.pop(newer, None)
    write_json(folder / "config.json", {**config, "architectures": ["BertModel"], "gradient_checkpointing": False})
    shutil.copy(source / "tokenizer_config.json", folder)
    # Published folders carry the limits of their training here, as the real all-MiniLM-L6-v2 does; they must not count.
    tokenizer_json = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer_json["truncation"] = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    tokenizer_json["padding"] = {
        "strategy": {"Fixed": 16},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    write_json(folder / "tokenizer.json", tokenizer_json)

    weights = {}
    for name, weight in load_file(source / "model.safetensors").items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        weights[f"bert.{old}"] = weight
    weights["bert.embeddings.position_ids"] = torch.arange(tiny.positions).unsqueeze(0)
    # The head that such checkpoints were trained with is still in them, and no encoder wants it.
    weights["cls.predictions.bias"] = torch.zeros(8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# ---------------------------------------------------------------------------------------------------------------------
# Vectors


def load_model(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def write_vectors(model: Any, texts: Sequence[str], out: Path) -> None:
    import numpy
    from safetensors.numpy import save_file

    vectors = model.encode(list(texts), batch_size=BATCH_SIZE, convert_to_numpy=True, show_progress_bar=False)
    if vectors.dtype != numpy.float32 or not numpy.isfinite(vectors).all():
        sys.exit(f"golden: error: {out.name} would hold {vectors.dtype} or values that are not finite")
    tokens = [int(model.preprocess([text])["attention_mask"].sum()) for text in texts]
    whole = [len(model.tokenizer(text, truncation=False, verbose=False)["input_ids"]) for text in texts]
    cut = [full - kept for full, kept in zip(whole, tokens)]
    tensors = {"vectors": vectors, "tokens": numpy.array(tokens, numpy.int32), "cut": numpy.array(cut, numpy.int32)}
    save_file(tensors, out)
    norms = numpy.linalg.norm(vectors, axis=1)
    texts_cut = sum(count > 0 for count in cut)
    say(
        f"{out.name}: {vectors.shape[0]} x {vectors.shape[1]}, norms {norms.min():.3f} to {norms.max():.3f}, "
        f"{min(tokens)} to {max(tokens)} tokens, {texts_cut} texts cut, max_seq_length {model.max_seq_length}"
    )


def check_old_names(tiny: Tiny, model: Any) -> None:
    """If the library had not recognised the old names it would have drawn weights at random, with no more than a warning."""
    import torch

    expected = bert(tiny, len(vocabulary())).state_dict()
    for name, weight in model[0].model.state_dict().items():
        if not torch.equal(weight, expected[name]):
            sys.exit(f"golden: error: this version of transformers does not load {name} from its old name")


def make_tiny(texts: Sequence[str], work: Path) -> None:
    for tiny in TINY:
        folder = work / "tiny" / tiny.name
        save_tiny(tiny, folder)
        model = load_model(folder)
        if tiny.form == "old":
            check_old_names(tiny, model)
        write_vectors(model, texts, work / f"{tiny.name}.safetensors")


def make_chains(texts: Sequence[str], work: Path) -> None:
    import chains

    def save(name: str, folder: Path) -> None:
        tiny = Tiny(name, 1, chains.HIDDEN, 2, 12, "gelu", 1e-12, 26, 2)
        folder.mkdir(parents=True, exist_ok=True)
        bert(tiny, vocab_size=len(tokenizer(tiny, folder))).save_pretrained(folder)
        compact_tokenizer(folder / "tokenizer.json")

    chains.make(texts, work, save)


def real_model_folder() -> Path:
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    from setup.models import cached_model, model_problem

    folder = cached_model()
    problem = model_problem(folder)
    if problem:
        sys.exit(f"golden: error: {problem}; expected the real model (`make setup` fetches it)")
    return folder


def make_real(texts: Sequence[str], work: Path, model_folder: Path) -> None:
    import corpus

    model = load_model(model_folder)
    write_vectors(model, texts, work / f"{MODEL_NAME}.odd.safetensors")
    # Chosen from all paragraphs, not from the demo's: a paragraph then drops out only with its own crate's release.
    chosen = corpus.select(corpus.load(None), CORPUS_TEXTS)
    entries = [{"id": paragraph.id, "sha256": hashlib.sha256(paragraph.text.encode()).hexdigest()} for paragraph in chosen]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (work / f"{MODEL_NAME}.corpus.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    write_vectors(model, [paragraph.text for paragraph in chosen], work / f"{MODEL_NAME}.corpus.safetensors")


def versions() -> Dict[str, str]:
    from importlib.metadata import version

    found = {name.replace("_", "-"): version(name.replace("_", "-")) for name in PACKAGES}
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}


def publish(work: Path) -> None:
    """Everything is made before anything is replaced, so that a failure leaves the old files whole."""
    (HERE / "tiny").mkdir(exist_ok=True)
    for path in work.rglob("*"):
        # safetensors writes files that only their owner may read.
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in sorted(work.iterdir()):
        target = HERE / path.name
        if path.is_file():
            os.replace(path, target)
            continue
        for model in sorted(path.iterdir()):
            shutil.rmtree(target / model.name, ignore_errors=True)
            shutil.move(str(model), str(target / model.name))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Makes the golden vectors with sentence-transformers.")
    parser.add_argument("--only", choices=("tiny", "chains", "real"), help="make only the files of the tiny models, of chains.py, or of the real model")
    options = parser.parse_args(arguments)
    require_packages()
    # Nothing is fetched: every model is a folder here.
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    wanted = (options.only,) if options.only else ("tiny", "chains", "real")
    model_folder = real_model_folder() if "real" in wanted else Path()
    import torch

    # One thread sums in one order.
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    entries = odd_texts()
    texts = [spelled_out(entry) for entry in entries]
    with tempfile.TemporaryDirectory(prefix=".golden-", dir=HERE) as scratch:
        work = Path(scratch)
        (work / "texts.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
        write_json(work / "versions.json", versions())
        if "tiny" in wanted:
            make_tiny(texts, work)
        if "chains" in wanted:
            make_chains(texts, work)
        if "real" in wanted:
            make_real(texts, work, model_folder)
        publish(work)
    total_bytes = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    say(f"{len(texts)} odd texts; {total_bytes / 1e6:.2f} MB in {HERE.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
