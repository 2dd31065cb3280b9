"""`gatsby serve`."""

from pathlib import Path

import click

from gatsby_mlx.cli.console import load_model, model_option


@click.command()
@click.option("--kiosk", is_flag=True, help="For a stand: large, no history, begins anew when nobody is there.")
@click.option("--idle", type=click.IntRange(5), default=60, show_default=True, help="Seconds until it does.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--batch", type=click.IntRange(5, 256), default=16, show_default=True, help="Stories told at a time.")
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    metavar="DIR",
    show_default="the one that ships",
    help="Where to look up who taught it that.",
)
@model_option
def command(kiosk, idle, host, port, batch, corpus, model) -> None:
    """Serve the exhibit: a page on which a visitor turns the dial. Ctrl-C stops it.

    \b
    Examples:
      gatsby serve
      gatsby serve --kiosk --model runs/story
    """
    from gatsby_mlx import shipped
    from gatsby_mlx.corpus.load import locate
    from gatsby_mlx.errors import CorpusError
    from gatsby_mlx.exhibit import server
    from gatsby_mlx.exhibit.app import Exhibit, Settings, application
    from gatsby_mlx.exhibit.engine import Engine
    from gatsby_mlx.exhibit.guard import is_loopback
    from gatsby_mlx.exhibit.sources import Sources

    if corpus and not locate(corpus).is_file():
        raise CorpusError(f"There is no corpus at {corpus}", "Write one with: gatsby write --out DIR")
    with server.bind(host, port) as listening:
        ready = load_model(model)
        known = ready.info.get("corpus")
        sources = Sources(corpus or shipped.corpus(), known.get("sha256") if isinstance(known, dict) else None)
        if not is_loopback(host):
            told = f"warning: anyone who can reach {host} can use this page, and nothing is encrypted"
            click.echo(told, err=True)
        with Engine(ready, batch) as engine:
            click.echo(server.url(listening))
            try:
                exhibit = Exhibit(engine, ready, sources, Settings(host, kiosk, idle))
                serving = server.Server(application(exhibit), engine.close)
                serving.run([listening])
            finally:
                sources.close()
        if serving.interrupted:
            raise KeyboardInterrupt
