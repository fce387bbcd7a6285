"""What means nothing is refused instead of dropped: parts, bodies, filters, headers, escapes."""

import httpx
import pytest

from app.models.hazards import HazardStatus
from tests.factories import Places, make_resident
from tests.stories import SAMPLES, Story, complaints, events_of, problem, show_to_public

S = HazardStatus
Part = tuple[str, tuple[str | None, bytes | str] | tuple[str | None, bytes | str, str | None]]
NOWHERE = "00000000-0000-7000-8000-000000000000"
PHOTO = ("a.jpg", (SAMPLES / "fire-passage-before.jpg").read_bytes(), "image/jpeg")


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (
            [("file", PHOTO), ("file", PHOTO), ("purpose", (None, "hazard"))],
            ("body.file", "repeated_parameter"),
        ),
        (
            [("file", PHOTO), ("purpose", (None, "hazard")), ("purpose", (None, "hazard_after"))],
            ("body.purpose", "repeated_parameter"),
        ),
        (
            [("file", PHOTO), ("purpose", (None, "hazard")), ("colour", (None, "red"))],
            ("body.colour", "extra_forbidden"),
        ),
        ([("file", (None, "text")), ("purpose", (None, "hazard"))], ("body.file", "file_expected")),
    ],
)
async def test_an_upload_has_one_file_and_one_purpose(
    story: Story, parts: list[Part], wanted: tuple[str, str]
) -> None:
    response = await story.client.post("/v1/media", files=parts, headers=story.reporter.headers)
    assert wanted in complaints(problem(response, 422, "invalid_input"))


async def test_a_body_where_none_is_taken(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    await show_to_public(hazard_id)
    path, before = f"/v1/hazards/{hazard_id}/support", await events_of(hazard_id)
    refused = await story.client.post(path, json={"colour": 1}, headers=story.neighbour.headers)
    assert complaints(problem(refused, 422, "invalid_input")) == [("body", "no_body")]
    assert await events_of(hazard_id) == before
    for body in (b"", b"{}", b" {}\n"):
        taken = await story.client.post(path, content=body, headers=story.neighbour.headers)
        assert taken.status_code == 200


async def test_a_community_that_is_not_where_the_point_lies(story: Story) -> None:
    body = await story.report(community_id=str(story.places.far_community))
    refused = await story.post(story.reporter, "/v1/hazards", body)
    assert complaints(problem(refused, 422, "invalid_input")) == [("body.community_id", "community_mismatch")]
    right = await story.report(community_id=str(story.places.community))
    assert (await story.post(story.reporter, "/v1/hazards", right)).status_code == 201


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v1/hazards?category=nope", ("query.category", "unknown_category")),
        (f"/v1/hazards?region_id={NOWHERE}", ("query.region_id", "unknown_region")),
        (f"/v1/regions?parent_id={NOWHERE}", ("query.parent_id", "unknown_region")),
        (
            f"/v1/hazards/statistics?group_by=street&region_id={NOWHERE}",
            ("query.region_id", "unknown_region"),
        ),
        (
            "/v1/hazards/statistics?filed_from=2026-02-01T00:00:00%2B08:00&filed_until=2026-01-01T00:00:00%2B08:00",
            ("query.filed_from", "invalid_period"),
        ),
        ("/v1/stream?last_event_id=x", ("query.last_event_id", "invalid_event_id")),
    ],
)
async def test_a_filter_that_names_nothing(story: Story, path: str, wanted: tuple[str, str]) -> None:
    response = await story.client.get(path, headers=story.reporter.headers)
    answer = response.json()
    assert response.status_code == 422
    assert complaints(answer) == [wanted]


@pytest.mark.parametrize("query", ["category=%zz", "category=%", "category=%ff", "category=%e4%b8"])
async def test_escapes_that_are_none(client: httpx.AsyncClient, query: str) -> None:
    url = httpx.URL("http://testserver/v1/regions").copy_with(query=query.encode())
    response = await client.get(url)
    assert complaints(problem(response, 422, "invalid_input")) == [("query", "malformed_encoding")]


async def test_an_escaped_slash_separates_nothing(client: httpx.AsyncClient, places: Places) -> None:
    resident = await make_resident(places.community)
    for path in (b"/v1%2fme", b"/v1%2Fme"):
        url = httpx.URL("http://testserver").copy_with(raw_path=path)
        problem(await client.get(url, headers=resident.headers), 404, "not_found")


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key"])
async def test_a_header_that_comes_twice(client: httpx.AsyncClient, places: Places, name: str) -> None:
    resident = await make_resident(places.community)
    headers = [("Authorization", resident.headers["Authorization"]), ("Idempotency-Key", "one")]
    twice = [*headers, (name, dict(headers)[name])]
    problem(await client.get("/v1/me", headers=twice), 400, "bad_request")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Content-Type", ("application/json", "multipart/form-data; boundary=x")),
        ("Content-Type", ("multipart/form-data; boundary=x", "application/json")),
        ("Content-Encoding", ("identity", "gzip")),
        ("Content-Length", ("2", "9800007")),
        ("If-Match", ('"1"', '"2"')),
    ],
)
async def test_two_values_of_which_two_readers_may_believe_different_ones(
    client: httpx.AsyncClient, places: Places, name: str, values: tuple[str, str]
) -> None:
    """A second `Content-Type` let a body of 10 MiB through to the parser of JSON."""
    resident = await make_resident(places.community)
    headers = [*resident.headers.items(), *((name, value) for value in values)]
    for path in ("/v1/hazards", "/v1/me/households"):
        problem(await client.post(path, content=b"{}", headers=headers), 400, "bad_request")


@pytest.mark.parametrize("path", ["/v1/hazards", "/v1/me/households"])
async def test_a_body_that_nests_deeper_than_its_digest_can_follow(
    client: httpx.AsyncClient, places: Places, path: str
) -> None:
    resident = await make_resident(places.community)
    headers = resident.headers | {"Idempotency-Key": "deep", "Content-Type": "application/json"}
    body = '{"address": ' + "[" * 255 + "]" * 255 + "}"
    refused = problem(await client.post(path, content=body, headers=headers), 422, "malformed_body")
    assert complaints(refused) == [("body", "malformed_json")]


async def test_what_nobody_can_read_counts_as_well(client: httpx.AsyncClient) -> None:
    first = await client.get("/v1/regions?x=%zz")
    second = await client.post("/v1/hazards", content=b"{}", headers={"Content-Encoding": "gzip"})
    left = [int(answer.headers["RateLimit"].split(";")[1].removeprefix("r=")) for answer in (first, second)]
    assert (first.status_code, second.status_code) == (422, 415)
    assert left[0] - left[1] == 1


async def test_a_resident_reports_no_result(story: Story) -> None:
    parts: list[Part] = [("file", PHOTO), ("purpose", (None, "hazard_after"))]
    refused = await story.client.post("/v1/media", files=parts, headers=story.reporter.headers)
    assert complaints(problem(refused, 422, "invalid_input")) == [("body.purpose", "purpose_not_yours")]
    taken = await story.client.post("/v1/media", files=parts, headers=story.worker.headers)
    assert taken.status_code == 201


async def test_categories_of_the_statistics_have_names(story: Story) -> None:
    await story.hazard(S.FILED)
    counted = await story.get(story.manager, "/v1/hazards/statistics", scope="handled")
    assert counted["items"]
    assert all(row["name"] for row in counted["items"])
