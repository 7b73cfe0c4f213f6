"""An application that tells two receivers of everything in its topic; see test_delivery_kills."""

import headrace as hr
from tests.unit.alerts.samples import SCHEMA

CHANNELS = ("remembers", "forgets")

app = hr.App("notified")
told = app.topic("told", SCHEMA, time="created")
app.notify(
    told,
    [
        hr.channel.webhook(
            f"${{{name.upper()}_URL}}",
            name=name,
            allow_private=True,
            first_pause="20ms",
            longest_pause="200ms",
        )
        for name in CHANNELS
    ],
)
