"""A certificate authority made for one run, and the broker's certificate signed by it."""

import subprocess
from pathlib import Path


def make(folder: Path) -> tuple[Path, Path]:
    """Returns the CA file for clients, and the PEM key store (key and chain) for the broker."""
    ca_key, ca = folder / "ca.key", folder / "ca.pem"
    key, request, certificate = folder / "broker.key", folder / "broker.csr", folder / "broker.crt"
    extensions = folder / "broker.ext"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", ca_key, "-out", ca, "-days", "3650", "-subj", "/CN=lakebed test CA",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", request, "-subj", "/CN=localhost")  # fmt: skip
    _openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
             "-days", "3650", "-extfile", extensions, "-out", certificate)  # fmt: skip
    store = folder / "broker.pem"
    store.write_text(key.read_text() + certificate.read_text() + ca.read_text())
    return ca, store


def _openssl(*args: object) -> None:
    command = ["openssl", *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} failed:\n{result.stderr}")
