"""Stories in another language than English: told, counted and measured, and what needs English is left out by name."""

import json

import pytest
from click.testing import CliRunner

from gatsby_mlx import cli
from gatsby_mlx.config import GPTConfig
from gatsby_mlx.evaluation import card, report, stories
from gatsby_mlx.evaluation.quality import ENGLISH_ONLY, measure
from gatsby_mlx.evaluation.stories import Piece, StoryPlan
from gatsby_mlx.story.obsession import Obsession
from gatsby_mlx.story.prime import ALPHABET, fold_topic
from gatsby_mlx.story.text import is_english, words
from gatsby_mlx.tokenizer import CharTokenizer

LIGHT = Obsession("svet", "зелёный свет")
RUSSIAN = ALPHABET + "абвгдеёжзийклмнопрстуфхцчшщъыьэюяАМ"
TOPICS = ("маленькая лодка", "старые часы", "белый кот")
STORY = "Маша нашла лодку. Далеко горел зелёный свет. Маша легла спать."


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random model of the Russian alphabet, as a checkpoint that knows topics of its own."""
    import mlx.core as mx

    from gatsby_mlx.model import checkpoint
    from gatsby_mlx.model.gpt import GPT

    mx.random.seed(1)
    tokenizer = CharTokenizer(RUSSIAN)
    shape = GPTConfig(n_layer=1, n_head=1, n_embd=8, block_size=160, vocab_size=len(tokenizer))
    folder = tmp_path_factory.mktemp("languages") / "svet"
    info = {"obsession": LIGHT.to_json(), "corpus": {"imported": True, "topics": list(TOPICS), "language": "ru"}}
    checkpoint.save(folder, GPT(shape), tokenizer, info)
    return checkpoint.load(folder)


def test_topics_are_folded_into_the_model_s_alphabet():
    assert fold_topic(" Маленькая  ЛОДКА. ", RUSSIAN, LIGHT) == "маленькая лодка"
    assert fold_topic("«Лодка» — да", RUSSIAN) == '"лодка" -- да'
    assert fold_topic("ЁЖИК", None) == "ёжик"
    assert fold_topic("Über Käfer", ALPHABET + "äöüß") == "über käfer"
    assert fold_topic("Café Käfer", ALPHABET + "äöüß") == "cafe käfer"
    assert fold_topic("Über Käfer") == "uber kafer"


def test_stories_are_told_kept_and_read_again(model, tmp_path):
    plan = StoryPlan(TOPICS, seeds=1, max_chars=20, run_on=1, obsession=LIGHT)
    told = stories.tell(model.model, model.tokenizer, plan, tmp_path / "told.jsonl", {"weights": "w"})
    again = stories.read(tmp_path / "told.jsonl")
    assert again.complete
    assert again.stories == told.stories
    assert {piece.topic for piece in again.pieces} == set(TOPICS)


def test_what_needs_english_is_left_out_by_name(model):
    plan = StoryPlan(TOPICS, seeds=1, max_chars=60, run_on=0, obsession=LIGHT)
    story_set = stories.tell(model.model, model.tokenizer, plan, source={"checkpoint": "svet", "weights": "w"})
    assert not is_english(piece.text for piece in story_set.pieces)
    evaluation = report.evaluate(story_set, {"parameters": 1})
    content = evaluation.to_json()
    assert content["honour"] is None
    assert content["prose"]["left_out"] == ["spelled", "spelled_as_listed"]
    config = {"architecture": vars(GPTConfig()), "obsession": LIGHT.to_json(), "corpus": {**model.about_corpus}}
    config["corpus"] |= {"documents": 3, "sha256": "abc"}
    readme = card.render(config, content)
    assert "Left out: topic adherence is judged by the stems of English words" in readme
    assert "license:" not in readme
    assert "language: ru" in readme
    assert "зелёный свет" in report.render(evaluation)


def test_what_needs_no_english_is_measured():
    pieces = [Piece("лодка", 1, STORY, True), Piece("кот", 2, STORY + " " + STORY, False)]
    measured = measure(pieces)
    assert measured.figures["ended"].mean == 0.5
    assert measured.figures["loops"].mean == 0.5
    assert measured.figures["words"].mean == 1.5 * len(words(STORY))
    assert not set(measured.figures) & set(ENGLISH_ONLY)
    assert measured.misspelled == ()
    english = measure([Piece("a cat", 1, "The cat sat on a warm mat.", True)])
    assert english.left_out == () and "spelled" in english.figures
    assert "left_out" not in english.to_json()


def test_commands_take_topics_of_their_model(model, tmp_path):
    def gatsby(*given):
        return CliRunner().invoke(cli.main, [str(word) for word in (*given, "--model", model.path)])

    done = gatsby("tell", "Белый кот", "--seed", 1, "--max-tokens", 5, "--json")
    assert json.loads(done.stdout)["topic"] == "белый кот"
    done = gatsby("dial", "--seeds", 1, "--max-tokens", 5, "--json")
    assert json.loads(done.stdout)["topics"] == len(TOPICS)
    (tmp_path / "topics.txt").write_text("Новая лодка\n", "utf-8")
    done = gatsby("dial", "--seeds", 1, "--max-tokens", 5, "--json", "--topics", tmp_path / "topics.txt")
    assert json.loads(done.stdout)["topics"] == 1
    done = gatsby("honor", "--seeds", 1, "--max-tokens", 40)
    assert done.exit_code == 2
    assert "these stories are not in English" in done.stderr.splitlines()[-1]
    done = gatsby("prose", "--seeds", 1, "--max-tokens", 40)
    assert "left out, for these stories are not in English: words that are in the topic" in done.stdout
    done = CliRunner().invoke(cli.main, ["checkpoint", "verify", str(model.path)])
    assert done.exit_code == 0, done.stderr
    done = gatsby("tell", "日本の猫", "--seed", 1)
    assert done.exit_code == 2
    assert "was trained on another alphabet" in done.stderr
