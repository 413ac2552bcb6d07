"""Everything that dino-st raises on purpose.

```
DinoError
├── ConfigurationError   (ValueError)    an option is out of range or contradicts another
├── TaskSpecError        (ValueError)    a task specification is malformed
├── InputError           (ValueError)    a file or value handed in cannot be read or used
├── DatasetError         (ValueError)    a data set lacks columns or holds values that a step cannot use
├── ModelError           (RuntimeError)  a model cannot be loaded or is of the wrong kind
├── OutOfMemoryError     (RuntimeError)  not even the smallest batch fits
├── OutputError          (RuntimeError)  an output directory cannot be written or holds something else
├── PendingError         (RuntimeError)  batches of requests are submitted and not answered yet
├── TrainingError        (RuntimeError)  an encoder cannot be trained
├── EvaluationError      (RuntimeError)  an encoder cannot be scored
├── ClusterError         (RuntimeError)  the workers of a cluster end again and again
├── HubError             (RuntimeError)  something cannot be uploaded to the hub
└── MissingExtraError    (ImportError)   an optional dependency is not installed
```

Each is also the built-in exception named beside it. A message says what was given, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DinoError(Exception):
    """Base class of every error that dino-st raises on purpose."""


class ConfigurationError(DinoError, ValueError):
    """An option is out of range or contradicts another."""


class TaskSpecError(DinoError, ValueError):
    """A task specification is malformed."""


class InputError(DinoError, ValueError):
    """A file or value handed in cannot be read or used."""


class DatasetError(DinoError, ValueError):
    """A data set lacks columns or holds values that a step cannot use."""


class ModelError(DinoError, RuntimeError):
    """A model cannot be loaded or is of the wrong kind."""


class OutOfMemoryError(DinoError, RuntimeError):
    """Not even the smallest batch fits into memory."""


class OutputError(DinoError, RuntimeError):
    """An output directory cannot be written or holds something else."""


class PendingError(DinoError, RuntimeError):
    """Batches of requests are submitted and not answered yet; nothing is wrong."""


class TrainingError(DinoError, RuntimeError):
    """An encoder cannot be trained."""


class EvaluationError(DinoError, RuntimeError):
    """An encoder cannot be scored."""


class ClusterError(DinoError, RuntimeError):
    """The workers of a cluster end again and again."""


class HubError(DinoError, RuntimeError):
    """Something cannot be uploaded to the hub."""


class MissingExtraError(DinoError, ImportError):
    """An optional dependency is not installed."""


class DinoWarning(UserWarning):
    """Something works, but probably not as intended; the message says what to do."""


def suggest(given: str, legal: Iterable[str]) -> str:
    """Words the legal values for an error message, the nearest one first, without a final full stop.

    Example:
        >>> suggest("sts-x3", ["sts-x1", "sts-x2"])
        "did you mean 'sts-x2'? Legal values: 'sts-x1', 'sts-x2'"
    """
    values = list(dict.fromkeys(legal))
    if not values:
        return "there is none to choose from"
    listing = "Legal values: " + ", ".join(repr(value) for value in values)
    nearest = difflib.get_close_matches(given, values, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}? {listing}" if nearest else listing


def first_line(error: BaseException) -> str:
    """The first line of a library's error that says something, without a full stop; else the error's name.

    A heading takes the line behind it along.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(".")
