"""From a reply to the plain text of its answer: without thoughts, channels, answer tags, and tokens of turns.

Servers hand over markup of every model family. A token is acted upon at a boundary alone: behind nothing, a sentence,
or another token, or before the end of a line. One between words, or that the source sentence has too, stays in place.
"""

from __future__ import annotations

import ast
import html
import json
import re
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import unquote

CONTROL_TOKEN = re.compile(
    r"""
    <[|｜][^<>\n]{0,60}> | <[^<>|｜\n]{1,60}[|｜]>           # <|im_end|>  <｜end▁of▁sentence｜>  <|turn>  <turn|>
    | <<?[/!]?\[?\w[\w▁:.-]{0,60}\]?(?:\s+[\w:-]+=[^<>]*)?\s*/?>>?   # </s>  <seed:think>  <<SYS>>  <0x0A>  <[PLHD1]>
    | \[[|｜][^][\n]{0,60}[|｜]\] | ◁[^◁▷\n]{0,60}▷          # [|endofturn|]  ◁think▷
    | \[/?(?:(?:BEGIN|START|END)\b[A-Z_\x20]{0,40}|INST|SYS|[gs]?MASK|CLS|SEP|PAD|UNK|[BE]O[STM]|IMG|AUDIO|ARGS
      |(?:PRE|SUF)FIX|MIDDLE|FINAL|OUTPUT|RESPONSE|RESULT|SOLUTION|REASONING|[A-Za-z]+_\w*|unused\d+|multimodal
      |(?i:think|thought|answer)(?:ing)?)\]                  # [INST]  [TOOL_CALLS]  [/THINK]; not [REDACTED], [sic]
    | >>[A-Z_]{3,30}<< | \|\|\|[A-Z_]{3,30}\|\|\|            # >>TITLE<<  |||EMAIL_ADDRESS|||
    | \]~!?b[][] | \[e~\[ | \]![a-z]~\[ | \]<\][\w\x20]+\[>\[      # ]~b]  [e~[  ]!p~[  ]<]image[>[
    | <[|｜!] | [|｜]> | \[[|｜] | [|｜]\] | [◁▷] | <[/\w:.-]*\Z   # what was cut in the middle
    """,
    re.VERBOSE,
)
_LIST_BEGINS, _COMMA, _LONGEST_LIST = re.compile(r'(?:\{\s*"\w+"\s*:\s*)?\[\s*(?=["{])'), re.compile(r"\s*,\s*"), 20_000
_MOST_TOKENS = 2000
"""Tokens of a reply that are looked at; one that has more holds them still, and is rejected for them."""

_BEGINNING = re.compile(r"(?:begin|start)_(?:of_)?(.+)|(.+)_(?:start|begin|prefix)")
_ENDING = re.compile(r"end_(?:of_)?(.+)|(.+)_(?:end|suffix)")
_PROMPTS = re.compile("inst|sys|available_tools|system_prompt")
_THOUGHTS = re.compile(
    "think|thinks|thinking|thought|thoughts|reason|reasoning|reasons|reflect|reflection|analysis|scratchpad|"
    "rationale|plan|planning|inner|monologue|inner_monologue|cot|channel|.+_think|.+_thinking"
)
_WRAPPERS = re.compile(
    "answer|final|final_answer|final_response|response|output|result|solution|box|sentence|sentences|text|reply|"
    "(?:paraphrased|rewritten|new)(?:_sentence)?|paraphrase|rewrite|positive|negative|contradiction"
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
_BOUNDARY = re.compile(r"(?:\A|[\n.!?…:;\"'“”’)$}])\s*\Z")
_BARE_CHANNEL = re.compile(r"\A\s*(?:analysis|commentary)(?=[A-Z]).*?(?:assistantfinal|\Z)", re.DOTALL)


_BARE_ROLE = re.compile(
    r"\A\s*(?:assistant|final)+(?=[A-Z])|(?<=[.!?…\"”])(?:final|analysis|commentary|\s?(?:assistant|im_end|im_start|user))+\s*\Z"
)
"""What is left of a turn's tokens where a server took off their brackets."""


_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,9}|#\d{1,6}|#x[\da-fA-F]{1,5});")
_ESCAPE = re.compile(r"""\\{1,2}(?:u([\da-fA-F]{4})|(["'/]))""")
_PERCENTS = re.compile(r"\s*[^\s%]+(?:%[\da-fA-F]{2}[^\s%]*){2,}\s*")


def decoded(reply: str, source: str = "") -> str:
    r"""A reply whose HTML entities, JSON escapes or percent codes are signs again, where that is what they are.

    Angle brackets stay entities, JSON keeps its escapes, and so does what the source sentence has as well.

    Example:
        >>> decoded("Tom &amp; Al&#39;s"), decoded(r"He said \"no\" in a caf\u00e9."), decoded("He%20came%20home.")
        ("Tom & Al's", 'He said "no" in a café.', 'He came home.')
    """
    if "&" in reply and not _ENTITY.search(source):
        reply = _ENTITY.sub(_unescaped, _ENTITY.sub(_unescaped, reply))  # `&amp;#39;` was escaped twice
    if "\\" in reply and "\\" not in source:
        if reply.startswith('"{') and isinstance(inner := _json_or_none(reply.strip()), str):
            return inner
        if not set("{[") & set(reply) and "\\" not in _ESCAPE.sub("", reply):
            whole = _ESCAPE.sub(lambda found: found[2] or chr(int(found[1], 16)), reply)
            reply = whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "%20" in reply and _PERCENTS.fullmatch(reply):
        reply = unquote(reply, errors="replace")
    return reply


def _unescaped(entity: re.Match[str]) -> str:
    sign = html.unescape(entity[0])
    return entity[0] if sign in "<>" or not (sign.isprintable() or sign == "\u00a0") else sign


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def plain_text(reply: str, source: str = "", *, finished: bool = True) -> tuple[str | None, bool]:
    r"""The answer in a reply, without thinking blocks, channels, answer tags, `\boxed{}`, and tokens of turns.

    What stands behind a token that ends the turn is no part of it. The second value is whether the answer is whole.

    Example:
        >>> plain_text("<think>He plays.</think><answer>A flute is played.</answer><|im_end|>")
        ('A flute is played.', True)
        >>> plain_text("<|channel|>analysis<|message|>So …", finished=False)
        (None, False)
    """
    reply = decoded(reply, source)
    text, own = _BARE_CHANNEL.sub("", reply), set(CONTROL_TOKEN.findall(source))
    if not text.strip() and reply.strip():
        return None, False
    kept, state, has_wrapper, place, kind, channel = [""], "open", False, 0, "text", "final"
    for match in [*islice(CONTROL_TOKEN.finditer(text), _MOST_TOKENS), None]:
        piece, token = text[place : match.start() if match else None], match[0] if match else ""
        if state == "open" and (len(kept) > 1 or piece.strip()):  # blanks in front are no text
            kept.append(_ROLE.sub("", piece, count=1) if kind == "turn" and _ROLE.match(piece) else piece)
        if match is None:
            break
        before, place = kind, match.end()
        kind, channel = _kind_of(token), channel or piece.strip().lower() or "unnamed"
        is_expected = state == "hidden" or kind in ("message", "channel") or (has_wrapper and kind == "end of wrapper")
        follows = _BOUNDARY.search(piece[-20:]) or (before == "turn" and _ROLE.fullmatch(piece))
        is_last = re.match(r"[ \t]*(?:\n|\Z|[<\[◁])", text[place : place + 20])
        if token in own or not (is_expected or follows or is_last):
            kind = "other"
        if kind == "message":
            state, channel = "open" if channel.startswith("final") else "hidden", "final"
            kept = kept if state == "hidden" else [""]
        elif kind == "channel":
            state, channel = "hidden", ""
        elif kind in ("thought", "prompt"):
            state = "hidden"
            kept.append("\n")
        elif kind in ("end of thought", "end of prompt") and state == "hidden":
            state = "open"
        elif state == "hidden":
            continue
        elif kind == "end of thought":
            kept = [""]
        elif kind == "wrapper":
            kept, state, has_wrapper = (kept if has_wrapper else [""]), "open", True
        elif kind == "end of wrapper":
            state = "closed"
            kept.append("\n")
        elif kind in ("turn", "end", "end of prompt"):
            if "".join(kept).strip():
                finished = True
                break
        elif state == "open":
            kept.append(token)
    boxed, is_closed = _boxed("".join(kept))
    return (None, False) if state == "hidden" or not is_closed else (_BARE_ROLE.sub("", boxed).strip(), finished)


def out_of_json(text: str) -> list[str | None] | None:
    """The answers in a text that is a JSON object or list, None for an entry that has not one; no list for other texts.

    A text may also be several objects, a line each. Of a list that stops in the middle the last entry is None.

    Example:
        >>> out_of_json('{"sentences": ["It rains.", {"id": 2, "text": "It snows."}, 3]}'), out_of_json("It rains.")
        (['It rains.', 'It snows.', None], None)
    """
    if not text.startswith(("{", "[")):
        return None
    lines = text.split("\n")
    try:
        content = _answer_in(json.loads(text))
    except (ValueError, RecursionError):
        try:
            content = [json.loads(line.rstrip(" ,")) for line in lines if len(lines) > 1 and line.startswith("{")]
        except (ValueError, RecursionError):
            content = []
        if len(content) < len(lines):
            content = _entries_of_a_part(text)
        if not content:
            return None
    entries = map(_answer_in, content) if isinstance(content, list) else [content]
    return [entry if isinstance(entry, str) else None for entry in entries]


def _entries_of_a_part(text: str) -> list[Any]:
    """The entries of a list in Python's form, or of one in JSON that stops, None for its last; or none."""
    if text.startswith("['") and len(text) <= _LONGEST_LIST:
        try:
            content = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return []
        return content if isinstance(content, list) else []
    entries: list[Any] = []
    place = found.end() if (found := _LIST_BEGINS.match(text)) else len(text)
    while place < len(text):
        try:
            entry, place = json.JSONDecoder().raw_decode(text, place)
        except (ValueError, RecursionError):
            return [*entries, None] if entries else []
        comma = _COMMA.match(text, place)
        if comma is None:
            return [] if text[place:].strip() else [*entries, entry, None]
        entries.append(entry)
        place = comma.end()
    return [*entries, None] if entries else []


def _answer_in(content: Any) -> Any:
    """What stands in a JSON object under the one name that answers have, or under its numbers; others as they are."""
    while isinstance(content, dict):
        names = {name: re.sub(r"\W+", "_", name.lower()).rstrip("_0123456789") for name in content}
        plain_names = {*names.values()}
        if plain_names == {""} or (len(names) > 1 == len(plain_names) and all(map(_WRAPPERS.fullmatch, plain_names))):
            return [*content.values()]
        named = [content[name] for name, plain in names.items() if _WRAPPERS.fullmatch(plain)]
        content = named[0] if len(named) == 1 else None
    return content


@lru_cache(maxsize=1024)
def _kind_of(token: str) -> str:
    """What a control token does: `thought`, `prompt`, `wrapper` and their ends, `turn`, `end`, `channel`, `message`."""
    inner = (token.partition(" ")[0] if "=" in token else token).lower().rpartition(":")[2]
    word = re.sub(r"[^a-z0-9]+", "_", inner).strip("_")
    closes = bool(re.match(r"\W{1,3}/|<[^|｜].*[|｜]>", token))
    if word in ("channel", "message") and token.startswith("<|") and token.endswith("|>"):
        return word
    if _ENDS.fullmatch(word):
        return "end"
    for pattern, is_end in ((_BEGINNING, False), (_ENDING, True)):
        if found := pattern.fullmatch(word):
            word, closes = (word, False) if _BEGINS.fullmatch(word) else (found[1] or found[2], is_end)
    if _BEGINS.fullmatch(word):
        return "end" if closes else "turn"
    for pattern, kind in ((_PROMPTS, "prompt"), (_THOUGHTS, "thought"), (_WRAPPERS, "wrapper")):
        if pattern.fullmatch(word):
            return f"end of {kind}" if closes else kind
    return "other"


def _boxed(text: str) -> tuple[str, bool]:
    r"""What stands in the last `\boxed{}` of a text, or all of it where there is none; and whether it is closed."""
    before, box, inside = text.rpartition(r"\boxed{")
    if not box:
        return text, True
    depth = 1
    for place, mark in enumerate(inside):
        depth += (mark == "{") - (mark == "}")
        if depth == 0:
            return re.sub(r"\\text\w{0,9}\{([^{}]*)\}", r"\1", inside[:place]), True
    return before, False
