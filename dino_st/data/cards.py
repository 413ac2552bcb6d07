"""Dataset cards: what is in a directory, and where it comes from; language and licence, which every card may state.

They do not list the data files: `datasets.load_dataset` would then know a data set by its name alone, and give the rows
that it read under that name before. It finds `data/train*.parquet` and `data/validation.parquet` without. On the hub,
where the revision tells data sets apart, `dino_st.pipeline.publish` adds the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from dino_st.data.columns import TRIPLET_COLUMNS
from dino_st.support.files import CARD, write_text
from dino_st.support.objects import Place
from dino_st.tasks.spec import TaskSpec

_TAGS, SYNTHETIC = ("sentence-transformers", "dino-st"), "synthetic"
"""Tags of data sets, by the first of which sentence-transformers finds them, and of what a language model wrote."""

NOBODY_KNOWS = "unknown"
"""The model in the provenance of pairs that were scored or rated, and of which nothing is recorded."""

SIMILARITY, CLASSIFICATION = "sentence-similarity", "text-classification"
"""The hub's tasks that our data sets are for."""

_ORIGIN = ("language", "license")
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "n>1B")

_RAW = """\
{what} written by the language model `{model}` from instructions{how}
([DINO](https://arxiv.org/abs/2104.07540)), by dino-st {version}. **Raw data**: run `dino-st prepare` on it before
training. No human wrote or checked these texts or labels; they carry whatever errors and biases the language model has.

```python
from datasets import load_dataset

dataset = load_dataset("{directory}", split="train")
```
"""

_GIVEN = """\
Sentence pairs that were scored or rated by dino-st {version}. Who wrote them, and where their labels come from, is not
recorded. **Raw data**: run `dino-st prepare` on it before training.

```python
from datasets import load_dataset

dataset = load_dataset("{directory}", split="train")
```
"""

_TRIPLETS = """\
{what} by the language model `{model}`, in the manner of [SynCSE](https://arxiv.org/abs/2305.15077) and with
instructions of dino-st's own, by dino-st {version}. `positive` should mean what `anchor` means; `negative` should look
like it and mean something else. No human wrote or checked what the model wrote; it carries whatever errors and biases
the model has.

```python
from datasets import load_dataset

dataset = load_dataset("{directory}", split="train")
triplets = dataset.select_columns({columns})  # for MultipleNegativesRankingLoss
```

`positive_instruction` and `negative_instruction` name the instructions below, `x1_index` is the anchor's place among
the sentences, and `tries` the number of replies that were looked at.
"""

_FACTS = """
## Instructions

{instructions}

## Configuration

```json
{configuration}
```

## Counts

{counts}
"""


def writer_of(provenance: Mapping[str, Any]) -> str | None:
    """The language model that wrote a data set; None where that is not recorded, as of people's own tables."""
    return None if provenance.get("model") in (None, NOBODY_KNOWS) else str(provenance["model"])


def dataset_card(title: str, text: str, *, rows: int, is_synthetic: bool, **header: Any) -> str:
    """The header that the hub reads (as `huggingface_hub.DatasetCardData` has it), a title, and text."""
    from huggingface_hub import DatasetCardData

    tags = [*_TAGS, SYNTHETIC] if is_synthetic else [*_TAGS]
    size = _SIZES[min(max(len(str(rows)) - 3, 0), len(_SIZES) - 1)]
    data = DatasetCardData(**header, pretty_name=title, size_categories=[size], tags=tags)
    return f"---\n{data.to_yaml()}\n---\n\n# {title}\n\n{text}"


def without_rows(card: str) -> str:
    """A card of a data set of which no row came: `load_dataset` cannot open it."""
    return re.sub(
        r"```python\n.*?```\n", "**No row came of this run**: the counts below say why.\n", card, flags=re.DOTALL
    )


def read_origin(directory: Place) -> dict[str, Any]:
    """The language and the licence that the card in a directory states, whoever wrote them there."""
    header = read_header(directory)
    return {name: header[name] for name in _ORIGIN if header.get(name)}


def read_header(directory: Place) -> dict[str, Any]:
    """The header of the card in a directory; empty where there is none that can be read."""
    import yaml

    try:
        begin, header, _ = (directory / CARD).read_text(encoding="utf-8").split("---\n", 2)
        found = {} if begin.strip() else yaml.safe_load(header)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def with_header(card: str, **fields: Any) -> str:
    """A card in whose header some fields are set; those that are None stay as they were."""
    from huggingface_hub import RepoCard

    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        return card
    parsed = RepoCard(card if card.startswith("---") else f"---\n{{}}\n---\n{card}")
    for name, value in given.items():
        parsed.data[name] = value
    return str(parsed)


def state_origin(directory: Place, **origin: Any) -> None:
    """States language or licence in the card of a directory; those that are None stay as they were."""
    file = directory / CARD
    if any(origin.values()) and file.is_file():
        write_text(file, with_header(file.read_text(encoding="utf-8"), **origin))


def raw_card(
    spec: TaskSpec,
    directory: str,
    *,
    configuration: Mapping[str, Any],
    provenance: Mapping[str, Any],
    counts: Mapping[str, int],
) -> str:
    """The card of a directory of pairs or texts; see `write_waves` for the arguments."""
    quoted = [
        f"- `{label}`: {json.dumps(instruction, ensure_ascii=False)}"
        for label, label_spec in spec.labels.items()
        for instruction in label_spec.instructions
    ]
    writer, how = writer_of(provenance), ""
    if decoding := configuration.get("decoding"):  # which is not recorded where pairs are scored or rated
        how = f", {'with' if decoding.get('decay_constant', 1) else 'without'} self-debiasing"
    about = (_GIVEN if writer is None else _RAW).format(
        what="Sentence pairs" if spec.needs_input else "Texts",
        how=how,
        model=writer,
        version=provenance["versions"]["dino-st"],
        directory=directory,
    )
    return dataset_card(
        f"{spec.task_name}, {'given' if writer is None else 'generated'}",
        about + _facts(quoted, configuration, counts),
        rows=counts.get("rows", 0),
        is_synthetic=writer is not None,
        language=spec.language,
        task_categories=[SIMILARITY] if spec.has_scores else None if spec.is_numeric else [CLASSIFICATION],
    )


def triplet_card(
    directory: str, *, configuration: Mapping[str, Any], provenance: Mapping[str, Any], counts: Mapping[str, int]
) -> str:
    """The card of a directory of triplets; see `write_waves` for the arguments."""
    task = configuration["task"]
    pools = task.get("triplets", task)  # of a task from scratch, these are a part
    quoted = [
        f"- {role} `{instruction['id']}`: {json.dumps(instruction['text'], ensure_ascii=False)}"
        for role in ("positive", "negative")
        for instruction in (*pools[role], {"id": "completion", "text": pools["completion"][role]})
    ]
    about = _TRIPLETS.format(
        what=f"{'Positives' if pools is task else 'Sentences, positives'} and hard negatives written",
        model=provenance["model"],
        version=provenance["versions"]["dino-st"],
        directory=directory,
        columns=json.dumps(TRIPLET_COLUMNS),
    )
    return dataset_card(
        f"{task['task_name']}, generated",
        about + _facts(quoted, configuration, counts),
        rows=counts.get("rows", 0),
        is_synthetic=True,
        task_categories=[SIMILARITY],
    )


def _facts(instructions: Iterable[str], configuration: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    return _FACTS.format(
        instructions="\n".join(instructions),
        configuration=json.dumps({key: value for key, value in configuration.items() if key != "task"}, indent=1),
        counts="\n".join(f"- {name}: {number}" for name, number in counts.items()) or "The run has just begun.",
    )
