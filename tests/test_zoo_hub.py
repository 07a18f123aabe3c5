"""Presets on a hub: the real client of Hugging Face against a server of the test's own."""

import pathlib
import sys

import pytest
from hub import Hub

import rnnzoo
from rnnzoo.presets.folder import outputs_of, read_golden

LICENCE = {"data": "public domain", "weights": "MIT"}


@pytest.fixture
def client(monkeypatch, tmp_path):
    """Of `endpoint`: makes the client anew, which reads its settings when it is imported."""
    pytest.importorskip("huggingface_hub", reason="pip install 'rnnzoo[hub]'")

    def use(endpoint):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
            monkeypatch.delitem(sys.modules, name)

    return use


@pytest.fixture
def hub(client):
    server = Hub()
    client(server.url)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def preset(tmp_path):
    model = rnnzoo.one_to_one(features=2, units=3, outputs=2)
    return model.save_to_preset(tmp_path / "small", licence=LICENCE)


def test_what_is_uploaded_comes_back(hub, client, preset):
    (preset / "secret.txt").write_text("of no preset")
    page = rnnzoo.zoo.upload(preset, "hf://ann/small")
    assert page.endswith("/ann/small")
    assert sorted(hub.repositories["ann/small"]) == [
        "README.md", "card.json", "golden.npz", "model.keras",
    ]  # fmt: skip
    for file, content in hub.repositories["ann/small"].items():
        assert (preset / file).read_bytes() == content
    model = rnnzoo.from_preset("hf://ann/small")
    batch, expected = read_golden(preset)
    assert abs(outputs_of(model, batch) - expected).max() < 1e-6
    # From the cache, with the repository gone, and without a network.
    del hub.repositories["ann/small"]
    assert rnnzoo.from_preset(f"hf://ann/small@{'0' * 39}1").count_params() == model.count_params()
    client("http://127.0.0.1:9")
    assert rnnzoo.from_preset("hf://ann/small").count_params() == model.count_params()
    with pytest.raises(OSError, match="received ConnectError: .*The hub must be reachable"):
        rnnzoo.zoo.upload(preset, "hf://ann/small")


def test_an_altered_file_of_a_hub_is_refused(hub, preset):
    rnnzoo.zoo.upload(preset, "hf://ann/small")
    hub.repositories["ann/small"]["model.keras"] += b"!"
    words = r"model\.keras must be the file that its card tells of.*anew where '.*small' is removed"
    with pytest.raises(ValueError, match=words):
        rnnzoo.from_preset("hf://ann/small")


def test_a_repository_that_is_not_there_and_one_that_is_no_preset(hub):
    with pytest.raises(OSError, match="hf://ann/nothing must be on the hub and reachable"):
        rnnzoo.from_preset("hf://ann/nothing")
    hub.repositories["ann/other"] = {"README.md": b"a poem"}
    with pytest.raises(OSError, match=r"(?s)other@v2 must be on the hub.*no such revision"):
        rnnzoo.from_preset("hf://ann/other@v2")
    with pytest.raises(ValueError, match=r"which lacks card\.json"):
        rnnzoo.from_preset("hf://ann/other")


def test_what_is_not_for_all_needs_a_token(hub, preset):
    hub.token = "hf_of_ann"
    words = r"(?s)Invalid username.* needs a login: `hf auth login`, or HF_TOKEN\.$"
    for call in (rnnzoo.zoo.upload, lambda _, address: rnnzoo.from_preset(address)):
        with pytest.raises(OSError, match=words):
            call(preset, "hf://ann/small")
        with pytest.raises(ValueError, match="Cannot have -- or .. in repo_id: 'ann/a--b'$"):
            call(preset, "hf://ann/a--b")
    hub.token = "hf_of_the_test"
    rnnzoo.zoo.upload(preset, "hf://ann/small", private=True)
    assert rnnzoo.from_preset("hf://ann/small").count_params() == 80


def test_without_network_the_error_says_what_to_do(client):
    client("http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(OSError, match="Without network: fetch the repository elsewhere"):
        rnnzoo.from_preset("hf://ann/small")


def test_a_card_without_licence_stays_here(tmp_path):
    folder = rnnzoo.one_to_one(features=2, units=3, outputs=2).save_to_preset(
        tmp_path / "small", licence={"data": "MIT"}
    )
    with pytest.raises(ValueError, match="the card of small lacks that of weights"):
        rnnzoo.zoo.upload(folder, "hf://ann/small")


@pytest.mark.parametrize("address", ["hf://small", "ann/small", "hf://ann/small@1", 3])
def test_addresses_that_are_none(preset, address):
    with pytest.raises(ValueError, match="address must be"):
        rnnzoo.zoo.upload(preset, address)


def test_without_the_client_the_extra_is_named(monkeypatch, preset):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'rnnzoo\[hub\]'"):
        rnnzoo.from_preset("hf://ann/small")
    with pytest.raises(ImportError, match=r"pip install 'rnnzoo\[hub\]'"):
        rnnzoo.zoo.upload(pathlib.Path(preset), "hf://ann/small")
