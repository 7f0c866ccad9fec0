"""Types of settings' values: parsing, checks, and the form in which a value is shown."""

import re
from datetime import timedelta
from typing import Annotated, Final
from urllib import parse

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from goalworker.domain.cells import format_buckets, parse_buckets
from goalworker.domain.text import TEXT_RULE, format_duration, is_valid_text

MASK: Final = "***"


def _duration(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"P(?=.)(\d+[YMWD])*(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?", value):
        raise ValueError("it should be an ISO 8601 duration of whole days, hours, minutes or seconds")
    return value


def _bounded(value: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= value <= timedelta(days=36_500):
        raise ValueError("it should be between PT1S and P36500D")
    return value


def _bounded_or_zero(value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= timedelta(days=36_500):
        raise ValueError("it should be between P0D and P36500D")
    return value


def _topic(value: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", value) or value in {".", ".."}:
        raise ValueError("a topic's name should be 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' and '-'")
    return value


def _text(value: str) -> str:
    if not is_valid_text(value):
        raise ValueError(f"it {TEXT_RULE}")
    return value


def _tenant_from(value: str) -> str:
    if value not in {"tenantid", "subject", "key-prefix"} and not re.fullmatch(r"header:[!-~]{1,255}", value):
        raise ValueError("it should be tenantid, subject, header:NAME or key-prefix")
    return value


def _header_name(value: str) -> str:
    if not re.fullmatch(r"[!-~]{1,255}", value):
        raise ValueError("a header's name should be 1 to 255 ASCII characters without blanks")
    return value


def _buckets(value: object) -> object:
    return parse_buckets(value) if isinstance(value, str) else value


def _servers(value: str) -> str:
    servers = [server.strip() for server in value.split(",")]
    if not all(re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@]+):\d{1,5}", server) for server in servers):
        raise ValueError("it should be host:port, several of them separated by commas")
    return ",".join(servers)


def _database_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    _check_url(url, "postgresql://", "postgres://")
    return SecretStr(re.sub("^postgres:", "postgresql:", url))


def _http_url(value: str) -> str:
    _check_url(value, "http://", "https://")
    if not parse.urlsplit(value).hostname:
        raise ValueError("it should name a host")
    return value


def _reference_url(value: str) -> str:
    if not {"kind", "id"} <= set(re.findall(r"\{(.*?)\}", value)) <= {"kind", "id", "tenant"}:
        raise ValueError("it should have {kind} and {id} in it, {tenant} where the other side needs it, and no others")
    return _http_url(value)


def _check_url(url: str, *beginnings: str) -> None:
    """Raise ValueError for anything but a URL, without quoting it: a part in the wrong place may be the password."""
    if not url.startswith(beginnings):
        raise ValueError(f"it should begin with {' or '.join(beginnings)}")
    try:
        split = parse.urlsplit(url)
        is_url = split.port != 0 and "@" not in split.path + split.query and not split.fragment
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError("it is not a URL; in user and password, percent-encode everything but letters and digits")


def _root_path(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*", value):
        raise ValueError(
            "it should begin with / and not end with one, and consist of letters, digits, '.', '_', '~' and '-'"
        )
    # Whether a proxy has stripped the path could not be told from an address.
    if value.split("/")[1:2] in (["api"], ["console"], ["docs"]):
        raise ValueError("it should not begin with /api, /console or /docs, as addresses of ours do")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


LOWER: Final = BeforeValidator(_lower)
UPPER: Final = BeforeValidator(_upper)

Text = Annotated[str, AfterValidator(_text)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_bounded)]
DurationOrZero = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_bounded_or_zero)]
Topic = Annotated[str, AfterValidator(_topic)]
Buckets = Annotated[frozenset[int], BeforeValidator(_buckets)]
TenantFrom = Annotated[str, AfterValidator(_tenant_from)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Servers = Annotated[str, AfterValidator(_servers)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
ReferenceUrl = Annotated[str, AfterValidator(_reference_url)]
RootPath = Annotated[str, AfterValidator(_root_path)]


def shown(value: object) -> str:
    """Return a value as the environment would hold it, a secret as `***`, None as an empty text."""
    match value:
        case SecretStr():
            return MASK
        case frozenset():
            return format_buckets(value)
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case timedelta():
            return format_duration(int(value.total_seconds())) if value else "P0D"
        case _:
            return "" if value is None else str(value)


def masked_url(url: str) -> str:
    """Return a URL with its password masked, whether it stands before the host or in the query."""
    split = parse.urlsplit(url)
    user_info, at, host = split.netloc.rpartition("@")
    user, colon, _ = user_info.partition(":")
    netloc = f"{user}{colon}{MASK * bool(colon)}{at}{host}"
    query = re.sub(r"(?i)(^|&)([^=&]*(?:pass|secret|token|key)[^=&]*)=[^&]*", rf"\1\2={MASK}", split.query)
    return parse.urlunsplit(split._replace(netloc=netloc, query=query))
