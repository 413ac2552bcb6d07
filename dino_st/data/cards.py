"""Dataset cards: what is in a directory, and where it comes from.

They do not list the data files: `datasets.load_dataset` would then know a data set by its name alone, and give the rows
that it read under that name before. It finds `data/train*.parquet` and `data/validation.parquet` without.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dino_st.data.columns import TRIPLET_COLUMNS
from dino_st.tasks.spec import TaskSpec

_RAW = """\
{what} written by the language model `{model}` from instructions, {how} self-debiasing
([DINO](https://arxiv.org/abs/2104.07540)), by dino-st {version}. **Raw data**: run `dino-st prepare` on it before
training. No human wrote or checked these texts or labels; they carry whatever errors and biases the language model has.

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
the sentences, and `tries` the number of replies that were looked at. Sentences without a usable triplet are listed in
`rejected.jsonl` with the reason; the command that wrote this directory tries them again.
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


def dataset_card(title: str, text: str, **header: Any) -> str:
    """The header that the hub reads (as `huggingface_hub.DatasetCardData` has it), a title, and text."""
    from huggingface_hub import DatasetCardData

    return f"---\n{DatasetCardData(**header).to_yaml()}\n---\n\n# {title}\n\n{text}"


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
    about = _RAW.format(
        what="Sentence pairs" if spec.needs_input else "Texts",
        how="with" if configuration.get("decoding", {}).get("decay_constant", 1) else "without",
        model=provenance["model"],
        version=provenance["versions"]["dino-st"],
        directory=directory,
    )
    return _generated_card(spec.task_name, about + _facts(quoted, configuration, counts))


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
    return _generated_card(task["task_name"], about + _facts(quoted, configuration, counts))


def _generated_card(task: str, text: str) -> str:
    return dataset_card(f"{task}, generated", text, tags=["sentence-transformers", "synthetic", "dino-st"])


def _facts(instructions: Iterable[str], configuration: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    return _FACTS.format(
        instructions="\n".join(instructions),
        configuration=json.dumps({key: value for key, value in configuration.items() if key != "task"}, indent=1),
        counts="\n".join(f"- {name}: {number}" for name, number in counts.items()) or "The run has just begun.",
    )
