"""Sessions are signed and end; failures of logins are counted in bounded memory."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from goalworker.console import installation, login_limits, sessions
from goalworker.stores import api_keys

KEYS = installation.derive(b"a" * 32)
HOLDER = api_keys.KeyHolder(UUID(int=1), "acme", "ann", ("goals:read",))
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def test_a_session_is_what_was_signed_until_its_time_is_over() -> None:
    session = sessions.begin(HOLDER, NOW)
    value = sessions.signed(KEYS, session)
    assert sessions.verified(KEYS, value, NOW + sessions.LIFETIME - timedelta(seconds=1)) == session
    assert sessions.verified(KEYS, value, NOW + sessions.LIFETIME) is None


def test_a_session_of_another_installation_is_none() -> None:
    value = sessions.signed(installation.derive(b"b" * 32), sessions.begin(HOLDER, NOW))
    assert sessions.verified(KEYS, value, NOW) is None


@pytest.mark.parametrize("value", ["", ".", "e30.", "e30.e30", "\x00", "é.é", "a" * 100_000])
def test_what_we_did_not_sign_is_no_session(value: str) -> None:
    assert sessions.verified(KEYS, value, NOW) is None


def test_two_sessions_of_a_key_have_tokens_of_their_own() -> None:
    seeds = {sessions.begin(HOLDER, NOW).seed for _ in range(10)}
    assert len({sessions.csrf_token(KEYS, seed) for seed in seeds}) == 10


def test_keys_of_an_installation_differ_by_purpose() -> None:
    assert KEYS.session != KEYS.contact[:32]
    assert installation.derive(b"a" * 32) == KEYS


# --- limits ---


def test_an_address_waits_until_its_first_failure_is_out_of_the_window() -> None:
    limits = login_limits.LoginLimits()
    for second in range(login_limits.FAILURES_MAX):
        assert limits.seconds_to_wait("192.0.2.1", second) == 0
        limits.failed("192.0.2.1", second)
    assert limits.seconds_to_wait("192.0.2.1", 100) == login_limits.WINDOW_SECONDS - 100
    assert limits.seconds_to_wait("192.0.2.2", 100) == 0
    assert limits.seconds_to_wait("192.0.2.1", login_limits.WINDOW_SECONDS) == 0


def test_many_addresses_together_wait_as_well() -> None:
    limits = login_limits.LoginLimits()
    for number in range(login_limits.FAILURES_OF_ALL_MAX):
        limits.failed(f"192.0.2.{number}", 0)
    assert limits.seconds_to_wait("198.51.100.1", 1) > 0


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    limits = login_limits.LoginLimits()
    for number in range(login_limits.FAILURES_MAX):
        limits.failed(f"2001:db8::{number:x}", 0)
    assert limits.seconds_to_wait("2001:db8::ffff", 1) > 0
    assert limits.seconds_to_wait("2001:db8:0:1::1", 1) == 0


def test_addresses_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_limits, "ADDRESSES_MAX", 3)
    limits = login_limits.LoginLimits()
    for number in range(5):
        for _ in range(login_limits.FAILURES_MAX):
            limits.failed(f"192.0.2.{number}", 0)
    waiting = [number for number in range(5) if limits.seconds_to_wait(f"192.0.2.{number}", 1)]
    assert waiting == [2, 3, 4]
