"""engine: what one visitor gets is what `decode` tells, whatever the others do; places are given back."""

import threading
import time

import pytest
from exhibit_tools import STORY, TOKENIZER, Listener, babbler, storyteller

from gatsby_mlx.config import TEMP
from gatsby_mlx.errors import GatsbyError, UsageError
from gatsby_mlx.exhibit.engine import Engine
from gatsby_mlx.exhibit.ticket import Ask, BusyError, StoppedError
from gatsby_mlx.model.decode import Job, Sampling, decode
from gatsby_mlx.prime import LEVELS, build


def ask(engine: Engine, *args, **more):
    """Ask, and return (ticket, listener)."""
    listener = Listener()
    return engine.ask(Ask(*args, **more), listener.fresh.set), listener


@pytest.fixture(scope="module")
def babble():
    return babbler()


@pytest.fixture
def engine(babble):
    with Engine(babble) as running:
        yield running


def expected(checkpoint, topic: str, level: int, seed: int, temp: float = TEMP):
    """Return what `decode` tells; while nothing else computes, since MLX promises nothing of two who do."""
    jobs = [Job(build(topic, level), seed)]
    (story,) = decode(checkpoint.model, checkpoint.tokenizer, jobs, Sampling(temp))
    return story


def test_visitor_gets_the_story_that_decode_tells(babble, engine):
    story = expected(babble, "a cat", 4, 7)
    ticket, heard = ask(engine, "a cat", (4,), 7)
    assert heard.all_of(ticket).text[4] == story.text
    assert (heard.ends[4].finish, heard.ends[4].n_chars) == (story.finish, len(story.text))
    assert heard.places in ([1, 0], [0])


def test_neighbours_with_other_temperatures_change_nothing(babble, engine):
    asked = ((1, 5, 0.0), (2, 6, 1.3), (5, 7, 0.5))
    stories = [expected(babble, "an owl", level, seed, temp).text for level, seed, temp in asked]
    told = [ask(engine, "an owl", (level,), seed, temp) for level, seed, temp in asked]
    assert ["".join(heard.all_of(ticket).text.values()) for ticket, heard in told] == stories


def test_five_at_once_share_their_draws(babble, engine):
    ticket, heard = ask(engine, "a dog", LEVELS, 11)
    heard.all_of(ticket)
    assert {level: heard.text[level] for level in LEVELS} == {
        level: expected(babble, "a dog", level, 11).text for level in LEVELS
    }


def test_story_goes_on_where_it_was_left(babble, engine):
    ticket, heard = ask(engine, "a dog", (2,), 11)
    whole = heard.all_of(ticket).text[2]
    for cut in (1, 60, len(whole) - 2):
        if whole[cut - 1] == "\n":
            continue
        ticket, heard = ask(engine, "a dog", (2,), 11, story=whole[:cut])
        assert whole[:cut] + heard.all_of(ticket).text[2] == whole
        assert heard.ends[2].n_chars == len(whole)
    ticket, heard = ask(engine, "a dog", (5,), 11, story=whole[:60])
    assert heard.all_of(ticket).text[5] != whole[60:]
    (other,) = decode(babble.model, TOKENIZER, [Job(build("a dog", 5) + whole[:60], 11)], Sampling(0.0))
    ticket, heard = ask(engine, "a dog", (5,), 11, temp=0.0, story=whole[:60])
    assert heard.all_of(ticket).text[5] == other.text


def test_story_ends_at_its_marker_without_it_and_mentions_are_counted():
    with Engine(storyteller()) as engine:
        ticket, heard = ask(engine, "a cat", (3,), 1, 0.0)
        assert heard.all_of(ticket).text[3] == STORY
        assert vars(heard.ends[3]) == {"finish": "end", "n_chars": len(STORY), "mentions": 2}
        ticket, heard = ask(engine, "a cat", (3,), 1, 0.0, story=STORY[:70])
        assert heard.all_of(ticket).text[3] == STORY[70:]
        assert heard.ends[3].mentions == 2


def test_end_of_context_is_told():
    with Engine(storyteller(end="", block_size=200)) as engine:
        ticket, heard = ask(engine, "a cat", (3,), 1, 0.0)
        assert heard.all_of(ticket).ends[3].finish == "context"
        assert len(build("a cat", 3)) + heard.ends[3].n_chars == 201  # the last one is drawn, and never read
        with pytest.raises(UsageError, match="200 characters at a time"):
            ask(engine, "a cat", (3,), 1, story="x" * 150)


def test_light_is_read_at_every_place_where_a_word_may_begin():
    with Engine(storyteller()) as engine:
        ticket, heard = ask(engine, "a cat", (3,), 1, 0.0)
        heard.all_of(ticket)
    at = dict(heard.light[3])
    assert set(at) == {0} | {i + 1 for i, c in enumerate(STORY + "\n\n") if c in " \n"} | {STORY.index('"L') + 1}
    for words, p in (("green light", 0.9), ("light. The", 0.9), ("The green", 0.0), ("sat", 0.0)):
        assert at[STORY.index(words)] == pytest.approx(p, abs=0.1), words


def test_those_who_wait_are_told_their_place_and_come_in_order(babble):
    with Engine(babble, batch=5) as engine:
        first, heard = ask(engine, "a cat", LEVELS, 1)
        second, then = ask(engine, "a cat", LEVELS, 2)
        third, last = ask(engine, "a cat", (1,), 3)
        heard.until(first, lambda h: h.text)
        then.hear(second), last.hear(third)
        assert (then.places, last.places) == ([2, 1], [3, 2]) or (then.places[-1], last.places[-1]) == (1, 2)
        first.cancel()
        then.until(second, lambda h: h.text)
        last.hear(third)
        assert last.places[-1] == 1  # four rows may have been free before: the line keeps its order
        second.cancel()
        last.until(third, lambda h: h.text)
        assert last.places[-1] == 0


def test_cancelled_ticket_frees_its_rows_and_its_place(babble):
    with Engine(babble, batch=5, waiting=1) as engine:
        first, heard = ask(engine, "a cat", LEVELS, 1)
        heard.until(first, lambda h: h.text)
        waiting, _ = ask(engine, "a cat", LEVELS, 2)
        with pytest.raises(BusyError) as busy:
            ask(engine, "a cat", (1,), 3)
        assert 1 <= busy.value.retry_after_s <= 60
        waiting.cancel()
        deadline = time.monotonic() + 60
        while engine.n_line and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.n_line == 0 and engine.n_live == 5
        first.cancel()
        while engine.n_live and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.n_live == 0
        heard.hear(first)
        assert not heard.ends


def test_reader_who_never_looks_holds_up_nobody_and_loses_nothing(babble, engine):
    silent = engine.ask(Ask("a cat", LEVELS, 1), lambda: None)
    ticket, heard = ask(engine, "a cat", (1,), 1)
    heard.all_of(ticket)
    late = Listener()
    deadline = time.monotonic() + 60
    while len(late.ends) < 5 and time.monotonic() < deadline:
        late.hear(silent)
        time.sleep(0.01)
    assert late.text[1] == heard.text[1]


def test_what_cannot_be_told_is_refused_at_once(engine):
    for bad in (
        {"story": "and so\n\n[green=1]"},
        {"story": "caf\u00e9"},
        {"temp": -1.0},
        {"temp": float("nan")},
    ):
        with pytest.raises(GatsbyError):
            ask(engine, "a cat", (1,), 1, **bad)
    assert engine.n_line == engine.n_live == 0


def test_closing_tells_everyone(babble):
    with Engine(babble, batch=5) as engine:
        telling, heard = ask(engine, "a cat", LEVELS, 1)
        heard.until(telling, lambda h: h.text)
        waiting, other = ask(engine, "a cat", (1,), 1)
        future = engine.pull("a cat", "x" * 200)
    heard.hear(telling), other.hear(waiting)
    assert heard.closed and other.closed
    assert future.done() and (future.exception() is None or isinstance(future.exception(), StoppedError))
    with pytest.raises(StoppedError):
        ask(engine, "a cat", (1,), 1)
    with pytest.raises(StoppedError):
        engine.pull("a cat", "x")


def test_failure_of_the_model_is_told_and_remembered(babble, monkeypatch, caplog):
    with Engine(babble, batch=5) as engine:
        ticket, heard = ask(engine, "a cat", (1,), 1)
        heard.until(ticket, lambda h: h.text)

        def broken(ids):
            raise RuntimeError("no memory left")

        monkeypatch.setattr(engine.slots, "step", broken)
        assert heard.all_of(ticket).closed
        with pytest.raises(StoppedError, match="no memory left"):
            ask(engine, "a cat", (1,), 1)
    assert "the engine has failed" in caplog.text


def test_batch_has_room_for_five():
    with pytest.raises(UsageError, match="Five at once"):
        Engine(babbler(), batch=4)


def test_many_who_come_and_go_leave_nothing_behind(babble):
    with Engine(babble, batch=8, waiting=100) as engine:

        def visit(n: int) -> None:
            ticket, heard = ask(engine, "a cat", (1 + n % 5,) if n % 3 else LEVELS, n)
            heard.until(ticket, lambda h: sum(map(len, h.text.values())) > n % 7)
            ticket.cancel()

        visitors = [threading.Thread(target=visit, args=(n,)) for n in range(24)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(60)
        deadline = time.monotonic() + 60
        while (engine.n_live or engine.n_line) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.n_live == engine.n_line == 0
        assert engine.rows == [None] * 8
