"""Forms of pages, filled in and sent as a browser without scripts does."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib import parse

import httpx

Fields = list[tuple[str, str]]


@dataclass
class Form:
    """A form with the fields that it would send, and its buttons by their texts."""

    method: str
    action: str
    fields: Fields = field(default_factory=list)
    buttons: dict[str, Fields] = field(default_factory=dict)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._button: Fields | None = None
        self._select = ""
        self._options: Fields = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given["method"], given["action"]))
        elif tag == "input":
            self._input(given)
        elif tag == "select":
            self._select, self._options = given["name"], []
        elif tag == "option" and self._select and ("selected" in given or not self._options):
            self._options = [(self._select, given["value"])]
        elif tag == "button":
            self._button = [(given["name"], given["value"])] if "name" in given else []

    def _input(self, given: dict[str, str]) -> None:
        is_sent = given.get("type") not in ("checkbox", "radio") or "checked" in given
        if self.forms and is_sent and "name" in given:
            self.forms[-1].fields.append((given["name"], given.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self.forms[-1].fields += self._options
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._button is not None and data.strip():
            self.forms[-1].buttons[data.strip()] = self._button
            self._button = None


def forms_of(page: httpx.Response) -> list[Form]:
    """Return the forms of a page."""
    parser = _Parser()
    parser.feed(page.text)
    return parser.forms


def buttons_of(page: httpx.Response) -> set[str]:
    """Return the texts of the buttons of a page."""
    return {text for form in forms_of(page) for text in form.buttons}


def form_of(page: httpx.Response, button: str) -> Form:
    """Return the form of a page that a button sends."""
    found = [form for form in forms_of(page) if button in form.buttons]
    assert len(found) == 1, (button, page.status_code, page.text)
    return found[0]


async def send(
    client: httpx.AsyncClient, page: httpx.Response, button: str, **typed: str | list[str]
) -> httpx.Response:
    """Press a button of a page, with these texts in place of what its form has; go where the answer leads."""
    form = form_of(page, button)
    kept = [(name, value) for name, value in form.fields if name not in typed]
    lists: dict[str, Any] = {name: [value] if isinstance(value, str) else value for name, value in typed.items()}
    fields = [*kept, *((name, value) for name, values in lists.items() for value in values), *form.buttons[button]]
    if form.method == "get":
        return await client.get(form.action, params=fields)
    content = parse.urlencode(fields)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post(form.action, content=content, headers=headers)
    return await client.get(answer.headers["location"]) if answer.status_code == 303 else answer
