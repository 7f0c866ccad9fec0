"""Draw the pictures of README: `make picture` runs the demo on a terminal, and saves four pictures of it.

They are the console's first page, and as SVG the demo's live view, an explanation and a plan.
"""

import html
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from playwright import sync_api
from rich.console import Console
from rich.padding import Padding
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.kit import browser, demo_process

FOLDER: Final = Path(__file__).parent
CONSOLE: Final = FOLDER / "console.png"
LIVE_VIEW: Final = FOLDER / "live_view.svg"
EXPLANATION: Final = FOLDER / "explanation.svg"
PLAN: Final = FOLDER / "plan.svg"
TITLES: Final = {
    LIVE_VIEW: "goalworker demo, the live view",
    EXPLANATION: "goalworker goals explain, a payment that just missed its goal",
    PLAN: "goalworker goals plan, what another goal would have achieved",
}

COLUMNS: Final = 120
ROWS: Final = 36
SHELL_COLUMNS: Final = 80
CONSOLE_SIZE: Final[sync_api.ViewportSize] = {"width": 1280, "height": 720}
SECONDS: Final = 60.0
FRAME: Final = "\x1b[H"
"""Begins each picture: the cursor goes to the first cell of the screen."""

WIDER_GOAL: Final[dict[str, Any]] = {
    "workflow_id": "checkout",
    "goals": [{"goal_type": "purchase_made", "criteria": {"min_amount": "50", "currency": "EUR"}, "name": "Any plan"}],
}
"""A goal that the demo lacks: a payment for any product."""

# Rich's own template loads a font from another server, which a README must not.
_SVG: Final = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg" \
xml:space="preserve" role="img">
<title>{title}</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
<rect fill="#1c1d1f" width="{terminal_width}" height="{terminal_height}" rx="8"/>
<g clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def last_frame(drawn: str) -> str:
    """Return the last complete picture that was drawn on a terminal, with its colours."""
    *_, frame, _ = drawn.split(FRAME)
    return frame.partition("\x1b[?")[0].replace("\r\n", "\n")


def svg_of(frame: str, columns: int, title: str) -> str:
    """Return a picture as SVG, with an empty cell on every side; equal pictures give equal text."""
    width = columns + 2
    console = Console(record=True, file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor")
    text = Text.from_ansi(frame, no_wrap=True, overflow="crop")
    console.print(Padding(text, (0, 1)))
    template = _SVG.replace("{title}", html.escape(title))
    drawn = console.export_svg(theme=MONOKAI, code_format=template, unique_id="view")
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


class Shell:
    """A shell that has read the file whose name the live view shows."""

    def __init__(self, file: Path, folder: Path) -> None:
        self._file, self._folder = file, folder

    def picture_of(self, command: str) -> str:
        """Run a command; return it with what it said, as a terminal would show it."""
        words = ["sh", "-e", "-c", f". {shlex.quote(str(self._file))}; {command}"]
        ran = subprocess.run(
            words,
            cwd=self._folder,
            env=demo_process.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if ran.returncode:
            sys.exit(f"{command} ended with {ran.returncode}: {ran.stderr}")
        return f"\x1b[1m$ {command}\x1b[0m\n{ran.stdout}"


def _asked(shell: Shell, explain: str) -> dict[Path, str]:
    """Return what the shell says about the contact whose command the live view shows, and about another goal."""
    goal_id = re.findall(r"goal (\S+), enrollment", shell.picture_of(explain))[0]
    return {
        EXPLANATION: shell.picture_of(f"{explain} \\\n    --goal {goal_id}"),
        PLAN: shell.picture_of("goalworker goals plan goals.json --tenant acme"),
    }


def photograph_console(url: str, key: str) -> None:
    """Save a picture of the console's first page as it is."""
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.executable(), args=browser.ARGUMENTS)
        page = chromium.new_page(viewport=CONSOLE_SIZE, color_scheme="light")
        page.context.request.post(f"{url}/console/login", form={"key": key})
        page.goto(f"{url}/console")
        sync_api.expect(page.locator("#feed-state")).to_have_text("Live")
        sync_api.expect(page.locator(".spark svg").first).to_be_visible()
        page.screenshot(path=CONSOLE)
        chromium.close()


def main() -> int:
    """Run the demo for a minute; save its last picture, and what two commands say about it."""
    with demo_process.demo(terminal=(COLUMNS, ROWS)) as running, tempfile.TemporaryDirectory() as folder:
        running.until(lambda: "traffic" in running.said, timeout_seconds=180)
        time.sleep(SECONDS)
        frame = last_frame(running.drawn)
        said = demo_process.ANSI.sub("", frame)
        (file,), (explain,) = re.findall(r"shell \. (\S+)", said), re.findall(r"why (goalworker .*?) *│", said)
        (Path(folder) / "goals.json").write_text(json.dumps({"workflows": [WIDER_GOAL]}))
        variables = dict(re.findall(r"(\w+)='?([^'\s]+)", Path(file).read_text()))
        photograph_console(variables["GW"], variables["KEY"])
        drawn = {LIVE_VIEW: frame, **_asked(Shell(Path(file), Path(folder)), explain)}
        running.process.send_signal(signal.SIGINT)
        if running.process.wait(150) != 0:
            sys.stderr.write(running.said)
            return 1
    for picture, text in drawn.items():
        picture.write_text(svg_of(text, COLUMNS if picture is LIVE_VIEW else SHELL_COLUMNS, TITLES[picture]))
        print(f"{picture.relative_to(Path.cwd())}: {picture.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
