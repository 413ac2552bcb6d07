"""Heads that an encoder has while it is trained: SimCSE's layer with tanh, and one that predicts masked tokens.

Both are published (SimCSE, arXiv 2104.08821, and SynCSE, arXiv 2305.15077, whose code is SimCSE's):

- A linear layer with tanh behind the pooling, as wide as the embedding, its weights drawn anew from a normal
  distribution. SimCSE's unsupervised form drops it after training and validates without; its supervised form, and
  SynCSE, keep it.
- The masked-language-model loss of BERT on all texts of a batch, which joins the contrastive loss with a weight of 0.1:
  of 15 % of the tokens 80 % are replaced by the mask, 10 % by a random token and 10 % left, and all of them predicted
  by the head that the encoder was pretrained with. As in the published code the head's output matrix is a copy of the
  embedding's that is trained on its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Module
from sentence_transformers.util.distributed import get_rank, get_world_size
from torch import Tensor, distributed, nn
from transformers import AutoConfig, AutoModelForMaskedLM

from dino_st.encoders.loading import encoder_files, homes_of, quiet_transformers
from dino_st.errors import ConfigurationError
from dino_st.support.hashes import random_bits
from dino_st.training.options import ContrastiveOptions, TrainingOptions
from dino_st.training.passes import parts_by_length

_SPREAD = 0.02  # of the layer's first weights, where the encoder's configuration has no `initializer_range`
_IGNORED = -100


class TrainingHead(Dense):
    """The layer with tanh that is there in training alone: in evaluation it passes embeddings on."""

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Changes the embedding while training."""
        return super().forward(features) if self.training else features


class MaskedTokenHead(Module):
    """Predicts masked tokens from what an encoder makes of the others; a module that passes embeddings on.

    `draws` counts the batches that were masked, so that a run that goes on masks as one that was never interrupted.
    """

    def __init__(self, masked: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draws: Tensor
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self.masked = masked
        del masked._modules[masked.base_model_prefix]  # the encoder at hand takes its place in `scores`

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Passes on what the other modules made."""
        return features

    def scores(self, encoder: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Scores of all tokens at each position, shape `(rows, positions, tokens)`, by an encoder's present weights."""
        name = self.masked.base_model_prefix
        object.__setattr__(self.masked, name, encoder)  # not as a module of this one, which would own it, too
        try:
            scores: Tensor = self.masked(**inputs).logits
        finally:
            object.__delattr__(self.masked, name)
        return scores

    def save(self, output_path: str, *_: Any, safe_serialization: bool = True, **__: Any) -> None:
        """Saves the head in a checkpoint."""
        self.masked.config.save_pretrained(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *_: Any, **__: Any) -> Self:
        """Loads the head of a checkpoint."""
        config = AutoConfig.from_pretrained(str(Path(model_name_or_path, subfolder)))
        head = cls(AutoModelForMaskedLM.from_config(config))  # type: ignore[no-untyped-call]
        loaded: Self = cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=head)
        return loaded


class WithMaskedTokens(nn.Module):
    """A contrastive loss together with that of predicting masked tokens.

    The latter's gradients are computed at once, a few texts of about the same length at a time, as gradient caching
    does; with several processes they are those of one process: the mean is over the masked tokens of all, and what is
    masked depends on the seed, the step and the row in the whole batch.
    """

    def __init__(self, model: SentenceTransformer, loss: nn.Module, options: ContrastiveOptions) -> None:
        super().__init__()
        self.model, self.loss, self.options = model, loss, options

    def forward(self, sentence_features: Sequence[dict[str, Tensor]], labels: Tensor | None) -> Tensor:
        """The sum of both losses, of which the contrastive one has a gradient left to compute."""
        if not torch.is_grad_enabled():
            without: Tensor = self.loss(sentence_features, labels)
            return without
        # First: what shares gradients among processes counts them from the encoding of the other loss on.
        masked = self._train_on_masked([dict(column) for column in sentence_features])
        loss: Tensor = self.loss(sentence_features, labels)
        return loss + masked

    def get_config_dict(self) -> dict[str, Any]:
        """What the model's card says of the loss."""
        return {"mlm_weight": self.options.mlm_weight, "mlm_probability": self.options.mlm_probability}

    def _train_on_masked(self, columns: list[dict[str, Tensor]]) -> Tensor:
        """The weighted loss of the masked tokens of a batch's columns, whose gradients are added to the weights'."""
        model: Any = getattr(self.model, "module", self.model)  # without what shares gradients among processes
        head = next(module for module in model if isinstance(module, MaskedTokenHead))
        targets = self._mask(model, head, columns)
        total = torch.stack([(target != _IGNORED).sum() for target in targets]).sum()
        value = torch.zeros((), device=total.device)
        if get_world_size() > 1:
            distributed.all_reduce(total)
        if not total:
            return value
        for column, target in zip(columns, targets, strict=True):
            for rows, part in parts_by_length(column, self.options.mini_batch_size):
                wanted = target[rows, : part["input_ids"].shape[1]]
                chosen = wanted != _IGNORED
                if not chosen.any():
                    continue
                inputs = {name: values for name, values in part.items() if name in _INPUTS}
                scores = head.scores(model[0].model, inputs)[chosen].float()
                summed = nn.functional.cross_entropy(scores, wanted[chosen], reduction="sum")
                loss = self.options.mlm_weight * get_world_size() * summed / total
                loss.backward()  # type: ignore[no-untyped-call]
                value += loss.detach()
        _average_gradients(head)
        return value

    def _mask(self, model: Any, head: MaskedTokenHead, columns: list[dict[str, Tensor]]) -> list[Tensor]:
        """Masks tokens in the columns; returns the tokens to predict, and elsewhere a number that no token has."""
        tokenizer, ids = model.tokenizer, columns[0]["input_ids"]
        longest = max(column["input_ids"].shape[1] for column in columns)
        rows, length = len(ids), torch.tensor(longest, device=ids.device)
        if get_world_size() > 1:
            distributed.all_reduce(length, distributed.ReduceOp.MAX)
        shape = (3, len(columns), rows * get_world_size(), int(length))
        bits = random_bits(self.options.seed, int(head.draws)).random_raw(int(torch.tensor(shape).prod()))
        head.draws += 1
        drawn = torch.from_numpy((bits >> 40).astype(np.float32)).reshape(shape)[:, :, get_rank() * rows :][:, :, :rows]
        drawn *= 2.0**-24
        special = torch.tensor(tokenizer.all_special_ids, device=ids.device)
        targets = []
        for number, column in enumerate(columns):
            ids = column["input_ids"]
            choice, action, token = drawn[:, number, :, : ids.shape[1]].to(ids.device)
            chosen = (choice < self.options.mlm_probability) & ~torch.isin(ids, special)
            targets.append(ids.where(chosen, _IGNORED))
            masked = ids.masked_fill(chosen & (action < 0.8), tokenizer.mask_token_id)
            column["input_ids"] = (
                (token * len(tokenizer)).long().where(chosen & (action >= 0.8) & (action < 0.9), masked)
            )
        return targets


_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def _average_gradients(head: nn.Module) -> None:
    """Averages the gradients over the processes, since the head has no part in the loss whose gradients are shared."""
    if get_world_size() == 1:
        return
    for weight in head.parameters():
        weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        distributed.all_reduce(weight.grad)
        weight.grad /= get_world_size()


@contextlib.contextmanager
def training_heads(
    model: SentenceTransformer, encoder: str | os.PathLike[str] | SentenceTransformer, options: TrainingOptions
) -> Iterator[None]:
    """Gives an encoder the heads that the options ask for, and takes from it in the end those that are not to stay."""
    if not isinstance(options, ContrastiveOptions):
        yield
        return
    try:
        if options.mlm_weight:
            model.append(MaskedTokenHead(masked_language_model(encoder)))
        if options.mlp_head != "none":
            model.append(_layer_with_tanh(model, options))
        yield
    finally:
        for place in reversed(range(len(model))):
            if isinstance(model[place], TrainingHead | MaskedTokenHead):
                del model[place]


def _layer_with_tanh(model: SentenceTransformer, options: ContrastiveOptions) -> Dense:
    """A layer as wide as the embedding, with weights that the seed draws."""
    size: Any = model.get_embedding_dimension()
    config = getattr(getattr(model[0], "model", None), "config", None)
    spread = getattr(config, "initializer_range", _SPREAD)
    weights = torch.empty(size, size).normal_(0, spread, generator=torch.Generator().manual_seed(options.seed))
    kind = TrainingHead if options.mlp_head == "train" else Dense
    return kind(size, size, init_weight=weights, init_bias=torch.zeros(size)).to(model.device)


def masked_language_model(encoder: str | os.PathLike[str] | SentenceTransformer, device_map: str | None = None) -> Any:
    """Loads the pretrained model of masked tokens that an encoder is a part of.

    On the device `meta` it is only looked at. Raises ConfigurationError where there is no such head.
    """
    problem = "it was handed in as a model, from which its head is gone; give its name or directory"
    if isinstance(encoder, str | os.PathLike):
        try:
            with quiet_transformers():
                masked, report = AutoModelForMaskedLM.from_pretrained(
                    str(homes_of(encoder_files(encoder))[0]),
                    dtype=torch.float32,
                    device_map=device_map,
                    output_loading_info=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                )
        except (ValueError, OSError):  # static embeddings, or an architecture without such a head
            problem = "it is of a kind that never predicts masked tokens"
        else:
            missing = [name for name in report["missing_keys"] if not name.startswith(f"{masked.base_model_prefix}.")]
            if not missing:
                return masked
            problem = f"its files hold the encoder alone ({missing[0]} is missing)"
    name = "the encoder" if isinstance(encoder, SentenceTransformer) else repr(os.fspath(encoder))
    raise ConfigurationError(
        f"mlm_weight asks for a loss of masked tokens, but {name} has no head that predicts them: {problem}. Set "
        "mlm_weight to 0 (of a recipe: --set train.mlm_weight=0), or start from a model such as roberta-base"
    )
