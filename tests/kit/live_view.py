"""Draw the live view for README: `make picture` runs the demo on a terminal, and saves its last picture as SVG."""

import io
import signal
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.kit import demo_process

FILE: Final = Path(__file__).with_suffix(".svg")
COLUMNS: Final = 120
ROWS: Final = 36
SECONDS: Final = 60.0
FRAME: Final = "\x1b[H"
"""Begins each picture: the cursor goes to the first cell of the screen."""

# Rich's own template loads a font from another server, which a README must not.
_SVG: Final = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg" \
xml:space="preserve" role="img">
<title>goalworker demo, the live view</title>
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


def svg_of(frame: str, columns: int) -> str:
    """Return a picture as SVG; equal pictures give equal text."""
    console = Console(record=True, file=io.StringIO(), width=columns, force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(frame), no_wrap=True, overflow="crop")
    drawn = console.export_svg(title="", theme=MONOKAI, code_format=_SVG, unique_id="view")
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


def main() -> int:
    """Run the demo for a minute, and write the last picture before Ctrl-C."""
    with demo_process.demo(terminal=(COLUMNS, ROWS)) as running:
        running.until(lambda: "traffic" in running.said, timeout_seconds=180)
        time.sleep(SECONDS)
        frame = last_frame(running.drawn)
        running.process.send_signal(signal.SIGINT)
        if running.process.wait(150) != 0:
            sys.stderr.write(running.said)
            return 1
    FILE.write_text(svg_of(frame, COLUMNS))
    print(f"{FILE.relative_to(Path.cwd())}: {FILE.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
