"""The part of an encoder's card that says what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dino_st.contrastive_options import ContrastiveOptions
from dino_st.files import write_text
from dino_st.markdown import facts_table
from dino_st.training_run import TrainingRecord

_HEADING = "## Training data: written by a language model"


def add_provenance(card: Path, record: TrainingRecord) -> None:
    """Adds a section on data and training to the card that sentence-transformers wrote; an earlier one is replaced.

    Args:
        card: The README.md of the model.
        record: The finished run.

    Raises:
        OutputError: The card cannot be written.
    """
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    write_text(card, f"{text.partition(_HEADING)[0].rstrip()}\n\n{provenance_section(record)}")


def provenance_section(record: TrainingRecord) -> str:
    """The section as Markdown.

    Args:
        record: The finished run.

    Returns:
        A heading, what to know about the data, and the facts as tables.
    """
    scores = [("untrained start", record.start), *((f"step {score.step}", score.spearman) for score in record.curve)]
    best = record.best.step if record.best else None
    shown = {name: "undefined" if value is None else f"{100 * value:.2f}" for name, value in scores}
    return "\n".join(
        [
            _HEADING,
            "",
            f"{_about(record)} Trained with dino-st from `{record.encoder}`.",
            "",
            facts_table("fact", {**flatten(record.provenance), **record.data}),
            "",
            f"Spearman × 100 on {_validation(record)} (the checkpoint of step {best} was kept):",
            "",
            facts_table("evaluation", shown),
            "",
        ]
    )


def _about(record: TrainingRecord) -> str:
    """What the data is, and whether people had a part in it."""
    if not isinstance(record.options, ContrastiveOptions):
        return (
            "A language model wrote the second sentence of each pair from an instruction that stands for the score "
            "(DINO, [arXiv 2104.07540](https://arxiv.org/abs/2104.07540)). No human label was used, neither to train "
            "nor to choose the checkpoint."
        )
    labels = (
        "No human label was used to train; the checkpoint was chosen by pairs that people scored."
        if record.options.checkpoint_choice == "sts-dev"
        else "No human label was used, neither to train nor to choose the checkpoint."
    )
    return (
        "Trained with a contrastive loss on triplets whose positives and hard negatives a language model wrote (the "
        "training of SynCSE, [arXiv 2305.15077](https://arxiv.org/abs/2305.15077)). " + labels
    )


def _validation(record: TrainingRecord) -> str:
    options = record.options
    if isinstance(options, ContrastiveOptions) and options.checkpoint_choice == "sts-dev":
        return "the development pairs of the STS Benchmark and SICK, averaged"
    return "the generated validation split"


def flatten(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as one level, their names joined by dots.

    Example:
        >>> flatten({"task": {"name": "sts-x2"}})
        {'task.name': 'sts-x2'}

    Args:
        facts: Names and values; a value may be such a mapping itself.
        prefix: What to put before the names.

    Returns:
        Names and values that are no mappings.
    """
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
