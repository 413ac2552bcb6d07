"""Model cards in tests, where a checkpoint is saved at every step or two, each with its card."""

from __future__ import annotations

import functools

import jinja2


def compile_templates_once() -> None:
    """Has a template compiled once in a process; that of model cards took a third of the time that trainings take."""
    jinja2.Environment.compile = functools.cache(jinja2.Environment.compile)  # type: ignore[method-assign]
