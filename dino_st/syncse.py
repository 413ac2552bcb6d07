"""SynCSE (Zhang, Lan and He 2023, arXiv 2305.15077): triplets that a chat model writes, for contrastive training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dino_st.chat_options import BackendName, SynCSEOptions
from dino_st.errors import ConfigurationError
from dino_st.inputs import clean_sentences
from dino_st.syncse_spec import ScratchSpec, SynCSESpec, load_syncse_spec

if TYPE_CHECKING:
    from datasets import Dataset

    from dino_st.backends.chat import ChatBackend
    from dino_st.syncse_run import TripletOutcome


def generate_triplets(
    model: str | Path | tuple[Any, Any] | ChatBackend,
    sentences: Iterable[str] | None = None,
    *,
    num: int | None = None,
    task: str | Path | Mapping[str, Any] | SynCSESpec = "syncse-partial",
    backend: BackendName = "local",
    base_url: str | None = None,
    output_dir: str | Path | None = None,
    show_progress: bool = False,
    **options: Any,
) -> Dataset:
    """Has a model write a positive and a hard negative for each sentence, and the sentences, too, if need be.

    Example:
        >>> triplets = generate_triplets("dino-tiny", ["A man is playing a flute."])
        >>> triplets = generate_triplets(
        ...     "Qwen/Qwen2.5-7B-Instruct",
        ...     num=10_000,
        ...     task="syncse-scratch",
        ...     backend="openai",
        ...     base_url="http://localhost:8000/v1",
        ...     output_dir="triplets",
        ... )

    Args:
        model: Hub name, directory, `dino-tiny`, a pair (model, tokenizer), the name that a server knows a model by, or
            a `ChatBackend`.
        sentences: For `syncse-partial`; blank ones and duplicates are skipped.
        num: For `syncse-scratch`: how many sentences to write.
        task: `syncse-partial`, `syncse-scratch`, a YAML file of one's own, or a specification.
        backend: `local`, or `openai` for a chat server; its key comes from the environment, `OPENAI_API_KEY`.
        base_url: Address of the server.
        output_dir: Where to write shards, replies and rejected sentences. The same call goes on behind an interruption
            without asking anything twice, and tries rejected sentences again. Without it all stays in memory.
        show_progress: Whether to show a progress bar (on a terminal) or log a line a minute.
        **options: Fields of `SynCSEOptions` (`seed`, `max_tries`, `max_new_tokens`); for a local model `device`,
            `dtype`, `prompt_format`, `batch_size`, `top_k`, `top_p`, …; for a server the fields of `ServerOptions`
            (`temperature`, `concurrency`, `requests_per_minute`, `timeout`, …).

    Returns:
        `anchor`, `positive`, `negative`, then the ids of the instructions (`positive_instruction`,
        `negative_instruction`), `x1_index` (position of the anchor among the distinct sentences) and `tries` (replies
        looked at for both texts, 2 when the first ones were taken); in the order of the sentences, without those that
        never got a usable triplet.

    Raises:
        ConfigurationError: If options do not fit one another, or the server refuses the key.
        InputError: If no usable sentence is among the inputs.
        TaskSpecError: If there is no such task, or it is malformed.
        ModelError: If the model cannot be loaded, or the server does not answer.
        OutputError: If the output directory cannot be used.
    """
    outcome = run_triplets(
        model, sentences, num, load_syncse_spec(task), backend, base_url, output_dir, show_progress, options
    )
    return outcome.dataset


def run_triplets(
    model: str | Path | tuple[Any, Any] | ChatBackend,
    sentences: Iterable[str] | None,
    num: int | None,
    spec: SynCSESpec,
    backend: BackendName,
    base_url: str | None,
    output_dir: str | Path | None,
    show_progress: bool,
    options: Mapping[str, Any],
) -> TripletOutcome:
    """What `generate_triplets` does, with counts and rejected sentences."""
    from dino_st.chat_choice import from_all_tokens, open_backend
    from dino_st.syncse_run import TripletRun

    check_arguments(spec, has_sentences=sentences is not None, num=num)
    if isinstance(sentences, str):
        raise ConfigurationError("sentences: expected a list of sentences, given one text; wrap it: [text]")
    chosen = SynCSEOptions.create(**{name: options[name] for name in options if name in SynCSEOptions.model_fields})
    texts = None if sentences is None else clean_sentences(sentences).texts
    more = {name: value for name, value in options.items() if name not in SynCSEOptions.model_fields}
    writer = open_backend(model, backend, base_url=base_url, options=more | {"seed": chosen.seed})
    scratch_writer = from_all_tokens(writer) if writer is not model and "top_k" not in options else writer
    run = TripletRun(writer, scratch_writer, spec, chosen, texts, num)
    return run.in_memory(show_progress) if output_dir is None else run.into(Path(output_dir), show_progress)


def check_arguments(spec: SynCSESpec, *, has_sentences: bool, num: int | None) -> None:
    """Checks that a specification gets what it needs.

    Raises:
        ConfigurationError: If sentences are missing, or the number of those to write; or either is too much.
    """
    if isinstance(spec, ScratchSpec):
        if has_sentences or num is None:
            raise ConfigurationError(
                f"task {spec.task_name!r} writes its sentences itself: say how many with --num N, and leave out --input"
            )
        if num < 1:
            raise ConfigurationError(f"num = {num}: expected at least 1")
    elif not has_sentences or num is not None:
        raise ConfigurationError(
            f"task {spec.task_name!r} writes for given sentences: give them with --input FILE, and leave out --num"
        )
