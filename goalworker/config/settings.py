"""All settings as one object: the groups, and the values that some commands cannot do without."""

from collections.abc import Mapping

from pydantic import BaseModel, PrivateAttr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from goalworker import errors
from goalworker.config import groups, variables


class Settings(BaseSettings):
    """All settings; `config.load` reads them from the environment, a .env file and the secrets directory."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    database: groups.Database = groups.Database()
    kafka: groups.Kafka = groups.Kafka()
    topics: groups.Topics = groups.Topics()
    batch: groups.Batch = groups.Batch()
    enrollments: groups.Enrollments = groups.Enrollments()
    goals: groups.Goals = groups.Goals()
    events: groups.Events = groups.Events()
    dead_letters: groups.DeadLetters = groups.DeadLetters()
    retention: groups.Retention = groups.Retention()
    history: groups.History = groups.History()
    api: groups.Api = groups.Api()
    ops: groups.Ops = groups.Ops()
    references: groups.References = groups.References()
    cell: groups.Cell = groups.Cell()
    log: groups.Log = groups.Log()
    _ignored_names: tuple[str, ...] = PrivateAttr(())
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def ignored_names(self) -> tuple[str, ...]:
        """Names with our prefix that belong to no setting: worth only a warning, because Kubernetes injects such."""
        return self._ignored_names

    @property
    def sources(self) -> Mapping[str, str]:
        """Source of each setting that is not at its default, by name: `environment` or a file."""
        return self._sources

    def database_url(self) -> str:
        """Return the database's URL, password included, or raise SettingsError if it is not set."""
        if self.database.url is None:
            raise _missing("database", "url", groups.Database)
        return self.database.url.get_secret_value()

    def bootstrap_servers(self) -> str:
        """Return the brokers to ask first, or raise SettingsError if they are not set."""
        if self.kafka.bootstrap_servers is None:
            raise _missing("kafka", "bootstrap_servers", groups.Kafka)
        return self.kafka.bootstrap_servers

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values only from `config.load`, which knows where each one was found."""
        return (init_settings,)


def _missing(group: str, field: str, model: type[BaseModel]) -> errors.SettingsError:
    name = variables.variable(group, field)
    right = f"{name}={variables.example(model.model_fields[field])}"
    return errors.SettingsError(f"{name} is not set, and this command needs it; for example {right}")
