"""Instruction documents as token ids: the tokenizer, the template, and shards on disk.

``python -m tools.bundled_lm.documents --corpora DIR --evaluation DIR --output DIR --documents N``
"""

import argparse
import json
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tools.bundled_lm.lexicon import Lexicon
from tools.bundled_lm.pairs import MIXTURES, PairMaker
from tools.bundled_lm.sources import Corpora, Evaluation, read_corpora

SPEC = Path(__file__).parents[2] / "dino_st" / "tasks" / "specs" / "sts-x2.json"
END = "<|endoftext|>"
VOCABULARY = 6144
LONGEST = 80
PLAIN = 0.05
"""Share of documents that are one sentence without an instruction."""
_SHARD = 50_000


def templates() -> tuple[dict[str, str], str]:
    """The three instruction heads by label, and what stands between the sentences; from the task spec itself."""
    labels = json.loads(SPEC.read_text(encoding="utf-8"))["labels"]
    heads, middles = {}, set()
    for label, entry in labels.items():
        heads[label], middle = entry["instruction"].split("<X1>")
        middles.add(middle)
    (middle,) = middles
    return heads, middle


def train_tokenizer(sentences: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE; each instruction head and the middle of the template is one added token.

    A quotation mark is always a token of its own, so the end of a text never hides inside another token.
    """
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex('"'), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sentences, trainer)
    heads, middle = templates()
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*heads.values(), middle)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=512
    )


def write_shard(work: Path, shard: int, maker: PairMaker, evaluation: Evaluation, size: int) -> dict[str, int]:
    """Writes one shard of documents (flat token ids and where each ends); returns what was dropped and why."""
    rng = random.Random(f"documents-{shard}")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    heads, middle = templates()
    pairs, dropped, texts = maker.draw(rng), Counter[str](), []
    while len(texts) < size:
        if rng.random() < PLAIN:
            first, _ = maker.styled((maker.sentence(rng),) * 2, rng)
            sentences, text = (first,), f"{END}{first}"
        else:
            label, sentences = next(pairs)
            text = f'{heads[label]}{sentences[0]}{middle}{sentences[1]}"'
        reason = next((why for sentence in sentences if (why := evaluation.overlaps(sentence))), None)
        if reason is None:
            texts.append(text + END)
        else:
            dropped[reason] += 1
    ids = [row for row in tokenizer(texts)["input_ids"] if len(row) <= LONGEST]
    flat = np.fromiter((token for row in ids for token in row), np.uint16)
    np.savez(work / f"documents-{shard:04d}.npz", ids=flat, ends=np.cumsum([len(row) for row in ids]))
    return {**dropped, "too long": len(texts) - len(ids), "kept": len(ids)}


def prepare(corpora_dir: Path, evaluation_dir: Path) -> tuple[Corpora, Corpora, Evaluation]:
    """The corpora to train on, the part kept back, and the evaluation's sentences."""
    evaluation = Evaluation.read(evaluation_dir)
    training, kept_back = read_corpora(corpora_dir, evaluation).split()
    return training, kept_back, evaluation


def make_pairs(training: Corpora, corpora_dir: Path, mixture: str) -> PairMaker:
    """A maker of pairs with the lexicon of the training text."""
    lexicon = Lexicon(training.everything(), corpora_dir / "open_english_wordnet")
    return PairMaker(training, lexicon, MIXTURES[mixture])


def _write_shards(
    work: Path, shards: range, corpora_dir: Path, evaluation_dir: Path, mixture: str
) -> list[dict[str, int]]:
    training, _, evaluation = prepare(corpora_dir, evaluation_dir)
    maker = make_pairs(training, corpora_dir, mixture)
    return [write_shard(work, shard, maker, evaluation, _SHARD) for shard in shards]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True, help="folder with STS/ and SICK/, to be left out")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=1_400_000)
    parser.add_argument("--mixture", choices=MIXTURES, default="wide")
    parser.add_argument("--tokenizer", type=Path, help="take this one instead of training one")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    training, _, _ = prepare(arguments.corpora, arguments.evaluation)
    if arguments.tokenizer is None:
        maker, rng = make_pairs(training, arguments.corpora, arguments.mixture), random.Random("tokenizer")
        sample = [sentence for _, pair in islice(maker.draw(rng), 300_000) for sentence in pair]
        train_tokenizer(sample).save_pretrained(arguments.output / "tokenizer")
    else:
        PreTrainedTokenizerFast.from_pretrained(arguments.tokenizer).save_pretrained(arguments.output / "tokenizer")
    shards = -(-arguments.documents // _SHARD)
    with ProcessPoolExecutor(arguments.workers) as pool:
        parts = [range(k, shards, arguments.workers) for k in range(arguments.workers)]
        jobs = [
            pool.submit(
                _write_shards, arguments.output, part, arguments.corpora, arguments.evaluation, arguments.mixture
            )
            for part in parts
        ]
        total = sum((Counter(counts) for job in jobs for counts in job.result()), Counter[str]())
    report = {"sources dropped": training.dropped, "documents": dict(total)}
    (arguments.output / "documents.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
