"""Resolve the jars that Apache Kafka needs; as a script, pin them for the embedded broker and for the bench."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jgo import maven

from goalworker.embedded import jars
from tests.bench import streams_app

BROKER = f"org.apache.kafka:kafka_2.13:{jars.VERSION}"
# Without this jar the broker logs nothing. It is added to the resolved jars instead of being resolved with them, since
# jgo would let it decide the versions of shared dependencies.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"
STREAMS = f"org.apache.kafka:kafka-streams:{jars.VERSION}"
# Compiles on the Java runtime of the wheel, which has no compiler.
COMPILER = "org.eclipse.jdt:ecj:3.43.0"


def artifacts(repository: Path, program: str = BROKER, added: str = LOGGING) -> dict[str, maven.Artifact]:
    """Return the coordinates of a program's jars, of their dependencies, and of one jar that is added to them."""
    context = maven.MavenContext(maven.PythonResolver(), repo_cache=repository, timeout=jars.TIMEOUT_SECONDS)
    wanted, needed = context.resolver.resolve([context.create_dependency(program)])
    found = (each.artifact for each in (*wanted, *needed, context.create_dependency(added)))
    return {f"{each.groupId}:{each.artifactId}:{each.version}": each for each in found}


def beyond_the_broker(repository: Path) -> dict[str, maven.Artifact]:
    """Return what the bench's application of Kafka Streams needs and the broker has not."""
    of_broker = jars.broker().pinned()
    found = artifacts(repository, STREAMS, COMPILER)
    return {name: each for name, each in found.items() if name not in of_broker}


def main() -> None:
    with tempfile.TemporaryDirectory() as repository:
        _pin(jars.broker(), artifacts(Path(repository)))
        _pin(streams_app.JARS, beyond_the_broker(Path(repository)))


def _pin(bundle: jars.Bundle, found: Mapping[str, maven.Artifact]) -> None:
    digests = {name: hashlib.sha256(found[name].resolve().read_bytes()).hexdigest() for name in sorted(found)}
    bundle.pins.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))


if __name__ == "__main__":
    main()
