"""The parts of a service in one process: batches, conversations, seals, what is loaded."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import io
import json
import shutil
import time

import keras
import numpy as np
import pytest

import rnnzoo
from rnnzoo.serving import (
    Batcher,
    Conversation,
    Conversations,
    Keys,
    Limits,
    Overloaded,
    SpentSeals,
    UnknownStream,
    read_answer,
    seal,
    unseal,
)
from rnnzoo.serving.answers import as_bytes, best, json_parts
from rnnzoo.serving.exported import file_hashes
from rnnzoo.serving.pieces import Written, next_piece

if keras.backend.backend() == "jax":
    pytest.skip("a served model is the same on both backends", allow_module_level=True)

KEY, OTHER_KEY = b"a secret of 23 bytes...", b"another secret of 29 bytes..."
TEXT = "the cat sat on the mat.\n"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models")
    keras.utils.set_random_seed(1)
    vocabulary = rnnzoo.data.Vocabulary.from_text(TEXT)
    made = {
        "text": rnnzoo.one_to_one(vocabulary=vocabulary, units=8),
        "sensor": rnnzoo.one_to_one(features=2, units=[4, 4], outputs=3, cell="gru"),
    }
    for model in made.values():
        for weight in model.trainable_weights:
            weight.assign(weight * 3)
    return {name: model.export(folder / name / "1") for name, model in made.items()}


@pytest.fixture(scope="module")
def all_served(paths):
    return {name: rnnzoo.load_served(path) for name, path in paths.items()}


@pytest.fixture(params=["sensor"])
def served(all_served, request):
    return all_served[request.param]


@pytest.fixture
def text(all_served):
    return all_served["text"]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def state_of(stream):
    return {name: value.tolist() for name, value in stream.state.items()}, stream.steps


def slow(monkeypatch, served, seconds, calls=None):
    """`served.advance` takes at least `seconds`; `calls` gets the rows and steps of each."""
    advance = served.advance

    def slowly(states, steps, keep=()):
        if calls is not None:
            calls.append((len(steps), len(steps[0])))
        time.sleep(seconds)
        return advance(states, steps, keep)

    monkeypatch.setattr(served, "advance", slowly)


def test_long_work_in_slices_is_the_same_and_lets_others_pass(served, monkeypatch):
    calls = []
    slow(monkeypatch, served, 0.001, calls)
    x, batcher = noise(300, 2), Batcher(served, slice_steps=16)

    async def beside():
        long, single = served.new_stream(), served.new_stream()
        task = asyncio.create_task(batcher.step(long, x))
        passed = []
        for step in x[:10]:
            await asyncio.sleep(0.002)
            before = len(calls)
            await batcher.step(single, step)
            passed.append(len(calls) - before)
        return await task, passed

    outputs, passed = asyncio.run(beside())
    np.testing.assert_allclose(outputs, served.new_stream().step(x), rtol=1e-5, atol=1e-6)
    # At most the call that was running and one more went before it.
    assert max(passed) <= 3
    assert max(steps for _, steps in calls[:-1]) == 16


def test_streams_get_equal_shares(served, monkeypatch):
    """Of four long jobs that come one after the other none ends before the first ones."""
    slow(monkeypatch, served, 0.001)
    batcher, ended = Batcher(served, max_batch=1, slice_steps=8), []

    async def job(name, steps):
        await batcher.step(served.new_stream(), noise(steps, 2))
        ended.append(name)

    async def all_jobs():
        await asyncio.gather(job("long", 400), job("b", 80), job("c", 80), job("short", 8))

    asyncio.run(all_jobs())
    assert ended == ["short", "b", "c", "long"]


def test_shares_are_counted_in_steps(served, monkeypatch):
    """Twenty single steps are done before a long job has made many more than twenty."""
    calls = []
    slow(monkeypatch, served, 0.001, calls)
    batcher = Batcher(served, slice_steps=8)

    async def beside():
        long = asyncio.create_task(batcher.step(served.new_stream(), noise(400, 2)))
        await asyncio.sleep(0.01)
        before, single = len(calls), served.new_stream()
        for step in noise(20, 2):
            await batcher.step(single, step)
        meanwhile = [steps for _, steps in calls[before:]]
        await long
        return meanwhile

    meanwhile = asyncio.run(beside())
    assert meanwhile.count(1) == 20
    assert 1 <= meanwhile.count(8) <= 5


def test_long_answers_are_turned_into_text_in_turns(text):
    batcher, made = Batcher(text), []
    slowly = (time.sleep(0.002) or str(i) for i in range(40))

    async def beside():
        long = asyncio.create_task(batcher.all_beside(slowly))
        await asyncio.sleep(0.01)
        made.append(await batcher.beside(str, "short"))
        made.extend(await long)

    asyncio.run(beside())
    assert made == ["short", *map(str, range(40))]
    talk = conversation(batcher)

    async def long_reply():
        return [one async for one in talk.replies(json.dumps({"inputs": [1] * 500}))]

    (reply,) = asyncio.run(long_reply())
    outputs = text.new_stream().step([1] * 500)
    np.testing.assert_allclose(json.loads(reply)["outputs"], outputs, rtol=1e-4, atol=1e-5)


def test_a_bad_stream_is_refused_alone(all_served):
    served, other = all_served["sensor"], all_served["text"]
    batcher, x = Batcher(served), noise(2)

    async def together():
        good = served.new_streams(3)
        broken = served.new_stream()
        broken.state = {**broken.state, "h_0": np.zeros(3, "float32")}
        lost = served.new_stream()
        lost.state = {}
        bad = [other.new_stream(), broken, lost, None]
        steps = [batcher.step(stream, x) for stream in [*good, *bad]]
        return await asyncio.gather(*steps, return_exceptions=True)

    found = asyncio.run(together())
    expected = served.new_stream().step(x)
    for outputs in found[:3]:
        np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    rules = ["streams must be of this model", "h_0 must have shape", "state must have the names"]
    for error, rule in zip(found[3:], [*rules, rules[0]], strict=True):
        assert isinstance(error, ValueError) and rule in str(error)


@pytest.mark.parametrize("kind", [StopIteration, ZeroDivisionError])
def test_a_row_that_fails_fails_alone(served, monkeypatch, kind):
    advance = served.advance

    def failing(states, steps, keep=()):
        if any(step.values["inputs"][0, 0] == 7 for step in steps):
            raise kind("seven")
        return advance(states, steps, keep)

    monkeypatch.setattr(served, "advance", failing)
    batcher = Batcher(served)
    streams = served.new_streams(5)

    async def together():
        inputs = [[7.0, 0.0] if i == 3 else [0.5, i] for i in range(5)]
        steps = [batcher.step(*pair) for pair in zip(streams, inputs)]
        return await asyncio.wait_for(asyncio.gather(*steps, return_exceptions=True), 10)

    found = asyncio.run(together())
    assert isinstance(found[3], RuntimeError if kind is StopIteration else kind)
    assert [stream.steps for stream in streams] == [1, 1, 1, 0, 1]


def test_a_cancelled_step_has_not_moved_its_stream(served, monkeypatch):
    """Steps of several slices are tried until in time, by clients that give up at random."""
    slow(monkeypatch, served, 0.002)
    batcher, data = Batcher(served, slice_steps=1), noise(12, 5, 3, 2)
    random = np.random.default_rng(0)

    async def client(x, stream, gave_up):
        outputs = []
        for step in x:
            while True:
                try:
                    limit = random.uniform(0.001, 0.05)
                    outputs.append(await asyncio.wait_for(batcher.step(stream, step), limit))
                    break
                except TimeoutError:
                    gave_up.append(stream)
        return np.concatenate(outputs)

    async def all_clients():
        gave_up = []
        jobs = [client(x, served.new_stream(), gave_up) for x in data]
        return await asyncio.gather(*jobs), gave_up

    found, gave_up = asyncio.run(all_clients())
    assert len(gave_up) > 10
    for x, outputs in zip(data, found):
        expected = served.new_stream().step(x.reshape(-1, 2))
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_when_all_who_wait_give_up_the_next_one_is_served(served):
    batcher, x, errors = Batcher(served, delay=0.02), noise(2), []

    async def give_up():
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: errors.append(what))
        tasks = [asyncio.create_task(batcher.step(s, x)) for s in served.new_streams(3)]
        await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0.05)
        assert batcher.waiting == batcher.numbers == 0
        return await asyncio.wait_for(batcher.step(served.new_stream(), x), 5)

    np.testing.assert_allclose(asyncio.run(give_up()), served.new_stream().step(x), rtol=1e-6)
    assert not errors


def test_steps_of_one_stream_keep_their_order(served):
    batcher, x, stream = Batcher(served), noise(20, 2), served.new_stream()

    async def at_once():
        return await asyncio.gather(*(batcher.step(stream, step) for step in x))

    found = np.stack(asyncio.run(at_once()))
    np.testing.assert_allclose(found, served.new_stream().step(x), rtol=1e-5, atol=1e-6)


def test_all_kinds_of_work_have_one_limit(text):
    batcher = Batcher(text, delay=0.02, max_waiting=3)
    prompt = {"write": 5, "prompt": "the"}

    async def flood():
        messages = [prompt, {"inputs": [1, 2]}, prompt, prompt, {"inputs": 1}]
        talks = [answers_of(conversation(batcher), message) for message in messages]
        return await asyncio.gather(*talks, return_exceptions=True)

    found = asyncio.run(flood())
    assert [isinstance(one, Overloaded) for one in found] == [False] * 3 + [True] * 2

    async def wide():
        few = Batcher(text, max_numbers=text.outputs * 4)
        steps = [few.step(text.new_stream(), [1, 2]) for _ in range(3)]
        return await asyncio.gather(*steps, return_exceptions=True)

    assert [isinstance(one, Overloaded) for one in asyncio.run(wide())] == [False, False, True]

    async def a_single_step_beside_all_that_may_be():
        few = Batcher(text, max_numbers=text.outputs * 4)
        steps = [few.step(text.new_stream(), inputs) for inputs in ([1] * 4, [1, 2], 1)]
        return await asyncio.gather(*steps, return_exceptions=True)

    found = asyncio.run(a_single_step_beside_all_that_may_be())
    assert [isinstance(one, Overloaded) for one in found] == [False, True, False]

    async def short_ones_beside_all_that_may_be():
        few = Batcher(text, max_numbers=text.outputs * 8, max_waiting=4)
        steps = [few.step(text.new_stream(), [1] * count) for count in (8, 3, 2)]
        return await asyncio.gather(*steps, return_exceptions=True)

    found = asyncio.run(short_ones_beside_all_that_may_be())
    assert [isinstance(one, Overloaded) for one in found] == [False, True, False]


def test_bad_arguments_of_services(served):
    batcher = Batcher(served)
    for call, rule in (
        (lambda: Batcher(None), "served must be"),
        (lambda: Batcher(served, delay=-1), "delay must be seconds"),
        (lambda: Batcher(served, slice_steps=0), "slice_steps must be an integer"),
        (lambda: Conversation(None, KEY), "batcher must be"),
        (lambda: Conversation(batcher, KEY, vocabulary=True), "vocabulary must be"),
        (lambda: Conversations([], KEY), "batcher must be"),
        (lambda: Conversations(batcher, b"1234"), "key must be a secret of at least 16 bytes"),
        (lambda: Conversations(batcher, -1), "key must be a secret"),
        (lambda: Conversations(batcher, KEY, idle=float("nan")), "idle must be seconds above 0"),
        (lambda: Conversations(batcher, KEY, idle="1"), "idle must be seconds above 0"),
        (lambda: Conversations(batcher, KEY, limit_per_client=0), "limit_per_client must be"),
        (lambda: Keys(KEY, lifetime=0), "lifetime must be seconds above 0"),
        (lambda: Keys(KEY, spent=SpentSeals()), "spent must be .* together with a lifetime"),
        (lambda: Keys(KEY, old=[b"short"]), "key must be a secret"),
        (lambda: SpentSeals("/nowhere/spent"), "path must be a file of seals"),
        (lambda: SpentSeals(__file__), "path must be a file of seals"),
        (lambda: Keys(KEY, until="soon"), "until must be a Unix time"),
        (lambda: seal([], KEY), "stream must be"),
        (lambda: unseal(0, "", KEY), "served must be"),
        (lambda: served.step(["1"], [3]), "inputs must|streams must"),
    ):
        with pytest.raises(ValueError, match=rule):
            call()


# Conversations


def conversation(batcher, **options):
    vocabulary = batcher.served.vocabularies.get("prompt")
    return Conversation(batcher, KEY, vocabulary=vocabulary, **options)


async def answers_of(talk, message):
    return [answer async for answer in talk.answers(json.dumps(message))]


def told(talk, *messages):
    async def all_of_them():
        return [await answers_of(talk, message) for message in messages]

    return asyncio.run(all_of_them())


def test_a_message_with_a_step_may_come_again(text):
    talk = conversation(Batcher(text))
    first, second = {"inputs": [1, 2, 3], "step": 0}, {"inputs": [4], "step": 3}
    write = {"write": 12, "prompt": "the", "temperature": 0, "step": 4}
    once = told(talk, first, second, write)
    assert once[2][-1] == {"written": 12, "steps": 4 + 2 + 12}
    again = told(talk, write, write)
    assert again == [once[2]] * 2
    assert talk.stream.steps == 18
    twin = conversation(Batcher(text))
    assert told(twin, first, first, second, second, write, write)[::2] == once
    assert state_of(twin.stream) == state_of(talk.stream)
    for message, rule in (
        (second, "step must be 18, the steps that the stream has made, .*; received step=3"),
        (write | {"seed": 5}, "step must be 18"),
        (write | {"step": 19}, "received step=19"),
        (write | {"step": "4"}, "step must be an integer"),
    ):
        with pytest.raises(ValueError, match=rule):
            told(talk, message)
    assert talk.stream.steps == 18


@pytest.mark.parametrize("breaks", ["fails", "is left", "is cancelled", "is overloaded"])
def test_a_message_that_ends_in_its_middle_changes_nothing(text, monkeypatch, breaks):
    batcher = Batcher(text)
    talk, twin = conversation(batcher), conversation(Batcher(text))
    begin = {"write": 9, "prompt": "the c", "temperature": 50}
    told(talk, begin), told(twin, begin)
    before, write, calls = state_of(talk.stream), text.write, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 3:
            if breaks == "fails":
                raise ValueError("in the middle")
            if breaks == "is overloaded":
                raise Overloaded("in the middle")
        return write(*arguments)

    monkeypatch.setattr(text, "write", failing)

    async def broken():
        found = []
        async with contextlib.aclosing(
            talk.answers('{"write": 50, "prompt": "at", "temperature": 50}')
        ) as answers:
            async for answer in answers:
                found.append(answer)
                if len(found) == 2 and breaks == "is left":
                    return found
                if len(found) == 2 and breaks == "is cancelled":
                    asyncio.current_task().cancel()
        return found

    if breaks == "is left":
        assert len(asyncio.run(broken())) == 2
    else:
        kinds = {"fails": ValueError, "is overloaded": Overloaded}
        with pytest.raises(kinds.get(breaks, asyncio.CancelledError)):
            asyncio.run(broken())
    assert state_of(talk.stream) == before
    assert batcher.waiting == 0
    monkeypatch.undo()
    rest = {"write": 20, "seed": 4}
    assert told(talk, rest) == told(twin, rest)
    assert state_of(talk.stream) == state_of(twin.stream)


def test_writing_can_be_stopped_and_gone_on_with(text):
    greedy = {"temperature": 0, "prompt": "the c"}
    talk, twin = conversation(Batcher(text)), conversation(Batcher(text))
    assert not talk.stop()

    async def stopped():
        found = []
        async for answer in talk.answers(json.dumps({"write": 100, **greedy})):
            found.append(answer)
            if len(found) == 2:
                assert talk.stop()
        return found

    *parts, end = asyncio.run(stopped())
    assert end == {"written": 16, "stopped": True}
    (rest,) = told(talk, {"write": 14, "temperature": 0})
    (whole,) = told(twin, {"write": 30, **greedy})
    assert texts(parts) + texts(rest) == texts(whole)


def texts(found):
    return "".join(answer.get("text", "") for answer in found)


def test_what_is_drawn_hangs_on_the_seed_and_the_place(text):
    def pieces(*messages):
        """What is written, in pieces of eight; drawn from chances that are almost equal."""
        talk = conversation(Batcher(text))
        rest = {"prompt": "t", "temperature": 100}
        whole = ""
        for message in messages:
            whole += texts(told(talk, message | rest)[0])
            rest = {"temperature": 100}
        return [whole[i : i + 8] for i in range(0, len(whole), 8)]

    first = pieces({"write": 24})
    assert len(set(first)) == 3
    assert first == pieces({"write": 16}, {"write": 8}) == pieces(*[{"write": 8}] * 3)
    for seed in (1, 8, 16):
        assert not set(first) & set(pieces({"write": 24, "seed": seed}))


class BytePairs:
    """The 256 bytes, and random pieces of a text, which begin and end within characters too."""

    def __init__(self, random, text, size):
        self.pieces, content = [bytes([i]) for i in range(256)], text.encode()
        while len(self.pieces) < size:
            first = int(random.integers(len(content) - 1))
            self.pieces.append(content[first : first + int(random.integers(2, 7))])

    def encode(self, text):
        content, ids = text.encode(), []
        while content:
            i = max((len(p), i) for i, p in enumerate(self.pieces) if content.startswith(p))[1]
            content = content[len(self.pieces[i]) :]
            ids.append(i)
        return ids

    def decode(self, ids):
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", "replace")

    def __len__(self):
        return len(self.pieces)


WRITTEN = "Zoë’s “naïve” 猫 sat — 🐈‍⬛ on a 🧶 and said: μῆνιν \ufffd! " * 3


@pytest.mark.parametrize("seed", range(20))
def test_pieces_are_of_whole_characters(seed):
    random = np.random.default_rng(seed)
    vocabulary = BytePairs(random, WRITTEN, int(random.integers(256, 320)))
    for rubbish in (False, True):
        ids = vocabulary.encode(WRITTEN)
        if rubbish:  # as a model writes that is not trained yet; longer than what is looked back on
            ids = random.integers(0, len(vocabulary), 400).tolist()
        written, found, rest = Written(), [], ids
        while rest:
            count = int(random.integers(1, 9))
            piece, written = next_piece(vocabulary, written, rest[:count])
            found.append(piece)
            rest = rest[count:]
        whole = vocabulary.decode(ids)
        assert whole.startswith("".join(found))
        assert set(whole[len("".join(found)) :]) <= {"\ufffd"}
        if not rubbish:
            assert ("".join(found), "".join(found).count("\ufffd")) == (WRITTEN, 3)


def test_words_are_apart_and_a_broken_mark_of_ones_own_is_sent():
    words = rnnzoo.data.Vocabulary(["the", "cat", "\n"], "word")
    ids, written, found = [0, 1, 2, 0, 0, 1], Written(), []
    for i in ids:
        piece, written = next_piece(words, written, [i])
        found.append(piece)
    assert "".join(found) == words.decode(ids) == "the cat\nthe the cat"
    mark = rnnzoo.data.Vocabulary(["a", "\ufffd"])
    assert next_piece(mark, Written(), [0, 1])[0] == "a\ufffd"


def test_a_prompt_without_a_token_is_refused(text):
    words = rnnzoo.data.Vocabulary(["the", "cat"], "word")
    talk = Conversation(Batcher(text), KEY, vocabulary=words)
    for prompt in ("", "  "):
        with pytest.raises(ValueError, match="prompt must be a text of at least one token"):
            told(talk, {"write": 5, "prompt": prompt})


def test_a_new_stream_is_a_matter_of_memory(text, monkeypatch):
    """Thousands are opened on the event loop: the model is not called, and they share nothing."""
    first = text.new_stream()
    monkeypatch.setattr(text, "call", None)
    for value in first.state.values():
        value += 1
    second = text.new_stream()
    assert all((first.state[name] == value + 1).all() for name, value in second.state.items())


def test_a_character_may_be_split_between_two_messages(text, monkeypatch):
    vocabulary = BytePairs(np.random.default_rng(0), WRITTEN, 256)
    ids = vocabulary.encode(WRITTEN)

    def write(states, last, count, temperature, seed):
        first = place[0]
        place[0] += count[0]
        return [(np.array(ids[first : place[0]]), states[0])]

    place = [0]
    monkeypatch.setattr(text, "write", write)
    talk, found = Conversation(Batcher(text), KEY, vocabulary=vocabulary), []
    message = {"prompt": "t"}
    while place[0] < len(ids):
        count = min(11, len(ids) - place[0])
        (answers,) = told(talk, {"write": count, **message})
        assert answers[-1] == {"written": count}
        found.append(texts(answers))
        message = {}
    assert "".join(found) == WRITTEN
    assert sum(part.count("\ufffd") for part in found) == 3


def test_long_prompts_are_read_in_slices(text):
    prompt = TEXT[:-1] * 8
    talk = conversation(Batcher(text, slice_steps=8))
    (found,) = told(talk, {"write": 20, "prompt": prompt, "temperature": 0})
    whole = text.call(
        "generate_text", text=np.array([prompt]), max_length=[20], temperature=[0.0], seed=[0]
    )
    assert texts(found) == whole["text"][0].decode()


def test_the_best_outputs_and_binary_answers(text):
    ids = np.random.default_rng(0).integers(0, text.outputs, 40).tolist()
    outputs = text.new_stream().step(ids)

    def reply(message):
        async def one():
            talk = conversation(Batcher(text, slice_steps=7))
            (found,) = [one async for one in talk.replies(json.dumps(message))]
            return found

        return asyncio.run(one())

    plain = json.loads(reply({"inputs": ids}))
    np.testing.assert_allclose(plain["outputs"], outputs, rtol=1e-5, atol=1e-6)
    binary = read_answer(reply({"inputs": ids, "as": "binary"}))
    np.testing.assert_array_equal(binary["outputs"], np.array(plain["outputs"], "float32"))
    assert (binary["steps"], binary["outputs"].dtype) == (40, "float32")
    best = json.loads(reply({"inputs": ids, "top": 3}))
    order = np.argsort(-binary["outputs"], axis=-1)[:, :3]
    np.testing.assert_array_equal(best["indices"], order)
    values = np.take_along_axis(binary["outputs"], order, -1)
    np.testing.assert_allclose(best["outputs"], values, rtol=1e-6)
    one = read_answer(reply({"inputs": ids[0], "top": 2, "as": "binary"}))
    assert one["outputs"].shape == one["indices"].shape == (2,)


@pytest.mark.parametrize("highest", [3, 1000])
@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_of_equals_the_lower_index_is_the_better(highest, count):
    outputs = np.random.default_rng(count).integers(0, highest, (9, 50)).astype("float32")
    outputs[0] = np.nan
    kept = best(count)(outputs)
    order = np.argsort(-outputs, axis=-1, kind="stable")[:, :count]
    np.testing.assert_array_equal(kept["index"], order)
    np.testing.assert_array_equal(kept["value"], np.take_along_axis(outputs, order, -1))


@pytest.mark.parametrize("shape", [(3,), (0, 2), (9000,), (9000, 3), (3, 9000), (2, 3, 5000)])
def test_numbers_survive_their_way(shape):
    array = noise(*shape)
    answer = {"outputs": array, "steps": 3, "ids": array.astype("int32")}
    parts = list(json_parts(answer))
    # One part holds up everybody else who needs the interpreter.
    assert max(part.count(",") for part in parts) <= 512
    read = json.loads("".join(parts))
    assert read == {"outputs": array.tolist(), "steps": 3, "ids": answer["ids"].tolist()}
    back = read_answer(as_bytes(answer))
    assert list(back) == list(answer)
    for name in ("outputs", "ids"):
        np.testing.assert_array_equal(back[name], answer[name], strict=True)
    for cut in (b"", as_bytes(answer)[:10], b"\xff" * 40):
        with pytest.raises(ValueError, match="must be a binary answer"):
            read_answer(cut)


def deep(levels):
    return '{"inputs": ' + "[" * levels + "1" + "]" * levels + "}"


BAD = {
    "save false": ('{"save": false}', "save must be true"),
    "save text": ('{"save": "yes"}', "save must be true"),
    "top 0": ('{"inputs": 1, "top": 0}', "top must be an integer from 1 to"),
    "top high": ('{"inputs": 1, "top": 99}', "top must be an integer from 1 to"),
    "top null": ('{"inputs": 1, "top": null}', "top must be an integer from 1 to"),
    "as": ('{"inputs": 1, "as": "xml"}', "as must be one of 'json', 'binary'"),
    "as list": ('{"inputs": 1, "as": [1]}', "as must be one of 'json', 'binary'"),
    "top of writing": ('{"write": 5, "prompt": "t", "top": 3}', "write takes no"),
    "huge answer": (json.dumps({"inputs": [1] * 30}), "at most 200 numbers, .* make 360"),
    "many lists": ('{"inputs": [' + "[], " * 5000 + "1]}", "at most 5096 values; received 10002"),
    "many objects": ('{"save": [' + "{}, " * 5000 + "1]}", "at most 5096 values; received 10002"),
    "many numbers": (json.dumps({"inputs": [1] * 6000}), "at most 5096 values; received 6001"),
    **{f"{n} deep": (deep(n), "must") for n in (2, 60, 70, 900, 967, 968, 990, 5000)},
}


@pytest.mark.parametrize("case", BAD)
def test_messages_that_are_refused(text, case):
    message, rule = BAD[case]
    talk = conversation(Batcher(text), max_numbers=200)

    async def one():
        return [answer async for answer in talk.answers(message)]

    with pytest.raises(ValueError, match=rule):
        asyncio.run(one())
    assert talk.stream.steps == 0


def test_clients_have_limits_and_a_closed_stream_is_unknown(text):
    clients = Conversations(Batcher(text), KEY, limit=5, limit_per_client=2)
    first = clients.open(client="a")
    clients.open(client="a")
    with pytest.raises(Overloaded, match="at most 2 streams of one client"):
        clients.open(client="a")
    clients.open(client="b")
    clients.close(first)
    clients.close(first)
    clients.open(client="a")

    async def closed_while_it_waits():
        name = clients.open(client="c")

        async def ask(message):
            return [answer async for answer in clients.answers(name, message)]

        asked = [asyncio.create_task(ask(f'{{"inputs": {i}}}')) for i in range(2)]
        await asyncio.sleep(0)
        clients.close(name)
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)

    first, second = asyncio.run(closed_while_it_waits())
    assert first[0]["steps"] == 1
    assert isinstance(second, UnknownStream)
    token = asyncio.run(clients.take(next(iter(clients))))
    assert unseal(text, token, KEY).steps == 0
    clients.closing = True
    with pytest.raises(Overloaded, match="about to end"):
        clients.open(client="d")


# The application, called as a server calls it


@pytest.fixture
def service(text):
    module = pytest.importorskip("rnnzoo.serving.service")

    def make(limits=None, **options):
        clients = Conversations(Batcher(text), KEY, vocabulary=text.vocabularies["prompt"])
        return module.Service(clients, limits, **options)

    return make


def scope_of(kind, path, **headers):
    headers = {"host": "127.0.0.1"} | headers
    lines = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    return {"type": kind, "path": path, "query_string": b"", "headers": lines, "client": ("a", 1)}


async def called(app, method, path, body=b"", gone=3600.0, **headers):
    """Status, headers and content for a client that leaves `gone` seconds after its request."""
    events, sent = [{"type": "http.request", "body": body}], []

    async def receive():
        if events:
            return events.pop()
        await asyncio.sleep(gone)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope_of("http", path, **headers) | {"method": method}, receive, send)
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), content


async def opened(app):
    _, _, content = await called(app, "POST", "/streams")
    return f"/streams/{json.loads(content)['stream']}"


async def spoken(app, *messages):
    """All that the application sends to a WebSocket that sends these messages, and stays."""
    events = [{"type": "websocket.connect"}]
    events += [{"type": "websocket.receive", "text": json.dumps(one)} for one in messages]
    sent = []

    async def receive():
        return events.pop(0) if events else await asyncio.Future()

    async def send(message):
        sent.append(message)

    await app(scope_of("websocket", "/stream"), receive, send)
    return sent


PAGE = "https://page.example"


def test_names_pages_and_figures_are_for_whom_it_was_told(service, tmp_path):
    (tmp_path / "page").write_text("a page")
    closed = service().app
    granted = {"hosts": ["name.example"], "origins": [PAGE], "status": True}
    granting = service(page=tmp_path / "page", **granted).app
    ask = {"access_control_request_method": "POST"}

    async def both(*request, **headers):
        return [await called(app, *request, **headers) for app in (closed, granting)]

    async def every():
        for path in ("/", "/metrics", "/healthz"):
            assert [found[0] for found in await both("GET", path)] == [404, 200], path
        found = await both("POST", "/streams", host="name.example:80")
        assert [status for status, _, _ in found] == [400, 201]
        for method, status in (("POST", 201), ("OPTIONS", 200)):
            refused, let_in = await both(method, "/streams", origin=PAGE, **ask)
            assert (refused[0], let_in[0]) == (403, status)
            assert let_in[1][b"access-control-allow-origin"] == PAGE.encode()
        other = await both("POST", "/streams", origin=f"{PAGE}.evil")
        assert [status for status, _, _ in other] == [403, 403]

    asyncio.run(every())


def test_an_error_of_ours_is_told_and_is_no_client_that_left(service, text, monkeypatch, caplog):
    def broken(*arguments):
        raise RuntimeError("ours")

    monkeypatch.setattr(text, "advance", broken)
    app = service().app

    async def over_both():
        path = await opened(app)
        return await called(app, "POST", path, b'{"inputs": 1}'), await spoken(app, {"inputs": 1})

    (status, _, content), sent = asyncio.run(over_both())
    assert (status, json.loads(content)) == (500, {"error": "internal error"})
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 1011)
    assert [record.exc_info[1].args for record in caplog.records] == [("ours",)] * 2


def test_a_client_that_is_gone_does_not_move_its_stream(service, text, monkeypatch):
    slow(monkeypatch, text, 0.02)
    app = service().app

    async def gone_and_back():
        path = await opened(app)
        gone = await called(app, "POST", path, json.dumps({"inputs": [1] * 300}).encode(), 0.05)
        return gone[0], json.loads((await called(app, "POST", path, b'{"inputs": 1}'))[2])

    status, (answer,) = asyncio.run(gone_and_back())
    assert (status, answer["steps"]) == (400, 1)


def test_an_answer_that_outlasts_the_grace_changes_nothing(service, text, monkeypatch):
    slow(monkeypatch, text, 0.02)
    one = service(Limits(grace=0.2))

    async def ended():
        path = await opened(one.app)
        long = {"inputs": [1] * 900}
        over_http = called(one.app, "POST", path, json.dumps(long).encode())
        socket = spoken(one.app, {"inputs": [1, 2, 3]}, long)
        tasks = [asyncio.create_task(task) for task in (over_http, socket)]
        await asyncio.sleep(0.1)
        await one.end()
        return await asyncio.gather(*tasks)

    (status, _, content), (*_, closing, end) = asyncio.run(ended())
    assert (status, "the service ended before the answer" in content.decode()) == (503, True)
    assert unseal(text, json.loads(closing["text"])["token"], KEY).steps == 3
    assert (end["type"], end["code"]) == ("websocket.close", 1012)


class Unread(asyncio.Transport):
    """The end of a connection whose client has not read yet: closed, it still has bytes to send."""

    closed = False

    def write(self, data):
        pass

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    pause_reading = resume_reading = lambda self: None


def test_a_broken_frame_behind_an_answer_is_no_mistake_of_ours(service, text, monkeypatch, caplog):
    gate = pytest.importorskip("rnnzoo.serving.gate")
    strangers = pytest.importorskip("benchmarks.strangers")
    uvicorn = pytest.importorskip("uvicorn")
    slow(monkeypatch, text, 0.05)
    told = service()

    async def broken():
        config, state = uvicorn.Config(told.app, log_config=None), uvicorn.server.ServerState()
        config.load()
        one = gate.Connections(Limits()).protocols()[1](config, state, {})
        one.connection_made(Unread({"peername": ("10.0.0.1", 1)}))
        one.data_received(strangers.handshake(host="host: 127.0.0.1\r\n").encode())
        one.data_received(strangers.frame(0x81, b'{"inputs": 1}'))
        await asyncio.sleep(0.02)
        one.data_received(strangers.frame(0x81, b"{}", mask=False))
        assert one.close_sent and state.tasks
        await asyncio.wait_for(asyncio.gather(*state.tasks), 10)

    asyncio.run(broken())
    assert not caplog.records


# Seals


def stepped(served, steps=3):
    stream = served.new_stream()
    stream.step(noise(steps, 2))
    return stream


def test_a_seal_ends(served, monkeypatch):
    keys = Keys(KEY, lifetime=60)
    token, endless = seal(stepped(served), keys), seal(stepped(served), KEY)
    assert unseal(served, token, KEY).steps == 3
    with pytest.raises(ValueError, match="must have a lifetime"):
        unseal(served, endless, keys)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    for key in (keys, KEY):
        with pytest.raises(ValueError, match="within its lifetime, which ended at"):
            unseal(served, token, key)
    assert unseal(served, endless, KEY).steps == 3


def test_keys_are_changed_and_old_seals_live_on_for_a_time(served, monkeypatch):
    old = seal(stepped(served), KEY)
    now = time.time()
    keys = Keys(OTHER_KEY, old=[KEY], until=now + 60)
    new = seal(stepped(served), keys)
    for token in (old, new):
        assert unseal(served, token, keys).steps == 3
    for key in (KEY, Keys(OTHER_KEY, old=[KEY], until=0)):
        with pytest.raises(ValueError, match="with the same key"):
            unseal(served, new if key == KEY else old, key)
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert unseal(served, new, keys).steps == 3
    with pytest.raises(ValueError, match="with the same key"):
        unseal(served, old, keys)


def test_a_seal_that_may_be_used_once(served, tmp_path, monkeypatch):
    file = tmp_path / "spent"
    keys = Keys(KEY, lifetime=60, spent=SpentSeals(file))
    token = seal(stepped(served), keys)
    assert unseal(served, token, keys).steps == 3
    # Also not by a service that was started anew, or another one beside it.
    for again in (keys, Keys(KEY, lifetime=60, spent=SpentSeals(file))):
        with pytest.raises(ValueError, match="used once; received one that was used"):
            unseal(served, token, again)
    few = Keys(KEY, lifetime=60, spent=SpentSeals(limit=1))
    unseal(served, token, few)
    with pytest.raises(ValueError, match="at most 1 seals can be remembered"):
        unseal(served, seal(stepped(served), few), few)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)  # the first has ended, and is forgotten
    assert unseal(served, seal(stepped(served), few), few).steps == 3


def test_a_seal_is_of_its_model(all_served, served):
    token = seal(all_served["text"].new_stream(), KEY)
    with pytest.raises(ValueError, match="must be what seal returned"):
        unseal(served, token, KEY)


def test_an_altered_seal_is_refused(served):
    token = seal(stepped(served), KEY)
    raw = bytearray(base64.urlsafe_b64decode(token[2:]))
    for place in np.random.default_rng(0).choice(len(raw), 150, replace=False):
        altered = bytearray(raw)
        altered[place] ^= 1 << int(place) % 8
        with pytest.raises(ValueError, match="must be what seal returned"):
            unseal(served, "2." + base64.urlsafe_b64encode(altered).decode(), KEY)
    for wrong in ("", "2.", "1" + token[1:], token[2:], token[:-4], token + "AAAA", None, 5, b"2."):
        with pytest.raises(ValueError, match="must be what seal returned"):
            unseal(served, wrong, KEY)


def test_a_seal_of_the_first_version_is_still_taken(served):
    stream, kept = stepped(served), io.BytesIO()
    state = {f"s.{key}": value for key, value in stream.state.items()}
    np.savez(kept, steps=np.int64(stream.steps), **state)
    model = served.manifest["weights_sha256"].encode()
    signature = hmac.digest(KEY, model + b"\n" + kept.getvalue(), hashlib.sha256)
    token = base64.urlsafe_b64encode(signature + kept.getvalue()).decode()
    back = unseal(served, token, KEY)
    assert state_of(back) == state_of(stream)
    assert unseal(served, token, Keys(OTHER_KEY, old=[KEY])).steps == 3
    with pytest.raises(ValueError, match="must have a lifetime"):
        unseal(served, token, Keys(KEY, lifetime=60))


# What is loaded


@pytest.fixture
def copied(paths, tmp_path):
    def copy(**changes):
        path = tmp_path / "copy" / "1"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(paths["text"], path)
        file = path / "assets.extra" / "rnnzoo.json"
        manifest = json.loads(file.read_text()) | changes
        if "files" in changes:
            manifest["files"] = file_hashes(path)
        file.write_text(json.dumps(manifest))
        return path

    return copy


def test_files_that_are_not_those_of_the_manifest_are_not_loaded(copied):
    assert rnnzoo.load_served(copied(files=True)).outputs > 1
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001", "assets"):
        path = copied(files=True)
        file = path / name
        file = next(file.iterdir()) if file.is_dir() else file
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"contents of {name}.* are not those that were"):
            rnnzoo.load_served(path)
    path = copied(files=True)
    (path / "assets" / "more").write_text("x")
    with pytest.raises(ValueError, match="contents of assets/more"):
        rnnzoo.load_served(path)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_a_damaged_export_is_refused(copied, name):
    path = copied()
    (path / name).write_bytes((path / name).read_bytes()[:100])
    with pytest.raises(ValueError, match="path must be an export as rnnzoo.export wrote it"):
        rnnzoo.load_served(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"form": "many_to_one"},
        {"form": "encoder_decoder"},
        {"state": {}},
        {"state": {"h_0": {"shape": [9], "dtype": "float32"}}},
        {"state": []},
        {"files": [1]},
    ],
)
def test_a_manifest_that_tells_another_story_is_refused(copied, paths, changes):
    if "files" in changes:
        path = copied()
        file = path / "assets.extra" / "rnnzoo.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    else:
        path = copied(**changes)
    with pytest.raises(ValueError, match="must"):
        rnnzoo.load_served(path)


def test_a_nested_vocabulary_file_is_refused(copied):
    path = copied()
    (path / "assets.extra" / "prompt_vocabulary.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="must"):
        rnnzoo.load_served(path)
