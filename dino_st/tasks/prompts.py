"""From a task specification and an x1 to prompts.

DINO (arXiv 2104.07540, section 3) writes I_y(x1), the instruction of label y with x1 filled in. Base models take it as
raw text; for instruction-tuned models the same text becomes a chat, in which the instruction is the user's turn and
its last line, such as `Sentence 2: "`, the beginning of the answer.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from dino_st.errors import ConfigurationError, ModelError, first_line
from dino_st.tasks.spec import PLACEHOLDER, TaskSpec

PromptFormat = Literal["raw", "chat", "auto"]
PROMPT_FORMATS: tuple[PromptFormat, ...] = ("raw", "chat", "auto")

TEMPLATE_DATE = datetime(2024, 7, 26, tzinfo=UTC)
"""The day that every chat template is told, so that prompts are the same tomorrow: Llama 3's default."""

_MARK = re.compile(
    r"<\|(?!(?:user|assistant|system|human|bot|model)\|>)[^|<>\s]+\|>|<｜[^<>\s]+｜>|<(?:start|end|begin|bos|eos|im)_\w+>|</?s>"
)
"""A control token as templates write them; those with nothing but a role are ordinary text to some models (Zephyr)."""

_LONG = "\n".join(
    f'Line {line}: "A prompt stands whole, whatever its length — up to its last line."' for line in range(30)
)
"""A user's turn of which the lines must stand in a chat, but for their blanks."""

_DIRECTIVES = [f"%{letter}" for letter in "aAbBdeHIjmMpSUwWyYZ"] + ["%-d", "%-m", "%-H", "%-I", "%-M", "%-S"]


@dataclass(frozen=True)
class Prompts:
    """The prompts of one (x1, y): the target prompt I_y(x1) and the counter-prompts I_y'(x1)."""

    target: str
    counters: tuple[str, ...]


def build_prompts(
    spec: TaskSpec, label: str, x1: str | None, *, phrasing: int = 0, curly_quotes: bool = False
) -> Prompts:
    """Fills x1 (None where instructions take none) into the instruction of a label and of its counter-labels.

    Where labels have several instructions, `phrasing` chooses one; a label that has fewer gives its first. With
    `curly_quotes`, typographic marks, too, end a generated text, so that none may stand in x1 either.
    """
    filling = "" if x1 is None else quotable_in(spec, x1, curly_quotes=curly_quotes)
    labels = (label, *spec.labels[label].counter_labels)
    target, *counters = (spec.labels[name].phrasing(phrasing).replace(PLACEHOLDER, filling) for name in labels)
    return Prompts(target, tuple(counters))


def quotable_in(spec: TaskSpec, text: str, *, curly_quotes: bool = False) -> str:
    """A form of a text that can stand in a task's instructions, between its quotation marks."""
    marks = (*spec.closing_marks, *spec.opening_marks, *("“”" if curly_quotes else ""))
    return quotable(text, marks, keep_lines=spec.allow_newlines)


def quotable(text: str, marks: Collection[str] = ('"',), *, keep_lines: bool = False) -> str:
    """A form of a text that can stand between quotation marks on one line.

    A double quote would close the quotation early, so it becomes a typographic one, and any of other `marks` a single
    straight one; line breaks become spaces.

    Example:
        >>> quotable('He said "no".')
        'He said “no”.'
        >>> quotable("Sie sagte „nein“.", "„“")
        "Sie sagte 'nein'."
    """
    line = "\n".join(text.strip().splitlines()) if keep_lines else " ".join(text.split())
    if set(marks) != {'"'}:
        return re.sub("|".join(map(re.escape, sorted(marks, key=len, reverse=True))), "'", line)
    return re.sub(r'(^|[\s(\[{—–-])"', r"\1“", line).replace('"', "”")


def choose_format(prompt_format: PromptFormat, tokenizer: Any) -> Literal["raw", "chat"]:
    """Decides how prompts are written for a tokenizer: `auto` means a chat wherever there is a chat template.

    Raises ModelError where `chat` is asked of a tokenizer without one.
    """
    if prompt_format not in PROMPT_FORMATS:
        raise ConfigurationError(f"prompt format {prompt_format!r}: expected one of {', '.join(PROMPT_FORMATS)}")
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if prompt_format == "chat" and not has_template:
        raise ModelError(
            "the prompt format 'chat' needs a tokenizer with a chat template, and this one has none; use "
            "--prompt-format raw, or an instruction-tuned model"
        )
    return "chat" if has_template and prompt_format != "raw" else "raw"


def encode_prompt(prompt: str, tokenizer: Any, template: ChatTemplate | None = None) -> tuple[int, ...]:
    """Turns a prompt, which ends in an opening quotation mark, into token ids, without those that end a text.

    A template makes a chat of it, whose last, unfinished turn is the prompt's last line. Without one the raw text is
    tokenised with the tokenizer's own special tokens (such as one for the beginning of a text).
    """
    if template is not None:
        instruction, _, opening = prompt.rpartition("\n")
        if not instruction:
            instruction, opening = prompt[:-1].rstrip(), prompt[-1]
        return tuple(tokenizer(template.render(instruction, opening), add_special_tokens=False)["input_ids"])
    encoded = tokenizer(prompt, return_special_tokens_mask=True)
    ids, added = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
    while len(ids) > 1 and (added[len(ids) - 1] or ids[-1] == tokenizer.eos_token_id):
        ids.pop()
    return tuple(ids)


class ChatTemplate:
    """A tokenizer's chat template, tried out once, and told the same date every day.

    `takes_system` says whether it has a place for a system turn (some refuse it, and some leave it out without a word),
    `tells_date` whether it asks for a date, which is `TEMPLATE_DATE`; `strange_marks` are control tokens that it writes
    and the tokenizer does not know; `ignores_roles` says whether it writes an answer's turn like a user's; `sha256` is
    that of a chat that it made. A ModelError says that it cannot be rendered, leaves a turn out or cuts it, or makes
    another chat each time.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._in_parts = tokenizer, False
        user, opening, system = "Say 7193 once.", 'Answer 5308: "', "Mind the probe 6427."
        try:
            source: str = tokenizer.get_chat_template()
        except Exception as error:  # several templates, none of which is the default
            raise self._unusable(_reason(error)) from error
        self.tells_date = "strftime_now" in source or "date_string" in source
        self._told: dict[str, Any] = {"date_string": f"{TEMPLATE_DATE:%d %b %Y}"} if "date_string" in source else {}
        if "strftime_now" in source:
            self._told["chat_template"] = _with_fixed_date(source)
        try:
            rendered = self.render(user, opening)
        except ModelError as error:
            self._in_parts = True
            try:
                rendered = self.render(user, opening)
            except ModelError:
                raise error from None
        if user not in rendered and not self._in_parts:
            self._in_parts = True  # a loop over parts finds none in a string
            rendered = self.render(user, opening)
        if user not in rendered or not rendered.endswith(opening):
            raise self._unusable(f"it leaves out the {'answer' if user in rendered else 'user'}'s turn")
        if "".join(_LONG.split()) not in "".join(self.render(_LONG, opening).split()):
            raise self._unusable(f"it cuts or changes a user's turn of several lines ({len(_LONG)} characters)")
        if rendered != self.render(user, opening):
            raise self._unusable("it makes another chat of the same turns each time")
        try:
            with_system = self.render(user, opening, system)
        except ModelError:
            with_system = ""
        self.takes_system = system in with_system
        marks, known = dict.fromkeys(_MARK.findall(f"{with_system}{rendered}")), tokenizer.get_vocab()
        read = (tokenizer(mark, add_special_tokens=False)["input_ids"] for mark in marks)
        self.strange_marks = tuple(mark for mark, ids in zip(marks, read, strict=True) if known.get(mark) not in ids)
        self.ignores_roles = self._ignores_roles(rendered, user, opening)
        self.sha256 = hashlib.sha256(json.dumps([rendered, with_system]).encode()).hexdigest()

    def _ignores_roles(self, rendered: str, user: str, opening: str) -> bool:
        """Whether a chat is the same where the user speaks in the assistant's place, with more than blanks between."""
        try:
            same = self.render(user, opening, answers="user") == rendered
        except ModelError:
            return False
        return same and bool(rendered.partition(user)[2].removesuffix(opening).strip())

    def render(self, user: str, opening: str = "", system: str = "", answers: str = "assistant") -> str:
        """A chat as text: a system turn, a user's turn and the beginning of the answer; a ModelError if that fails."""
        turns = [("system", system)] * bool(system) + [("user", user)] + [(answers, opening)] * bool(opening)
        chat: list[dict[str, Any]] = [
            {"role": role, "content": [{"type": "text", "text": text}] if self._in_parts else text}
            for role, text in turns
        ]
        how = "continue_final_message" if opening else "add_generation_prompt"
        try:
            text: str = self._tokenizer.apply_chat_template(chat, tokenize=False, **{how: True}, **self._told)
        except Exception as error:  # a template is a program
            raise self._refusal(chat, error) from error
        return text

    def _refusal(self, chat: list[dict[str, Any]], error: Exception) -> ModelError:
        """Why a chat cannot be rendered: transformers speaks of its own option, whatever the template did."""
        if "continue_final_message" not in str(error):
            return self._unusable(_reason(error))
        try:
            self._tokenizer.apply_chat_template(chat, tokenize=False, **self._told)
        except Exception as own:
            roles = " and ".join(turn["role"] for turn in chat)
            raise self._unusable(f"it refuses a chat of {roles} ({_reason(own)})") from own
        return self._unusable("it leaves out or changes the answer's turn, which is to be continued")

    def _unusable(self, reason: str) -> ModelError:
        return ModelError(
            f"the chat template of {getattr(self._tokenizer, 'name_or_path', '') or 'the tokenizer'} cannot be used: "
            f"{reason}. Choose --prompt-format raw, or mend the template"
        )


def _with_fixed_date(source: str) -> str:
    """A template in which `strftime_now` tells `TEMPLATE_DATE`."""
    told = "".join(f"|replace({name!r}, {TEMPLATE_DATE.strftime(name)!r})" for name in _DIRECTIVES)
    return f"{{%- macro strftime_now(format='%Y-%m-%d') -%}}{{{{ format{told} }}}}{{%- endmacro -%}}{source}"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
