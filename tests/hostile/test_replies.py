"""What models and chat servers answer: of whatever form, nothing but the sentence that was asked for may be stored."""

from __future__ import annotations

import gc
import hashlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, settings
from hypothesis import given as drawn
from hypothesis import strategies as st
from typer.testing import CliRunner

from dino_st.backends.answers.comparison import repeats
from dino_st.backends.answers.faults import fault_of
from dino_st.backends.answers.parsing import Parsed, parse_list, parse_reply
from dino_st.backends.chat import ChatRequest
from dino_st.backends.journal import ReplyJournal
from dino_st.backends.local import LocalWriter, Request
from dino_st.backends.openai import OpenAIChat
from dino_st.backends.servers.replies import AttemptError, read_answer
from dino_st.builder import DinoDatasetBuilder
from dino_st.cli.main import app
from dino_st.data.columns import raw_schema
from dino_st.data.shards import RowsInMemory, ShardDirectory
from dino_st.decoding.batch import Drawn
from dino_st.decoding.options import DecodingOptions
from dino_st.errors import ConfigurationError, MissingExtraError, ModelError
from dino_st.generation.chat import ChatPairRun
from dino_st.generation.options import GenerationOptions
from dino_st.support.languages import is_in_another_language
from dino_st.syncse.run import generate_triplets
from dino_st.tasks.spec import TaskSpec
from dino_st.tasks.syncse import PartialSpec, load_syncse_spec
from tests.fake_chat import FakeChat
from tests.hostile_server import MODEL, HostileServer, hostile_server

SOURCE = "A man plays a flute."
TEXT = "Someone is playing the flute."

CONTROL_TOKENS = {
    "Apertus": "<|system_start|> <|assistant_start|> <|assistant_end|> <|inner_prefix|> <|inner_suffix|> "
    "<|tools_prefix|>",
    "BERT": "[CLS] [SEP] [PAD] [MASK] [UNK] [unused1] [unused99]",
    "BLOOM": "<s> </s> <unk> <pad>",
    "Baichuan": "<reserved_106> <reserved_107> <s> </s>",
    "ChatGLM": "[gMASK] [sMASK] [MASK] <sop> <eop> <|user|> <|assistant|> <|observation|> <|begin_of_box|> "
    "<|end_of_box|>",
    "CodeLlama": "<PRE> <SUF> <MID> <EOT> <<SYS>> <</SYS>> [INST] [/INST]",
    "Command": "<BOS_TOKEN> <EOP_TOKEN> <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|CHATBOT_TOKEN|> "
    "<|START_THINKING|> <|END_THINKING|> <|START_RESPONSE|> <|END_RESPONSE|> <|START_ACTION|> "
    "<|END_ACTION|>",
    "DeepSeek": "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> "
    "<｜tool▁calls▁begin｜> <｜▁pad▁｜> "
    "<think> </think>",
    "EXAONE": "[|system|] [|user|] [|assistant|] [|endofturn|] [BOS] [EOS] <thought> </thought>",
    "Falcon": ">>TITLE<< >>ABSTRACT<< >>SUMMARY<< >>QUESTION<< >>ANSWER<< <|endoftext|>",
    "GPT-2": "<|endoftext|>",
    "Gemma 2 and 3": "<bos> <eos> <pad> <unk> <mask> <start_of_turn> <end_of_turn> "
    "<unused0> <unused6241> <start_of_image> "
    "<image_soft_token> [multimodal] <table> </td> <h1> <0x0A>",
    "Gemma 4": "<|turn> <turn|> <|channel> <channel|> <|think|> <|tool_call> <tool_call|> <|image|>",
    "Granite": "<|start_of_role|> <|end_of_role|> <|end_of_text|> <|tool_call|> <response> </response>",
    "Grok": "<|separator|> <|control12|> <|eos|>",
    "Hunyuan": "<｜hy_begin▁of▁sentence｜> <｜hy_User｜> <｜hy_place▁holder▁no▁2｜> <|startoftext|> <answer> </answer>",
    "InternLM": "<eoh> <eoa> <|action_start|> <|plugin|> [UNUSED_TOKEN_145]",
    "Jamba and DBRX": "<|startoftext|> <|bom|> <|eom|> <|pad|>",
    "Kimi": "[BOS] [EOS] [EOT] [PAD] <|im_user|> <|im_assistant|> <|im_middle|> <|im_end|> ◁think▷ ◁/think▷ "
    "<|media_start|>",
    "LFM2": "<|startoftext|> <|cot_start|> <|cot_end|> <|tool_list_start|> <|review_start|>",
    "Ling": "<role> </role> <|role_end|> <|number_end|>",
    "Llama 2 and Mistral": "<s> </s> <unk> [INST] [/INST] [TOOL_CALLS] [AVAILABLE_TOOLS] [SYSTEM_PROMPT] [THINK] "
    "[/THINK] [IMG] [IMG_BREAK] [ARGS] [CALL_ID] [PREFIX] [SUFFIX] [MIDDLE] [AUDIO] [BEGIN_AUDIO]",
    "Llama 3": "<|begin_of_text|> <|eot_id|> <|eom_id|> <|start_header_id|> <|end_header_id|> <|python_tag|> "
    "<|reserved_special_token_0|> <|finetune_right_pad_id|>",
    "MiniMax": "]~!b[ ]~b] [e~[ ]!p~[ ]!d~[ ]<]image[>[ ]<]start of image[>[ <minimax:tool_call>",
    "OLMo": "|||IP_ADDRESS||| |||EMAIL_ADDRESS||| |||PHONE_NUMBER||| <|padding|>",
    "Phi": "<|system|> <|end|> <|dummy_0|> <|placeholder1|> <|im_sep|> <|fim_prefix|>",
    "Qwen": "<|im_start|> <|im_end|> <|vision_start|> <|object_ref_start|> <tool_call> </tool_call> <tool_response>",
    "Seed": "<seed:bos> <seed:eos> <seed:think> </seed:think> <seed:cot_budget_reflect> <seed:tool_call> "
    "<[PLHD1_never_used]>",
    "StarCoder and SmolLM": "<fim_prefix> <file_sep> <reponame> <gh_stars> <jupyter_start> <empty_output> "
    "<issue_closed>",
    "T5 and XLNet": "<extra_id_0> <extra_id_99> <cls> <sep> <eod> <eop>",
    "gpt-oss": "<|start|> <|channel|> <|message|> <|constrain|> <|return|> <|call|> <|startoftext|> "
    "<|reserved_200013|>",
}
"""Control tokens of tokenizers, by their model family."""

TOKENS = sorted({token for tokens in CONTROL_TOKENS.values() for token in re.split(r" (?=[<\[>\]|◁])", tokens)})


# --- texts


@pytest.mark.parametrize(
    "reply",
    [
        "<|channel|>analysis<|message|>They want …<|end|><|start|>assistant<|channel|>final<|message|>TEXT<|return|>",
        "<|channel|>commentary<|message|>…<|channel|>final <|constrain|>text<|message|>TEXT",
        "analysisThe user wants a sentence.assistantfinalTEXT",
        "[THINK]A flute. “TEXT”?[/THINK]TEXT",
        "◁think▷So …◁/think▷TEXT",
        "<seed:think>So …</seed:think>TEXT",
        "<longcat_think>So …</longcat_think>\n\nTEXT",
        "<Thought>So …</Thought><Output>TEXT</Output>",
        "<reasoning>\nSo …\n</reasoning>\n<answer>\nTEXT\n</answer>",
        "Here it is: <answer>TEXT</answer> Anything else?",
        "TEXT</answer>",
        "<think>So …</think><answer><|begin_of_box|>TEXT<|end_of_box|></answer>",
        "So … no, wait.</think>\n\nTEXT",
        "<|begin_of_thought|>So …<|end_of_thought|>\n<|begin_of_solution|>TEXT<|end_of_solution|>",
        "<|START_THINKING|>So …<|END_THINKING|><|START_RESPONSE|>TEXT<|END_RESPONSE|>",
        "<|inner_prefix|>So …<|inner_suffix|>TEXT<|assistant_end|>",
        "<|channel>thought\nSo …<channel|>TEXT<turn|>",
        "My reasoning: …\n[BEGIN FINAL RESPONSE]\nTEXT\n[END FINAL RESPONSE]",
        r"The answer is $\boxed{\text{TEXT}}$.",
        r"\boxed{TEXT}",
        "TEXT</s>",
        "TEXT<|im_end|>",
        "TEXT<|eot_id|>",
        "TEXT<end_of_turn>\n<start_of_turn>user\nAnother one.",
        "TEXT<｜end▁of▁sentence｜>",
        "TEXT<|endoftext|>Title: A book",
        "TEXT[|endofturn|]",
        "TEXT</s></s><pad><pad>",
        "<|im_start|>assistant\nTEXT<|im_end|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\nTEXT<|eot_id|>",
        "<start_of_turn>model\nTEXT",
        "<|im_assistant|>assistant<|im_middle|>TEXT<|im_end|>",
        "<s>[INST] Say it. [/INST] TEXT </s>",
        '{"sentence": "TEXT"}',
        '{"sentence": "TEXT", "score": 1}',
        '```json\n{"answer": ["TEXT"]}\n```',
    ],
)
def test_markup_that_is_known_is_taken_off(reply: str) -> None:
    reply = reply.replace("TEXT", TEXT)
    assert parse_reply(reply, SOURCE).text == TEXT
    assert parse_list(reply).texts == (TEXT,)
    assert parse_reply(reply, SOURCE, closing_marks='"').text == TEXT


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("TEXT <unused12>", "control token"),
        ("<tool_call>TEXT</tool_call>", "control token"),
        ("TEXT<|im_e", "control token"),
        ("TEXT</", "control token"),
        ("TEXT [TOOL_CALLS]", "control token"),
        ("The <b>flute</b> is played.", "control token"),
        ("TEXT ]~b]", "control token"),
        ('{"error": "TEXT"}', "markup"),
        ('{"sentence": "TEXT", "paraphrase": "TEXT"}', "markup"),
        ("Someone▁is▁playing.", "markup"),
        ("SomeoneĠisĠplaying.", "markup"),
        ("TEXT\\nNote: a flute.", "markup"),
        ("&lt;b&gt;TEXT&lt;/b&gt;", "markup"),
        ("<|channel|>analysis<|message|>TEXT", "cut off"),
        ("[THINK]TEXT", "cut off"),
        ("analysisThe user wants this: TEXT", "cut off"),
        (r"\boxed{TEXT", "cut off"),
        ("Some\ud83done is playing.", "broken character"),
        ("Some\ufffdbody is playing.", "broken character"),
        ("Someone\x00 is playing.", "broken character"),
        ("TEXT \ue200cite\ue202turn0search0\ue201", "broken character"),
    ],
)
def test_what_is_left_of_markup_rejects_a_text_by_its_own_reason(reply: str, reason: str) -> None:
    reply = reply.replace("TEXT", TEXT)
    assert (parse_reply(reply, SOURCE).text, parse_reply(reply, SOURCE).reason) == (None, reason)
    assert parse_list(reply).left_out == {reason: 1}
    assert parse_reply(reply, SOURCE, closing_marks='"') == Parsed(None, reason)


@pytest.mark.parametrize(
    "text",
    [
        "If a<b and c>d, then stop.",
        "I <3 the sea.",
        "See <https://example.org> or write to <me@example.org>.",
        "He wrote [sic] that 1 < 2 [3].",
        "Analysis of the data took a day.",
        "They think, and then they answer.",
    ],
)
def test_sentences_that_only_remind_of_markup_are_kept(text: str) -> None:
    assert parse_reply(text, SOURCE).text == text


def test_a_tag_that_the_sentence_itself_has_may_stand_in_the_reply() -> None:
    assert parse_reply("The <b> tag sets bold type.", "What does <b> do?").text == "The <b> tag sets bold type."
    assert parse_reply("The <i> tag sets bold type.", "What does <b> do?").reason == "control token"


def test_a_list_of_objects_is_a_list_of_their_texts() -> None:
    reply = '[\n  {"id": 1, "sentence": "The bus was late."},\n  {"id": 2, "sentence": "Rain fell all night."}\n]'
    assert parse_list(reply).texts == ("The bus was late.", "Rain fell all night.")
    assert parse_list('{"sentences": ["The bus was late.", "Rain fell all night."]}').texts == parse_list(reply).texts


def test_a_list_deeper_than_a_reader_can_go_is_no_list() -> None:
    assert parse_list("[" * 100_000 + "]" * 100_000).texts == ()


PIECES = st.lists(
    st.one_of(
        st.sampled_from(TOKENS),
        st.sampled_from([TEXT, "It rains.", "assistant", "final", '"', "1. ", "\n", " "]),
        st.sampled_from(["**", "```", "New: ", "Sure! ", "- 5 ", "Answer: ", "Note: ", "“", "”", "{", "[", " / ", ","]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=600, deadline=None)
@example(pieces=[TEXT, "assistant", "assistant", '"'], finished=False)
@drawn(pieces=PIECES, finished=st.booleans())
def test_no_control_token_of_any_family_is_ever_stored(pieces: list[str], finished: bool) -> None:
    reply = "".join(pieces)
    found = [parse_reply(reply, SOURCE, finished=finished, closing_marks=marks).text for marks in ((), '"')]
    stored = [text for text in [*found, *parse_list(reply, finished=finished).texts] if text is not None]
    assert [(token, text) for token in TOKENS for text in stored if token in text] == []
    plain = " ".join(reply.split())
    assert [text for text in stored if text not in plain] == []
    assert [parse_reply(text, SOURCE).text or parse_reply(text, SOURCE).reason for text in found if text] == [
        text for text in found if text
    ]


@pytest.mark.parametrize("family", CONTROL_TOKENS)
def test_each_control_token_alone_is_stripped_or_rejects_the_text(family: str) -> None:
    assert len(CONTROL_TOKENS) >= 30
    for token in [token for token in TOKENS if token in CONTROL_TOKENS[family]]:
        for reply in (f"{TEXT}{token}", f"{token}{TEXT}", f"Someone {token} plays."):
            assert token not in (parse_reply(reply, SOURCE).text or "")
        assert fault_of(f"Someone {token} plays.") == "control token"


LABELS = ("Given:", "New:")
SHAPES: dict[str, dict[str, str]] = {
    "fences": {
        "```\nTEXT\n```": "",
        "```\nTEXT```": "",
        "```TEXT```": "",
        "```text\nTEXT\n```": "",
        "TEXT```": "markup",
    },
    "emphasis": {
        "*TEXT*": "",
        "__TEXT__": "",
        "**TEXT": "markup",
        "TEXT **": "markup",
        "A **flute** is heard.": "markup",
    },
    "quotation marks": {
        '"TEXT"': "",
        "«TEXT»": "",
        '"TEXT",': "",
        'TEXT"': "",
        '"TEXT': "",
        'He said "no.': "unmatched quotation mark",
        'He said "no" and "yes.': "unmatched quotation mark",
        "He said “no.": "unmatched quotation mark",
        '"He said "no" and" left."': "unmatched quotation mark",
        '"The cat sleeps." and "A cat is asleep."': "several answers",
        '"The cat sleeps." / "A cat is asleep."': "several answers",
        'I need another one. "TEXT"': "talk",
    },
    "labels": {
        "New: TEXT": "",
        "**New:** TEXT": "",
        "Answer: TEXT": "",
        "Paraphrased sentence: TEXT": "",
        'Output: "TEXT"': "",
        "Output: 5 tons": "label",
        "The result: a goal.": "label",
        "Answer: forty-two.": "label",
        "The answer is: TEXT": "",
        "Result: TEXT": "",
        "### Response:\nTEXT": "",
        "TEXT Note: I kept it.": "label",
        "model: TEXT": "label",
        "assistant: TEXT": "label",
        "Thinking: He plays. Answer: TEXT": "label",
        "Step 1: TEXT": "label",
        "Given: A man plays a flute. Answer: TEXT": "label",
        "Given: A man plays a flute. New: TEXT": "label",
    },
    "talk": {
        "assistant\n\nTEXT": "",
        "Sure, here is a paraphrase: TEXT": "",
        "Sure, here is the answer:\n\nTEXT": "",
        "I can help you with that.\nTEXT": "",
        'Certainly! "TEXT"': "",
        "TEXT\nNote: I kept it.": "",
        "TEXT\n\n**Explanation:**\n- I changed a word.": "",
        "TEXT\nI hope this helps!": "",
        "Sure! TEXT": "",
        "Got it. TEXT": "",
        "Of course. TEXT": "",
        "TEXT\n\n*(Word count: 5)*": "",
        "OK! Go home.": "talk",
        "Here is the paraphrase. TEXT": "talk",
        "I'd be happy to help! Which one?": "talk",
        "TEXT I hope this helps!": "talk",
        "TEXT (Note: I kept it.)": "talk",
        "TEXT Let me know if you need more.": "talk",
        "A man says this:": "talk",
        "The man said:\nGo home.": "several lines",
    },
    "numbers": {
        "1. TEXT": "",
        "1: TEXT": "",
        "(a) TEXT": "",
        "a. TEXT": "",
        "[1] TEXT": "",
        "- TEXT": "",
        "> TEXT": "",
        "- 5 degrees": "numbering",
        "> 5 people": "numbering",
        "# 5 is out": "numbering",
        "5. May is a holiday.": "numbering",
        "1. 1. 1. 1. 1. TEXT": "numbering",
        "B. TEXT": "numbering",
        "(c) TEXT": "numbering",
    },
    "remarks": {
        "TEXT (I changed a word.)": "talk",
        "Someone plays (passive voice).": "talk",
        "TEXT [Similarity: 0.95]": "talk",
        "TEXT[1]": "markup",
        "TEXT #music #flute": "talk",
        "TEXT — Sent from my phone": "talk",
        "Okay, someone is playing.": "talk",
        "As requested, someone is playing.": "talk",
        "Contradiction TEXT": "talk",
        "Paraphrase - TEXT": "talk",
        "/no_think TEXT": "markup",
        "Someone plays, or: a flute is heard.": "several answers",
        "Sure!": "no answer",
        "True": "no answer",
        "0": "no answer",
    },
    "languages": {
        "Passive voice: TEXT": "label",
        "Hier ist der Satz: Jemand spielt.": "label",
        "Voici une reformulation : Quelqu'un joue.": "label",
        "新句子：有人在吹笛子。": "label",
        "A cafÃ© is open.": "broken character",
        "Es tut mir leid, aber ich kann das nicht.": "refusal",
        "Je suis désolé, mais je ne peux pas.": "refusal",
        "Lo siento, pero no puedo ayudarte.": "refusal",
        "I'd rather not rewrite this sentence.": "refusal",
    },
    "several": {
        "1) TEXT 2) A flute is heard.": "several answers",
        "TEXT / A flute is heard.": "several answers",
        "TEXT vs. A flute is heard.": "several answers",
        "TEXT -> A flute is heard.": "several answers",
        "TEXT Or: A flute is heard.": "several answers",
        "TEXT\nA flute is heard.": "several lines",
        '["TEXT", "A flute is heard."]': "several lines",
        "A flute is heard.<think>Another?</think>TEXT": "several lines",
        "A man plays a flute. TEXT": "echo",
    },
    "structure": {
        '{"new": "TEXT"}': "",
        '{"thought": "Hm.", "answer": "TEXT"}': "",
        '{"topic": "TEXT"}': "markup",
        '{"answer": null}': "markup",
        "[1, 2]": "several lines",
        "| TEXT |": "markup",
        "TEXT &amp; more": "talk",
        "TEXT\\nNote: so": "markup",
        'TEXT\\"': "",
        "[TEXT](x)": "markup",
    },
    "invisible": {
        "\ufeffTEXT": "",
        "TEXT\u200b": "",
        "Some\u200bone plays.": "broken character",
        "\u202eTEXT": "broken character",
        "Someone\x1cplays.": "broken character",
    },
    "no answer": {
        "None": "no answer",
        "null": "no answer",
        "N/A": "no answer",
        "[Your sentence here]": "no answer",
        "no no no no no": "repetition",
        "aaaaaaaaaa": "repetition",
        "He plays it, he plays it, he plays it.": "repetition",
        "I can’t fulfil this request.": "refusal",
        "I must decline.": "refusal",
        "I don't see a sentence.": "refusal",
        "I am unable to rewrite this.\nIt may be harmful.": "refusal",
        "... plays the flute.": "cut off",
        "Someone plays the flute,": "cut off",
        "Someone plays the flute (": "cut off",
    },
    "speech around a sentence": {
        'You could say "TEXT"': "",
        "One could put it this way: TEXT": "",
        "It can be rephrased as: TEXT": "",
        "Maybe: TEXT": "",
        'Something like "TEXT"': "",
        'One way to say it is "TEXT"': "",
        "One way to say this is that someone is playing the flute.": "talk",
        "You could say that someone is playing the flute.": "talk",
        "I would write it as Someone is playing the flute.": "talk",
        '"Someone is playing the flute" is one way to say it.': "talk",
        'Someone could say: "TEXT"': "",
        "Simply put, someone is playing the flute.": "talk",
        'I think "TEXT"': "talk",
        'The result is "TEXT"': "talk",
        "The answer would be Someone is playing the flute.": "talk",
        "Um, someone is playing the flute.": "talk",
        "Replacing man with someone, someone is playing the flute.": "talk",
        "I.e., someone is playing the flute.": "talk",
        "It means that someone is playing the flute.": "talk",
        "Please note that someone is playing the flute.": "talk",
        "Answer - TEXT": "talk",
        "OK Someone is playing the flute.": "talk",
        "In other words, someone is playing the flute.": "talk",
        "To put it another way, someone is playing the flute.": "talk",
        'How about "TEXT"?': "talk",
        "Rewritten, it reads: someone is playing the flute.": "talk",
        "Hmm, let me think: someone is playing the flute.": "talk",
        "Thus the sentence becomes Someone is playing the flute.": "talk",
        "(Paraphrased) TEXT": "talk",
        "Sorry about that, someone is playing the flute.": "talk",
        "Changed slightly, someone is playing the flute.": "talk",
        '"Someone is playing the flute," the AI replied.': "talk",
        "TEXT - ChatGPT": "talk",
    },
    "remarks inside a sentence": {
        "Someone is playing the flute, where 'man' is replaced by 'someone'.": "talk",
        "Someone is playing the flute; 'plays' became 'is playing'.": "talk",
        "Someone is playing the flute, replacing 'man' with 'someone'.": "talk",
        "Someone is playing the flute, which means the same thing.": "talk",
        '"Someone is playing the flute" conveys the same idea.': "talk",
        "Someone is playing the flute (more formal)": "talk",
        "Someone is playing the flute - more formal.": "talk",
        "Someone is playing the flute, in other words.": "talk",
        "Someone is playing the flute - this keeps the tone.": "talk",
        "Someone is playing the flute [formal].": "talk",
        "The word 'man' is general.": "talk",
        "TEXT - formal": "talk",
        "Someone is playing the flute, as requested.": "talk",
        "Someone is playing the flute - hope this helps.": "talk",
        "A man plays - in other words, someone is playing the flute.": "talk",
        "Someone plays, literally.": "talk",
        "Someone plays closing quotation mark": "talk",
        "Someone plays, Wikipedia says.": "talk",
        "Someone plays a flute. ibid.": "talk",
        "Unlike the original, nobody plays.": "talk",
        "I wrote about trains instead.": "talk",
    },
    "two variants": {
        "TEXT OR a flute is heard.": "several answers",
        "The boy/man is playing the flute.": "several answers",
        "The boy / man is playing the flute.": "several answers",
        "The boy (or man) is playing the flute.": "several answers",
        "The boy, or man, is playing the flute.": "several answers",
        "The [boy/man] is playing the flute.": "several answers",
        "The/A boy is playing the flute.": "several answers",
        "Someone plays a/the flute.": "several answers",
        "Someone was/is playing it.": "several answers",
        "Someone plays, or put differently, a flute is heard.": "several answers",
        "Someone plays it.A flute is heard.": "several sentences",
        "Someone is playing the flute The boy makes some music.": "several sentences",
        "The flute is played A young boy plays it.": "several sentences",
        "Someone is playing the flute, or alternatively a flute is heard.": "several answers",
        "Someone is playing the flute; someone is playing the flute today.": "several answers",
        "Someone is playing the flute someone is playing the flute": "repetition",
        "1) Someone is playing the flute 2) A flute is heard.": "several answers",
        '"Someone is playing the flute" or "A flute is heard"': "several answers",
        "boy, man, person, player, flute": "several answers",
        "Someone plays, i.e. makes music.": "several answers",
        "Someone plays - or blows - it.": "several answers",
        "Someone plays.Someone else sings.": "several sentences",
        "Someone plays.2. Someone else sings.": "several answers",
        "Someone plays.; Someone sings.": "several answers",
        '"A man plays" becomes "Someone is playing".': "talk",
        "The man, or rather the boy, plays.": "several answers",
        "The man (boy) plays (blows) it.": "several answers",
    },
    "statements about the sentence": {
        "The sentence means that someone plays.": "talk",
        "This statement describes someone who plays.": "talk",
        "The original is fine as it is.": "talk",
        "It is already concise.": "talk",
        "No need to change anything.": "talk",
        "A sentence about someone who plays.": "talk",
        "A similar sentence with different words.": "talk",
        "Here's one about trains: the express was late.": "talk",
        "Same idea as before.": "no answer",
    },
    "openers": {
        "That is a great question!": "no answer",
        "What an interesting sentence!": "talk",
        "I don't know.": "no answer",
        "Well, I'm not sure what to say.": "no answer",
        "Let me think about it.": "no answer",
        "Let's see.": "no answer",
        "Thank you for the question!": "no answer",
        "Hi there!": "no answer",
        "One moment, please.": "no answer",
        "Is there anything else you need?": "no answer",
        "https://example.org/flute": "no answer",
        "They are the same.": "no answer",
        "Completely different.": "no answer",
        "The next sentence.": "talk",
        "Error 404": "no answer",
        "Ditto.": "no answer",
        "I have nothing to add.": "no answer",
    },
    "left-over form": {
        "=> TEXT": "",
        ": TEXT": "",
        "1\tTEXT": "",
        "TEXT\t0.5": "markup",
        "0.87\tTEXT": "markup",
        "0\tTEXT": "numbering",
        "TEXT 0.5": "numbering",
        "#1 TEXT": "numbering",
        "12 - TEXT": "numbering",
        "00:01 TEXT": "numbering",
        "[00:01] TEXT": "numbering",
        "TEXT¹": "markup",
        "TEXT ###": "markup",
        "~ TEXT": "markup",
        "Someone plays = A flute is played.": "markup",
        "The man→boy plays.": "markup",
        "Someone plays^1": "markup",
        "// TEXT": "markup",
        "— TEXT": "",
        "—TEXT": "markup",
        ".TEXT": "markup",
        "TEXT ~": "markup",
        "TEXT %0A": "markup",
        "TEXT 😊": "markup",
        "✅ TEXT": "markup",
        "① TEXT": "numbering",
        "1)TEXT": "numbering",
        "№1 TEXT": "numbering",
        "Fig. 1: TEXT": "numbering",
        "answer2 = TEXT": "talk",
        "#music #flute": "markup",
        "XYZ is playing the flute.": "markup",
        "N.N. plays the flute.": "markup",
        "NAME plays the flute.": "markup",
        "(insert name) plays the flute.": "markup",
        "Someone plays\\\\blows it.": "markup",
        "A flute <of wood> is heard.": "markup",
        "A flute [of wood] is heard.": "markup",
        "S o m e o n e   p l a y s .": "markup",
        "Someone+is+playing.": "markup",
        "Someone_is_playing_it.": "markup",
        "Someoneisplayingtheflute.": "markup",
        "Someone'splaying,quiteloud.": "markup",
        "The' flute is played.": "markup",
        "Someone &amp plays.": "markup",
        "Caf\\xe9 flutes are played.": "markup",
        "print('TEXT')": "talk",
        "Someone plays the...": "cut off",
    },
    "tokens": {
        "TEXT [/INST]": "",
        "[INST] Go on. [/INST] TEXT": "",
        "TEXT<|im_end|>\n<|im_start|>user": "",
        "He wrote [ANSWER] there.": "control token",
        "Ask the <user> for it.": "control token",
        "Someone <think> plays.": "control token",
        "The <s> tag is old.": "control token",
        "See <b> for it.": "control token",
    },
}
"""What replies look like: the outcome is TEXT itself where nothing is written, or the reason of the rejection."""

OWN_WORDS = [
    "I can't help it.",
    "It seems that you are tired.",
    "He wrote [sic] there.",
    "C:\\text is a folder.",
    "C:\\new is a folder.",
    "The sentence was clear: he must leave.",
    "Here is the thing: the bus is late.",
    "Of course she left.",
    "No one can say.",
    "It costs 5 dollars and/or 3 euros.",
    'He said "no" and left.',
    "We had a note of it.",
    "-5 degrees is cold.",
    "A family 👨‍👩‍👧 plays.",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_stands_around_a_text_is_taken_off_or_rejects_it_by_its_reason(shape: str) -> None:
    found = {}
    for reply in SHAPES[shape]:
        parsed = parse_reply(reply.replace("TEXT", TEXT), SOURCE, labels=LABELS)
        assert (parsed.text is None) != (parsed.reason is None)
        found[reply] = parsed.reason if parsed.text is None else "" if parsed.text == TEXT else parsed.text
    assert found == SHAPES[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_pairs_and_lists_store_no_other_text_than_triplets(shape: str) -> None:
    for reply, reason in SHAPES[shape].items():
        whole = reply.replace("TEXT", TEXT)
        pair, entries = parse_reply(whole, SOURCE, labels=LABELS, closing_marks='"'), parse_list(whole)
        assert pair.text == (None if reason else TEXT), reply
        if reason != "echo":  # a list has no source to repeat
            assert set(entries.texts) <= ({TEXT, "A flute is heard."} if reason == "several lines" else {TEXT}), reply
        assert entries.texts or +entries.left_out, reply


@pytest.mark.parametrize("text", OWN_WORDS)
def test_no_sentence_loses_words_of_its_own(text: str) -> None:
    for marks in ((), '"'):
        assert parse_reply(text, SOURCE, labels=LABELS, closing_marks=marks) == Parsed(text)
    assert parse_list(f"1. {text}\n2. {text}", min_words=1).texts == (text, text)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_sentence_has_as_well_is_no_fault(shape: str) -> None:
    for reply, reason in SHAPES[shape].items():
        if reason in ("label", "talk", "numbering", "markup", "control token", "cut off") and "\n" not in reply:
            text = reply.replace("TEXT", TEXT)
            assert fault_of(text, text) == "echo", reply


# --- where the line is


FLUTE = "A man is playing a flute."
FEE = "I was charged a late fee although the branch was closed that day."
KEPT: dict[str, dict[str, str]] = {
    "numbers and initials": {
        "7. Oktober ist ein Feiertag.": "Am siebten Oktober ist Feiertag.",
        "1. Mai ist ein Feiertag.": "Am ersten Mai ist frei.",
        "1. FC Köln hat verloren.": "Der Kölner Klub verlor.",
        "11. September war ein Dienstag.": "Am 11. September war Dienstag.",
        "A. Smith lost the match.": "Adam Smith lost the game.",
        "J. Smith won.": "Jane Smith came in first.",
        "C. S. Lewis wrote it.": "It was written by Clive S. Lewis.",
        "3.5 million people live there.": "Some 3,500,000 people live there.",
        "10:30 is the time of departure.": "It leaves at half past ten.",
        "No. 5 won the race.": "The car with number five won.",
        "She finished chapter two.": "Chapter two is what she finished.",
    },
    "one sentence": {
        "Mr. J. R. Smith of St. Paul met Dr. Lee vs. Inc. lawyers.": FLUTE,
        "The U.S. Senate met at 3 p.m. on Friday.": "The Senate met on Friday afternoon.",
        "Fla. Democrats want extended early voting hours.": "Florida counties extend early voting.",
        '"Stop!" Anna said.': "Anna told him to stop.",
        '"Is it late?" John asked.': "John asked about the time.",
        "Well... I do not think so.": "I doubt it.",
        "He paid approx. five euros.": "It cost about five euros.",
        "There is 1. Juli and 3. Oktober.": FLUTE,
        "「行く。」と彼は言った。": "彼は行くと言った。",
        "He left! She stayed.": "He went. She did not.",
    },
    "complaints": {
        "I cannot believe how good the soup was.": "The soup was surprisingly good.",
        "I can't believe the branch charged me a late fee.": FEE,
        "I am unable to understand why I was charged a late fee.": FEE,
        "I am sorry, but I must decline the late fee.": FEE,
        "I'm not able to log in to my account.": "My login does not work.",
        "I am not allowed to bring my dog.": "Dogs are not admitted.",
        "I am not going to pay for it.": "I refuse to pay.",
        "I will not pay the late fee, since the branch was closed.": FEE,
        "I can't help laughing.": "I have to laugh.",
        "Unfortunately, I can't make it to the party.": "I cannot come to the party.",
        "Unfortunately, I have to decline your invitation.": "I cannot accept.",
        "I can't provide a receipt because the shop was closed.": "I have no receipt.",
        "It seems you did not pay the fee.": "The fee seems unpaid.",
        "You did not give me a receipt.": "I got no receipt.",
        "Great, I was charged again.": "They charged me once more.",
        "I must say that the service was poor.": "The service was bad.",
        "I'd rather not pay twice.": "I do not want to pay two times.",
    },
    "headlines": {
        "Blast kills 12 in Delhi": "Twelve dead after explosion in Delhi",
        "Egypt: Army takes over": "The Egyptian army takes power",
        "He said: go home.": "He told them to leave.",
        "One thing is clear: the fee was unfair.": FEE,
        "He bought three things: bread, milk and eggs.": "He purchased bread, milk and eggs.",
        "Note to self: never pay the late fee.": FEE,
        "Judge hands down two sentences in murder trial": "Two killers sent to prison",
        "Both sentences were suspended by the court.": "The court suspended the two terms.",
        "He got a sentence of four years.": "He was jailed for four years.",
        "Parliament votes to rewrite the constitution": "Constitution to be changed, parliament decides",
        "I can't make sense of this sentence.": "This sentence makes no sense to me.",
    },
    "talk about talk": {
        "You could say that he was tired.": "One might call him tired.",
        "One option is that we leave.": "Leaving is among our options.",
        "I would say that it is late.": "It is rather late by now.",
        "Perhaps John will come.": "It may be that John comes.",
        "I don't know.": "I have no idea.",
        "Let me see.": "Let me have a look.",
        "That is a good question.": "You raise an interesting question.",
        "The statement describes the attack.": "A statement of the army told of the attack.",
        "It is already clear.": "That has been clear for long.",
        "It means the same.": "There is no difference, the two are the same.",
        "The larger (or smaller) one is mine.": "Mine is the larger one (perhaps the smaller one).",
        "The hot/cold tap drips.": "The hot or cold tap is dripping.",
        "He calls it 'fun' and not 'work'.": "For him it is 'fun', not 'work'.",
        "At 10:30 AM she left.": "She left in the morning.",
        "So cold today 😊": "It is so cold today 😂",
        "~5 degrees were measured": "About five degrees were measured",
        "-5 °C was measured.": "It was five below zero.",
        "In short, we lost.": "To sum up, we did not win.",
        "That is, if he comes.": "That is to say, if he comes at all.",
        "¿Dónde está?": "¿En qué lugar está?",
        "$5 is too much.": "Five dollars is too much.",
        "@anna is in.": "Anna came.",
        "The room has 20 m²": "The room is of twenty square metres.",
        "Nina Simone and/or her band played.": "Nina Simone played, or her band did.",
        "The meeting is on Sept. 24": "They meet in September.",
    },
    "signs": {
        "The single / double room was dirty.": "The single or double room was dirty.",
        "The film got 3* from me.": "I gave the film three stars.",
        "The f**k he did.": "The f**k he had done it.",
        "It was very, very, very, very cold.": "It was extremely cold.",
        "Ha ha ha ha, said the man.": "The man laughed.",
        "Nooooo, the branch was closed!": "The branch was closed, sadly.",
        "[In 1990] the wall was gone.": "By 1990 the wall had gone.",
        "Is this grade A or B?": "What grade is it?",
        "If bulb A burns out, it is dark.": "Without the lamp, it is dark.",
        "They stayed at The Hague for long.": "They were in the Dutch city for months.",
        "He said that He is merciful and kind.": "God has mercy, he said.",
        "It is open 24/7, w/o a break, at 5 km/h or so.": "It never closes and is slow.",
        "The switch is on/off, and his/her in/out tray full.": "It is switched, and the tray is full.",
    },
}
"""What is a sentence, though it looks like what models say: the reply, and the sentence that it was asked for with."""

NOT_KEPT: dict[str, dict[str, str]] = {
    "several sentences": {
        "A man has a flute. He is playing it.": FLUTE,
        "First I need to find the verb. So: a flute is being played.": FLUTE,
        "The verb is plays, and the noun is flute. A flute is played.": FLUTE,
        "I reversed it! A man sells a flute.": FLUTE,
        "Klar! Eine Flöte wird gespielt.": "Ein Mann spielt Flöte.",
        "Un hombre toca una flauta. Nota: he cambiado el verbo.": "Un hombre está tocando la flauta.",
        "a man has a flute. he is playing it.": FLUTE,
        "He called it great. She did not! They left.": "He liked it. She did not.",
        "一个男人有长笛。他在吹。": "一个男人在吹笛子。",
        'Is a man playing a "flute"? Yes.': FLUTE,
    },
    "talk": {
        "These two sentences cannot both be true.": FLUTE,
        "Both sentences convey the same thing.": FLUTE,
        "We need to produce one sentence that means the same.": FLUTE,
        "What sentence would you like me to rewrite?": FLUTE,
        "Understood, I'll give you one sentence each time.": FLUTE,
        "Understood, I'll do it.": FLUTE,
        "A flute is being played by a man – same meaning, other words.": FLUTE,
        "To put it differently: a flute is being played by a man.": FLUTE,
        "I should keep the meaning and change the words.": FLUTE,
        "The word flute has several synonyms.": FLUTE,
        "I'm sorry to hear that.": FEE,
        "Thank you for reaching out.": FEE,
        "Hi, someone is playing the flute.": FLUTE,
        "Dear user, someone is playing the flute.": FLUTE,
        'We need to turn it around: "A man plays." Then: "A flute is played."': FLUTE,
    },
    "refusal": {
        "This sentence contains violent content that I cannot reproduce.": "A man hits a woman.",
        "It has violent themes, which I can't reproduce here.": "A man hits a woman.",
        "I prefer not to write about that.": "A man hits a woman.",
        "That's not something I can help with.": "A man hits a woman.",
        "Writing it would go against my guidelines.": "A man hits a woman.",
        "Let's talk about something else.": "A man hits a woman.",
        "I'm not comfortable writing that.": "A man hits a woman.",
        "I don't think I should write this.": "A man hits a woman.",
        "I am not able to rewrite such a sentence.": "A man hits a woman.",
        "I'm unable to assist with that.": "A man hits a woman.",
        "I must decline to rewrite it.": "A man hits a woman.",
        "I am sorry, but I cannot comply.": "A man hits a woman.",
    },
    "no answer": {
        "Ready when you are.": FLUTE,
        "I'm ready.": FLUTE,
        "Hello! How can I assist you today?": FLUTE,
        "Go ahead.": FLUTE,
        "Yes.": FLUTE,
        "Internal Server Error": FLUTE,
        "The model is currently overloaded. Please try again later.": FLUTE,
        "You have reached your daily limit.": FLUTE,
    },
    "label": {
        "So: a flute is being played.": FLUTE,
        "Neu: eine Flöte wird gespielt.": "Ein Mann spielt Flöte.",
        "Passive: a flute is being played.": FLUTE,
        "Simpler words: a flute is being played.": FLUTE,
        "Diary entry 1": FLUTE,
        "Review 2:": FLUTE,
        "Day One": FLUTE,
        "Example no. 3": FLUTE,
        "Error: something went wrong.": FLUTE,
    },
    "numbering": {
        "B. A flute is being played.": FLUTE,
        "A. Flutes are being played.": FLUTE,
        "2. The flute is played.": FLUTE,
        "1. August was hot.": "It was hot.",
    },
    "cut off": {
        "A flute is being played by": FLUTE,
        "A flute is being played by the": FLUTE,
        "A man is playing a flute and": FLUTE,
    },
    "several answers": {"Someone plays a flute / a flute is played by someone": FLUTE},
    "markup": {"I did not enjoy [sport] today.": FLUTE, "[Your name] is playing.": FLUTE, "[Name] plays.": FLUTE},
    "unmatched quotation mark": {
        "Une flûte est jouée. »": "Un homme joue de la flûte.",
        "男の人がフルートを吹いている。」": "男がフルートを吹く。",
    },
}
"""What looks like a sentence and may be none, by the reason of its rejection, with the sentence it was asked for."""


@pytest.mark.parametrize("kind", KEPT)
def test_a_sentence_that_looks_like_talk_is_kept_as_it_is(kind: str) -> None:
    for text, source in KEPT[kind].items():
        for marks in ((), '"'):
            found = parse_reply(text, source, prompt="Say the sentence in other words.", closing_marks=marks)
            assert found == Parsed(text)


@pytest.mark.parametrize("reason", NOT_KEPT)
def test_talk_that_looks_like_a_sentence_is_rejected_by_its_reason(reason: str) -> None:
    found = {text: parse_reply(text, source).reason for text, source in NOT_KEPT[reason].items()}
    assert found == dict.fromkeys(found, reason)
    for text, source in NOT_KEPT[reason].items():
        assert parse_reply(text, source, closing_marks='"').text is None


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("<p>TEXT</p>", TEXT),
        ("<div>\n<p>TEXT</p>\n</div>", TEXT),
        ("<ul>\n<li><b>TEXT</b></li>\n</ul>", TEXT),
        ("<br><p>TEXT</p>", None),
        ("<p>TEXT</p><p>TEXT</p>", None),
        ("It rains. <b>He</b> plays.", None),
        ("Answer\nTEXT", TEXT),
        ("### Rewritten sentence\n\nTEXT", TEXT),
        ("**New**\nTEXT", TEXT),
        ("‚TEXT‘", TEXT),
        ('{"1": "TEXT"}', TEXT),
    ],
)
def test_headings_and_tags_around_a_whole_text_are_taken_off(reply: str, text: str | None) -> None:
    assert parse_reply(reply.replace("TEXT", TEXT), SOURCE).text == text
    assert parse_reply("<b>strong</b>", "What do <b> and </b> do?").text == "<b>strong</b>"


def test_several_sentences_are_no_fault_where_a_longer_text_is_asked_for() -> None:
    text = "A man has a flute. He is playing it."
    assert parse_reply(text, FLUTE, prompt="Write a paragraph that answers the question.").text == text
    assert parse_reply(text, FLUTE, prompt="Write what may come next.").text == text
    assert parse_reply(text, "A sentence.", prompt="Go on: A sentence.").text == text
    for prompt in ("Write one sentence.", "Schreibe einen Satz.", "写一个句子。"):
        assert parse_reply(text, FLUTE, prompt=prompt).reason == "several sentences"


STORM = "The hotel refused to refund the deposit after the storm."
KEEPS = "The hotel kept the deposit."
ASIDE: dict[str, tuple[str, ...]] = {
    "talk": (
        *("I've made the requested changes.", "Let me know if this works for you.", "This version is more concise."),
        *("I changed the subject from the hotel to the deposit.", "Task completed successfully.", "I disagree."),
        *("I need more context to answer.", "Yes, that's correct.", "That is incorrect.", "This is false."),
        *("The statement is false.", "Both statements contradict each other.", "That's what the sentence says."),
        *("You should contact the hotel manager or your bank.", "That must have been frustrating for you."),
        *(
            f"{frame} the hotel kept the deposit."
            for frame in ("It says", "I would say", "The user says", "My answer is")
        ),
        *("According to the sentence, the hotel kept the deposit.", "It states that the hotel kept the deposit."),
        *("The passive form is the deposit was kept.", "The meaning stays the same.", "I apologize for the confusion."),
        *("Could you clarify what you mean by deposit?", "There's nothing to change here."),
        *("Edits applied.", "Rewritten successfully.", "Policy violation detected.", "Not enough information."),
        *(
            "Server overloaded, retry later.",
            "The request was turned down by a policy.",
            "Not necessarily.",
            "How awful!",
        ),
        *("They contradict each other.", "Poor customer service.", "Nothing changed.", "There is not enough context."),
        *("Which hotel do you mean?", "Do you mean the hotel kept the deposit?", "What do you mean by deposit?"),
        *("I think the hotel kept it.", "In my opinion, the hotel kept it.", "We can say the hotel kept it."),
        *(
            "In the sentence, the hotel kept it.",
            "It can be inferred that the hotel kept it.",
            "Assistant The hotel kept it.",
        ),
        *(
            "As stated, the hotel kept it.",
            "The opposite is the hotel paid.",
            "The answer should be the hotel kept it.",
        ),
        *(f"{opener}, the hotel kept the deposit." for opener in ("So", "Well", "Look", "I mean", "Yes", "So then")),
        *(f"{KEEPS[:-1]}, {tag}" for tag in ("right?", "isn't that so?", "didn't it?", "no?", "yes.", "lol")),
        *("Weather - The hotel kept the deposit.", "New; The hotel kept the deposit.", f"assistant {KEEPS}"),
    ),
    "refusal": (
        *("I won't be able to complete this.", "I must decline this request.", "The assistant declined to answer."),
        *("Unfortunately this falls outside what I can do.", "My guidelines keep me from going on.", "Sorry, no."),
        *("I prefer to stay neutral on this.", "This request has been flagged.", "Could we change the subject?"),
        "I appreciate your request but this is not something I do.",
    ),
    "no answer": (
        *(
            "Content blocked by safety filter.",
            "The model is currently overloaded.",
            "Entailment.",
            "Hotel.",
            "Deposit",
        ),
        "The response was filtered due to the prompt triggering Azure's content management policy.",
        "upstream connect error or disconnect/reset before headers.",
        "The request was rejected by the content filter.",
    ),
    "cut off": tuple(
        f"The hotel kept the deposit {word}"
        for word in ("after", "after a", "which", "that", "of", "or", "every", "no")
    ),
    "another language": (
        *("Das Hotel behielt die Anzahlung nach dem Sturm.", "L'hôtel a gardé la caution après la tempête."),
        *("El hotel se quedó con el depósito.", "L'hotel ha trattenuto la caparra dopo la tempesta."),
        *("O hotel ficou com o depósito depois da tempestade.", "Het hotel hield de borg na de storm."),
        *("Hotellet behöll depositionen efter stormen.", "Hotel zatrzymał kaucję po burzy.", "El museo abre tarde."),
        *("Khách sạn giữ lại tiền đặt cọc sau cơn bão.", "Hotel menahan uang muka setelah badai."),
        *("Anzahlung größtenteils einbehalten.", "Rezeption schließt früh."),
        *("Iningatan ng hotel ang deposito.", "Toofan ke baad hotel ne paisa rakh liya hai."),
    ),
    "several answers": (
        *("The hotel kept or retained the deposit.", "The hotel retained and/or kept it."),
        *(
            "The hotel kept/retained the deposit.",
            "The hotel kept (retained) the deposit.",
            "The hotel(s) kept it all.",
        ),
    ),
    "markup": (
        *("The hotel [kept] the deposit.", "The hotel ==kept== the deposit.", "The hotel kept the deposit⁇"),
        *("The hotel didn''t return it.", "The hotel didn?t return it.", "The hotel kept the deposit ✅"),
        *("The hotel kept the deposit,.", "The hotel kept the deposit?.", "The hotel kept the deposit [below."),
        *("The hotel kept the deposit below).", "The hotel ~kept~ the deposit.", "The hotel kept the deposit 👍"),
        *("The hotel kept the deposit..", "The hotel kept the deposit (below.", "The hotel kept the deposit , ."),
        *("The hotel «kept» the deposit.", "The hotel „kept“ the deposit.", "The hotel 「kept」 the deposit."),
    ),
    "repetition": (
        *("The hotel kept our our deposit.", "The hotel kept kept the deposit.", "Kept kept it was by the hotel."),
        *(
            "The hotel kept the deposit and the hotel kept the deposit.",
            "The guests, it kept the deposit, it kept the deposit.",
        ),
    ),
    "numbering": (f"1- {KEEPS}", f"1 {KEEPS}", f"1/ {KEEPS}", f"1, {KEEPS}"),
    "unmatched quotation mark": (f"\"{KEEPS}'",),
}
"""What was answered to `STORM` in place of another sentence, or with something in it, by the reason."""


@pytest.mark.parametrize("reason", ASIDE)
def test_what_is_about_the_job_or_addresses_someone_is_no_rewrite(reason: str) -> None:
    found = {text: parse_reply(text, STORM, is_rewrite=True).reason for text in ASIDE[reason]}
    assert found == dict.fromkeys(ASIDE[reason], reason)
    stored = {text: parse_reply(text, STORM, closing_marks='"', is_rewrite=True).text for text in ASIDE[reason]}
    assert stored == dict.fromkeys(ASIDE[reason])


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("I got nothing back.", "My deposit was not refunded."),
        ("We got no money back from the hotel.", STORM),
        ("They kept all of the money.", STORM),
        ("That makes no sense.", "It is utter nonsense."),
        ("I think that it is late.", "In our view it is late."),
        ("Can you hear it?", "Is it to be heard from where one is?"),
        ("Nice work on the roof :)", "The roof is well done."),
        ("In this report, three errors were found.", "The report has three errors."),
        ("Money was not given back.", STORM),
        ("Il me voit.", "Elle le voit."),
        ("You never let me finish.", "He is not allowed to end what i began."),
        ("The hotel that they looked at", "the hotel they saw"),
        ("They had had enough.", "They were fed up by then."),
        ("He has been looking at me for a while", "He has watched me for some time."),
        ("What a strange place it is", "How strange a place."),
        ("They lived happily ever after", "They were happy until the end."),
        ("It was the one that she looked at", "She looked at that one."),
        ("Restore (something) to its place", "Put back something."),
        ("2 Palestinians killed", "Two people die in Gaza"),
        ("He/she kept it and/or sold it.", "It was kept by him."),
        ("The band Duran Duran is the one that that man had had in mind.", "He thought of Duran Duran."),
        ("She kept or sold the book.", "It was kept, or else sold, by her."),
        ("The hotel has not kept or used the deposit.", STORM),
        ("It will keep or cancel the rooms.", STORM),
        ("Yes, it is legal.", "That is not illegal."),
        ("So, they came too late.", "Therefore they missed it."),
        ("Is it late, isn't it?", "It is late, is it not?"),
        ("The book «Le Monde» is out.", "«Le Monde» appeared as a book."),
        ("Los Angeles beats El Paso.", "El Paso is beaten by Los Angeles."),
        ("Die Hard sequel delights critics.", "The critics are delighted by the sequel of Die Hard."),
        ("Smith et al report good results.", "Good results were reported by Smith and others."),
        ("Dan contacted Linda's sister.", "The sister of Linda was contacted by Dan."),
        ("Faint heart ne'er won fair lady.", "Whoever is timid never wins a lady."),
        ("A woman returning a hit", "A woman is hitting a ball."),
        ("a train in the middle of a city", "There is a train in the cityscape."),
        ("A walk along a path", "He walked along the pathway of the park."),
        ("Several people start", "The people have started."),
        ("A black dog and a black cat and a black dog sleep.", "Dogs and a cat are asleep."),
    ],
)
def test_what_only_reminds_of_an_aside_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source, is_rewrite=True) == Parsed(text)


@pytest.mark.parametrize("end", ["the depos", "the deposit after the sto", "the de-"])
def test_a_word_of_the_sentence_that_is_broken_off_is_cut_off(end: str) -> None:
    assert parse_reply(f"The hotel kept {end}", STORM).reason == "cut off"


@pytest.mark.parametrize("source", [STORM[:-1], STORM.lower()])
def test_what_is_no_sentence_with_a_mark_need_not_be_answered_by_one(source: str) -> None:
    for text in ("The hotel kept the depos", "The hotel kept the deposit that"):
        assert parse_reply(text, source) == Parsed(text)
    assert parse_reply("The hotel kept the (depos)", STORM).text is None
    assert parse_reply("The hotel kept depos 5", STORM) == Parsed("The hotel kept depos 5")


@pytest.mark.parametrize(
    ("text", "source", "is_another"),
    [
        ("The museum opens.", "Das Museum in der Eichenstraße öffnet sonntags um neun.", True),
        ("It is open.", "Le musée de la rue du Chêne ouvre à neuf heures.", True),
        ("On Sundays it opens.", "El museo de la calle Roble abre a las nueve los domingos.", True),
        ("The museum opens.", "Het museum in de Eikstraat gaat om negen uur open.", True),
        ("People visit museums.", "Il museo di via Quercia apre alle nove e chiude dopo.", True),
        ("The Beatles kommen.", "Die Band kommt nicht nach Hamburg und spielt.", False),
        ("The Voice gewinnt.", "Der Sieger ist von der Show.", False),
        ("Her gün gelir.", "Bir adam için çok ay sonra gelir.", False),
        ("He comido bien.", "La comida fue muy buena para el niño.", False),
        ("The museum opens.", "Museum Oak", False),
        ("Nimm das.", STORM, True),
        ("Und das.", STORM, True),
        ("In und out der.", STORM, False),
        ("Ein Mann spielt Flöte und singt.", "A man is playing.", True),
        ("Ein Mann spielt Flöte und singt.", "Men are singing.", True),
        ("Un hombre toca con una flauta.", "No me toca de flauta a mi.", False),
        ("He met the girl after that.", "él le dijo algo después.", True),
        ("Ein Mann liebt das und der Rest.", "The girl is naïve.", True),
        ("", STORM, False),
        ("Das", STORM, False),
        ("Öl ist teuer und rar.", STORM, True),
    ],
)
def test_the_language_of_a_text_is_told(text: str, source: str, is_another: bool) -> None:
    assert is_in_another_language(text, source) == is_another
    assert is_in_another_language(text, source, "Schreibe den Satz auf Deutsch.") == is_another


IN_OTHER_LANGUAGES = {
    "German": ("Der Hund schläft unter dem Tisch und träumt von der Katze.", "Die Katze erscheint dem Hund im Traum."),
    "French": ("Le chien dort sous la table et rêve du chat dans le jardin.", "Un chat est dans les rêves du chien."),
    "Spanish": ("El perro duerme bajo la mesa y sueña con el gato del vecino.", "Un perro sueña con los gatos."),
    "Italian": ("Il cane dorme sotto il tavolo e sogna il gatto della vicina.", "Il gatto è nei sogni del cane."),
    "Portuguese": ("O cachorro dorme com um gato e sonha em paz pela noite.", "Os cachorros não dormem com o gato."),
    "Dutch": ("De hond slaapt onder het bed en droomt van een kat.", "Er is een kat in de droom van de hond."),
    "Swedish": ("Hunden är på stolen och drömmer att det är en katt.", "Det är inte en katt som är på stolen."),
    "Indonesian": ("Anjing itu tidur dengan kucing yang tidak pulang.", "Kucing yang pulang itu bukan untuk anjing."),
}


PARK = "A man is playing a flute in the park."
LEFT_OVER = {
    "markup": [
        "𝐀 𝐦𝐚𝐧 𝐩𝐥𝐚𝐲𝐬 𝐭𝐡𝐞 𝐟𝐥𝐮𝐭𝐞.",
        "Ａ ｍａｎ ｐｌａｙｓ ｔｈｅ ｆｌｕｔｅ．",
        "A man plays the flute in a park。",
        "A man plays the flute，in a park.",
        "A man does n't play the flute in a park.",
        "A man play ##s the flute in a park.",
        "A man plays the flute in a park.EOF",
        "A man p l a y s the flute.",
        "@user plays the flute in the park.",
        "Person 1 plays a flute.",
        "A man plays the flute in the park/",
        "A man plays the flute in the park—",
        "A man plays the flute in the park &",
    ],
    "talk": [
        "In the park a man plays the flute, though the original says otherwise.",
        "As per the instructions, a man plays the flute in a park.",
        "A man plays the flute in a park; this retains the meaning.",
        "A man plays the flute in a park, rewritten.",
        "A man plays the flute in a park and so on and so forth",
        "A man plays the flute in a park -- GPT-4",
        "If the sentence is true, then a man plays the flute.",
        "It is stated that a man plays the flute in a park.",
        "According to my sources, a man plays the flute in a park.",
        "Ok a man plays the flute in a park.",
        "Got it a man plays the flute in a park.",
        "Yep, a man plays the flute in a park.",
        "For instance, a man plays the flute in a park.",
    ],
    "cut off": ["A man plays the flute in a park, where he", "In the park a man performs on his"],
    "numbering": ["0.9 A man plays the flute in a park."],
    "several sentences": ["A man plays the flute in the parkA man plays the flute"],
    "unmatched quotation mark": ["A man plays the flute in the 'park."],
    "no answer": ["A-man-plays-the-flute-in-the-park."],
}


@pytest.mark.parametrize("reason", LEFT_OVER)
def test_what_is_left_over_of_other_forms_and_of_speech_is_rejected(reason: str) -> None:
    found = {text: parse_reply(text, PARK, is_rewrite=True).reason for text in LEFT_OVER[reason]}
    assert found == dict.fromkeys(LEFT_OVER[reason], reason)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("The u.n.'s watchdog is in Vienna.", "The watchdog of the United Nations is in Vienna."),
        ("Rock 'n roll never dies.", "Rock and roll lives for ever."),
        ("Okay corral is a place.", "There is a place called Okay corral."),
        ("Got milk from the shop.", "He bought milk at the shop."),
        ("He lost a friend of his", "He lost a friend."),
        ("For example, dogs bark.", "Some animals, such as dogs, bark."),
        ("他用ＰＣ工作。", "他用电脑工作。"),
        ("Person of the year is Ann.", "Ann was chosen as the person of the year."),
        ("No fim de semana iremos à praia.", "O preço da gasolina subiu muito este ano."),
        ("Va' via subito, disse il re.", "Vattene, disse il re."),
        ("« Que faire ? » se demande l'homme.", "L'homme se demande quoi faire."),
        ("Que faire ? se demande le roi.", "Le roi se demande quoi faire."),
        ("w parku gra muzyk", "muzyk gra na dworze"),
        ("Die Vor- sowie Nachteile sind bekannt.", "Man kennt Gutes und Schlechtes."),
        ("The lights were on", "Somebody had switched all lamps on."),
        ("A crowd looks on", "People watch the game."),
        ("She has no hat on", "Her head is bare."),
        ("He came in", "The man entered the room."),
        ("Leonardo da Vinci wrote upside down.", "Once a painter wrote so that it stood on its head."),
        ("Dan sank his par putt.", "A golfer hit the ball where it should go."),
        ("He paid $3.5 for it.", "It cost him 3.5 dollars."),
        ("It is noted that rates rose.", "The bank said that rates rose."),
        ("It does n't rain .", "It never rains ."),
    ],
)
def test_what_only_reminds_of_other_forms_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(text)


SHORT_REPLIES = {
    "German": ("Frau schneidet Zwiebeln.", "Katze schläft friedlich.", "Kinder spielen draußen.", "Hund jagt Ball."),
    "French": ("Femme coupe oignons.", "Elle mange une pomme.", "Une fille danse seule.", "Les chiens courent vite."),
    "Spanish": ("Mujer corta cebollas.", "Niña baila sola.", "Perros corren rápido.", "Llueve mucho hoy."),
    "Italian": ("Donna taglia cipolle.", "Ragazza balla sola.", "Cani corrono veloci.", "Oggi piove molto."),
    "Portuguese": ("Mulher corta cebolas.", "Menina dança sozinha.", "Cães correm rápido.", "Hoje chove muito."),
    "Dutch": ("Vrouw snijdt uien.", "Meisje danst alleen.", "Honden rennen snel.", "Het regent vandaag veel."),
    "Swedish": ("Kvinna skär lök.", "Hon äter ett äpple.", "Det regnar mycket idag."),
    "Danish": ("Kvinde skærer løg.", "To børn leger udenfor."),
    "Polish": ("Kobieta kroi cebule.", "Kot spi na kanapie.", "Mezczyzna gra na gitarze."),
    "Turkish": ("Kadin sogan kesiyor.", "Adam gitar caliyor.", "Kedi uyuyor."),
    "Finnish": ("Nainen leikkaa sipuleita.", "Kissa nukkuu."),
    "Hungarian": ("Két gyerek játszik kint.", "A nő hagymát vág."),
    "Indonesian": ("Wanita memotong bawang.", "Dua anak bermain di luar."),
    "Swahili": ("Mwanamke anakata vitunguu.", "Watoto wawili wanacheza nje."),
    "Tagalog": ("Natutulog ang pusa.", "Naglalaro ang mga bata sa labas."),
    "Vietnamese": ("Người phụ nữ cắt hành.",),
}


@pytest.mark.parametrize("language", SHORT_REPLIES)
def test_a_short_reply_of_another_language_is_told_without_any_small_word(language: str) -> None:
    source = "A woman is cutting onions in the kitchen."
    prompt = f"Write a sentence that means the same. {source}"
    found = {text: parse_reply(text, source, prompt=prompt).reason for text in SHORT_REPLIES[language]}
    assert found == dict.fromkeys(SHORT_REPLIES[language], "another language")


@pytest.mark.parametrize("language", SHORT_REPLIES)
def test_a_short_reply_in_the_language_of_its_sentence_is_kept_and_english_is_not(language: str) -> None:
    whole = " und ".join if language == "German" else ", ".join
    source = whole(text.rstrip(".") for text in SHORT_REPLIES[language])
    for text in SHORT_REPLIES[language]:
        assert not is_in_another_language(text, source)
    assert is_in_another_language("A woman is cutting onions, and two children play.", source)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Arnold Schwarzenegger visits Sacramento.", "Someone comes to the city."),
        ("Real Madrid beats Bayern Munich.", "A match was won."),
        ("Sarkozy meets Merkel.", "Two leaders of states talk."),
        ("Sushi and gyoza are served.", "There is something to eat."),
        ("Tortillas con queso are sold.", "There is something to eat."),
        ("Kim Jong Un visits Beijing.", "Someone comes to the city."),
        ("The chef made crème brûlée.", "There is something to eat."),
        ("It was déjà vu.", "That had been there before."),
        ("Putin meets Xi in Vladivostok.", "Two leaders of states talk."),
        ("Ibuprofen inhibits cyclooxygenase.", "The drug works against it."),
        ("Escherichia coli colonies grow.", "Colonies of Escherichia coli get larger."),
        ("He ordered crème brûlée.", "A guest asked for crème brûlée."),
        ("A jalapeño burns.", "The jalapeño is hot."),
        ("Volkswagen recalls Passat diesels.", "Cars of the kind Passat go back to Volkswagen."),
    ],
)
def test_names_and_loans_make_english_no_other_language(text: str, source: str) -> None:
    assert not is_in_another_language(text, source, "Write a sentence that means the same.")


@pytest.mark.parametrize(
    "form", ["{}. **{}:** {}", "{}. **{}**: {}", "{}) **{}** – {}", "- __{1}__: {2}", "**{1}:** {2}"]
)
def test_titles_in_bold_go_where_every_entry_of_a_list_has_one(form: str) -> None:
    titles = ("Morning walk", "At the market", "Old ship")
    sentences = ("The train to the coast leaves early.", "My neighbour paints old boats.", '"Go!", said the man.')
    lines = [form.format(i, *each) for i, each in enumerate(zip(titles, sentences, strict=True), 1)]
    assert parse_list("\n".join(["Sure! Here are the sentences:", "", *lines])).texts == sentences
    assert not {*sentences}.intersection(parse_list("\n".join([*lines, f"4. {TEXT}"])).texts)
    small = [line.replace("The train", "the train").replace("My", "my") for line in lines]
    assert sentences[0] not in parse_list("\n".join(small)).texts


def test_two_languages_of_which_none_is_english_are_told_apart() -> None:
    for language, (text, other) in IN_OTHER_LANGUAGES.items():
        assert parse_reply(other, text) == Parsed(other), language
        for another, (source, _) in IN_OTHER_LANGUAGES.items():
            if another != language:
                assert parse_reply(text, source).reason == "another language", (language, another)


def test_an_english_instruction_speaks_for_a_sentence_of_few_words() -> None:
    german, say = "Ein Mann spielt Flöte und singt.", "Write a sentence that means the same."
    assert all(is_in_another_language(german, english, say) for english in (SOURCE, "A man plays.", "The naïve élite."))
    assert not is_in_another_language("Un hombre toca con una flauta.", "No me toca de flauta a mi.", say)
    assert not is_in_another_language(german, "Flötenspieler singt", say)
    assert is_in_another_language(german, "Men singing.", say)
    assert not is_in_another_language(german, "Men singing.")


def test_a_language_that_the_prompt_names_or_speaks_may_be_answered_in() -> None:
    german = "Das Hotel behielt die Anzahlung nach dem Sturm."
    say = "Write a sentence that means the same."
    assert parse_reply(german, STORM, prompt=f"{say} {STORM}").reason == "another language"
    assert parse_reply(STORM, german, prompt=f"{say} {german}").reason == "another language"
    assert parse_reply(german, STORM, prompt=f"Say it in German: {STORM}").text == german
    assert parse_reply(STORM, german, prompt=f"Schreibe den Satz auf Englisch: {german}").text == STORM
    assert parse_reply(german, "Der Sturm und das Hotel.", prompt=say).text == german
    assert parse_reply("Das Hotel behielt das Geld.", "The hotel kept the money.").reason == "another language"
    named = "The German girl left the hotel."
    assert parse_reply(german, named, prompt=f"{say} {named}").reason == "another language"
    assert parse_list(german, prompt=say).left_out == {"another language": 1}
    assert parse_list(german, prompt=f"{say} In German.").texts == (german,)


def test_texts_that_need_not_have_the_topic_may_address_someone() -> None:
    assert parse_reply("You must be tired of me.", STORM) == Parsed("You must be tired of me.")
    assert parse_reply("You must be tired of me.", STORM, is_rewrite=True) == Parsed(None, "talk")


@pytest.mark.parametrize("marks", ['""', "''", "“”", "«»"])
def test_marks_around_all_but_the_full_stop_are_taken_off(marks: str) -> None:
    assert parse_reply(f"{marks[0]}{KEEPS[:-1]}{marks[1]}.", STORM) == Parsed(KEEPS)
    assert parse_reply(f"{marks[0]}{KEEPS}{marks[1]}.", STORM) == Parsed(KEEPS)


@pytest.mark.parametrize("marks", [("'''", "'''"), ("''", "''"), ("``", "''"), ("``", "``"), ('"""', '"""')])
def test_quotation_marks_of_several_signs_are_taken_off(marks: tuple[str, str]) -> None:
    assert parse_reply(KEEPS.join(marks), STORM) == Parsed(KEEPS)
    assert parse_reply("Rock 'n' roll is being played.".join(marks), STORM).text == "Rock 'n' roll is being played."


@pytest.mark.parametrize("text", ["'''" + KEEPS, KEEPS + "'''", KEEPS.replace("hotel", "'''hotel'''")])
def test_three_signs_that_are_left_are_markup(text: str) -> None:
    assert parse_reply(text, STORM).reason == "markup"
    assert parse_reply(text, STORM.replace("hotel", "'''hotel'''")).reason is None


@pytest.mark.parametrize("rest", ['"}', '",', '"]', '")', '"}]'])
def test_what_closes_a_list_behind_the_closing_mark_of_a_pair_is_no_part_of_it(rest: str) -> None:
    assert parse_reply(f"{KEEPS}{rest}", STORM, closing_marks='"') == Parsed(KEEPS)
    assert parse_reply(f"The hotel (in town {rest}", STORM, closing_marks='"').text is None


TEAM, BENCH = "The team did not score once.", "Nobody on the bench was smiling."


@pytest.mark.parametrize(
    ("reply", "texts", "left_out"),
    [
        (f"['{TEAM}', '{BENCH}']", [TEAM, BENCH], {}),
        (f'"{TEAM}",\n"{BENCH}",', [TEAM, BENCH], {}),
        (f'["{TEAM}", "{BENCH}", "We never', [TEAM, BENCH], {"markup": 1}),
        (f'{{"sentences": ["{TEAM}",\n"{BENCH}",', [TEAM, BENCH], {"markup": 1}),
        (f"{TEAM} {BENCH} We never lost at home.", [], {"several sentences": 1}),
        (f"1. {TEAM} It was a sad day.\n2. {BENCH}", [BENCH], {"several sentences": 1}),
        (f"Diary entry 1\n{TEAM}\nDiary entry 2\n{BENCH}", [TEAM, BENCH], {"label": 2}),
        (f"Below are ten sentences about sport.\n{TEAM}\n{BENCH}", [TEAM, BENCH], {"talk": 1}),
        (f"{TEAM}\n{BENCH}\nThese sentences all contain a negation.", [TEAM, BENCH], {"talk": 1}),
        (f"1. {TEAM}\n2. Nobody on the bench was", [TEAM], {"cut off": 1}),
        (f"The Lost Match\n{TEAM}\n{BENCH}", [TEAM, BENCH], {"cut off": 1}),
        ("Team loses at home\nBlast kills 12 in Delhi", ["Team loses at home", "Blast kills 12 in Delhi"], {}),
        (f"1. football: {TEAM[0].lower()}{TEAM[1:]}\n2. {BENCH}", [BENCH], {"label": 1}),
        (f'{{"sentence": "{TEAM}"}}\n{{"sentence": "{BENCH}"}}', [TEAM, BENCH], {}),
        (f'{{"id": 1, "text": "{TEAM}"}},\n{{"id": 2, "text": "{BENCH}"}}', [TEAM, BENCH], {}),
        (f'{{"sentence": "{TEAM}"}}\n{{"sentence": "Nobody', [], {"markup": 2}),
        (f'{{"1": "{TEAM}", "2": "{BENCH}"}}', [TEAM, BENCH], {}),
        (f'{{"sentence_1": "{TEAM}", "sentence_2": "{BENCH}"}}', [TEAM, BENCH], {}),
        (f'{{"topic_1": "{TEAM}", "topic_2": "{BENCH}"}}', [], {"markup": 1}),
        (
            "1. 7. Oktober ist ein Feiertag.\n2. 1. Mai ist frei.",
            ["7. Oktober ist ein Feiertag.", "1. Mai ist frei."],
            {},
        ),
        ("1. Mai ist hier frei.\n2. Juni ist es nicht.", ["1. Mai ist hier frei.", "2. Juni ist es nicht."], {}),
        ("1. A. Smith lost the match.\n2. B. The team won.", ["A. Smith lost the match."], {"numbering": 1}),
        ("A. Flutes are played here.\nB. Drums are not.", [], {"numbering": 2}),
        ("1. 1. The bus was late.\n2. It rained all night.", ["It rained all night."], {"numbering": 1}),
        (
            "1.5 million people live here.\n2.5 million people left.",
            ["1.5 million people live here.", "2.5 million people left."],
            {},
        ),
        ("1 man plays the flute.\n2 men sing along.", ["1 man plays the flute.", "2 men sing along."], {}),
        ("1 The bus was late.\n2 It rained all night.", ["The bus was late.", "It rained all night."], {}),
    ],
)
def test_an_entry_of_a_list_is_one_sentence_or_counted_by_its_reason(
    reply: str, texts: list[str], left_out: dict[str, int]
) -> None:
    parsed = parse_list(reply)
    assert (parsed.texts, parsed.left_out) == (tuple(texts), left_out)


# --- examples that come back


EXAMPLES = (
    "Two boys are chasing a kite along the beach.",
    "The central bank left interest rates unchanged on Thursday.",
)


@pytest.mark.parametrize(
    ("text", "is_repeated"),
    [
        (EXAMPLES[0], True),
        ("two boys are chasing a kite along the beach", True),
        ("Two boys are flying a kite along the beach.", True),
        ("Two boys are chasing a kite unchanged on Thursday.", True),
        ("Two boys are chasing a kite along the beach, and a man plays a flute.", True),
        ("Boys chased kites.", False),
        ("The bank left on Thursday.", False),
        ("Two boys are playing the flute.", False),
    ],
)
def test_examples_are_known_again_exactly_nearly_and_in_a_splice(text: str, is_repeated: bool) -> None:
    assert repeats(text, EXAMPLES, SOURCE, longest=5) == is_repeated
    assert (parse_reply(text, SOURCE, examples=EXAMPLES).reason == "copy of an example") == is_repeated


def test_what_the_sentence_shares_with_an_example_may_stay() -> None:
    anchor = "The central bank left interest rates unchanged."
    assert parse_reply("The central bank left interest rates alone.", anchor, examples=EXAMPLES).text is not None


@pytest.mark.parametrize("task", ["syncse-partial", "syncse-scratch"])
def test_a_model_that_echoes_its_prompt_gives_no_data_and_every_echo_is_counted(task: str, tmp_path: Path) -> None:
    spec = load_syncse_spec("syncse-partial")
    assert isinstance(spec, PartialSpec)

    def echo(request: ChatRequest) -> str:
        if request.key.startswith("sentences/"):
            return "1. Someone heard a flute.\n2. " + request.prompt.partition(".")[0]
        shown = re.findall(r"(?:Given|New): (.+)", request.prompt)[:-1]
        one, other = (text.split() for text in random.Random(request.key).sample(shown, 2))
        return random.Random(request.key).choice([" ".join(one), " ".join([*one[: len(one) // 2], *other[-4:]])])

    what: dict[str, Any] = (
        {"num": 1} if task == "syncse-scratch" else {"sentences": [f"A man sees {i}." for i in range(40)]}
    )
    triplets = generate_triplets(FakeChat(echo), task=task, output_dir=tmp_path / "raw", **what)
    assert len(triplets) == 0
    counts = ShardDirectory(tmp_path / "raw").counts
    assert {reason for reason in counts if "rejected" in reason} == {"rejected: positive: copy of an example"} | {
        "rejected: negative: copy of an example"
    }
    assert counts["tries"] == counts["rejected: positive: copy of an example"] * 2 == counts["inputs"] * 8
    if task == "syncse-scratch":
        assert counts["left out sentences: echo of the prompt"] == 1


def test_a_pair_that_repeats_an_example_of_its_instruction_is_rejected_by_server_and_local_model(
    make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    instruction = f'Like "{EXAMPLES[0]}" and "{EXAMPLES[1]}":\nSentence 1: "<X1>"\nSentence 2: "'
    task = {"task_name": "own", "labels": {"1": {"instruction": instruction, "counter_labels": []}}}
    texts = {"It rains a lot here.": EXAMPLES[1], "A cat sleeps on a mat.": "A cat lies on a mat."}
    run = ChatPairRun(
        FakeChat(lambda request: texts[re.findall('Sentence 1: "(.*)"', request.prompt)[0]] + '"'),
        TaskSpec.load(task),
        DecodingOptions(decay_constant=0.0, max_tries=1),
        GenerationOptions(samples=1),
        list(texts),
    )
    [wave] = run._waves(False, RowsInMemory(raw_schema(run.spec)))
    assert [row["sentence2"] for row in wave.rows] == ["A cat lies on a mat."]
    assert wave.counts["rejected: echo of the prompt"] == 1
    builder = DinoDatasetBuilder((make_model("gpt2"), tokenizer), task=task, samples=1)

    def write(_: Any, spec: TaskSpec, requests: Sequence[Request], *args: Any, **options: Any) -> list[Drawn]:
        return [Drawn(texts[request.x1 or ""], 1, (5, 6)) for request in requests]

    monkeypatch.setattr(LocalWriter, "write", write)
    assert builder.generate(list(texts))["sentence2"][:] == ["A cat lies on a mat."]
    assert builder.counts["rejected: echo of the prompt"] == 1


def test_a_chat_server_may_address_someone_where_the_sentences_differ_but_not_where_they_mean_the_same() -> None:
    run = ChatPairRun(
        FakeChat(lambda request: 'I told you about it."'),
        TaskSpec.load("sts-x2"),
        DecodingOptions(decay_constant=0.0, max_tries=1),
        GenerationOptions(samples=1),
        [STORM],
    )
    [wave] = run._waves(False, RowsInMemory(raw_schema(run.spec)))
    assert {row["score"] for row in wave.rows} == {0.0, 0.5}
    assert wave.counts["rejected: talk"] == 1


# --- bodies


def body(content: object, finish_reason: object = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return {"object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage} | more


@pytest.mark.parametrize("reason", ["stop", None, "", "eos", "end_turn", "stop_sequence", "STOP", "eos_token"])
def test_an_ending_that_is_known_is_complete(reason: str | None) -> None:
    assert read_answer(json.dumps(body(TEXT, reason)).encode()).finished


@pytest.mark.parametrize("reason", ["length", "max_tokens", "model_length", "MAX_TOKENS"])
def test_an_ending_at_the_limit_is_cut_off(reason: str) -> None:
    assert not read_answer(json.dumps(body(TEXT, reason)).encode()).finished


@pytest.mark.parametrize(
    ("reason", "again"),
    [("content_filter", False), ("tool_calls", False), ("error", True), ("abort", True), (7, False)],
)
def test_any_other_ending_is_a_failure_with_its_name(reason: object, again: bool) -> None:
    with pytest.raises(AttemptError, match=f"the answer ended with finish_reason '{reason}'") as raised:
        read_answer(json.dumps(body(TEXT, reason)).encode())
    assert raised.value.again == again


@pytest.mark.parametrize("place", ["choice", "reply"])
@pytest.mark.parametrize(
    ("more", "is_whole"),
    [
        ({"native_finish_reason": "MAX_TOKENS"}, False),
        ({"done_reason": "length"}, False),
        ({"truncated": True}, False),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, False),
        ({"stopped_limit": True}, False),
        ({"stop_type": "limit"}, False),
        ({"status": "incomplete"}, False),
        ({"finishReason": "MAX_TOKENS"}, False),
        ({"finish_details": {"type": "max_tokens"}}, False),
        ({"details": {"finish_reason": "length"}}, False),
        ({"native_finish_reason": "SAFETY"}, None),
        ({"incomplete_details": {"reason": "content_filter"}}, None),
        ({"content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}, None),
        ({"native_finish_reason": "STOP", "done_reason": "stop", "truncated": False}, True),
        ({"native_finish_reason": "completed", "incomplete_details": None}, True),
        ({"stopped_limit": False, "stop_type": "word", "status": "completed", "details": {"type": "text"}}, True),
        ({"content_filter_results": {"hate": {"filtered": False}, "error": None}}, True),
    ],
)
@pytest.mark.parametrize("reason", ["stop", None])
def test_what_is_told_beside_the_finish_reason_goes_before_it(
    more: dict[str, Any], is_whole: bool | None, place: str, reason: str | None
) -> None:
    reply = body(TEXT, reason)
    (reply if place == "reply" else reply["choices"][0]).update(more)
    if is_whole is None:
        with pytest.raises(AttemptError, match="the answer ended with finish_reason") as raised:
            read_answer(json.dumps(reply).encode())
        assert not raised.value.again
    else:
        assert read_answer(json.dumps(reply).encode()).finished == is_whole


@pytest.mark.parametrize("place", ["choice", "reply"])
@pytest.mark.parametrize("error", [{"code": 502, "message": "upstream went away"}, "upstream went away"])
def test_a_text_beside_an_error_is_none(error: object, place: str) -> None:
    reply = body("The train from Ankara ran")
    (reply if place == "reply" else reply["choices"][0])["error"] = error
    with pytest.raises(AttemptError, match="the server reports: upstream went away") as raised:
        read_answer(json.dumps(reply).encode())
    assert raised.value.again
    assert raised.value.answer.completion_tokens == 3
    (reply if place == "reply" else reply["choices"][0])["error"] = None
    assert read_answer(json.dumps(reply).encode()).finished


def test_a_refusal_goes_before_what_stands_beside_it() -> None:
    reply = body(TEXT)
    reply["choices"][0]["message"]["refusal"] = "I cannot write that."
    assert read_answer(json.dumps(reply).encode()).text == "I cannot write that."


@pytest.mark.parametrize(
    ("text", "is_whole"),
    [
        (" They said ", False),
        ("The so-called\t", False),
        ("She answered: ", False),
        ("They are late", True),
        ("They are late. ", True),
    ],
)
def test_a_completion_that_stopped_at_a_quotation_inside_is_cut_off(text: str, is_whole: bool) -> None:
    reply = {"choices": [{"index": 0, "finish_reason": "stop", "text": text}]}
    assert read_answer(json.dumps(reply).encode()).finished is is_whole


@pytest.mark.parametrize(
    "stream",
    [
        b'data: {"choices": []}\n\ndata: [DONE]\n',
        b": PROCESSING\n\ndata: {}\n",
        b"event: message\ndata: {}\n",
        b'{"message": {"content": "It"}}\n{"message": {"content": " rains."}}\n',
    ],
)
def test_a_stream_is_named_as_what_it_is(stream: bytes) -> None:
    with pytest.raises(AttemptError, match=r"the reply is streamed, though that was not asked for \(\d+ bytes\)"):
        read_answer(stream)
    with pytest.raises(AttemptError, match="truncated or no JSON"):
        read_answer(b'{"choices": [{"message": {"content": "data: 1}')


def test_the_choice_of_index_0_is_read_wherever_it_stands() -> None:
    first, second = body(TEXT)["choices"][0], body("It rains.")["choices"][0] | {"index": 1}
    assert read_answer(json.dumps({"choices": [second, first]}).encode()).text == TEXT


def test_content_in_parts_is_joined_without_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": [{"text": "So …"}]}, {"type": "text", "text": "Some"}, "one plays."]
    assert read_answer(json.dumps(body(parts)).encode()).text == "Someone plays."


@pytest.mark.parametrize(
    ("text", "reason", "tokens", "is_whole"),
    [
        ("It was charged although somebody in the", None, 8, False),
        ("It was charged although,", "null", 8, False),
        ("It was charged.", None, 8, True),
        ('It was charged"', "", 8, True),
        ("ผู้ชายกำลังเป่าขลุ่ย", None, 8, True),
        ("It was charged although somebody in the", "stop", 8, True),
        ("It was charged although somebody in the", "stop", 64, False),
        ("It was charged although somebody in the", "stop", "64", False),
        ("It was charged.", "stop", 64, True),
    ],
)
def test_a_text_that_stops_in_a_sentence_is_cut_off_unless_the_server_says_that_it_is_whole(
    text: str, reason: str | None, tokens: object, is_whole: bool
) -> None:
    answer = body(text, reason, usage={"prompt_tokens": 7, "completion_tokens": tokens})
    assert read_answer(json.dumps(answer).encode(), 64).finished == is_whole


def test_a_rating_may_be_a_number() -> None:
    assert [read_answer(json.dumps(body(given)).encode()).text for given in (4, 0.5)] == ["4", "0.5"]


@pytest.mark.parametrize(
    ("given", "read"), [("8", 8), (10.0, 10), ("many", 0), (None, 0), ([1], 0), (-5, 0), (10**40, 0)]
)
def test_numbers_of_tokens_are_read_in_every_form(given: object, read: int) -> None:
    assert read_answer(json.dumps(body(TEXT, usage={"prompt_tokens": given})).encode()).prompt_tokens == read


def test_a_cost_that_is_not_known_is_none_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with hostile_server(lambda *_: body(TEXT, usage=None)) as server:
        backend = client(server, price_per_million_prompt_tokens=10)
        backend.complete(asked_for(3))
    assert "cost" not in backend.usage
    assert caplog.text.count("the cost is unknown") == 1


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (None, "requests 4, retries 0, failures 0; the server does not say how many tokens"),
        (
            {"prompt_tokens": 7, "completion_tokens": 3},
            "requests 4, retries 0, failures 0, prompt tokens 28, completion tokens 12",
        ),
    ],
)
def test_tokens_that_are_not_told_are_not_shown_as_none(
    usage: dict[str, int] | None, words: str, tmp_path: Path
) -> None:
    def script(prompt: str, attempt: int) -> dict[str, Any]:
        return body(f"Someone heard {hashlib.sha256(prompt.encode()).hexdigest()[:12]}.", usage=usage)

    (tmp_path / "s.txt").write_text("A cat sleeps in the sun.\nA dog runs over the field.\n")
    with hostile_server(script) as server:
        command = [
            "syncse",
            "--backend",
            "openai",
            "--model",
            MODEL,
            "--base-url",
            server.url,
            "--input",
            str(tmp_path / "s.txt"),
        ]
        done = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "raw")])
    assert done.exit_code == 0, done.output
    assert f"Asked in this run: {words}\n" in done.output


def test_numbers_that_no_file_can_hold_are_left_out(tmp_path: Path) -> None:
    huge = {"prompt_tokens": 10**40, "completion_tokens": -3}
    with hostile_server(lambda *_: body(TEXT, usage=huge)) as server, ReplyJournal(tmp_path / "replies") as journal:
        [reply] = journal.complete(client(server), [ChatRequest("k", "x")])
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == (TEXT, 0, 0)


# --- servers


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-notarealkey0123456789")


def client(server: HostileServer, **options: Any) -> OpenAIChat:
    fast: dict[str, Any] = {"backoff_seconds": 0.001, "longest_wait_seconds": 0.05, "timeout": 20.0}
    return OpenAIChat(MODEL, base_url=server.url, **fast | options)


def asked_for(count: int) -> list[ChatRequest]:
    return [ChatRequest(f"key-{i}", f"request {i}") for i in range(count)]


def test_a_server_that_answers_under_another_name_is_believed_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def script(prompt: str, attempt: int) -> dict[str, Any]:
        return body(f"Someone heard {hashlib.sha256(prompt.encode()).hexdigest()[:12]}.", model="gpt-4-0613")

    sentences = [f"Sentence {i} is about a cat." for i in range(3)]
    with hostile_server(script) as server:
        for number in (2, 3):
            generate_triplets(client(server), sentences[:number], output_dir=tmp_path / str(number))
        assert sum(server.asked.values()) == 4 + 6  # no more than a server of the same name is asked
    for number in (2, 3):
        assert json.loads((tmp_path / f"{number}/manifest.json").read_text())["provenance"]["answered_as"] == [
            "gpt-4-0613"
        ]
    assert caplog.text.count("answers as 'gpt-4-0613' where 'tiny-chat' is asked") == 2


def test_the_name_under_which_replies_came_outlives_the_run_that_was_broken_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = iter(["gpt-4-0613"] * 2)

    def script(prompt: str, attempt: int) -> dict[str, Any]:
        return body(f"Someone heard {hashlib.sha256(prompt.encode()).hexdigest()[:12]}.", model=next(names, MODEL))

    with hostile_server(script) as server:
        for stops in (True, False):
            backend = client(server, concurrency=1)
            with ReplyJournal(tmp_path / "replies.sqlite") as journal:
                for request in asked_for(2 if stops else 4):
                    journal.complete(backend, [request])
            assert backend.answered_as == ["gpt-4-0613"]
        assert sum(server.asked.values()) == 4
    assert caplog.text.count("came from a model that its server called 'gpt-4-0613'") == 1


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("seed", {"status": 400, "error": {"message": "Unsupported parameter.", "param": "seed"}}),
        ("seed", {"status": 422, "detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
        ("temperature", {"status": 400, "error": {"message": "`temperature` and `top_p` cannot both be specified"}}),
        ("top_p", {"status": 400, "error": {"message": 'unknown field "top_p"'}}),
    ],
)
def test_an_option_that_a_server_refuses_is_named_at_once_and_can_be_left_out(
    option: str, error: dict[str, Any]
) -> None:
    def script(prompt: str, attempt: int) -> dict[str, Any]:
        return error if option in server.bodies[prompt] else body(TEXT)

    with hostile_server(script) as server:
        with pytest.raises(
            ConfigurationError, match=rf"does not take '{option}' .*: --{option.replace('_', '-')} none"
        ):
            client(server, concurrency=2).complete(asked_for(50))
        assert sum(server.asked.values()) <= 2
        for nothing in (None, "none"):
            assert client(server, **{option: nothing}).complete(asked_for(1))[0].text == TEXT


@pytest.mark.parametrize(
    "said",
    [
        "System role not supported",
        "jinja2.exceptions.TemplateError: System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported!",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "System messages are not supported by this model",
        "Developer instruction is not enabled; role 'system' is not supported",
    ],
)
@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_without_a_system_role_gets_its_text_in_the_first_message_and_it_is_said_once(
    said: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    def script(prompt: str, attempt: int) -> dict[str, Any]:
        has_system = server.bodies[prompt]["messages"][0]["role"] == "system"
        return {"status": status, "error": {"message": said}} if has_system else body(TEXT)

    requests = [ChatRequest(f"k{i}", f"request {i}", "Be short.") for i in range(20)]
    with hostile_server(script) as server:
        replies = client(server, concurrency=1).complete(requests)
        assert {reply.text for reply in replies} == {TEXT}
        assert sum(server.asked.values()) == 21
        assert server.bodies["Be short.\n\nrequest 7"]["messages"] == [
            {"role": "user", "content": "Be short.\n\nrequest 7"}
        ]
    assert caplog.text.count("takes no system role; its text is put before the user's") == 1


def test_an_error_that_only_mentions_the_system_is_not_about_its_role() -> None:
    for said in ("The operating system is busy.", "invalid: 'The new system was not built.'", "bad request"):
        with hostile_server(lambda *_, said=said: {"status": 400, "error": {"message": said}}) as server:
            [reply] = client(server).complete([ChatRequest("k", "request", "Be short.")])
            assert (reply.text, sum(server.asked.values())) == (None, 1)
    said = "System role not supported"
    with hostile_server(lambda *_: {"status": 400, "error": {"message": said}}) as server:
        [reply] = client(server).complete([ChatRequest("k", "request", "Be short.")])
        assert (reply.failure, sum(server.asked.values())) == (f"status 400: {said}", 2)


def test_a_choice_with_the_text_of_older_servers_is_read() -> None:
    choice = {"index": 0, "finish_reason": "stop", "text": TEXT}
    for message in ({}, {"message": None}, {"message": {"role": "assistant", "content": None}}):
        assert read_answer(json.dumps({"choices": [choice | message]}).encode()).text == TEXT
    both = choice | {"message": {"role": "assistant", "content": "It rains."}}
    assert read_answer(json.dumps({"choices": [both]}).encode()).text == "It rains."


def test_a_refusal_that_only_mentions_an_option_is_one_request() -> None:
    said = {"status": 400, "error": {"message": "invalid: 'The temperature fell.'"}}
    with hostile_server(lambda prompt, _: said if prompt == "request 7" else body(TEXT)) as server:
        replies = client(server, concurrency=1).complete(asked_for(9))
    assert [reply.text is None for reply in replies] == [i == 7 for i in range(9)]
    said = {
        "status": 400,
        "error": {"message": "max_tokens is too large for the context of 2048", "param": "max_tokens"},
    }
    with hostile_server(lambda *_: said) as server:
        assert [reply.text for reply in client(server).complete(asked_for(3))] == [None] * 3


@pytest.mark.parametrize(("known", "requests"), [("max_completion_tokens", 41), ("max_tokens", 40), (None, 2)])
def test_the_limit_of_tokens_is_tried_under_its_other_name_once(known: str | None, requests: int) -> None:
    def script(prompt: str, attempt: int) -> dict[str, Any]:
        [sent] = {"max_tokens", "max_completion_tokens"} & set(server.bodies[prompt]) or [None]
        refusal = {"message": f"Unsupported parameter: '{sent}'", "param": sent}
        return body(TEXT) if sent == known else {"status": 400, "error": refusal}

    with hostile_server(script) as server:
        backend = client(server, concurrency=1)
        if known is None:
            with pytest.raises(ConfigurationError, match=r"does not take .*max_.* change the option token_limit, or"):
                backend.complete(asked_for(40))
            assert client(server, token_limit="none").complete(asked_for(1))[0].text == TEXT
            assert sum(server.asked.values()) == requests + 1
        else:
            assert {reply.text for reply in backend.complete(asked_for(40))} == {TEXT}
            assert sum(server.asked.values()) == requests


def test_an_answer_without_text_at_the_limit_gets_twice_the_tokens_once() -> None:
    limits: list[int] = []

    def script(prompt: str, attempt: int) -> dict[str, Any]:
        limits.append(server.bodies[prompt]["max_tokens"])
        return body(TEXT) if prompt == "request 0" and limits[-1] > 64 else body("", "length")

    with hostile_server(script) as server:
        replies = client(server, concurrency=1).complete(asked_for(2))
        assert [reply.text for reply in replies] == [TEXT, None]
        assert limits == [64, 128, 64, 128]
        assert "raise --max-new-tokens" in str(replies[1].failure)
        with pytest.raises(ModelError, match=r"requests in a row failed 2 times each, .*raise --max-new-tokens"):
            client(server, concurrency=1).complete([ChatRequest(f"k{i}", f"other {i}") for i in range(500)])
        assert len(server.asked) < 40


@pytest.mark.parametrize("status", [401, 402, 403, 404])
@pytest.mark.parametrize("in_body", [False, True])
def test_what_will_not_change_stops_at_once(status: int, in_body: bool) -> None:
    said: dict[str, Any] = {"error": {"message": "no", "code": status}}
    with hostile_server(lambda *_: said if in_body else said | {"status": status}) as server:
        with pytest.raises((ConfigurationError, ModelError), match=r"key in OPENAI_API_KEY|no credit|knows no model"):
            client(server, concurrency=2).complete(asked_for(300))
        assert sum(server.asked.values()) <= 2


def test_a_server_whose_answers_are_all_empty_stops_the_run() -> None:
    with hostile_server(lambda *_: body(" ")) as server:
        with pytest.raises(ModelError, match=r"requests in a row failed 2 times each, .*the reply is empty"):
            client(server, concurrency=4, max_retries=1).complete(asked_for(500))
        assert len(server.asked) < 40


def test_half_a_surrogate_is_one_rejection_and_does_not_end_the_run(tmp_path: Path) -> None:
    def script(prompt: str, attempt: int) -> dict[str, Any]:
        name = hashlib.sha256(prompt.encode()).hexdigest()[:12]
        return body("Half \ud83d a face." if next(first, None) else f"Someone heard {name}.")

    for text in ("A cat sleeps.", "A dog barks."):
        first = iter([True])
        with hostile_server(script) as server:
            triplets = generate_triplets(client(server, concurrency=1), [text], output_dir=tmp_path / text)
            assert triplets["tries"][:] == [3]
            assert sum(server.asked.values()) == 3


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ALL_PROXY", "socks5://me:secret@127.0.0.1:1080", "cannot use ALL_PROXY; .*install socksio"),
        ("all_proxy", "foo://me:secret@host", "cannot use all_proxy; set to the address of a proxy"),
        ("HTTPS_PROXY", "http://host:secret", "cannot use HTTPS_PROXY"),
        ("SSL_CERT_FILE", "/nowhere.pem", "cannot use SSL_CERT_FILE; set to a file of certificates"),
    ],
)
def test_settings_of_the_environment_that_cannot_be_used_are_named(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy", "SSL_CERT_DIR", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises((ConfigurationError, MissingExtraError), match=message) as raised:
        OpenAIChat(MODEL, base_url="http://127.0.0.1:9/v1").complete(asked_for(1))
    assert "secret" not in str(raised.value)


# --- a server that answers in sixty ways


Kind = tuple[str, Callable[[str], str | Mapping[str, Any]]]


def _error(status: int) -> Callable[[str], Mapping[str, Any]]:
    return lambda _: {"status": status, "error": {"message": "no"}}


def _answers(template: str, finish_reason: str | None = "stop", **more: Any) -> Callable[[str], Mapping[str, Any]]:
    return lambda text: body(template.replace("TEXT", text), finish_reason, **more)


_SHAPES = [pair for shape in SHAPES.values() for pair in shape.items()]
_GOOD = [
    *("TEXT", *(reply for reply, reason in _SHAPES if not reason)),
    *("<think>So …</think>TEXT", "So …</think>TEXT", "[THINK]…[/THINK]TEXT", "◁think▷…◁/think▷TEXT"),
    *("<seed:think>…</seed:think>TEXT", "<reasoning>…</reasoning><answer>TEXT</answer>", r"\boxed{TEXT}"),
    "<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>TEXT",
    *("TEXT</s>", "TEXT<|im_end|>", "TEXT<|eot_id|>", "TEXT<end_of_turn>\n<start_of_turn>user\nMore."),
    *("<|im_start|>assistant\nTEXT", "analysisThe user wants it.assistantfinalTEXT"),
]
_BAD = [
    *(reply for reply, reason in _SHAPES if reason and reason != "echo"),
    *("TEXT<unused12>", "<tool_call>TEXT</tool_call>", "TEXT<|im_e", "TEXT [TOOL_CALLS]", "The <b>TEXT</b>"),
    *("[THINK]TEXT", "Half \ud83d TEXT", "A \ufffd TEXT", "A \x00 TEXT", '""', "I cannot help with that."),
    *(EXAMPLES[0], "Two boys are chasing a kite unchanged on Thursday."),
]
KINDS: dict[str, Kind] = {
    **{f"good {i}": ("good", _answers(template)) for i, template in enumerate(_GOOD)},
    **{f"ending {name}": ("good", _answers("TEXT", name)) for name in ("eos", "end_turn", None)},
    "ended at the limit": ("good", _answers("TEXT<|im_end|>", "length")),
    "other model": ("good", _answers("TEXT", model="another-model")),
    "no usage": ("good", _answers("TEXT", usage=None)),
    "huge usage": ("good", _answers("TEXT", usage={"prompt_tokens": 10**30})),
    "parts": ("good", lambda text: body([{"type": "text", "text": text[:5]}, {"type": "text", "text": text[5:]}])),
    **{f"bad {i}": ("bad", _answers(template)) for i, template in enumerate(_BAD)},
    **{f"limit {name}": ("bad", _answers("TEXT", name)) for name in ("length", "max_tokens", "model_length")},
    **{f"status {status}": ("again", _error(status)) for status in (408, 429, 500, 503)},
    **{
        fault: ("again", lambda _, fault=fault: fault)
        for fault in ("reset", "truncated", "no choices", "empty", "429 after")
    },
    "empty at the limit": ("again", _answers("", "length")),
    **{f"ending {name}": ("again", _answers("TEXT", name)) for name in ("error", "abort")},
    **{f"ending {name}": ("failed", _answers("TEXT", name)) for name in ("content_filter", "tool_calls", "unheard-of")},
    **{f"status {status}": ("failed", _error(status)) for status in (400, 413, 422)},
}


@pytest.mark.parametrize("number", [120, pytest.param(750, marks=pytest.mark.slow)])
def test_of_sixty_kinds_of_replies_every_good_one_is_stored_once_and_no_other(number: int, tmp_path: Path) -> None:
    assert len(KINDS) >= 60
    spec = load_syncse_spec("syncse-partial")
    assert isinstance(spec, PartialSpec)
    names, kinds, good = sorted(KINDS), Counter[str](), dict[tuple[str, str], list[str]]()

    def script(prompt: str, attempt: int) -> str | Mapping[str, Any]:
        digest = hashlib.sha256(prompt.encode()).hexdigest()
        kind, make = KINDS[random.Random(digest).choice(names)] if attempt == 1 else ("good", _answers("TEXT"))
        kinds[kind] += 1
        anchor = prompt.rpartition("Given: ")[2].partition("\n")[0]
        is_positive = any(entry.text.strip() in prompt for entry in spec.positive)
        text = f"Someone {int(digest[:9], 16)} heard of it {int(digest[9:18], 16)}."
        if kind == "good":
            good.setdefault((anchor, "positive" if is_positive else "negative"), []).append(text)
        return make(text)

    sentences = [f"Story number {i} is about a cat." for i in range(number)]
    raw = tmp_path / "raw"
    with hostile_server(script) as server:
        for _ in range(3):
            triplets = generate_triplets(client(server, concurrency=32), sentences, output_dir=raw)
        requests, prompts = sum(server.asked.values()), len(server.asked)
    least = prompts + kinds["again"] + kinds["failed"]
    assert 5_000 * (number > 120) <= requests <= 1.3 * least
    lost = (
        [json.loads(line) for line in (raw / "rejected.jsonl").read_text().splitlines()]
        if len(triplets) < number
        else []
    )
    assert sorted([*triplets["anchor"][:], *(line["anchor"] for line in lost)]) == sorted(sentences)
    rows = [{"anchor": row["anchor"], "positive": row["positive"], "negative": row["negative"]} for row in triplets]
    rows += [
        {"anchor": line["anchor"]} | {role: line[role]["text"] for role in ("positive", "negative")} for line in lost
    ]
    for row in rows:
        for role in ("positive", "negative"):
            assert good.get((row["anchor"], role), []) == ([row[role]] if row[role] else [])
    assert len(triplets) > 0.8 * number


@pytest.mark.parametrize(
    "reply",
    [
        f"assistantfinal{TEXT}",
        f"final{TEXT}",
        f"{TEXT}assistant",
        f"{TEXT}final",
        f"{TEXT} assistant",
        f"{TEXT}im_end",
        f"{TEXT}assistantassistant",
    ],
)
def test_what_is_left_of_a_turn_s_tokens_is_no_part_of_the_text(reply: str) -> None:
    assert parse_reply(reply, SOURCE).text == TEXT


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Someone Ġis Ġplaying the flute.", "markup"),
        ("SomeoneÂ is playing the flute.", "broken character"),
        ("Someone is playing\\nthe flute.", "markup"),
        ("Someone is playing the flute.【4†source】", "markup"),
        ("Someone is playing the flute[1].", "markup"),
        ("Someone is playing the flute [^1^].", "markup"),
        ("Someone is playing the flute ¹.", "markup"),
        ("Someone is playing the flute¹.", "markup"),
        *((reply, "markup") for reply in ("Someone plays it loud.1", "Someone plays it. eot", "Someone plays it.null")),
        *((reply, "markup") for reply in ("Someone plays it loud.…", "Someone plays it . . .", "en_XX Someone plays.")),
        *((reply, "markup") for reply in ("² Someone plays it.", "s Someone plays it.", "B The flute is played.")),
        *((reply, "markup") for reply in ("Some@@ one plays it.", "Someone plays it．", "The ? man plays it.")),
        *(
            (reply, "markup")
            for reply in ("SomeSome one plays it.", "Someone isA man playing it.", "Some- one plays it.")
        ),
        ("Someone ﬁnally plays it.", "markup"),
        ("Someone plays it in the.", "cut off"),
        *((reply, "cut off") for reply in ("A woman plays on", "Someone throws a cat on", "The musician sits in")),
        ("Someone is playing is playing the flute.", "repetition"),
        ("Someone is playing the flute†.", "markup"),
        ("null is playing the flute.", "markup"),
        ("#NAME? is playing the flute.", "markup"),
        ("Someone is playing the flute.[1][2]", "markup"),
        ("CUDA out of memory.", "no answer"),
        ("The requested model is currently at capacity.", "no answer"),
        ("Function timed out after 30 seconds.", "no answer"),
        ("Request timed out.", "no answer"),
        ("You exceeded your current quota.", "no answer"),
        ("No changes necessary.", "no answer"),
        ("The sentence remains unchanged.", "no answer"),
        ("Извините, я не могу помочь с этим запросом.", "refusal"),
        ("죄송하지만 도와드릴 수 없습니다.", "refusal"),
        ("Sorry, maar ik kan daar niet bij helpen.", "refusal"),
        ("Przepraszam, ale nie mogę w tym pomóc.", "refusal"),
    ],
)
def test_left_over_signs_and_messages_are_no_text(reply: str, reason: str) -> None:
    assert parse_reply(reply, SOURCE) == Parsed(None, reason)


REFUSED = {
    "Le musée ouvre à neuf heures.": (
        *("Désolé, je ne peux pas reformuler cette phrase.", "Je ne peux pas traiter cette demande."),
        *(
            "Désolé, je ne peux pas vous aider avec cela.",
            "Malheureusement, je ne suis pas en mesure de répondre à cette demande.",
        ),
        *("Je ne peux pas vous aider.", "Navrée, mais je ne peux pas réécrire ce contenu."),
    ),
    "Das Museum öffnet um neun.": (
        *("Leider kann ich Ihnen bei dieser Anfrage nicht weiterhelfen.", "Leider kann ich dabei nicht helfen."),
        *("Ich kann diese Anfrage leider nicht bearbeiten.", "Diesen Satz kann ich nicht umformulieren."),
        *("Entschuldigung, dabei kann ich nicht helfen.", "Ich kann dir damit leider nicht helfen."),
    ),
    "El museo abre a las nueve.": (
        *("Lamentablemente no puedo ayudarte con esa solicitud.", "No puedo ayudar con eso."),
        *("Me temo que no puedo procesar esta petición.", "No puedo reescribir esta oración."),
    ),
    "Il museo apre alle nove.": (
        *("Purtroppo non posso aiutarti con questa richiesta.", "Non sono in grado di riformulare questa frase."),
    ),
    "O museu abre às nove.": (
        *("Infelizmente, não posso ajudar com isso.", "Não consigo processar esse pedido."),
        "Não posso reescrever esta frase.",
    ),
    "Het museum gaat om negen uur open.": (
        *("Helaas kan ik je daar niet mee helpen.", "Ik kan deze zin niet herschrijven."),
        "Helaas kan ik dit verzoek niet verwerken.",
    ),
    "Muzeum otwiera się o dziewiątej.": ("Niestety nie mogę w tym pomóc.", "Nie mogę przeformułować tego zdania."),
    "Museet öppnar klockan nio.": (
        "Tyvärr kan jag inte hjälpa dig med det.",
        "Jag kan inte skriva om den här meningen.",
    ),
    "Museet åbner klokken ni.": ("Beklager, men jeg kan ikke hjælpe med det.",),
    "Museum buka pukul sembilan.": ("Maaf, saya tidak bisa membantu dengan permintaan itu.",),
    "Bảo tàng mở cửa lúc chín giờ.": ("Xin lỗi, tôi không thể giúp bạn việc này.",),
    "Müze dokuzda açılıyor.": (
        *("Üzgünüm, bu konuda yardımcı olamam.", "Maalesef bu isteği yerine getiremem."),
        "Bu cümleyi yeniden yazamam.",
    ),
    "この美術館は九時に開館します。": (
        *("お手伝いできません。", "申し訳ないですが、お答えできません。", "そのリクエストには対応できません。"),
        "この文を言い換えることはできません。",
    ),
    "这家博物馆九点开门。": ("我无法帮助您完成这个请求。", "无法改写这个句子。", "我不能协助处理此内容。"),
    "박물관은 아홉 시에 문을 엽니다.": ("도와드릴 수 없습니다.", "이 문장을 다시 쓸 수 없습니다."),
    "Музей открывается в девять.": ("Я не могу помочь с этим.", "Не могу перефразировать это предложение."),
    "المتحف يفتح في التاسعة.": ("عذرًا، لا أستطيع مساعدتك في ذلك.", "آسف، لا يمكنني إعادة صياغة هذه الجملة."),
    "संग्रहालय नौ बजे खुलता है।": (*("माफ़ कीजिए, मैं इसमें मदद नहीं कर सकता।", "क्षमा करें, मैं यह अनुरोध पूरा नहीं कर सकती।"),),
}
"""A model's refusals, by a sentence in their language."""


OPENS = {
    "The museum on Oak Street opens at nine on Sundays.": (
        "visitors may enter Oak Street's museum from nine each Sunday",
        *(
            "Of course",
            "Sure",
            "Sure thing",
            "Certainly",
            "Gladly",
            "With pleasure",
            "No problem",
            "Happy to help",
            "Yes",
        ),
        *(
            "By all means",
            "As you wish",
            "Definitely",
            "As a paraphrase",
            "To contradict",
            "Second version",
            "My attempt",
        ),
        *("Try this", "Or rather", "Better yet", "For variety", "I'd put it like this", "An alternative"),
    ),
    "Das Museum in der Eichenstraße öffnet sonntags um neun.": (
        "am Sonntag kann man das Museum ab neun Uhr besuchen",
        *("Klar", "Natürlich", "Gerne", "Selbstverständlich", "Sicher", "Ja", "In Ordnung", "Alles klar", "Na klar"),
    ),
    "Le musée de la rue du Chêne ouvre à neuf heures.": (
        "on peut entrer au musée dès neuf heures",
        *("Bien sûr", "D'accord", "Oui", "Très bien", "Volontiers", "Avec plaisir", "Bien entendu", "Voilà"),
    ),
    "El museo de la calle Roble abre a las nueve.": (
        "se puede entrar al museo desde las nueve",
        *("Claro", "Por supuesto", "Sí", "Desde luego", "Con gusto", "Claro que sí", "Vale", "De acuerdo"),
    ),
    "Il museo di via Quercia apre alle nove.": ("si entra nel museo dalle nove", "Certo", "Sì", "Va bene", "Ecco"),
    "O museu da rua Carvalho abre às nove.": ("entra-se no museu desde as nove", "Claro", "Sim", "Com certeza"),
    "Het museum in de Eikstraat gaat om negen uur open.": ("men kan vanaf negen uur naar binnen", "Natuurlijk", "Ja"),
    "Muzeum otwiera się o dziewiątej.": ("można wejść do muzeum od dziewiątej", "Oczywiście", "Jasne", "Tak"),
    "Музей открывается в девять.": ("в музей пускают с девяти", "Конечно", "Да", "Хорошо", "Разумеется"),
    "Müze dokuzda açılıyor.": ("müzeye dokuzdan itibaren girilebilir", "Tabii ki", "Elbette", "Tamam", "Evet"),
    "박물관은 아홉 시에 문을 엽니다.": ("아홉 시부터 들어갈 수 있습니다", "물론입니다", "네", "알겠습니다", "그럼요"),
    "संग्रहालय नौ बजे खुलता है।": ("नौ बजे से संग्रहालय में जा सकते हैं", "ज़रूर", "ठीक है", "हाँ", "बिल्कुल"),
}
"""A sentence, another one that means the same, and what a model says before it."""


@pytest.mark.parametrize("source", OPENS)
def test_consent_before_a_sentence_is_talk_in_any_language(source: str) -> None:
    text, *openers = OPENS[source]
    assert parse_reply(f"{text.capitalize()}.", source) == Parsed(f"{text.capitalize()}.")
    for opener in openers:
        reply = f"{opener}, {text}."
        assert parse_reply(reply, source) == Parsed(None, "talk"), opener
        assert parse_reply(reply, f"{opener}, it is as {opener} as ever?") != Parsed(None, "talk"), opener


@pytest.mark.parametrize(
    ("reply", "source"),
    [
        ("当然，九点起可以参观博物馆。", "这家博物馆九点开门。"),
        ("好的,九点起可以参观博物馆。", "这家博物馆九点开门。"),
        ("もちろん、九時から美術館に入れます。", "この美術館は九時に開館します。"),
        ("はい、承知しました、九時から美術館に入れます。", "この美術館は九時に開館します。"),
        ("بالتأكيد، يمكن دخول المتحف من التاسعة.", "المتحف يفتح في التاسعة."),
    ],
)
def test_consent_with_marks_of_other_scripts_is_talk(reply: str, source: str) -> None:
    assert parse_reply(reply, source) == Parsed(None, "talk")


TAILS = {
    "The museum on Oak Street opens at nine on Sundays.": (
        "Oak Street's museum welcomes visitors from nine each Sunday",
        *("reversing the opening time", "changing the subject to a dog", "swapping the day", "altering the location"),
        *(
            "with the day changed",
            "with a different day",
            "replacing nine with ten",
            "making it passive",
            "different time",
        ),
        *("now in the past tense", "flipping the time", "inverting the claim", "changing the day to Monday"),
        *("maintaining the original tone", "thus contradicting it", "thereby negating it", "which is the opposite"),
        *(
            "adding more detail",
            "simplifying the language",
            "rewritten for clarity",
            "stated differently",
            "for variety",
        ),
        *("as a contradiction", "contradiction", "changed the time"),
    ),
    "Das Museum in der Eichenstraße öffnet sonntags um neun.": (
        "Am Sonntag kann man das Museum ab neun Uhr besuchen",
        *("wobei die Bedeutung erhalten bleibt", "die Bedeutung bleibt gleich", "mit anderen Worten", "anders gesagt"),
    ),
    "Le musée de la rue du Chêne ouvre à neuf heures.": (
        "On peut entrer au musée dès neuf heures",
        *("en gardant le même sens", "ce qui garde le sens", "avec un sens opposé", "autrement dit"),
    ),
    "El museo de la calle Roble abre a las nueve.": (
        "Se puede entrar al museo desde las nueve",
        *("manteniendo el significado", "con el mismo significado", "cambiando el sujeto", "en otras palabras"),
    ),
    "Il museo di via Quercia apre alle nove.": (
        "Si entra nel museo dalle nove",
        *("mantenendo il significato", "con lo stesso significato", "cambiando il soggetto"),
    ),
    "O museu da rua Carvalho abre às nove.": (
        "Entra-se no museu desde as nove",
        *("mantendo o significado", "com o mesmo sentido"),
    ),
    "这家博物馆九点开门。": ("九点起可以参观博物馆", "意思不变", "含义相同"),
    "この美術館は九時に開館します。": ("九時から美術館に入れます", "意味は同じです"),
    "Музей открывается в девять.": ("В музей пускают с девяти", "сохраняя смысл", "смысл тот же"),
}
"""A sentence, another one, and what a model says behind it of what it did."""


@pytest.mark.parametrize("source", TAILS)
def test_what_was_done_to_the_sentence_is_told_behind_none(source: str) -> None:
    text, *tails = TAILS[source]
    assert parse_reply(f"{text}.", source) == Parsed(f"{text}.")
    found = {tail: parse_reply(f"{text}, {tail}.", source).reason for tail in tails}
    assert found == dict.fromkeys(tails, "talk")


@pytest.mark.parametrize(
    "head",
    [
        *("One could also say", "You could also say", "Another way to say it is", "It could also be said"),
        *(
            "New —",
            "Rewritten -",
            "In brief —",
            "LONDON (Reuters) —",
            "PARIS, March 3 -",
            "WASHINGTON –",
            "(Reuters) -",
        ),
        *("BEIJING, Nov. 27 (Xinhua) --", "NEW YORK (AP) —", "Paris, March 3 -", "BREAKING -", "UPDATE 1-"),
    ],
)
def test_what_announces_a_report_or_another_wording_is_no_part_of_it(head: str) -> None:
    source = "The museum on Oak Street opens at nine on Sundays."
    for text in (
        "visitors may enter Oak Street's museum from nine.",
        "Oak Street's museum welcomes visitors from nine.",
    ):
        assert parse_reply(f"{head} {text}", source) == Parsed(None, "talk")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Of course, she left.", "She left, naturally."),
        ("The best way to write letters is to start.", "One writes letters best by starting."),
        ("Naturally, she left.", "She left."),
        ("Klar, dass er geht.", "Dass er geht, versteht sich."),
        ("Ja, er kommt.", "Kommt er?"),
        ("Er ging hinaus, um zu rauchen.", "Zum Rauchen ging er hinaus."),
        ("Als es regnete, er aber fror, ging er.", "Im Regen fror er und ging."),
        ("Claro, el museo está abierto.", "Sin duda el museo está abierto."),
        ("Конечно, он ушёл.", "Он, конечно, ушёл."),
        ("Stocks rose, reversing earlier losses.", "Stocks rose after losses."),
        ("He stirred, adding more sugar.", "He put in sugar while stirring."),
        ("She left, keeping the ring.", "She went away with the ring."),
        ("He won, replacing the old champion.", "He is the new champion."),
        ("She came on, replacing Smith with ten minutes left.", "Smith went off near the end."),
        ("They moved, changing the date of the fair.", "The fair was shifted to another date."),
        ("You could say he was tired.", "One might call him tired."),
        ("You can put the bread in the oven.", "The bread can go into the oven."),
        ("The best option is to leave.", "Leaving would be best."),
        ("It can be put on the roof.", "One can mount it on the roof."),
        ("Anna Bell - the singer - is ill.", "The singer Anna Bell is ill."),
        ("PARIS, March 3 - the fair opened.", "PARIS, March 2 - the fair is open."),
        ("He felt good, in a different way.", "It was another kind of joy."),
        ("Il a perdu, ce qui a du sens.", "Sa défaite a du sens."),
        ("Das hat er gesagt, und das ist der Sinn.", "Der Sinn ist, was er sagte."),
    ],
)
def test_what_only_reminds_of_consent_or_of_a_report_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(text)


def test_sentences_from_scratch_may_consent_or_be_in_two_parts() -> None:
    texts = ("Of course, I have to tell her.", "Just a moment - there is someone at the door.", "Klar, ich komme mit.")
    assert parse_list("\n".join(f"{i}. {text}" for i, text in enumerate(texts, 1))).texts == texts


@pytest.mark.parametrize("source", ["Dogs run.", "The museum on Oak Street opens at nine on Sundays."])
def test_words_for_nothing_and_labels_are_no_answer(source: str) -> None:
    words = (
        *("N.A.", "n/a", "N\\A", "undefined", "null", "None.", "nil", "TBD", "[blank]", "(none)", "-", "empty", "void"),
        *("unknown", "Not available.", "None found", "no data", "No text.", "missing", "nothing", "skipped", "string"),
        *(
            "Entailment",
            "contradiction",
            "Neutral",
            "positive",
            "label 1",
            "Label: 0",
            "score: 1",
            "0.5",
            "class 1",
            "A",
        ),
        *("hard negative", "Positive pair", "high similarity", "not similar", "equivalent", "to be determined"),
    )
    assert [word for word in words if parse_reply(word, source).text is not None] == []
    for own in (
        "Kein Text.",
        "k. A.",
        "Nichts.",
        "Aucune réponse.",
        "s.o.",
        "Ninguno.",
        "Sin respuesta.",
        "Geen tekst.",
    ):
        assert parse_reply(own, source).text is None
    assert parse_reply("Unknown.", "Missing.") == Parsed("Unknown.")
    assert parse_reply("Nichts.", "Nein.") == Parsed("Nichts.")


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("不适用", "这家博物馆九点开门。"),
        ("无。", "这家博物馆九点开门。"),
        ("該当なし", "この美術館は九時に開館します。"),
        ("없음", "박물관은 아홉 시에 문을 엽니다."),
        ("нет данных", "Музей открывается в девять."),
    ],
)
def test_words_for_nothing_in_other_scripts_are_no_answer(word: str, source: str) -> None:
    assert parse_reply(word, source) == Parsed(None, "no answer")


ABROAD = {
    "Das Museum öffnet sonntags um neun.": (
        *(
            "Das heißt, man kann ab neun hinein.",
            "Mit anderen Worten, man kann ab neun hinein.",
            "Anders gesagt, um neun.",
        ),
        *("Der Satz bedeutet, dass man ab neun hinein kann.", "Man könnte sagen, dass es um neun aufmacht."),
        *("Ich würde sagen, um neun macht es auf.", "Hier ist der umformulierte Satz.", "Hier ist eine Umschreibung."),
        *("Welchen Satz meinst du?", "Bitte geben Sie einen Satz an.", "Danke für die Frage!", "Ich weiß es nicht."),
        *(
            "Wie kann ich Ihnen helfen?",
            "Als KI-Sprachmodell war ich nie im Museum.",
            "Ich habe den Satz umformuliert.",
        ),
        *(
            "Beide Sätze bedeuten dasselbe.",
            "Ich hoffe, das hilft!",
            "Keine Änderung nötig.",
            "Das bedeutet, dass es aufmacht.",
        ),
    ),
    "Le musée ouvre à neuf heures.": (
        *("Autrement dit, on entre dès neuf heures.", "C'est-à-dire qu'on entre à neuf heures.", "Je ne sais pas."),
        *("La phrase signifie qu'on entre à neuf heures.", "On pourrait dire qu'on entre à neuf heures."),
        *(
            "Voici la phrase reformulée.",
            "Quelle phrase ?",
            "Veuillez fournir une phrase.",
            "Merci pour votre question.",
        ),
        *(
            "Comment puis-je vous aider ?",
            "En tant que modèle de langage, je ne visite rien.",
            "J'ai reformulé la phrase.",
        ),
    ),
    "El museo abre a las nueve.": (
        *(
            "Es decir, se entra a las nueve.",
            "O sea, se entra a las nueve.",
            "La frase significa que se entra a las nueve.",
        ),
        *("Se podría decir que se entra a las nueve.", "Aquí tienes la frase reescrita.", "No lo sé."),
        *("Por favor, proporciona la oración.", "Gracias por tu pregunta.", "¿En qué puedo ayudarte?"),
        *("Como modelo de lenguaje, no visito museos.", "Ambas frases significan lo mismo.", "Espero que esto ayude."),
    ),
    "Il museo apre alle nove.": (
        *(
            "Cioè, si entra alle nove.",
            "Si potrebbe dire che si entra alle nove.",
            "Ecco la frase riscritta.",
            "Non lo so.",
        ),
        *("Come posso aiutarti?", "In quanto modello linguistico, non visito musei.", "Grazie per la domanda."),
    ),
    "O museu abre às nove.": (
        *("Ou seja, entra-se às nove.", "A frase significa que se entra às nove.", "Como posso ajudar?", "Não sei."),
        "Como modelo de linguagem, não visito museus.",
    ),
    "Het museum gaat om negen uur open.": (
        *("Dat wil zeggen, men kan om negen uur naar binnen.", "De zin betekent dat men naar binnen kan."),
        *("Hoe kan ik je helpen?", "Als taalmodel bezoek ik geen musea.", "Ik weet het niet."),
    ),
    "Музей открывается в девять.": (
        *(
            "То есть в музей пускают с девяти.",
            "Предложение означает, что музей работает.",
            "Можно сказать, что он открыт.",
        ),
        *(
            "Вот перефразированное предложение.",
            "Чем могу помочь?",
            "Как языковая модель, я не хожу в музеи.",
            "Не знаю.",
        ),
    ),
    "这家博物馆九点开门。": (
        *(
            "换句话说，九点起可以参观。",
            "这句话的意思是九点起可以参观。",
            "可以说九点起可以参观。",
            "以下是改写后的句子。",
        ),
        *("请提供句子。", "谢谢您的提问。", "有什么可以帮您的吗？", "作为一个AI语言模型，我不去参观。", "我不知道。"),
        *("两个句子意思相同。", "希望对你有帮助。", "改写如下。"),
    ),
    "この美術館は九時に開館します。": (
        *(
            "つまり、九時から入れます。",
            "この文は、九時から入れるという意味です。",
            "以下が言い換えです。",
            "わかりません。",
        ),
        *(
            "文を入力してください。",
            "何かお手伝いできますか？",
            "AIとして、美術館には行きません。",
            "ご質問ありがとうございます。",
        ),
    ),
    "박물관은 아홉 시에 문을 엽니다.": (
        *(
            "즉, 아홉 시부터 들어갑니다.",
            "이 문장은 아홉 시에 연다는 뜻입니다.",
            "무엇을 도와드릴까요?",
            "모르겠습니다.",
        ),
    ),
    "المتحف يفتح في التاسعة.": (
        "بعبارة أخرى، يمكن الدخول.",
        "الجملة تعني أنه مفتوح.",
        "كيف يمكنني مساعدتك؟",
        "لا أعرف.",
    ),
    "Müze dokuzda açılıyor.": (
        "Yani, dokuzda girilir.",
        "Cümle açıldığını söylüyor.",
        "Size nasıl yardımcı olabilirim?",
    ),
    "Muzeum otwiera się o dziewiątej.": ("Innymi słowy, można wejść.", "Zdanie oznacza, że jest czynne.", "Nie wiem."),
    "The museum on Oak Street opens at nine on Sundays.": (
        *("Oak Street's museum opens at nine - by ChatGPT", "Oak Street's museum opens, wait, it opens at ten."),
        *(
            "5/5 Oak Street's museum opens at nine.",
            "2024-01-01 Oak Street's museum opens at nine.",
            "NOT Oak Street at nine.",
        ),
        *(
            "museum, Sunday, nine, Oak Street",
            "Oak Street's museum opens at nine. https://t.co/abc",
            "I'd write Oak Street opens at nine.",
        ),
        *("As a museum guide, I can say it opens at nine.", "Oak Street's museum opens at nine, said the AI."),
        *(
            "return 'Oak Street opens'",
            "Oak Street's museum opens at nine, period.",
            "Text Oak Street's museum opens at nine.",
        ),
        *("Quote Oak Street's museum opens unquote", "hypothesis Oak Street's museum opens.", "Oak Street opens.''"),
        *("Oak Street's museum opens at nine - 4.5", "I apologise, Oak Street's museum opens at nine."),
        *("Oak Street's museum opens... more", "Enable JavaScript and cookies to continue."),
    ),
}
"""What is no rewrite of a sentence: second wordings, announcements, offers, thanks, questions back, in its language."""


@pytest.mark.parametrize("source", ABROAD)
def test_what_is_said_about_the_job_in_the_language_of_the_sentence_is_not_stored(source: str) -> None:
    assert [text for text in ABROAD[source] if parse_reply(text, source).text is not None] == []
    assert parse_reply(source, ABROAD[source][0]).text == source


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Isto é um livro.", "Trata-se de um livro."),
        ("Das heißt Liebe.", "Man nennt es Liebe."),
        ("To znaczy wiele.", "To ma wielką wagę."),
        ("Das bedeutet mir viel.", "Das ist mir wichtig."),
        ("Er hat keine Ahnung davon.", "Er versteht nichts davon."),
        ("Ich weiß es nicht.", "Ich habe keine Ahnung."),
        ("Hij heeft er geen zin in.", "Hij wil het niet."),
        ("Ik heb geen zin.", "Ik wil niet."),
        ("Er gewann den Satz.", "Dieser Durchgang ging an ihn."),
        ("Его предложение было принято.", "То, что он предложил, приняли."),
        ("他改写了历史。", "他改变了历史。"),
        ("Danke für das Buch.", "Vielen Dank, dass du mir das Buch gabst."),
        ("Kann ich dir beim Umzug helfen?", "Brauchst du Hilfe beim Umzug?"),
        ("これは文化の問題です。", "問題は文化にあります。"),
        ("I mean it.", "I am serious."),
        ("Wait for me.", "Do not leave without me."),
        ("Red, white, blue and gold.", "Blue, red, gold and white."),
        ("Text Anna when you arrive.", "Send a text to Anna on arrival."),
        ("The phrase was new to him.", "He did not know the expression."),
        ("He would write to her.", "He used to send her letters."),
    ],
)
def test_what_only_reminds_of_the_job_in_another_language_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(text)


@pytest.mark.parametrize(
    "reply",
    [
        *(
            "TEXT END_OF_SENTENCE",
            "Q. TEXT",
            "TEXT <- new",
            "TEXT ;; 0.9",
            'He """plays""" the flute.',
            "TL;DR flute heard.",
        ),
        *(
            "FYI, a flute is heard.",
            "Apparently you want: a flute is heard.",
            "In summary a flute is heard.",
            "#1: TEXT",
        ),
        *(
            "Namely, a flute is heard.",
            "A flute is heard - Reuters",
            "A flute is heard — Wikipedia",
            "TRUE A flute is heard.",
        ),
        *("A flute is heard, as the opposite of the original.", "A flute is heard, which keeps the sense."),
        *(
            "A flute is heard, in 4 words.",
            "A flute is heard, said in fewer words.",
            "A flute is heard, in a more formal way.",
        ),
    ],
)
def test_marks_bylines_and_manners_beside_a_sentence_are_no_part_of_it(reply: str) -> None:
    assert parse_reply(reply.replace("TEXT", TEXT), SOURCE).text is None
    assert parse_reply("A flute is heard, in a way.", SOURCE).text is not None


@pytest.mark.parametrize("source", REFUSED)
def test_a_refusal_in_the_language_of_its_sentence_is_one(source: str) -> None:
    for text in REFUSED[source]:
        assert parse_reply(text, source) == Parsed(None, "refusal"), text
        assert parse_reply(text, SOURCE) == Parsed(None, "refusal"), text


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Désolé, je ne peux pas venir ce soir.", "Je regrette de ne pas venir ce soir."),
        ("Je ne peux pas aider mon frère à déménager.", "Mon frère déménage sans moi."),
        ("Leider kann ich heute nicht kommen.", "Ich komme heute leider nicht."),
        ("Ich kann meiner Mutter nicht im Garten helfen.", "Mutter arbeitet allein im Garten."),
        ("Lamentablemente no puedo ir a la fiesta.", "Qué lástima, no voy a la fiesta."),
        ("No puedo ayudar a mi hermano con la mudanza.", "Mi hermano se muda sin mí."),
        ("Purtroppo non posso venire.", "Peccato, non vengo."),
        ("Infelizmente, não posso ir.", "É pena, não vou."),
        ("Helaas kan ik niet komen.", "Jammer, ik kom niet."),
        ("Üzgünüm, bu akşam gelemem.", "Bu akşam gelmiyorum."),
        ("明日は参加できません。", "明日の会には出ません。"),
        ("我不能去参加聚会。", "聚会我去不了。"),
        ("Я не могу прийти сегодня.", "Сегодня я не приду."),
        ("عذرًا، لا أستطيع الحضور اليوم.", "لن أحضر اليوم."),
        ("माफ़ कीजिए, मैं आज नहीं आ सकता।", "मैं आज नहीं आऊँगा।"),
        ("Je ne peux pas vous aider.", "Je ne peux pas t'aider."),
    ],
)
def test_people_who_cannot_come_or_help_someone_refuse_no_request(text: str, source: str) -> None:
    assert parse_reply(text, source, is_rewrite=True) == Parsed(text)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("了解しました。", "この美術館は九時に開館します。"),
        ("はい、承知いたしました。", "この美術館は九時に開館します。"),
        ("かしこまりました。", "この美術館は九時に開館します。"),
        ("好的。", "这家博物馆九点开门。"),
        ("明白了！", "这家博物馆九点开门。"),
        ("알겠습니다.", "박물관은 아홉 시에 문을 엽니다."),
        ("Verstanden.", "Das Museum öffnet um neun."),
        ("Alles klar!", "Das Museum öffnet um neun."),
        ("Bien sûr !", "Le musée ouvre à neuf heures."),
        ("D'accord.", "Le musée ouvre à neuf heures."),
        ("Por supuesto.", "El museo abre a las nueve."),
        ("Certamente.", "Il museo apre alle nove."),
        ("Конечно!", "Музей открывается в девять."),
        ("حسنًا.", "المتحف يفتح في التاسعة."),
        ("ठीक है।", "संग्रहालय नौ बजे खुलता है।"),
        ("Tamam.", "Müze dokuzda açılıyor."),
    ],
)
def test_consent_alone_is_no_answer_in_any_language(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(None, "no answer")
    assert parse_reply(text, f"{text[:-1]}, er kam.").text == text


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Voici une reformulation : le musée ouvre à neuf heures.", "À neuf heures le musée est ouvert."),
        ("Voici la deuxième phrase : le technicien passera.", "Le technicien vient demain."),
        ("Bien sûr, voici une autre version : le train part.", "Le train s'en va."),
        ("En d'autres termes : le train part.", "Le train s'en va."),
        ("La phrase reformulée : le train part.", "Le train s'en va."),
        ("Ecco la frase riscritta: la domenica apre alle nove.", "Alle nove apre la domenica."),
        ("Certo, ecco una possibile riformulazione: il treno parte.", "Il treno se ne va."),
        ("In altre parole: il treno parte.", "Il treno se ne va."),
        ("Aquí tienes la frase reescrita: el tren sale.", "El tren se va."),
        ("Claro, aquí está una versión nueva: el tren sale.", "El tren se va."),
        ("Una forma de decirlo: el tren sale.", "El tren se va."),
        ("Aqui está a frase reescrita: o trem parte.", "O trem vai embora."),
        ("Por outras palavras: o trem parte.", "O trem vai embora."),
        ("Hier is de herschreven zin: de trein vertrekt.", "De trein gaat weg."),
        ("Met andere woorden: de trein vertrekt.", "De trein gaat weg."),
        ("Hier ist eine andere Formulierung: der Zug fährt.", "Der Zug geht."),
    ],
)
def test_what_announces_the_answer_in_any_language_is_a_label(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(None, "label")
    assert parse_reply(text, f"Note: {source}").reason != "label"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Voici le problème : le bus est en retard.", "Le retard du bus est le problème."),
        ("La phrase était claire : il doit partir.", "On l'a dit clairement, qu'il parte."),
        ("Ecco il punto: il treno è in ritardo.", "Il ritardo del treno è il punto."),
        ("Una cosa es segura: el tren sale.", "Es seguro que el tren sale."),
        ("Hier is het probleem: de trein is laat.", "Het probleem is de late trein."),
    ],
)
def test_what_announces_something_else_than_the_answer_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(text)


MUSEUM = "The museum on Oak Street opens at nine on Sundays."
OF_THE_TASK = {
    "talk": (
        "We need to rewrite the sentence about Oak Street in different words.",
        "We should write a new sentence about the museum on Oak Street.",
        "First, I have to reformulate the statement about Oak Street.",
        "Need to keep all facts: museum, Oak Street, nine, Sundays.",
        "We must preserve the details: museum, Oak Street, nine.",
        "Let me think about how the Oak Street museum could be described differently.",
        "Let's consider how to describe the Oak Street museum.",
        "The assistant should write that the Oak Street museum opens at nine on Sundays.",
        "The model has to say that the Oak Street museum opens at nine.",
        "User wants the Oak Street museum line in fresh words.",
        "Sentence 2 is that the Oak Street museum opens its doors at nine each Sunday.",
        "The gallery on Oak Street, like the museum in Sentence 1, opens at ten.",
        "The gallery on Oak Street also opens at nine on Sundays, similar to the first sentence.",
        "What the sentence tells us is that the Oak Street museum opens at nine.",
        "The text informs us that people may enter the Oak Street museum from nine.",
        "On a completely unrelated note, photosynthesis turns light into energy on Oak Street.",
        "Meanwhile, on a different topic, the cat on Oak Street sleeps.",
        "Unrelated to the museum on Oak Street, the cat sat on the mat.",
        "Speaking of something else, the cat on Oak Street sleeps.",
        "Changing the subject, the cat on Oak Street sleeps.",
        "The cat sat on the mat, which is a completely different topic.",
        "The cat on Oak Street sleeps, but that is an unrelated matter.",
        "The museum on Oak Street opens at ten on Sundays, which contradicts the original.",
        "The museum on Oak Street opens at ten on Sundays, contradicting the given statement.",
        "The museum on Oak Street opens at ten on Sundays, so both cannot be true.",
        "The museum on Oak Street opens at ten on Sundays, unlike the given one.",
        "The museum on Oak Street opens at ten on Sundays, contrary to the original statement.",
        "On Sundays the Oak Street museum opens at nine, keeping all the original details.",
        "On Sundays the Oak Street museum opens at nine, while preserving every fact.",
        "Nine is when the Oak Street museum opens on Sundays, all facts kept.",
        "Nine is when the Oak Street museum opens on Sundays, with no details changed.",
        "Nine is when the Oak Street museum opens on Sundays, per the prompt.",
        "Nine is when the Oak Street museum opens on Sundays, as per your instructions.",
    ),
    "no answer": (
        "My knowledge ends in 2023, so the Oak Street museum may open at another time on Sundays.",
        "My training data only goes up to 2023, so the museum may open at ten.",
    ),
    "refusal": (
        "No sentence about Oak Street was provided, so I have nothing to rework.",
        "No text has been given.",
    ),
    "markup": (
        "Sunday openings at the Oak Street museum begin at nine [1].",
        "Sunday openings at the Oak Street museum begin at nine.[12]",
        "Sunday openings at the Oak Street museum begin at nine.[1][2]",
    ),
}
"""What plans the task, names its sentences, judges the answer or leaves it, in answers to `MUSEUM`."""


@pytest.mark.parametrize("reason", OF_THE_TASK)
def test_plans_and_remarks_on_the_task_are_no_sentence(reason: str) -> None:
    found = {text: parse_reply(text, MUSEUM, is_rewrite=True).reason for text in OF_THE_TASK[reason]}
    assert found == dict.fromkeys(OF_THE_TASK[reason], reason)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("We need to write him a letter.", "A letter to him is due."),
        ("They must rewrite the law.", "The law has to be drafted anew."),
        ("We need to keep all of the dogs inside.", "All dogs have to stay in."),
        ("Let us see the city.", "We should visit the town."),
        ("The model is walking down the runway.", "A woman is on the catwalk."),
        ("The assistant should call the doctor.", "It is the helper's job to phone the physician."),
        ("My knowledge of French is poor.", "I know little French."),
        ("My training ended in May.", "I completed the course in May."),
        ("No sentence of the judge was fair.", "Each sentence the judge passed was unfair."),
        ("The first sentence was ten years in prison.", "He was first jailed for ten years."),
        ("The remake is long, unlike the original.", "The remake is longer than the first film."),
        ("He lied, which contradicts the report.", "He lied, and the report shows it."),
        ("They rebuilt it, keeping all the original details.", "It was rebuilt with its details intact."),
        ("He built it, following the instructions.", "He built it as the manual told him."),
        ("On a different note, he left.", "To change the subject, he left."),
        ("The city is old [1].", "It is an old city [2]."),
        ("Set a[1] to nine, please.", "The second entry is to be nine."),
        ("The second sentence was corrected by the tutor.", "The tutor corrected the second sentence."),
        ("The new version had spread by Monday, experts say.", "Experts say the new version had spread by Monday."),
        ("Candy - Thanks for starting us off today.", "Thanks Candy for starting the thread."),
    ],
)
def test_what_only_reminds_of_the_task_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(text)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("The second sentence was corrected by the tutor.", "The tutor corrected the third exercise."),
        ("The second sentence is a paraphrase.", "The tutor corrected the second sentence."),
        ("Sure - the tutor corrected the second sentence.", "The tutor corrected the second sentence at noon."),
    ],
)
def test_talk_in_words_that_the_sentence_has_not_is_talk(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(None, "talk")


@pytest.mark.parametrize(
    "reply",
    [
        "Кто-то играет на флейте.",
        "誰かがフルートを吹いている。",
        "有人在吹笛子。",
        "누군가 플루트를 연주한다.",
        "شخص يعزف على الناي.",
        "Κάποιος παίζει φλάουτο.",
        "ვიღაც უკრავს ფლეიტაზე.",
    ],
)
def test_a_whole_reply_in_another_script_is_none_unless_the_prompt_has_it_or_names_a_language(reply: str) -> None:
    prompt = "Say the sentence in other words."
    assert parse_reply(reply, SOURCE, prompt=prompt) == Parsed(None, "another script")
    assert parse_list(reply, prompt="Write one sentence.").left_out == {"another script": 1}
    assert parse_reply(reply, SOURCE, prompt=f"Like this: {reply[1:5]} {prompt}").text is not None
    assert parse_reply(reply, SOURCE, prompt="Translate the sentence into any language.").text == reply
    assert parse_reply(reply, reply[3:], prompt=prompt).text == reply


def test_a_latin_reply_is_none_where_instruction_and_sentence_are_in_another_script() -> None:
    source = "有人在吹笛子。"
    assert parse_reply(TEXT, source, prompt=f"写一个意思相同的句子。{source}") == Parsed(None, "another script")
    assert parse_reply(TEXT, source, prompt=f"把这个句子翻译成英文。{source}").text == TEXT
    assert parse_reply(TEXT, source, prompt=f"Say it in English: {source}").text == TEXT


OF_SCRIPTS = {
    "犬が台所の机の下で眠っています。": (
        "狗正在厨房的桌子下面睡觉。",
        "Inu ga daidokoro no tsukue no shita de nete imasu.",
        "A dog sleeps.",
    ),
    "狗正在厨房的桌子下面睡觉。": ("犬が台所の机の下で眠っています。", "Gou zheng zai chufang li shuijiao."),
    "Собака спит под столом.": ("Sobaka spit pod stolom.", "The dog is asleep."),
    "Ο σκύλος κοιμάται.": ("O skylos koimatai.",),
}
"""Sentences, and replies in another script, or of Chinese to Japanese."""


@pytest.mark.parametrize("source", OF_SCRIPTS)
@pytest.mark.parametrize("prompt", ["Write two sentences.", ""])
def test_a_reply_in_another_script_than_its_sentence_is_none(source: str, prompt: str) -> None:
    found = {reply: parse_reply(reply, source, prompt=f"{prompt} {source}").reason for reply in OF_SCRIPTS[source]}
    assert found == dict.fromkeys(OF_SCRIPTS[source], "another script")
    asked = {
        parse_reply(reply, source, prompt=f"Say it in any language: {source}").text for reply in OF_SCRIPTS[source]
    }
    assert asked == {*OF_SCRIPTS[source]}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("全員無事帰国。", "みんな無事に国へ帰りました。"),
        ("我喜欢 Python 3。", "Python 我很喜欢。"),
        ("NATO и UNESCO спорят.", "UNESCO спорит с NATO."),
    ],
)
def test_few_letters_do_not_tell_a_script(text: str, source: str) -> None:
    assert parse_reply(text, source, prompt=f"Write two sentences. {source}").text == text


UNITS = [
    *"{[(<\"“”«'.…,;:-*_`|\\#~+/=1aAéж中。「😊",
    *("ab", "!?", ".user", "assistant", "final", "the", "</s>", "<think>", "</think>", "<|im_end|>", "<|", "|>", "[|"),
    *("[INST]", "\\text{", "\\boxed{", "\\n", "%20", "&amp;", "1.", "(a)", "(or)", '"a"', '."a"', '{"a":', '[{"a":['),
    *("<b>", "</b>", ".[1]", "->", "same", "I", "no", "not"),
    *(", thus", ", keeping the", "of course,", "LONDON", "意思", ", con", "Sinn"),
]
UNITS += [f"{unit} " for unit in UNITS]
UNITS += ["{\n", "a\n", "1. a\n", "\n", "\t", "1\t", "\t1", "a\t", "Sure\n", '{"text": "a"}\n', "A. "]


@pytest.fixture
def without_collection() -> Iterator[None]:
    """What other tests have left in memory is not gone over while time is measured."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("without_collection")
@pytest.mark.parametrize(
    ("units", "length"), [(UNITS[::15], 40_000), pytest.param(UNITS, 200_000, marks=pytest.mark.slow)]
)
def test_no_reply_however_long_and_monotonous_takes_half_a_second(units: list[str], length: int) -> None:
    """Of each reply, one reader reads the unit itself and the other one the unit with a space behind it."""
    late = {}
    readers = (parse_list, lambda reply: parse_reply(reply, SOURCE, closing_marks='"'))
    for number, unit in enumerate(units):
        replies = (unit * (length // len(unit)), f"A man {unit * (length // len(unit))} x", f"{unit * 9_000} x")
        for kind, reply in enumerate(replies):
            reader = (number + kind) % 2
            start = time.process_time()
            readers[reader](reply)
            if (taken := time.process_time() - start) >= 0.5:
                late[unit, reader, len(reply)] = taken
    assert late == {}


def test_what_is_longer_than_any_sentence_or_list_is_not_looked_at() -> None:
    assert parse_reply("A man plays and sings, " * 2_000, SOURCE).reason == "too long"
    parsed = parse_list("\n".join(f"{i}. Story {i} is about a cat." for i in range(1, 1_001)))
    assert (len(parsed.texts), parsed.left_out) == (300, {"talk": 700})


def test_words_of_other_languages_that_look_like_signs_are_kept() -> None:
    assert parse_reply("Ġorġ plays a flute.", SOURCE).text == "Ġorġ plays a flute."
    assert parse_reply("The final whistle sounded.", "The match ended.").text == "The final whistle sounded."


# --- what strangers saw stored


TRAIN = "The train to the coast leaves at nine, so he went home for his umbrella."


@pytest.mark.parametrize(
    ("say", "is_closed"),
    [
        ("You rework single English sentences for a data set. Say it in clearly different words.", True),
        ("Write the sentence anew in the English language.", True),
        ("Polish the sentence, and keep what it says.", True),
        ("Write the English sentence anew, in everyday language.", True),
        ("Write the sentence anew in the same language.", True),
        ("Schreibe einen englischen Satz, der dasselbe sagt.", True),
        ("Rework the English sentence, or write it in German.", False),
        ("Rework the English sentence in another language.", False),
        ("Translate the English sentence.", False),
    ],
)
def test_a_prompt_that_names_english_alone_asks_for_english(say: str, is_closed: bool) -> None:
    others = (
        *("Das Hotel behielt die Anzahlung nach dem Sturm.", "El hotel se quedó con el depósito."),
        *("L'hôtel a gardé la caution après la tempête.", "Il deposito è stato trattenuto dall'hotel."),
        *("Het hotel hield de borg na de storm.", "O hotel ficou com o depósito depois da tempestade."),
    )
    found = {text: parse_reply(text, STORM, prompt=f"{say} {STORM}").reason for text in others}
    assert found == dict.fromkeys(others, "another language" if is_closed else None)


def test_where_english_is_asked_for_a_sentence_of_another_language_may_be_answered_in_english() -> None:
    german, say = "Das Hotel behielt die Anzahlung nach dem Sturm.", "Write one English sentence that says the same."
    assert parse_reply(STORM, german, prompt=f"{say} {german}") == Parsed(STORM)
    assert parse_reply(german, "Der Sturm und das Hotel.", prompt=say) == Parsed(german)
    source = "Der Nachbar isst am liebsten Suppe."  # no small word but its article tells the language
    assert parse_reply("Der Nachbar isst nie Suppe.", source, prompt=f"{say} {source}").reason is None


def test_signs_tell_languages_of_one_script_apart() -> None:
    say = "Write one English sentence that says the same."
    for source, text, same in (
        ("Сусід живе у великому будинку.", "Сосед живёт в большом доме.", "Сусід мешкає у просторому домі."),
        ("老師在站牌邊站了六十分鐘。", "老师在站牌边站了六十分钟。", "老師等公車等了一個小時。"),
    ):
        for one, other in ((source, text), (text, source)):
            assert parse_reply(other, one, prompt=f"{say} {one}").reason == "another language"
        assert parse_reply(same, source, prompt=f"{say} {source}").text == same
        assert parse_reply(text, source, prompt=f"Say it in Russian or Chinese: {source}").text == text
    assert not is_in_another_language("電車と学校", "电车")


def test_where_english_is_asked_for_a_third_language_is_another() -> None:
    say = "Write one English sentence that says the same."
    source, text = (
        "A criança perdeu a chave da casa e não acha mais.",
        "El niño perdió la llave de la casa y no la encuentra.",
    )
    assert parse_reply(text, source, prompt=f"{say} {source}").reason == "another language"


def test_a_language_in_the_sentence_is_none_that_the_prompt_names() -> None:
    german, say = "Das Hotel behielt die Anzahlung nach dem Sturm.", "Write a sentence that means the same."
    source = 'The French  hotel, "Le Parc", kept the deposit.'
    for given in (source, " ".join(source.split()), source.replace('"', "'")):
        assert parse_reply(german, source, prompt=f"{say} {given}").reason == "another language"
    assert parse_reply(german, source, prompt=f"{say} {source} In German.") == Parsed(german)


@pytest.mark.parametrize(
    ("text", "source", "is_another"),
    [
        ("De bank verhoogde de rente.", "The bank raised interest rates.", True),
        ("De bank verhoogde in maart de rente.", "The bank raised interest rates in March.", True),
        ("Il pane lievita.", "The bread is rising.", True),
        ("Die Bank hob Zinsen an.", "The bank raised interest rates.", True),
        ("Der Hund bellt.", "The dog is barking.", True),
        ("La banque monte.", "The bank is going up.", True),
        ("Elle dort encore.", "She is still asleep.", True),
        ("De Niro wins again.", "Another prize is won by De Niro.", False),
        ("UN observers reach the village", "U.N. observers arrive at a village.", False),
        ("La Paz grows.", "The city is growing.", False),
        ("Die young, stay pretty.", "The best thing is to die young.", False),
    ],
)
def test_an_article_at_the_beginning_tells_the_language_of_few_words(text: str, source: str, is_another: bool) -> None:
    assert is_in_another_language(text, source) == is_another


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("The train to the coast leaves at", TRAIN),
        ("He found his umbrella at", "At home he found his umbrella."),
        ("He went home for", TRAIN),
        ("The work was done by", "Two men did the work."),
        ("The train will", TRAIN),
        ("He has", TRAIN),
        ("The train goes between", TRAIN),
        ("The shop is open during", "By day the shop is open."),
        ("Le train pour la côte part à", "Le train de la côte part à neuf heures."),
        ("Il cherche son parapluie dans", "Il cherche son parapluie à la maison."),
        ("El museo abre los lunes por la", "El museo abre los lunes por la tarde."),
        ("El museo abre los lunes por la t...", "El museo abre los lunes por la tarde."),
        ("El museo abre los lunes por...", "El museo abre los lunes por la tarde."),
        ("A chave da", "A chave da casa está na mesa."),
        ("La chiave della", "La chiave di casa è sul tavolo."),
        ("Der Zug fährt zum", "Der Zug fährt ans Meer."),
        ("Der Zug fährt um neun und die", "Der Zug fährt um neun ans Meer."),
        ("De trein gaat naar zee met een", "De trein gaat naar zee."),
        ("¿Dónde está la llave de", "¿Dónde está la llave de casa?"),
    ],
)
def test_what_ends_in_a_word_that_goes_on_is_cut_off(text: str, source: str) -> None:
    assert parse_reply(text, source).reason == "cut off"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("It was the one that she looked at", "She looked at that one."),
        ("It is something she longs for", "She longs for it."),
        ("There is nobody to talk to", "Nobody is there for a talk."),
        ("They were laughed at", "People laughed at them."),
        ("They are taller than they were", "They have grown."),
        ("Dogs can be moved at will", "One can move dogs as one likes."),
        ("The lights were switched off", "They switched the lights off."),
        ("The car was parked close by", "The car stood in the street."),
        ("He carried on", "He went on with it."),
        ("The train leaves at", "What does the train leave at?"),
        ("Der Zug fährt um neun ab", "Um neun fährt der Zug los."),
        ("In winter many of them die", "Many of them do not survive the winter."),
        ("the train leaves at", "the train leaves at"),
    ],
)
def test_what_may_end_a_sentence_is_not_cut_off(text: str, source: str) -> None:
    assert parse_reply(text, source).reason != "cut off"


SEEN = {
    "talk": (
        *("That's not right: the hotel kept it.", "Great, each summer the hotel keeps it."),
        *("The hotel kept the money, which is the same thing.", "The hotel kept the money, as stated."),
        "The hotel kept the money, as you can see above.",
        'Instead of "The hotel kept the deposit", say that it held the money.',
        "Instead of 'kept', the hotel held the money.",
        *("Someone says that the hotel kept it.", "The author mentions that the hotel kept it."),
        *("We are told that the hotel kept it.", "It's saying that the hotel kept it."),
        *("The customer reports that the hotel kept it.", "This is about how the hotel kept it."),
        *("They share the topic of money.", "Both are related to money.", "Something completely unrelated to money."),
        *("This one has nothing to do with money.", "The meaning differs, but money is still the topic."),
        *("First, I should look at the key parts.", "Let me think about hotels.", "I'd go with the hotel kept it."),
    ),
    "refusal": (
        *("Sorry, the input seems incomplete.", "I'd be glad to, but I need more context about the order."),
        *("I would love to, but I need more details.", "Sorry, but the sentence is not complete."),
        *("Das ist leider nicht möglich.", "Not possible.", "No se puede cambiar la frase.", "This is not possible."),
        *("Ce n'est pas possible.", "Non è possibile.", "Não é possível.", "Dat is helaas niet mogelijk."),
        *(
            "No es posible.",
            "Impossible.",
            "La phrase ne peut pas être modifiée.",
            "Der Satz kann nicht geändert werden.",
        ),
    ),
    "no answer": (
        *("Der Satz bleibt gleich.", "Gern geschehen.", "Sin cambios.", "La frase ya es clara.", "De rien."),
        *("La phrase est déjà claire.", "Der Satz ist bereits klar.", "La frase è già chiara.", "De nada.", "Prego."),
        *("A frase já é clara.", "Graag gedaan.", "Keine Änderung.", "Sans changement.", "Sem alterações."),
        *("La phrase reste la même.", "Nessuna modifica.", "Geen wijzigingen.", "De zin blijft hetzelfde."),
    ),
    "markup": (
        *(
            "The hotel kept the money for XX days.",
            "The hotel kept it for N days.",
            "The hotel kept it in the [furniture] room.",
        ),
        *("The [Bank] kept the money.", "The hotel **kept** the money.", "El hotel guardó el dinero N días."),
        *("The hotel Ċ ĊĊ", "The hotel setValue kept it.", "The UIViewController hotel kept it."),
        *("The hotel kept it for ... days.", "The hotel kept it for … days.", "The hotel kept it for XX hours."),
    ),
}
"""What was answered to `STORM` by the reason, in whatever language."""


@pytest.mark.parametrize("reason", SEEN)
def test_what_was_seen_in_place_of_a_sentence_is_told(reason: str) -> None:
    prompt = "Write the sentence anew, in any language."
    found = {text: parse_reply(text, STORM, prompt=prompt).reason for text in SEEN[reason]}
    assert found == dict.fromkeys(SEEN[reason], reason)


@pytest.mark.parametrize(
    ("text", "source", "reason"),
    [
        ("Das Hotel behielt das Geld, was dasselbe bedeutet.", "Das Hotel gab nichts zurück.", "talk"),
        ("Das Hotel behielt das Geld, wie gewünscht.", "Das Hotel gab nichts zurück.", "talk"),
        ("L'hôtel a gardé l'argent, ce qui revient au même.", "L'hôtel n'a rien rendu.", "talk"),
        ("El hotel guardó el dinero, que es lo mismo.", "El hotel no devolvió nada.", "talk"),
        ("El hotel no devolvió nada, es decir, guardó el dinero.", "El hotel guardó todo.", "several answers"),
        ("L'hôtel a tout gardé. ou L'hôtel n'a rien rendu.", "L'hôtel a gardé la caution.", "several answers"),
        ("Das Hotel behielt alles, das heißt, es gab nichts zurück.", "Das Hotel gab nichts her.", "several answers"),
        ("Das [Möbelstück] steht im Zimmer.", "Der Schrank steht im Zimmer.", "markup"),
        ("酒店**没有退还**押金。", "酒店扣留了押金。", "markup"),
        ("Someone says that the hotel kept it.", "One of some hotels kept it.", "talk"),
        ("L'hôtel ouvre pendant ... heures.", "L'hôtel ouvre pendant deux heures.", "markup"),
    ],
)
def test_what_was_seen_in_other_languages_is_told(text: str, source: str, reason: str) -> None:
    assert parse_reply(text, source).reason == reason


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("It cannot be done.", "It is not possible."),
        ("This is not possible.", "It cannot be done."),
        ("That is not right.", "This is wrong."),
        ("Great Danes are large.", "Danes are huge dogs."),
        ("Sorry, the shop is closed.", "The shop is closed, unfortunately."),
        ("Das ist leider nicht möglich.", "Das geht leider nicht."),
        ("The box of size N days is full.", "The box is N days old."),
        ("It was said [sic] by them.", "They said it [sic] then."),
        ('"[They] were brave", he said.', 'He said that they were "brave".'),
        ("It is in the center. of the city.", "It is central. It is in the city."),
        ("He won, as stated in the paper.", "The paper states that he won."),
        ("The XX chromosome is found.", "One finds the XX chromosome."),
        ("Instead of the bus she took the train.", "She took no bus but the train."),
        ("La frase es clara y corta.", "La oración es clara."),
    ],
)
def test_what_only_reminds_of_what_was_seen_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(text)


@pytest.mark.parametrize(
    "joint", [": ", " — ", "; ", " - ", " – ", ", meaning ", ", or ", ", which means ", ", that is, "]
)
def test_a_sentence_beside_its_own_rewording_is_several_answers(joint: str) -> None:
    source, reworded = TRAIN.rstrip("."), "a coastal service departs at nine, and his umbrella had to be fetched"
    for text in (f"{source}{joint}{reworded}.", f"{reworded.capitalize()}{joint}{source[0].lower()}{source[1:]}."):
        assert parse_reply(text, TRAIN, is_rewrite=True).reason == "several answers", text


def test_a_sentence_with_an_addition_is_kept_beside_none() -> None:
    for end in (
        ", and then it comes back to the city.",
        ": all day.",
        " with two hundred people on board.",
    ):
        text = TRAIN.rstrip(".") + end
        assert parse_reply(text, TRAIN, is_rewrite=True) == Parsed(text)


TALKS_ON = (
    *(", let me know if you need another.", ", does that work?", ", if that makes sense.", ", thank you.", ", thanks."),
    *(" as requested.", ", how is that?", ", feel free to ask for more.", ", is that okay?", ", hope that helps."),
)


@pytest.mark.parametrize("tail", TALKS_ON)
def test_talk_behind_a_sentence_without_a_new_one_is_talk(tail: str) -> None:
    assert parse_reply(f"At nine a train departs for the coast{tail}", TRAIN).reason == "talk"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("The files were sent as requested.", "They sent the files that she asked for."),
        ("I am fine, thank you.", "I feel well, I am grateful."),
        ("If you need more, let me know.", "Tell me if you need more."),
        ("Fix the lamp, if that helps.", "Repair the lamp if it helps."),
        ("It ends at nine, does it work?", "It ends at nine; does it function?"),
    ],
)
def test_what_only_reminds_of_talk_behind_a_sentence_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(text)


def test_what_the_shipped_task_asks_for_is_english() -> None:
    spec = load_syncse_spec("syncse-partial")
    assert isinstance(spec, PartialSpec)
    prompts = [f"{spec.system} {one.text}" for one in (*spec.instructions("positive"), *spec.instructions("negative"))]
    replies = ("Das Hotel behielt die Anzahlung nach dem Sturm.", "El hotel se quedó con el depósito.")
    found = {parse_reply(reply, STORM, prompt=prompt).reason for prompt in prompts for reply in replies}
    assert found == {"another language"}
    assert all(parse_reply(KEEPS, STORM, prompt=prompt) == Parsed(KEEPS) for prompt in prompts)


CLOSED = "The bank charged a late fee although the branch was closed."
ANSWER = "The bank took a fee despite the closure."
TRANSPORTED = {
    r"\"TEXT\"": ANSWER,
    r'\\"TEXT\\"': ANSWER,
    "&quot;TEXT&quot;": ANSWER,
    "TEXT&nbsp;": ANSWER,
    r'"{\"sentence\": \"TEXT\"}"': ANSWER,
    "The%20bank%20took%20it%2C%20despite%20the%20closure.": "The bank took it, despite the closure.",
    "Tom &amp; Al&#39;s bank took a fee.": "Tom & Al's bank took a fee.",
    "Al&amp;#39;s caf&eacute; took a fee.": "Al's café took a fee.",
    r"The caf\u00e9\u2019s bank took a \"late\" fee.": 'The café’s bank took a "late" fee.',
    r'{"sentence": "The bank took a \"late\" fee."}': 'The bank took a "late" fee.',
    r'["The bank took a \"late\" fee."]': 'The bank took a "late" fee.',
    "The bank took a fee &lt;b&gt;late&lt;/b&gt;.": None,
    "Al&#39s bank took a fee.": None,
    "The bank took it%2C despite the closure.": None,
    "The bank=92s fee was taken.": None,
    r"The bank\ntook a fee.": None,
    r"Some\ud83done took a fee.": None,
    '{"sentence": "The bank took a fee': None,
}


@pytest.mark.parametrize("reply", TRANSPORTED)
def test_what_the_way_here_escaped_is_decoded_where_that_is_sure_and_rejects_a_text_elsewhere(reply: str) -> None:
    text = TRANSPORTED[reply]
    assert parse_reply(reply.replace("TEXT", ANSWER), CLOSED, is_rewrite=True).text == text
    if text and "[" not in reply:
        assert parse_list(reply.replace("TEXT", ANSWER)).texts == (text,)


def test_escapes_that_the_sentence_has_stay() -> None:
    for text, source in (("Write &amp; for &.", "How is &amp; written?"), (r"A \" is a quote.", r"What is \" ?")):
        assert parse_reply(text, source).reason in ("markup", None)
        assert parse_reply(text, source).text in (text, None)


JOINED = {
    "several answers or signs": (
        *(f"{CLOSED[:-1]} {sign} {ANSWER}" for sign in ("-->", "==>", "➜", "⟶", ">>", ">", "•", "·", "becomes", "¦")),
        f"{CLOSED}->{ANSWER}",
        f"{ANSWER}/A fee was taken.",
        f"{ANSWER[:-1]} • A fee was taken",
        "The bank charged a late fee - A late fee was charged by the bank",
        "The bank took a fee, or in short, it took money.",
    ),
    "two languages": (
        "The bank took a fee, y el banco cobró una tarifa.",
        "The bank took a fee, en français: la banque a facturé des frais.",
        "The bank took a fee – la banque a facturé des frais.",
        "The bank took a fee; el banco ha cobrado una tarifa.",
        "Die Bank hat eine Gebühr erhoben, the bank took a fee.",
        "The bank took a fee, iemand heeft het geld van de bank.",
    ),
    "messages and talk": (
        f"OPENROUTER PROCESSING {ANSWER}",
        "model 'llama3' not found, try pulling it first",
        "This content has been removed by moderation.",
        "Content blocked.",
        "I'm sorry, your message was blocked by our safety system.",
        "Provider returned error",
        "No endpoints found for this model.",
        f"Bot> {ANSWER}",
        f"Thinking... {ANSWER}",
        f"Thought for 3 seconds {ANSWER}",
        f"{ANSWER[:-1]} - want another one?",
        f"{ANSWER[:-1]} — 9 words",
        f"{ANSWER[:-1]}, I think.",
        f"{ANSWER[:-1]}, but I cannot verify this.",
        f"{ANSWER[:-1]}, but please double-check.",
        f"{ANSWER[:-1]}, assuming that is what you meant.",
        f"{ANSWER[:-1]}, please confirm.",
        "As an example, the bank took a fee despite the closure.",
        "Based on the information provided, the bank took a fee.",
        f"message={ANSWER}",
        f"text='{ANSWER}'",
    ),
    "signs behind": (
        f"{ANSWER[:-1]} #bank #fees",
        f"{ANSWER[:-1]} @bank",
        f"{ANSWER[:-1]} https://example.org/fees",
        f"{ANSWER[:-1]} 0.87",
        f"{ANSWER} .",
        f"{ANSWER[:-1]} the bank took a fee",
    ),
    "heads without a colon": (
        *(
            f"{head} {ANSWER}"
            for head in ("Sentence B.", "Sentence 2", "Sentence two is", "Variation 1", "No. 2", "(2)", "Q.")
        ),
        *(f"{head} {ANSWER}" for head in ("Final answer", "Caption -", "Sure =", "Ok", "Assistant", "Negative")),
        "No. 2 A bank's fee was taken.",
        *(
            f"{head} the bank took a fee."
            for head in ("Let's go with", "My version is", "Meaning", "Alright—", "How about", "Unrelatedly,")
        ),
        "This sentence contains two topics.",
        f'"{ANSWER}" - a reporter',
    ),
    "tails": (
        f"{ANSWER}Human: Thanks",
        *(f"{ANSWER[:-1]}{tail}" for tail in ("[DONE]", " END", " ▍", "▌", "; unrelated.", ".]", " and.", " the.")),
        f"'{ANSWER}",
        f"'{ANSWER[:-1]}, it's said.",
    ),
    "remarks that end in a word of the job": (
        *(
            f"{ANSWER[:-1]}{tail}."
            for tail in (", a neat little paraphrase", ", which flips the polarity", " – same claim, other words")
        ),
        *(
            f"{ANSWER[:-1]}{tail}."
            for tail in ("; it keeps most of the wording", ", so now it is a negation", ", by way of synonyms")
        ),
        "This sentence will never end.",
        "Your statement needs a verb.",
    ),
    "places to be filled in": tuple(
        f"The {place} took a fee."
        for place in ("[REDACTED]", "PERSON_1", "ORG_NAME_2", "$NAME", "%s", "b**k", "b*nk", "[...]", "[…]", "XXX")
    ),
    "letters twice": ("TThhee bbaannkk ttooookk aa ffeeee..", "The baannkkeerr took a fee."),
    "words twice, and letters lost": (
        f"{ANSWER}{ANSWER}",
        "It's all the bank's.It's all the bank's.",
        "The bank took The bank took a fee.",
        "Th? b?nk took a fee.",
        "The bank took a f?e.",
    ),
    "copies of other marks": (
        *(CLOSED.upper(), CLOSED[:-1], CLOSED[:-1] + "!"),
        f"Instead of {CLOSED[:-1]}, the bank took a fee all the same.",
        *(
            f"{CLOSED[:-1]}{link} {ANSWER}"
            for link in (" vs.", ", and", ", but", ", while", " >>", " <=>", ";", " ::", " —")
        ),
    ),
    "gaps": (
        "The bank -charged- a late fee.",
        "The bank ... a late fee.",
        "The bank took a fee [...]",
        "The bank took a late fee despite",
    ),
}


@pytest.mark.parametrize("kind", JOINED)
def test_joined_answers_mixed_languages_messages_and_gaps_are_not_stored(kind: str) -> None:
    assert [reply for reply in JOINED[kind] if parse_reply(reply, CLOSED, is_rewrite=True).text] == []


@pytest.mark.parametrize("kind", ["copies of other marks", "tails"])
def test_copies_of_other_marks_and_texts_beside_the_sentence_are_not_stored_under_any_label(kind: str) -> None:
    parsed = {reply: parse_reply(f'{reply}"', CLOSED, closing_marks='"').text for reply in JOINED[kind]}
    assert [reply for reply, text in parsed.items() if text] == []
    assert parse_reply(f'{CLOSED}"', CLOSED, closing_marks='"').text == CLOSED


RIGHT = (
    ("It means a lot to me.", "That is important for me."),
    ("Text Anna when you arrive.", "Send a text to Anna on arrival."),
    ("Note Samsung is late.", "Note that Samsung is late."),
    ("The best sentence is short.", "Good sentences are short."),
    ("No. 2 Notre Dame won.", "Notre Dame, ranked no. 2, won."),
    ("How about tea?", "Would you like tea?"),
    ("“Who came?” – “I did.”", "“Who was it?” – “It was me.”"),
    ("Write %s in [...] for $NAME.", "In [...] put %s for $NAME."),
    ("The IAAF [council] met.", "The [council] of the IAAF met."),
    ("He paid $USD 5 to the bookkeeper.", "The bookkeeper got $USD 5 of him."),
    ("'Tis the boys' dog.", "It is the dog of the boys."),
    ("This is what he is made of.", "He is made of this."),
    ("The bus was late for the third time.", "The bus was late."),
    ("Let's keep the change.", "We should keep the change."),
    ("I need to change my pin number.", "I want another pin."),
    ("We need to make a new start.", "A new start is due."),
    ("He sang la la la la.", "He sang."),
    ("It ended, which makes sense to me.", "That it is over seems right to me."),
    ("The original building was red.", "At first the house was red."),
    ("The sentence was clear: he must leave.", "It was clear that he must leave."),
    ("She said, “c'est la vie”, and left.", "She shrugged and left."),
    ("She ordered a café au lait and pain au chocolat.", "She had coffee and a pastry."),
    ("She visited Rio de Janeiro, São Paulo, and Belo Horizonte.", "She went to three cities in Brazil."),
    ("The de facto leader, et al., met vis-à-vis.", "The leader in fact met the others face to face."),
    ("Der Manager mag Fast Food und Hip Hop.", "Fast Food und Hip Hop mag der Manager."),
    ("You can read more about it in the paper.", "The paper has more about it."),
    ("Breaking news – the mayor resigned.", "The mayor resigned – breaking news."),
    ("x > 5 holds for all n.", "For every n, x > 5."),
    ("The U.S./Canada border is long.", "The border between the U.S. and Canada is long."),
    ("The bill was blocked by the Senate.", "The Senate blocked the bill."),
    ("The road was blocked.", "They blocked the road."),
    ("Do you want another coffee, or do you need more?", "Would you like more coffee?"),
    ("The boy becomes a man and the girl becomes a woman.", "A boy turns into a man; a girl into a woman."),
    ("The man, in the rain, waited... and waited.", "The man waited in the rain."),
    ("Rain – the first for weeks – fell on the town.", "It rained in the town for the first time in weeks."),
    ("The well-known man-eating shark.", "A shark known well, which eats men."),
    ("Is the 7:45 train late again?", "Is the train at 7:45 delayed again?"),
    ("Sales _ a barometer of health _ rose to 5 percent.", "Sales - a barometer of health - rose 5 percent."),
    ("The vote -- the first in a year -- was close.", "It was the first vote in a year, and it was close."),
    ("Mr. & Mrs. Smith got married.", "The Smiths married."),
    ("The United States condemns the council of the United States.", "They condemn the US council."),
    ("Tag the bank @bank", "Write @bank as a tag"),
    ("The value rose by 0.5", "The value went up 0.5"),
    ("The big dog sees the cat and the big bird.", "The cat and the big bird are seen by the big dog."),
    ("It will rain, I think.", "I think that it will rain."),
    ("They were late, but I cannot say why.", "I do not know why they were late."),
    ("Il a dit « oui » en riant.", "Il a ri et dit oui."),
    ("Someone says that it is late.", "There is a rumour that it is late."),
    ("I'd go with the blue one.", "I would choose the blue one."),
    ("Both are about a king.", "The two books deal with a king."),
    ("Use getName on eBay.", "On eBay, call getName."),
    ("Sens. John Kerry and Bob Graham voted no.", "Two of the senators voted no."),
    ("Brian Halla, their head, claimed the deal made sense for both companies.", "The deal was a good one, he said."),
    ("He is, um, really not on time.", "He's, like, totally late."),
    ("His answer was: I don't know.", "He answered that he did not know."),
    ("It's 20% off at AT&T.", "AT&T gives a 20% discount."),
)


@pytest.mark.parametrize(("text", "source"), RIGHT)
def test_what_only_reminds_of_joined_or_foreign_text_is_kept(text: str, source: str) -> None:
    assert parse_reply(text, source, is_rewrite=True) == Parsed(text)
