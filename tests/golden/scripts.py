#!/usr/bin/env python3
"""Makes the TorchScript files that embedmill's tests load.

In:    Python with sentence-transformers; the tiny models and families beside this file.
Out:   scripts/<name>.pt     tiny models as scripts/export_torchscript.py makes them, whose vectors are those of <name>.safetensors,
                             and modules of a few lines that give their vectors in other ways, or wrongly
Keeps: nothing else.
Fails: with the command that installs what is missing.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Dict, List, Optional, Tuple

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts"))

import export_torchscript
import torch

FOLDER = HERE / "scripts"


def vectors(ids: torch.Tensor) -> torch.Tensor:
    """Token vectors that are easy to know: (id, 2 id, -id / 4)."""
    numbers = ids.to(torch.float32)
    return torch.stack([numbers, 2.0 * numbers, -0.25 * numbers], dim=-1)


class InTuple(torch.nn.Module):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        return vectors(ids), mask


class InList(torch.nn.Module):
    def forward(self, attention_mask: torch.Tensor, input_ids: torch.Tensor) -> List[torch.Tensor]:
        return [vectors(input_ids)]


class InDictionary(torch.nn.Module):
    """Its token vectors are in half precision; those of the last layer are the token types, which are 0."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor, position_ids: Optional[torch.Tensor] = None
    ) -> Dict[str, torch.Tensor]:
        return {
            "last_hidden_state": token_type_ids.unsqueeze(-1).to(torch.float32),
            "token_embeddings": (vectors(input_ids) + token_type_ids.unsqueeze(-1)).to(torch.float16),
        }


class Trained(torch.nn.Module):
    """Saved while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.dropout(vectors(input_ids))


class WithoutMask(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return vectors(input_ids)


class MaskIgnored(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return vectors(input_ids).mean(dim=1)


class FlatShape(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return (input_ids * attention_mask).sum(dim=1).to(torch.float32)


class NotFinite(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return vectors(input_ids) / 0.0 - vectors(input_ids) / 0.0


class WholeNumbers(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return input_ids.unsqueeze(-1)


class OtherKeys(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Dict[str, torch.Tensor]:
        return {"logits": vectors(input_ids)}


class AlwaysFails(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return vectors(input_ids).view(7, 1_000_003)


class NoForward(torch.nn.Module):
    @torch.jit.export
    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        return vectors(input_ids)


MODULES = (
    InTuple, InList, InDictionary, Trained, WithoutMask, MaskIgnored, FlatShape, NotFinite, WholeNumbers, OtherKeys, AlwaysFails, NoForward,
)  # fmt: skip
# A model whose places depend on the padding's id, and one with all its modules in the script.
MODELS = (("mean", "tiny/mean", False), ("roberta", "families/roberta", False), ("cls-text", "tiny/cls", True))


def kebab(name: str) -> str:
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).removeprefix("-")


def main() -> int:
    warnings.simplefilter("ignore")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TQDM_DISABLE", "1")
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.pt"):
        path.unlink()
    for module in MODULES:
        torch.jit.script(module()).save(str(FOLDER / f"{kebab(module.__name__)}.pt"))
    for name, model, text_vectors in MODELS:
        export_torchscript.export(str(HERE / model), FOLDER / f"{name}.pt", text_vectors)
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"golden: {len(MODULES) + len(MODELS)} scripts; {size / 1e3:.0f} kB in {FOLDER.relative_to(HERE.parent.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
