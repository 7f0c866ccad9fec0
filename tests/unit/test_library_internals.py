"""Private names of libraries stand where a test fails first when the library changes, and nowhere else."""

import ast
from pathlib import Path

import goalworker

PACKAGE = Path(goalworker.__file__).parent
# By file, the private names that it uses of objects other than its own.
ALLOWED = {
    # tests/integration/test_broker_requests.py and tests/unit/test_producer.py
    "kafka/aiokafka_internals.py": {
        *("_client", "_coordinator"),
        *("_sender", "_message_accumulator", "_batches", "_pending_batches", "_drain_waiter"),
    },
    # tests/unit/test_metrics.py
    "metrics.py": {"_sum", "_buckets", "_upper_bounds"},
    # private attributes of config's own Settings
    "config/loading.py": {"_ignored_names", "_sources"},
}
# Documented names of a NamedTuple and of SQLAlchemy's rows.
PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_mapping"}


def _private_names(file: Path) -> set[str]:
    return {
        node.attr
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in PUBLIC
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


def test_private_names_of_libraries_stand_in_the_files_that_are_tested_for_them() -> None:
    files = {str(file.relative_to(PACKAGE)): _private_names(file) for file in PACKAGE.rglob("*.py")}
    assert {name: found for name, found in files.items() if found} == ALLOWED
