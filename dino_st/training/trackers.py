"""Experiment trackers: transformers' own callbacks, shown a run's record under the names of `training.json`."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.errors import ConfigurationError, MissingExtraError, TrainingError, first_line
from dino_st.support.text import flat_facts
from dino_st.training.options import TrainingOptions
from dino_st.training.record import TRACKED, TrainingRecord

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainingArguments

logger = logging.getLogger(__name__)

_NO_MLFLOW = "DISABLE_MLFLOW_INTEGRATION"
_PROJECT = "dino-st"
_NO_NAME = re.compile(r"[^\w\-. :/]")
"""What MLflow takes in no name."""


def check_tracker(options: TrainingOptions) -> None:
    """Refuses a tracker that is not installed (MissingExtraError) or is switched off (ConfigurationError)."""
    name = options.report_to
    if name != "none" and find_spec(name) is None:
        raise MissingExtraError(f"report_to is {name!r}, and {name} is not installed; run: pip install {name}")
    if name == "mlflow" and os.environ.get(_NO_MLFLOW, "").upper() == "TRUE":
        raise ConfigurationError(f"report_to is {name!r}, and the variable {_NO_MLFLOW} switches that off; unset it")


def make_tracker(record: TrainingRecord, directory: Path, metric: str) -> TrainerCallback:
    """The trainer's callback for the tracker of a record, which must have the score of the untrained start.

    Parameters are the trainer's arguments and, with dots, what stands in `training.json`. The score that chooses the
    checkpoint (the trainer's `metric`) is called `spearman` as there, in the group `eval`; the untrained start is its
    value at step 0. The directory's name becomes the tracker's; TensorBoard writes there unless
    `TENSORBOARD_LOGGING_DIR` names another place.
    """
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    name = record.options.report_to
    try:
        package = import_module(name)
    except Exception as error:
        raise ConfigurationError(f"report_to is {name!r}, which cannot be imported: {first_line(error)}") from error
    for variable in ("WANDB_PROJECT", "TRACKIO_PROJECT"):
        os.environ.setdefault(variable, _PROJECT)
    callback = get_reporting_integration_callbacks([name])[0]  # type: ignore[no-untyped-call]

    class Tracker(callback):  # type: ignore[misc, valid-type]  # a class that transformers names by a string
        """Transformers' callback, from the start of training to its end; what fails in between costs no run."""

        is_open = False
        is_own = False

        def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            """Begins the run in the tracker with its parameters, and with the untrained start as step 0."""
            self.is_own = name == "wandb" and state.is_world_process_zero and package.run is None
            try:
                super().on_train_begin(_Shown(args, record, directory), state, control, **named)
            except Exception as error:
                raise TrainingError(
                    f"{name} cannot be written to: {first_line(error)}. Set it up as its own documentation says (an "
                    "account, an offline mode, an address), or train with report_to none"
                ) from error
            self.is_open = True
            if record.start is not None and state.global_step == 0:
                self.on_log(args, state, control, logs={metric: record.start}, **named)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **named: Any) -> None:
            """Passes numbers on while the run is open: what is computed behind its end would begin another one."""
            if not self.is_open:
                return
            renamed = {("eval_spearman" if key == metric else key): value for key, value in logs.items()}
            try:
                super().on_log(_Shown(args, record, directory), state, control, logs=renamed, **named)
            except Exception as error:  # noqa: BLE001  # whatever four libraries raise; training goes on without them
                self.is_open = False
                logger.warning("%s: %s. Training goes on, and is not tracked any further", name, first_line(error))

        def on_train_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            """Adds the best evaluation, and closes the run in the tracker."""
            scores = [entry for entry in state.log_history if math.isfinite(entry.get(metric, math.nan))]
            if scores:
                best = max(scores, key=lambda entry: entry[metric])
                self.on_log(
                    args, state, control, logs={"eval_best.spearman": best[metric], "eval_best.step": best["step"]}
                )
            self.is_open = False
            super().on_train_end(args, state, control, **named)
            if self.is_own:  # or else the next training of this process would be written to the same run
                package.finish()

    tracker = Tracker()
    if name == "tensorboard" and tracker.logging_dir is None:
        tracker.logging_dir = str(directory / TRACKED)
    return tracker


class _Shown:
    """The trainer's arguments as a tracker is shown them: along with the run's record, and under the run's name."""

    def __init__(self, args: TrainingArguments, record: TrainingRecord, directory: Path) -> None:
        self._args, self._record = args, record
        self.run_name, self.project = directory.name, os.environ["TRACKIO_PROJECT"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._args, name)

    def to_dict(self) -> dict[str, Any]:
        """Names and values of all parameters."""
        facts = self._record.model_dump(mode="json", include=set(_FACTS))
        arguments: dict[str, Any] = self._args.to_dict()  # type: ignore[no-untyped-call]
        return arguments | {_NO_NAME.sub("_", name): value for name, value in flat_facts(facts).items()}

    def to_json_string(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2)


_FACTS = ("options", "encoder", "encoder_revision", "data", "provenance", "processes", "versions")
