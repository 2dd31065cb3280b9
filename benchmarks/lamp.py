"""Fits and measures the exhibit's lamp: the chance that the light comes before the next sentence ends.

    python benchmarks/lamp.py                       tell 378 stories (or read them), fit, measure, write the files
    python benchmarks/lamp.py --measure             measure only, with the lamp that is in the package

The stories are the shipped checkpoint's, at temperature 0.5. Those on topics with nouns that the model has not seen are
only measured; those on other topics are only fitted to. The baseline is the hazard by level and number of sentences
told, from the same stories as the fit. Writes gatsby_mlx/exhibit/lamp.json, benchmarks/lamp.json and plots/lamp.svg.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gatsby_mlx import api, files
from gatsby_mlx.evaluation.topics import _built_in
from gatsby_mlx.exhibit import lamp
from gatsby_mlx.house import compose_topics
from gatsby_mlx.model.decode import decode
from gatsby_mlx.story.obsession import LEVELS
from gatsby_mlx.story.prime import build
from gatsby_mlx.story.sampling import Job

HERE = Path(__file__).resolve().parent
LAMP = HERE.parent / "gatsby_mlx" / "exhibit" / "lamp.json"
N_BINS = 10
LEAST = 60  # moments with a word, for it to get a weight
RIDGE = {"counts": 100.0, "counts_and_words": 1000.0}


def jobs(n: int) -> list[Job]:
    """Return the first `n` jobs of a shuffled list: 60 unseen topics, and 60 seen and 60 composed ones, five levels."""
    halves = _built_in()
    fit = [*halves["seen"], *[t for t in compose_topics(90, 4711) if t not in halves["seen"]][:60]]
    chosen = []
    for kind, topics in (("test", sorted(halves["unseen"])), ("fit", fit)):
        for i, topic in enumerate(topics):
            chosen += [Job(build(topic, level), 1000 + i * 7 + level, (kind, topic, level)) for level in LEVELS]
    random.Random(1).shuffle(chosen)
    return chosen[:n]


def tell(path: Path, n: int, batch: int) -> list[dict[str, Any]]:
    """Return `n` told stories or more, from `path` as far as they are there."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    told = {(row["kind"], row["topic"], row["level"]) for row in rows}
    missing = [job for job in jobs(n) if job.key not in told][: max(0, n - len(rows))]
    checkpoint = api.load().checkpoint
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as out:
        for story in decode(checkpoint.model, checkpoint.tokenizer, missing, batch=batch):
            kind, topic, level = story.job.key
            row = {"kind": kind, "topic": topic, "level": level, "text": story.text, "seed": story.job.seed}
            out.write(json.dumps(row) + "\n")
            out.flush()
            rows.append(row)
    return rows


class Moments:
    """Every place in the stories where a word begins: what was told before it, and whether the light then came."""

    def __init__(self, rows: list[dict[str, Any]]):
        obsession = api.load().obsession
        level, told, ended, came, fit, so_far = [], [], [], [], [], []
        for row in rows:
            story = row["text"]
            ends = [match.end() for match in lamp.ENDS.finditer(story)] or [len(story)]
            ends += [len(story)] if ends[-1] < len(story) else []
            mentions = [match.start() for match in obsession.pattern.finditer(story)]
            begins = [0] + [i + 1 for i, c in enumerate(story[:-1]) if c in " \n" and story[i + 1] not in " \n"]
            for n in begins:
                k = sum(end <= n for end in ends)
                boundary = not story[ends[k - 1] if k else 0 : n].strip()
                until = ends[min(k if boundary else k + 1, len(ends) - 1)]
                level.append(row["level"])
                told.append(k)
                ended.append(boundary)
                came.append(any(n <= mention < until for mention in mentions))
                fit.append(row["kind"] == "fit")
                so_far.append(story[:n])
        self.obsession, self.so_far = obsession, so_far
        self.level, self.told, self.came = np.array(level), np.array(told), np.array(came, float)
        self.fit, self.ended = np.array(fit), np.array(ended)

    def hazard(self) -> np.ndarray:
        """Return the baseline: the share of moments before the light, at this level and after as many sentences.

        Five moments of the level's mean are added to each cell.
        """
        cells: dict[tuple[int, int], list[float]] = defaultdict(list)
        of_level: dict[int, list[float]] = defaultdict(list)
        for level, told, came, fit in zip(self.level, self.told, self.came, self.fit, strict=True):
            if fit:
                cells[level, told].append(came)
                of_level[level].append(came)
        mean = {level: float(np.mean(values)) for level, values in of_level.items()}
        return np.array(
            [
                (sum(cells[level, told]) + 5 * mean[level]) / (len(cells[level, told]) + 5)
                for level, told in zip(self.level, self.told, strict=True)
            ]
        )


def fit(moments: Moments) -> dict[str, Any]:
    """Return the two heads: of the counts, and of the counts and the words."""
    x = np.array([lamp.features(k, s, moments.obsession) for k, s in zip(moments.level, moments.so_far, strict=True)])
    words = [lamp.sentence_words(story) for story in moments.so_far]
    seen: dict[str, int] = defaultdict(int)
    for number in np.flatnonzero(moments.fit):
        for word in words[number]:
            seen[word] += 1
    index = {word: i for i, word in enumerate(sorted(word for word, n in seen.items() if n >= LEAST))}
    bag = np.zeros((len(words), len(index)))
    for number, found in enumerate(words):
        bag[number, [index[word] for word in found if word in index]] = 1
    heads: dict[str, Any] = {}
    for name, inputs in (("counts", x), ("counts_and_words", np.c_[x, bag])):
        weights, bias = regress(inputs[moments.fit], moments.came[moments.fit], RIDGE[name])
        heads[name] = {"bias": round(bias, 5), "scale": [round(w, 5) for w in weights[: x.shape[1]].tolist()]}
    of_words = weights[x.shape[1] :].tolist()
    heads["counts_and_words"]["words"] = {w: round(of_words[i], 4) for w, i in index.items()}
    return heads


def regress(x: np.ndarray, y: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """Return the weights [n] and the bias of a logistic regression with an L2 penalty on the scaled inputs.

    Newton's method (Hastie, Tibshirani & Friedman 2009, section 4.4.1).
    """
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    z = np.c_[(x - mean) / scale, np.ones(len(x))]
    w = np.zeros(z.shape[1])
    penalty = np.r_[np.full(len(w) - 1, ridge), 1e-6]
    for _ in range(10):
        p = 1 / (1 + np.exp(-np.clip(z @ w, -30, 30)))
        gradient = z.T @ (p - y) + penalty * w
        w -= np.linalg.solve((z * (p * (1 - p))[:, None]).T @ z + np.diag(penalty), gradient)
    weights = w[:-1] / scale
    return weights, float(w[-1] - weights @ mean)


def auc(y: np.ndarray, p: np.ndarray) -> float:
    """Return the probability that a moment before the light has the higher chance; ties count half."""
    _, inverse, n = np.unique(p, return_inverse=True, return_counts=True)
    rank = (np.cumsum(n) - (n - 1) / 2)[inverse]
    n_yes = y.sum()
    return float((rank[y == 1].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * (len(y) - n_yes)))


def bins(y: np.ndarray, p: np.ndarray) -> list[dict[str, float]]:
    """Return the reliability curve: for each tenth of the chance, the mean shown, the share seen, and the moments."""
    which = np.minimum((p * N_BINS).astype(int), N_BINS - 1)
    return [
        {"shown": float(p[which == i].mean()), "seen": float(y[which == i].mean()), "moments": int((which == i).sum())}
        for i in range(N_BINS)
        if (which == i).any()
    ]


def figures(y: np.ndarray, p: np.ndarray, hazard: np.ndarray, level: np.ndarray) -> dict[str, Any]:
    """Return the figures of a lamp that shows `p` where the light came in the moments `y`."""
    curve = bins(y, p)
    at_3 = level == 3
    return {
        "moments": len(y),
        "distance": sum(b["moments"] * abs(b["shown"] - b["seen"]) for b in curve) / len(y),
        "skill": 1 - float(np.mean((p - y) ** 2) / np.mean((hazard - y) ** 2)),
        "auc": auc(y, p),
        "auc_by_level": {str(k): auc(y[level == k], p[level == k]) for k in LEVELS},
        "between_at_3": float(np.mean((p[at_3] > 0.1) & (p[at_3] < 0.9))),
        "curve": curve,
    }


def draw(document: dict[str, Any], path: Path) -> None:
    """Write the reliability curve as an SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "lamp"
    figure, axis = plt.subplots(figsize=(4.6, 4.4))
    axis.plot([0, 1], [0, 1], color="#999", lw=1, label="calibrated")
    for name, color in (("counts", "#8a938b"), ("counts_and_words", "#08703f")):
        curve = document["lamps"][name]["all"]["curve"]
        label = name.replace("_", " ")
        axis.plot([b["shown"] for b in curve], [b["seen"] for b in curve], "o-", color=color, ms=4, label=label)
    axis.set(xlabel="chance that the lamp shows", ylabel="share of moments after which the light came")
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=Path, default=Path("runs/lamp.jsonl"), help="where the told stories are kept")
    parser.add_argument("--n", type=int, default=378)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--measure", action="store_true", help="fit nothing")
    options = parser.parse_args()
    checkpoint = api.load().checkpoint
    sha256 = (
        checkpoint.info["weights"]["sha256"]
        if "weights" in checkpoint.info
        else files.sha256(checkpoint.path / "model.safetensors")
    )
    moments = Moments(tell(options.stories, options.n, options.batch))
    if not options.measure:
        content = {"format": lamp.FORMAT, "weights": sha256, **fit(moments)}
        files.write_atomic(LAMP, json.dumps(content) + "\n")
    content = json.loads(LAMP.read_text("utf-8"))
    test, hazard = ~moments.fit, moments.hazard()
    document: dict[str, Any] = {"weights": sha256, "lamps": {}}
    lamps: dict[str, Callable[[int, str], float] | None] = {
        "hazard": None,
        "counts": lamp.Lamp(moments.obsession, None, content).chance,
        "counts_and_words": lamp.Lamp(moments.obsession, content["weights"], content).chance,
    }
    for name, chance in lamps.items():
        pairs = zip(moments.level, moments.so_far, test, strict=True)
        p = np.array([chance(int(k), s) if of_test else 0.0 for k, s, of_test in pairs]) if chance else hazard
        document["lamps"][name] = {}
        for where, at in (("all", test), ("sentence_ends", test & moments.ended)):
            measured = figures(moments.came[at], p[at], hazard[at], moments.level[at])
            document["lamps"][name][where] = measured
            print(
                f"{name:17s} {where:14s} moments {measured['moments']:6d}  distance {measured['distance']:.3f}  "
                f"skill {measured['skill']:.3f}  AUC {measured['auc']:.3f} (at level 3 "
                f"{measured['auc_by_level']['3']:.3f})  between 10% and 90% at level 3 {measured['between_at_3']:.0%}"
            )
    for b in document["lamps"]["counts_and_words"]["all"]["curve"]:
        print(f"shown {b['shown']:.2f}  seen {b['seen']:.2f}  moments {b['moments']}")
    files.write_atomic(HERE / "lamp.json", json.dumps(document, indent=1) + "\n")
    draw(document, HERE / "plots" / "lamp.svg")


if __name__ == "__main__":
    main()
