"""Doctor names the tenants that send mostly malformed records, but no more than a person reads."""

from collections import Counter

from goalworker.admin import doctor_senders


def test_only_the_tenants_with_the_most_malformed_records_are_named() -> None:
    malformed = Counter({("payments", f"tenant-{number}"): 20 + number for number in range(13)})
    found = list(doctor_senders.senders(malformed, malformed))
    named = [finding.detail.partition(" in ")[0].rpartition(" ")[2] for finding in found[:-1]]
    assert named == [f"tenant-{number}" for number in range(12, 2, -1)]
    assert found[-1].detail == "such tenants not named here: 3; see `goalworker dlq stats --by tenant`"


def test_a_tenant_of_few_or_mostly_good_records_is_not_named() -> None:
    records = Counter({("payments", "few"): 9, ("payments", "good"): 100})
    malformed = Counter({("payments", "few"): 9, ("payments", "good"): 50})
    (found,) = doctor_senders.senders(records, malformed)
    assert (found.state, found.check) == ("ok", "senders")
