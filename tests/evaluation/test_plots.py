"""figures and plots: the same bytes each time, valid XML, no URL, and standalone files."""

import math
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from evaluation_tools import pieces_of, small_corpus, small_reference

from gatsby_mlx.corpus.levels import CorpusDial
from gatsby_mlx.errors import OutputError, UsageError
from gatsby_mlx.evaluation import adherence, figures, plots
from gatsby_mlx.evaluation.dial import BaselineCount, Dial, LevelFigures
from gatsby_mlx.evaluation.quality import TextQuality

ROWS = [
    {"event": "train", "step": i, "chars": i * 8192, "loss": 5 / i, "story_loss": 5.2 / i, "lr": 1e-3}
    for i in range(1, 9)
] + [
    {"event": "eval", "step": i, "chars": i * 8192, "loss": 5 / i, "story_loss": 5.1 / i, "header_loss": 0.1}
    for i in (1, 4, 8)
]
CORPUS = CorpusDial("house", (1.0, 3.0, 5.0, 8.0, 13.0), (1, 2, 3, 5, 8), (2, 4, 7, 11, 18), (9,) * 5)


def dial(width: float = 0.5) -> Dial:
    means = (1.2, 2.9, 5.1, 7.7, 12.0)
    levels = tuple(LevelFigures(k, m, m, m - width, m + width, 3.0, 24, 0.95) for k, m in enumerate(means, 1))
    return Dial(levels, 0.9, True, (0.8, 0.8, 0.8, 0.8), topics=12, seeds=2)


def writers(*names: str) -> tuple[CorpusDial, ...]:
    return (CORPUS, *(CorpusDial(name, CORPUS.means, CORPUS.fewest, CORPUS.most, CORPUS.n) for name in names))


DIALS = [
    {**row, "dial": [i * row["step"] / 8 for i in range(1, 6)], "dial_corpus": [1, 3, 5, 8, None], "best_dial": True}
    if row["event"] == "eval"
    else row
    for row in ROWS
]
BASELINE = BaselineCount((3.0, 4.0, 4.5, 5.0, 6.0), 24, 480, (1.0, 2.0, 3.0, 4.0, 5.0))


def measured_adherence():
    return adherence.measure(pieces_of(small_corpus()), small_reference())


DRAWN = {
    "loss": lambda path=None: figures.loss_curve(ROWS, path),
    "corpus": lambda path=None: figures.corpus_plot(writers("olmo", "gemma"), path=path),
    "dial": lambda path=None: figures.dial_plot(dial(), CORPUS.means, path),
    "baseline": lambda path=None: figures.baseline_plot(BASELINE, path=path),
    "honour": lambda path=None: figures.adherence_plot(measured_adherence(), path),
    "copies": lambda path=None: figures.copies_plot(TextQuality({}, copies=(40, 60, 61), corpus_copies=(30, 50)), path),
}


@pytest.mark.parametrize("name", DRAWN)
def test_figure_is_a_valid_svg_for_a_page(name):
    svg = DRAWN[name]()
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg" and root.get("role") == "img" and root.get("aria-label")
    assert "http" not in svg and "<style" not in svg and "width" not in root.attrib
    assert "currentColor" in svg and "var(--plot-light" in svg
    assert not any(placeholder in svg for placeholder in plots.PLACEHOLDERS)
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(set(ids)) == len(ids) and all(i.startswith(f"{name}-") for i in ids)
    used = [e.get("href", "#")[1:] for e in root.iter("use")]
    assert (used or name == "copies") and set(used) <= set(ids)  # copies has no markers


@pytest.mark.parametrize("name", DRAWN)
def test_figure_is_the_same_each_time_and_its_files_are_standalone(name, tmp_path):
    for kind in ("svg", "png"):
        (a, b) = (tmp_path / f"{n}.{kind}" for n in "ab")
        assert DRAWN[name](a) == DRAWN[name](b) == DRAWN[name]()
        assert a.read_bytes() == b.read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    root = ElementTree.fromstring((tmp_path / "a.svg").read_text("utf-8"))
    standalone = (tmp_path / "a.svg").read_text("utf-8")
    assert (
        root.tag.endswith("svg")
        and "var(" not in standalone
        and "currentColor" not in standalone
        and "date" not in standalone
    )


def test_figure_is_the_same_in_another_process():
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_plots as t; print(t.DRAWN['dial'](), end='')"
    out = subprocess.run(
        [sys.executable, "-c", code, *sys.path, __file__.rpartition("/")[0]], capture_output=True, text=True, check=True
    )
    assert out.stdout == DRAWN["dial"]()


def test_figures_leave_matplotlib_as_it_was():
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import gatsby_mlx.evaluation.figures as f;"
        "import gatsby_mlx.evaluation.plots as p;"
        "assert 'matplotlib' not in sys.modules; import matplotlib as m; before = {k: m.rcParams[k] for k in p.STYLE};"
        "f.loss_curve([{'event': 'eval', 'chars': 5, 'loss': 1.0}]);"
        "assert {k: m.rcParams[k] for k in p.STYLE} == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, *sys.path], check=True)


def test_other_suffixes_and_missing_folders_raise_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        figures.dial_plot(dial(), path=tmp_path / "dial.pdf")
    with pytest.raises(OutputError):
        figures.dial_plot(dial(), path=tmp_path / "absent" / "dial.svg")


def test_loss_points_are_finite_and_prefer_the_story_loss():
    rows = [
        {"event": "train", "chars": 1, "loss": math.nan, "story_loss": None},
        {"event": "train", "chars": 2, "loss": 2.0, "story_loss": None},
        {"event": "train", "chars": 3, "loss": 2.0, "story_loss": 1.5},
        {"event": "eval", "chars": 4, "loss": 2.0},
        {"event": "saved", "path": "x"},
    ]
    assert figures.loss_points(rows, "train") == [(2, 2), (3, 1.5)]
    assert figures.loss_points(rows, "eval") == [(4, 2)]
    assert "2.000 nats" in figures.loss_curve(rows)
    with pytest.raises(UsageError, match="no loss"):
        figures.loss_curve(rows[:1])
    with pytest.raises(UsageError, match="no corpus"):
        figures.corpus_plot(())
    with pytest.raises(UsageError, match="no copies"):
        figures.copies_plot(TextQuality({}))


def test_loss_curve_has_the_small_dial_in_a_second_panel():
    alone, both = figures.loss_curve(ROWS), figures.loss_curve(DIALS)
    assert "small dial" in both and "small dial" not in alone
    size = [list(map(float, ElementTree.fromstring(svg).attrib["viewBox"].split())) for svg in (alone, both)]
    assert size[0][2] == size[1][2] and size[0][3] < size[1][3]


def test_missing_values_are_not_drawn():
    gap = CorpusDial("gap", (1.0, math.nan, 3.0, 4.0, 5.0), (1, 0, 1, 1, 1), (1, 0, 5, 6, 7), (3, 0, 3, 3, 3))
    assert "none, 3.00" in figures.corpus_plot([gap])
    ElementTree.fromstring(figures.dial_plot(dial(math.nan)))
    ElementTree.fromstring(figures.dial_plot(dial(), [0.0] * 5))


def test_hostile_writer_names_are_escaped():
    svg = figures.corpus_plot(
        writers("</svg><script>x</script>", "$\\frac{1}{2}$", "\u65e5\u672c \U0001f7e2", "_shown")
    )
    ElementTree.fromstring(svg)
    assert "<script" not in svg and svg.count("</svg>") == 1
    assert "$\\frac{1}{2}$" in svg and "shown" in svg


@pytest.mark.parametrize(("n", "short"), [(950, "950"), (400_000, "400k"), (1_200_000, "1.2M"), (0, "0")])
def test_short_count(n, short):
    assert plots.short_count(n) == short
