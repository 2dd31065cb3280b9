"""`gatsby serve`."""

import contextlib
import sys
import webbrowser
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatsby_mlx.cli.console import PATH, choose_model, warn_if_slow

if TYPE_CHECKING:
    from gatsby_mlx.api import Model
    from gatsby_mlx.exhibit.app import Teller
    from gatsby_mlx.exhibit.records import Counts
    from gatsby_mlx.exhibit.sources import Sources


@click.command()
@click.option(
    "--kiosk", is_flag=True, help="For an exhibition: large type, no history, and a new start when nobody is there."
)
@click.option(
    "--idle",
    type=click.IntRange(5),
    metavar="N",
    default=60,
    show_default=True,
    help="Seconds without a visitor before --kiosk starts over; reading a long story extends them.",
)
@click.option("--night", is_flag=True, help="The dark scheme for everybody, for a dark room.")
@click.option("--qr", is_flag=True, help="Show the address as a code to scan; needs a --host that others can reach.")
@click.option("--refuse", type=PATH, metavar="FILE", help="Words that no topic may have, one on a line.")
@click.option("--counts", type=PATH, metavar="FILE", help="Keep the numbers of visits and stories of each day here.")
@click.option("--access-log", type=PATH, metavar="FILE", help="Add a line for each request: no topics, no addresses.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="A name that a router or a tailnet gives this machine. Give it again for more.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    default=8000,
    show_default=True,
    help="Port to listen on; 0 is any free one.",
)
@click.option(
    "--batch",
    type=click.IntRange(5, 256),
    metavar="N",
    default=16,
    show_default=True,
    help="Stories that are told at the same time, by each model.",
)
@click.option(
    "--corpus",
    type=PATH,
    metavar="DIR",
    show_default="what the model learned from, if it is here",
    help="The corpus in which the page looks up where a story's words come from.",
)
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    metavar="DIR",
    show_default="$GATSBY_MODEL, else those that ship",
    help="Checkpoint or run folder, or a repository in the hub's cache. Give it again to offer a choice.",
)
def command(
    kiosk, idle, night, qr, refuse, counts, access_log, open_page, host, allow_host, port, batch, corpus, models
) -> None:
    """Serve the exhibit: a page on which a visitor turns the dial. Ctrl-C stops it.

    \b
    Examples:
      gatsby serve --open
      gatsby serve --kiosk --model runs/story
      gatsby serve --model small --model runs/whale
      gatsby serve --kiosk --host 0.0.0.0 --qr --night --counts visits.json
    """
    from gatsby_mlx import api
    from gatsby_mlx.corpus.load import locate
    from gatsby_mlx.device.awake import awake
    from gatsby_mlx.errors import CorpusError, GatsbyError, UsageError
    from gatsby_mlx.exhibit import server
    from gatsby_mlx.exhibit.app import N_SUGGESTED, Exhibit, PageSettings, Teller, application
    from gatsby_mlx.exhibit.engine import Engine
    from gatsby_mlx.exhibit.guard import is_loopback
    from gatsby_mlx.exhibit.records import Counts
    from gatsby_mlx.exhibit.topic import read_refused
    from gatsby_mlx.files import output_errors

    if corpus and not locate(corpus).is_file():
        raise CorpusError(f"There is no corpus at {corpus}", "Write one with: gatsby write --out DIR")
    if qr and is_loopback(host):
        raise UsageError(f"Nobody else can reach {host}, so there is no code to scan", "Add: --host 0.0.0.0")
    refused = read_refused(refuse) if refuse else frozenset()
    kept = Counts(counts)
    with contextlib.ExitStack() as stack:
        if kiosk:
            stack.enter_context(awake(display=True))
        listening = stack.enter_context(server.bind(host, port))
        loaded = [api.load(model) for model in _chosen(models)]
        warn_if_slow()
        tellers = []
        for model in loaded:
            model.check_dial()
            if corpus:
                api.check_obsession(model.obsession, corpus)
            sources = _sources(model, corpus)
            stack.callback(sources.close)
            engine = stack.enter_context(Engine(model.checkpoint, batch))
            tellers.append(Teller(engine, model.checkpoint, sources))
        log = None
        if access_log:
            with output_errors(str(access_log)):
                log = stack.enter_context(access_log.open("a", encoding="utf-8"))
        urls = [server.url(listening), *server.network_urls(listening)]
        settings = PageSettings(
            host,
            kiosk,
            idle,
            api.evaluation_topics(loaded[0], N_SUGGESTED),
            night=night,
            code_url=f"{urls[1]}/visit" if qr and len(urls) > 1 else None,
            allowed=allow_host,
            refused=refused,
            access_log=log,
        )
        click.echo(urls[0])
        if open_page and not webbrowser.open(urls[0]):
            click.echo("no browser was found to open the page in", err=True)
        _say_who_can_reach(host, urls[1:])
        if qr and not settings.code_url:
            click.echo("warning: this machine has no address for others, so no code is shown", err=True)
        serving = server.Server(application(Exhibit(tellers, settings, kept)), _closer(tellers, kept))
        serving.run([listening])
    for teller in tellers:
        if isinstance(teller.engine.failure, GatsbyError):
            raise teller.engine.failure
    if serving.interrupted:
        raise KeyboardInterrupt


def _chosen(models: tuple[str, ...]) -> list[Path]:
    """Return the folders of the models to offer: those that are named, else the default and what ships beside it."""
    from gatsby_mlx import api, shipped

    if models:
        return [api.find_model(model) for model in dict.fromkeys(models)]
    first = choose_model(None)
    ship = sorted(path.parent for path in shipped.folder("checkpoints").glob("*/config.json"))
    return [first, *(folder for folder in ship if folder != first)] if first in ship else [first]


def _sources(model: "Model", corpus: Path | None) -> "Sources":
    """Return what the page can look up for `model`: in `corpus`, else in what the model learned from, if it is here."""
    from gatsby_mlx import api
    from gatsby_mlx.corpus.load import load
    from gatsby_mlx.exhibit.sources import Sources

    known = model.checkpoint.about_corpus
    if corpus:
        return Sources(partial(load, corpus), known)
    found = api.find_corpus(model.corpus_sha256, model.path)
    return Sources((lambda: found) if found else None, known)


def _closer(tellers: Sequence["Teller"], counts: "Counts") -> Callable[[], None]:
    """Return a function that closes every engine and saves the counts: SIGTERM leaves no time after it."""

    def close() -> None:
        for teller in tellers:
            teller.engine.close()
        counts.save()

    return close


def _say_who_can_reach(host: str, urls: list[str]) -> None:
    """Print the addresses for other machines, with a code to scan on a terminal; warn that nothing is encrypted."""
    from gatsby_mlx.exhibit.guard import is_loopback
    from gatsby_mlx.exhibit.records import code

    if is_loopback(host):
        return
    click.echo(f"warning: anyone who can reach {host} can use this page, and nothing is encrypted", err=True)
    for url in urls:
        click.echo(f"from another machine: {url}", err=True)
    if urls and sys.stderr.isatty():
        code(urls[0]).terminal(out=sys.stderr, border=2, compact=True)
