"""Makes mteb know the Dino tasks, their benchmark and local model directories; from names to task instances.

mteb has no plugin mechanism. This is the only module that changes anything in it: its registry of tasks and its list of
benchmarks, how it finds a model, and which stored result it takes for today's.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.errors import ConfigurationError, DinoError, DinoWarning, suggest

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask


logger = logging.getLogger(__name__)

SUPPORTED_MTEB = "mteb>=2.26,<3"

_registration: ExitStack | None = None


class _OtherMtebError(Exception):
    """This mteb differs where it matters."""


def register() -> bool:
    """Adds the Dino tasks, the benchmark `DinoSTS(eng, v1)` and local model directories to mteb, in this process.

    Afterwards `mteb.get_task("DinoSTS12")`, `mteb.get_benchmark("DinoSTS(eng, v1)")` and `mteb.get_model("./my-model")`
    work, and a stored result of a Dino task on other data than today's is evaluated again. Calling it twice does no
    more than calling it once.

    Returns:
        Whether mteb knows the tasks now. False, with one `DinoWarning`, where this mteb is not a supported one; mteb
        itself then works as it would without dino-st.
    """
    global _registration
    if _registration is not None:
        return True
    # Whatever a future mteb does differently, mteb itself must go on working: nothing may be raised from here.
    try:
        with ExitStack() as undo:
            _add_tasks(undo)
            _add_benchmarks(undo)
            _add_local_models(undo)
            _compare_data_revisions(undo)
            _registration = undo.pop_all()
            return True
    except _OtherMtebError as error:
        difference = str(error)
    except Exception as error:  # noqa: BLE001
        difference = f"{type(error).__name__}: {error}"
    warnings.warn(
        f"dino-st supports {SUPPORTED_MTEB}, but this is mteb {version('mteb')}, which differs where it matters "
        f"({difference}). The Dino tasks and local models are not available in mteb; mteb itself works. "
        f"Install a supported version with `pip install '{SUPPORTED_MTEB}'`.",
        DinoWarning,
        stacklevel=2,
    )
    return False


def unregister() -> None:
    """Takes back all that `register` did; without a registration it does nothing."""
    global _registration
    if _registration is not None:
        _registration.close()
        _registration = None


def _module(name: str) -> Any:
    """A module of mteb; several share their name with a function, so plain attribute access would miss them."""
    return importlib.import_module(f"mteb.{name}")


def _own_tasks() -> dict[str, Any]:
    """The classes of the tasks of this package by their names."""
    from mteb_tasks.tasks import ALL_TASKS
    from mteb_tasks.transfer import TRANSFER_TASKS

    return {task.metadata.name: task for task in (*ALL_TASKS, *TRANSFER_TASKS)}


def _add_tasks(undo: ExitStack) -> None:
    """By name (`_TASKS_REGISTRY`, which is changed) and by type, language, … (`TASK_LIST`, which is replaced)."""
    module = _module("get_tasks")
    _expect("mteb.get_tasks._TASKS_REGISTRY is a dict", isinstance(module._TASKS_REGISTRY, dict))
    _expect("mteb.get_tasks.TASK_LIST is a tuple", isinstance(module.TASK_LIST, tuple))
    own = _own_tasks()
    undo.callback(lambda: [module._TASKS_REGISTRY.pop(name, None) for name in own])
    module._TASKS_REGISTRY.update(own)
    _replace(module, "TASK_LIST", (*module.TASK_LIST, *own.values()), undo)


def _add_benchmarks(undo: ExitStack) -> None:
    """Any `Benchmark` in `mteb.benchmarks.benchmarks` is one of mteb's, once its cached lists are made anew."""
    from mteb_tasks.tasks import make_benchmark
    from mteb_tasks.transfer import make_transfer_benchmark

    module, lists = _module("benchmarks.benchmarks"), _module("benchmarks.get_benchmark")
    forget = [lists._build_registry.cache_clear, lists._build_aliases_registry.cache_clear]
    undo.callback(lambda: [clear() for clear in forget])
    for name, benchmark in (("DINO_STS", make_benchmark()), ("DINO_TRANSFER", make_transfer_benchmark())):
        setattr(module, name, benchmark)
        undo.callback(delattr, module, name)
    for clear in forget:
        clear()


def _add_local_models(undo: ExitStack) -> None:
    """`mteb.get_model` also loads directories; mteb's own models keep their names, unless a path is given as such."""
    from mteb_tasks.local_models import find_local_model

    module = _module("models.get_model_meta")
    original = module.get_model_meta
    _expect("get_model_meta takes a name and a revision", _parameters(original)[:2] == ["model_name", "revision"])
    _expect("MODEL_REGISTRY is a dict", isinstance(module.MODEL_REGISTRY, dict))

    @functools.wraps(original)
    def get_model_meta(model_name: str, revision: str | None = None, *args: Any, **options: Any) -> Any:
        is_path = model_name.startswith((".", "~")) or Path(model_name).is_absolute()
        if is_path or model_name not in module.MODEL_REGISTRY:
            found = find_local_model(model_name, revision)
            if found is not None:
                return found
        return original(model_name, revision, *args, **options)

    _replace(module, "get_model_meta", get_model_meta, undo)


def _compare_data_revisions(undo: ExitStack) -> None:
    """A stored result of a Dino task counts only where it comes from the data that would be loaded now."""
    cache_class = _module("cache").ResultCache
    original = cache_class.load_task_result
    _expect(
        "ResultCache.load_task_result takes a task and a model",
        _parameters(original)[1:3] == ["task_name", "model_name"],
    )
    tasks = _own_tasks()

    @functools.wraps(original)
    def load_task_result(cache: Any, task_name: str, *args: Any, **options: Any) -> Any:
        if task_name not in tasks:
            return original(cache, task_name, *args, **options)
        try:
            result = original(cache, task_name, *args, **options)
        except ValueError as error:  # cut off in the middle of being written
            logger.warning("A stored result of %s is unreadable and computed again: %s", task_name, error)
            return None
        try:
            outdated = result is not None and result.dataset_revision != tasks[task_name]().data_revision()
        except DinoError:  # no variable says where its data are, which this task may know by itself
            return result
        return None if outdated else result

    _replace(cache_class, "load_task_result", load_task_result, undo)


def _expect(promise: str, holds: bool) -> None:
    if not holds:
        raise _OtherMtebError(f"expected: {promise}")


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _replace(owner: Any, name: str, value: Any, undo: ExitStack) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


# The reranking tasks that the SynCSE paper (arXiv 2305.15077) reports; they are MTEB's own.
SYNCSE_TASKS = ("AskUbuntuDupQuestions", "MindSmallReranking", "SciDocsRR", "StackOverflowDupQuestions")
STS_GROUP, TRANSFER_GROUP, SYNCSE_GROUP, OFFICIAL_GROUP = "sts", "transfer", "syncse", "official"


def select_tasks(
    names: str | Iterable[str] | None = None,
    *,
    sts_dir: str | Path | None = None,
    senteval_dir: str | Path | None = None,
    pairs: str | Path | Sequence[str | Path] = (),
    languages: Sequence[str] = (),
) -> list[AbsTask]:
    """Makes task instances for `evaluate_encoder` or `mteb.evaluate`.

    Example:
        >>> tasks = select_tasks("sts", sts_dir="SentEval/data/downstream")
        >>> [task.metadata.name for task in tasks][:2]
        ['DinoSTS12', 'DinoSTS13']

    Args:
        names: `"sts"` (the seven STS tasks of the papers), `"official"` (MTEB's own versions of them), `"transfer"`
            (SentEval's seven), `"syncse"` (MTEB's four reranking tasks that the SynCSE paper reports), or names of
            tasks of this package or of MTEB, one or several. None for `"sts"`, or for none where `pairs` is given.
        sts_dir: Directory in SentEval layout; None for the one that DINO_ST_STS_DIR names, else the datasets cache and
            the hub.
        senteval_dir: Directory with the transfer tasks' data in SentEval layout; None for the one that
            DINO_ST_SENTEVAL_DIR names, else DINO_ST_STS_DIR.
        pairs: Files of your own with `sentence1`, `sentence2` and `score`, each of which becomes a task.
        languages: ISO 639-3 codes, such as `"deu"`: of MTEB's tasks in several languages the parts that are in these
            alone; their scores are averaged. None takes all parts.

    Returns:
        One instance for each task, in the order given, without repetitions. No data is loaded yet, except to name the
        tasks made from `pairs`.

    Raises:
        ConfigurationError: A name is unknown; the message has the nearest one. A task is not in the languages.
        InputError: A file of pairs cannot be read or used.
    """
    from dino_st.evaluation.table import MTEBS_OWN
    from mteb_tasks.pairs import DinoPairs
    from mteb_tasks.tasks import ALL_TASKS, STS_TASKS
    from mteb_tasks.transfer import TRANSFER_TASKS

    files = [pairs] if isinstance(pairs, str | Path) else list(pairs)
    if names is None:
        names = () if files else STS_GROUP
    groups = {
        STS_GROUP: [task.metadata.name for task in STS_TASKS],
        TRANSFER_GROUP: [task.metadata.name for task in TRANSFER_TASKS],
        SYNCSE_GROUP: list(SYNCSE_TASKS),
        OFFICIAL_GROUP: list(MTEBS_OWN.values()),
    }
    own: dict[str, Callable[[], AbsTask]] = {
        task.metadata.name: functools.partial(task, sts_dir=sts_dir) for task in ALL_TASKS
    }
    own |= {task.metadata.name: functools.partial(task, senteval_dir=senteval_dir) for task in TRANSFER_TASKS}
    wanted = [names] if isinstance(names, str) else list(names)
    expanded = dict.fromkeys(task for name in wanted for task in groups.get(name, [name]))
    if not expanded and not files:
        raise ConfigurationError(f"No tasks were given. {suggest('', [*groups, *own])}")
    ours = ", ".join(map(repr, [*groups, *own]))
    listing = f"The tasks of dino-st are {ours}; MTEB's own names work too."
    check_names("task", (name for name in expanded if name not in own), [*groups, *own, *known_tasks()], listing)
    english = [name for name in expanded if name in own]
    if languages and english and "eng" not in languages:
        raise ConfigurationError(
            f"languages = {', '.join(languages)}: {english[0]} is English; name tasks of MTEB that are in several "
            "languages, such as STS22.v2, or STSBenchmarkMultilingualSTS"
        )
    instances = [own[name]() if name in own else _mteb_task(name, languages) for name in expanded]
    return instances + [DinoPairs(file) for file in files]


def _mteb_task(name: str, languages: Sequence[str]) -> AbsTask:
    import mteb

    try:
        return mteb.get_task(name, languages=list(languages) or None, exclusive_language_filter=bool(languages))
    except ValueError as error:
        if not languages:
            raise
        has = ", ".join(mteb.get_task(name).metadata.languages)
        raise ConfigurationError(
            f"languages = {', '.join(languages)}: MTEB's task {name} is in {has}. Give such codes (ISO 639-3: deu is "
            "German), or another task"
        ) from error


def known_tasks() -> list[str]:
    """Names of all tasks that mteb can find by name, registered ones included, and their former names."""
    module = _module("get_tasks")
    return [*module._TASKS_REGISTRY, *getattr(module, "_TASK_RENAMES", ())]


def known_benchmarks() -> list[str]:
    """Names and aliases of all benchmarks that mteb can find, registered ones included."""
    module = _module("benchmarks.get_benchmark")
    return [*module._build_registry(), *module._build_aliases_registry()]


def check_names(kind: str, given: Iterable[str], known: Sequence[str], listing: str) -> None:
    """Refuses an unknown name (ConfigurationError), with the nearest one and where the others are listed.

    Nearest to the head of a column of our tables, such as "STSb", is its task.
    """
    from dino_st.evaluation.table import task_of_column

    for name in given:
        if name not in known:
            near = task_of_column(name)
            if near not in known:
                near = next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), None)
            hint = f"did you mean {near!r}?" if near else "no name is similar to it."
            raise ConfigurationError(f"There is no {kind} {name!r}; {hint} {listing}")
