"""Broker with TLS: logins (SCRAM, PLAIN) or client certificates, and access control."""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from aiokafka.protocol import api, types
from aiokafka.protocol.admin import CreateAclsRequest

from goalworker import embedded
from goalworker.embedded import machine
from tests.kit import certificates, support

HOST = machine.LOOPBACK
MODULE = "org.apache.kafka.common.security"

# Constants of the Kafka protocol.
TOPIC, GROUP, LITERAL, ALLOW = 2, 3, 3, 3
SCRAM_SHA_512, ITERATIONS = 2, 4096
READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 8, 10
Right = tuple[int, str, int]  # resource type, name, operation


@dataclass(frozen=True, slots=True)
class Broker:
    """Broker and its listeners: `open` allows everything without a login, `login` needs SASL and TLS, `mutual` mTLS."""

    server: embedded.Server
    open: str
    login: str
    mutual: str
    authority: certificates.Authority

    def settings(
        self, user: str, mechanism: str = "PLAIN", otherwise: Mapping[str, object] = MappingProxyType({})
    ) -> dict[str, str]:
        """Return the settings of a user that may log in; `otherwise` replaces some, and None unsets one."""
        ours: dict[str, object] = {
            "BOOTSTRAP_SERVERS": self.login,
            "SECURITY_PROTOCOL": "SASL_SSL",
            "SASL_MECHANISM": mechanism,
            "SASL_USERNAME": user,
            "SASL_PASSWORD": password(user),
            "SSL_CAFILE": self.authority.file,
        }
        given = {**ours, **otherwise}
        return {f"GOALWORKER_KAFKA__{name}": str(value) for name, value in given.items() if value is not None}

    async def allow(self, rights: Iterable[tuple[str, Right]]) -> None:
        """Grant rights to users."""
        async with support.admin_client(self.open) as admin:
            answers = await asyncio.gather(
                *(
                    admin._send_request(CreateAclsRequest(kind, name, LITERAL, f"User:{user}", "*", operation, ALLOW))
                    for user, (kind, name, operation) in rights
                )
            )
        assert {answer.creation_responses[0][0] for answer in answers} == {0}

    async def change_password(self, user: str, password: str) -> None:
        """Set another password for SCRAM-SHA-512; connections that are logged in remain so."""
        async with support.admin_client(self.open) as admin:
            answer = await admin._send_request(_Credentials(user, password))
        assert {code for _, code, *_ in answer.results} == {0}, answer


def password(user: str) -> str:
    return f"pw-of-{user}"


@contextlib.contextmanager
def running(folder: Path, *users: str) -> Iterator[Broker]:
    """Run a broker whose users may only log in; its certificate is for 127.0.0.1 and not for localhost."""
    authority = certificates.Authority(folder, "authority")
    certificate = authority.issue("broker", [HOST])
    listeners = {name: f"{HOST}:{machine.free_port()}" for name in ("BROKER", "LOGIN", "MUTUAL", "CONTROLLER")}
    scram = [
        word
        for user in users
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for word in ("--add-scram", f"{mechanism}=[name={user},password={password(user)}]")
    ]
    with embedded.kafka(
        extra_properties=_properties(listeners, certificate, authority, users), format_options=scram
    ) as server:
        yield Broker(server, listeners["BROKER"], listeners["LOGIN"], listeners["MUTUAL"], authority)


def _properties(
    listeners: Mapping[str, str],
    certificate: certificates.Issued,
    authority: certificates.Authority,
    users: tuple[str, ...],
) -> dict[str, str]:
    plain = " ".join(f'user_{user}="{password(user)}"' for user in users)
    scram = f"{MODULE}.scram.ScramLoginModule required;"
    return {
        "listeners": ",".join(f"{name}://{address}" for name, address in listeners.items()),
        "controller.quorum.voters": f"1@{listeners['CONTROLLER']}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,LOGIN:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.login.plain.sasl.jaas.config": f"{MODULE}.plain.PlainLoginModule required {plain};",
        "listener.name.login.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.login.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.mutual.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:CN=operator;User:operator",
    }


# --- a request that the client does not have ---


class _CredentialsAnswer(api.Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY, API_VERSION = 51, 0
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        (
            "results",
            types.CompactArray(
                ("user", types.CompactString("utf-8")),
                ("error_code", types.Int16),
                ("error_message", types.CompactString("utf-8")),
                ("tags", types.TaggedFields),
            ),
        ),
        ("tags", types.TaggedFields),
    )


class _CredentialsRequest(api.RequestStruct):  # type: ignore[misc]
    API_KEY, API_VERSION, FLEXIBLE_VERSION, RESPONSE_TYPE = 51, 0, True, _CredentialsAnswer
    SCHEMA = types.Schema(
        (
            "deletions",
            types.CompactArray(
                ("user", types.CompactString("utf-8")), ("mechanism", types.Int8), ("tags", types.TaggedFields)
            ),
        ),
        (
            "changes",
            types.CompactArray(
                ("user", types.CompactString("utf-8")),
                ("mechanism", types.Int8),
                ("iterations", types.Int32),
                ("salt", types.CompactBytes),
                ("salted_password", types.CompactBytes),
                ("tags", types.TaggedFields),
            ),
        ),
        ("tags", types.TaggedFields),
    )


class _Credentials(api.Request[_CredentialsRequest]):  # type: ignore[misc]
    """Request that sets a user's password, salted as RFC 5802 specifies."""

    API_KEY = 51

    def __init__(self, user: str, password: str) -> None:
        salt = secrets.token_bytes(16)
        salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
        self._change: tuple[object, ...] = (user, SCRAM_SHA_512, ITERATIONS, salt, salted, {})

    def build(self, struct: type[_CredentialsRequest]) -> _CredentialsRequest:
        return struct([], [self._change], {})
