"""Measured scores in the card of an encoder, where the hub looks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.errors import first_line
from dino_st.support.files import CARD, write_text
from dino_st.support.progress import logger

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask


def add_scores(directory: Path, scores: Mapping[str, float], tasks: Iterable[AbsTask], protocol: str) -> None:
    """States scores in the `model-index` of a card, from -1 to 1 as mteb does; those of the same kind are replaced.

    Tasks are described by their data: that of the hub, or `local/NAME` with the hash of the pairs.
    """
    import yaml
    from huggingface_hub import EvalResult, ModelCard

    file = directory / CARD
    if not file.is_file():
        logger.warning("%s: there is no card to add scores to", directory)
        return
    try:
        card = ModelCard.load(file)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        logger.warning("%s: its header cannot be read (%s), so that no scores are added to it", file, first_line(error))
        return
    added = []
    for task in tasks:
        about = task.metadata
        metric = about.main_score if protocol == "all" or not getattr(task, "has_sources", False) else protocol
        added.append(
            EvalResult(
                task_type=about.type,
                dataset_type=about.dataset["path"],
                dataset_name=about.name,
                dataset_revision=about.dataset["revision"],
                dataset_split=", ".join(task.eval_splits),
                metric_type=metric,
                metric_name=metric,
                metric_value=round(scores[about.name] / 100, 6),
            )
        )
    kept = [one for one in card.data.eval_results or [] if not any(map(one.is_equal_except_value, added))]
    card.data.eval_results = kept + added
    card.data.model_name = card.data.model_name or directory.name
    write_text(file, str(card))
