"""The dataset card of generated data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dino_st.task_spec import TaskSpec

_CARD = """\
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

{what} written by the language model `{model}` from instructions, with self-debiased decoding
([DINO](https://arxiv.org/abs/2104.07540)), by dino-st {version}. **Raw data**: run `dino-st prepare` on it before
training. No human wrote or checked these texts or labels; they carry whatever errors and biases the language model has.

```python
from datasets import load_dataset

dataset = load_dataset("{directory}", split="train")
```

## Instructions

{instructions}

## Configuration

```json
{configuration}
```

## Counts

{counts}
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
        f"- `{label}`: {json.dumps(label_spec.instruction, ensure_ascii=False)}"
        for label, label_spec in spec.labels.items()
    )
    return _CARD.format(
        title=f"{spec.task_name}, generated",
        what="Sentence pairs" if spec.needs_input else "Texts",
        model=provenance["model"],
        version=provenance["versions"]["dino-st"],
        directory=directory,
        instructions="\n".join(quoted),
        configuration=json.dumps({key: value for key, value in configuration.items() if key != "task"}, indent=1),
        counts="\n".join(f"- {name}: {number}" for name, number in counts.items()) or "The run has just begun.",
    )
