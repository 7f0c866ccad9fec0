"""Links to contacts: an opaque token instead of the id, and ids that are masked until somebody asks for one."""

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from fastapi import Request
from markupsafe import Markup
from msgspec import Struct

from goalworker.api import problems
from goalworker.console import addresses, visitors
from goalworker.console.installation import Keys

CONTACTS: Final = f"{addresses.CONSOLE}/contacts"
HIDDEN: Final = "…"
_SHOWN_MAX: Final = 2
"""Characters of an id that are shown at its beginning, and at its end."""
_TOKEN_LENGTH_MAX: Final = 512


def masked(contact_id: str) -> str:
    """Return an id without most of its characters: at most two at either end, and never more than half of them."""
    shown = min(_SHOWN_MAX, len(contact_id) // 4)
    return f"{contact_id[:shown]}{HIDDEN}{contact_id[len(contact_id) - shown :]}"


# --- tokens ---


def token(keys: Keys, tenant_id: str, contact_id: str) -> str:
    """Return the token that stands for a contact in addresses: the same one at every time, so links can be kept."""
    sealed = AESSIV(keys.contact).encrypt(contact_id.encode(), [tenant_id.encode()])
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def contact_id(keys: Keys, tenant_id: str, token_: str) -> str | None:
    """Return the contact that a token stands for, or None for one that is not ours or another tenant's."""
    if len(token_) > _TOKEN_LENGTH_MAX:
        return None
    try:
        sealed = base64.b64decode(token_ + "=" * (-len(token_) % 4), b"-_", validate=True)
        return AESSIV(keys.contact).decrypt(sealed, [tenant_id.encode()]).decode()
    except (InvalidTag, binascii.Error, ValueError):
        return None


def of_path(request: Request, visitor: visitors.Visitor, token_: str) -> str:
    """Return the contact that a token in a path stands for; ProblemError 404."""
    found = contact_id(request.state.console_keys, visitor.caller.tenant_id, token_)
    if found is None:
        raise problems.ProblemError(problems.NOT_FOUND, "No contact has this address")
    return found


class Links(Struct, frozen=True):
    """Addresses of a tenant's contacts, behind the path under which a proxy serves us."""

    keys: Keys
    tenant_id: str
    root_path: str

    def address(self, contact_id_: str) -> str:
        """Return the address of a contact's page."""
        return f"{self.root_path}{CONTACTS}/{token(self.keys, self.tenant_id, contact_id_)}"

    def masked_link(self, contact_id_: str) -> Markup:
        """Return a contact's masked id, linked to its page, with a link that shows the whole id."""
        return _LINK.format(address=self.address(contact_id_), masked=masked(contact_id_))

    def of_templates(self) -> dict[str, Callable[..., Any]]:
        """Return the functions by which templates show contacts."""
        return {"contact": self.masked_link, "contact_url": self.address, "masked": masked}


def of_visitor(request: Request, visitor: visitors.Visitor) -> Links:
    """Return the links of a visitor's tenant."""
    return Links(request.state.console_keys, visitor.caller.tenant_id, addresses.url(request, ""))


def address(request: Request, visitor: visitors.Visitor, contact_id_: str) -> str:
    """Return the address of a contact's page."""
    return of_visitor(request, visitor).address(contact_id_)


_LINK: Final = Markup(
    '<span class="contact"><a href="{address}"><bdi>{masked}</bdi></a>'
    '<a class="reveal" href="{address}/id" hx-get="{address}/id" hx-target="closest .contact" hx-swap="outerHTML"'
    ' aria-label="Show the whole id of contact {masked}">Show</a></span>'
)
