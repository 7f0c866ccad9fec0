"""Resolve the jars that Apache Kafka needs; as a script, pin them for the embedded broker."""

import hashlib
import tempfile
from pathlib import Path

from jgo import maven

from goalworker.embedded import jars

BROKER = f"org.apache.kafka:kafka_2.13:{jars.VERSION}"
# Without this jar the broker logs nothing. It is added to the resolved jars instead of being resolved with them, since
# jgo would let it decide the versions of shared dependencies.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"


def artifacts(repository: Path) -> dict[str, maven.Artifact]:
    """Return the coordinates of the broker's jars and of their dependencies."""
    context = maven.MavenContext(maven.PythonResolver(), repo_cache=repository, timeout=jars.TIMEOUT_SECONDS)
    wanted, needed = context.resolver.resolve([context.create_dependency(BROKER)])
    found = (each.artifact for each in (*wanted, *needed, context.create_dependency(LOGGING)))
    return {f"{each.groupId}:{each.artifactId}:{each.version}": each for each in found}


def main() -> None:
    with tempfile.TemporaryDirectory() as repository:
        found = artifacts(Path(repository))
        digests = {name: hashlib.sha256(found[name].resolve().read_bytes()).hexdigest() for name in sorted(found)}
    jars.PINNED.write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))


if __name__ == "__main__":
    main()
