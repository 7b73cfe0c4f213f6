import asyncio

import pytest

from headrace.core.log import Log
from headrace.stream.app import App
from tests.unit.gateway.conftest import Serve

PARK = {"zone_id": "p", "kind": "park", "depth_m": 5.0, "geometry": {"type": "Point"}}


async def test_a_row_is_created_read_replaced_changed_and_removed(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        created = await http.post("/control/zones", json=PARK)
        read = await http.get("/control/zones/p")
        replaced = await http.put("/control/zones/p", json={**PARK, "depth_m": 6})
        changed = await http.patch("/control/zones/p", json={"kind": "port"})
        everything = (await http.get("/control/zones")).json()
        removed = await http.delete("/control/zones/p")
        after = await http.get("/control/zones/p")
        anew = await http.put("/control/zones/p", json=PARK)

    assert (created.status_code, created.json()) == (201, {**PARK, "version": 1})
    assert read.headers["etag"] == created.headers["etag"] == '"1"'
    assert (replaced.status_code, replaced.json()["version"]) == (200, 2)
    assert changed.json() == {**PARK, "depth_m": 6.0, "kind": "port", "version": 3}
    assert everything["rows"] == [changed.json()]
    assert removed.status_code == 204
    assert after.status_code == 404
    assert (anew.status_code, anew.json()["version"]) == (201, 5)


async def test_a_row_that_exists_is_not_created_again(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        await http.post("/control/zones", json=PARK)
        again = await http.post("/control/zones", json={**PARK, "kind": "port"})
        read = await http.get("/control/zones/p")

    assert again.status_code == 409
    assert read.json()["kind"] == "park"


async def test_a_change_of_an_old_version_is_refused_with_the_present_row(
    app: App, serve: Serve
) -> None:
    async with serve(app) as http:
        await http.post("/control/zones", json=PARK)
        await http.put("/control/zones/p", json={**PARK, "depth_m": 7}, headers={"if-match": '"1"'})
        late = [
            await http.put("/control/zones/p", json=PARK, headers={"if-match": '"1"'}),
            await http.patch("/control/zones/p", json={"kind": "x"}, headers={"if-match": '"1"'}),
            await http.delete("/control/zones/p", headers={"if-match": '"1"'}),
        ]
        odd = await http.put("/control/zones/p", json=PARK, headers={"if-match": "latest"})

    assert [answer.status_code for answer in late] == [412, 412, 412]
    assert late[0].json()["current"] == {**PARK, "depth_m": 7.0, "version": 2}
    assert odd.status_code == 422


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"zone_id": ""}, "zone_id: String should have at least 1 character"),
        ({"zone_id": "a", "depth_m": -1}, "greater than or equal to 0"),
        ({"kind": "park"}, "zone_id: Field required"),
        ([], "zones: Input should be an object"),
    ],
)
async def test_a_row_that_breaks_the_model_is_refused(
    app: App, serve: Serve, body: object, reason: str
) -> None:
    async with serve(app) as http:
        answer = await http.post("/control/zones", json=body)

    assert answer.status_code == 422
    assert reason in answer.json()["error"]["message"]


async def test_wrong_requests_are_answered(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        malformed = await http.post("/control/zones", content=b"{")
        missing = await http.patch("/control/zones/none", json={"kind": "x"})
        nothing = await http.delete("/control/zones/none")
        unknown = await http.post("/control/none", json=PARK)
        other_key = await http.put("/control/zones/q", json=PARK)
        await http.post("/control/zones", json=PARK)
        rekeyed = await http.patch("/control/zones/p", json={"zone_id": "q"})
        foreign = await http.post(
            "/control/zones", json=PARK, headers={"origin": "http://evil.example"}
        )

    codes = [malformed, missing, nothing, unknown, other_key, rekeyed, foreign]
    assert [code.status_code for code in codes] == [422, 404, 404, 404, 422, 422, 403]


async def test_writers_at_once_get_one_version_each(app: App, serve: Serve) -> None:
    async with serve(app) as http:
        await http.post("/control/zones", json=PARK)
        answers = await asyncio.gather(
            *(http.patch("/control/zones/p", json={"depth_m": depth}) for depth in range(20))
        )
        guarded = await asyncio.gather(
            *(
                http.patch("/control/zones/p", json={"depth_m": 1}, headers={"if-match": '"21"'})
                for _ in range(5)
            )
        )

    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 22))
    assert sorted(answer.status_code for answer in guarded) == [200, 412, 412, 412, 412]


async def test_a_repeated_change_is_made_once(app: App, serve: Serve, log: Log) -> None:
    headers = {"idempotency-key": "k"}
    async with serve(app) as http:
        first = await http.post("/control/zones", json=PARK, headers=headers)
        again = await http.post("/control/zones", json=PARK, headers=headers)

    assert again.content == first.content
    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    ends = [info.end for info in log.reader().partitions(["zones.changes"]).values()]
    assert ends == [1]
