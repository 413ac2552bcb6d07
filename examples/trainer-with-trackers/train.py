"""A SentenceTransformerTrainer of one's own on prepared pairs, with an experiment tracker.

python train.py prepared my-encoder [tensorboard|wandb|trackio|mlflow]
"""

from __future__ import annotations

import os
import sys

from datasets import load_dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

from dino_st.encoders.loading import load_trainable_encoder


def main(prepared: str, output: str, tracker: str = "tensorboard") -> None:
    """Trains for one epoch and stores the encoder."""
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", f"{output}/runs")
    splits = load_dataset(prepared)  # exactly sentence1, sentence2, score: what the Trainer wants
    encoder = load_trainable_encoder("dino-tiny-encoder")  # for real work SentenceTransformer("roberta-base")
    validation = splits["validation"]
    evaluator = EmbeddingSimilarityEvaluator(validation["sentence1"], validation["sentence2"], validation["score"])
    arguments = SentenceTransformerTrainingArguments(
        output,
        num_train_epochs=1,
        per_device_train_batch_size=32,
        learning_rate=5e-4,  # 2e-5 for a transformer
        warmup_steps=0.1,
        eval_strategy="steps",
        eval_steps=20,
        logging_steps=5,
        save_strategy="no",
        report_to=tracker,
    )
    trainer = SentenceTransformerTrainer(
        encoder,
        arguments,
        train_dataset=splits["train"],
        loss=CosineSimilarityLoss(encoder),
        evaluator=evaluator,
    )
    trainer.train()
    encoder.save_pretrained(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
