"""A broker with authentication: TLS, SASL, tokens, client certificates, access control lists."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.kafka.broker import Access, Broker
from tests.kafka.token_server import AUDIENCE, CLIENT, CLIENT_SECRET, TokenServer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PASSWORDS = {"admin": "admin-KqT83vZ1", "plain": "plain-f0Wc27Xs", "scram": "scram-9LmR4bYe"}
"""Users of SASL and their passwords; admin may do everything."""
KEY_PASSWORD = "key-pA6hG5nU"  # noqa: S105 - of a certificate that this run makes
CERTIFIED = "certified"
"""The user that a client certificate stands for."""
REAUTHENTICATE_MS = 4_000
"""How often clients of SCRAM-SHA-256 have to give their password again."""

Right = tuple[str, str, str]
"""Resource type, its name, an operation."""


@dataclass(frozen=True)
class Certificates:
    """PEM files of one run: an authority, the broker's, a client's and a stranger's.

    Attributes
    ----------
    authority, other_authority
        Certificates of the authority that signed the rest, and of one that didn't.
    broker
        The broker's key and certificate.
    client, client_key
        A client's certificate and its key, under `KEY_PASSWORD`.
    stranger, stranger_key
        The same from the other authority.
    """

    authority: Path
    other_authority: Path
    broker: Path
    client: Path
    client_key: Path
    stranger: Path
    stranger_key: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        folder.mkdir(parents=True)
        names = [*cls.__dataclass_fields__]
        made = cls(*(folder / f"{name}.pem" for name in names))
        authority, other = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(str(made.authority))
        other.cert_pem.write_to_path(str(made.other_authority))
        broker = authority.issue_cert("127.0.0.1", common_name="broker")
        made.broker.write_bytes(_key(broker, NoEncryption()) + _chain(broker))
        for issuer, certificate, key in (
            (authority, made.client, made.client_key),
            (other, made.stranger, made.stranger_key),
        ):
            issued = issuer.issue_cert("client@example.org", common_name=CERTIFIED)
            certificate.write_bytes(_chain(issued))
            key.write_bytes(_key(issued, BestAvailableEncryption(KEY_PASSWORD.encode())))
        return made


def _key(issued: trustme.LeafCert, encryption: KeySerializationEncryption) -> bytes:
    # The broker reads no other form than PKCS #8.
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _chain(issued: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in issued.cert_chain_pems)


def _binding(user: str, right: Right) -> tuple[Any, ...]:
    kind, name, operation = right
    return (
        ResourceType[kind.upper()],
        name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation[operation],
        AclPermissionType.ALLOW,
    )


class SecureBroker:
    """A broker with listeners for SASL over TLS, for client certificates, and for signed tokens."""

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates.make(folder / "certificates")
        self.tokens = TokenServer(self.certificates.broker)
        self.broker = Broker(folder / "broker", self._access())

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.sasl, **self.broker.access.admin})

    @property
    def sasl(self) -> str:
        return self.broker.addresses["SASL"]

    @property
    def oidc(self) -> str:
        return self.broker.addresses["OIDC"]

    @property
    def tls(self) -> str:
        return self.broker.addresses["TLS"]

    def grant(self, user: str, rights: Iterable[Right]) -> None:
        """Let a user do something, and wait until the broker knows."""
        wanted = [AclBinding(*_binding(user, right)) for right in rights]
        for future in self.admin.create_acls(wanted).values():
            future.result()

    def set_password(self, user: str, password: str) -> None:
        """Give a user of SCRAM-SHA-256 a password; within seconds, no other is good any more."""
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4_096)
        changed = UserScramCredentialUpsertion(user, credentials, password.encode())
        for future in self.admin.alter_user_scram_credentials([changed]).values():
            future.result()

    def withdraw(self, user: str, right: Right) -> None:
        """Revoke a right."""
        granted = AclBindingFilter(*_binding(user, right))
        for future in self.admin.delete_acls([granted]).values():
            assert len(future.result()) == 1

    def rights(self, user: str) -> set[Right]:
        """What a user may do."""
        asked = cast("Any", AclBindingFilter)(  # its types know no None
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            f"User:{user}",
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        return {
            (found.restype.name.lower(), found.name, found.operation.name)
            for found in self.admin.describe_acls(asked).result()
        }

    def sasl_environment(self, mechanism: str, user: str) -> dict[str, str]:
        """Settings of a client that gives a name and a password, if it has one."""
        environment = {
            "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS": self.sasl,
            "STEPSTREAM_KAFKA__SECURITY_PROTOCOL": "sasl_ssl",
            "STEPSTREAM_KAFKA__SSL_CA_LOCATION": str(self.certificates.authority),
            "STEPSTREAM_KAFKA__SASL_MECHANISM": mechanism,
        }
        if mechanism == "OAUTHBEARER":
            properties = {
                "enable.sasl.oauthbearer.unsecure.jwt": True,
                "sasl.oauthbearer.config": f"principal={user}",
            }
            return {**environment, "STEPSTREAM_KAFKA__PROPERTIES": json.dumps(properties)}
        return {
            **environment,
            "STEPSTREAM_KAFKA__SASL_USERNAME": user,
            "STEPSTREAM_KAFKA__SASL_PASSWORD": PASSWORDS[user],
        }

    def oidc_environment(self) -> dict[str, str]:
        """Settings of a client that gets its tokens from the token server."""
        return {
            "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS": self.oidc,
            "STEPSTREAM_KAFKA__SECURITY_PROTOCOL": "sasl_ssl",
            "STEPSTREAM_KAFKA__SSL_CA_LOCATION": str(self.certificates.authority),
            "STEPSTREAM_KAFKA__SASL_MECHANISM": "OAUTHBEARER",
            "STEPSTREAM_KAFKA__SASL_USERNAME": CLIENT,
            "STEPSTREAM_KAFKA__SASL_PASSWORD": CLIENT_SECRET,
            "STEPSTREAM_KAFKA__PROPERTIES": json.dumps(
                {
                    "sasl.oauthbearer.token.endpoint.url": self.tokens.url,
                    "https.ca.location": str(self.certificates.authority),
                }
            ),
        }

    def tls_environment(self) -> dict[str, str]:
        """Settings of a client that shows its certificate."""
        return {
            "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS": self.tls,
            "STEPSTREAM_KAFKA__SECURITY_PROTOCOL": "ssl",
            "STEPSTREAM_KAFKA__SSL_CA_LOCATION": str(self.certificates.authority),
            "STEPSTREAM_KAFKA__SSL_CERTIFICATE_LOCATION": str(self.certificates.client),
            "STEPSTREAM_KAFKA__SSL_KEY_LOCATION": str(self.certificates.client_key),
            "STEPSTREAM_KAFKA__SSL_KEY_PASSWORD": KEY_PASSWORD,
        }

    def _access(self) -> Access:
        made = self.certificates
        security = "org.apache.kafka.common.security"
        plain = " ".join(f'user_{name}="{PASSWORDS[name]}"' for name in ("admin", "plain"))
        admin: dict[str, Any] = {
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": str(made.authority),
            "sasl.mechanism": "PLAIN",
            "sasl.username": "admin",
            "sasl.password": PASSWORDS["admin"],
        }
        credentials = f"name=scram,password={PASSWORDS['scram']}"
        return Access(
            {"SASL": "SASL_SSL", "TLS": "SSL", "OIDC": "SASL_SSL", "CONTROLLER": "SSL"},
            f"""
inter.broker.listener.name=TLS
ssl.keystore.type=PEM
ssl.keystore.location={made.broker}
ssl.truststore.type=PEM
ssl.truststore.location={made.authority}
ssl.principal.mapping.rules=RULE:^.*CN=([A-Za-z0-9-]+).*$/$1/,DEFAULT
listener.name.tls.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config={security}.plain.PlainLoginModule required {plain};
listener.name.sasl.scram-sha-256.sasl.jaas.config={security}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-256.connections.max.reauth.ms={REAUTHENTICATE_MS}
listener.name.sasl.scram-sha-512.sasl.jaas.config={security}.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config=\\
  {security}.oauthbearer.OAuthBearerLoginModule required;
listener.name.oidc.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oidc.oauthbearer.sasl.jaas.config=\\
  {security}.oauthbearer.OAuthBearerLoginModule required;
listener.name.oidc.oauthbearer.sasl.server.callback.handler.class=\\
  {security}.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwt.validator.class=\\
  {security}.oauthbearer.BrokerJwtValidator
listener.name.oidc.oauthbearer.sasl.oauthbearer.jwks.endpoint.url={self.tokens.keys_url}
listener.name.oidc.oauthbearer.sasl.oauthbearer.expected.audience={AUDIENCE}
listener.name.oidc.oauthbearer.sasl.oauthbearer.clock.skew.seconds=0
listener.name.oidc.oauthbearer.connections.max.reauth.ms=60000
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:broker
""",
            tuple(
                option
                for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
                for option in ("--add-scram", f"{mechanism}=[{credentials}]")
            ),
            admin,
            java_options=(
                f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.tokens.keys_url}",
            ),
        )
