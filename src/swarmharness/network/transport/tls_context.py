"""The two TLS contexts of one node: version 1.3 only, no tickets, one application protocol."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path

from swarmharness.kernel.signing import KeyPair
from swarmharness.network.certificate import key_and_certificate_pem

APPLICATION_PROTOCOL = "swarmharness/1"


def dialer_context() -> ssl.SSLContext:
    """Verifies no certificate chain: the handshake compares the certificate itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _restricted(context)


def acceptor_context(key: KeyPair) -> ssl.SSLContext:
    """Resumption is off: every channel proves both ids anew."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    # The ssl module loads keys from files only; mkstemp makes one that nobody else may read.
    descriptor, name = tempfile.mkstemp(prefix="swarm-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key_and_certificate_pem(key))
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
    return _restricted(context)


def _restricted(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([APPLICATION_PROTOCOL])
    return context
