"""HTTPS by files: a certificate of its own, clients that trust it or not, and files that are wrong."""

import datetime
import ipaddress
import json
import ssl
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from serving import running
from websockets.sync.client import connect

from dragoman.cli import main


class Pair(NamedTuple):
    certificate: Path
    key: Path

    def flags(self) -> list[str]:
        return ["--ssl_certfile", str(self.certificate), "--ssl_keyfile", str(self.key)]


def make(folder: Path, password: bytes | None = None) -> Pair:
    """Write a self-signed certificate for 127.0.0.1 and its key."""
    folder.mkdir()
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=dragoman")
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    pair = Pair(folder / "server.pem", folder / "server.key")
    pair.certificate.write_bytes(certificate.public_bytes(pem))
    pair.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, hidden))
    return pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    return make(tmp_path_factory.mktemp("tls") / "own")


def test_files_make_it_https(pair, tiny_checkpoint, sample_path):
    with running("--model", f"tiny={tiny_checkpoint}", *pair.flags()) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(pair.certificate))
        with httpx.Client(base_url=server.url, verify=trust, timeout=60) as client:
            file = {"file": ("a.flac", sample_path.read_bytes())}
            answer = client.post("/v1/audio/transcriptions", files=file, data={"model": "tiny"})
            assert answer.status_code == 200
            assert answer.json()["usage"]["type"] == "duration"
        with connect(server.url.replace("https", "wss") + "/v1/realtime", ssl=trust) as live:
            assert json.loads(live.recv(timeout=30))["type"] == "session.created"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(server.url + "/health")
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url.replace("https", "http") + "/health")
        assert server.stop() == 0


def test_wrong_files_are_named(pair, tmp_path, capsys):
    other, locked = make(tmp_path / "other"), make(tmp_path / "locked", b"secret")
    no_pem, missing = tmp_path / "notes.pem", tmp_path / "missing.pem"
    no_pem.write_text("these are notes\n")
    for certificate, key, fault in (
        (missing, pair.key, f"`--ssl_certfile` {missing} cannot be read: No such file"),
        (pair.certificate, missing, f"`--ssl_keyfile` {missing} cannot be read: No such file"),
        (tmp_path, pair.key, f"`--ssl_certfile` {tmp_path} cannot be read: Is a directory"),
        (no_pem, pair.key, f"`--ssl_certfile` {no_pem} and `--ssl_keyfile` {pair.key} are no certificate and its key"),
        (pair.certificate, no_pem, f"`--ssl_keyfile` {no_pem} are no certificate and its key"),
        (pair.certificate, other.key, f"`--ssl_keyfile` {other.key} are no certificate and its key"),
        (*locked, "the key must have no password"),
    ):
        assert main(["serve", "--port", "0", *Pair(certificate, key).flags()]) == 2
        assert fault in capsys.readouterr().err
