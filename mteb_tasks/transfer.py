"""SentEval's seven transfer tasks: a logistic regression on frozen embeddings, as papers report them beside STS.

The protocol is that of SentEval (Conneau and Kiela 2018, arXiv 1803.05449) with its scikit-learn classifier: L2
regularisation chosen by validation, nested ten-fold cross-validation where the data has no splits (MR, CR, SUBJ, MPQA),
cross-validation on the training file (TREC, MRPC), or a validation file (SST2).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from datasets import Dataset, DatasetDict
from mteb._create_dataloaders import create_dataloader
from mteb.abstasks import AbsTask
from mteb.abstasks._statistics_calculation import calculate_label_statistics, calculate_text_statistics
from mteb.benchmarks.benchmark import Benchmark
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from dino_st.errors import DatasetError, InputError
from mteb_tasks.abstask import EmbeddingRecorder, local_metadata, sts_metadata
from mteb_tasks.sts_files import TRANSFER_LAYOUT, find_root, read_lines
from mteb_tasks.tasks import bibtex
from mteb_tasks.variables import SENTEVAL_DIR_VARIABLE, STS_DIR_VARIABLE

if TYPE_CHECKING:
    from mteb.models import MTEBModels

TRANSFER_BENCHMARK = "DinoTransfer(eng, v1)"

_FOLDS, _SEED = 10, 1111
"""Of SentEval."""

NESTED_GRID = tuple(2.0**power for power in range(-2, 4))
CROSS_VALIDATED_GRID = tuple(2.0**power for power in range(-1, 6))
"""SentEval's grids of C, the inverse of the strength of regularisation, for its scikit-learn classifiers."""

_TREC = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
_NEWTON = 1024
"""Features up to which Newton's method, which solves a system of that many equations a step, is the faster solver."""

Matrix = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """A file, or one for each class, that together make a split.

    Several files hold one sentence a line, and belong to class 1, class 0; those of Pang and Lee are in Latin-1 where
    SentEval's script has not converted them. A line of a single file is read by its form:
    `sst` (sentence, tab, label), `trec` (label and question) or `mrpc` (label, two numbers and two sentences,
    tab-separated, below a header).
    """

    split: str
    files: tuple[str, ...]  # below the root
    sizes: tuple[int, ...]  # how many examples there may be
    form: str = "sentence"

    def read(self, root: Path) -> Dataset:
        """Reads the examples into `label` and `text`, or `sentence1` and `sentence2`.

        Raises InputError where a file is missing or malformed (it names file and line), and DatasetError where there
        are more or fewer examples than were published.
        """
        rows = []
        for label, name in zip((1, 0), self.files, strict=False):
            path = root / name
            for number, line in enumerate(read_lines(path, root, TRANSFER_LAYOUT, otherwise="latin-1"), start=1):
                if self.form == "sentence":
                    rows.append({"text": _tokens(line), "label": label})
                elif self.form != "mrpc" or number > 1:
                    rows.append(_parse(self.form, line, f"'{path}', line {number}"))
        if len(rows) not in self.sizes:
            raise DatasetError(
                f"'{root / self.files[0]}': {len(rows)} examples, the published data has "
                f"{' or '.join(map(str, self.sizes))}. Scores on it would not be comparable with any paper's; use the "
                "unmodified files."
            )
        rows.sort(key=lambda row: ([len(text.split()) for text in row.values() if isinstance(text, str)], row["label"]))
        return Dataset.from_list(rows)  # in SentEval's order, so that the folds are SentEval's


def _tokens(text: str) -> str:
    """The text with single spaces; SentEval embeds a full stop for the few lines that are blank."""
    return " ".join(text.split()) or "."


def _parse(form: str, line: str, where: str) -> dict[str, Any]:
    fields = line.split("\t")
    if form == "sst" and len(fields) == 2 and fields[1].strip() in ("0", "1"):
        return {"text": _tokens(fields[0]), "label": int(fields[1])}
    if form == "mrpc" and len(fields) == 5 and fields[0].strip() in ("0", "1"):
        return {"sentence1": _tokens(fields[3]), "sentence2": _tokens(fields[4]), "label": int(fields[0])}
    kind, _, question = line.partition(" ")
    if form == "trec" and kind.partition(":")[0] in _TREC and question.strip():
        return {"text": _tokens(question), "label": _TREC.index(kind.partition(":")[0])}
    raise InputError(f"{where}: {line[:60]!r} is no line of this file. Download the file again.")


def nested_cross_validation(features: Matrix, labels: Matrix) -> tuple[float, float]:
    """Accuracy on held-out tenths, with C chosen by cross-validation on the other nine, as SentEval does it.

    Features have shape (examples, dimensions), labels (examples,). Returns the accuracies in validation and on the
    held-out tenths, means over the ten, between 0 and 1.
    """
    dev, test = [], []
    for train, held_out in _folds(labels):
        chosen, predicted = choose_and_predict(features[train], labels[train], features[held_out], NESTED_GRID)
        dev.append(chosen)
        test.append(np.mean(predicted == labels[held_out]))
    return float(np.mean(dev)), float(np.mean(test))


def choose_and_predict(
    features: Matrix,
    labels: Matrix,
    test: Matrix,
    grid: Sequence[float],
    validation: tuple[Matrix, Matrix] | None = None,
) -> tuple[float, Matrix]:
    """Chooses C, fits it to all training examples, and predicts the classes of the test examples.

    The grid holds values of C, the inverse of the strength of L2 regularisation; of equally good ones the first is
    chosen, by features and labels given for validation or by ten-fold cross-validation. Features have shape (examples,
    dimensions). Returns the accuracy in validation of the chosen C, between 0 and 1, and a class for each row of
    `test`.
    """
    if validation is None:
        folds = [(features[a], labels[a], features[b], labels[b]) for a, b in _folds(labels)]
    else:
        folds = [(features, labels, *validation)]
    means = np.round(100 * np.mean([_accuracies(*fold, grid) for fold in folds], axis=0), 2)  # as SentEval rounds
    best = int(np.argmax(means))
    classifier = _classifier(features, labels).set_params(C=grid[best]).fit(features, labels)
    return float(means[best] / 100), classifier.predict(test)


def _folds(labels: Matrix) -> list[tuple[Matrix, Matrix]]:
    splitter = StratifiedKFold(n_splits=_FOLDS, shuffle=True, random_state=_SEED)
    return list(splitter.split(np.zeros(len(labels)), labels))


def _accuracies(train: Matrix, labels: Matrix, test: Matrix, expected: Matrix, grid: Sequence[float]) -> list[float]:
    """The accuracy for each C; each fit starts from the one before."""
    classifier = _classifier(train, labels).set_params(warm_start=True)
    return [float(classifier.set_params(C=c).fit(train, labels).score(test, expected)) for c in grid]


def _classifier(features: Matrix, labels: Matrix) -> LogisticRegression:
    """SentEval's classifier; its minimum is one point, whichever solver finds it."""
    is_quick = features.shape[1] <= _NEWTON and len(np.unique(labels)) == 2
    return LogisticRegression(solver="newton-cholesky" if is_quick else "lbfgs", random_state=_SEED, max_iter=1000)


class AbsTaskTransfer(AbsTask):
    """A transfer task, whose data is read from files in SentEval layout.

    The main score is the accuracy on the test data. Results also hold `dev_accuracy`, that of the validation by which
    the strength of regularisation was chosen, and `f1` where there is a test file of two classes.
    """

    parts: ClassVar[tuple[Part, ...]]  # the files of each split; `test` alone where cross-validation makes the splits
    abstask_prompt = "Classify user passages."

    def __init__(self, seed: int = 42, *, senteval_dir: str | Path | None = None, **kwargs: Any) -> None:
        """Prepares the task; no file is read before `load_data`.

        Args:
            seed: mteb's seed; folds are drawn with SentEval's own.
            senteval_dir: Directory in SentEval layout; None for the one that DINO_ST_SENTEVAL_DIR names, else the one
                of the STS data (DINO_ST_STS_DIR), since SentEval keeps both in one.
            **kwargs: Handed on to mteb.
        """
        super().__init__(seed=seed, **kwargs)
        self.senteval_dir = senteval_dir

    def read_splits(self) -> dict[str, Dataset]:
        """Reads every split; raises as `Part.read` does, and InputError where no directory is named."""
        given = self.senteval_dir or os.environ.get(SENTEVAL_DIR_VARIABLE) or os.environ.get(STS_DIR_VARIABLE)
        if not given:
            raise InputError(
                f"{self.metadata.name} reads local files. Give a directory in SentEval layout with `--senteval-dir "
                f"DIR`, `senteval_dir=...` or the variable {SENTEVAL_DIR_VARIABLE}:\n{TRANSFER_LAYOUT}"
            )
        folder = self.parts[0].files[0].partition("/")[0]
        root = find_root(given, [folder], "SentEval", TRANSFER_LAYOUT)
        return {part.split: part.read(root) for part in self.parts}

    def data_revision(self) -> str:
        """The hash of the local files' content; raises as `read_splits` does."""
        return _revision(self.read_splits())

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ARG002 (as mteb calls it)
        """Loads the local files; raises as `read_splits` does."""
        if not self.data_loaded:
            splits = self.read_splits()
            self.metadata = local_metadata(type(self).metadata, _revision(splits))
            self.dataset, self.data_loaded = cast("Any", DatasetDict(splits)), True

    def _evaluate_subset(
        self, model: MTEBModels, data_split: Any, *, hf_subset: str, encode_kwargs: Any, **_: Any
    ) -> dict[str, float]:
        del data_split  # the other splits are needed, too
        splits: Mapping[str, Dataset] = cast("Any", self.dataset)
        columns = {name: [c for c in rows.column_names if c != "label"] for name, rows in splits.items()}
        recorder = EmbeddingRecorder(model, self.metadata.name)

        def encode(split: str, column: str) -> Matrix:
            texts = Dataset.from_dict({"text": splits[split][column]})
            batches = create_dataloader(texts, task_metadata=self.metadata, input_column="text", **encode_kwargs)
            recorder.encode(batches, task_metadata=self.metadata, hf_split=split, hf_subset=hf_subset, **encode_kwargs)
            return recorder.embeddings.pop()

        features = {split: _features([encode(split, column) for column in columns[split]]) for split in splits}
        labels = {split: np.asarray(rows["label"]) for split, rows in splits.items()}
        with threadpool_limits(1):  # the last digit, and so the chosen C, changes with threads; and more only wait
            return self._score(features, labels)

    @staticmethod
    def _score(features: Mapping[str, Matrix], labels: Mapping[str, Matrix]) -> dict[str, float]:
        """What the task reports of each split's features and labels."""
        if len(features) == 1:
            dev, test = nested_cross_validation(features["test"], labels["test"])
            return {"accuracy": test, "dev_accuracy": dev}
        if "validation" in features:
            grid, given = NESTED_GRID, (features["validation"], labels["validation"])
        else:
            grid, given = CROSS_VALIDATED_GRID, None
        dev, predicted = choose_and_predict(features["train"], labels["train"], features["test"], grid, given)
        scores = {"accuracy": float(np.mean(predicted == labels["test"])), "dev_accuracy": dev}
        if len(np.unique(labels["test"])) == 2:
            scores["f1"] = float(f1_score(labels["test"], predicted))
        return scores

    def _calculate_descriptive_statistics_from_split(self, split: str, **_: Any) -> Any:
        rows: Dataset = cast("Any", self.dataset)[split]
        texts = [text for column in rows.column_names if column != "label" for text in rows[column]]
        return {
            "num_samples": len(rows),
            "text_statistics": calculate_text_statistics(texts),
            "label_statistics": calculate_label_statistics(list(rows["label"])),
        }


def _features(embeddings: Sequence[Matrix]) -> Matrix:
    """What is classified: an embedding, or of two |u − v| and u · v, as SentEval does it for MRPC."""
    if len(embeddings) == 1:
        return embeddings[0]
    first, second = embeddings
    return np.hstack([np.abs(first - second), first * second])


def _revision(splits: Mapping[str, Dataset]) -> str:
    """Forty hexadecimal digits of the SHA-256 of every split's name and rows."""
    digest = hashlib.sha256()
    for name, rows in splits.items():
        digest.update(json.dumps([name, rows.to_list()], sort_keys=True).encode())
    return digest.hexdigest()[:40]


def _metadata(name: str, description: str, **fields: Any) -> Any:
    defaults = {"type": "Classification", "category": "t2c", "main_score": "accuracy", "domains": ["Written"]}
    return sts_metadata(
        name=f"Dino{name}",
        description=f"{description} A logistic regression on frozen embeddings, under SentEval's protocol.",
        dataset={"path": f"local/Dino{name}", "revision": "unread"},
        bibtex_citation=bibtex("conneau-kiela-2018-senteval"),
        annotations_creators="human-annotated",
        sample_creation="found",
        **defaults | fields,
    )


_SENTIMENT = {"task_subtypes": ["Sentiment/Hate speech"], "domains": ["Reviews", "Written"]}


class DinoMR(AbsTaskTransfer):
    """Sentences of film reviews, positive or negative (Pang and Lee 2005)."""

    parts = (Part("test", ("MR/rt-polarity.pos", "MR/rt-polarity.neg"), (10_662,)),)
    metadata = _metadata(
        "MR",
        "Sentences of film reviews, positive or negative.",
        reference="https://aclanthology.org/P05-1015",
        date=("2000-01-01", "2005-12-31"),
        **_SENTIMENT,
    )


class DinoCR(AbsTaskTransfer):
    """Sentences of customer reviews, positive or negative (Hu and Liu 2004)."""

    parts = (Part("test", ("CR/custrev.pos", "CR/custrev.neg"), (3_775,)),)
    metadata = _metadata(
        "CR",
        "Sentences of customer reviews, positive or negative.",
        reference="https://doi.org/10.1145/1014052.1014073",
        date=("2000-01-01", "2004-12-31"),
        **_SENTIMENT,
    )


class DinoSUBJ(AbsTaskTransfer):
    """Sentences of film plots and reviews, objective or subjective (Pang and Lee 2004)."""

    parts = (Part("test", ("SUBJ/subj.objective", "SUBJ/subj.subjective"), (10_000,)),)
    metadata = _metadata(
        "SUBJ",
        "Sentences on films, objective (of plots) or subjective (of reviews).",
        reference="https://aclanthology.org/P04-1035",
        date=("2000-01-01", "2004-12-31"),
    )


class DinoMPQA(AbsTaskTransfer):
    """Phrases of news, of positive or negative opinion (Wiebe et al. 2005)."""

    parts = (Part("test", ("MPQA/mpqa.pos", "MPQA/mpqa.neg"), (10_606,)),)
    metadata = _metadata(
        "MPQA",
        "Phrases of news articles, of positive or negative opinion.",
        reference="https://doi.org/10.1007/s10579-005-7880-9",
        date=("2001-01-01", "2005-12-31"),
        domains=["News", "Written"],
    )


class DinoSST2(AbsTaskTransfer):
    """The Stanford Sentiment Treebank's sentences, positive or negative (Socher et al. 2013)."""

    parts = (
        Part("train", ("SST/binary/sentiment-train",), (67_349, 6_920), "sst"),  # with phrases, as in SentEval, or not
        Part("validation", ("SST/binary/sentiment-dev",), (872,), "sst"),
        Part("test", ("SST/binary/sentiment-test",), (1_821,), "sst"),
    )
    metadata = _metadata(
        "SST2",
        "The Stanford Sentiment Treebank with two classes.",
        reference="https://aclanthology.org/D13-1170",
        date=("2000-01-01", "2013-12-31"),
        **_SENTIMENT,
    )


class DinoTREC(AbsTaskTransfer):
    """Questions by what they ask for, six classes (Li and Roth 2002)."""

    parts = (
        Part("train", ("TREC/train_5500.label",), (5_452,), "trec"),
        Part("test", ("TREC/TREC_10.label",), (500,), "trec"),
    )
    metadata = _metadata(
        "TREC",
        "Questions by what they ask for: abbreviation, description, entity, human, location or number.",
        reference="https://aclanthology.org/C02-1150",
        date=("1999-01-01", "2002-12-31"),
    )


class DinoMRPC(AbsTaskTransfer):
    """The Microsoft Research Paraphrase Corpus (Dolan et al. 2004): features |u − v| and u · v, accuracy and F1."""

    parts = (
        Part("train", ("MRPC/msr_paraphrase_train.txt",), (4_076,), "mrpc"),
        Part("test", ("MRPC/msr_paraphrase_test.txt",), (1_725,), "mrpc"),
    )
    metadata = _metadata(
        "MRPC",
        "Pairs of sentences of news that are paraphrases or not; the classifier reads |u − v| and u · v.",
        type="PairClassification",
        category="t2t",
        reference="https://aclanthology.org/C04-1051",
        date=("2003-01-01", "2004-12-31"),
        domains=["News", "Written"],
    )


TRANSFER_TASKS: tuple[type[AbsTaskTransfer], ...] = (
    DinoMR,
    DinoCR,
    DinoSUBJ,
    DinoMPQA,
    DinoSST2,
    DinoTREC,
    DinoMRPC,
)


def make_transfer_benchmark() -> Benchmark:
    """Makes the benchmark with fresh task instances, which read DINO_ST_SENTEVAL_DIR."""
    return Benchmark(
        name=TRANSFER_BENCHMARK,
        tasks=[task() for task in TRANSFER_TASKS],
        description="SentEval's seven transfer tasks as papers on sentence embeddings report them: accuracy of a "
        "logistic regression on frozen embeddings.",
        reference="https://arxiv.org/abs/1803.05449",
        citation=bibtex("conneau-kiela-2018-senteval"),
    )
