"""Templates of HTTP providers: `{title}` is of the notification, `${TOKEN}` a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from headrace.alerts.notification import Notification
from headrace.alerts.secrets import Secrets
from headrace.alerts.text import priority_of, text_of, title_of
from headrace.core.errors import ConfigError

FIELDS: Final = ("title", "text", "severity", "priority", "id", "kind", "key", "to", "sender")
_PLACE: Final = re.compile(r"\$\{(\w+)\}|\{(\w+)\}")


def fields_of(notification: Notification, most_characters: int) -> dict[str, Any]:
    """Return the values of a notification's placeholders; its text is cut with an ellipsis."""
    text = text_of(notification)
    if len(text) > most_characters:
        text = text[: most_characters - 1] + "…"
    return {
        "title": title_of(notification),
        "text": text,
        "severity": notification.severity,
        "priority": priority_of(notification),
        "id": notification.id,
        "kind": notification.kind,
        "key": notification.idempotency_key,
    }


def check_template(template: Any) -> None:
    """Check that every placeholder has a meaning.

    Raises:
        ConfigError: One has none.
    """
    for text in texts_of(template):
        for _, name in _PLACE.findall(text):
            if name and name not in FIELDS:
                raise ConfigError(
                    f"a template has {{{name}}}, which is nothing of a notification",
                    hint=f"have {', '.join(FIELDS)}; a secret is ${{NAME}}",
                )


def texts_of(template: Any) -> list[str]:
    """Return all texts inside a template, keys left out."""
    match template:
        case str():
            return [template]
        case Mapping():
            return [text for value in template.values() for text in texts_of(value)]
        case list() | tuple():
            return [text for value in template for text in texts_of(value)]
        case _:
            return []


def expand(template: Any, fields: Mapping[str, Any], secrets: Secrets) -> Any:
    """Return `template` with every placeholder replaced, once: values are not looked at again.

    A text that is one placeholder and nothing else becomes its value, so `"{priority}"` is a
    number in JSON.

    Raises:
        ConfigError: A secret has no value.

    Example:
        >>> expand({"a": "{priority}", "b": ["p{priority}"]}, {"priority": 5}, Secrets())
        {'a': 5, 'b': ['p5']}
    """

    def value_of(found: re.Match[str]) -> Any:
        return secrets.reveal(found[1]) if found[1] else fields[found[2]]

    match template:
        case str():
            whole = _PLACE.fullmatch(template)
            if whole is not None:
                return value_of(whole)
            return _PLACE.sub(lambda found: str(value_of(found)), template)
        case Mapping():
            return {key: expand(value, fields, secrets) for key, value in template.items()}
        case list() | tuple():
            return [expand(value, fields, secrets) for value in template]
        case _:
            return template
