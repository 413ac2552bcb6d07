"""How likely a server says a text is: three ways of asking, and servers that get it wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dino_st.backends.chat import ChatReply, ChatRequest
from dino_st.backends.openai import OpenAIChat
from dino_st.backends.servers.scoring import WAYS, TextScore, score_of
from dino_st.errors import ConfigurationError, ModelError
from tests.hostile_server import MODEL, HostileServer, Script, hostile_server
from tests.scoring_server import ScoringServer

PROMPT = 'Task: Write two sentences that mean the same thing.\nSentence 1: "It rains."\nSentence 2: "'
TEXT = 'Rain falls."'
WORDS_AND_MARKS = r" ?\w+|[^\w\s]|\s"


pytestmark = pytest.mark.usefixtures("asking_this_machine")


@contextmanager
def served(model: ScoringServer, script: Script = lambda prompt, attempt: "ok") -> Iterator[tuple[OpenAIChat, Any]]:
    with hostile_server(script, respond=model.respond) as server:
        yield client(server), server


def client(server: HostileServer, **options: Any) -> OpenAIChat:
    fast = {"backoff_seconds": 0.001, "longest_wait_seconds": 0.05, "timeout": 20.0, "max_retries": 2}
    return OpenAIChat(MODEL, base_url=server.url, **fast | options)


def asked(text: str = TEXT, prompt: str = PROMPT) -> ChatRequest:
    return ChatRequest(f"score {text}", prompt, max_new_tokens=1, answer=text)


def scored(backend: OpenAIChat, text: str = TEXT) -> TextScore:
    [reply] = backend.complete([asked(text)])
    assert reply.failure is None
    return TextScore.of(reply.text or "")


@pytest.mark.parametrize("way", WAYS)
def test_each_way_gives_the_sum_over_the_texts_own_tokens(way: str) -> None:
    model = ScoringServer(way, pattern=WORDS_AND_MARKS)
    with served(model) as (backend, _):
        assert backend.find_scoring() == way
        score = scored(backend)
        assert score.num_tokens == len(["Rain", " falls", ".", '"'])
        assert score.log_prob == pytest.approx(model.score(PROMPT, TEXT), abs=1e-9)
        assert scored(backend, 'Rain fell."').log_prob != score.log_prob


def test_the_first_way_that_works_is_looked_for_once() -> None:
    model = ScoringServer("grammar", "prompt_logprobs", pattern=WORDS_AND_MARKS)
    with served(model) as (backend, _):
        for number in range(3):
            scored(backend, f'Rain {number}."')
        assert backend.find_scoring() == "prompt_logprobs"
    assert model.asked == {"echo": 2, "prompt_logprobs": 2 + 3}


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_server_for_which_a_text_is_as_likely_behind_any_prompt_is_refused(value: float) -> None:
    def spoil(reply: dict[str, Any]) -> None:
        if logprobs := reply["choices"][0]["logprobs"]:
            logprobs["token_logprobs"] = [value for _ in logprobs["tokens"]]

    model = ScoringServer("echo", pattern=WORDS_AND_MARKS, spoil=spoil)
    with served(model) as (backend, _), pytest.raises(ConfigurationError, match="echo: a text is exactly as likely"):
        backend.find_scoring()


def test_a_way_in_which_a_server_breaks_the_connection_leaves_the_reasons_of_the_others() -> None:
    def script(prompt: str, attempt: int) -> str:
        return "reset" if "tokenize" in prompt else "ok"

    tried = "tried echo: the reply holds no .* grammar: no connection to"
    with served(ScoringServer(), script) as (backend, _), pytest.raises(ConfigurationError, match=tried):
        backend.find_scoring()


def test_a_server_that_says_no_log_probabilities_is_refused_with_what_is_needed() -> None:
    with served(ScoringServer()) as (backend, _):
        needed = (
            r"does not say how likely .* \(tried echo: .* prompt_logprobs: .* grammar: .*404.* Start vLLM, .*leave --"
        )
        with pytest.raises(ConfigurationError, match=needed):
            backend.complete([asked()])


def test_a_server_that_is_not_there_is_not_taken_for_one_that_cannot() -> None:
    with hostile_server(lambda prompt, attempt: "ok") as server:
        url = server.url
    backend = OpenAIChat(MODEL, base_url=url, max_retries=1, backoff_seconds=0.001)
    with pytest.raises(ModelError, match="no connection to 127"):
        backend.find_scoring()


def _without(reply: dict[str, Any]) -> object:
    return reply["choices"][0].update(logprobs=None, prompt_logprobs=None)


def _at(place: int, value: object) -> Callable[[dict[str, Any]], object]:
    """Puts a value in the place of a token's log-probability, counted from the end of the text."""

    def spoil(reply: dict[str, Any]) -> None:
        if "completion_probabilities" in reply:
            reply["completion_probabilities"][place]["logprob"] = value
        elif reply["choices"][0]["logprobs"]:
            reply["choices"][0]["logprobs"]["token_logprobs"][place - 1] = value
        elif reply["choices"][0].get("prompt_logprobs"):
            next(iter(reply["choices"][0]["prompt_logprobs"][place].values()))["logprob"] = value

    return spoil


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "value", [None, float("nan"), float("-inf"), -9999.0, -1.7976931348623157e308, 3.0, "-1", True]
)
def test_a_token_without_a_log_probability_makes_no_score(way: str, value: object) -> None:
    model = ScoringServer(way, pattern=WORDS_AND_MARKS)
    with served(model) as (backend, _):
        backend.find_scoring()
        model.spoil = _at(-2, value)
        assert scored(backend) == TextScore(None, fault="a token of the text has no finite log-probability")


def test_an_impossible_token_of_the_prompt_is_none_of_the_text() -> None:
    model = ScoringServer("echo", pattern=WORDS_AND_MARKS, spoil=_at(-6, None))
    with served(model) as (backend, _):
        assert scored(backend).log_prob == pytest.approx(model.score(PROMPT, TEXT))


def _echo(change: Callable[[list[Any], list[Any]], object]) -> Callable[[dict[str, Any]], object]:
    def spoil(reply: dict[str, Any]) -> None:
        if logprobs := reply["choices"][0]["logprobs"]:
            change(logprobs["tokens"], logprobs["token_logprobs"])

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _without,
        _echo(lambda tokens, values: tokens.clear()),
        _echo(lambda tokens, values: values.pop()),
        _echo(lambda tokens, values: [part.__delitem__(slice(0, -1)) for part in (tokens, values)]),
        _echo(lambda tokens, values: [part.__delitem__(slice(0, 4)) for part in (tokens, values)]),
        _echo(lambda tokens, values: [part.__delitem__(slice(-2, -1)) for part in (tokens, values)]),
        _echo(lambda tokens, values: tokens.__setitem__(slice(None), [token.strip() for token in tokens])),
        _echo(lambda tokens, values: tokens.__setitem__(slice(None), [7] * len(tokens))),
        lambda reply: reply["choices"][0].update(logprobs={"content": [{"token": "so", "logprob": -1.0}]}),
        lambda reply: reply["choices"].clear(),
    ],
    ids=[
        *("no log-probabilities", "no tokens", "fewer numbers than tokens", "no prompt", "a prompt cut on the left"),
        *("fewer tokens than text", "other tokens", "tokens that are no text", "another form", "no choices"),
    ],
)
def test_a_server_whose_echo_does_not_fit_is_refused(spoil: Callable[[dict[str, Any]], object]) -> None:
    model = ScoringServer("echo", pattern=WORDS_AND_MARKS, spoil=spoil)
    with served(model) as (backend, _), pytest.raises(ConfigurationError, match="does not say how likely a given text"):
        backend.find_scoring()


def test_offsets_are_not_believed() -> None:
    def spoil(reply: dict[str, Any]) -> None:
        reply["choices"][0]["logprobs"]["text_offset"] = [-3, 9000, None]

    model = ScoringServer("echo", pattern=WORDS_AND_MARKS, spoil=spoil)
    with served(model) as (backend, _):
        assert scored(backend).log_prob == pytest.approx(model.score(PROMPT, TEXT))


def test_a_server_that_writes_other_tokens_than_its_grammar_says_is_refused() -> None:
    model = ScoringServer("grammar", pattern=WORDS_AND_MARKS)
    model.spoil = lambda reply: reply.get("completion_probabilities", [0]).pop()
    with served(model) as (backend, _), pytest.raises(ConfigurationError, match="does not write the tokens that its"):
        backend.find_scoring()


def test_a_token_with_the_end_of_the_prompt_in_it_counts_as_the_texts() -> None:
    tokens = [b"Say", b": ", b'"Ra', b"in", b'."', b"!"]
    score = score_of(tokens[:-1], [None, -8.0, -1.0, -0.5, -0.25], 'Say: "', 'Rain."')
    assert (score.log_prob, score.num_tokens) == (-1.75, 3)


def test_special_tokens_before_a_prompt_are_no_part_of_it() -> None:
    tokens = [b"<s>", b"Say", b': "', b"So", b'."']
    assert score_of(tokens, [None, -1.0, -2.0, -4.0, -8.0], 'Say: "', 'So."').log_prob == -12.0


def test_a_character_in_several_tokens_is_counted_with_all_of_them() -> None:
    prompt, text = 'He says: "', '🎉 é."'
    like_vllm = ["He", " says", ":", ' "', "", "", "🎉", " é", '."']
    values = [None, -1.0, -1.0, -1.0, -4.0, -2.0, -1.0, -0.5, -0.25]
    of_bytes = [*like_vllm[:4], r"bytes:\xf0\x9f", r"bytes:\x8e", r"bytes:\x89", *like_vllm[7:]]
    for tokens in (like_vllm, of_bytes):
        reply = {"tokens": [*tokens, " so"], "token_logprobs": [*values, -9.0], "text_offset": [0] * 10}

        def spoil(content: dict[str, Any], reply: dict[str, Any] = reply) -> None:
            if content["choices"][0]["logprobs"] and "says" in "".join(content["choices"][0]["logprobs"]["tokens"]):
                content["choices"][0]["logprobs"] = reply

        with served(ScoringServer("echo", pattern=WORDS_AND_MARKS, spoil=spoil)) as (backend, _):
            [answer] = backend.complete([asked(text, prompt)])
            score = TextScore.of(answer.text or "")
            assert (score.log_prob, score.num_tokens) == (-7.75, 5)


def test_llama_cpp_says_nothing_of_a_character_in_several_tokens() -> None:
    with served(ScoringServer("grammar", pattern=WORDS_AND_MARKS)) as (backend, _):
        assert scored(backend, 'Füße."') == TextScore(None, fault="a character of the text lies in several tokens")


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset", "truncated"])
def test_a_fault_that_passes_changes_no_score(fault: str) -> None:
    model = ScoringServer("echo", pattern=WORDS_AND_MARKS)
    script: Script = lambda prompt, attempt: fault if attempt == 1 else "ok"  # noqa: E731
    with served(model, script) as (backend, _):
        replies: list[ChatReply] = backend.complete([asked(f'Rain {number}."') for number in range(5)])
        numbers = [TextScore.of(reply.text or "").log_prob for reply in replies]
        assert numbers == [pytest.approx(model.score(PROMPT, f'Rain {number}."')) for number in range(5)]
        assert [reply.attempts for reply in replies] == [2] * 5
