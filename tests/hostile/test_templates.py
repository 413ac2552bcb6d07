"""Chat templates of every kind: the same prompt every day, or words that name the way out."""

from __future__ import annotations

import copy
import json
import logging
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from dino_st.backends.local import LocalWriter
from dino_st.backends.local_chat import LocalChat
from dino_st.builder import DinoDatasetBuilder
from dino_st.errors import ModelError, OutputError
from dino_st.tasks.prompts import ChatTemplate

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


def templated(tokenizer: Any, template: Any) -> Any:
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = template
    return chat


def set_clock(monkeypatch: pytest.MonkeyPatch, day: datetime) -> None:
    """Lets transformers believe that it is another day."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return day

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


DATED = {
    "by strftime_now": ("{{ strftime_now('%d %B %Y') }}" + TURNS, "26 July 2024<user>"),
    "by strftime_now, short": ("{{ strftime_now('%Y-%m-%d') }}" + TURNS, "2024-07-26<user>"),
    "by strftime_now, if there": (
        "{% if strftime_now is defined %}{% set d = strftime_now('%a %e %b') %}{{ d }}{% endif %}" + TURNS,
        "Fri 26 Jul<user>",
    ),
    "in a macro": ("{% macro day() %}{{ strftime_now('%j') }}{% endmacro %}{{ day() }}" + TURNS, "208<user>"),
    "handed in": ("{{ date_string if date_string is defined else strftime_now('%y') }}" + TURNS, "26 Jul 2024<user>"),
}


@pytest.mark.parametrize("kind", DATED)
def test_a_template_that_tells_the_date_makes_the_same_prompt_tomorrow(
    kind: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, beginning = DATED[kind]
    rendered = []
    for day in (datetime(2026, 11, 27), datetime(2027, 3, 4, 5, 6)):
        set_clock(monkeypatch, day)
        made = ChatTemplate(templated(tokenizer, template))
        assert made.tells_date
        rendered.append((made.render("Hello.", 'Say "'), made.sha256))
    assert rendered[0] == rendered[1]
    assert rendered[0][0].startswith(beginning)
    assert rendered[0][0].endswith('Hello.<assistant>Say "')


TAKEN = {
    "plain": (TURNS, '<user>Hello.<assistant>Say "', "<system>Mind.<user>"),
    "parts": (
        "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}",
        '<user>Hello.<assistant>Say "',
        "<system>Mind.<user>",
    ),
    "parts by number": (
        "{% for m in messages %}<{{ m.role }}>{{ m['content'][0]['text'] + '' }}{% endfor %}",
        '<user>Hello.<assistant>Say "',
        "<system>Mind.<user>",
    ),
    "no system turn": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}{% endfor %}",
        '<user>Hello.<assistant>Say "',
        None,
    ),
    "a system turn that is left out": (
        "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}",
        '<user>Hello.<assistant>Say "',
        None,
    ),
    "one line of each turn": (
        "{% for m in messages %}<{{ m.role }}>{{ m.content|replace('\\n', ' ') }}{% endfor %}",
        '<user>Hello.<assistant>Say "',
        "<system>Mind.<user>Hello.",
    ),
    "several, one by default": ({"default": TURNS, "tools": "{{ 1 }}"}, '<user>Hello.<assistant>Say "', "<system>"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_template_is_rendered_as_it_takes_its_turns(kind: str, tokenizer: Any) -> None:
    template, rendered, with_system = TAKEN[kind]
    made = ChatTemplate(templated(tokenizer, template))
    assert made.render("Hello.", 'Say "') == rendered
    assert made.takes_system == (with_system is not None)
    assert not made.tells_date
    if with_system:
        assert made.render("Hello.", 'Say "', "Mind.").startswith(with_system)


UNUSABLE = {
    "drops the answer": (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
        "leaves out or changes the answer",
    ),
    "drops the user": ("{% for m in messages if m.role != 'user' %}{{ m.content }}{% endfor %}", "leaves out the user"),
    "raises": ("{{ raise_exception('Only for tools!') }}" + TURNS, "Only for tools!"),
    "ends in a user's turn": (
        "{% if messages[-1].role != 'user' %}{{ raise_exception('Last turn must be user.') }}{% endif %}" + TURNS,
        r"Last turn must be user\. Choose",
    ),
    "syntax": ("{% for m in messages %}{{ m.content }}", "TemplateSyntaxError"),
    "undefined": ("{{ bos.eos.pad }}" + TURNS, "UndefinedError"),
    "arithmetic": ("{{ 1 / 0 }}" + TURNS, "ZeroDivisionError"),
    "reaches out": ("{{ messages.__class__.__mro__[1].__subclasses__() }}" + TURNS, "SecurityError"),
    "several without a default": ({"tools": TURNS, "rag": TURNS}, "ValueError"),
    "chance": ("{{ range(10**5)|random }}" + TURNS, "makes another chat of the same turns each time"),
    "empty turns": (" ", "leaves out or changes the answer"),
    "shouts": ("{% for m in messages %}<{{ m.role }}>{{ m.content|upper }}{% endfor %}", "leaves out or changes"),
    "keeps the first line": (
        "{% for m in messages %}{{ m.content.split('\\n')[0] }}{% endfor %}",
        "cuts or changes a user",
    ),
    "keeps 60 characters": ("{% for m in messages %}{{ m.content[:60] }}{% endfor %}", "cuts or changes a user"),
    "truncates": ("{% for m in messages %}{{ m.content|truncate(500) }}{% endfor %}", "cuts or changes a user"),
    "raises at once": (
        "{{ raise_exception('Only for tools!') }}",
        r"(?:refuses a chat of user and assis.*for|TemplateError: Only for) tools!",
    ),
}


@pytest.mark.parametrize("writer", [LocalWriter, LocalChat])
@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_template_that_cannot_be_used_names_the_way_out(
    kind: str, writer: Any, make_model: Any, tokenizer: Any
) -> None:
    template, words = UNUSABLE[kind]
    model = (make_model("llama"), templated(tokenizer, template))
    with pytest.raises(
        ModelError, match=rf"(?s)chat template of .* cannot be used: .*(?:{words}).*--prompt-format raw"
    ):
        writer(model)
    assert writer(model, prompt_format="raw").prompt_format == "raw"


@pytest.mark.parametrize(
    ("template", "marks"),
    [
        (
            "<|start_header_id|>{{ m.role }}<|end_header_id|>\n{{ m.content }}<|eot_id|>",
            r"<\|start_header_id\|>, <\|end_h",
        ),
        ("<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>", r"<\|im_start\|>, <\|im_end\|>, which"),
        ("<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>", "<start_of_turn>, <end_of_turn>, which"),
        ("[INST]{{ m.content }}</s>", "</s>, which"),
        ("<｜{{ m.role }}｜>{{ m.content }}", "<｜system｜>, <｜user｜>, <｜assistant｜>, which"),
        ("<|{{ m.role }}|>{{ m.content }}<|endoftext|>", ""),
        ("[INST] {{ m.content }} [/INST]", ""),
    ],
)
def test_control_tokens_of_another_family_in_a_template_are_told(
    template: str, marks: str, make_model: Any, tokenizer: Any, recwarn: pytest.WarningsRecorder
) -> None:
    whole = "{% for m in messages %}" + template + "{% endfor %}"
    LocalWriter((make_model("llama"), templated(tokenizer, whole)))
    told = [str(warning.message) for warning in recwarn if "ordinary text" in str(warning.message)]
    assert [re.search(f"writes {marks}.*reads as ordinary text", one) is not None for one in told] == [True] * bool(
        marks
    )
    recwarn.clear()
    marked = copy.deepcopy(tokenizer)
    own = [*re.findall(r"<[|\w/]+>", template), "<｜user｜>", "<｜assistant｜>", "<｜system｜>"]
    marked.add_special_tokens({"additional_special_tokens": own})
    assert ChatTemplate(templated(marked, whole)).strange_marks == ()


@pytest.mark.parametrize(
    ("template", "is_told"),
    [
        ("{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}", True),
        ("{{ bos_token }}{% for m in messages %}<|user|>{{ m.content }}{% endfor %}", True),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", False),
        (TURNS, False),
        (
            "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}"
            "{% endif %}{% endfor %}",
            False,
        ),
        (
            "{% for m in messages %}{% if (m.role == 'user') != loop.first %}{{ raise_exception('No!') }}{% endif %}"
            "[INST] {{ m.content }} [/INST]{% endfor %}",
            False,
        ),
    ],
)
def test_a_template_that_writes_the_answers_turn_like_a_users_is_told(
    template: str, is_told: bool, make_model: Any, tokenizer: Any, recwarn: pytest.WarningsRecorder
) -> None:
    LocalWriter((make_model("llama"), templated(tokenizer, template)))
    assert any("writes an answer's turn like a user's" in str(one.message) for one in recwarn) == is_told


def test_control_tokens_that_a_vocabulary_has_and_the_tokenizer_does_not_read_are_told(tokenizer: Any) -> None:
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["model"]["vocab"]["<|im_end|>"] = len(tokenizer)
    pieces = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token="<|endoftext|>"
    )
    chat = templated(pieces, "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    assert "<|im_end|>" in chat.get_vocab()
    assert ChatTemplate(chat).strange_marks == ("<|im_end|>",)


def test_a_template_that_fails_on_one_text_says_so_too(tokenizer: Any) -> None:
    template = (
        "{% for m in messages %}{% if 'cat' in m.content %}{{ raise_exception('No cats.') }}{% endif %}{% endfor %}"
    )
    made = ChatTemplate(templated(tokenizer, template + TURNS))
    with pytest.raises(ModelError, match=r"No cats\. Choose --prompt-format raw"):
        made.render("A cat.", '"')


def generate(model: Any, directory: Path) -> dict[str, Any]:
    builder = DinoDatasetBuilder(model, batch_size=12, max_new_tokens=24, top_k=60)
    assert len(builder.generate(["A man sings.", "Dogs run."], output_dir=directory))
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
    return manifest


def forget(directory: Path, *names: str) -> None:
    """Makes a manifest one of before these parts of the configuration were kept."""
    manifest = json.loads((directory / "manifest.json").read_text())
    for name in names:
        del manifest["configuration"][name]
    (directory / "manifest.json").write_text(json.dumps(manifest))


def test_the_rendered_probe_is_part_of_a_runs_configuration(
    tmp_path: Path, make_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("llama"), templated(tokenizer, TURNS)
    assert len(generate(model, tmp_path)["configuration"]["template_sha256"]) == 64
    generate(model, tmp_path)
    render = ChatTemplate.render

    def changed(self: ChatTemplate, *turns: str, **roles: str) -> str:
        return render(self, *turns, **roles).replace("<user>", "<User>")

    monkeypatch.setattr(ChatTemplate, "render", changed)
    with pytest.raises(OutputError, match=r"the chat template of model .* has changed"):
        generate(model, tmp_path)


def test_a_directory_begun_before_the_probe_goes_on_unless_its_template_told_the_date(
    tmp_path: Path, make_model: Any, tokenizer: Any
) -> None:
    plain, dated = (templated(tokenizer, text) for text in (TURNS, "{{ strftime_now('%Y') }}" + TURNS))
    assert "template_date" not in generate((make_model("llama"), plain), tmp_path / "plain")["configuration"]
    forget(tmp_path / "plain", "template_sha256")
    generate((make_model("llama"), plain), tmp_path / "plain")
    assert generate((make_model("llama"), dated), tmp_path / "dated")["configuration"]["template_date"] == "2024-07-26"
    forget(tmp_path / "dated", "template_sha256", "template_date")
    with pytest.raises(OutputError, match="template_date was none, now '2024-07-26'"):
        generate((make_model("llama"), dated), tmp_path / "dated")


@pytest.mark.parametrize("writer", [LocalWriter, LocalChat])
def test_what_auto_chose_is_said_once_with_how_to_compare(
    writer: Any, make_model: Any, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="dino_st"):
        writer((make_model("llama"), templated(tokenizer, TURNS)))
        writer((make_model("llama"), tokenizer))
        writer((make_model("llama"), tokenizer), prompt_format="raw")
    said = [record.getMessage() for record in caplog.records if "prompted" in record.getMessage()]
    assert len(said) == 2
    assert "prompted by its chat template" in said[0]
    assert "to compare, write some texts with --prompt-format raw" in said[0]
    assert "with raw text, since its tokenizer has no chat template" in said[1]
