from __future__ import annotations

import pytest

from dino_st.backends.answers.comparison import repeats
from dino_st.backends.answers.faults import count_sentences, fault_of, is_refusal, warn_of_passages
from dino_st.backends.answers.markup import out_of_json, plain_text
from dino_st.backends.answers.parsing import Parsed, parse_list, parse_reply
from dino_st.generation.chat import LINE_LABELS
from dino_st.support.text import normal_form
from dino_st.tasks.spec import TaskSpec
from dino_st.tasks.syncse import PartialSpec, load_syncse_spec

SOURCE = "A man plays a flute."
INSTRUCTION = "Say the following sentence again in other words, and change nothing of what it means."


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("Someone plays the flute.", "Someone plays the flute."),
        ("  Someone plays\tthe   flute. \n\n", "Someone plays the flute."),
        ('"Someone plays the flute."', "Someone plays the flute."),
        ("“Someone plays the flute.”", "Someone plays the flute."),
        ("'It's someone's flute.'", "It's someone's flute."),
        ('"Someone plays the flute.', "Someone plays the flute."),
        ('Someone plays the flute."', "Someone plays the flute."),
        ('"Xaver plays.', "Xaver plays."),
        ('This is X"', "This is X"),
        ('"He said "no" and left."', 'He said "no" and left.'),
        ('"Yes" and "no" were heard.', '"Yes" and "no" were heard.'),
        ('"No," he said.', '"No," he said.'),
        ("1. Someone plays the flute.", "Someone plays the flute."),
        ("1) Someone plays the flute.", "Someone plays the flute."),
        ("- Someone plays the flute.", "Someone plays the flute."),
        ("• “Someone plays the flute.”", "Someone plays the flute."),
        ("**Someone plays the flute.**", "Someone plays the flute."),
        ("*Someone plays the flute.*", "Someone plays the flute."),
        ("`Someone plays the flute.`", "Someone plays the flute."),
        ("```\nSomeone plays the flute.\n```", "Someone plays the flute."),
        ("Paraphrase: Someone plays the flute.", "Someone plays the flute."),
        ("**Rewritten sentence:** Someone plays the flute.", "Someone plays the flute."),
        ('Output: "Someone plays the flute."', "Someone plays the flute."),
        ("Sure, here is a paraphrase: Someone plays the flute.", "Someone plays the flute."),
        ("Sure! Here's a rewritten version of your sentence:\n\nSomeone plays the flute.", "Someone plays the flute."),
        ("Certainly!\nSomeone plays the flute.", "Someone plays the flute."),
        ("Here is one possible way:\n1. **“Someone plays the flute.”**", "Someone plays the flute."),
        ("Someone plays the flute.\n\nNote: I kept the meaning.", "Someone plays the flute."),
        ("Someone plays the flute.\n(This sentence says the same.)", "Someone plays the flute."),
        ("Someone plays the flute.\nLet me know if you need more!", "Someone plays the flute."),
        ("Sentence: A man plays a flute.\nRewritten: Someone plays the flute.", "Someone plays the flute."),
        ("<think>He plays. So…</think>\nSomeone plays the flute.", "Someone plays the flute."),
        ("The sentence was clear: he must leave.", "The sentence was clear: he must leave."),
        ("Here is the thing: the bus is late.", "Here is the thing: the bus is late."),
        ("J. Smith plays the flute.", "J. Smith plays the flute."),
        ("I cannot hear the flute.", "I cannot hear the flute."),
        ("I'm sorry for your loss.", "I'm sorry for your loss."),
    ],
)
def test_what_a_model_puts_around_a_sentence_is_taken_off(reply: str, text: str) -> None:
    assert parse_reply(reply, SOURCE, prompt=INSTRUCTION).text == text


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty"),
        (' \n "" \n', "empty"),
        ("…!", "empty"),
        ("I cannot paraphrase this sentence.", "refusal"),
        ("I can’t help with that.", "refusal"),
        ("I cannot.", "refusal"),
        ("I'm sorry, but I can't assist with that request.", "refusal"),
        ("As an AI language model, I do not play the flute.", "refusal"),
        ("I'm sorry, as an AI I have no hands.", "refusal"),
        ("I am unable to rewrite this.\nIt may be harmful.", "refusal"),
        ("“Sorry, I won't write that.”", "refusal"),
        ("Please provide the sentence you would like me to rewrite.", "refusal"),
        ("Someone plays the flute.\nA flute is played by a man.", "several lines"),
        ("1. Someone plays the flute.\n2. The flute is played.", "several lines"),
        ("A man plays a flute.", "echo"),
        ('"a man PLAYS a flute"', "echo"),
        ("A man plays a flute.\nA man plays a flute.", "echo"),
        ("Sentence: A man plays a flute.", "echo"),
        (INSTRUCTION, "echo of the prompt"),
        ("say the following sentence again in other words: a man", "echo of the prompt"),
        ("The train was late again.", "copy of an example"),
        ("<think>What could this", "cut off"),
    ],
)
def test_a_reply_that_is_no_answer_has_a_reason(reply: str, reason: str) -> None:
    parsed = parse_reply(reply, SOURCE, prompt=INSTRUCTION, examples=["The train was late again."])
    assert parsed.reason == reason
    assert parsed.text is None


def test_the_labels_of_the_prompt_are_taken_off() -> None:
    for reply in (
        "New: Someone plays.",
        "**New**: Someone plays.",
        "**New:** “Someone plays.”",
        f"given: {SOURCE}\nnew: Someone plays.",
    ):
        assert parse_reply(reply, SOURCE, labels=("Given:", "New:")).text == "Someone plays."
    assert parse_reply("New: laws come.", "New: a law comes.", labels=("New:",)).text == "New: laws come."


def test_another_example_behind_an_answer_is_no_part_of_it() -> None:
    reply = "Someone plays.\n\nGiven: The dog barks.\nNew: Barking is what it does."
    assert parse_reply(reply, SOURCE, labels=("Given:", "New:")).text == "Someone plays."
    assert parse_reply("Given: The dog barks.\nNew: It barks.", SOURCE, labels=("Given:", "New:")).reason == "label"


def test_a_reply_that_hit_the_token_limit_is_cut_off() -> None:
    assert parse_reply("Someone plays the", SOURCE, finished=False).reason == "cut off"


def test_what_the_sentence_itself_has_is_left_in_the_reply() -> None:
    assert parse_reply("Result: the visitors won.", "Result: the guests won.").text == "Result: the visitors won."
    assert parse_reply("2. Add the flour.", "1. Stir in the flour.").text == "2. Add the flour."
    assert parse_reply("I can't help with that.", "I cannot help with this.").text == "I can't help with that."


def test_a_list_of_sentences_comes_apart() -> None:
    reply = """Sure! Here are five sentences:

    1. "The bus was late again."
    2. **Rain fell all night.**
       - I waited for an hour.
    3) “She sold the old house.”

    Let me know if you would like more."""
    assert parse_list(reply).texts == (
        "The bus was late again.",
        "Rain fell all night.",
        "I waited for an hour.",
        "She sold the old house.",
    )


@pytest.mark.parametrize("number", ["{} - ", "{} ", "{}/2 ", "{}️⃣ ", "{},", "{}、", "#{}: ", "**{}.** ", "{}. *"])
def test_what_counts_the_lines_of_a_list_is_a_number_in_any_form(number: str) -> None:
    texts = ("The bus was late again.", "Rain fell all night.")
    assert (
        parse_list(
            "\n".join(number.format(i) + text + "*" * number.endswith(" *") for i, text in enumerate(texts, 1))
        ).texts
        == texts
    )


def test_a_number_that_the_sentence_has_is_none_of_a_list() -> None:
    assert parse_reply("1. FC Köln hat verloren.", "Der 1. FC Köln verlor.").text == "1. FC Köln hat verloren."


def test_a_script_that_the_sentence_has_not_does_not_go_on_behind_the_answer() -> None:
    assert parse_reply("Someone plays.请提供下一个句子。", SOURCE).reason == "another script"
    assert parse_reply("Someone plays 长笛.", "A man plays 长笛.").text == "Someone plays 长笛."
    assert parse_reply("我喜欢 Python。", "Python 我很喜欢。").text == "我喜欢 Python。"


def test_a_list_may_be_plain_lines_or_json() -> None:
    expected = ("The bus was late.", "Rain fell all night.")
    assert parse_list("The bus was late.\n\nRain fell all night.\n").texts == expected
    assert parse_list('```json\n["The bus was late.", "Rain fell all night."]\n```').texts == expected


def test_what_is_left_out_of_a_list_is_counted_by_reason() -> None:
    reply = "1. The bus was late.\n2. Yes.\n3. As an AI, I know no bus.\nIn between, a word.\n4. ...\n5. Rain fell all"
    parsed = parse_list(reply, finished=False)
    assert parsed.texts == ("The bus was late.",)
    assert parsed.left_out == {
        "cut off": 1,
        "too few words": 1,
        "refusal": 1,
        "not in the list": 1,
        "empty": 1,
    }
    assert parse_list("").left_out == {"empty": 1}


@pytest.mark.parametrize(
    ("reply", "texts", "left_out"),
    [
        ("Dogs bark loudly.\nYes, no.", ["Dogs bark loudly."], {"too few words": 1}),
        ("Sure!\nDogs bark a lot.\nCats do not.\nLet me know!", ["Dogs bark a lot.", "Cats do not."], {"talk": 2}),
        ("<think>What", [], {"cut off": 1}),
        ("Dogs bark.\n1. Cats do not.\n2) Birds do not.\nFish do not.", ["Fish do not."], {
            "numbering": 2,
            "too few words": 1,
        }),
        ("1. The bus was late.", ["The bus was late."], {}),
        ("2. The bus was late.", [], {"numbering": 1}),
        ("The bus was\nlate again.\nRain fell all night.", ["Rain fell all night."], {"several lines": 2}),
        ("It was X\nand so it went\nRain fell all night.", ["Rain fell all night."], {"several lines": 2}),
        ("The bus was late.\nand it rained hard.", ["The bus was late.", "and it rained hard."], {}),
        ("a. The bus was late\nb. Rain fell all night", ["The bus was late", "Rain fell all night"], {}),
        ("1. The bus was late.\nWell, then.\n2. Yes.\nSo then.\n3. No.\n4. It was dark.", [
            "The bus was late.",
            "It was dark.",
        ], {"not in the list": 2, "too few words": 2}),
        ("Say the following sentence again in other words.\nCats do not.", ["Cats do not."], {"echo of the prompt": 1}),
    ],
)  # fmt: skip
def test_an_entry_of_a_list_is_a_text_or_counted(reply: str, texts: list[str], left_out: dict[str, int]) -> None:
    parsed = parse_list(reply, prompt=INSTRUCTION)
    assert parsed.texts == tuple(texts)
    assert parsed.left_out == left_out


@pytest.mark.parametrize(
    ("first", "text"), [("The", None), ("My", None), ("The text:", "Milk is drunk."), ("My answer", "Milk is drunk.")]
)
def test_a_line_that_is_a_sentences_first_word_is_no_announcement(first: str, text: str | None) -> None:
    assert parse_reply(f"{first}\nMilk is drunk.", "A cat drinks milk.").text == text


@pytest.mark.parametrize(
    ("text", "is_paired"),
    [
        ('He said "no" twice.', True),
        ("He said “no” twice.", True),
        ("Er sagt „nein“ laut.", True),
        ('She stands where "u2" is written.', True),
        ('A 5" nail is beside a "nut".', True),
        ('A 5" nail is beside a "nut.', False),
        ('He gave a"no" twice.', False),
        ('He said "no"a bit.', False),
        ('"Yes" and "no"a bit.', False),
    ],
)
def test_quotation_marks_stand_in_pairs_around_words(text: str, is_paired: bool) -> None:
    assert fault_of(text) == (None if is_paired else "unmatched quotation mark")


@pytest.mark.parametrize(
    ("label", "reply", "reason"),
    [
        ("New", "New laws come.", None),
        (":", "Go home with me: now.", None),
        ("A", "A dog barks.", None),
        ("Line 1", "Line 1 is short.", None),
        ("Zweitens:", "So gut. Zweitens: Er spielt.", "label"),
    ],
)
def test_what_may_be_a_word_of_the_sentence_is_no_label(label: str, reply: str, reason: str | None) -> None:
    parsed = parse_reply(reply, SOURCE, labels=[label])
    assert (parsed.text, parsed.reason) == (None if reason else reply, reason)


def test_one_word_is_enough_unless_more_are_asked_for() -> None:
    assert parse_reply("Flutes.", "She sells flutes.").text == "Flutes."
    assert parse_reply("Flutes.", SOURCE).reason == "no answer"  # of five words
    assert fault_of("Yes.") is None
    assert parse_reply("Flutes.", "She sells flutes.", min_words=2).reason == "too few words"
    assert (parse_reply("Yes.", SOURCE).reason, parse_reply("Yes.", "That is right.").text) == ("no answer", "Yes.")


def test_tags_with_attributes_wrap_an_answer_and_those_of_the_sentence_stay() -> None:
    assert parse_reply('<answer id="1" lang="a:b">He plays.</answer>', SOURCE).text == "He plays."
    assert parse_reply("<seed:answer>He plays.</seed:answer>", SOURCE).text == "He plays."
    assert parse_reply("<answer> is a tag.", "What is <answer>?").text == "<answer> is a tag."


@pytest.mark.parametrize(
    ("text", "longest", "is_repeated"),
    [
        ("one two three four five k l m n o p q", 5, True),
        ("k l m n o p q one two three four five", 5, True),
        ("one two three four k l m n o p q r", 5, False),
        ("k l m n o one two three p q r s t", 5, False),
        ("one two three four five six seven k l m", None, True),
        ("one two three four five six k l m n", None, False),
    ],
)
def test_a_text_repeats_what_most_of_it_or_a_long_run_of_it_repeats(
    text: str, longest: int | None, is_repeated: bool
) -> None:
    assert repeats(text, ["One, two, three, four, five, six, seven!"], longest=longest) == is_repeated


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("<think>So he</think>He plays", "He plays"),
        ("<think>Or <answer>she</answer>?</think>He plays", "He plays"),
        ("Some talk<|channel|>final<|message|>He plays", "He plays"),
        ("<answer>He plays</answer> Good?", "He plays"),
        ("<answer>He plays.</answer><answer>She plays.</answer>", "He plays.\nShe plays."),
        ("He plays<|im_end|>", "He plays"),
        (r"\boxed{She plays.} or \boxed{He plays.}", "He plays."),
        ("<|im_start|>assistant\nThe big model: fast.", "The big model: fast."),
    ],
)
def test_tokens_count_where_they_are_expected(reply: str, text: str) -> None:
    assert plain_text(reply) == (text, True)


def test_a_sentence_that_the_prompt_shows_may_be_kept_in_part() -> None:
    text = "Today a man plays a flute."
    assert parse_reply(text, SOURCE, prompt=f"{INSTRUCTION} {SOURCE}").text == text


def test_an_answer_ends_where_another_example_begins() -> None:
    labels = ("Task:", "Given:", "New:")
    assert parse_reply("He plays.\nGiven: She sings.\nNew: She hums.", SOURCE, labels=labels).text == "He plays."
    assert parse_reply(f"Given: {SOURCE}", SOURCE, labels=labels).reason == "echo"
    assert parse_reply('"He plays." "She plays."', SOURCE, closing_marks='"').reason == "several answers"
    for end in ".!?":  # which may stand behind the mark that closes the text
        assert parse_reply(f'The flute is played"{end}', SOURCE, closing_marks='"').text == f"The flute is played{end}"


def test_a_quotation_that_goes_on_is_cut_off() -> None:
    assert parse_reply('He got a "B', SOURCE, finished=False, closing_marks=('"',)).reason == "cut off"


def test_answers_in_json_go_by_the_one_name_that_answers_have() -> None:
    reply = """[{"Sentence 1": "A."}, {"new-sentence": "B."}, {"newX": "C."}, {"id": 1}, {"answer": {"text": "D."}},
        {"text": "a", "sentence": "b"}]"""
    assert out_of_json(reply) == ["A.", "B.", None, None, "D.", None]


def test_comparisons_see_words_alone() -> None:
    assert normal_form(" “It’s—naïve” ﬁne,\nNO? ") == "it's naïve fine no"


def test_marks_around_a_sentence_that_has_marks_of_its_own_are_taken_off() -> None:
    assert parse_reply('"He said "no" and left."', SOURCE).text == 'He said "no" and left.'
    assert parse_reply('"Yes" and "no" were heard', SOURCE).text == '"Yes" and "no" were heard'
    assert parse_reply("''", SOURCE).reason == "empty"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (f"Given: {SOURCE}", "echo"),
        ("Given: The dog barks.", "label"),
        (f"Given: {SOURCE}\nGiven: The dog barks.", "label"),
    ],
)
def test_what_an_earlier_label_of_the_prompt_announces_is_no_answer(reply: str, reason: str) -> None:
    assert parse_reply(reply, SOURCE, labels=("Given:", "New:")).reason == reason


def test_a_pair_of_the_models_own_is_counted_as_several_answers() -> None:
    labels = ["Sentence 1:", "Sentence 2:"]
    for reply in ('"The cat sleeps."\n"A cat is asleep."', 'The cat sleeps."\nSentence 2: "A cat is asleep."'):
        assert parse_reply(reply, SOURCE, labels=labels, closing_marks='"').reason == "several answers"


def test_a_label_whose_word_the_sentence_has_is_not_taken_off() -> None:
    for reply, has_it, has_not in (
        ("Sentence: Four years in jail.", "The sentence is four years.", "He gets four years."),
        ("Maybe: The bus is late.", "One option is that the bus comes late.", "The bus comes late."),
    ):
        assert parse_reply(reply, has_it) == Parsed(None, "label")
        assert parse_reply(reply, has_not) == Parsed(reply.partition(": ")[2])


def test_sentences_are_counted() -> None:
    texts = (
        "He came",
        "He came. She left.",
        "He came! She left. It rained.",
        "他来了。她走了。下雨了。",
        "he came. she left.",
    )
    assert [count_sentences(text) for text in texts] == [1, 2, 3, 3, 2]
    assert count_sentences("See fig. A and no. 5 of it.") == 1


def test_a_sentence_about_inability_is_no_refusal() -> None:
    assert not is_refusal("I cannot swim, and neither can she.")
    assert not is_refusal("I can't answer the phone now.")
    assert not is_refusal("The council will not provide any money.")
    assert is_refusal("I cannot provide that.")
    assert is_refusal(' “*"I cannot provide that."*”')


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ('A man plays."', "A man plays."),
        ('A man plays." They are similar. "Yes', "A man plays."),
        ('"A man plays."', "A man plays."),
        (' Sentence 2: "A man plays."\n', "A man plays."),
        ("“A man plays.”", "A man plays."),
        ("A man plays.", None),
        ('"A man plays.', None),
        ('A man\nplays."', None),
        ('""', None),
        ("", None),
        ("A man plays.” They", "A man plays."),
        ("“A man plays.” They", "A man plays."),
        ('A man plays."Yes', "A man plays."),
        ('A man plays. "', "A man plays."),
        ('A man plays. " They', "A man plays."),
        ("He said “no” and left.” They “do”", "He said “no” and left."),
        ('**"X plays."**', "X plays."),
        ('**Sentence 2:** **"X plays."**', "X plays."),
        ('He said, "no" and left." Yes', 'He said, "no" and left.'),
        ('"He is late," she said." Yes', '"He is late," she said.'),
        ('"Hey Jude" is played by a man."', '"Hey Jude" is played by a man.'),
        ('"Playing a flute" is what he does.', None),
        ('A man plays a 12" flute."', 'A man plays a 12" flute.'),
        ('A man is 6\'2" and plays."', "A man is 6'2\" and plays."),
        ('A flute," is what he plays."', None),
        ('A man plays the "flute" badly."', 'A man plays the "flute" badly.'),
        ('A man plays what he calls a "flute"."', 'A man plays what he calls a "flute".'),
        ('A man says "I play" and smiles."', 'A man says "I play" and smiles.'),
        ('It is one. "A man plays."', None),
        ('Sentence 1: "The cat sleeps."\nSentence 2: "A cat is asleep."', None),
        ('"The cat sleeps."\n"A cat is asleep."', None),
        ('"The cat sleeps." "A cat is asleep."', None),
        ('The cat sleeps."\nSentence 2: "A cat is asleep."', None),
        (f'Sentence 1: "{SOURCE}"\nSentence 2: "A man plays."', "A man plays."),
        ('A man plays."\n\nTask: Go on.\nSentence 1: "The cat sleeps."\nSentence 2: "A cat', "A man plays."),
        ('He got a "B', None),
        (SOURCE + '"', SOURCE),
        (SOURCE.replace("a f", "a | f") + '"', None),
    ],
)
def test_a_text_whose_prompt_opens_a_quotation_ends_at_the_closing_mark(reply: str, text: str | None) -> None:
    assert (
        parse_reply(reply, SOURCE, finished=False, labels=["Sentence 1:", "Sentence 2:"], closing_marks=('"',)).text
        == text
    )


@pytest.mark.parametrize(
    ("language", "reply", "text"),
    [
        ("de", "Ein Hund schläft.“ Sie", "Ein Hund schläft."),
        ("de", "„Ein Hund schläft.“", "Ein Hund schläft."),
        ("de", "Satz 2: „Ein Hund schläft.“", "Ein Hund schläft."),
        ("de", "Sie sagte „nein“ und ging.“ Ja", "Sie sagte „nein“ und ging."),
        ("fr", "Phrase 2 : « Un chien dort. »", "Un chien dort."),
        ("fr", " Un chien dort. » Elles", "Un chien dort."),
        ("es", "«Un perro duerme.»", "Un perro duerme."),
        ("zh", "句子2：“一只狗在睡觉。”", "一只狗在睡觉。"),
        ("ja", "犬が寝ている。」はい", "犬が寝ている。"),
        ("ja", "彼は「いいえ」と言った。」", "彼は「いいえ」と言った。"),
    ],
)
def test_a_reply_ends_at_the_closing_mark_of_its_language(language: str, reply: str, text: str) -> None:
    spec = TaskSpec.load(f"sts-x2.{language}")
    prompt = str(spec.labels["1"].instruction)
    labels = LINE_LABELS.findall(prompt)
    assert len(labels) == 3, "of the instruction and of both sentences"
    for marks in map(tuple, (spec.closing_marks, reversed(spec.closing_marks))):
        parsed = parse_reply(reply, "X", prompt=prompt, finished=False, labels=labels, closing_marks=marks, min_words=2)
        assert parsed.text == text


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("वह किताब पढ़ती है।", "वह किताब पढ़ता है।"),
        ("நான் வந்தான்.", "நான் வந்தேன்."),
        ("كُتُب الولد", "كَتَبَ الولد"),
        ("It is -5 degrees.", "It is 5 degrees."),
    ],
)
def test_words_that_differ_in_a_vowel_sign_and_numbers_in_their_sign_are_no_echo(text: str, source: str) -> None:
    assert parse_reply(text, source) == Parsed(text)


def test_a_label_with_vowel_signs_is_one() -> None:
    text, source = "वह गाती है।", "एक आदमी बाँसुरी बजाता है।"
    assert LINE_LABELS.findall(f"वाक्य 1: {source}\nवाक्य 2: ") == ["वाक्य 1:", "वाक्य 2:"]
    assert parse_reply(f"वाक्य: {text}", source).reason == "label"


class TestPassagesToWriteFor:
    PASSAGES = tuple(f"The train to platform {i} was late. We waited in the rain. Nobody knew why." for i in range(20))

    @pytest.mark.parametrize("task", ["sts-x2", "syncse-partial"])
    def test_are_told_where_the_task_asks_for_a_sentence(self, task: str, caplog: pytest.LogCaptureFixture) -> None:
        spec = load_syncse_spec(task) if task.startswith("syncse") else TaskSpec.load(task)
        prompts = [spec.wording] if isinstance(spec, PartialSpec) else spec.instructions
        warn_of_passages(prompts, [*self.PASSAGES[:9], *("A cat sat on the mat. It slept.",) * 11])
        assert "9 of 20 texts have 3 sentences or more, such as 'The train to platform 0 was late." in caplog.text

    def test_are_not_told_where_they_are_few_or_paragraphs_are_asked_for(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        few = [*self.PASSAGES[:8], *("Mr. J. Smith paid 3.5 million to Dr. No.",) * 12]
        warn_of_passages(["Write a sentence"], few)
        warn_of_passages(["Write a sentence"], self.PASSAGES[:19])
        warn_of_passages(["Write a sentence", "Write a paragraph that is as long"], self.PASSAGES)
        assert not caplog.records
        warn_of_passages(["Write a sentence about history"], self.PASSAGES)
        assert "sentences or more" in caplog.text
        caplog.clear()
        warn_of_passages(["Translate"], self.PASSAGES)
        assert not caplog.records
