"""The corpus that ships: the house writer writes it byte for byte, and its README has its measured figures."""

import hashlib
import json
import re

import pytest
from click.testing import CliRunner

from gatsby_mlx import cli, house, shipped
from gatsby_mlx.cli.corpus import LABELS, figures_table
from gatsby_mlx.corpus.load import load
from gatsby_mlx.corpus.measure import measure
from gatsby_mlx.house.writer import HouseWriter
from gatsby_mlx.story.obsession import GREEN_LIGHT, Obsession

FOLDER = shipped.corpus()
COMMAND = "gatsby write --writer house --n 4000 --seed 1925 --out corpus"
MENTIONS = "mentions of the light, level {}"
LEAST = {"distinct_words": 2000, "distinct_4_grams": 0.6, "distinct_sentences": 0.7}
MOST = {
    "first_sentences_shared": 0.1,
    "highest_jaccard": 0.6,
    "commonest_pattern": 0.03,
    "green_that_is_not_the_light": 0.0,
}
ALWAYS = (
    "at_most_1000_chars",
    "words_80_to_170",
    "ends_in_sentence",
    "names_hero",
    "topic_in_first_sentence",
    "topics_strictly_rising",
)


def readme() -> str:
    return (FOLDER / "README.md").read_text(encoding="utf-8")


def column(name: str) -> dict[str, str]:
    """Return one column of the README's table of figures: {figure: cell}."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme().splitlines() if "|" in line]
    (head,) = (row for row in rows if row[0] == "figure")
    return {row[0]: row[head.index(name)] for row in rows if len(row) == len(head) and row[0] not in ("figure", "---")}


def shown(figures: dict) -> dict[str, str]:
    """Return the cells as `gatsby corpus show` prints them; '-' for a figure that a corpus does not have."""
    table = figures_table(figures).splitlines()
    cells = dict(re.split(r"  +", line.strip()) for line in table if line.strip() and "---" not in line)
    figures_column = {label: cells.get(label, "-") for label in LABELS.values()}
    return figures_column | {MENTIONS.format(k): f"{mean:.2f}" for k, mean in figures["mentions_by_level"].items()}


@pytest.fixture(scope="module")
def figures() -> dict:
    return measure(load(FOLDER).documents)


def test_house_writer_writes_the_shipped_stories():
    """Every 20th story; the slow test below writes all of them."""
    shipped_manifest = json.loads((FOLDER / "manifest.json").read_text())
    assert shipped_manifest["writers"] == {"house": HouseWriter().about}
    assert {row["topic"] for row in shipped_manifest["stories"]} == set(house.compose_topics(800, 1925))
    for row in shipped_manifest["stories"][::20]:
        story = house.write_story(row["topic"], row["name"], row["level"], row["seed"])
        assert hashlib.sha256(story.encode()).hexdigest() == row["sha256"], row


@pytest.mark.slow
def test_command_in_the_readme_writes_the_shipped_corpus_byte_for_byte(tmp_path):
    assert COMMAND in readme()
    words = COMMAND.split()[1:-1]
    done = CliRunner().invoke(cli.main, [*words, str(tmp_path / "corpus")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "corpus" / "raw.txt").read_bytes() == (FOLDER / "raw.txt").read_bytes()
    folders = (tmp_path / "corpus", FOLDER)
    made, shipped_manifest = (json.loads((folder / "manifest.json").read_text()) for folder in folders)
    assert made.pop("timings") and shipped_manifest.pop("timings")
    assert Obsession.from_json(made.pop("obsession")) == GREEN_LIGHT  # the shipped manifest was written before it
    assert set(shipped_manifest.pop("gates")) <= set(made.pop("gates"))  # there were fewer
    assert made == shipped_manifest


def test_shipped_corpus_has_the_promised_figures(figures):
    assert figures["documents"] == 4000
    assert {key: figures[key] for key in ALWAYS} == dict.fromkeys(ALWAYS, 1.0)
    assert all(figures[key] >= low for key, low in LEAST.items()), figures
    assert all(figures[key] <= high for key, high in MOST.items()), figures
    bands = {1: (1, 2), 2: (3, 4), 3: (5, 7), 4: (8, 10), 5: (11, 14)}
    for level, (low, high) in figures["mentions_range_by_level"].items():
        assert bands[level][0] <= low <= high <= bands[level][1]


def test_readme_has_the_figures_of_the_shipped_corpus(figures):
    assert column("house") == shown(figures)
    corpus = load(FOLDER)
    assert f"{corpus.n_chars:,} characters" in readme()
    assert "sha256 of `raw.txt`" in readme()
    assert f"`{corpus.sha256}`" in readme()


@pytest.mark.baseline
@pytest.mark.parametrize("name", ["gatsby-1", "gatsby-2"])
def test_readme_has_the_figures_of_the_baseline_corpora(baseline_corpora, name):
    assert column(name) == shown(measure(load(baseline_corpora / f"{name}.raw.txt").documents))
