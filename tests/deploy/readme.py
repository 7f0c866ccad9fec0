"""Commands, events and values that deploy/README.md tells people to use."""

import re
import shlex
from typing import Final

from tests.deploy import tools

FILE: Final = tools.DEPLOY / "README.md"
TEXT: Final = FILE.read_text()
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SPANS: Final = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))


def lines() -> list[str]:
    """Return every command line; continued lines are joined."""
    return [line.strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def commands() -> list[list[str]]:
    """Return the words after `goalworker`, or after `gw`, which stands for it on hosts with systemd."""
    found = [
        re.search(r"(?:^|-- |worker |api |bin/)(?:goalworker|gw) ([a-z][^|;]*)$", line) for line in [*lines(), *SPANS]
    ]
    return [shlex.split(match[1]) for match in found if match]


def events() -> list[tuple[str, str]]:
    """Return the first messages, each with its topic, as each of the three ways sends them."""
    sent = re.findall(r"console-producer.*--topic (\S+) < (?:deploy/)?first-exit/(\S+)", TEXT)
    assert sent == sent[:2] * 3
    return sent[:2]


def values() -> set[str]:
    """Return the values of the chart that are set or named."""
    named = {
        span
        for span in SPANS
        if re.fullmatch(r"(worker|api|insight|kafka|database|keda|monitoring|networkPolicy|topics)\.\w+(\.\w+)*", span)
    }
    return named | set(re.findall(r"--set ([\w.]+)=", TEXT))
