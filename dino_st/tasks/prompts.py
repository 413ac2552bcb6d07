"""From a task specification and an x1 to prompts.

DINO (arXiv 2104.07540, section 3) writes I_y(x1), the instruction of label y with x1 filled in. Base models take it as
raw text; for instruction-tuned models the same text becomes a chat, in which the instruction is the user's turn and
its last line, such as `Sentence 2: "`, the beginning of the answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from dino_st.errors import ConfigurationError, ModelError
from dino_st.tasks.spec import PLACEHOLDER, TaskSpec

PromptFormat = Literal["raw", "chat", "auto"]
PROMPT_FORMATS: tuple[PromptFormat, ...] = ("raw", "chat", "auto")


@dataclass(frozen=True)
class Prompts:
    """The prompts of one (x1, y): the target prompt I_y(x1) and the counter-prompts I_y'(x1)."""

    target: str
    counters: tuple[str, ...]


def build_prompts(
    spec: TaskSpec, label: str, x1: str | None, *, phrasing: int = 0, curly_quotes: bool = False
) -> Prompts:
    """Fills x1 into the instruction of a label and of its counter-labels.

    Args:
        spec: The task specification.
        label: One of its labels.
        x1: The input sentence; None for a task whose instructions take none.
        phrasing: Which of the instructions to take where a label has several; a counter-label that has fewer gives its
            first.
        curly_quotes: Whether typographic marks, too, end a generated text (then none may stand in x1 either).

    Returns:
        The target prompt and one counter-prompt for each counter-label.
    """
    filling = "" if x1 is None else quotable(x1, curly_quotes=curly_quotes)
    labels = (label, *spec.labels[label].counter_labels)
    target, *counters = (spec.labels[name].phrasing(phrasing).replace(PLACEHOLDER, filling) for name in labels)
    return Prompts(target, tuple(counters))


def quotable(text: str, *, curly_quotes: bool = False) -> str:
    """A form of a text that can stand between quotation marks on one line.

    A double quote would close the quotation early, so it becomes a typographic one; line breaks become spaces.

    Example:
        >>> quotable('He said "no".')
        'He said “no”.'
    """
    line = " ".join(text.split())
    if curly_quotes:
        return re.sub('["“”]', "'", line)
    return re.sub(r'(^|[\s(\[{—–-])"', r"\1“", line).replace('"', "”")


def choose_format(prompt_format: PromptFormat, tokenizer: Any) -> Literal["raw", "chat"]:
    """Decides how prompts are written for a tokenizer: `auto` means a chat wherever there is a chat template.

    Raises:
        ConfigurationError: If the name is unknown.
        ModelError: If `chat` is asked of a tokenizer without a chat template.
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


def encode_prompt(prompt: str, tokenizer: Any, prompt_format: Literal["raw", "chat"]) -> tuple[int, ...]:
    """Turns a prompt into token ids.

    Args:
        prompt: A filled-in instruction, ending in an opening quotation mark.
        tokenizer: A transformers tokenizer.
        prompt_format: `raw` tokenises the text with the tokenizer's own special tokens (a beginning-of-text token where
            the model was trained with one); `chat` goes through the chat template.

    Returns:
        Token ids, without the tokens that the tokenizer ends a text with.
    """
    if prompt_format == "chat":
        ids = tokenizer(render_chat(prompt, tokenizer), add_special_tokens=False)["input_ids"]
        return tuple(ids)
    encoded = tokenizer(prompt, return_special_tokens_mask=True)
    ids, added = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
    while len(ids) > 1 and (added[len(ids) - 1] or ids[-1] == tokenizer.eos_token_id):
        ids.pop()
    return tuple(ids)


def render_chat(prompt: str, tokenizer: Any) -> str:
    """Renders a prompt as a chat whose last, unfinished turn is the prompt's last line."""
    instruction, _, opening = prompt.rpartition("\n")
    if not instruction:
        instruction, opening = prompt.removesuffix('"').rstrip(), '"'
    turns = [{"role": "user", "content": instruction}, {"role": "assistant", "content": opening}]
    rendered: str = tokenizer.apply_chat_template(turns, tokenize=False, continue_final_message=True)
    return rendered
