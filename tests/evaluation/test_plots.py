"""plots: the same bytes each time, sound XML, no address, and files that stand alone."""

import math
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from evaluation_tools import pieces_of, small_corpus, small_reference

from gatsby_mlx.errors import OutputError, UsageError
from gatsby_mlx.evaluation import honour, measure_plots, plots
from gatsby_mlx.evaluation.corpus_dial import CorpusDial
from gatsby_mlx.evaluation.dial import Dial, LevelFigures, SeedCount
from gatsby_mlx.evaluation.prose import Prose

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
SEED = SeedCount((3.0, 4.0, 4.5, 5.0, 6.0), 24, 480, (1.0, 2.0, 3.0, 4.0, 5.0))


def honoured():
    return honour.measure(pieces_of(small_corpus()), small_reference())


DRAWN = {
    "loss": lambda path=None: plots.loss_curve(ROWS, path),
    "corpus": lambda path=None: plots.corpus_plot(writers("olmo", "gemma"), path),
    "dial": lambda path=None: plots.dial_plot(dial(), CORPUS.means, path),
    "artefact": lambda path=None: measure_plots.artefact_plot(SEED, path),
    "honour": lambda path=None: measure_plots.honour_plot(honoured(), path),
    "copies": lambda path=None: measure_plots.copies_plot(Prose({}, copies=(40, 60, 61), corpus_copies=(30, 50)), path),
}


@pytest.mark.parametrize("name", DRAWN)
def test_plot_is_a_sound_svg_for_a_page(name):
    svg = DRAWN[name]()
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg" and root.get("role") == "img" and root.get("aria-label")
    assert "http" not in svg and "<style" not in svg and "width" not in root.attrib
    assert "currentColor" in svg and "var(--plot-light" in svg
    assert not any(stand_in in svg for stand_in in plots.STAND_IN)
    ids = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
    assert len(set(ids)) == len(ids) and all(i.startswith(f"{name}-") for i in ids)
    used = [e.get("href", "#")[1:] for e in root.iter("use")]
    assert (used or name == "copies") and set(used) <= set(ids)  # that one has no markers


@pytest.mark.parametrize("name", DRAWN)
def test_plot_is_the_same_each_time_and_its_files_stand_alone(name, tmp_path):
    for kind in ("svg", "png"):
        (a, b) = (tmp_path / f"{n}.{kind}" for n in "ab")
        assert DRAWN[name](a) == DRAWN[name](b) == DRAWN[name]()
        assert a.read_bytes() == b.read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    root = ElementTree.fromstring((tmp_path / "a.svg").read_text("utf-8"))
    alone = (tmp_path / "a.svg").read_text("utf-8")
    assert root.tag.endswith("svg") and "var(" not in alone and "currentColor" not in alone and "date" not in alone


def test_plot_is_the_same_in_another_process():
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_plots as t; print(t.DRAWN['dial'](), end='')"
    out = subprocess.run(
        [sys.executable, "-c", code, *sys.path, __file__.rpartition("/")[0]], capture_output=True, text=True, check=True
    )
    assert out.stdout == DRAWN["dial"]()


def test_plots_leave_matplotlib_as_it_was():
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import gatsby_mlx.evaluation.plots as p;"
        "assert 'matplotlib' not in sys.modules; import matplotlib as m; before = {k: m.rcParams[k] for k in p.STYLE};"
        "p.loss_curve([{'event': 'eval', 'chars': 5, 'loss': 1.0}]);"
        "assert {k: m.rcParams[k] for k in p.STYLE} == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, *sys.path], check=True)


def test_file_kinds_and_places_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        plots.dial_plot(dial(), path=tmp_path / "dial.pdf")
    with pytest.raises(OutputError):
        plots.dial_plot(dial(), path=tmp_path / "absent" / "dial.svg")


def test_loss_points_pass_over_what_is_not_finite_and_prefer_the_story():
    rows = [
        {"event": "train", "chars": 1, "loss": math.nan, "story_loss": None},
        {"event": "train", "chars": 2, "loss": 2.0, "story_loss": None},
        {"event": "train", "chars": 3, "loss": 2.0, "story_loss": 1.5},
        {"event": "eval", "chars": 4, "loss": 2.0},
        {"event": "saved", "path": "x"},
    ]
    assert plots.loss_points(rows, "train") == [(2, 2), (3, 1.5)]
    assert plots.loss_points(rows, "eval") == [(4, 2)]
    assert "2.000 nats" in plots.loss_curve(rows)
    with pytest.raises(UsageError, match="no loss"):
        plots.loss_curve(rows[:1])
    with pytest.raises(UsageError, match="no corpus"):
        plots.corpus_plot(())


def test_loss_plot_has_the_small_dial_below_it_where_there_is_one():
    alone, both = plots.loss_curve(ROWS), plots.loss_curve(DIALS)
    assert "small dial" in both and "small dial" not in alone
    size = [list(map(float, ElementTree.fromstring(svg).attrib["viewBox"].split())) for svg in (alone, both)]
    assert size[0][2] == size[1][2] and size[0][3] < size[1][3]


def test_plots_draw_what_is_missing_as_missing():
    gap = CorpusDial("gap", (1.0, math.nan, 3.0, 4.0, 5.0), (1, 0, 1, 1, 1), (1, 0, 5, 6, 7), (3, 0, 3, 3, 3))
    assert "none, 3.00" in plots.corpus_plot([gap])
    ElementTree.fromstring(plots.dial_plot(dial(math.nan)))
    ElementTree.fromstring(plots.dial_plot(dial(), [0.0] * 5))


def test_hostile_writer_names_are_escaped():
    svg = plots.corpus_plot(writers("</svg><script>x</script>", "$\\frac{1}{2}$", "\u65e5\u672c \U0001f7e2", "_shown"))
    ElementTree.fromstring(svg)
    assert "<script" not in svg and svg.count("</svg>") == 1
    assert "$\\frac{1}{2}$" in svg and "shown" in svg


@pytest.mark.parametrize(("n", "said"), [(950, "950"), (400_000, "400k"), (1_200_000, "1.2M"), (0, "0")])
def test_short_count(n, said):
    assert plots.short_count(n) == said
