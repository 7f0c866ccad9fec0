"""Stored renderings of the chart; `.venv/bin/python -m tests.deploy.golden` updates them, for review in the diff."""

import copy
from pathlib import Path
from typing import Final

import yaml  # type: ignore[import-untyped]

from tests.deploy import helm

FOLDER: Final = Path(__file__).parent / "golden"
KEPT: Final = ("everything", "keda", "minimal")


def text(values: str) -> str:
    """Return the rendering in a fixed order, which does not depend on helm's version."""
    documents = sorted(map(_short, helm.rendered(values)), key=lambda each: (each["kind"], each["metadata"]["name"]))
    return str(yaml.safe_dump_all(documents, width=120))


def _short(document: helm.Document) -> helm.Document:
    """Leave out the content of files, which is compared with the files themselves."""
    short = copy.deepcopy(document)
    if short["kind"] == "PrometheusRule":
        short["spec"] = "files/rules.yaml"
    if short["kind"] == "ConfigMap":
        short["data"] = {name: f"files/{name}" for name in short["data"]}
    return short


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in KEPT:
        (FOLDER / f"{each}.yaml").write_text(text(each))
