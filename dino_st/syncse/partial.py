"""SynCSE-partial: a positive and a hard negative for each sentence (arXiv 2305.15077), with tries and reasons."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from dino_st.backends.answers.parsing import parse_reply
from dino_st.backends.chat import ChatReply, ChatRequest
from dino_st.backends.journal import Ask
from dino_st.backends.options import SynCSEOptions
from dino_st.data.columns import ANCHOR, NEGATIVE, POSITIVE
from dino_st.support.hashes import keyed_bits, short_hash
from dino_st.support.text import normal_form
from dino_st.tasks.prompts import quotable
from dino_st.tasks.spec import PLACEHOLDER
from dino_st.tasks.syncse import Example, PartialSpec

ROLES = (POSITIVE, NEGATIVE)
COMPLETION = "completion"
"""What a triplet records as its instruction where the model went on with raw text."""

UNFINISHED = "no finished text"
"""Reason of a local model's failure: whatever it wrote had no closing mark, or was otherwise rejected by the engine."""

T = TypeVar("T")


@dataclass(frozen=True)
class Search:
    """The search for one text, and how far it has come."""

    text: str | None = None
    instruction: str | None = None  # id of the one that the text was written for
    tries: int = 0  # replies looked at, in all runs
    reason: str | None = None  # why the latest one was not taken


@dataclass(frozen=True)
class Triplet:
    """A sentence, and how far its triplet has come."""

    x1_index: int
    anchor: str
    positive: Search = field(default_factory=Search)
    negative: Search = field(default_factory=Search)

    def of(self, role: str) -> Search:
        """The search for a role's text."""
        return self.positive if role == POSITIVE else self.negative

    def having(self, role: str, search: Search) -> Triplet:
        """The triplet with one of the two searches further on."""
        return replace(self, positive=search) if role == POSITIVE else replace(self, negative=search)

    @property
    def is_whole(self) -> bool:
        """Whether both texts are there."""
        return self.positive.text is not None and self.negative.text is not None

    def as_row(self) -> dict[str, Any]:
        """A whole triplet as a row."""
        return {
            ANCHOR: self.anchor,
            POSITIVE: self.positive.text,
            NEGATIVE: self.negative.text,
            "positive_instruction": self.positive.instruction,
            "negative_instruction": self.negative.instruction,
            "x1_index": self.x1_index,
            "tries": self.positive.tries + self.negative.tries,
        }

    def as_rejected(self) -> dict[str, Any]:
        """A triplet that is not whole, as a line of `rejected.jsonl`."""
        reasons = [f"{role}: {self.of(role).reason}" for role in ROLES if self.of(role).text is None]
        reasons = [reason for reason in reasons if not reason.endswith("None")]
        searches = {role: asdict(self.of(role)) for role in ROLES}
        return {"x1_index": self.x1_index, ANCHOR: self.anchor, "reason": "; ".join(reasons), **searches}

    @classmethod
    def from_rejected(cls, line: Mapping[str, Any]) -> Triplet:
        """Reads what `as_rejected` wrote."""
        return cls(line["x1_index"], line[ANCHOR], Search(**line[POSITIVE]), Search(**line[NEGATIVE]))


@dataclass(frozen=True)
class TripletWriter:
    """Asks a model for positives and negatives, and again for what was of no use."""

    spec: PartialSpec
    ask: Ask
    is_chat: bool  # whether the model takes instructions, or goes on with raw text
    is_local: bool  # whether a request fails for what was written; a server's fail for other reasons
    options: SynCSEOptions

    def write(self, triplets: Sequence[Triplet]) -> tuple[list[Triplet], Counter[str]]:
        """Looks for the texts that are missing.

        Every round asks for all of them together. A reply that cannot be used is tried again with the next instruction
        of the pool, `max_tries` times. A request that failed, and a sentence one of whose texts was not found, are left
        to the next run. Returns counts, too: `tries`, tokens, `rejected: …` by role and reason.
        """
        found = list(triplets)
        limits = [{role: triplet.of(role).tries + self.options.max_tries for role in ROLES} for triplet in triplets]
        counts: Counter[str] = Counter()
        while wanted := [
            (place, role)
            for place, triplet in enumerate(found)
            if all(triplet.of(role).text is not None or triplet.of(role).tries < limits[place][role] for role in ROLES)
            for role in ROLES
            if triplet.of(role).text is None
        ]:
            before = list(found)
            requests = [self.request(found[place], role) for place, role in wanted]
            for (place, role), reply in zip(wanted, self.ask(requests), strict=True):
                search = self._judged(found[place], role, reply, counts)
                if search.tries == found[place].of(role).tries:
                    limits[place][role] = search.tries  # the request failed: nothing more in this run
                found[place] = found[place].having(role, search)
            for place in dict.fromkeys(place for place, _ in wanted):
                found[place] = _told_apart(found[place], before[place], counts)
        return found, counts

    def request(self, triplet: Triplet, role: str) -> ChatRequest:
        """The next request for a text: another instruction and other examples for each try."""
        limit = self.options.max_new_tokens
        key = f"{role}/{short_hash(triplet.anchor)}/{triplet.of(role).tries}"
        if not self.is_chat:
            raw: str = getattr(self.spec.completion, role)
            return ChatRequest(key, raw.replace(PLACEHOLDER, quotable(triplet.anchor)), max_new_tokens=limit)
        _, instruction = self._instruction(triplet, role)
        shown = "\n\n".join(
            _filled(self.spec.example, {PLACEHOLDER: example.sentence, "<ANSWER>": getattr(example, role)})
            for example in self._examples(triplet, role)
        )
        given = " ".join(triplet.anchor.split())
        values = {"<INSTRUCTION>": instruction.strip(), "<EXAMPLES>": shown, PLACEHOLDER: given}
        prompt = _filled(self.spec.prompt, values)
        return ChatRequest(key, prompt.strip(), self.spec.system, max_new_tokens=limit)

    def _judged(self, triplet: Triplet, role: str, reply: ChatReply, counts: Counter[str]) -> Search:
        """The search for a text after a reply."""
        search = triplet.of(role)
        counts.update({"prompt tokens": reply.prompt_tokens, "completion tokens": reply.completion_tokens})
        if reply.text is None and not self.is_local:
            counts["failed requests"] += 1
            return replace(search, reason=f"request failed: {reply.failure}")
        counts["tries"] += 1
        reason: str | None = UNFINISHED
        name, instruction = self._instruction(triplet, role)
        if reply.text is not None:
            parsed = parse_reply(
                reply.text,
                triplet.anchor,
                prompt=f"{self.spec.system} {instruction}",
                examples=self._shown(triplet),
                labels=self.spec.prompt_labels,
                finished=reply.finished,
                is_rewrite=True,
            )
            if parsed.text is not None:
                return Search(parsed.text, name, search.tries + 1)
            reason = parsed.reason
        counts[f"rejected: {role}: {reason}"] += 1
        return Search(tries=search.tries + 1, reason=reason)

    def _instruction(self, triplet: Triplet, role: str) -> tuple[str, str]:
        """Id and text of the instruction for the next try."""
        if not self.is_chat:
            return COMPLETION, ""
        pool = shuffled(self.spec.instructions(role), f"{self.options.seed}/{role}/{short_hash(triplet.anchor)}")
        chosen = pool[triplet.of(role).tries % len(pool)]
        return chosen.id, chosen.text

    def _examples(self, triplet: Triplet, role: str) -> list[Example]:
        """The examples for the next try; never the sentence itself."""
        name = f"{self.options.seed}/examples/{role}/{short_hash(triplet.anchor)}/{triplet.of(role).tries}"
        return shuffled(self._pool(triplet), name)[: self.spec.examples_per_request]

    def _pool(self, triplet: Triplet) -> list[Example]:
        """The examples that may be shown beside a sentence."""
        given = normal_form(triplet.anchor)
        return [example for example in self.spec.examples if normal_form(example.sentence) != given]

    def _shown(self, triplet: Triplet) -> list[str]:
        """Every text that a model sees on its way to this triplet, of whatever role, and none of which is an answer."""
        if not self.is_chat:
            return []
        return [getattr(example, kind) for example in self._pool(triplet) for kind in ("sentence", *ROLES)]


def _told_apart(triplet: Triplet, before: Triplet, counts: Counter[str]) -> Triplet:
    """Takes a negative back that says what the positive says; the positive, too, where that happens again."""
    positive, negative = triplet.positive.text, triplet.negative.text
    if positive is None or negative is None or normal_form(positive) != normal_form(negative):
        return triplet
    reason = "same as the positive"
    counts[f"rejected: negative: {reason}"] += 1
    triplet = replace(triplet, negative=Search(tries=triplet.negative.tries, reason=reason))
    if before.negative.reason != reason:
        return triplet
    counts["rejected: positive: same as the negative"] += 1
    return replace(triplet, positive=Search(tries=triplet.positive.tries, reason="same as the negative"))


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Fills placeholders in, all at once: one that stands in a value stays."""
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], text)


def shuffled(items: Sequence[T], name: str) -> list[T]:
    """An order that the name alone decides, on every machine and Python."""
    return [items[number] for number in sorted(range(len(items)), key=lambda number: keyed_bits(f"{name}/{number}"))]
