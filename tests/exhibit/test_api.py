"""The API as a script uses it: it does what `/api` documents."""

import http.client
import json
import re
from html import unescape
from importlib import resources

import pytest
from exhibit_tools import STORY, Served, events, serving, storyteller

from gatsby_mlx.exhibit.records import Counts
from gatsby_mlx.story.obsession import GREEN_LIGHT, LEVELS, Obsession

TOPIC = {"topic": "a cat", "temp": 0, "seed": 5}


def test_story_streams_as_events(served: Served):
    status, headers, data = served.request("POST", "/api/tell", {**TOPIC, "topic": "  A C\u00e4t. ", "green": 3})
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    heard = events(data)
    assert heard[0] == ("start", {"topic": "a cat", "green": [3], "seed": 5, "temp": 0.0})
    assert [name for name, _ in heard if name == "place"]
    assert "".join(content["3"]["text"] for name, content in heard if name == "text") == STORY
    assert heard[-1] == ("end", {"3": {"finish": "end", "n_chars": len(STORY), "mentions": 2}})
    readings = [pair for name, content in heard if name == "text" for pair in content["3"].get("light", [])]
    assert all(0 <= p <= 1 for _, p in readings)
    assert dict(readings)[STORY.index("green light")] > 0.9
    chances = [pair for name, content in heard if name == "text" for pair in content["3"].get("chance", [])]
    assert [n for n, _ in chances] == [n for n, _ in readings]
    assert all(0 < p < 1 for _, p in chances)


def test_story_comes_as_one_document_and_continues_a_beginning(served: Served):
    status, document = served.json("POST", "/api/tell", {**TOPIC, "stream": False})
    assert status == 200
    (story,) = document["stories"]
    assert (story["level"], story["story"], story["finish"], story["mentions"]) == (3, STORY, "end", 2)
    status, rest = served.json("POST", "/api/tell", {**TOPIC, "stream": False, "story": STORY[:50]})
    assert rest["stories"][0]["story"] == STORY
    assert rest["stories"][0]["n_chars"] == len(STORY)


def test_five_levels_at_once_with_a_seed_from_the_server(served: Served):
    status, document = served.json("POST", "/api/tell", {"topic": "a cat", "green": list(LEVELS), "stream": False})
    assert status == 200
    assert [s["level"] for s in document["stories"]] == list(LEVELS)
    assert 0 <= document["seed"] < 2**32
    again = {"topic": "a cat", "green": list(LEVELS), "stream": False, "seed": document["seed"]}
    assert served.json("POST", "/api/tell", again)[1]["stories"] == document["stories"]


def test_pull_and_source_respond(served: Served):
    status, pull = served.json("POST", "/api/pull", {"topic": "a cat", "story": STORY})
    assert status == 200
    assert len(pull["pull"]) == len(STORY)
    assert pull["sum"] == pytest.approx(sum(pull["pull"]), abs=0.1)
    status, source = served.json("POST", "/api/source", {"story": STORY})
    assert status == 200
    assert source["passage"]["text"] == STORY[:40]
    assert source["passage"]["topic"] == "a tale 2"
    assert source["corpus"] == {"stories": 3, "trained_on": None}


def test_state_describes_what_is_served(served: Served):
    status, state = served.json("GET", "/api/state")
    assert status == 200
    assert state["ready"] and not state["failed"] and not state["kiosk"] and state["sources"]
    assert list(state["levels"].values()) == list(GREEN_LIGHT.levels)
    assert state["obsession"] == {"phrase": GREEN_LIGHT.phrase, "title": GREEN_LIGHT.title}
    assert state["model"]["context"] == 512
    assert state["batch"] == 5
    assert [model["name"] for model in state["models"]] == ["memorized"]
    assert state["models"][0]["levels"] == state["levels"] and not state["code"]
    assert state["topics"]


def test_source_without_a_corpus_is_an_error(babbling: Served):
    assert not babbling.json("GET", "/api/state")[1]["sources"]
    status, content = babbling.json("POST", "/api/source", {"story": "a"})
    assert status == 422
    assert "--corpus" in content["error"]["cure"]


def test_examples_of_the_documentation_work(served: Served):
    page = resources.files("gatsby_mlx.exhibit").joinpath("page/api.html").read_text("utf-8")
    examples = [unescape(e) for e in re.findall(r"<pre><code>(curl.*?)</code></pre>", page, re.DOTALL)]
    assert len(examples) == 4
    for example in examples:
        path = re.search(r"localhost:8000(\S+)", example)
        body = re.search(r"-d '(.*?)'", example)
        assert path
        status, _, _ = served.request("POST" if body else "GET", path[1], json.loads(body[1]) if body else None)
        assert status == 200, example
    fields = set(re.findall(r"<tr><td><code>(\w+)</code>", page))
    assert {"topic", "green", "seed", "temp", "story", "stream", "model", "unattended"} <= fields
    assert {"start", "place", "text", "end", "closed"} <= fields


def test_page_files_have_their_media_types(served: Served):
    media_types = {
        "/": "text/html; charset=utf-8",
        "/api": "text/html; charset=utf-8",
        "/exhibit.css": "text/css; charset=utf-8",
        "/tokens.css": "text/css; charset=utf-8",
        "/exhibit.js": "text/javascript; charset=utf-8",
        "/story.js": "text/javascript; charset=utf-8",
        "/stream.js": "text/javascript; charset=utf-8",
        "/kiosk.js": "text/javascript; charset=utf-8",
        "/visit": "text/html; charset=utf-8",
        "/icon.svg": "image/svg+xml",
    }
    for path, media_type in media_types.items():
        status, headers, data = served.request("GET", path)
        assert (status, headers["content-type"]) == (200, media_type)
        assert data
        assert not re.search(rb"(?:src|href|url|import)[^\n]{0,9}https?:", data), "nothing is loaded from elsewhere"
    connection = served.connect()
    connection.request("HEAD", "/")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"")
    connection.close()


def test_connection_stays_open_for_the_next_request(served: Served):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    for _ in range(3):
        connection.request("GET", "/api/state")
        assert connection.getresponse().read()
    connection.close()


def test_request_names_one_of_several_models():
    whale = Obsession("whale", "white whale")
    other = storyteller(story="It saw the white whale.", sharp=3, obsession=whale)
    counts = Counts()
    with serving(storyteller(sharp=3), n_slots=5, others=(other,), counts=counts) as served:
        names = [model["name"] for model in served.json("GET", "/api/state")[1]["models"]]
        assert names == ["memorized", "memorized 2"]
        body = {**TOPIC, "stream": False, "model": names[1]}
        story = served.json("POST", "/api/tell", body)[1]["stories"][0]
        assert (story["story"], story["mentions"]) == ("It saw the white whale.", 1)
        pull = served.json("POST", "/api/pull", {"topic": "a cat", "story": "A whale.", "model": names[1]})
        assert len(pull[1]["pull"]) == 8
        status, content = served.json("POST", "/api/tell", {**TOPIC, "model": "another"})
        assert (status, content["error"]["cure"]) == (422, "The models are memorized, memorized 2")
        served.request("GET", "/")
        served.request("GET", "/visit")
        served.json("POST", "/api/tell", {**TOPIC, "stream": False, "green": [1, 2]})
        served.json("POST", "/api/tell", {**TOPIC, "stream": False, "unattended": True})
        served.json("POST", "/api/tell", {**TOPIC, "stream": False, "story": "A cat"})  # continued, not new
    assert list(counts._days.values()) == [{"stories": 3, "visits": 2}]


def test_code_is_served_only_where_there_is_one(served: Served):
    assert served.request("GET", "/code.svg")[0] == 404
    with serving(storyteller(), n_slots=5, code_url="http://192.168.1.7:8000/visit") as other:
        status, headers, data = other.request("GET", "/code.svg")
        assert (status, headers["content-type"]) == (200, "image/svg+xml")
        assert b"<svg" in data and b"http://www.w3.org/2000/svg" in data
        assert other.json("GET", "/api/state")[1]["code"]
