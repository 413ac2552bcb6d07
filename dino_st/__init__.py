"""Train sentence encoders on data that a causal language model writes from instructions.

The public names are loaded when they are first used (PEP 562), so that `import dino_st` imports neither torch nor
transformers. Sources of the method: DINO (arXiv 2104.07540), self-debiasing (arXiv 2103.00453), SynCSE
(arXiv 2305.15077).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dino_st.builder import DinoDatasetBuilder
    from dino_st.data.pairs import read_reference_jsonl
    from dino_st.errors import DinoError, DinoWarning
    from dino_st.evaluation.evaluate import evaluate_encoder
    from dino_st.pipeline.publish import push_to_hub
    from dino_st.pipeline.recipe import run_recipe
    from dino_st.preparation.prepare import prepare_pairs
    from dino_st.preparation.triplets import prepare_triplets, to_triplets
    from dino_st.syncse.run import generate_triplets
    from dino_st.tasks.spec import LabelSpec, TaskSpec
    from dino_st.training.fit import to_dataloader, to_input_examples, warmup_steps
    from dino_st.training.train import train_contrastive, train_encoder

_HOMES = {
    "DinoDatasetBuilder": "builder",
    "DinoError": "errors",
    "DinoWarning": "errors",
    "LabelSpec": "tasks.spec",
    "TaskSpec": "tasks.spec",
    "evaluate_encoder": "evaluation.evaluate",
    "generate_triplets": "syncse.run",
    "prepare_pairs": "preparation.prepare",
    "prepare_triplets": "preparation.triplets",
    "push_to_hub": "pipeline.publish",
    "read_reference_jsonl": "data.pairs",
    "run_recipe": "pipeline.recipe",
    "to_dataloader": "training.fit",
    "to_input_examples": "training.fit",
    "to_triplets": "preparation.triplets",
    "train_contrastive": "training.train",
    "train_encoder": "training.train",
    "warmup_steps": "training.fit",
}

__all__ = [
    "DinoDatasetBuilder",
    "DinoError",
    "DinoWarning",
    "LabelSpec",
    "TaskSpec",
    "__version__",
    "evaluate_encoder",
    "generate_triplets",
    "prepare_pairs",
    "prepare_triplets",
    "push_to_hub",
    "read_reference_jsonl",
    "run_recipe",
    "to_dataloader",
    "to_input_examples",
    "to_triplets",
    "train_contrastive",
    "train_encoder",
    "warmup_steps",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("dino-st")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
