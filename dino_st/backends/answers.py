"""From what a model answered to plain text: without its thoughts and control tokens, and told apart from its prompt.

Servers hand over markup of every model family: thinking blocks, channels, answer tags, end tokens. What is known is
taken off, and the rest has the shape of a control token, by which it is told. Pure functions.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

_TOKEN = re.compile(
    r"""
    <[|｜][^<>\n]{0,60}> | <[^<>|｜\n]{1,60}[|｜]>           # <|im_end|>  <｜end▁of▁sentence｜>  <|turn>  <turn|>
    | <<?[/!]?\[?\w[\w▁:.-]{0,60}\]?(?:\s+[\w:-]+=[^<>]*)?\s*/?>>?   # </s>  <seed:think>  <<SYS>>  <0x0A>  <[PLHD1]>
    | \[[|｜][^][\n]{0,60}[|｜]\] | ◁[^◁▷\n]{0,60}▷          # [|endofturn|]  ◁think▷
    | \[/?(?:[gs]?[A-Z][A-Z0-9_ ]{2,60}|\w+_\w*|unused\d+|multimodal|(?i:/?think|thought|answer)(?:ing)?)\]  # [INST]
    | >>[A-Z_]{3,30}<< | \|\|\|[A-Z_]{3,30}\|\|\|            # >>TITLE<<  |||EMAIL_ADDRESS|||
    | \]~!?b[][] | \[e~\[ | \]![a-z]~\[ | \]<\][\w\x20]+\[>\[      # ]~b]  [e~[  ]!p~[  ]<]image[>[
    | <[|｜!] | [|｜]> | \[[|｜] | [|｜]\] | [◁▷] | <[/\w:.-]*\Z   # what was cut in the middle
    | \\(?:boxed|text|n|r|u[\da-f]{4}) | ▁ | [a-z.,][ĠĊ] | &(?:lt|gt|amp|quot|nbsp|\#\d+);   # what was not decoded
    | \A\{ | "\s*:\s*["{[]                                  # {"sentence": "…"}
    """,
    re.VERBOSE,
)
_BEGINNING = re.compile(r"(?:begin|start)_(?:of_)?(.+)|(.+)_(?:start|begin|prefix)")
_ENDING = re.compile(r"end_(?:of_)?(.+)|(.+)_(?:end|suffix)")
_THOUGHTS = re.compile(
    "think|thinks|thinking|thought|thoughts|reason|reasoning|reasons|reflect|reflection|analysis|scratchpad|"
    "rationale|plan|planning|inner|monologue|inner_monologue|cot|inst|sys|available_tools|system_prompt"
)
_WRAPPERS = re.compile(
    "answer|final|final_answer|final_response|response|output|result|solution|box|sentence|sentences|text|reply|"
    "paraphrase|paraphrased|rewrite|rewritten|rewritten_sentence|new|new_sentence|positive|negative"
)
_ENDS = re.compile(
    "im_end|eot_id|eom_id|eot|eom|eos|eod|eop|eoa|eoh|end|return|endoftext|end_of_text|endofturn|end_of_turn|pad|"
    "end_of_turn_token|end_of_sentence|end_of_message|end_of_document|eop_token|eos_token|role_end"
)
_BEGINS = re.compile(
    "s|bos|begin_of_text|startoftext|start_of_text|begin_of_sentence|bos_token|bom|sop|gmask|im_start|"
    "start_header_id|end_header_id|start_of_turn|start|start_of_role|end_of_role|turn|role|im_middle|im_sep|"
    "assistant|user|system|human|model|bot|im_assistant|im_user|im_system|chatbot_token|user_token|system_token|"
    "start_of_turn_token|assistant_start|user_start|system_start"
)
_ROLE = re.compile(r"\s*(?:assistant|model|chatbot|bot|ai)\s*(?:[:\n]|\Z)", re.IGNORECASE)
_BARE_CHANNEL = re.compile(r"\A\s*(?:analysis|commentary)(?=[A-Z]).*?(?:assistantfinal|\Z)", re.DOTALL)
_RUN = 3
_MOSTLY = 0.7

Fault = Literal["control token", "broken character"]
"""Why a text is none that a person would have written."""


def plain_text(reply: str, *, finished: bool = True) -> tuple[str | None, bool]:
    r"""The answer in a reply, without thinking blocks, channels, answer tags, `\boxed{}`, and tokens of turns.

    What stands behind a token that ends the turn is no part of it. Tokens that are not known are left for `fault_of`.

    Example:
        >>> plain_text("<think>He plays.</think><answer>A flute is played.</answer><|im_end|>")
        ('A flute is played.', True)
        >>> plain_text("<|channel|>analysis<|message|>So …", finished=False)
        (None, False)

    Args:
        reply: What a model answered.
        finished: False if it was cut off at the limit of tokens.

    Returns:
        The answer, None if it never came to one; and whether that is whole.
    """
    text, kept, state, has_wrapper, place = _BARE_CHANNEL.sub("", reply), [""], "open", False, 0
    kind, channel = "text", "final"
    if not text.strip() and reply.strip():
        return None, False
    for match in [*_TOKEN.finditer(text), None]:
        piece = text[place : match.start() if match else None]
        if state == "open":
            kept.append(_ROLE.sub("", piece, count=1) if kind == "turn" and _ROLE.match(piece) else piece)
        if match is None:
            break
        token, place = match[0], match.end()
        kind, channel = _kind_of(token), channel or piece.strip().lower() or "unnamed"
        if kind == "message":
            state, channel = "open" if channel.startswith("final") else "hidden", "final"
            kept = kept if state == "hidden" else [""]
        elif kind == "channel":
            state, channel = "hidden", ""
        elif kind == "thought":
            state = "hidden"
        elif kind == "end of thought":
            kept, state = (kept if state == "hidden" else [""]), "open"
        elif state == "hidden":
            continue
        elif kind == "wrapper":
            kept, state, has_wrapper = (kept if has_wrapper else [""]), "open", True
        elif kind == "end of wrapper":
            kept, state = [*kept, "\n"], "closed"
        elif kind in ("turn", "end"):
            if "".join(kept).strip():
                finished = True
                break
        elif state == "open":
            kept.append(token)
    boxed, is_closed = _boxed("".join(kept))
    return (None, False) if state == "hidden" or not is_closed else (_out_of_json(boxed.strip()), finished)


def fault_of(text: str, source: str = "") -> Fault | None:
    """What is wrong with the characters of a text; what looks like a control token may stand in its source, too.

    Example:
        >>> fault_of("A man plays.<unused7>"), fault_of("The <b> tag is old.", "What is the <b> tag?")
        ('control token', None)
    """
    if set(_TOKEN.findall(text)) - set(_TOKEN.findall(source)):
        return "control token"
    is_broken = any(unicodedata.category(mark) in ("Cc", "Cs", "Co", "Zl", "Zp") for mark in text.replace("\t", " "))
    return "broken character" if is_broken or "\ufffd" in text else None


def repeats(text: str, shown: Iterable[str], given: str = "", *, longest: int | None = None) -> bool:
    """Whether a text repeats what a prompt shows: exactly, nearly, in part, or as a splice of several texts.

    Most of its words stand in runs of three that one of these texts has and the given sentence has not; or so many
    words in a row, where a `longest` run is given.

    Example:
        >>> shown = ["Two boys chase a kite along the beach.", "The central bank left rates as they were."]
        >>> repeats("Two boys chase a kite as they were.", shown), repeats("A kite is chased by boys.", shown)
        (True, False)
    """
    runs = set().union(*map(_runs, shown)).difference(_runs(given))
    own = _runs(text)
    covered = {place + i for place, run in enumerate(own) if run in runs for i in range(len(run))}
    words = len(own) + len(own[0]) - 1
    streak = "".join("x" if place in covered else " " for place in range(words))
    return bool(covered) and (len(covered) >= _MOSTLY * words or max(map(len, streak.split())) >= (longest or words))


def normal_form(text: str) -> str:
    """A text as comparisons see it: compatibility forms, lower case, words and numbers alone, single spaces.

    Example:
        >>> normal_form(' “A man—plays” the FLUTE!')
        'a man plays the flute'
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", folded))


@lru_cache(maxsize=4096)
def _runs(text: str) -> tuple[tuple[str, ...], ...]:
    """The runs of three words of a text; all of its words where it has fewer."""
    words = normal_form(text).split()
    return tuple(tuple(words[i : i + _RUN]) for i in range(max(1, len(words) - _RUN + 1)))


def _kind_of(token: str) -> str:
    """What a control token does: `thought`, `wrapper`, their ends, `turn`, `end`, `channel`, `message`, or `other`."""
    if token.startswith("\\"):
        return "other"
    inner = (token.partition(" ")[0] if "=" in token else token).replace("▁", "_").lower().rpartition(":")[2]
    word = re.sub(r"[^a-z0-9]+", "_", inner).strip("_")
    closes = bool(re.match(r"\W{1,3}/|<[^|｜].*[|｜]>", token))
    if word in ("channel", "message") and token.startswith("<|") and token.endswith("|>"):
        return word
    if _ENDS.fullmatch(word) or (closes and word == "s"):
        return "end"
    for pattern, is_end in ((_BEGINNING, False), (_ENDING, True)):
        if found := pattern.fullmatch(word):
            word, closes = (word, False) if _BEGINS.fullmatch(word) else (found[1] or found[2], is_end)
    if _BEGINS.fullmatch(word):
        return "end" if closes else "turn"
    if _THOUGHTS.fullmatch(word) or word.endswith(("_think", "_thinking")) or word == "channel":
        return "end of thought" if closes else "thought"
    if _WRAPPERS.fullmatch(word):
        return "end of wrapper" if closes else "wrapper"
    return "other"


def _out_of_json(text: str) -> str:
    """The one string of a text that is a JSON object or list around it, fenced or not; any other text as it is."""
    bare = text.removeprefix("```json").strip("`").strip()
    try:
        content = json.loads(bare) if bare[:1] in ("{", "[") else None
    except (ValueError, RecursionError):
        return text
    while isinstance(content, dict | list) and len(content) == 1:
        content = next(iter(content.values() if isinstance(content, dict) else content))
    return content.strip() if isinstance(content, str) else text


def _boxed(text: str) -> tuple[str, bool]:
    r"""What stands in the last `\boxed{}` of a text, or all of it where there is none; and whether it is closed."""
    before, box, inside = text.rpartition(r"\boxed{")
    if not box:
        return text, True
    depth = 1
    for place, mark in enumerate(inside):
        depth += (mark == "{") - (mark == "}")
        if depth == 0:
            return re.sub(r"\\text\w*\{(.*?)\}", r"\1", inside[:place]), True
    return before, False
