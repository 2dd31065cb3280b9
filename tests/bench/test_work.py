"""work: the computed cost of a step agrees with the model, and a batch that does not fit is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gatsby_mlx.bench import work
from gatsby_mlx.config import GPTConfig, preset
from gatsby_mlx.errors import UsageError
from gatsby_mlx.model.gpt import GPT


@pytest.mark.parametrize("name", ["story", "pocket", "seed"])
def test_parameters_are_those_of_the_model_without_norms(name):
    config = preset(name).model
    model = GPT(config)
    norms = sum(v.size for v in model.named().values() if v.ndim == 1)
    assert work.n_params(config) == model.n_params(positions=False) - norms


def test_flops_of_the_published_size():
    config = GPTConfig(block_size=512)
    assert work.forward_flops(config, 0) == 2 * work.n_params(config)
    assert work.train_flops(config, 512) == pytest.approx(3 * (2 * work.n_params(config) + 4 * 6 * 384 * 256))


def test_work_survives_json():
    job = work.TrainWork(GPTConfig(block_size=256, dropout=0.1), 8, 256, "bfloat16")
    assert work.TrainWork.from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize("changes", [{"batch": 0}, {"context": 1024}, {"dtype": "int8"}])
def test_work_out_of_range_is_refused(changes):
    with pytest.raises(UsageError):
        replace(work.TrainWork(), **changes)


@pytest.mark.parametrize("changes", [{"pairs": 0}, {"round_s": 0}, {"device": "tpu"}])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(UsageError):
        work.Settings(**changes)


def test_batch_that_does_not_fit_is_refused_with_one_that_does():
    job = work.TrainWork(batch=64)
    work.check_fits(job, 0)  # unknown
    work.check_fits(job, 10**12)
    with pytest.raises(UsageError, match="are free") as error:
        work.check_fits(job, 10**9)
    fits = int(error.value.hint.split()[-1])
    work.check_fits(replace(job, batch=fits), 10**9)
    with pytest.raises(UsageError):
        work.check_fits(replace(job, batch=fits + 1), 10**9)
    with pytest.raises(UsageError, match="GB") as error:
        work.check_fits(job, 10**6)
    assert "smaller" in error.value.hint


def test_a_comparison_needs_memory_for_both_peers():
    job = work.TrainWork(batch=8)
    work.check_fits(job, work.step_bytes(job))
    with pytest.raises(UsageError, match="MLX and PyTorch together") as error:
        work.check_fits(job, work.step_bytes(job), peers=2)
    assert error.value.hint == "Try --batch 4" or error.value.hint == "Try --batch 3"


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_estimate_of_a_step_is_what_mlx_allocates_or_a_little_more(dropout, monkeypatch):
    """In the plain form and uncompiled, as the estimate supposes; compiled, a step needs less."""
    import mlx.core as mx

    from gatsby_mlx import device, kernels
    from gatsby_mlx.config import TrainConfig
    from gatsby_mlx.training import optim
    from gatsby_mlx.training.sequences import MicroBatch
    from gatsby_mlx.training.step import Gradients, TrainingStep

    monkeypatch.setattr(kernels, "on_cpu", lambda: False)
    monkeypatch.setattr(device, "compile_works", lambda: False)
    job = work.TrainWork(GPTConfig(n_layer=2, n_head=4, n_embd=128, block_size=256, dropout=dropout), 4, 256)
    model = GPT(job.model)
    ids, ones = np.zeros((4, 256), np.int32), np.ones((4, 256), np.float32)
    step = TrainingStep(model, optim.build(TrainConfig(optimizer="adamw"), model), Gradients(model))
    step([(0, MicroBatch(ids, ids, ones, ones))])
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    step([(1, MicroBatch(ids, ids, ones, ones))])
    held = 3 * 4 * work.n_params(job.model)  # weights and both moments, which `before` has
    peak = mx.get_peak_memory() - before + held
    assert 0.95 * peak < work.step_bytes(job) < 1.4 * peak
