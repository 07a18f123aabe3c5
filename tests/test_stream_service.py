"""`recipes/serve.py` with real clients: WebSocket, HTTP, and a browser."""

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request

import keras
import numpy as np
import pytest

import rnnzoo
from benchmarks.started import ROOT, Started

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
websockets = pytest.importorskip("websockets")
if keras.backend.backend() == "jax":
    pytest.skip("the service runs a SavedModel, on TensorFlow", allow_module_level=True)

TEXT = "the cat sat on the mat.\n"
LIMITS = {"max-streams": 70, "max-steps": 50, "max-bytes": 20_000, "idle": 3, "status": None}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """For each name the model and its export."""
    folder = tmp_path_factory.mktemp("saved_models")
    keras.utils.set_random_seed(1)
    vocabulary = rnnzoo.data.Vocabulary.from_text(TEXT)
    made = {
        "text": rnnzoo.one_to_one(vocabulary=vocabulary, units=8),
        "sensor": rnnzoo.one_to_one(features=2, units=[4, 4], outputs=3, cell="gru"),
        "meter": rnnzoo.one_to_one(
            inputs={"load": 2, "hour": rnnzoo.Tokens(5)},
            static={"store": rnnzoo.Tokens(3), "size": 1},
            units=4,
            outputs=rnnzoo.heads.Normal(2),
            scaling={"load": "mean"},
        ),
    }
    for model in made.values():
        for weight in model.trainable_weights:
            weight.assign(weight * 3)
    return {name: (model, model.export(folder / name / "1")) for name, model in made.items()}


@pytest.fixture(scope="module")
def services(models):
    running = {name: Started(path, **LIMITS) for name, (_, path) in models.items()}
    try:
        for service in running.values():
            service.wait()
        yield running
        for service in running.values():
            assert service.process.poll() is None
            assert "Traceback" not in service.stderr()
    finally:
        for service in running.values():
            service.stop()


async def ask(client, message):
    await client.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
    return json.loads(await asyncio.wait_for(client.recv(), 20))


async def closed_with(service, send=None, query=""):
    """The code with which the service closes a connection that sends this."""
    async with service.connect(query) as client:
        if send is not None:
            await client.send(send)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(client.recv(), 20)
    return closed.value.rcvd.code


def wait_until_all_are_dropped(service):
    for _ in range(100):
        if service.metric("rnnzoo_streams") == 0:
            return
        time.sleep(0.1)


def offline(model, x):
    return np.array(model.step(x[None], model.initial_state(1))[0])[0]


def test_many_connections_keep_their_states_apart(models, services):
    """A quarter dies in the middle, some are slow, some send rubbish: the others see nothing."""
    model, service = models["sensor"][0], services["sensor"]
    data = np.random.default_rng(0).normal(size=(40, 12, 2)).astype("float32")

    async def client(row):
        async with service.connect() as connection:
            got = []
            for step, x in enumerate(data[row]):
                if row % 4 == 1 and step == 5:
                    connection.transport.abort()
                    return got
                if row % 4 == 2 and step % 4 == 0:
                    await asyncio.sleep(0.05)
                if row % 4 == 3 and step == 6:
                    assert "error" in await ask(connection, {"inputs": "rubbish"})
                answer = await ask(connection, {"inputs": x.tolist()})
                got.append(answer["outputs"])
                assert answer["steps"] == step + 1
            return got

    async def all_clients():
        return await asyncio.gather(*map(client, range(len(data))))

    calls = service.metric("rnnzoo_calls")
    found = asyncio.run(all_clients())
    for row, got in enumerate(found):
        assert len(got) == (5 if row % 4 == 1 else 12)
        np.testing.assert_allclose(got, offline(model, data[row])[: len(got)], rtol=1e-5, atol=1e-5)
    # Steps of concurrent connections were run together.
    assert service.metric("rnnzoo_calls") - calls < sum(map(len, found)) / 2


def test_several_inputs_come_by_their_names(models, services):
    """Two clients with values of their own, as steps and one by one, saved and brought back."""
    (model, path), service = models["meter"], services["meter"]
    rng = np.random.default_rng(2)
    load, hour = rng.normal(5.0, 1.0, (2, 6, 2)).astype("float32"), rng.integers(0, 5, (2, 6))
    still = [{"store": 2, "size": [0.5]}, {"store": 0, "size": [-1.0]}]
    whole = {"load": load, "hour": hour, "store": np.array([2, 0])}
    wanted = model.predict(whole | {"size": np.array([[0.5], [-1.0]])}, verbose=0)

    async def client(row):
        got = []
        async with service.connect() as connection:
            steps = {"load": load[row].tolist(), "hour": hour[row].tolist()}
            first = {name: values[:1] for name, values in steps.items()}
            answer = await ask(connection, {"inputs": first})
            assert "must begin with the inputs that it has as a whole" in answer["error"]
            assert (await ask(connection, {"save": True}))["token"] is None
            wrong = {"begin": {"store": 3, "size": [0.5]}}
            assert "store must be token ids in 0 to 2" in (await ask(connection, wrong))["error"]
            assert await ask(connection, {"begin": still[row]}) == {"steps": 0}
            for wrong in (
                {"load": [1.0, 2.0]},
                {**first, "wind": 1.0},
                {"load": first["load"], "hour": 0},
                {"load": steps["load"], "hour": steps["hour"][:2]},
                [[1.0, 2.0]],
            ):
                assert "inputs" in (await ask(connection, {"inputs": wrong}))["error"]
            for t in range(3):
                one = {name: values[t] for name, values in steps.items()}
                got.append((await ask(connection, {"inputs": one}))["outputs"])
            token = (await ask(connection, {"save": True}))["token"]
        _, other = service.send("/streams", {"load": token})
        rest = {"inputs": {name: values[3:] for name, values in steps.items()}}
        status, (answer,) = service.send(f"/streams/{other['stream']}", rest)
        assert (status, answer["steps"]) == (200, 6)
        return [*got, *answer["outputs"]]

    async def both():
        return await asyncio.gather(*map(client, range(2)))

    np.testing.assert_allclose(asyncio.run(both()), wanted, rtol=1e-4, atol=1e-5)
    served = rnnzoo.load_served(path)
    streams = served.new_streams(2, static={"store": [2, 0], "size": [[0.5], [-1.0]]})
    found = served.step(streams, [{"load": load[i], "hour": hour[i]} for i in range(2)])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"static must have the names \['store', 'size'\]"):
        served.new_stream()
    with pytest.raises(ValueError, match="static must not be given with a state"):
        served.new_stream(state=streams[0].state, static=still[0])


def test_http_streams(models, services):
    model, service = models["sensor"][0], services["sensor"]
    x = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")
    status, made = service.send("/streams")
    assert status == 201
    path = f"/streams/{made['stream']}"
    status, answers = service.send(path, {"inputs": x[:4].tolist()})
    assert (status, answers[0]["steps"]) == (200, 4)
    _, saved = service.send(path, {"save": True})
    token = saved[0]["token"]
    _, rest = service.send(path, {"inputs": x[4:].tolist()})
    got = [*answers[0]["outputs"], *rest[0]["outputs"]]
    np.testing.assert_allclose(got, offline(model, x), rtol=1e-5, atol=1e-5)
    # The state was taken away, and is brought back into a new stream, and into this one.
    _, other = service.send("/streams", {"load": token})
    for place, message in ((other["stream"], None), (made["stream"], {"load": token})):
        if message:
            assert service.send(f"/streams/{place}", message) == (200, [{"steps": 4}])
        _, again = service.send(f"/streams/{place}", {"inputs": x[4:].tolist()})
        np.testing.assert_array_equal(again[0]["outputs"], rest[0]["outputs"])
    assert service.send(path, method="DELETE") == (204, None)
    assert service.send(path, {"save": True})[0] == 404


def test_text_is_written_piece_by_piece_and_goes_on(models, services):
    model, service = models["text"][0], services["text"]

    async def write(messages):
        parts = []
        async with service.connect() as client:
            for message in messages:
                answer = await ask(client, message)
                while "text" in answer:
                    parts.append(answer["text"])
                    answer = json.loads(await client.recv())
                assert answer == {"written": message["write"]}
        return parts

    greedy = {"temperature": 0, "prompt": "the c"}
    parts = asyncio.run(write([{"write": 20, **greedy}, {"write": 10, "temperature": 0}]))
    assert [len(part) for part in parts] == [8, 8, 4, 8, 2]
    assert "".join(parts) == model.generate("the c", 30).text[0]
    drawn = {"prompt": "the c", "write": 30, "seed": 5}
    assert asyncio.run(write([drawn])) == asyncio.run(write([drawn]))
    assert asyncio.run(write([drawn])) != asyncio.run(write([drawn | {"seed": 6}]))


NAN = '{"inputs": [NaN, 1]}'
BAD = {
    "nothing": ("sensor", "", "a message must be JSON"),
    "no JSON": ("sensor", "inputs", "a message must be JSON"),
    "half a JSON": ("sensor", '{"inputs": [1', "a message must be JSON"),
    "a list": ("sensor", "[1, 2]", "an object of JSON"),
    "a number": ("sensor", "1", "an object of JSON"),
    "deep": ("sensor", "[" * 9000, "a message must be JSON"),
    "no key": ("sensor", {}, "one of the keys"),
    "another key": ("sensor", {"input": [0, 0]}, "one of the keys"),
    "two keys": ("sensor", {"inputs": [0, 0], "save": True}, "one of the keys"),
    "extra": ("sensor", {"inputs": [0, 0], "seed": 1}, "inputs takes no"),
    "null": ("sensor", {"inputs": None}, "inputs must"),
    "text": ("sensor", {"inputs": "abc"}, "inputs must"),
    "texts": ("sensor", {"inputs": ["a", "b"]}, "inputs must have shape"),
    "objects": ("sensor", {"inputs": {"a": 1}}, "inputs must"),
    "features": ("sensor", {"inputs": [0, 0, 0]}, "inputs must have shape"),
    "rank": ("sensor", {"inputs": [[[0, 0]]]}, "inputs must"),
    "ragged": ("sensor", {"inputs": [[0, 0], [0]]}, "entries of inputs must all have the same"),
    "empty": ("sensor", {"inputs": []}, "inputs must"),
    "nan": ("sensor", NAN, "numbers must be finite"),
    "infinite": ("sensor", '{"inputs": [-Infinity, 1]}', "numbers must be finite"),
    "overflow": ("sensor", '{"inputs": [1e999, 1]}', "inputs must be finite"),
    "over float32": ("sensor", {"inputs": [1e300, 1]}, "inputs must be finite"),
    "huge integer": ("sensor", {"inputs": [10**400, 1]}, "inputs must|a message must"),
    "too many steps": ("sensor", {"inputs": [[0, 0]] * 51}, "at most 50 steps; received 51"),
    "altered token": ("sensor", {"load": "AAAA"}, "must be what seal returned"),
    "no token": ("sensor", {"load": 5}, "must be what seal returned"),
    "write": ("sensor", {"write": 5}, "write is for models on tokens"),
    "token too high": ("text", {"inputs": 99}, "token ids in 0 to"),
    "token below 0": ("text", {"inputs": [0, -1]}, "token ids in 0 to"),
    "fraction": ("text", {"inputs": 0.5}, "dtype int32"),
    "boolean": ("text", {"inputs": [True]}, "dtype int32"),
    "unknown letter": ("text", {"write": 5, "prompt": "the Z"}, "received 'Z' at position 4"),
    "no prompt": ("text", {"write": 5}, "prompt must be a text"),
    "prompt of numbers": ("text", {"write": 5, "prompt": [1]}, "prompt must be a text"),
    "long prompt": ("text", {"write": 5, "prompt": "t" * 51}, "at most 50 tokens; received 51"),
    "write nothing": ("text", {"write": 0, "prompt": "t"}, "write must be an integer from 1 to 50"),
    "write too much": ("text", {"write": 51, "prompt": "t"}, "write must be an integer from 1"),
    "write half": ("text", {"write": 1.5, "prompt": "t"}, "write must be an integer"),
    "cold": (
        "text",
        {"write": 5, "prompt": "t", "temperature": -1},
        "temperature must be a number",
    ),
    "seed": ("text", {"write": 5, "prompt": "t", "seed": "x"}, "seed must be an integer"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_messages_are_refused_and_change_nothing(services, case):
    name, message, rule = BAD[case]
    service = services[name]
    good = {"inputs": [0.5, -1.0] if name == "sensor" else 1}

    async def over_a_socket():
        async with service.connect() as client:
            error = await ask(client, message)
            return error, await ask(client, good)

    error, answer = asyncio.run(over_a_socket())
    assert re.search(rule, error["error"])
    assert "Traceback" not in error["error"] and "/" not in error["error"]
    assert answer["steps"] == 1
    _, stream = service.send("/streams")
    path = f"/streams/{stream['stream']}"
    body = message.encode() if isinstance(message, str) else message
    status, error = service.send(path, body)
    assert status == 400
    assert re.search(rule, error["error"])
    assert service.send(path, good)[1][0] == answer
    service.send(path, method="DELETE")


def test_bad_requests(services):
    service = services["sensor"]
    assert service.send("/streams/unknown", {"save": True}) == (
        404,
        {"error": "there is no stream 'unknown'"},
    )
    assert service.send("/streams", {"load": "altered"})[0] == 400
    _, stream = service.send("/streams")
    path = f"/streams/{stream['stream']}"
    assert service.send(path, b"x" * 30_000)[0] == 413
    _, saved = service.send(path, {"save": True})
    token = saved[0]["token"]
    altered = token[:60] + ("A" if token[60] != "A" else "B") + token[61:]
    for wrong in (altered, token[:-4], token + "AAAA"):
        assert service.send("/streams", {"load": wrong})[0] == 400
    assert service.send("/streams", {"load": token})[0] == 201
    status, error = service.send("/streams?token=" + token)
    assert (status, "URLs are logged" in error["error"]) == (400, True)

    assert asyncio.run(closed_with(service, b"bytes")) == 1003
    assert asyncio.run(closed_with(service, "x" * 30_000)) == 1009
    assert asyncio.run(closed_with(service, None, "?token=altered")) == 1008
    assert json.loads(service.get("/healthz"))


def test_idle_streams_are_dropped_and_too_many_are_refused(services):
    service = services["text"]
    wait_until_all_are_dropped(service)
    made = [service.send("/streams") for _ in range(LIMITS["max-streams"])]
    assert {status for status, _ in made} == {201}
    status, error = service.send("/streams")
    assert (status, "at most 70 streams" in error["error"]) == (429, True)

    assert asyncio.run(closed_with(service)) == 1013
    wait_until_all_are_dropped(service)
    assert service.send(f"/streams/{made[0][1]['stream']}", {"save": True})[0] == 404
    assert service.send("/streams")[0] == 201
    assert asyncio.run(closed_with(service)) == 1001


def test_a_flood_is_answered_in_order(services):
    """Messages sent without waiting are answered one after the other."""
    service = services["sensor"]

    async def flood():
        async with service.connect() as client:
            for _ in range(300):
                await client.send('{"inputs": [0.1, 0.2]}')
            return [json.loads(await client.recv())["steps"] for _ in range(300)]

    assert asyncio.run(flood()) == list(range(1, 301))


# The page's own script, with a page that has no more than it uses, on the real service.
IN_NODE = """
const fs = require("fs"), [, , file, host] = process.argv, all = {};
class Node_ {
  constructor() { this.children = []; this.own = ""; }
  append(child) { this.children.push(child); if (child.own !== undefined) child.parent = this; }
  remove() { this.parent.children = this.parent.children.filter((one) => one !== this); }
  get textContent() {
    return this.own + this.children.map((one) => one.textContent ?? one).join("");
  }
  set textContent(text) { this.own = text; }
  get valueAsNumber() { return Number(this.value); }
}
const getElementById = (id) => all[id] ??= new Node_(), createElement = () => new Node_();
const document = { getElementById, createElement };
const location = { protocol: "http:", host };
const form = all.form = new Node_();
document.getElementById("write").form = form;
const script = fs.readFileSync(file, "utf8").match(/<script>([^]*)<\\/script>/)[1];
new Function("document", "location", "WebSocket", script)(document, location, WebSocket);
const until = async (is) => {
  for (let i = 0; i < 400 && !is(); i++) await new Promise((done) => setTimeout(done, 10));
};
const text = (id) => document.getElementById(id).textContent;
const write = async (values, stops) => {
  for (const [id, value] of Object.entries(values)) document.getElementById(id).value = value;
  const before = text("written").length;
  form.onsubmit({ preventDefault() {} });
  const during = [all.write.disabled, all.stop.disabled];
  if (stops) { await until(() => text("written").length > before); all.stop.onclick(); }
  await until(() => text("status") !== "writing");
  return { during, written: text("written"), status: text("status"), after: all.write.disabled };
};
(async () => {
  await until(() => !all.write.disabled);
  const usual = { prompt: "the cat", count: 40, temperature: 0, seed: 1 };
  const found = [await write(usual), await write({ ...usual, prompt: "the Z" })];
  found.push(await write({ ...usual, count: 50, temperature: "x" }));
  found.push(await write({ ...usual, prompt: "", count: 10 }));
  found.push(await write({ ...usual, prompt: "", count: 50 }, true));
  console.log(JSON.stringify(found));
  process.exit(0);
})();
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_the_script_of_the_page(models, services, tmp_path):
    """What is refused is taken out of the page again, and the stream goes on as if never asked."""
    (tmp_path / "page.js").write_text(IN_NODE)
    host = f"127.0.0.1:{services['text'].port}"
    command = [
        "node",
        "--experimental-websocket",
        tmp_path / "page.js",
        ROOT / "recipes" / "serve.html",
        host,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, unknown, wrong, rest, stopped = json.loads(done.stdout)
    text = models["text"][0].generate("the cat", 100).text[0]
    assert first["written"] == "the cat" + text[:40]
    assert (first["during"], first["after"]) == ([True, False], False)
    assert first["status"] == "40 tokens written"
    for refused, rule in ((unknown, "received 'Z'"), (wrong, "temperature must be")):
        assert rule in refused["status"]
        assert refused["written"] == first["written"]
    assert rest["written"] == "the cat" + text[:50]
    # Where the click came in time, fewer were written.
    count = int(re.match(r"(\d+) tokens written(, then stopped)?$", stopped["status"]).group(1))
    assert stopped["written"] == "the cat" + text[: 50 + count]
    assert ("stopped" in stopped["status"]) == (count < 50)


# The path of the browser, where it is not on the PATH.
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium")


@pytest.mark.skipif(not BROWSER, reason="needs the browser chromium, on the PATH or in CHROMIUM")
def test_the_page_in_a_browser(services, tmp_path):
    first, refused, rest = asyncio.run(browse(services["text"], tmp_path))
    assert first["written"].startswith("the cat")
    assert len(first["written"]) == len("the cat") + 40
    assert first["status"] == "40 tokens written"
    assert (refused["written"], "received 'Z'" in refused["status"]) == (first["written"], True)
    count = int(re.match(r"(\d+) tokens written", rest["status"]).group(1))
    assert rest["written"].startswith(first["written"])
    assert len(rest["written"]) == len(first["written"]) + count
    assert (tmp_path / "page.png").stat().st_size > 5000


async def browse(service, folder):
    """The page after its form was filled in and sent, by the browser's own protocol."""
    command = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=800,600",
    ]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "about:blank"]
    browser = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        port_file = folder / "profile" / "DevToolsActivePort"
        for _ in range(300):
            if port_file.exists() and port_file.read_text().count("\n"):
                break
            await asyncio.sleep(0.1)
        port = port_file.read_text().split("\n")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            pages = [page for page in json.load(answer) if page["type"] == "page"]
        async with websockets.connect(pages[0]["webSocketDebuggerUrl"], max_size=None) as tab:
            return await fill_in(tab, service, folder)
    finally:
        browser.terminate()
        browser.wait(20)


async def fill_in(tab, service, folder):
    count = 0

    async def command(method, **parameters):
        nonlocal count
        count += 1
        await tab.send(json.dumps({"id": count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await asyncio.wait_for(tab.recv(), 20))
            if answer.get("id") == count:
                return answer["result"]

    async def value(expression):
        found = await command("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    async def until(expression):
        for _ in range(200):
            if await value(expression):
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{expression}: {await value('document.body.innerText')}")

    await command("Page.navigate", url=f"http://127.0.0.1:{service.port}/")
    await until("document.getElementById('write') && !document.getElementById('write').disabled")
    found = []
    for prompt, tokens, stops in (("the cat", 40, ""), ("the Z", 40, ""), ("", 50, "stop")):
        await value(f"document.getElementById('prompt').value = '{prompt}'")
        await value(f"document.getElementById('count').value = {tokens}")
        await value("document.getElementById('write').click()")
        if stops:
            await value("document.getElementById('stop').click()")
        await until("document.getElementById('status').textContent != 'writing'")
        shot = await command("Page.captureScreenshot")
        (folder / f"page{len(found) or ''}.png").write_bytes(base64.b64decode(shot["data"]))
        names = ("written", "status")
        found.append({name: await value(f"at('{name}').textContent") for name in names})
    return found
