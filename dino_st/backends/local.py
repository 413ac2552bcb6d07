"""A causal language model on this machine: what it is called, how it is prompted, and writing and scoring with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dino_st.backends.files import model_files
from dino_st.backends.loading import (
    check_causal_model,
    check_tokenizer,
    hash_settings,
    hash_weights,
    load_causal_model,
    resolve_device,
    resolve_dtype,
)
from dino_st.backends.options import ModelOptions
from dino_st.backends.prompting import Prompter
from dino_st.decoding.engine import DecodingEngine, Draw, Drawn
from dino_st.decoding.memory import automatic_rows, typical_length
from dino_st.decoding.options import DecodingOptions
from dino_st.decoding.stopping import TextForm
from dino_st.errors import ConfigurationError
from dino_st.forward.probe import probe
from dino_st.support.text import count_words
from dino_st.tasks.prompts import TEMPLATE_DATE, encode_prompt, quotable_in
from dino_st.tasks.spec import TaskSpec


@dataclass(frozen=True)
class Request:
    """One text to write: for an x1 (None where the task takes none), a label, a sample number, and a phrasing."""

    x1: str | None
    label: str
    sample: int
    phrasing: int = 0


@dataclass(frozen=True)
class Scored:
    """How likely a given text is: log-probabilities in nats, None where they cannot be had."""

    num_tokens: int  # of the text with its closing mark
    log_probs: tuple[float, ...] | None  # log p(text, closing mark | instruction) by label; None: prompts too long
    plain_log_prob: float | None  # without instruction; None where no token begins a text


class LocalWriter(Prompter):
    """A causal language model on this machine, and how it is prompted.

    It is loaded from a directory or the hub, or taken as a pair (model, tokenizer), which stays where it is and as wide
    as it is. `dtype` and `device` are the names of the weights' type and of the kind of device, such as `bfloat16`,
    `cuda`.

    Raises ConfigurationError where an option is unknown or out of range, or the device is not there, ModelError where
    the model cannot be loaded or is no decoder-only language model, and MissingExtraError where a chat template needs
    jinja2, a GGUF file gguf or an adapter peft, and it is missing.
    """

    def __init__(
        self, model: str | Path | tuple[Any, Any], options: ModelOptions | None = None, /, **changes: Any
    ) -> None:
        self.options = ModelOptions.of(options, **changes)
        self._files: Path | None = None
        if not isinstance(model, str | Path) and not _is_model_and_tokenizer(model):
            given = type(model).__name__
            if isinstance(model, tuple):
                given = f"({', '.join(type(part).__name__ for part in model)})"
            raise ConfigurationError(
                f"model: given {given}; expected a directory, a hub name, or a pair (model, tokenizer) of transformers"
            )
        if isinstance(model, tuple):
            self.model, self.tokenizer = model
            self.name = str(getattr(self.model.config, "_name_or_path", "") or type(self.model).__name__)
            self.model.eval()
            self._check_place()
        else:
            device = resolve_device(self.options.device)
            dtype = resolve_dtype(self.options.dtype, device)
            self._files = model_files(model)
            self.name = str(model)
            self.model, self.tokenizer = load_causal_model(
                model,
                device=device,
                dtype=dtype,
                trust_remote_code=self.options.trust_remote_code,
                files=self._files,
            )
        check_causal_model(self.model)
        super().__init__(self.tokenizer, self.name, self.options)
        check_tokenizer(self.model, self.tokenizer, encode_prompt('Say:\n"', self.tokenizer, self._template))
        if self.options.prompt_format == "auto":
            self.say_format()
        self.dtype = str(self.model.dtype).removeprefix("torch.")
        self.device = str(self.model.device.type)
        self._hashes: dict[str, str] = {}  # which copies of this writer share

    def _check_place(self) -> None:
        """Raises if a model that was handed in is of another type, or elsewhere, than the options say."""
        has = {"dtype": str(self.model.dtype).removeprefix("torch."), "device": str(self.model.device)}
        for name, own in has.items():
            wanted = str(getattr(self.options, name))
            if wanted not in ("auto", own, own.partition(":")[0]):
                converted = f"model.to({wanted!r})" if name == "device" else f"model.to(torch.{wanted})"
                raise ConfigurationError(
                    f"{name} is {wanted!r}, but the model that was handed in has {own!r} and stays as it is; leave "
                    f"{name} out, or hand in {converted}"
                )

    def weights_hash(self) -> str:
        """SHA-256 of the weights; see `hash_weights`."""
        if "weights" not in self._hashes:
            self._hashes["weights"] = hash_weights(self._files, self.model)
        return self._hashes["weights"]

    def _settings_hash(self) -> str:
        if "settings" not in self._hashes:
            self._hashes["settings"] = hash_settings(self.model, self.tokenizer)
        return self._hashes["settings"]

    def identity(self) -> dict[str, str]:
        """What of the model decides its output, for manifests."""
        return {
            "weights_sha256": self.weights_hash(),
            "settings_sha256": self._settings_hash(),
            "prompt_format": self.prompt_format,
            "dtype": self.dtype,
            "device": self.device,
            **({"gpu": torch.cuda.get_device_name(self.model.device)} if self.device == "cuda" else {}),
            **({"template_sha256": self._template.sha256} if self._template else {}),
            **({"template_date": f"{TEMPLATE_DATE:%Y-%m-%d}"} if self._template and self._template.tells_date else {}),
        }

    def choose_rows(
        self, batch_size: int | str, spec: TaskSpec, sample_of_inputs: Sequence[str], new_tokens: int
    ) -> int:
        """How many streams are decoded together: a number given, or `auto` for as many as fit into memory.

        The sample of inputs shows how long prompts are; it is empty where the task takes none.
        """
        if batch_size != "auto":
            return int(batch_size)
        label = next(iter(spec.labels))
        examples: list[str | None] = [*sample_of_inputs] or [None]
        return self.automatic_rows([len(self.encode_prompts(spec, label, x1, False)[0]) for x1 in examples], new_tokens)

    def automatic_rows(self, prompt_lengths: Sequence[int], new_tokens: int) -> int:
        """How many streams to decode together for prompts of such lengths; see `decoding.memory.automatic_rows`."""
        typical = typical_length(prompt_lengths)
        return automatic_rows(self.model, probe(self.model), prompt_tokens=typical, new_tokens=new_tokens)

    def engine(self, options: DecodingOptions, *, seed: int, rows: int, spec: TaskSpec | None = None) -> DecodingEngine:
        """An engine on this model that writes a task's texts, or what a straight quotation mark ends."""
        form = TextForm(count_words=count_words)
        if spec is not None:
            form = TextForm(spec.closing_marks, spec.opening_marks, spec.allow_newlines, count_words)
        return DecodingEngine(self.model, self.tokenizer, options, seed=seed, rows=rows, form=form)

    def write(
        self, spec: TaskSpec, requests: Sequence[Request], engine: DecodingEngine, *, score_labels: bool = False
    ) -> list[Drawn]:
        """Writes a text for every request, in the same order; `log_probs` come in the order of the task's labels.

        Requests of one x1 should follow one another. With `score_labels`, each text is scored under the instruction of
        every label.
        """
        prompts: dict[tuple[str | None, str, int], tuple[tuple[int, ...], ...]] = {}
        curly_quotes = engine.options.curly_quotes

        def encoded(x1: str | None, label: str, phrasing: int) -> tuple[tuple[int, ...], ...]:
            place = (x1, label, phrasing)
            if place not in prompts:
                prompts[place] = self.encode_prompts(spec, label, x1, curly_quotes, phrasing)
            return prompts[place]

        draws = []
        for request in requests:
            target, *counters = encoded(request.x1, request.label, request.phrasing)
            labels = spec.labels if score_labels else ()
            scored = tuple(encoded(request.x1, label, request.phrasing)[0] for label in labels)
            draws.append(Draw(request.x1 or "", request.label, request.sample, target, tuple(counters), scored))
        return engine.decode(draws)

    def score(self, spec: TaskSpec, pairs: Sequence[tuple[str, str, int]], engine: DecodingEngine) -> list[Scored]:
        """Says how likely the second texts of pairs are under the instruction of every label, and without one.

        The text is split into tokens anew, so the tokens may differ from those it was once written in. Pairs (x1, x2,
        number of the phrasing) of one x1 should follow one another.
        """
        start = next((i for i in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if i is not None), None)
        prompts, texts, fitting = [], [], []
        results = [Scored(0, None, None) for _ in pairs]
        for i, (x1, x2, phrasing) in enumerate(pairs):
            text = quotable_in(spec, self.defused(x2) or "", curly_quotes=engine.options.curly_quotes)
            quoted, plain = (self._text_ids(piece) for piece in (f"{text}{spec.closing_marks[0]}", text))
            labels = [
                self.encode_prompts(spec, label, x1, engine.options.curly_quotes, phrasing)[0] for label in spec.labels
            ]
            results[i] = Scored(len(quoted), None, None)
            if max(map(len, labels)) + len(quoted) <= engine.longest_prompt + engine.options.max_new_tokens:
                without = [] if start is None or not plain else [(start,)]
                prompts.append((*labels, *without))
                texts.append((*([quoted] * len(labels)), *([plain] * len(without))))
                fitting.append(i)
        for i, scores in zip(fitting, engine.score(prompts, texts), strict=True):
            count = len(spec.labels)
            results[i] = Scored(results[i].num_tokens, scores[:count], next(iter(scores[count:]), None))
        return results

    def _text_ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _is_model_and_tokenizer(given: Any) -> bool:
    return (
        isinstance(given, tuple)
        and len(given) == 2
        and hasattr(given[0], "config")
        and hasattr(given[1], "added_tokens_decoder")
    )
