"""S3 over TLS: a real gateway behind an end of TLS whose certificate was made for this test.

Seen to fail: without AWS_CA_BUNDLE, which is the second half of the test, the certificate is nobody's."""

import socket
import ssl
import threading

import pytest

from harness import run
from test_s3 import KEYS, settings
from wire import Wire, batch


def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    finally:
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class TlsEnd:
    """https in front, plain bytes behind."""

    def __init__(self, upstream_port, folder):
        self.certificate, key = f"{folder}/cert.pem", f"{folder}/key.pem"
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", self.certificate])
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)
        self.upstream_port = upstream_port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.handshakes = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            tls = self.context.wrap_socket(s, server_side=True)
        except (OSError, ssl.SSLError):
            s.close()
            return
        self.handshakes += 1
        behind = socket.create_connection(("127.0.0.1", self.upstream_port))
        threading.Thread(target=pump, args=(tls, behind), daemon=True).start()
        pump(behind, tls)

    def close(self):
        self.listener.close()


@pytest.fixture
def tls(rgw, tmp_path):
    end = TlsEnd(rgw.port, tmp_path)
    yield end
    end.close()


@pytest.mark.parametrize("wal", ["none"])
def test_records_over_tls(brokers, rgw, tls, wal):
    bucket = rgw.bucket()
    b = brokers(settings(rgw, bucket, tls, wal=wal), env={**KEYS, "AWS_CA_BUNDLE": tls.certificate})
    w = Wire(b.port)
    assert w.create("t")[0] == 0
    for i in range(20):
        assert w.produce("t", 0, batch([b"%d" % i]))[:2] == (0, i)
    w.close()
    b.restart(kill=True)
    w = Wire(b.port)
    assert w.list_offsets("t", 0, -1)[2] == 20
    w.close()
    b.stop()
    assert tls.handshakes > 0
    # A certificate that nobody vouches for: nothing is sent, and the sentence says what to give.
    b.env.pop("AWS_CA_BUNDLE")
    before = tls.handshakes
    b.start(wait=False)
    assert b.wait() == 1
    assert "AWS_CA_BUNDLE" in b.log() and tls.handshakes == before
