from __future__ import annotations

import copy
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from dino_st.errors import ConfigurationError, ModelError
from dino_st.tasks.prompts import ChatTemplate, build_prompts, choose_format, encode_prompt, quotable
from dino_st.tasks.spec import TaskSpec

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def chat_tokenizer(tokenizer: Any) -> Any:
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = TEMPLATE
    return chat


def test_prompts_hold_the_sentence_and_follow_the_counter_labels() -> None:
    prompts = build_prompts(TaskSpec.load("sts-x2"), "0", "A cat.")
    end = '.\nSentence 1: "A cat."\nSentence 2: "'
    assert prompts.target == "Task: Write two sentences that are on completely different topics" + end
    assert prompts.counters == (
        "Task: Write two sentences that mean the same thing" + end,
        "Task: Write two sentences that are somewhat similar" + end,
    )


def test_prompts_hold_the_sentence_in_its_quotable_form() -> None:
    prompts = build_prompts(TaskSpec.load("sts-x2"), "0.5", 'He said\n"no".')
    assert all('Sentence 1: "He said “no”."\n' in prompt for prompt in (prompts.target, *prompts.counters))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He said "no".', "He said “no”."),
        ('"Yes" and ("maybe")', "“Yes” and (“maybe”)"),
        ('A 12" screen', "A 12” screen"),
        ("two\nlines\r\n and\ttabs", "two lines and tabs"),
        ("plain", "plain"),
    ],
)
def test_a_quotation_in_the_sentence_cannot_close_the_prompts(text: str, expected: str) -> None:
    assert quotable(text) == expected


def test_where_curly_marks_end_a_text_none_stands_in_the_sentence() -> None:
    assert quotable('“a” "b"', '"“”') == "'a' 'b'"


@pytest.mark.parametrize(
    ("language", "sentence", "expected"),
    [
        ("de", 'Sie sagt „ja“ und "nein".', "Satz 1: „Sie sagt 'ja' und 'nein'.“\nSatz 2: „"),
        ("fr", "Il dit « non ».", "Phrase 1 : « Il dit ' non '. »\nPhrase 2 : «"),
        ("ja", "彼は「はい」と言った。", "文1：「彼は'はい'と言った。」\n文2：「"),
        ("zh", "他说“不”。", "句子1：“他说'不'。”\n句子2：“"),
        ("es", "Dijo «no».\nY se fue.", "Oración 1: «Dijo 'no'. Y se fue.»\nOración 2: «"),
    ],
)
def test_no_mark_of_the_language_stands_in_the_sentence(language: str, sentence: str, expected: str) -> None:
    assert build_prompts(TaskSpec.load(f"sts-x2.{language}"), "1", sentence).target.endswith(expected)


def test_a_passage_keeps_its_line_breaks_where_the_task_allows_them() -> None:
    content = {"task_name": "t", "labels": {"1": {"instruction": "Text:\n<X1>\nShort:"}}, "closing_marks": ["###"]}
    passage = 'A "title"\r\n\r\nA body ### of two lines.\n'
    kept = build_prompts(TaskSpec.load(content | {"allow_newlines": True}), "1", passage).target
    assert kept == 'Text:\nA "title"\n\nA body \' of two lines.\nShort:'
    assert build_prompts(TaskSpec.load(content), "1", passage).target.count("\n") == 2


def test_a_sentence_that_holds_the_placeholder_is_filled_in_as_it_is() -> None:
    assert build_prompts(TaskSpec.load("sts-x2"), "1", "a <X1> b").target.count("<X1>") == 1


def test_a_chat_puts_the_instruction_in_the_users_turn_and_begins_the_answer(chat_tokenizer: Any) -> None:
    prompt = build_prompts(TaskSpec.load("sts-x2"), "1", "A cat.").target
    ids = encode_prompt(prompt, chat_tokenizer, ChatTemplate(chat_tokenizer))
    assert chat_tokenizer.decode(ids) == (
        "<|user|>Task: Write two sentences that mean the same thing.\n"
        'Sentence 1: "A cat."<|end|><|assistant|>Sentence 2: "'
    )


def test_a_prompt_of_one_line_becomes_a_chat_as_well(chat_tokenizer: Any) -> None:
    ids = encode_prompt('Write a title: "', chat_tokenizer, ChatTemplate(chat_tokenizer))
    assert chat_tokenizer.decode(ids) == '<|user|>Write a title:<|end|><|assistant|>"'


def test_the_format_follows_the_chat_template_unless_it_is_named(tokenizer: Any, chat_tokenizer: Any) -> None:
    assert choose_format("auto", tokenizer) == "raw"
    assert choose_format("auto", chat_tokenizer) == "chat"
    assert choose_format("raw", chat_tokenizer) == "raw"
    with pytest.raises(ModelError, match="chat template, and this one has none"):
        choose_format("chat", tokenizer)
    with pytest.raises(ConfigurationError, match="expected one of raw, chat, auto"):
        choose_format("html", tokenizer)  # type: ignore[arg-type]


@pytest.mark.parametrize("template", ["<s> $A </s>", "<s> $A <sep> <cls>", "<s> $A <sep> </s> </s>"])
def test_raw_prompts_lose_whatever_the_tokenizer_closes_a_text_with(template: str, tokenizer: Any) -> None:
    closing = copy.deepcopy(tokenizer)
    closing.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "sep_token": "<sep>", "cls_token": "<cls>"})
    ids = [(token, closing.convert_tokens_to_ids(token)) for token in ("<s>", "</s>", "<sep>", "<cls>")]
    closing.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=ids)
    assert encode_prompt("A cat", closing) == (ids[0][1], *tokenizer("A cat")["input_ids"])
