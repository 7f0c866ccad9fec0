"""`goalworker api`: the HTTP API."""

from typing import Annotated

import typer

from goalworker import config
from goalworker.cli import common
from goalworker.runtime import api_service

app = typer.Typer(add_completion=False)


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on; by default GOALWORKER_API__HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port, 0 for a free one; by default GOALWORKER_API__PORT.")
    ] = None,
    insecure_tenant: Annotated[
        str | None,
        typer.Option(
            callback=common.text,
            help="Require no credentials: every request acts as this tenant. On a loopback address only.",
        ),
    ] = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C; requests in flight are finished."""
    settings = config.load()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"api": settings.api.model_copy(update=given)})
    api_service.run_api(settings, insecure_tenant=insecure_tenant)
