"""How a local language model is prompted: its tokenizer, raw text or a chat, and special tokens taken out."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any
from warnings import warn

from dino_st.backends.chat import ChatRequest
from dino_st.backends.options import ModelOptions
from dino_st.errors import DinoWarning, MissingExtraError
from dino_st.support.progress import logger
from dino_st.tasks.prompts import ChatTemplate, build_prompts, choose_format, encode_prompt
from dino_st.tasks.spec import TaskSpec


class Prompter:
    """A tokenizer, and how a model's prompts are written for it; needs no weights.

    `prompt_format` is `raw` or `chat`, after `auto` was decided. Raises ModelError where the chat template is missing
    or cannot be used, and MissingExtraError where it needs jinja2, and that is missing.
    """

    def __init__(self, tokenizer: Any, name: str, options: ModelOptions) -> None:
        self.tokenizer, self.name, self.options = tokenizer, name, options
        added = tokenizer.added_tokens_decoder.values()
        self._special_tokens = sorted(token.content for token in added if token.special and len(token.content) > 1)
        self.prompt_format: str = choose_format(options.prompt_format, tokenizer)
        if self.prompt_format == "chat" and find_spec("jinja2") is None:
            raise MissingExtraError(
                f"model {name!r} is prompted by its chat template, which needs jinja2; run: pip install "
                '"jinja2>=3.1", or choose the prompt format raw'
            )
        self._template = ChatTemplate(tokenizer) if self.prompt_format == "chat" else None
        if self._template and (marks := self._template.strange_marks):
            warn(
                f"the chat template of {name} writes {', '.join(marks)}, which its tokenizer reads as ordinary text, "
                "as if it were another model's template; take this model's own, or choose --prompt-format raw",
                DinoWarning,
                stacklevel=3,
            )
        if self._template and self._template.ignores_roles:
            warn(
                f"the chat template of {name} writes an answer's turn like a user's, so that every answer begins as if "
                "the user went on; take this model's own template, or choose --prompt-format raw",
                DinoWarning,
                stacklevel=3,
            )

    def say_format(self) -> None:
        """Logs how `auto` was decided, since it changes what is written."""
        if self._template is None:
            logger.info("%s is prompted with raw text, since its tokenizer has no chat template", self.name)
        else:
            logger.info(
                "%s is prompted by its chat template. That changes what is written: to compare, write some texts with "
                "--prompt-format raw, too, and read both",
                self.name,
            )

    def encode_prompts(
        self, spec: TaskSpec, label: str, x1: str | None, curly_quotes: bool, phrasing: int = 0
    ) -> tuple[tuple[int, ...], ...]:
        """Token ids of the target prompt of a label for a sentence, and of its counter-prompts."""
        built = build_prompts(spec, label, self.defused(x1), phrasing=phrasing, curly_quotes=curly_quotes)
        return tuple(self.encode_opened(text) for text in (built.target, *built.counters))

    def encode_opened(self, prompt: str) -> tuple[int, ...]:
        """Token ids of a prompt whose last line is the beginning of the answer, up to an opening quotation mark."""
        return encode_prompt(prompt, self.tokenizer, self._template)

    def defused(self, x1: str | None) -> str | None:
        """Takes special tokens out of a sentence: `<|im_end|>` in a text must not end the user's turn."""
        if x1 is None:
            return None
        for token in self._special_tokens:
            x1 = x1.replace(token, f"{token[0]} {token[1:]}")
        return x1

    def encode(self, request: ChatRequest) -> tuple[int, ...]:
        """Token ids of a request: a chat whose last turn begins with the opening, or raw text."""
        prompt, system = self.defused(request.prompt) or "", self.defused(request.system) or ""
        if system and not (self._template and self._template.takes_system):
            prompt, system = f"{system}\n\n{prompt}", ""
        if self._template is None:
            return encode_prompt(prompt, self.tokenizer)
        rendered = self._template.render(prompt, self.defused(request.opening) or "", system)
        return tuple(self.tokenizer(rendered, add_special_tokens=False)["input_ids"])
