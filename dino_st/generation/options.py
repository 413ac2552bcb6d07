"""The options of generation, alone and together with those of decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import field_validator, model_validator

from dino_st.backends.options import SERVER_OPTIONS, ModelOptions
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, suggest
from dino_st.support.hashes import hash_texts
from dino_st.support.options import FrozenOptions, option

if TYPE_CHECKING:
    from dino_st.tasks.spec import TaskSpec


class GenerationOptions(ModelOptions):
    """What is generated, and on what hardware."""

    samples: int = option(2, "texts drawn for each sentence and label", ge=1, le=1000)
    seed: int = option(42, "seed of every draw", ge=0)
    score_labels: bool = option(
        False,
        "store how likely each text is under the instruction of every label (column log_probs), for filters and "
        "noise-aware targets",
    )
    debias: Literal["tokens", "rerank"] = option(
        "tokens",
        "how texts are kept apart by label: tokens (self-debiasing of every token with strength decay_constant, the "
        "published method) or rerank (not the published method: several texts without debiasing, of which the one is "
        "kept that its label makes likelier than its counter-labels do, by the widest margin; of a server, too, that "
        "returns log-probabilities of a prompt)",
    )
    candidates: int = option(4, "texts of which debias=rerank keeps one", ge=2, le=64)
    shard: str | None = option(
        None,
        "write only every n-th wave from the i-th on, for i/n with 1 ≤ i ≤ n such as 2/4; needs the batch_size as a "
        "number, the same for all n; `merge` joins their directories",
    )

    @field_validator("shard")
    @classmethod
    def _one_of_several(cls, value: str | None) -> str | None:
        if value is not None:
            index, slash, count = value.partition("/")
            if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
                raise ValueError("i/n with 1 ≤ i ≤ n, such as 2/4")
            return f"{int(index)}/{int(count)}"
        return value

    @model_validator(mode="after")
    def _shards_agree_on_waves(self) -> Self:
        if self.shard is not None and self.batch_size == "auto":
            raise ValueError("a batch_size in numbers along with shard, the same for every shard of a data set")
        return self

    @model_validator(mode="after")
    def _candidates_are_compared(self) -> Self:
        if "candidates" in self.model_fields_set and self.debias != "rerank":
            raise ValueError("debias='rerank' along with candidates, which nothing else compares")
        return self

    def candidates_of(self, spec: TaskSpec, label: str) -> int:
        """Texts that are written for each one that is kept; labels without counter-labels have nothing to compare."""
        return self.candidates if self.debias == "rerank" and spec.labels[label].counter_labels else 1

    @property
    def waves(self) -> tuple[int, int]:
        """The first wave to write, from 0, and the distance to the next one."""
        if self.shard is None:
            return 0, 1
        index, _, count = self.shard.partition("/")
        return int(index) - 1, int(count)

    def known_configuration(
        self, spec: TaskSpec, decoding: DecodingOptions, sentences: Sequence[str] | None, num: int | None
    ) -> dict[str, Any]:
        """What decides a run, in the form of manifests, as far as it is known before the model is loaded."""
        inputs: dict[str, Any] = {"num": num}
        if sentences is not None:
            inputs = {"sentences": len(sentences), "sha256": hash_texts(sentences), "samples": self.samples}
        return {
            "task": spec.model_dump(mode="json"),
            "inputs": inputs,
            **self.known_identity(),
            "decoding": asdict(decoding),
            "seed": self.seed,
            **({} if self.batch_size == "auto" else {"batch_size": self.batch_size}),
            "shard": self.shard,
            "score_labels": self.score_labels or None,
            **self.reranking(),
        }

    def reranking(self) -> dict[str, Any]:
        """What of a run's configuration says that texts are reranked; nothing where they are not."""
        return {"debias": self.debias, "candidates": self.candidates} if self.debias == "rerank" else {}


class JudgeOptions(FrozenOptions):
    """How pairs are rated."""

    both_orders: bool = option(True, "rate each pair in both orders of its sentences, and take the mean")
    max_tries: int = option(3, "requests to a server for a rating, until its reply is a number alone", ge=1)
    max_new_tokens: int = option(16, "tokens that a server's reply may take; more for a model that thinks first", ge=1)


@dataclass(frozen=True)
class WritingOptions:
    """Everything that says how a local model writes for a task of DINO."""

    generation: GenerationOptions  # what is generated, and on what hardware
    decoding: DecodingOptions  # sampling and debiasing, as for a task with inputs
    given: frozenset[str]  # names of the decoding options that were given

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Builds both kinds of options from names and values; a ConfigurationError where one is unknown or bad."""
        known = (*GenerationOptions.model_fields, *DecodingOptions.names())
        for name in options:
            if name not in known and name in SERVER_OPTIONS:
                raise ConfigurationError(
                    f"option {name!r} is for a chat server, and a local model writes here; leave it out, or have a "
                    "server write: `dino-st generate --backend openai`, or `generate_triplets(backend='openai')`"
                )
            if name not in known:
                raise ConfigurationError(f"there is no option {name!r}: {suggest(name, known)}")
        drawing = {name: value for name, value in options.items() if name in DecodingOptions.names()}
        others = {name: value for name, value in options.items() if name not in drawing}
        generation = GenerationOptions.of(**others)
        if generation.debias == "rerank" and drawing.setdefault("decay_constant", 0.0):
            raise ConfigurationError(
                f"decay_constant = {drawing['decay_constant']:g} along with debias='rerank', which compares texts that "
                "were written without debiasing; leave one of the two out"
            )
        return cls(generation, DecodingOptions(**drawing), frozenset(drawing))

    def decoding_for(self, spec: TaskSpec) -> DecodingOptions:
        """The options of decoding for a task: texts from scratch are drawn from all tokens unless top_k was given.

        Raises ConfigurationError where texts from scratch would have to be reranked.
        """
        has_counters = any(label.counter_labels for label in spec.labels.values())
        if self.generation.debias == "rerank" and not spec.needs_input and has_counters:
            raise ConfigurationError(
                f"task {spec.task_name!r} writes texts from scratch, and debias='rerank' is for pairs; leave debias out"
            )
        if spec.needs_input or "top_k" in self.given:
            return self.decoding
        return replace(self.decoding, top_k=0)
