"""What a GPU does when it gives out becomes one line with the way out, in every long command; what was done is kept."""

import importlib
import io
import json
import re
import threading
from pathlib import Path

import mlx.core as mx
import pytest
from cli_tools import gatsby, one_line
from tiny import save

from gatsby_mlx import api, foreign
from gatsby_mlx.bench import peer
from gatsby_mlx.errors import DeviceError
from gatsby_mlx.exhibit import server
from gatsby_mlx.exhibit.engine import Engine
from gatsby_mlx.model import checkpoint
from gatsby_mlx.model.decode import TellingBatch
from gatsby_mlx.training.step import TrainingStep

# The texts are those of MLX's sources: backend/metal/device.cpp and allocator.cpp, backend/cuda.
FAILED = "[METAL] Command buffer execution failed: "
MESSAGES = {
    f"{FAILED}Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)": "not enough memory",
    f"{FAILED}Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)": "took too long",
    f"{FAILED}Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpacting)": "drawing the screen",
    "[metal::malloc] Resource limit (499000) exceeded.": "too many are in use",
    "[metal::malloc] Attempting to allocate 9 bytes which is greater than the maximum allowed buffer size": "memory",
    "[malloc_or_wait] Unable to allocate 99999999999 bytes.": "not enough memory",
    "[metal::load_device] No Metal device available.": "no GPU that MLX can use",
    "cudaMallocAsync(&data, size, stream) failed: out of memory": "not enough memory",
}
FULL = next(iter(MESSAGES))
TELL = ["--n-topics", 1, "--seeds", 1, "--max-tokens", 8]


def give_out(*_: object, **__: object) -> None:
    raise RuntimeError(FULL)


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_has_its_meaning_and_no_address_of_the_driver(message):
    found = foreign.device_error(RuntimeError(message), "Do this")
    assert found is not None and MESSAGES[message] in str(found)
    assert "kIOGPU" not in found.line() and "::" not in found.line()
    assert found.line().endswith("Do this") or "no GPU" in str(found)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("memory")]
)
def test_an_error_that_is_a_bug_stays_one(error):
    assert foreign.device_error(error) is None
    assert foreign.explain(error) is None
    with pytest.raises(type(error)), foreign.device_errors("Do this"):
        raise error


def test_memory_of_the_machine_is_a_device_error_and_the_outer_way_out_wins():
    with pytest.raises(DeviceError) as caught, foreign.device_errors("outer"), foreign.device_errors("inner"):
        raise MemoryError
    assert caught.value.line() == "There is not enough memory. outer"


def test_training_keeps_its_last_checkpoint_and_says_how_to_go_on(workdir, corpus, monkeypatch):
    words = ["train", "--preset", "pocket", "--corpus", corpus, "--out", "run", "--max-chars", 20_000]
    begin, n = TrainingStep.begin, []

    def second_fails(self, batches):
        n.append(1)
        return begin(self, batches) if len(n) < 2 else give_out()

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "begin", second_fails)
        done = gatsby(*words)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    line = done.stderr.splitlines()[-1]
    assert (
        line.startswith("gatsby: There is not enough memory") and "run/last is complete" in line and "--resume" in line
    )
    checkpoint.load("run/last")
    given = re.search(r"(--micro-chars) (\d+)", line)
    assert (
        given and int(given[2]) == json.loads(Path("run/last/config.json").read_text())["training"]["micro_chars"] // 2
    )
    assert gatsby(*words, "--resume", *given.groups()).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [["tell", "a cat"], *([name, *TELL] for name in ("dial", "honor", "prose", "report", "samples"))],
    ids=lambda words: words[0],
)
def test_telling_says_that_a_smaller_batch_helps(workdir, model, monkeypatch, words):
    monkeypatch.setattr(TellingBatch, "step", give_out)
    done = gatsby(*words, "--model", model, *(["--out", "rep"] if words[0] == "report" else []))
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("gatsby: There is not enough memory") and "--batch" in line


def test_the_demo_is_one_line(workdir, monkeypatch):
    monkeypatch.setattr(mx, "eval", give_out)
    done = gatsby("demo", "--n", 50)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert done.stderr.splitlines()[-1].startswith("gatsby: There is not enough memory")


def test_a_writer_stops_and_the_way_out_is_a_smaller_batch(workdir, monkeypatch):
    generate = importlib.import_module("mlx_lm.generate")  # the package has a function of that name
    folder = save(workdir / "writer", "granite")
    monkeypatch.setattr(generate.BatchGenerator, "next_generated", give_out)
    (workdir / "topics.txt").write_text("a cat\n")
    done = gatsby("write", "--blend", f"./{folder.name}", "--topics", "topics.txt", "--out", "c")
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("gatsby: ") and "not enough memory" in line and "batch = 4" in line and "To resume" in line


def test_the_exhibit_logs_one_line_and_ends_with_it(workdir, model, monkeypatch, caplog):
    monkeypatch.setattr(TellingBatch, "step", give_out)
    loaded = api.load(model)
    with Engine(loaded.checkpoint, 5) as engine:
        engine._thread.join(30)
        assert isinstance(engine.failure, DeviceError)
    (record,) = caplog.records
    assert record.exc_info is None and "--batch" in record.getMessage()

    others = set(threading.enumerate())  # engines of other tests' servers

    def until_it_fails(self, sockets):
        for thread in set(threading.enumerate()) - others:
            if thread.name == "engine":
                thread.join(30)

    monkeypatch.setattr(server.Server, "run", until_it_fails)
    done = gatsby("serve", "--port", 0, "--model", model)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit)
    assert "--batch" in one_line(done.stderr)


def test_a_peer_of_the_benchmark_answers_with_it():
    class Peer:
        def step(self):
            give_out()

    answers = io.StringIO()
    peer.serve(Peer(), ['{"do": "step"}'], answers)
    assert "not enough memory" in json.loads(answers.getvalue())["error"]
