"""engine: a visitor gets the story that `decode` tells, whatever the others do, and slots are freed."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from babbler import TOKENIZER, babbler
from exhibit_tools import STORY, Listener, storyteller

from gatsby_mlx.errors import GatsbyError, UsageError
from gatsby_mlx.exhibit.engine import Engine
from gatsby_mlx.exhibit.lamp import Lamp
from gatsby_mlx.exhibit.request import BusyError, StoppedError, StoryParams, StoryRequest
from gatsby_mlx.model.checkpoint import Checkpoint
from gatsby_mlx.model.decode import decode
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS
from gatsby_mlx.story.prime import build
from gatsby_mlx.story.sampling import TEMP, Job, Sampling, Story


def submit(engine: Engine, *args: Any, **more: Any) -> tuple[StoryRequest, Listener]:
    """Submit StoryParams(*args, **more)."""
    listener = Listener()
    return engine.submit(StoryParams(*args, **more), listener.fresh.set), listener


def eventually(true: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until `true()` is true; return whether it is."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return true()


@pytest.fixture(scope="module")
def babble():
    return babbler()


@pytest.fixture
def engine(babble):
    with Engine(babble) as running:
        assert eventually(lambda: running.ready)  # two threads may not compute with one model
        yield running


def expected(checkpoint: Checkpoint, topic: str, level: int, seed: int, temp: float = TEMP) -> Story:
    """Return what `decode` tells. Call it while the engine is idle: two threads may not compute with one model."""
    jobs = [Job(build(topic, level), seed)]
    (story,) = decode(checkpoint.model, checkpoint.tokenizer, jobs, Sampling(temp))
    return story


def test_visitor_gets_the_story_that_decode_tells(babble, engine):
    story = expected(babble, "a cat", 4, 7)
    request, heard = submit(engine, "a cat", (4,), 7)
    assert heard.until_end(request).text[4] == story.text
    assert (heard.ends[4].finish, heard.ends[4].n_chars) == (story.finish, len(story.text))
    assert heard.positions in ([1, 0], [0])


def test_other_stories_with_other_temperatures_change_nothing(babble, engine):
    asked = ((1, 5, 0.0), (2, 6, 1.3), (5, 7, 0.5))
    stories = [expected(babble, "an owl", level, seed, temp).text for level, seed, temp in asked]
    requests = [submit(engine, "an owl", (level,), seed, temp) for level, seed, temp in asked]
    assert ["".join(heard.until_end(request).text.values()) for request, heard in requests] == stories


def test_five_at_once_share_their_draws(babble, engine):
    request, heard = submit(engine, "a dog", LEVELS, 11)
    heard.until_end(request)
    assert {level: heard.text[level] for level in LEVELS} == {
        level: expected(babble, "a dog", level, 11).text for level in LEVELS
    }


def test_story_continues_from_any_cut(babble, engine):
    request, heard = submit(engine, "a dog", (2,), 11)
    story = heard.until_end(request).text[2]
    for cut in (1, 60, len(story) - 2):
        if story[cut - 1] == "\n":
            continue
        request, heard = submit(engine, "a dog", (2,), 11, story=story[:cut])
        assert story[:cut] + heard.until_end(request).text[2] == story
        assert heard.ends[2].n_chars == len(story)
    request, heard = submit(engine, "a dog", (5,), 11, story=story[:60])
    assert heard.until_end(request).text[5] != story[60:]
    (other,) = decode(babble.model, TOKENIZER, [Job(build("a dog", 5) + story[:60], 11)], Sampling(0.0))
    request, heard = submit(engine, "a dog", (5,), 11, temp=0.0, story=story[:60])
    assert heard.until_end(request).text[5] == other.text


def test_story_ends_before_its_marker_and_mentions_are_counted():
    with Engine(storyteller()) as engine:
        request, heard = submit(engine, "a cat", (3,), 1, 0.0)
        assert heard.until_end(request).text[3] == STORY
        assert vars(heard.ends[3]) == {"finish": "end", "n_chars": len(STORY), "mentions": 2}
        request, heard = submit(engine, "a cat", (3,), 1, 0.0, story=STORY[:70])
        assert heard.until_end(request).text[3] == STORY[70:]
        assert heard.ends[3].mentions == 2


def test_end_of_the_context_is_reported():
    with Engine(storyteller(end="", block_size=200)) as engine:
        request, heard = submit(engine, "a cat", (3,), 1, 0.0)
        assert heard.until_end(request).ends[3].finish == "context"
        assert len(build("a cat", 3)) + heard.ends[3].n_chars == 201  # the last one is drawn but never read
        with pytest.raises(UsageError, match="200 characters at a time"):
            submit(engine, "a cat", (3,), 1, story="x" * 150)


def test_light_is_read_wherever_a_word_may_begin():
    with Engine(storyteller()) as engine:
        request, heard = submit(engine, "a cat", (3,), 1, 0.0)
        heard.until_end(request)
    at = dict(heard.light[3])
    assert set(at) == {0} | {i + 1 for i, c in enumerate(STORY + "\n\n") if c in " \n"} | {STORY.index('"L') + 1}
    chances = dict(heard.chance[3])
    assert set(chances) == set(at) and all(0 < p < 1 for p in chances.values())
    assert chances[STORY.index("It saw")] == Lamp(GREEN_LIGHT).chance(3, STORY[: STORY.index("It saw")])
    for words, p in (("green light", 0.9), ("light. The", 0.9), ("The green", 0.0), ("sat", 0.0)):
        assert at[STORY.index(words)] == pytest.approx(p, abs=0.1), words


def test_queued_requests_get_their_position_and_start_in_order(babble):
    with Engine(babble, n_slots=5) as engine:
        first, heard = submit(engine, "a cat", LEVELS, 1)
        second, then = submit(engine, "a cat", LEVELS, 2)
        third, last = submit(engine, "a cat", (1,), 3)
        heard.until(first, lambda h: h.text)
        then.collect(second), last.collect(third)
        assert (then.positions, last.positions) == ([2, 1], [3, 2]) or (then.positions[-1], last.positions[-1]) == (
            1,
            2,
        )
        first.cancel()
        then.until(second, lambda h: h.text)
        last.collect(third)
        assert last.positions[-1] == 1  # four slots may have been free before, but the queue keeps its order
        second.cancel()
        last.until(third, lambda h: h.text)
        assert last.positions[-1] == 0


def test_cancelled_request_frees_its_slots_and_its_position(babble):
    with Engine(babble, n_slots=5, max_queued=1) as engine:
        first, heard = submit(engine, "a cat", LEVELS, 1)
        heard.until(first, lambda h: h.text)
        waiting, _ = submit(engine, "a cat", LEVELS, 2)
        with pytest.raises(BusyError) as busy:
            submit(engine, "a cat", (1,), 3)
        assert 1 <= busy.value.retry_after_s <= 60
        waiting.cancel()
        assert eventually(lambda: engine.n_queued == 0)
        assert engine.n_live == 5
        first.cancel()
        assert eventually(lambda: engine.n_live == 0)
        heard.collect(first)
        assert not heard.ends


def test_reader_who_never_reads_delays_nobody_and_loses_nothing(babble, engine):
    silent = engine.submit(StoryParams("a cat", LEVELS, 1), lambda: None)
    request, heard = submit(engine, "a cat", (1,), 1)
    heard.until_end(request)
    late = Listener()

    def all_ended() -> bool:
        late.collect(silent)
        return len(late.ends) == 5

    assert eventually(all_ended)
    assert late.text[1] == heard.text[1]


def test_invalid_parameters_are_refused_at_once(engine):
    for bad in (
        {"story": "and so\n\n[green=1]"},
        {"story": "caf\u00e9"},
        {"temp": -1.0},
        {"temp": float("nan")},
    ):
        with pytest.raises(GatsbyError):
            submit(engine, "a cat", (1,), 1, **bad)
    assert engine.n_queued == engine.n_live == 0


def test_closing_closes_every_request(babble):
    with Engine(babble, n_slots=5) as engine:
        telling, heard = submit(engine, "a cat", LEVELS, 1)
        heard.until(telling, lambda h: h.text)
        waiting, other = submit(engine, "a cat", (1,), 1)
        future = engine.pull("a cat", "x" * 200)
    heard.collect(telling), other.collect(waiting)
    assert heard.closed and other.closed
    assert future.done() and (future.exception() is None or isinstance(future.exception(), StoppedError))
    with pytest.raises(StoppedError):
        submit(engine, "a cat", (1,), 1)
    with pytest.raises(StoppedError):
        engine.pull("a cat", "x")


def test_failure_of_the_model_closes_requests_and_is_remembered(babble, monkeypatch, caplog):
    with Engine(babble, n_slots=5) as engine:
        request, heard = submit(engine, "a cat", (1,), 1)
        heard.until(request, lambda h: h.text)

        def broken(ids):
            raise RuntimeError("no memory left")

        monkeypatch.setattr(engine.batch.slots, "step", broken)
        assert heard.until_end(request).closed
        with pytest.raises(StoppedError, match="no memory left"):
            submit(engine, "a cat", (1,), 1)
    assert "the engine has failed" in caplog.text


def test_slot_is_free_before_the_end_is_reported():
    freed = []
    with Engine(storyteller()) as engine:
        request = engine.submit(StoryParams("a cat", (3,), 1, 0.0), lambda: None)
        request.wake = lambda: freed.append(engine.n_live) if request._events.ends else None
        assert eventually(lambda: bool(freed))
    assert freed[0] == 0


def test_batch_smaller_than_five_is_refused():
    with pytest.raises(UsageError, match="Five at once"):
        Engine(babbler(), n_slots=4)


def test_many_visitors_leave_nothing_behind(babble):
    with Engine(babble, n_slots=8, max_queued=100) as engine:

        def visit(n: int) -> None:
            request, heard = submit(engine, "a cat", (1 + n % 5,) if n % 3 else LEVELS, n)
            heard.until(request, lambda h: sum(map(len, h.text.values())) > n % 7)
            request.cancel()

        visitors = [threading.Thread(target=visit, args=(n,)) for n in range(24)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(60)
        assert eventually(lambda: engine.n_live == engine.n_queued == 0)
        assert engine.batch.n_live == 0
