"""What deploy/README.md tells people to do, taken out of it."""

import re
import shlex
from typing import Final

from tests.deploy import tools

FILE: Final = tools.DEPLOY / "README.md"
TEXT: Final = FILE.read_text()
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SPANS: Final = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))


def lines() -> list[str]:
    """Every line that is to be typed, continued ones as one."""
    return [line.strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def commands() -> list[list[str]]:
    """The words after `goalworker`, or after `gw`, which stands for it where systemd runs it."""
    found = [
        re.search(r"(?:^|-- |worker |api |bin/)(?:goalworker|gw) ([a-z][^|;]*)$", line) for line in [*lines(), *SPANS]
    ]
    return [shlex.split(match[1]) for match in found if match]


def events() -> list[tuple[str, str]]:
    """The first messages, each with its topic, as they are sent in each of the three ways."""
    sent = re.findall(r"console-producer.*--topic (\S+) < (?:deploy/)?first-exit/(\S+)", TEXT)
    assert sent == sent[:2] * 3
    return sent[:2]


def values() -> set[str]:
    """The values of the chart that are set or named."""
    named = {
        span
        for span in SPANS
        if re.fullmatch(r"(worker|api|kafka|database|keda|monitoring|networkPolicy|topics)\.\w+(\.\w+)*", span)
    }
    return named | set(re.findall(r"--set ([\w.]+)=", TEXT))
