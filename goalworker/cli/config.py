"""`goalworker config`: the settings, and their values in effect."""

import typer

from goalworker import config
from goalworker.cli import common

app = typer.Typer(help="Show the settings.", no_args_is_help=True, add_completion=False)


@app.command()
def show(as_json: common.Json = False) -> None:
    """Print the settings in effect and the source of each, with secrets masked."""
    settings = common.load()
    effective, sources = config.masked(settings), config.sources(settings)
    if as_json:
        common.show_json({name: {"value": value, "from": sources[name]} for name, value in effective.items()})
    else:
        for name, value in effective.items():
            common.say(f"{name}={value}  # {sources[name]}")


@app.command()
def docs(as_json: common.Json = False) -> None:
    """Print all settings as a Markdown table."""
    if as_json:
        common.show_json([row._asdict() for row in config.table()])
        return
    common.say("| setting | default | meaning |\n|---|---|---|")
    for name, default, description in config.table():
        common.say(f"| `{name}` | {_cell(default)} | {_cell(description)} |")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
