"""The dataset card of generated data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dino_st.tasks.spec import TaskSpec

_HEAD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
tags:
- sentence-transformers
- synthetic
- dino-st
---

# {title}

"""

_TAIL = """
## Instructions

{instructions}

## Configuration

```json
{configuration}
```

## Counts

{counts}
"""

_CARD = """\
{what} written by the language model `{model}` from instructions, {how} self-debiasing
([DINO](https://arxiv.org/abs/2104.07540)), by dino-st {version}. **Raw data**: run `dino-st prepare` on it before
training. No human wrote or checked these texts or labels; they carry whatever errors and biases the language model has.

```python
from datasets import load_dataset

dataset = load_dataset("{directory}", split="train")
```
"""


def raw_card(
    directory: str,
    spec: TaskSpec,
    *,
    configuration: Mapping[str, Any],
    provenance: Mapping[str, Any],
    counts: Mapping[str, int],
) -> str:
    """Writes the card of a directory of shards.

    Args:
        directory: Name of the directory.
        spec: The task.
        configuration: What decided the data.
        provenance: Model name and versions.
        counts: Of the run so far.

    Returns:
        Markdown with a YAML header that names the data files.
    """
    quoted = (
        f"- `{label}`: {json.dumps(instruction, ensure_ascii=False)}"
        for label, label_spec in spec.labels.items()
        for instruction in label_spec.instructions
    )
    return (_HEAD + _CARD + _TAIL).format(
        title=f"{spec.task_name}, generated",
        what="Sentence pairs" if spec.needs_input else "Texts",
        how="with" if configuration.get("decoding", {}).get("decay_constant", 1) else "without",
        **_facts(directory, quoted, configuration, provenance, counts),
    )


_TRIPLETS = """\
{what} by the language model `{model}`, in the manner of [SynCSE](https://arxiv.org/abs/2305.15077) and with
instructions of dino-st's own, by dino-st {version}. `positive` should mean what `anchor` means; `negative` should look
like it and mean something else. No human wrote or checked what the model wrote; it carries whatever errors and biases
the model has.

```python
from datasets import load_dataset

dataset = load_dataset("{directory}", split="train")
triplets = dataset.select_columns(["anchor", "positive", "negative"])  # for MultipleNegativesRankingLoss
```

`positive_instruction` and `negative_instruction` name the instructions below, `x1_index` is the anchor's place among
the sentences, and `tries` the number of replies that were looked at. Sentences without a usable triplet are listed in
`rejected.jsonl` with the reason; the command that wrote this directory tries them again.
"""


def triplet_card(
    directory: str,
    *,
    from_scratch: bool,
    configuration: Mapping[str, Any],
    provenance: Mapping[str, Any],
    counts: Mapping[str, int],
) -> str:
    """Writes the card of a directory of triplets.

    Args:
        directory: Name of the directory.
        from_scratch: Whether the anchors were written, too.
        configuration: What decided the data.
        provenance: Model name and versions.
        counts: Of the runs so far.

    Returns:
        Markdown with a YAML header that names the data files.
    """
    task = configuration["task"]
    pools = task.get("triplets", task)
    quoted = (
        f"- {role} `{instruction['id']}`: {json.dumps(instruction['text'], ensure_ascii=False)}"
        for role in ("positive", "negative")
        for instruction in (*pools[role], {"id": "completion", "text": pools["completion"][role]})
    )
    return (_HEAD + _TRIPLETS + _TAIL).format(
        title=f"{task['task_name']}, generated",
        what="Sentences, positives and hard negatives written"
        if from_scratch
        else "Positives and hard negatives written",
        **_facts(directory, quoted, configuration, provenance, counts),
    )


def _facts(
    directory: str,
    instructions: Iterable[str],
    configuration: Mapping[str, Any],
    provenance: Mapping[str, Any],
    counts: Mapping[str, int],
) -> dict[str, str]:
    """What fills both kinds of card in the same way."""
    return {
        "model": provenance["model"],
        "version": provenance["versions"]["dino-st"],
        "directory": directory,
        "instructions": "\n".join(instructions),
        "configuration": json.dumps({key: value for key, value in configuration.items() if key != "task"}, indent=1),
        "counts": "\n".join(f"- {name}: {number}" for name, number in counts.items()) or "The run has just begun.",
    }
