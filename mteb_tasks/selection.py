"""From the names that people give to task instances."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dino_st.errors import ConfigurationError, suggest

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

# The reranking tasks that the SynCSE paper (arXiv 2305.15077) reports; they are MTEB's own.
SYNCSE_TASKS = ("AskUbuntuDupQuestions", "MindSmallReranking", "SciDocsRR", "StackOverflowDupQuestions")
STS_GROUP, SYNCSE_GROUP = "sts", "syncse"


def select_tasks(
    names: str | Iterable[str] | None = None,
    *,
    sts_dir: str | Path | None = None,
    pairs: str | Path | Sequence[str | Path] = (),
) -> list[AbsTask]:
    """Makes task instances for `evaluate_encoder` or `mteb.evaluate`.

    Example:
        >>> tasks = select_tasks("sts", sts_dir="SentEval/data/downstream")
        >>> [task.metadata.name for task in tasks][:2]
        ['DinoSTS12', 'DinoSTS13']

    Args:
        names: `"sts"` (the seven tasks of the papers), `"syncse"` (MTEB's four reranking tasks that the SynCSE paper
            reports), or names of tasks of this package or of MTEB, one or several. None for `"sts"`, or for none where
            `pairs` is given.
        sts_dir: Directory in SentEval layout; None for the one that DINO_ST_STS_DIR names, else the datasets cache and
            the hub.
        pairs: Files of your own with `sentence1`, `sentence2` and `score`, each of which becomes a task.

    Returns:
        One instance for each task, in the order given, without repetitions. No data is loaded yet, except to name the
        tasks made from `pairs`.

    Raises:
        ConfigurationError: A name is unknown; the message has the nearest one.
        InputError: A file of pairs cannot be read or used.
    """
    from mteb_tasks.pairs import DinoPairs

    files = [pairs] if isinstance(pairs, str | Path) else list(pairs)
    if names is None:
        names = () if files else STS_GROUP
    wanted = [names] if isinstance(names, str) else list(names)
    expanded = dict.fromkeys(task for name in wanted for task in _expand(name))
    if not expanded and not files:
        raise ConfigurationError(f"No tasks were given. {suggest('', _own_names())}")
    return [_make_task(name, sts_dir) for name in expanded] + [DinoPairs(file) for file in files]


def _expand(name: str) -> Iterable[str]:
    from mteb_tasks.tasks import STS_TASKS

    if name == STS_GROUP:
        return [task.metadata.name for task in STS_TASKS]
    return SYNCSE_TASKS if name == SYNCSE_GROUP else [name]


def _make_task(name: str, sts_dir: str | Path | None) -> AbsTask:
    import mteb

    from mteb_tasks.registry import known_tasks
    from mteb_tasks.tasks import ALL_TASKS

    own = {task.metadata.name: task for task in ALL_TASKS}
    if name in own:
        return own[name](sts_dir=sts_dir)
    known = known_tasks()
    if name not in known:
        nearest = difflib.get_close_matches(name, [*_own_names(), *known], n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ConfigurationError(
            f"There is no task {name!r}; {hint}The tasks of dino-st are {', '.join(map(repr, _own_names()))}; MTEB's "
            "own names work too."
        )
    return mteb.get_task(name)


def _own_names() -> list[str]:
    from mteb_tasks.tasks import ALL_TASKS

    return [STS_GROUP, SYNCSE_GROUP, *(task.metadata.name for task in ALL_TASKS)]
