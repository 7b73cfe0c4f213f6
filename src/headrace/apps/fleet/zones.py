"""Zones of the demonstration: Monterey Bay.

The two protected areas have the corner points that California's regulations give them
(14 CCR 632); the operating zones around them are ours.
"""

from __future__ import annotations

from typing import Any

from headrace.apps.fleet.model import Zone


def _ring(*corners: tuple[float, float]) -> list[list[float]]:
    return [[lon, lat] for lon, lat in (*corners, corners[0])]


def _polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def demo_zones() -> list[Zone]:
    """Return the demonstration's zones.

    Example:
        >>> sorted({zone.kind for zone in demo_zones()})
        ['advisory', 'no_entry', 'operating', 'protected', 'restricted']
    """
    return [
        Zone(
            zone_id="soquel-canyon",
            name="Soquel Canyon SMCA",
            kind="protected",
            severity="high",
            geometry=_polygon(
                _ring(
                    (-121.9333, 36.85),
                    (-122.0633, 36.85),
                    (-122.048, 36.8),
                    (-121.9333, 36.8),
                )
            ),
        ),
        Zone(
            zone_id="portuguese-ledge",
            name="Portuguese Ledge SMCA",
            kind="protected",
            severity="high",
            geometry=_polygon(
                _ring(
                    (-121.9333, 36.7167),
                    (-122.0217, 36.7167),
                    (-122.0133, 36.6833),
                    (-121.9333, 36.6833),
                )
            ),
        ),
        Zone(
            zone_id="moss-landing",
            name="Moss Landing harbour",
            kind="no_entry",
            severity="critical",
            geometry={"type": "Point", "coordinates": [-121.803, 36.806]},
            radius_m=2_200,
        ),
        Zone(
            zone_id="buoy-m1",
            name="Mooring M1",
            kind="no_entry",
            severity="critical",
            geometry={"type": "Point", "coordinates": [-122.03, 36.751]},
            radius_m=1_400,
        ),
        Zone(
            zone_id="canyon-survey",
            name="Canyon survey, 0 to 250 m",
            kind="operating",
            rule="limits",
            min_depth_m=-10,
            max_depth_m=250,
            severity="warning",
            geometry=_polygon(
                _ring(
                    (-121.845, 36.815),
                    (-121.872, 36.79),
                    (-121.915, 36.792),
                    (-121.955, 36.772),
                    (-121.995, 36.776),
                    (-122.03, 36.79),
                    (-122.085, 36.772),
                    (-122.12, 36.738),
                    (-122.098, 36.722),
                    (-122.05, 36.735),
                    (-121.985, 36.733),
                    (-121.93, 36.752),
                    (-121.872, 36.756),
                    (-121.832, 36.789),
                )
            ),
        ),
        Zone(
            zone_id="tanker-lane",
            name="Traffic lane: stay below 40 m",
            kind="restricted",
            rule="limits",
            min_depth_m=40,
            severity="high",
            geometry=_polygon(
                _ring(
                    (-122.205, 36.905),
                    (-122.158, 36.918),
                    (-122.108, 36.655),
                    (-122.162, 36.642),
                )
            ),
        ),
        Zone(
            zone_id="night-spawning",
            name="Spawning ground, closed at night",
            kind="protected",
            severity="warning",
            active_from="18:00:00",
            active_to="06:00:00",
            geometry=_polygon(
                _ring(
                    (-121.875, 36.735),
                    (-121.838, 36.738),
                    (-121.818, 36.703),
                    (-121.829, 36.665),
                    (-121.868, 36.652),
                    (-121.902, 36.676),
                ),
                _ring(
                    (-121.872, 36.706),
                    (-121.852, 36.706),
                    (-121.852, 36.686),
                    (-121.872, 36.686),
                ),
            ),
        ),
        Zone(
            zone_id="cable",
            name="Observatory cable: stay above 180 m",
            kind="restricted",
            rule="limits",
            max_depth_m=180,
            severity="high",
            geometry=_polygon(
                _ring(
                    (-121.81, 36.785),
                    (-121.9, 36.735),
                    (-122.06, 36.705),
                    (-122.185, 36.708),
                    (-122.185, 36.698),
                    (-122.058, 36.694),
                    (-121.896, 36.724),
                    (-121.804, 36.776),
                )
            ),
        ),
        Zone(
            zone_id="fan",
            name="Fan stations",
            kind="advisory",
            severity="info",
            geometry={
                "type": "MultiPolygon",
                "coordinates": [
                    [
                        _ring(
                            (-122.09, 36.87),
                            (-122.05, 36.885),
                            (-122.035, 36.868),
                            (-122.07, 36.855),
                        )
                    ],
                    [
                        _ring(
                            (-121.96, 36.9),
                            (-121.915, 36.905),
                            (-121.905, 36.878),
                            (-121.955, 36.872),
                        )
                    ],
                ],
            },
        ),
    ]
