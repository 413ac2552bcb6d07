"""SynCSE-scratch: distinct sentences by genre, topic and style (arXiv 2305.15077)."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path

from dino_st.backends.answers.comparison import words_of
from dino_st.backends.answers.parsing import parse_list
from dino_st.backends.chat import LATE, ChatReply, ChatRequest
from dino_st.backends.journal import Ask
from dino_st.backends.options import SynCSEOptions
from dino_st.errors import ModelError, OutputError
from dino_st.support.files import write_text
from dino_st.syncse.partial import shuffled
from dino_st.tasks.syncse import ScratchSpec

NEAR = 0.8
"""Jaccard coefficient of two sentences' sets of words from which on they count as one."""


class DistinctSentences:
    """Takes sentences one by one and says of each whether one like it is there already.

    Two sets of words A and B with |A ∩ B| / |A ∪ B| ≥ t share a word among the first |A| - ⌈t·|A|⌉ + 1 of A and the
    first |B| - ⌈t·|B|⌉ + 1 of B, whatever the order of all words is. Only these few are indexed, and with the longest
    words first, which are rare, few sentences have to be compared.

    Example:
        >>> distinct = DistinctSentences()
        >>> distinct.add("A man plays a flute."), distinct.add("a man plays a flute"), distinct.add("It rains.")
        (True, False, True)
    """

    def __init__(self) -> None:
        self._sets: list[frozenset[str]] = []
        self._index: defaultdict[str, list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, sentence: str) -> bool:
        """Takes a sentence in, unless it, or one of almost the same words, is there; says whether it did."""
        words = frozenset(words_of(sentence))
        ordered = sorted(words, key=lambda word: (-len(word), word))
        prefix = ordered[: len(words) - math.ceil(NEAR * len(words) - 1e-9) + 1]
        candidates = {number for word in prefix for number in self._index[word]}
        if any(_are_near(words, self._sets[number]) for number in candidates):
            return False
        for word in prefix:
            self._index[word].append(len(self._sets))
        self._sets.append(words)
        return True


def _are_near(one: frozenset[str], other: frozenset[str]) -> bool:
    if min(len(one), len(other)) < NEAR * max(len(one), len(other)) - 1e-9:
        return False
    common = len(one & other)
    return common >= NEAR * (len(one) + len(other) - common) - 1e-9


REQUESTS_PER_SENTENCE = 10
"""A run gives up after so many times the requests that it would take if every sentence were new."""

_LEAST_IN_A_ROUND, _MOST_IN_A_ROUND = 8, 512
_RESERVE = 1.1


@dataclass(frozen=True)
class WrittenSentence:
    """A sentence, and the combination it was asked for with; empty where a model went on with raw text."""

    text: str
    genre: str = ""
    topic: str = ""
    style: str = ""


@dataclass(frozen=True)
class SentenceWriter:
    """Asks a model for sentences, until there are enough that are not alike."""

    spec: ScratchSpec
    ask: Ask
    is_chat: bool  # whether the model takes instructions, or goes on with raw text
    is_local: bool  # whether its answer ends at the first quotation mark, so that it holds one sentence
    options: SynCSEOptions
    at_once: bool = False  # whether rounds are long in coming, so that as much is asked for as may be wanted

    def write(
        self, num: int, advance: Callable[[int], None] = lambda _: None
    ) -> tuple[list[WrittenSentence], Counter[str]]:
        """Writes sentences, no two of them alike.

        The combinations come in an order that the seed decides, all of them once, then all of them again. Sentences are
        looked at in the order of requests, and the first ones that are like none before are taken, so that nothing
        depends on how many requests are made at a time. Half as many sentences are asked for at once where an answer
        does not come in time.

        There are fewer than `num` where `REQUESTS_PER_SENTENCE` were not enough; where requests failed, that is a
        ModelError. Returns counts, too: `sentence requests`, `failed sentence requests`, `duplicate sentences`, `left
        out sentences: …`, tokens.
        """
        distinct, counts = DistinctSentences(), Counter[str]()
        taken: list[WrittenSentence] = []
        combinations, asked_for, fruitless, has_answered, reason = self._combinations(), 0, 0, False, ""
        several = self.sentences_at_once(num)
        least = _LEAST_IN_A_ROUND if several == 1 else 1
        number, limit = 0, REQUESTS_PER_SENTENCE * math.ceil(num / several)
        while len(taken) < num and number < limit and fruitless < _LEAST_IN_A_ROUND:
            share = len(taken) / asked_for if taken else 1.0
            wanted = math.ceil(_RESERVE * (num - len(taken)) / (share * several))
            # A few requests show first whether an answer of this size comes in time.
            largest = _MOST_IN_A_ROUND if has_answered or several == 1 else _LEAST_IN_A_ROUND
            largest = limit if self.at_once else largest
            size = min(max(wanted, least), largest, limit - number)
            asked = [next(combinations) for _ in range(size)]
            requests = [self._request(number + i, several, *combination) for i, combination in enumerate(asked)]
            number, asked_for = number + size, asked_for + size * several
            before, is_late = len(taken), False
            for combination, request, reply in zip(asked, requests, self.ask(requests), strict=True):
                texts = self._looked_at(request, reply, counts)
                if reply.text is None:
                    reason = reply.failure or "no reason given"
                    was_late = request.is_divisible and reason.startswith(LATE)
                    is_late, fruitless = is_late or was_late, 0 if was_late or self.is_local else fruitless + 1
                    continue
                has_answered, fruitless = True, 0
                for text in texts if len(taken) < num else ():
                    if not distinct.add(text):
                        counts["duplicate sentences"] += 1
                    elif len(taken) < num:
                        taken.append(WrittenSentence(text, *(combination if self.is_chat else ())))
            if is_late:
                several, has_answered = several // 2, False
                limit = number + REQUESTS_PER_SENTENCE * math.ceil((num - len(taken)) / several)
            advance(len(taken) - before)
        if len(taken) < num and (failed := counts["failed sentence requests"]):
            raise ModelError(
                f"{len(taken):,} of {num:,} sentences came out, since {failed:,} of {counts['sentence requests']:,} "
                f"requests failed, the last one with: {reason}; run again to go on (what was answered is kept where "
                "there is an output directory)"
            )
        return taken, +counts

    def sentences_at_once(self, num: int) -> int:
        """How many sentences a request asks for, as long as answers come in time."""
        most = 1 if self.is_local or not self.is_chat else self.spec.sentences_per_request
        return min(most, math.ceil(_RESERVE * num))

    def first_requests(self, num: int, count: int) -> list[ChatRequest]:
        """The first requests that `write` makes for so many sentences."""
        several = self.sentences_at_once(num)
        return [self._request(i, several, *one) for i, one in enumerate(islice(self._combinations(), count))]

    def _looked_at(self, request: ChatRequest, reply: ChatReply, counts: Counter[str]) -> tuple[str, ...]:
        """The sentences of a reply; counts what it cost and what was left out."""
        counts["sentence requests"] += 1
        counts.update({"prompt tokens": reply.prompt_tokens, "completion tokens": reply.completion_tokens})
        if reply.text is None:
            counts["left out sentences: no finished text" if self.is_local else "failed sentence requests"] += 1
            return ()
        instruction = f"{request.system} {request.prompt}" if self.is_chat else ""
        parsed = parse_list(reply.text, prompt=instruction, finished=reply.finished)
        counts.update({f"left out sentences: {why}": count for why, count in parsed.left_out.items()})
        return parsed.texts

    def _request(self, number: int, several: int, genre: str, topic: str, style: str) -> ChatRequest:
        key = f"sentences/{number}"
        if not self.is_chat:
            raw = self.spec.completion[number % len(self.spec.completion)]
            return ChatRequest(key, raw, max_new_tokens=self.options.max_new_tokens)
        prompt = self.spec.one if several == 1 else self.spec.several.replace("<NUMBER>", str(several))
        for placeholder, value in (("<GENRE>", genre), ("<TOPIC>", topic), ("<STYLE>", style)):
            prompt = prompt.replace(placeholder, value)
        limit = several * self.options.max_new_tokens
        return ChatRequest(key, prompt.strip(), self.spec.system, max_new_tokens=limit, is_divisible=several > 1)

    def _combinations(self) -> Iterator[tuple[str, str, str]]:
        name = f"{self.options.seed}/combinations"
        once = shuffled(list(product(self.spec.genres, self.spec.topics, self.spec.styles)), name)
        while True:
            yield from once


def save_sentences(path: Path, sentences: Sequence[WrittenSentence]) -> None:
    """Writes sentences as JSON lines with the combination of each."""
    lines = (json.dumps(asdict(sentence), ensure_ascii=False) + "\n" for sentence in sentences)
    write_text(path, "".join(lines))


def load_sentences(path: Path) -> list[WrittenSentence]:
    """Reads what `save_sentences` wrote; an `OutputError` if the file is missing or damaged."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [WrittenSentence(**json.loads(line)) for line in lines if line]
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(
            f"{path}: the sentences that the triplets beside it belong to cannot be read ({error}); put the file back, "
            "or choose another --output"
        ) from None
