"""config: the published recipe, unchanged, under its name and its alias; and the values that are refused."""

import math
from dataclasses import FrozenInstanceError

import pytest

from gatsby_mlx.config import ALIASES, PRESET_NAMES, PRESETS, GPTConfig, Preset, TrainConfig, changed, preset
from gatsby_mlx.errors import UsageError
from gatsby_mlx.story.prime import ALPHABET


def test_baseline_preset_is_the_published_recipe():
    model, training = preset("baseline").model, preset("baseline").training
    assert (model.n_layer, model.n_head, model.n_embd, model.block_size) == (6, 6, 384, 512)
    assert (model.dropout, model.gelu, model.bias) == (0.2, "erf", False)
    assert (training.rows, training.split, training.optimizer) == ("window", "tail", "adamw")
    assert (training.lr, training.lr * training.min_lr_ratio) == pytest.approx((1e-3, 1e-4))
    assert (training.beta1, training.beta2, training.weight_decay, training.grad_clip) == (0.9, 0.99, 0.1, 1.0)
    step = 64 * 512
    assert training.batch_chars == step
    assert (training.warmup_chars / step, training.max_chars / step, training.eval_every_chars / step) == (
        100,
        5000,
        250,
    )


def test_seed_is_an_alias_of_baseline():
    assert preset("seed") is preset("baseline") is PRESETS["baseline"]
    assert ALIASES == {"seed": "baseline"}
    assert (*PRESETS, "seed") == PRESET_NAMES
    assert set(PRESETS) == {"story", "small", "pocket", "tune", "baseline"}
    assert all(isinstance(preset(name), Preset) for name in PRESET_NAMES)


def test_presets_train_on_stories_split_by_topic_and_can_be_exported():
    for name in ("story", "pocket"):
        chosen = preset(name)
        assert (chosen.model.block_size, chosen.model.gelu) == (1024, "tanh")
        assert (chosen.training.rows, chosen.training.split, chosen.training.optimizer) == ("story", "topic", "muon")
    story = preset("story").model
    assert (story.n_layer, story.n_head, story.n_embd) == (6, 6, 384)


def test_presets_are_frozen_and_have_the_vocabulary_of_the_corpora():
    for name, chosen in PRESETS.items():
        assert chosen.name == name
        assert chosen.model.vocab_size == len(ALPHABET)
        with pytest.raises(FrozenInstanceError):
            chosen.model.n_layer = 1


def test_unknown_preset_is_refused_with_the_valid_names():
    with pytest.raises(UsageError, match="'huge'") as caught:
        preset("huge")
    assert all(name in caught.value.line() for name in PRESETS)


@pytest.mark.parametrize(
    "values",
    [
        {"n_layer": 0},
        {"n_head": 0},
        {"n_head": 5},
        {"n_embd": -384},
        {"block_size": 0},
        {"vocab_size": 0},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": math.nan},
        {"gelu": "relu"},
        {"position_init": "sinusoidal"},
    ],
)
def test_invalid_shape_is_refused(values):
    with pytest.raises(UsageError):
        GPTConfig(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"rows": "lines"},
        {"split": "random"},
        {"optimizer": "sgd"},
        {"dtype": "int8"},
        {"max_chars": 0},
        {"batch_chars": -1},
        {"micro_chars": 0},
        {"eval_every_chars": 0},
        {"eval_chars": 0},
        {"swap": 1.5},
        {"swap": -0.1},
        {"dial_topics": -1},
        {"lr": 0.0},
        {"lr": -1e-3},
        {"lr": math.nan},
        {"lr": math.inf},
    ],
)
def test_invalid_recipe_is_refused(values):
    name = next(iter(values)) if "lr" not in values else "learning rate"
    with pytest.raises(UsageError, match=name):
        changed(TrainConfig(), **values)


def test_changed_ignores_values_of_none():
    training = changed(TrainConfig(), lr=None, seed=0, max_chars=5)
    assert (training.lr, training.seed, training.max_chars) == (TrainConfig().lr, 0, 5)
