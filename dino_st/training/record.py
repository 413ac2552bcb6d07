"""The record of a training run: what it is, how far it came, what it may continue, and what people are told of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from dino_st.data.cards import SYNTHETIC, writer_of
from dino_st.data.columns import ROWS_HASH
from dino_st.errors import OutputError, TrainingError
from dino_st.support.documents import read_validated
from dino_st.support.files import CARD, TRAINING_RECORD, is_content, make_directory, write_text
from dino_st.support.options import are_others, changes
from dino_st.support.text import facts_table, flat_facts
from dino_st.training.options import ContrastiveOptions, TrainingOptions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformerModelCardData

CHECKPOINTS = "checkpoints"
"""The folder of the trainer's checkpoints, removed after success."""

TRACKED = "runs"
"""The folder of TensorBoard's event files."""

JUDGED = "validation pairs that people judged"
"""What the provenance calls them, where the checkpoint was chosen by them."""

RATED = "validation pairs that others than people rated"
"""What it calls pairs with the scores of a judge, or of another data set; `by` says whose they are."""

PEOPLE = "people"

PAIRS = "pairs"
"""What it calls the origin of pairs that were trained on along with triplets."""

_FORMAT = "dino-st training run, version 1"
_MODEL_FILES = ("modules.json", "config.json", "model.safetensors", CARD)
_FREE_OPTIONS = {
    "device",
    "keep_checkpoints",
    "weights_only",
    "gradient_checkpointing",
    "one_forward",
    "torch_compile",
    "dataloader_num_workers",
    "report_to",
}
_CARD_HEADING = "## Training data: "


class Score(BaseModel):
    """Spearman's correlation on the validation split after some steps, from -1 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    spearman: float


class Average(BaseModel):
    """The mean of the weights before training and those of the best checkpoint, and its score as in `Score`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_share: float
    spearman: float


class TrainingRecord(BaseModel):
    """What `training.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = _FORMAT
    status: Literal["running", "complete"] = "running"  # whether the model beside it is the outcome
    options: TrainingOptions | ContrastiveOptions
    encoder: str  # name or directory that training started from
    encoder_revision: str | None  # hash of the content of that directory or object; none for a name on the hub
    data: dict[str, int | str]  # rows of each split, and a hash of all of them
    provenance: dict[str, Any]  # where the data came from
    processes: int  # that trained together
    versions: dict[str, str]  # of the packages that matter
    start: float | None = None  # Spearman of the untrained start; null where it is undefined
    curve: tuple[Score, ...] = ()  # Spearman at every evaluation
    best: Score | None = None  # the evaluation whose checkpoint was kept
    averages: tuple[Average, ...] = ()  # of the start and that checkpoint, the one that was kept first
    seconds: float | None = None  # of training and evaluation since the last start or resumption
    hardware: str | None = None  # as torch names it

    @property
    def validation_kind(self) -> str:
        """What the pairs are that choose the checkpoint.

        They were `judged` by people, `rated` by others, `human-scored`, `generated`, or, of unknown origin, `given`.
        """
        if JUDGED in self.provenance or RATED in self.provenance:
            return "judged" if JUDGED in self.provenance else "rated"
        if self._is_by_human_scores:
            return "human-scored"
        return "generated" if self.is_generated else "given"

    @property
    def is_generated(self) -> bool:
        """Whether it is recorded that a language model wrote all that the encoder is trained on."""
        pairs = self.provenance.get(PAIRS, self.provenance)
        return None not in (writer_of(self.provenance), writer_of(pairs))

    @property
    def _is_by_human_scores(self) -> bool:
        return isinstance(self.options, ContrastiveOptions) and self.options.checkpoint_choice == "sts-dev"

    @property
    def validated_on(self) -> str:
        """What the checkpoint was chosen by, in words."""
        if self._is_by_human_scores:
            return "STSb and SICK dev, averaged"
        if isinstance(self.options, ContrastiveOptions):
            more = " and the validation pairs, averaged" if PAIRS in self.provenance else ""
            return f"pairs of the {self.validation_kind} validation triplets{more}"
        return f"the {self.validation_kind} validation pairs"


def read_record(directory: Path) -> TrainingRecord | None:
    """Reads the record of a run; None where the directory is missing or empty.

    An OutputError says that it is a file, holds something else, or that its record is damaged.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory}: is a file; expected a directory to write to")
    if not directory.is_dir() or not any(map(is_content, directory.iterdir())):
        return None
    file = directory / TRAINING_RECORD
    try:
        record = read_validated(file, TrainingRecord, OutputError, "delete the directory to start over")
    except FileNotFoundError as error:
        raise OutputError(
            f"{directory}: holds something else than a training run; choose another directory or empty it"
        ) from error
    if record.format != _FORMAT:
        raise OutputError(f"{file}: format is {record.format!r}; expected {_FORMAT!r}")
    return record


def write_record(directory: Path, record: TrainingRecord) -> None:
    """Writes the record whole or not at all; the directory is made if missing."""
    make_directory(directory)
    content = json.dumps(record.model_dump(mode="json"), ensure_ascii=False, indent=2)
    write_text(directory / TRAINING_RECORD, content + "\n")


def check_same_run(directory: Path, old: TrainingRecord, new: TrainingRecord) -> None:
    """Makes sure that a run may continue another one; an OutputError names what differs in options, data or encoder."""
    if found := differences(old, new):
        raise OutputError(
            f"{directory}: holds another training run ({'; '.join(found)}). Choose another directory, repeat the call "
            "as it was, or replace that run with overwrite=True"
        )


def differences(old: TrainingRecord, new: TrainingRecord) -> list[str]:
    """What one run has otherwise than another, in words."""
    free = _FREE_OPTIONS | ({"start_share"} if old.status == "running" else set())  # which has its turn in the end
    found = changes(*(one.options.model_dump(exclude=free) for one in (old, new)))
    names = list(dict.fromkeys((*new.data, *old.data)))
    for name in names:
        part = name.removesuffix(ROWS_HASH)
        if part != name and old.data.get(name) != new.data.get(name):
            counted = next(other for other in names if other.startswith(f"{part} ") and other != name)
            found.append(are_others(counted, *(one.data.get(counted, "none") for one in (old, new))))
    if (old.encoder_revision or old.encoder) != (new.encoder_revision or new.encoder):
        what = changes({"encoder": old.encoder}, {"encoder": new.encoder})
        found += what or [f"the content of encoder {new.encoder!r} has changed, as that of an object does in training"]
    return found


def training_summary(directory: Path) -> str:
    """A sentence about how a finished training went."""
    record = read_record(directory)
    if record is None or record.best is None:
        raise TrainingError(f"{directory}: training left no record of its scores; run it again")
    return (
        f"Spearman × 100 on {record.validated_on}: {hundredfold(record.start)} untrained, {kept_in_words(record)} "
        f"(kept), {record.seconds:.0f} s. The encoder is in {directory}"
    )


def kept_in_words(record: TrainingRecord) -> str:
    """The score of the best checkpoint, and of what was made of it; a dash before the first evaluation."""
    if record.best is None:
        return "–"
    found = f"{hundredfold(record.best.spearman)} at step {record.best.step:,}"
    if record.averages and (kept := record.averages[0]).start_share:
        found += f", {hundredfold(kept.spearman)} with a share of {kept.start_share:g} of the start's weights"
    return found


def fill_card(card: SentenceTransformerModelCardData, record: TrainingRecord) -> None:
    """Says in sentence-transformers' own card what is known of the task and the data's language.

    The licence is nobody's to guess: `--license` states it.
    """
    card.task_name = "semantic textual similarity"
    card.add_tags(["dino-st", SYNTHETIC] if record.is_generated else ["dino-st"])
    if language := record.provenance.get("language"):
        card.set_language(language)


def add_to_card(card: Path, record: TrainingRecord) -> None:
    """Adds a section on data and training to the card that sentence-transformers wrote; an earlier one is replaced."""
    kind = "triplets" if isinstance(record.options, ContrastiveOptions) else "pairs"
    title = "written by a language model" if record.is_generated else f"given {kind}"
    curve = {f"step {score.step}": hundredfold(score.spearman) for score in record.curve}
    best = f"the checkpoint of step {record.best and record.best.step} was kept"
    if record.averages:
        kept = record.averages[0].start_share
        best += f", in the mean with the start's weights, whose share is {kept:g}" if kept else ""
        found = sorted((each.start_share, each.spearman) for each in record.averages)
        curve |= {f"share of the start {share:g}": hundredfold(spearman) for share, spearman in found}
    section = [
        _CARD_HEADING + title,
        f"{_how_trained(record)} {_whose_labels(record)} Trained with dino-st from `{record.encoder}`.",
        facts_table("fact", {**flat_facts(record.provenance), **record.data}),
        f"Training and evaluation took {record.seconds or 0:,.0f} seconds on {record.hardware or 'unknown hardware'}.",
        f"Spearman × 100 on {record.validated_on} ({best}):",
        facts_table("evaluation", {"untrained start": hundredfold(record.start), **curve}),
    ]
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    write_text(card, "\n\n".join([text.partition(_CARD_HEADING)[0].rstrip(), *section]) + "\n")


def _how_trained(record: TrainingRecord) -> str:
    """What the card says of the data and the losses."""
    options = record.options
    if isinstance(options, ContrastiveOptions):
        return "Trained with a contrastive loss on triplets" + (
            " whose positives and hard negatives a language model wrote (the training of SynCSE, [arXiv 2305.15077]"
            "(https://arxiv.org/abs/2305.15077))."
            if record.is_generated
            else "."
        )
    how = (
        "A language model wrote the second sentence of each pair from an instruction that stands for the score "
        "(DINO, [arXiv 2104.07540](https://arxiv.org/abs/2104.07540))."
        if record.is_generated
        else "Trained on pairs of sentences with scores."
    )
    if options.objective == "joint":
        how += (
            f" The pairs of a score of at least {options.positive_score:g} were contrasted with one another as well "
            "(MultipleNegativesRankingLoss), each loss on batches of its own."
        )
    return how


def _whose_labels(record: TrainingRecord) -> str:
    """What the card says of people's part in labels and checkpoint, as far as it is recorded."""
    whose = {
        "judged": "people judged",
        "rated": f"have the scores of {record.provenance.get(RATED, {}).get('by')}",
        "human-scored": "people scored",
    }.get(record.validation_kind)
    known = "Who wrote and labelled the data is not recorded"
    if record.is_generated:
        share = " to train" if whose else ", neither to train nor to choose the checkpoint"
        known = "No human label was used" + share
    return f"{known}." if whose is None else f"{known}; the checkpoint was chosen by pairs that {whose}."


def hundredfold(spearman: float | None) -> str:
    """A correlation × 100, in words where there is none."""
    return "undefined" if spearman is None else f"{100 * spearman:.2f}"


def clear_run(directory: Path) -> None:
    """Removes the checkpoints, the curves and the model of an earlier run; other files stay."""
    remove_checkpoints(directory)
    shutil.rmtree(directory / TRACKED, ignore_errors=True)
    for name in _MODEL_FILES:
        (directory / name).unlink(missing_ok=True)


def remove_checkpoints(directory: Path) -> None:
    """Removes the trainer's checkpoints."""
    shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
