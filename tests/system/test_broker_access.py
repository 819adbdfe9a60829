"""Run the workflow on a Pulsar that asks for tokens: one role for each service, each with what it needs and no more."""

from __future__ import annotations

import base64
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import jwt
import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.patience import PATIENCE_S
from tests.servers import _start
from tests.system.conftest import KEYS
from tests.system.harness import READY_S, Program, command, eventually, web_ports

from pulsaga.broker import BrokerAccess, connect, connect_admin
from pulsaga.delivery.avro import CommittedSchemas
from pulsaga.errors import Unavailable
from pulsaga_program.bootstrap import rights_of
from pulsaga_program.local import LocalPulsar
from pulsaga_program.local.process import free_ports
from system import SYSTEM

pytestmark = [pytest.mark.pulsar, pytest.mark.slow]

PREFIX = "protools-"
TOPIC = "generador.generate-password"


def write_certificate(folder: Path) -> Path:
    """Write a certificate for this machine's loopback address, signed by itself, and its key."""
    key, name = rsa.generate_private_key(65537, 2048), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    addresses = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    signed = made.add_extension(addresses, critical=False).sign(key, hashes.SHA256())
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    (folder / "certificate.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    return folder / "certificate.pem"


class Guarded:
    """Hold a broker that asks for tokens, and the key that signs them."""

    def __init__(self, folder: Path) -> None:
        self.key = secrets.token_bytes(32)
        (folder / "token.key").write_bytes(self.key)
        self.certificate = write_certificate(folder)
        port, admin_port, self.tls_port, self.https_port = free_ports(4)
        options = {
            "authenticationEnabled": "true",
            "authorizationEnabled": "true",
            "authenticationProviders": "org.apache.pulsar.broker.authentication.AuthenticationProviderToken",
            "superUserRoles": "admin",
            "brokerServicePortTls": str(self.tls_port),
            "webServicePortTls": str(self.https_port),
            "tlsCertificateFilePath": str(self.certificate),
            "tlsKeyFilePath": str(folder / "key.pem"),
            "tokenSecretKey": f"file://{folder / 'token.key'}",
            "brokerClientAuthenticationPlugin": "org.apache.pulsar.client.impl.auth.AuthenticationToken",
            "brokerClientAuthenticationParameters": f"token:{self.token('admin')}",
        }
        place = {"port": port, "admin_port": admin_port, "journal_sync": False}
        self.server = LocalPulsar(folder / "pulsar", **place, options=options, token=self.token("admin"))  # type: ignore[arg-type]

    def token(self, role: str) -> str:
        """Sign what `pulsar tokens create --subject ROLE` would."""
        return jwt.encode({"sub": role}, self.key, "HS256")


@pytest.fixture(scope="module")
def guarded(servers_folder: Path) -> Iterator[Guarded]:
    folder = servers_folder / "guarded"
    folder.mkdir()
    made = Guarded(folder)
    _start(made.server.start)
    yield made
    made.server.stop()


@pytest.fixture(scope="module")
def program(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program in an environment of its own, everything prepared by the superuser, rights granted."""
    keys = {key: base64.b64encode(secrets.token_bytes(32)).decode() for key in KEYS}
    environment = {**guarded.server.environment(), **keys, **web_ports(), "BROKER_ROLE_PREFIX": PREFIX}
    made = Program(tmp_path_factory.mktemp("guarded") / "home", environment)
    done = made.run("bootstrap", BROKER_TOKEN=guarded.token("admin"))
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@contextmanager
def running(program: Program, guarded: Guarded, folder: Path) -> Iterator[Path]:
    """Run every process under the role of its service; yield the log of all."""
    log = folder / "log"
    with log.open("wb") as output, ExitStack() as stack:
        for service, kind in SYSTEM.processes:
            environment = {**program.environment, "BROKER_TOKEN": guarded.token(PREFIX + service)}
            process = subprocess.Popen(command("run", service, kind), env=environment, stdout=output, stderr=output)
            stack.callback(process.wait, READY_S)
            stack.callback(process.terminate)
        eventually(lambda: log.read_bytes().count(b"] ready") == len(SYSTEM.processes), READY_S, log)
        yield log


def test_the_whole_workflow_runs_with_a_role_for_each_service(
    program: Program, guarded: Guarded, tmp_path: Path
) -> None:
    """Rights that are too narrow would stop sagas in production only; this one ends, and its caller hears of it."""
    with running(program, guarded, tmp_path) as log:
        url = f"http://127.0.0.1:{program.environment['BFF_PORT']}/passwords"
        answer = urllib3.request(
            "POST", url, json={"username": "ada"}, headers={"Prefer": "wait=60"}, timeout=PATIENCE_S
        )
        assert answer.status == 201, answer.data.decode() + log.read_text()
        undone = {"username": "eve", "email": "eve@refused.test"}
        answer = urllib3.request("POST", url, json=undone, headers={"Prefer": "wait=60"}, timeout=PATIENCE_S)
        assert (answer.status, answer.json()["code"]) == (409, "mailbox-refused")
        assert guarded.token(PREFIX + "bff") not in log.read_text()


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    ("role", "told"), [(f"{PREFIX}correo", "BROKER_TOKEN"), ("stranger", "BROKER_TOKEN"), (None, "does not answer")]
)
def test_who_lacks_the_right_is_refused_and_told_why(guarded: Guarded, role: str | None, told: str) -> None:
    """A service that was taken over must not read what is meant for another; and whoever forgot a grant must see it."""
    access = BrokerAccess(guarded.token(role) if role else None)
    broker = connect(guarded.server.url, CommittedSchemas(), "main", access)
    try:
        with pytest.raises(Unavailable, match=told):
            broker.subscribe("generador", [TOPIC])
    finally:
        broker.close()


@pytest.mark.usefixtures("program")
def test_the_broker_is_known_by_its_certificate_and_by_nothing_less(guarded: Guarded) -> None:
    """A token that is shown to whoever answers at the address is soon somebody else's."""
    url, admin_url = f"pulsar+ssl://127.0.0.1:{guarded.tls_port}", f"https://127.0.0.1:{guarded.https_port}"
    trusting = BrokerAccess(guarded.token("admin"), guarded.certificate)
    broker = connect(url, CommittedSchemas(), "main", trusting)
    broker.browse([TOPIC], earliest=True).close()
    broker.close()
    assert TOPIC in connect_admin(url, admin_url, "main", trusting).topics()

    blind = trusting._replace(trust_certs=None)
    broker = connect(url, CommittedSchemas(), "main", blind)
    with pytest.raises(Unavailable):
        broker.browse([TOPIC], earliest=True)
    broker.close()
    with pytest.raises(Unavailable, match="certificate"):
        connect_admin(url, admin_url, "main", blind).topics()


def test_nobody_is_granted_more_than_it_uses() -> None:
    """The grants follow the code: a service that hears another's commands would be a leak."""
    rights: Mapping[tuple[str, str], set[str]] = rights_of(SYSTEM, SYSTEM.all)  # type: ignore[assignment]
    assert rights["protools_saga", TOPIC] == {"produce"}
    assert rights["generador", TOPIC] == {"consume"}
    assert not {service for service, topic in rights if topic == TOPIC} - {"protools_saga", "generador"}
