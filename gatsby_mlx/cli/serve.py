"""`gatsby serve`."""

from contextlib import nullcontext

import click

from gatsby_mlx.cli.console import PATH, load_model, model_option


@click.command()
@click.option(
    "--kiosk", is_flag=True, help="For an exhibition: large type, no history, and a restart when nobody is there."
)
@click.option(
    "--idle",
    type=click.IntRange(5),
    metavar="N",
    default=60,
    show_default=True,
    help="Seconds without a visitor before --kiosk restarts.",
)
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on.")
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
    help="Stories that are told at the same time.",
)
@click.option(
    "--corpus",
    type=PATH,
    metavar="DIR",
    show_default="the one that ships",
    help="The corpus in which the page looks up where a story's words come from.",
)
@model_option
def command(kiosk, idle, host, port, batch, corpus, model) -> None:
    """Serve the exhibit: a page on which a visitor turns the dial. Ctrl-C stops it.

    \b
    Examples:
      gatsby serve
      gatsby serve --kiosk --model runs/story
    """
    from gatsby_mlx import api, shipped
    from gatsby_mlx.corpus.load import locate
    from gatsby_mlx.device.awake import awake
    from gatsby_mlx.errors import CorpusError, GatsbyError
    from gatsby_mlx.exhibit import server
    from gatsby_mlx.exhibit.app import N_SUGGESTED, Exhibit, PageSettings, application
    from gatsby_mlx.exhibit.engine import Engine
    from gatsby_mlx.exhibit.guard import is_loopback
    from gatsby_mlx.exhibit.sources import Sources

    if corpus and not locate(corpus).is_file():
        raise CorpusError(f"There is no corpus at {corpus}", "Write one with: gatsby write --out DIR")
    with awake(display=True) if kiosk else nullcontext(), server.bind(host, port) as listening:
        loaded = load_model(model)
        loaded.check_dial()
        if corpus:
            api.check_obsession(loaded.obsession, corpus)
        topics = api.evaluation_topics(loaded, N_SUGGESTED)
        known = loaded.info.get("corpus")
        sources = Sources(corpus or shipped.corpus(), known.get("sha256") if isinstance(known, dict) else None)
        if not is_loopback(host):
            warning = f"warning: anyone who can reach {host} can use this page, and nothing is encrypted"
            click.echo(warning, err=True)
        with Engine(loaded.checkpoint, batch) as engine:
            click.echo(server.url(listening))
            try:
                exhibit = Exhibit(engine, loaded.checkpoint, sources, PageSettings(host, kiosk, idle, topics))
                serving = server.Server(application(exhibit), engine.close)
                serving.run([listening])
            finally:
                sources.close()
        if isinstance(engine.failure, GatsbyError):
            raise engine.failure
        if serving.interrupted:
            raise KeyboardInterrupt
