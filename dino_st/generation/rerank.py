"""Which of several texts is kept: the one that its label's instruction makes likelier than any counter-label's does.

A stand-in for self-debiasing where the probabilities of single tokens are out of reach, such as on a server, and not
the published method (arXiv 2104.07540, section 3, debiases every token). Texts are written without debiasing, and whole
texts are compared: the margin of a text x2 is log p(x2|I_y) - max log p(x2|I_y') over the counter-labels y', in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dino_st.tasks.spec import TaskSpec


def margin(spec: TaskSpec, label: str, log_probs: Sequence[float]) -> float:
    """How much likelier a text is under its label's instruction than under that of any counter-label, in nats.

    `log_probs` come in the order of the task's labels. Infinite for a label without counter-labels.
    """
    of_label: Mapping[str, float] = dict(zip(spec.labels, log_probs, strict=True))
    others = [of_label[other] for other in spec.labels[label].counter_labels]
    return of_label[label] - max(others, default=float("-inf"))


def widest(spec: TaskSpec, label: str, candidates: Sequence[Sequence[float]]) -> int:
    """The place of the text with the widest margin, of which there is at least one; the first among equals."""
    margins = [margin(spec, label, log_probs) for log_probs in candidates]
    return margins.index(max(margins))
