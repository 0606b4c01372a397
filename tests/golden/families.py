#!/usr/bin/env python3
"""Makes a tiny random model of every family and its golden vectors, for embedmill's tests to be held to.

In:    Python with sentence-transformers; texts.jsonl beside this file.
Out:   families/<name>/              a model, as sentence-transformers saves it
       families/<name>.safetensors   its vectors on the texts, as generate.py describes
       families/<name>.layers        those of every eighth text with a WeightedLayerPooling before the pooling, in which layer n
                                     counts 1 + n / 2, as `vectors` of a safetensors file
Keeps: nothing else. Seeds are fixed: on one machine, a second run gives the same bytes.
Fails: with the command that installs what is missing, or the family that went wrong.

Sizes are odd on purpose: none divides another where the architecture does not ask for it, windows and buckets are smaller
than the longest text, and what is usually left at its default is not.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

sys.dont_write_bytecode = True

import generate
from generate import HERE, NORM_WEIGHT_STD, WORDS, compact_tokenizer, load_model, say, write_vectors

FOLDER = HERE / "families"
# Of a vector's length; the tests allow 1e-6 between a text alone and the same text in a batch.
ROUNDING_MAX = 4e-7
ROUNDING_DRAWS = 4
# Models to try until one has no text that makes more of rounding.
DRAWS = 16
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Family(NamedTuple):
    """`config` is what the configuration is made with; the vocabulary's size and the padding id are added."""

    name: str
    model: str
    config: Dict[str, Any]
    tokens: str = "wordpiece"
    max_seq_length: int = 47
    pad_id: int = 0
    # Large weights, so that a wrong activation or a forgotten bias does not hide in the rounding; see `rounding` too.
    weight_std: float = 0.15
    # Which of its random models it is.
    draw: int = 0
    # Norms whose checkpoint holds the distance from 1.
    norms_from_one: bool = False
    # As a model with a head on top has it in its checkpoint.
    prefix: str = ""
    # transformers saves some families under their authors' names; this one is saved under its own.
    own_names: bool = False
    # The published configuration says the same in keys that transformers cannot read: written once the vectors are made.
    published: Dict[str, Any] = {}


BERT = {"hidden_size": 20, "num_attention_heads": 5, "num_hidden_layers": 2, "intermediate_size": 33}
LLAMA = {"num_hidden_layers": 3, "intermediate_size": 29, "max_position_embeddings": 64}

FAMILIES = (
    Family("roberta", "Roberta", {**BERT, "max_position_embeddings": 49, "type_vocab_size": 1, "layer_norm_eps": 1e-5}, pad_id=1),
    Family(
        "xlm-roberta",
        "XLMRoberta",
        {**BERT, "max_position_embeddings": 53, "type_vocab_size": 2, "hidden_act": "gelu_new"},
        tokens="unigram",
        pad_id=1,
        prefix="roberta.",
    ),
    Family("camembert", "Camembert", {**BERT, "max_position_embeddings": 54, "hidden_act": "relu"}, pad_id=3),
    Family("electra", "Electra", {**BERT, "embedding_size": 13, "max_position_embeddings": 47, "hidden_act": "gelu"}),
    Family(
        "mpnet",
        "MPNet",
        {**BERT, "max_position_embeddings": 150, "layer_norm_eps": 1e-6, "relative_attention_num_buckets": 35},
        max_seq_length=148,
        pad_id=2,
    ),
    Family(
        "distilbert",
        "DistilBert",
        {"dim": 21, "n_heads": 3, "n_layers": 2, "hidden_dim": 37, "max_position_embeddings": 51, "activation": "gelu"},
    ),
    Family(
        "albert",
        "Albert",
        {**BERT, "num_hidden_layers": 5, "embedding_size": 14, "num_hidden_groups": 2, "inner_group_num": 2}
        | {"max_position_embeddings": 48, "layer_norm_eps": 1e-6},
    ),
    Family(
        "deberta-v3",
        "DebertaV2",
        {**BERT, "max_position_embeddings": 40, "relative_attention": True, "position_buckets": 7, "norm_rel_ebd": "layer_norm"}
        | {"share_att_key": True, "pos_att_type": "p2c|c2p", "position_biased_input": False, "max_relative_positions": -1},
        max_seq_length=40,
    ),
    Family(
        "deberta-v2",
        "DebertaV2",
        {**BERT, "max_position_embeddings": 47, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 2}
        | {"max_relative_positions": 11, "embedding_size": 17, "conv_kernel_size": 3, "conv_groups": 4, "conv_act": "gelu"},
    ),
    Family(
        "modernbert",
        "ModernBert",
        {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 5, "intermediate_size": 31, "local_attention": 11}
        | {"max_position_embeddings": 70},
    ),
    Family(
        "modernbert-biased",
        "ModernBert",
        {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 19, "local_attention": 4}
        | {"layer_types": ["sliding_attention", "full_attention"], "hidden_activation": "silu", "max_position_embeddings": 64}
        | {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "norm_eps": 1e-4},
        prefix="model.",
    ),
    Family(
        "nomic_bert",
        "NomicBert",
        {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 27, "type_vocab_size": 2}
        | {"max_position_embeddings": 64},
    ),
    Family(
        "gte",
        "Gte",
        {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 27}
        | {"max_position_embeddings": 64, "type_vocab_size": 0, "layer_norm_eps": 1e-5},
    ),
    # Published with code of its own, which sentence-transformers fetches from the hub and which is not here: vectors are
    # those of transformers' GTE with the frequencies that `ntk` with factor 4 makes (base * 4, frequencies / 4 ** (2 / 8)).
    Family(
        "new",
        "Gte",
        {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 21, "type_vocab_size": 1}
        | {"max_position_embeddings": 64}
        | {"rope_parameters": {"rope_type": "linear", "rope_theta": 4000.0, "factor": 4.0 ** (2 / 8)}},
        prefix="new.",
        published={"model_type": "new", "architectures": ["NewModel"], "rope_theta": 1000.0, "rope_parameters": None}
        | {"rope_scaling": {"type": "ntk", "factor": 4.0}, "position_embedding_type": "rope", "layer_norm_type": "layer_norm"}
        | {"pack_qkv": True, "unpad_inputs": False, "logn_attention_scale": False, "logn_attention_clip1": False},
    ),
    Family(
        "jina_embeddings_v3",
        "JinaEmbeddingsV3",
        {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 27}
        | {"max_position_embeddings": 64, "type_vocab_size": 1},
        pad_id=1,
    ),
    Family(
        "jina_embeddings_v3-own-names",
        "JinaEmbeddingsV3",
        {"hidden_size": 16, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 13}
        | {"max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu_new"},
        own_names=True,
        prefix="roberta.",
    ),
    Family(
        "eurobert",
        "EuroBert",
        {**LLAMA, "hidden_size": 32, "num_attention_heads": 2, "attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-4},
    ),
    Family(
        "qwen2",
        "Qwen2",
        {**LLAMA, "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "use_sliding_window": True}
        | {"sliding_window": 5, "max_window_layers": 1},
        tokens="bytelevel",
    ),
    Family(
        "qwen3",
        "Qwen3",
        {**LLAMA, "hidden_size": 22, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 6}
        | {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 500.0, "original_max_position_embeddings": 16}},
        tokens="bytelevel",
    ),
    Family(
        "mistral",
        "Mistral",
        {**LLAMA, "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 7}
        | {"rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 1000.0}},
    ),
    Family(
        "mistral-both-ways",
        "Mistral",
        {**LLAMA, "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 7, "is_causal": False},
    ),
    Family(
        "llama",
        "Llama",
        {**LLAMA, "hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 3, "attention_bias": True, "mlp_bias": True}
        | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0}
           | {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
        prefix="model.",
    ),  # fmt: skip
    Family(
        "gemma3_text",
        "Gemma3Text",
        {**LLAMA, "num_hidden_layers": 4, "hidden_size": 22, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 10}
        | {"use_bidirectional_attention": True, "sliding_window": 9, "query_pre_attn_scalar": 7, "sliding_window_pattern": 3},
        norms_from_one=True,
    ),
    Family(
        "gemma3_text-causal",
        "Gemma3Text",
        {**LLAMA, "num_hidden_layers": 2, "hidden_size": 22, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
        | {"attention_bias": True, "sliding_window": 6, "layer_types": ["full_attention", "sliding_attention"]},
        norms_from_one=True,
    ),
    Family(
        "t5",
        "T5Encoder",
        {"d_model": 20, "d_kv": 6, "d_ff": 33, "num_layers": 2, "num_heads": 3, "relative_attention_num_buckets": 14}
        | {"relative_attention_max_distance": 30},
        tokens="unigram",
    ),
    Family(
        "mt5",
        "MT5Encoder",
        {"d_model": 20, "d_kv": 6, "d_ff": 33, "num_layers": 2, "num_heads": 3, "feed_forward_proj": "gated-gelu"},
        max_seq_length=150,
    ),
    Family(
        "umt5",
        "UMT5Encoder",
        {"d_model": 18, "d_kv": 5, "d_ff": 21, "num_layers": 3, "num_heads": 2, "feed_forward_proj": "gated-silu"}
        | {"relative_attention_num_buckets": 9, "relative_attention_max_distance": 19},
    ),
)


# ---------------------------------------------------------------------------------------------------------------------
# Tokenizers


def vocabulary(pad_id: int) -> Dict[str, int]:
    """generate.py's, with [PAD] where the family has it."""
    tokens = [token for token in generate.vocabulary() if token != "[PAD]"]
    tokens.insert(pad_id, "[PAD]")
    return {token: index for index, token in enumerate(tokens)}


def wordpiece(pad_id: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocab = vocabulary(pad_id)
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    around = [(token, vocab[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A $B [SEP]", special_tokens=around)
    return made


def unigram(pad_id: int) -> Any:
    """What a SentencePiece model becomes, as XLM-RoBERTa and T5 have it: pieces with a mark for the space before them."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces.insert(pad_id, "[PAD]")
    pieces += ["\u2581", *(f"\u2581{word}" for word in sorted(set(WORDS)))]
    pieces += [*"abcdefghijklmnopqrstuvwxyz0123456789.,!?", *"\u6cb3\u6df1\u4e16\u754c\u0430\u0435\u0438\u043a\u05e0\u0647\u00e9", "ing", "er", "th"]
    # Ties between ways to cut a word would be broken by rounding.
    scored = [(piece, -1.0 - 0.013 * index) for index, piece in enumerate(dict.fromkeys(pieces))]
    made = Tokenizer(models.Unigram(scored, unk_id=pieces.index("[UNK]"), byte_fallback=False))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    around = [(token, pieces.index(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A $B [SEP]", special_tokens=around)
    return made


def bytelevel(pad_id: int) -> Any:
    """Bytes and a few merges, as the Qwen models have it: nothing before a text and one token after it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("i", "n"), ("e", "r"), ("\u0120", "b"), ("r", "i"), ("ri", "v")]
    tokens = [*SPECIAL[1:], *alphabet, *(first + second for first, second in merges)]
    tokens.insert(pad_id, "[PAD]")
    vocab = {token: index for index, token in enumerate(tokens)}
    made = Tokenizer(models.BPE(vocab, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A $B [SEP]", special_tokens=[("[SEP]", vocab["[SEP]"])]
    )
    return made


TOKENIZERS: Dict[str, Callable[[int], Any]] = {"wordpiece": wordpiece, "unigram": unigram, "bytelevel": bytelevel}


def save_tokenizer(family: Family, folder: Path) -> int:
    """Returns how many tokens there are."""
    from transformers import PreTrainedTokenizerFast

    made = TOKENIZERS[family.tokens](family.pad_id)
    names = {f"{name}_token": token for name, token in zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL)}
    PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=family.max_seq_length, **names).save_pretrained(folder)
    return made.get_vocab_size()


# ---------------------------------------------------------------------------------------------------------------------
# Models


def random_model(family: Family, vocab_size: int) -> Any:
    """Every weight and bias drawn at random; transformers itself leaves biases at zero and norms at one."""
    import torch
    import transformers

    config_class = getattr(transformers, family.model.removesuffix("Encoder") + "Config")
    model_class = getattr(transformers, family.model + "Model")
    config = config_class(vocab_size=vocab_size, pad_token_id=family.pad_id, **family.config)
    model = model_class(config).eval()
    seed = int.from_bytes(hashlib.sha256(f"{family.name} {family.draw}".encode()).digest()[:4], "little")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() == 1 and name.endswith("weight"):
                weight.copy_((0 if family.norms_from_one else 1) + NORM_WEIGHT_STD * noise)
            elif weight is model.get_input_embeddings().weight:
                weight.copy_(noise)
            else:
                weight.copy_(family.weight_std * noise)
    return model


def save_family(family: Family, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer, models

    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch)
        vocab_size = save_tokenizer(family, source)
        # A few rows more than there are tokens, as many models have.
        random_model(family, vocab_size + 3).save_pretrained(source)
        transformer = models.Transformer(str(source), max_seq_length=family.max_seq_length)
        made = SentenceTransformer(modules=[transformer, models.Pooling(transformer.get_word_embedding_dimension(), "mean")])
        made.to("cpu").save_pretrained(str(folder), create_model_card=False)
    compact_tokenizer(folder / "tokenizer.json")
    rename_weights(family, folder / "model.safetensors", vocab_size + 3)


def rename_weights(family: Family, path: Path, vocab_size: int) -> None:
    from safetensors.torch import load_file, save_file

    if not family.prefix and not family.own_names:
        return
    weights = random_model(family, vocab_size).state_dict() if family.own_names else load_file(path)
    save_file({family.prefix + name: weight for name, weight in weights.items()}, path, metadata={"format": "pt"})


def check_loaded(family: Family, model: Any) -> None:
    """If a weight's name had not been recognised it would have been drawn at random, with no more than a warning."""
    import torch

    vocab_size = model[0].model.get_input_embeddings().weight.shape[0]
    expected = random_model(family, vocab_size).state_dict()
    for name, weight in model[0].model.state_dict().items():
        if not torch.equal(weight, expected[name]):
            sys.exit(f"golden: error: {family.name}: transformers does not load {name} from what was saved")


def rounding(model: Any, texts: Sequence[str]) -> float:
    """What float32's rounding of the weights, at random and a few times over, does to a vector, in shares of its length.

    A model and a text that make much of it would hold embedmill to the kernels of the processor at hand.
    """
    import numpy
    import torch

    model = copy.deepcopy(model).double()
    exact = model.encode(list(texts), show_progress_bar=False)
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    norms = numpy.maximum(numpy.linalg.norm(exact, axis=1), 1)
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for _ in range(ROUNDING_DRAWS):
        with torch.no_grad():
            for name, weight in model.named_parameters():
                noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                weight.copy_(weights[name] * (1 + torch.finfo(torch.float32).eps * noise))
        vectors = model.encode(list(texts), show_progress_bar=False)
        largest = max(largest, float((numpy.abs(vectors - exact).max(axis=1) / norms).max()))
    return largest


def write_weighted(model: Any, texts: Sequence[str], out: Path) -> None:
    """Changes the model: it hands out all its layers from then on."""
    import torch
    from safetensors.numpy import save_file
    from sentence_transformers.sentence_transformer.modules import WeightedLayerPooling

    config = model[0].model.config
    config.output_hidden_states = True
    # A group of ALBERT's has several.
    layers = config.num_hidden_layers * getattr(config, "inner_group_num", 1)
    width = model.get_sentence_embedding_dimension()
    weights = torch.tensor([1 + layer / 2 for layer in range(layers + 1)])
    model.insert(1, WeightedLayerPooling(width, num_hidden_layers=layers, layer_start=0, layer_weights=torch.nn.Parameter(weights)))
    save_file({"vectors": model.encode(list(texts)[::8], show_progress_bar=False)}, out)


def make(families: Sequence[Family], texts: Sequence[str], work: Path) -> None:
    for family in families:
        folder = work / family.name
        for draw in range(DRAWS):
            drawn = family._replace(draw=draw)
            save_family(drawn, folder)
            model = load_model(folder)
            found = rounding(model, texts)
            if found <= ROUNDING_MAX:
                break
        else:
            sys.exit(f"golden: error: {family.name}: all of {DRAWS} random models make much of rounding, the last {found:.1e}")
        check_loaded(drawn, model)
        write_vectors(model, texts, work / f"{family.name}.safetensors")
        # transformers 5.23 hands out of umT5's layers the first text's vectors alone (`OutputRecorder(UMT5Block, index=0)`, and
        # the block gives a tensor, not a tuple).
        if family.name != "umt5":
            write_weighted(model, texts, work / f"{family.name}.layers")
        if family.published:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | family.published
            config = {key: value for key, value in config.items() if value is not None}
            generate.write_json(folder / "config.json", config)


def read_texts() -> List[str]:
    lines = (HERE / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    return [generate.spelled_out(json.loads(line)) for line in lines]


def publish(work: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    for path in work.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for path in sorted(work.iterdir()):
        target = FOLDER / path.name
        if path.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(str(path), str(target))
        else:
            os.replace(path, target)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Makes a tiny model of every family and its golden vectors.")
    parser.add_argument("names", nargs="*", help="make only these; without any, all are made and what is gone is removed")
    options = parser.parse_args(arguments)
    generate.require_packages()
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch

    # One thread sums in one order.
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    known = {family.name: family for family in FAMILIES}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        sys.exit(f"golden: error: no family is called {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.names] or list(FAMILIES)
    with tempfile.TemporaryDirectory(prefix=".golden-", dir=HERE) as scratch:
        work = Path(scratch)
        make(chosen, read_texts(), work)
        if not options.names:
            shutil.rmtree(FOLDER, ignore_errors=True)
        publish(work)
    total_bytes = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    say(f"{len(chosen)} families; {total_bytes / 1e6:.2f} MB in {FOLDER.relative_to(generate.REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
