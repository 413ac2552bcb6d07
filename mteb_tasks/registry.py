"""Makes mteb know the Dino tasks, their benchmark and local model directories; from names to task instances."""

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

from dino_st.errors import ConfigurationError, DinoWarning, suggest

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask


logger = logging.getLogger(__name__)

SUPPORTED_MTEB = "mteb>=2.26,<3"

_registration: ExitStack | None = None


class MtebInternals:
    """The places in mteb that registration relies on.

    Attributes:
        get_tasks: Module of the task registry, `_TASKS_REGISTRY` and `TASK_LIST`.
        get_model_meta: Module through which `mteb run` finds a model.
        benchmarks: Package whose `Benchmark` attributes mteb lists.
        get_benchmark: Module that caches that list.
        package: `mteb` itself.
        result_cache: The class that answers from stored results.
        command_line: Module of `mteb run`.
    """

    def __init__(self) -> None:
        """Imports them; several share their name with a function, so plain attribute access would miss them."""
        self.package = importlib.import_module("mteb")
        self.get_tasks = importlib.import_module("mteb.get_tasks")
        self.get_model_meta = importlib.import_module("mteb.models.get_model_meta")
        self.benchmarks = importlib.import_module("mteb.benchmarks.benchmarks")
        self.get_benchmark = importlib.import_module("mteb.benchmarks.get_benchmark")
        self.result_cache = importlib.import_module("mteb.cache").ResultCache
        self.command_line = importlib.import_module("mteb.cli.build_cli")

    def broken_promises(self) -> list[str]:
        """What is not as expected, in words; empty for every supported mteb."""
        promises = {
            "mteb.get_tasks._TASKS_REGISTRY is a dict": lambda: isinstance(self.get_tasks._TASKS_REGISTRY, dict),
            "mteb.get_tasks.TASK_LIST is a tuple": lambda: isinstance(self.get_tasks.TASK_LIST, tuple),
            "MODEL_REGISTRY is a dict": lambda: isinstance(self.get_model_meta.MODEL_REGISTRY, dict),
            "get_model_meta takes a name and a revision": lambda: (
                _parameters(self.get_model_meta.get_model_meta)[:2] == ["model_name", "revision"]
            ),
            "the list of benchmarks can be read again": lambda: (
                callable(self.get_benchmark._build_registry.cache_clear)
                and callable(self.get_benchmark._build_aliases_registry.cache_clear)
            ),
            "ResultCache.load_task_result takes a task and a model": lambda: (
                _parameters(self.result_cache.load_task_result)[1:3] == ["task_name", "model_name"]
            ),
            "mteb.cli.build_cli.run takes the parsed arguments": lambda: _parameters(self.command_line.run) == ["args"],
        }
        return [promise for promise, holds in promises.items() if not _holds(holds)]


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
    with ExitStack() as undo:
        # Whatever a future mteb does differently, mteb itself must go on working: nothing may be raised from here.
        try:
            broken = _apply(undo)
        except Exception as error:  # noqa: BLE001
            broken = [f"{type(error).__name__}: {error}"]
        if not broken:
            _registration = undo.pop_all()
            return True
    warnings.warn(
        f"dino-st supports {SUPPORTED_MTEB}, but this is mteb {version('mteb')}, which differs where it matters "
        f"({'; '.join(broken)}). The Dino tasks and local models are not available in mteb; mteb itself works. "
        f"Install a supported version with `pip install '{SUPPORTED_MTEB}'`.",
        DinoWarning,
        stacklevel=2,
    )
    return False


def _apply(undo: ExitStack) -> list[str]:
    """Registers everything, or nothing where a promise is broken; returns the broken promises."""
    mteb = MtebInternals()
    broken = mteb.broken_promises()
    if not broken:
        _add_tasks(mteb, undo)
        _add_benchmark(mteb, undo)
        _add_local_models(mteb, undo)
        _compare_data_revisions(mteb, undo)
        _check_before_running(mteb, undo)
    return broken


def unregister() -> None:
    """Takes back all that `register` did; without a registration it does nothing."""
    global _registration
    if _registration is not None:
        _registration.close()
        _registration = None


def known_tasks() -> list[str]:
    """Names of all tasks that mteb can find by name, registered ones included, and their former names."""
    mteb = MtebInternals()
    return [*mteb.get_tasks._TASKS_REGISTRY, *getattr(mteb.get_tasks, "_TASK_RENAMES", ())]


def known_benchmarks() -> list[str]:
    """Names and aliases of all benchmarks that mteb can find, registered ones included."""
    mteb = MtebInternals()
    return [*mteb.get_benchmark._build_registry(), *mteb.get_benchmark._build_aliases_registry()]


def _add_tasks(mteb: MtebInternals, undo: ExitStack) -> None:
    from mteb_tasks.tasks import ALL_TASKS

    names = [task.metadata.name for task in ALL_TASKS]
    registry = mteb.get_tasks._TASKS_REGISTRY
    undo.callback(lambda: [registry.pop(name, None) for name in names])
    registry.update(zip(names, ALL_TASKS, strict=True))
    _replace(mteb.get_tasks, "TASK_LIST", (*mteb.get_tasks.TASK_LIST, *ALL_TASKS), undo)


def _add_benchmark(mteb: MtebInternals, undo: ExitStack) -> None:
    from mteb_tasks.tasks import make_benchmark

    def read_again() -> None:
        mteb.get_benchmark._build_registry.cache_clear()
        mteb.get_benchmark._build_aliases_registry.cache_clear()

    undo.callback(read_again)
    attribute = "DINO_STS_ENG_V1"
    undo.callback(delattr, mteb.benchmarks, attribute)
    setattr(mteb.benchmarks, attribute, make_benchmark())
    read_again()


def _add_local_models(mteb: MtebInternals, undo: ExitStack) -> None:
    """Mteb's own models keep their names; any other name that is a path, or a directory, is a local model."""
    from mteb_tasks.local_models import find_local_model, is_explicit_path

    original = mteb.get_model_meta.get_model_meta

    @functools.wraps(original)
    def get_model_meta(model_name: str, revision: str | None = None, *args: Any, **options: Any) -> Any:
        if is_explicit_path(model_name) or model_name not in mteb.get_model_meta.MODEL_REGISTRY:
            found = find_local_model(model_name, revision)
            if found is not None:
                return found
        return original(model_name, revision, *args, **options)

    _replace(mteb.get_model_meta, "get_model_meta", get_model_meta, undo)
    _replace(mteb.package, "get_model_meta", get_model_meta, undo)


def _compare_data_revisions(mteb: MtebInternals, undo: ExitStack) -> None:
    """A stored result of a Dino task counts only where it comes from the data that would be loaded now."""
    from mteb_tasks.tasks import ALL_TASKS

    tasks = {task.metadata.name: task for task in ALL_TASKS}
    original = mteb.result_cache.load_task_result

    @functools.wraps(original)
    def load_task_result(cache: Any, task_name: str, *args: Any, **options: Any) -> Any:
        if task_name not in tasks:
            return original(cache, task_name, *args, **options)
        try:
            result = original(cache, task_name, *args, **options)
        except ValueError as error:  # cut off in the middle of being written
            logger.warning("A stored result of %s is unreadable and computed again: %s", task_name, error)
            return None
        outdated = result is not None and result.dataset_revision != tasks[task_name]().data_revision()
        return None if outdated else result

    _replace(mteb.result_cache, "load_task_result", load_task_result, undo)


def _check_before_running(mteb: MtebInternals, undo: ExitStack) -> None:
    """`mteb run` loads the model before it looks at anything else; this looks first, and words what went wrong."""
    from mteb_tasks.command_line import checked

    _replace(mteb.command_line, "run", checked(mteb.command_line.run), undo)


def _replace(owner: Any, name: str, value: Any, undo: ExitStack) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _holds(promise: Callable[[], bool]) -> bool:
    try:
        return promise()
    except AttributeError:
        return False


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
