"""goalworker: notices when an enrolled contact meets a workflow's goal."""

from importlib import metadata

__version__ = metadata.version("goalworker")
