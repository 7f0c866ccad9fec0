"""Filter of the records of other cells' tenants (contract section 10)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from goalworker.decoding import envelope, skipping
from goalworker.decoding.fast import Decoded, FastDecode, Wanted
from goalworker.decoding.record import FetchedRecord
from goalworker.decoding.skipping import Skipped
from goalworker.domain.cells import REMEMBERED_MAX, Cell, ForeignTenants
from goalworker.domain.text import is_valid_text

# Bytes of a key's part before the colon; a longer one is looked at each time, since anybody may send it.
_REMEMBERED_BYTES_MAX: Final = 255


class TenantFilter:
    """Filter of records by the tenant that their event or their key names.

    trust_keys: other cells' records are skipped by their keys, undecoded.
    """

    def __init__(self, cell: Cell, *, trust_keys: bool) -> None:
        self.foreign = ForeignTenants(cell)
        self._owns_unknown = cell.owns_unknown
        self._trust_keys = trust_keys
        self._tenants: dict[bytes, str | None] = {}

    def tenant_of_key(self, key: bytes | None) -> str | None:
        """Return the tenant that a trusted key names, None without one."""
        if not self._trust_keys or key is None:
            return None
        prefix, colon, _ = key.partition(b":")
        if not colon:
            return None
        if prefix in self._tenants:
            return self._tenants[prefix]
        tenant_id = envelope.tenant_of_key(prefix + colon)
        if tenant_id is not None and not is_valid_text(tenant_id):
            tenant_id = None
        if len(prefix) <= _REMEMBERED_BYTES_MAX:
            if len(self._tenants) >= REMEMBERED_MAX:
                self._tenants.clear()
            self._tenants[prefix] = tenant_id
        return tenant_id

    def skipped_by_key(self, key: bytes | None) -> Skipped | None:
        """Return why a record need not be decoded, None if it has to be."""
        tenant_id = self.tenant_of_key(key)
        if tenant_id is None or not self.foreign[tenant_id]:
            return None
        return Skipped(skipping.FOREIGN_TENANT, "", tenant_id)

    def owns_unknown(self, key: bytes | None) -> bool:
        """Say whether a record whose event names no tenant is this cell's."""
        tenant_id = self.tenant_of_key(key)
        return self._owns_unknown if tenant_id is None else not self.foreign[tenant_id]

    def filtering(self, take: FastDecode) -> FastDecode:
        """Return a fast decoder that skips the records of other cells' tenants.

        Those whose key names a tenant of this cell are left, since they are faulty.
        """

        def take_own(records: Sequence[FetchedRecord], latest: datetime, wanted: Wanted) -> Decoded:
            return take(records, latest, wanted, self.foreign)

        def take_own_by_key(records: Sequence[FetchedRecord], latest: datetime, wanted: Wanted) -> Decoded:
            own: list[FetchedRecord] = []
            by_key: list[tuple[FetchedRecord, Skipped]] = []
            for record in records:
                found = self.skipped_by_key(record.key)
                if found is None:
                    own.append(record)
                else:
                    by_key.append((record, found))
            taken, left, skipped = take(own, latest, wanted, self.foreign)
            faulty = [record for record, found in skipped if self._contradicts(record, found)]
            if faulty:
                skipped = [(record, found) for record, found in skipped if not self._contradicts(record, found)]
            return taken, left + faulty, skipped + by_key

        return take_own_by_key if self._trust_keys else take_own

    def _contradicts(self, record: FetchedRecord, found: Skipped) -> bool:
        return found.outcome == skipping.FOREIGN_TENANT and self.tenant_of_key(record.key) is not None
