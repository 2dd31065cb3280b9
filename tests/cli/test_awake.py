"""Everything that takes minutes holds off sleep, and what takes seconds does not."""

import pytest
from cli_tools import gatsby

from gatsby_mlx.device import awake

BENCH = [["bench", name] for name in ("train", "decode", "scale", "all", "serve", "write")]
LONG = [[name] for name in ("demo", "dial", "honor", "prose", "report", "samples")]


class AwakeError(Exception):
    """Raised in the place of a helper that would start."""


@pytest.fixture
def noticed(monkeypatch) -> None:
    def start(display: bool) -> None:
        raise AwakeError(display)

    monkeypatch.setattr(awake, "_open", [])
    monkeypatch.setattr(awake, "_restart", start)


@pytest.mark.parametrize("words", [*LONG, *BENCH, ["train"], ["write"]], ids=" ".join)
def test_long_command_holds_off_sleep(workdir, corpus, noticed, words):
    more = {"train": ["--corpus", corpus], "write": ["--n", 5, "--out", "c"]}.get(words[0], [])
    more = [workdir] if words == ["bench", "write"] else more
    done = gatsby(*words, *more)
    assert isinstance(done.exception, AwakeError), done.output
    assert done.exception.args == (False,)


def test_kiosk_keeps_the_screen_on_and_an_exhibit_at_a_desk_lets_the_mac_sleep(workdir, noticed):
    done = gatsby("serve", "--kiosk", "--port", 0)
    assert isinstance(done.exception, AwakeError) and done.exception.args == (True,)
    assert gatsby("serve", "--port", 0).exit_code == 1  # no model here


def test_short_command_holds_off_nothing(workdir, model, corpus, noticed):
    for words in (["tell", "a cat", "--model", model, "--max-tokens", 2], ["corpus", "show", corpus]):
        assert gatsby(*words).exit_code == 0
