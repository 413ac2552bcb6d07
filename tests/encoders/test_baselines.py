"""Baseline encoders and model-free floors, against values computed by hand."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertModel

import mteb_tasks
from dino_st.encoders.baselines import find_baseline, read_word_vectors, whiten
from dino_st.encoders.loading import warn_of_tokens
from dino_st.errors import ConfigurationError, InputError, ModelError
from dino_st.evaluation.evaluate import evaluate_encoder, find_model
from dino_st.evaluation.floors import FLOORS, char_trigrams, tf_idf, token_jaccard
from tests.mteb_tasks.fixtures import make_bag_of_words, make_transformer, write_sts_directory

SENTENCES = ["The man plays the guitar", "a dog", "old green train", "girl rides horse with ball", "cat under house"]
SHARED = Path(__file__).parents[3] / "shared" / "data" / "sts"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_transformer(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.txt"
    path.write_text("man 1 0 2\nguitar 0 4 0\nplays 2 2 1\n. . 9 9 9\n", encoding="utf-8")
    return path


def encode(name: str, sentences: list[str] = SENTENCES, **options: object) -> np.ndarray:
    baseline = find_baseline(name, device="cpu", **options)  # type: ignore[arg-type]
    assert baseline is not None
    return np.asarray(baseline.load().encode(sentences, show_progress_bar=False))


@pytest.mark.parametrize("kind", ["mean", "cls", "first-last"])
def test_poolings_agree_with_the_hidden_states(bert: Path, kind: str) -> None:
    model, tokenizer = BertModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    expected = []
    for sentence in SENTENCES:
        with torch.no_grad():
            layers = model(**tokenizer(sentence, return_tensors="pt"), output_hidden_states=True).hidden_states
        tokens = (layers[1] + layers[3]) / 2 if kind == "first-last" else layers[-1]
        expected.append((tokens[0, 0] if kind == "cls" else tokens[0].mean(0)).numpy())
    np.testing.assert_allclose(encode(f"{kind}:{bert}"), np.stack(expected), atol=1e-5)


def test_word_vectors_are_averaged_without_stop_words_and_unknown_words(vectors: Path) -> None:
    embeddings = encode(f"words:{vectors}", ["The man plays, of course, the Guitar!", "nothing known"])
    np.testing.assert_allclose(embeddings, [[1.0, 2.0, 1.0], [0.0, 0.0, 0.0]])


def test_word_vectors_may_have_a_head_and_words_with_spaces(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("3 2\na 1 2\nat home 3 4\na 5 6\n", encoding="utf-8")
    words, numbers = read_word_vectors(path)
    assert words == ["a", "at home"]
    assert numbers.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("content", ["", "word\n", "man 1 2\ndog 1\n", "man 1 x\n", "man 1 nan\n"])
def test_malformed_word_vectors_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"vectors\.txt'(, line \d: expected a word| holds no word vectors)"):
        read_word_vectors(path)


def test_whitened_embeddings_have_unit_covariance_and_mean_zero() -> None:
    rng = np.random.default_rng(0)
    words = ["man", "dog", "cat", "girl", "boy", "house", "train", "river", "guitar", "horse", "bread", "street"]
    sentences = [" ".join(rng.choice(words, size=4)) for _ in range(200)]
    embeddings = np.asarray(whiten(make_bag_of_words(dimensions=6), sentences).encode(sentences), dtype=np.float64)
    np.testing.assert_allclose(embeddings.mean(0), np.zeros(6), atol=1e-4)
    np.testing.assert_allclose(np.cov(embeddings.T, bias=True), np.eye(6), atol=1e-3)


def test_whitening_drops_directions_without_variance() -> None:
    white = whiten(make_bag_of_words(dimensions=6), ["man", "dog", "cat"])
    assert white.encode(["man"]).shape == (1, 2)
    assert white.get_embedding_dimension() == 2


def test_a_whitened_encoder_can_be_saved_and_loaded(tmp_path: Path) -> None:
    white = whiten(make_bag_of_words(dimensions=6), ["man dog", "man cat", "dog", "cat girl", "house", "train", "boy"])
    white.save_pretrained(str(tmp_path / "white"))
    loaded = SentenceTransformer(str(tmp_path / "white"), device="cpu")
    np.testing.assert_allclose(loaded.encode(SENTENCES), white.encode(SENTENCES), atol=1e-6)


def test_whitening_is_part_of_a_baselines_name_and_revision(bert: Path, tmp_path: Path) -> None:
    file = tmp_path / "sentences.csv"
    file.write_text("text\n" + "".join(f'"{sentence}"\n' for sentence in SENTENCES), encoding="utf-8")
    names = [f"mean:{bert}", f"mean+whitening:{bert}", f"cls+whitening:{bert}"]
    found = [find_model(name, whitening_sentences=file) for name in names]
    other = find_baseline(names[1], whitening_sentences=SENTENCES[:3])
    assert [baseline.name for baseline in found if baseline] == [
        "baseline/mean-bert",
        "baseline/mean+whitening-bert",
        "baseline/cls+whitening-bert",
    ]
    assert len({baseline.revision for baseline in [*found, other] if baseline}) == 4
    assert found[1].revision == find_model(names[1], whitening_sentences=SENTENCES).revision
    assert encode(names[1], whitening_sentences=SENTENCES).shape[1] == len(SENTENCES) - 1


def test_whitening_needs_sentences(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"whitened on unlabelled sentences.*`--whitening-sentences FILE`"):
        find_baseline(f"mean+whitening:{bert}")
    with pytest.raises(InputError, match=r"at least two different sentences, but there are 1"):
        find_baseline(f"mean+whitening:{bert}", whitening_sentences=["same", "same", ""])
    with pytest.raises(InputError, match=r"none\.txt: there is no such file"):
        find_model(f"mean+whitening:{bert}", whitening_sentences=tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"all have the same embedding"):
        whiten(make_bag_of_words(), ["unknown", "unseen"])


def test_ordinary_models_are_no_baselines(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert find_baseline("sentence-transformers/all-MiniLM-L6-v2") is None
    assert find_baseline(str(tmp_path / "a:b")) is None


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere' does not exist"):
        find_baseline("mean:./nowhere")
    with pytest.raises(InputError, match=r"The word vectors 'none\.txt' do not exist"):
        find_baseline("words:none.txt")


def test_packed_word_vectors_are_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "words.gz").write_bytes(gzip.compress(b"man 1 0\n"))
    with pytest.raises(InputError, match=r"words\.gz' is packed \(gzip or zip\); expected .*: unpack it first"):
        read_word_vectors(tmp_path / "words.gz")


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["Ein Mann spielt Gitarre.", "Es regnet."], "100 % of the texts' tokens are unknown"),
        (["The man plays, of course, the Guitar!"], ""),
        (["A man plays.", "It is the guitar, not the flute!"], ""),
    ],
)
def test_texts_of_whose_words_hardly_any_is_known_are_told(
    vectors: Path, texts: list[str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    baseline = find_baseline(f"words:{vectors}", device="cpu")
    assert baseline is not None
    warn_of_tokens(baseline.load(), texts, "it")
    assert told in caplog.text if told else not caplog.text


def test_a_pooling_needs_a_transformers_model(tmp_path: Path) -> None:
    make_bag_of_words(tmp_path / "bag")
    baseline = find_baseline(f"mean:{tmp_path / 'bag'}", device="cpu")
    assert baseline is not None
    with pytest.raises(ModelError, match=r"begins with a module of the kind StaticEmbedding"):
        baseline.load()


def test_token_jaccard_is_the_share_of_distinct_words_in_common() -> None:
    assert token_jaccard(["A dog, a cat", "x", "..."], ["The cat!", "x", "?"]).tolist() == [0.25, 1.0, 0.0]


def test_char_trigrams_are_counted_over_the_joined_words() -> None:
    # "a cat" has "a c", " ca", "cat"; "cats" has "cat", "ats"
    assert char_trigrams(["A, cat", "ab"], ["cats", "ab"]) == pytest.approx([1 / math.sqrt(6), 0.0])


def test_tf_idf_weighs_rare_words_more() -> None:
    # four sentences: "dog" stands in two, every other word in one
    common, rare = math.log(5 / 3) + 1, math.log(5 / 2) + 1
    expected = common**2 / (common**2 + rare**2)
    assert tf_idf(["dog runs", "x"], ["dog sleeps", "y"]) == pytest.approx([expected, 0.0])


def test_sentences_without_words_are_like_nothing() -> None:
    assert [floor(["...", "?!"], ["...", ""]).tolist() for floor in FLOORS.values()] == [[0.0, 0.0]] * 3


def test_floors_and_baselines_stand_beside_models_in_the_table(bert: Path, vectors: Path, tmp_path: Path) -> None:
    tasks = mteb_tasks.select_tasks(["DinoSTS13"], sts_dir=write_sts_directory(tmp_path / "sts"))
    names = [f"mean:{bert}", "token-jaccard", "char-trigrams", "tf-idf"]
    table = evaluate_encoder(names, tasks=tasks, output_dir=tmp_path / "out")
    assert list(table.scores) == names
    assert [path.name for path in (tmp_path / "out" / "results").iterdir()] == ["baseline__mean-bert"]
    assert table.scores["token-jaccard"]["DinoSTS13"] > 50


def test_floors_refuse_tasks_that_are_not_sts() -> None:
    with pytest.raises(ConfigurationError, match=r"'tf-idf' scores pairs .* SciDocsRR is a Reranking task"):
        evaluate_encoder("tf-idf", tasks=mteb_tasks.select_tasks("SciDocsRR"))


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the SemEval files are not here")
def test_floors_on_the_real_data() -> None:
    table = evaluate_encoder(
        ["token-jaccard", "char-trigrams", "tf-idf"], tasks=mteb_tasks.select_tasks("sts", sts_dir=SHARED)
    )
    assert [round(table.average(name), 1) for name in table.scores] == [57.1, 61.0, 66.7]
