"""Lines of text in files: decoding them, and telling files of other kinds and what is no part of a sentence.

A file of another kind is refused, by how it begins or by what stands in its first lines; there is one table for each
(`_BEGINNINGS`, `_KINDS`), with signs that no ordinary text has. What may stand in a sentence, but rarely does, such as
a tag or a tab, is counted while it is read and told in the log (`Oddities`); the text is taken as it stands.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from typing import BinaryIO, NamedTuple

from dino_st.data.layout import ENDED, code_in_lines, findings, same_ends
from dino_st.errors import InputError
from dino_st.support.progress import logger
from dino_st.support.text import UNSPACED, printable

MAX_TEXT = 1_000_000
"""Characters of the longest text that is taken for one; a tokenizer would need minutes for a file that forgot its
line ends."""

A_TEXT = f"a sentence, of {MAX_TEXT:,} at most"
"""What a longer text is told to be."""

_MAX_LINE = 16 * MAX_TEXT

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Control characters that no text has."""
_BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip (perhaps .docx or .xlsx)",
    b"\xd0\xcf\x11\xe0": "Office (.doc or .xls)",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"7z\xbc\xaf": "7-Zip",
    b"Rar!": "RAR",
    b"%PDF-": "PDF",
    b"%!PS": "PostScript",
    b"PAR1": "parquet",
    b"BZh": "bzip2",
    b"ARROW1": "Arrow (or Feather)",
    b"FEA1": "Feather",
    b"Obj\x01": "Avro",
    b"SQLite format 3\0": "SQLite",
    b"\x93NUMPY": "NumPy",
    b"\x89HDF": "HDF5",
    b"\x80\x02": "pickle",
    b"\x80\x03": "pickle",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
    b"GGUF": "GGUF (a model's weights)",
    b"\x7fELF": "program",
    b"\x89PNG": "PNG (a picture)",
    b"\xff\xd8\xff": "JPEG (a picture)",
    b"GIF8": "GIF (a picture)",
    b"RIFF": "WAV or WebP",
    b"OggS": "Ogg (sound)",
    b"ID3": "MP3 (sound)",
    b"version https://git-lfs": "Git LFS pointer",
    b"{\\rtf": "RTF",
    b"WEBVTT": "WebVTT (subtitles)",
    b"<!DOCTYPE": "HTML or XML",
    b"<!doctype": "HTML",
    b"<html": "HTML",
    b"<HTML": "HTML",
    b"<?xml": "XML",
}
"""How files begin that would be read as rubbish, whatever the ending of their name."""

_HEAD_LINES, _HEAD_CHARACTERS, _LINE_CHARACTERS = 200, 1 << 16, 10_000
"""So much of a file, and of a line, is looked at to see what it is."""

_ONE_A_LINE = "take the sentences out of it first, one a line"
_AS_TABLE = "give it as a file whose name ends in .csv or .tsv, with the names of its columns in the first line"
_AS_JSON = "give it as a file whose name ends in .json or .jsonl"

_DASHES = r"[ \t]*(?=[^\n]*[|+])(?=[^\n]*--)[-|+:= \t]+"
_TIMES = (
    r"\[?\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d",
    r"\d{1,2}[/.]\d{1,2}[/.]\d{2,4},? \d{1,2}:\d\d",
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d ",
    r"\[\d\d:\d\d(?::\d\d)?\] ",
    r"\S+ \S+ \S+ \[\d\d/\w{3}/\d{4}:",
    r"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):[\w.]+:",
)
_TEXT = r'"(?:[^"\\\n]|\\.)*"'
_CELL = r'(?:"[^"\n]*"|[-+.\d]*)'
_HEADERS = r"(?:From|To|Cc|Subject|Date|Sender|Reply-To|Received|Message-I[dD]|MIME-Version|Content-[\w-]+|X-[\w-]+)"


class _Kind(NamedTuple):
    """A kind of file, the signs of it in the first lines, and what to do about it."""

    name: str
    signs: str  # a regular expression
    advice: str = _ONE_A_LINE


_KINDS = (
    _Kind("a Jupyter notebook", r'\A\s*\{(?s:.*?)"cells"\s*:\s*\[(?s:.*?)"(?:source|cell_type)"\s*:'),
    _Kind("JSON over several lines", rf'\A\s*[\[{{][ \t]*\n\s*(?:{_TEXT}[ \t]*[:,\n]|[\[{{"\]}}])', _AS_JSON),
    _Kind("an array of JSON", rf'\A\s*\[\s*(?:\{{\s*"|{_TEXT}\s*(?:,\s*{_TEXT}\s*)*\]\s*(?:\n|\Z))', _AS_JSON),
    _Kind(
        "HTML or XML",
        r"\A\s*<(?i:!--|!doctype|\?xml|(?:html|head|body|div|table|title|meta|script|h1|p)\b[^<>\n]*>)|"
        r"\A\s*<[A-Za-z][^<>]*>\n?[ \t]*<[A-Za-z](?s:.*?)</[A-Za-z]",
    ),
    _Kind(
        "subtitles",
        r"^\[?(?:\d+:)?\d+:\d\d[,.]\d{1,3} *--> *\d|\A\[Script Info\]|"
        r"\A\d+:\d\d:\d\d\.\d{3},\d+:\d\d:\d\d\.\d{3}$|\A(?:\[\d\d:\d\d[.:]\d\d\][^\n]*(?:\n|\Z)){2}",
    ),
    _Kind("CoNLL-U", r"^# (?:text|sent_id|newdoc|newpar|global\.columns)\b[^\n]*\n(?:#[^\n]*\n)*\d+(?:-\d+)?\t"),
    _Kind(
        "a table drawn with | and -",
        rf"^(?=[^\n]*\|)[^\n]*\n{_DASHES}\n(?=[^\n]*\|)|^{_DASHES}\n(?=[^\n]*\|)[^\n]*\n{_DASHES}$|"
        r"\A [^\n|]+\n-{3,}\n(?s:.*)^\(\d+ rows?\)$",
        _AS_TABLE,
    ),
    _Kind("the difference of two files", r"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@|\Adiff --git a/"),
    _Kind("a log", rf"(?:^(?:{'|'.join(_TIMES)})[^\n]*\n?){{2}}"),
    _Kind("BibTeX", r"^@[A-Za-z]+\{[^\n,{}]*,[ \t]*\n\s*[\w-]+\s*="),
    _Kind("LaTeX", r"^[ \t]*\\(?:documentclass|usepackage|begin|section|chapter|input)\b[ \t]*[\[{*]"),
    _Kind(
        "a mail or mailbox",
        rf"\AFrom \S+ [^\n]*\d\d:\d\d:\d\d[^\n]*\d{{4}}[ \t]*$|\A(?:{_HEADERS}: [^\n]*\n(?:[ \t][^\n]*\n)*){{3}}|"
        r"^(?:Message-I[dD]|MIME-Version): \S",
    ),
    _Kind("SQL", r"^[ \t]*(?:INSERT INTO \S[^\n]*\(|CREATE TABLE [^\n]*\(|COPY \S+ \([^\n]*\) FROM stdin|VALUES \()"),
    _Kind("references (RIS or PubMed)", r"\A\s*(?:TY  - |PMID- )"),
    _Kind("a calendar or address book", r"\ABEGIN:V"),
    _Kind("a key or certificate", r"\A-----BEGIN "),
    _Kind("translations (PO)", r'^msgid "[^\n]*"\n(?:"[^\n]*\n)*msgstr "'),
    _Kind(
        "a program",
        r"\A#!\s*/|\A[A-Za-z_$][\w.$]* = [\[{]\s*$|^(?:def|class) \w+(?:\([^\n]*\))?:[ \t]*\n[ \t]+\S|\A\s*<\?php"
        r"|^from [\w.]+ import [\w(*]|"
        r"^import [\w.]+(?: as \w+)?;?$|^#include\s*[<\"]|^(?:const|let|var) \w+ = |^function \w+\([^\n]*\{|^print\(",
    ),
    _Kind(
        "what Python or R prints",
        r"\A\s*[\[{(]\s*'(?:[^'\\\n]|\\.)*'\s*[:,\]']|^Traceback \(most recent call last\)|^Name: \S+, dtype: |"
        r'^\[\d+\] "',
    ),
    _Kind("cards of Anki", r"\A#(?:separator|html|notetype|deck|columns|tags)\b ?\w*:", _AS_TABLE),
    _Kind("an e-book of Project Gutenberg", r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG"),
    _Kind("a history of git", r"^commit [0-9a-f]{7,40}\b[^\n]*\n(?:Merge: [^\n]*\n)?Author: "),
    _Kind("what a shell prints", r"^[-dl][-rwxst]{9}[.+@ ] *\d+ |\A\s*PID +TTY"),
    _Kind("an error of a web server", r"\A\s*(?:401 Unauth|403 Forb|404 Not F|500 Internal S|502 Bad G|503 Service)"),
    _Kind("words with labels", r"(?:^\S+(?: \S+)* (?:[BIES]-[A-Z]+|O)[ \t]*\n){2}"),
    _Kind("YAML", r"\A%YAML |\A---[ \t]*\n(?:\s*- |(?:[\w-]+:[^\n]*\n)+)"),
    _Kind(
        "settings, or names with values",
        r"\A\s*\[[\w. -]+\][ \t]*\n\s*[\w.-]+\s*=|\A(?:[\w.-]+ ?= ?\S[^\n]*(?:\n|\Z)){2}|"
        r'\A(?:"[^"\n]*"\s*[:=]\s*"[^\n]*(?:\n|\Z)){2}',
    ),
    _Kind("several files behind one another (by `head` or `tail`)", r"\A==> [^\n]+ <==$"),
    _Kind("what `grep` found", r"\A(?:[\w./-]+\.\w+:\d+:[^\n]*\n?){2}"),
    _Kind("word vectors", r"\A(?:\d+ \d+[ \t]*\n)?(?:\S+(?:[ \t]+-?\d+\.\d+(?:e-?\d+)?){8,}[ \t]*\n?){2}"),
    _Kind("trees of a parser", r"\A\s*\((?:ROOT|TOP|S1)?\s*\((?:S|NP|SBARQ|SQ|FRAG|X|SINV)\b|\A\s*\(\d \(\d "),
    _Kind("text with labels (fastText)", r"\A(?:__label__\S+ [^\n]*\n?){2}", _AS_TABLE),
    _Kind("questions with labels (TREC)", r"\A(?:(?:ABBR|DESC|ENTY|HUM|LOC|NUM):\w+ [^\n]*(?:\n|\Z)){2}", _AS_TABLE),
    _Kind("FASTA (sequences)", r"\A>\S[^\n]*\n[A-Z*-]{10,}[ \t]*(?:\n|\Z)"),
    _Kind("a list of files", r"\A(?:(?!\w+://)\S*[/\\]\S*\.\w{1,5}[ \t]*(?:\n|\Z)){2}", "name the files themselves"),
    _Kind("a list of addresses", r"\A(?:\w+://\S+\s*(?:\n|\Z)){4,}\Z", "take the sentences of the pages, one a line"),
    _Kind("columns between |", r"\A\w+(?:\|\w+)+\n(?=[^\n]*\|)|\A(?:\d+\|[^\n]*\w[^\n]*(?:\n|\Z)){2}", _AS_TABLE),
    _Kind("columns between |||", r"\A(?:(?=[^\n]*\S *\|\|\| *\S)[^\n]*(?:\n|\Z)){2}", _AS_TABLE),
    _Kind("columns between tabs", r"\A(?:^(?=[^\n]*\S\t+\S)[^\n]*(?:\n|\Z)|^[ \t]*\n){2,}\Z", _AS_TABLE),
    _Kind("columns between commas", rf'\A(?:"[^"\n]*"(?:[,;]{_CELL})+[ \t]*(?:\n|\Z)){{2}}', _AS_TABLE),
)
"""Kinds of text files of which each line would be taken for a sentence."""

_WIDTHS, _FEW_LINES, _FILLED, _OVERLONG = range(40, 133), 4, 0.8, 30
"""Widths of lines of prose; how many of them say something, the share of these that must be full, and of how many lines
one may be longer, such as an address."""

_SIGNS = tuple((kind, re.compile(kind.signs, re.MULTILINE)) for kind in _KINDS)

_QUOTED = "brackets or letters around quotation marks, as Python writes them"
"""Is told as the others are, and refused where most texts are so."""

_TOTALS = (
    r"(?:(?:(?:grand |sub-?)?totals?|sum|averages?|avg\.?|mean|median|count|number|summe|gesamt|insgesamt|mittelwert"
    r"|durchschnitt|somme|moyenne|suma|promedio|totale|totaal)"
    r"(?:[ :=]+(?:of|for|the|in|all|[a-z]|column|number|numbers|count|scores?|rows?|pairs?|sentences?|records?|entries"
    r"|items?|words|characters|length|similarity|ratings?|general|général|anzahl))*(?:\s*[:=]?\s*[\d.,]+%?(?: \w+)?)?:?"
    r"|\(?\d+ (?:rows?|pairs|sentences|records|entries|items|results?)\)?)\s*$"
)
"""What stands below a table, in place of a text."""

_BELOW = (
    r"\W*(?:(?:generated|exported|created|downloaded|printed|retrieved|last updated)(?: (?:by|from|on|with|at"
    r"|via)|\s?:) "
    r".{0,30}\d.{0,20}|(?:generated|exported|created|downloaded) (?:by|from|with|via) \S+(?: \S+){0,2}"
    r"|(?:source|quelle|fuente|fonte)s?\s?: .{1,80}|(?:©|\(c\)|copyright)\W*(?:\(c\)\W*|©\W*)?\d{4}.{0,60}"
    r"|all rights reserved"
    r"|end of (?:file|report|table|data|list|document|export)|(?:applied )?filters?\s?:.{0,60}|confidential\b.{0,60}"
    r"|(?:continued on|see) (?:the )?next (?:page|sheet)|(?:legend|notes?|remarks?)\s?:)\W*$"
)
"""What else programs and people write there."""

_MONTH = "(?:jan|feb|ma[riy]|mär|mrz|apr|ju[nl]|aug|sept?|o[ck]t|nov|de[cz])"

_MISREAD = r"[^\W\d_][¢£¤¥¦§¨¬¯±¹³¸¼½¾¶][^\W\d_]|[a-zß-öø-ÿ]{2}[À-ÖØ-Þ]|(?<![^\W\d_])[а-яё][А-ЯЁ]{4}"
"""Signs and capitals inside words, as where a code page was taken for another one of as many bytes."""

_ODDITIES = {
    "nothing but what Excel makes of a text (a date, a number, ###)": (
        rf"^\s*(?i:#{{3,}}|[-+]?\d[.,\d]*E[-+]?\d+|[345]\d{{4}}|\d{{1,2}}[-. ]*{_MONTH}\.?(?:[- ]\d\d(?:\d\d)?)?"
        rf"|{_MONTH}[-.]?\d\d)\s*$"
    ),
    "objects of JSON": r"^\s*\{\s*\"[^\"]*\"\s*:.*\}\s*$",
    "signs of tweets (RT, a name that is addressed, t.co)": (
        r"^RT @\w+|\bhttps?://t\.co/\w+|\([vV]ia @\w+\)|^@\w{2,15}:?\s"
    ),
    "signs of chats (whom one speaks to, emoji by their names, what the program said)": (
        r"<[@#!:][^<>\s]{1,60}>|<https?://[^<>\s]+>|(?<!\S):[a-z][a-z0-9_+-]+:(?!\S)"
        r"|^(?i:(?:\S{1,40} ){0,3}(?:has )?(?:joined|left)"
        r" (?:the (?:channel|group|server|(?<=joined the )room|conversation|chat)|using .*)\.?|pinned a message.*"
        r"|this message was deleted\.?"
        r"|<?(?:media|image|video|audio|sticker|gif|document) omitted>?|missed (?:voice|video|group) call.*"
        r"|messages and calls are end-to-end encrypted.*)$"
    ),
    "lines of mails (what was quoted, who wrote it, a signature)": (
        r"^-{3,} ?(?:Original Message|Forwarded)|^On .{5,80} wrote:$|^Sent from my \w+"
        r"|^(?:(?:Best|Kind|Warm) )?[Rr]egards,?$"
    ),
    "nothing but what stands in brackets, or sounds as transcripts note them": (
        r"^\s*[\[(][^\]\[()'\".?!]{1,60}[\])]\s*$|[♪♫]|%hesitation"
        r"|\[(?i:noise|laughter|music|applause|inaudible|crosstalk|unintelligible|silence|sighs?|chuckles|coughs?)\]"
    ),
    "words of the buttons of a web page": (
        r"^\W*(?i:(?:read|learn|see|show|load) more|click here|share(?: on \w+)?|sign (?:in|up)|log ?in"
        r"|subscribe to .{0,40}"
        r"|skip to (?:main )?content|(?:accept (?:all )?|we use )cookies\b.*|back to top|all comments"
        r"|leave a (?:comment|reply))\W*$"
    ),
    "tabs, as between columns": r"\S\t+\S",
    "|||, as between columns": r"\|\|\|",
    "special tokens of language models": r"<\|[^|>\s]{1,40}\|>|\[/?(?:SEP|CLS|MASK|PAD|UNK|INST)\]|</?s>",
    "tags of HTML or XML": r"</?[A-Za-z][^<>]{0,200}>",
    "characters as HTML writes them": (
        r"&(?:[A-Za-z]{2,8}|#\d{1,6}|#x[0-9A-Fa-f]{1,5});|(?<!\w)(?:#(?:3[4689]|1[45]\d|8[12]\d\d)|quot|[lg]t|amp|nbsp);"
    ),
    "characters as web addresses write them": r"%20|%[0-9A-F]{2}[^%\s]*%[0-9A-F]{2}",
    "characters behind a backslash, as programs write them": r"\\(?:[ntr\"',/]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})|\\$",
    "places of a template": r"\$\{\w[\w.]*\}|%\(\w+\)[sdif]",
    "signs without a letter, as PDF files have them (cid, private use)": "\\(cid:\\d+\\)|[\ue000-\uf8ff]",
    "tags of forums ([b], [quote])": r"\[/(?:b|i|u|url|quote|img|code|color|size|list)\]",
    "commands of LaTeX": r"\\[a-zA-Z]{3,}|\$[^$]{0,60}[_^\\][^$]{0,60}\$",
    "characters as mails write them": r"=\?[\w-]+\?[qQbB]\?|=[0-9A-F]{2}.*=[0-9A-F]{2}|\w=$",
    _QUOTED: r"^(?:\[(?:'.*'|\".*\")\]|b'.*'|b\".*\")$",
    "formulas of a spreadsheet": r"^=[A-Z(+-]|^[+@][A-Z]+\d",
    "characters as Excel writes them": r"_x[0-9A-F]{4}_",
    "characters that were read in a wrong encoding": (
        rf"[\xc0-\xff]{{4}}|\ufffd|Ã[\x80-\xbf‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸ]|â€|Â[\xa0-\xbf]|{_MISREAD}"
    ),
    "control characters or further line ends": "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]|\\^M$",
    "characters that are not seen (zero-width spaces, marks of byte order or of the direction of writing)": (
        f"[\ufeff\u2060\u202d\u202e]|(?<![{UNSPACED}])\u200b(?![{UNSPACED}])"
        "|^[^\u0590-\u08ff]*[\u202a\u202b\u2066-\u2068][^\u0590-\u08ff]*$"
    ),
    "letters joined as in print, or soft hyphens, as PDF files have them": "[\ufb00-\ufb06]|\\w\xad\\w",
    "marks of a tokenizer": r"-[LR][RSC]B-|(?:^| )@[-.,]@(?: |$)|@@ |[▁Ġ]|(?:^| )##\w",
    "words with tags": r"(?:\S{1,40}[/_](?:[A-Z]{2,4}\$?|[.,:])(?:\s+|$)){3}",
    "Markdown or wiki markup": (
        r"\[[^\][]{1,60}\]\([^()\s]{1,200}\)|"
        r"\[\[[^\]]{1,99}\]\]|\{\{[^}]{1,99}\}\}|\]\(https?://|^\s*(?:#{1,6} |```)|'{3}|\*\*\w|^\.\. \w+::|^#\+\w|"
        r"^\s*={1,6} [^=]+ ={1,6}\s*$"
    ),
    "lines of a table": r"^\s*[-=+|:][-=+|: ]{2,}$|^\(\d+ rows?\)$",
    "a comma behind quotation marks, as in a list": r"^\s*[\"'].*[\"'],\s*$",
    "labels of fastText": r"^__label__",
    "words of a row of totals": rf"^(?i:{_TOTALS})",
    "what stands below a table (its source, its date, a copyright)": rf"^(?i:{_BELOW})",
    "numbers of pages": r"^\W*(?i:page|seite)\s+\d+(?:\s+(?:of|von)\s+\d+)?\W*$",
}
"""What sentences seldom hold, as regular expressions; what is told only where most texts have it is in `layout`."""

_MAY_BE_RARE = re.compile(
    "[\t<>&%$♪♫\\\\\ufffdÃâÂ\x01-\x1f\x7f\x85\u2028\u2029\ue000-\uf8ff\ufb00-\ufb06\xad\ufeff\u200b\u202a-\u202e\u2060\u2066-\u2068▁Ġ@_/#\\[{|*=^]|-[LR]|'{3}"
    r"|[¢£¤¥¦§¨¬¯±¹³¸¼½¾¶]|[À-ÖØ-Þ](?<=[a-zß-öø-ÿ].)|[А-ЯЁ](?<=[а-яё].)|;(?<=[tp];)|\(cid:|^[\"'\s(:.-]|^b[\"']|"
    r"^\W*(?i:page|seite)|^\s*[-+\d#].{2,13}$|^\s*\w{3,4}[-.]?\d\d\s*$|"
    r"^(?i:\W*(?:grand|sub|tota|su[m]|av|me(?:an|dian)|count|number|(?:ins)?gesamt|mittelw|durchs|somm|moyen"
    r"|promed|\(?\d+ [rpsei]"
    r"|generat|export|creat|downl|print|retriev|last up|source|quelle|fuente|fonte|©|\(c\)|copyr|all rig|end of"
    r"|applied|filter|confid|contin|see|legend|note|remark|-{3}|on .*:$|sent|.*\bregards|read|learn|show|load"
    r"|click|share|sign|log"
    r"|subs|skip|accept|we use|back|all c|leave|pinned|this mess|image|video|audio|sticker|gif|docum|missed"
    r"|messages and))"
    r"|(?<!\S):[a-z]|(?:joined|left) (?:the|using)"
)
_ANY = re.compile("|".join(f"({sign})" for sign in _ODDITIES.values()))

_NO_VALUE = re.compile(
    r"[-–—.…?_\"'″〃]{1,3}|[-–—]\"[-–—]|[<(\[{]?(?:nan|nil|null|none|n/?\.?a\.?|undefined|missing|not (?:available"
    r"|applicable)|tb[ad]"
    r"|todo|fixme|x+|(?:left |intentionally )?blank|placeholder|(?:your |insert |enter )?(?:text"
    r"|sentence) (?:goes )?here"
    r"|lorem ipsum\b.*|(?:unit ?)?test(?:ing)?(?: ?\d+| (?:sentence|text|entry|row|only))?|dummy(?: \w+)?|asdf\w*"
    r"|qwert\w*"
    r"|foo(?:bar| bar)?|blah(?:[ ,]+blah)*|(?:same(?: (?:as|text as))?|as|see|cf\.?)(?: (?:the )?(?:above|before"
    r"|below|previous"
    r"(?: (?:one|row|sentence))?|last(?: one)?|row \d+|#?\d+))|ditto|dito|idem|ibid\.?|siehe oben|s\. ?o\."
    r"|wie oben"
    r"|voir ci-dessus|ver arriba|no (?:answer|response|comments?|text|data|value|translation)(?: given)?"
    r"|skip(?:ped)?|deleted"
    r"|untranslated|(?:not|un)translatable|unintelligible|inaudible)[>)\]}.!]{0,2}"
    r"|\[(?:deleted|removed|empty|missing|image|video|audio|sticker|gif|redacted)\]|#\w/\w|#nv|err:\d{3}|loading(?:\.{3}|…)|\\n"
    r"|#(?:name\?|ref!|value!|div/0!|num!|error!|spill!)|(?-i:#[¡¿]?[A-ZÀ-ÞŚŹА-Я]{3,}(?:[ _/][A-Z0]+)*[!?])",
    re.IGNORECASE | re.DOTALL,
)
"""What other programs, and people, write where there is no value, or none yet."""

_SHOWN, _NAMED = 5, 60
"""So many of them are told, with how often each is there, and so many of their letters."""

_SAMPLE, _SAMPLED = 1000, 40_000
"""Of so many texts the first ones, unless they have more characters, are looked at for what is told only where it is
frequent (see `layout`)."""


class Oddities:
    """Counts texts that hold what sentences seldom hold, and tells of them."""

    def __init__(self) -> None:
        self._texts = 0
        self._counts: Counter[str] = Counter()
        self._of_columns: Counter[str] = Counter()
        self._quoted: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._missing: Counter[str] = Counter()
        self._samples: dict[str, list[str]] = defaultdict(list)
        self._told: set[str] = set()  # some of those of which something is told

    def look(self, text: str, column: str | None = "") -> None:
        """Takes one more text into account; one of no column is compared with none."""
        self._texts += 1
        if column is not None:
            self._of_columns[column] += 1
        if (
            column is not None
            and text.strip()
            and len(text) <= _SAMPLED
            and len(sample := self._samples[column]) < _SAMPLE
        ):
            sample.append(text)
        whole, text = text, text[:_LINE_CHARACTERS]
        if _NO_VALUE.fullmatch(text.strip()):
            self._missing[text[:_NAMED]] += 1
            return
        found = _ANY.search(text) if _MAY_BE_RARE.search(text) else None
        if found is not None:
            if column is not None and len(self._told) < _SAMPLE:
                self._told.add(whole)
            name = list(_ODDITIES)[(found.lastindex or 1) - 1]
            self._counts[name] += 1
            if name == _QUOTED and column is not None:
                self._quoted[column] += 1
            start = max(0, found.start() - 20)
            self._first.setdefault(name, text[start : start + 60])

    def check(self) -> None:
        """Raises InputError where most texts of a column are none as they stand; to be called behind the last one."""
        for column, quoted in self._quoted.items():
            if 2 * quoted > self._of_columns[column]:
                of_column = f" of column {column!r}" if column else ""
                raise InputError(
                    f"{quoted} of {self._of_columns[column]} texts{of_column} are such as "
                    f"{printable(self._first[_QUOTED])!r}, as Python prints lists and bytes; write the texts "
                    "themselves: bytes as text.decode(), the texts of a list in rows of their own, words with spaces "
                    "between them"
                )

    def tell(self, source: str) -> None:
        """Says in the log what was found, if anything."""
        if self._missing:
            told = ", ".join(f"{printable(text)!r} ({count})" for text, count in self._missing.most_common(_SHOWN))
            told += ", …" * (len(self._missing) > _SHOWN)
            logger.warning("%s: taken as texts, though they may mean that there is no value: %s", source, told)
        for name, count in self._counts.items():
            logger.warning(
                "%s: %d of %d texts hold %s, such as %r; they are taken as they stand",
                source,
                count,
                self._texts,
                name,
                printable(self._first[name]),
            )
        for column, sample in self._samples.items():
            others = () if column else [text for text in sample if text not in self._told]
            for name, count, example in chain(findings(sample, self._told), same_ends(others)):
                logger.warning(
                    "%s: %d of %d texts%s %s, such as %r; they are taken as they stand",
                    source,
                    count,
                    len(sample),
                    f" of column {column!r}" if column else "",
                    name,
                    printable(example),
                )


def text_lines(stream: BinaryIO) -> Iterator[str]:
    """Decodes lines that end in LF, CR LF or CR alone; `str.splitlines` also cuts at characters inside sentences."""
    for number, line in enumerate(decoded_lines(stream), start=1):
        for text in line.removesuffix("\n").rstrip("\r").split("\r"):
            if len(text) > MAX_TEXT:
                raise InputError(f"line {number} holds {len(text):,} characters; expected {A_TEXT}")
            yield text


def sentence_lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of a text with a sentence a line; an InputError says that they are those of a file of another kind."""
    lines = text_lines(stream)
    head, size = [], 0
    for line in lines:
        head.append(line)
        size += len(line)
        if len(head) == _HEAD_LINES or size > _HEAD_CHARACTERS:
            break
    text = "\n".join(line[:_LINE_CHARACTERS] for line in head)
    for kind, signs in _SIGNS:
        if signs.search(text):
            raise InputError(f"this looks like {kind.name}, whose lines are no sentences; {kind.advice}")
    if width := _width_of_prose(head):
        raise InputError(
            f"this looks like prose that is broken at {width} characters, whose lines are no sentences; join them, "
            "and write a sentence a line"
        )
    if code := code_in_lines(head):
        raise InputError(
            f"(nearly) every line has an id, a code or a time before or behind its text, such as {printable(code)!r}; "
            f"{_ONE_A_LINE}, or, where it belongs to them, as a .csv with the column text"
        )
    yield from _without_conflicts(chain(head, lines))


def _width_of_prose(lines: list[str]) -> int:
    """The width to which lines are filled with words, so that sentences go on in the next; 0 where they are not."""
    width = sorted(map(len, lines) if lines else [0])[-1 - len(lines) // _OVERLONG]
    ends = [(one, words) for one, other in pairwise(lines) if one.strip() and (words := other.split())]
    broken = [(one, words[0]) for one, words in ends if not ENDED.search(one)]
    filled = sum(len(one.rstrip()) + 1 + len(word) > width for one, word in broken)
    small = sum(word[0].islower() for _, word in broken)
    is_prose = len(broken) >= max(_FEW_LINES, len(ends) / 2) and filled >= _FILLED * len(broken) <= 2 * small
    return width if is_prose and width in _WIDTHS else 0


def is_conflict_mark(line: str) -> bool:
    """Whether a line is one of those that git puts around what it could not merge."""
    return re.match(r"<{7}( |$)|>{7}( |$)", line) is not None


def _without_conflicts(lines: Iterable[str]) -> Iterator[str]:
    """The lines; an InputError where two of them are the marks of a conflict of git."""
    begun = 0
    for number, line in enumerate(lines, start=1):
        if line[:7] in ("<<<<<<<", ">>>>>>>") and is_conflict_mark(line):
            if begun and line[0] == ">":
                raise InputError(f"lines {begun} to {number} are a conflict that git could not merge; settle it first")
            begun = number if line[0] == "<" else 0
        yield line


def decoded_lines(stream: BinaryIO, longest: int = _MAX_LINE) -> Iterator[str]:
    """The lines of UTF-8 text with their ends; an InputError says which line is to blame."""
    offset = number = 0
    while line := stream.readline(longest + 1):
        number += 1
        if number == 1:
            begin = line.removeprefix(b"\xef\xbb\xbf")
            kind = kind_of(begin)
            kind = "tar" if line[257:262] == b"ustar" else kind
            if kind is not None:
                raise InputError(f"this is a {kind} file, not text; {_ONE_A_LINE}")
        if len(line) > longest:
            raise InputError(f"line {number} is longer than {longest:,} bytes; expected a sentence or a row a line")
        try:
            if number == 1 and len(line) > 3 and 2 * line.count(0) >= len(line) - 1:
                raise UnicodeDecodeError("utf-8", line, line.index(0), line.index(0) + 1, "every second byte is NUL")
            if number == 1 and (wide := _first_of_wide(line)) is not None:
                raise UnicodeDecodeError("utf-8", line, wide, wide + 1, "every second byte is no letter")
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"line {number} is not UTF-8 (byte {line[error.start : error.start + 1]!r} at offset "
                f"{offset + error.start}); {_how_to_convert(_encoding(line, offset))}"
            ) from None
        offset += len(line)
        yield text.lstrip("\ufeff")  # in any line, as where files were joined


def _first_of_wide(line: bytes) -> int | None:
    """Where the first control character stands, if every second byte is one, as of Latin or Cyrillic text in UTF-16."""
    for start in (1, 0):
        halves = line[start : start + _LINE_CHARACTERS : 2]
        if len(halves) > 1 and 10 * len(_CONTROL.findall(halves)) >= 9 * len(halves):
            return start
    return None


def kind_of(begin: bytes) -> str | None:
    """The kind of file that begins so (see `_BEGINNINGS`), if it is one of those that would be read as rubbish."""
    return next((kind for magic, kind in _BEGINNINGS.items() if begin.startswith(magic)), None)


def _how_to_convert(encoding: str | None) -> str:
    first = "convert the file first, for example" if encoding else "find out its encoding, and convert the file first"
    return f"{first}: iconv -f {encoding or 'ENCODING'} -t utf-8 FILE > utf8-FILE"


def _encoding(line: bytes, offset: int) -> str | None:
    """The encoding in which a line is probably written that is not UTF-8; None where there are many it may be."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")) and not offset:
        return "utf-32" if b"\x00\x00" in line[:4] else "utf-16"
    first = _first_of_wide(line)
    if first is None and b"\x00" not in line:
        if re.search(rb"[\x80-\xff]{4}", line):  # in the languages of western Europe few letters are beyond ASCII
            return None
        return "CP1252" if re.search(rb"[\x80-\x9f]", line) else "latin1"  # what lies there is no text in Latin-1
    return "utf-16le" if (offset + (line.index(b"\x00") if first is None else first)) % 2 else "utf-16be"
