"""Makes what Vault, cert-manager and step hand out, with the `cryptography` package, where those programs cannot be
had: the same extensions, the same files. Called by foreign-ca.sh with a directory and a trust domain's name.
"""

import base64
import datetime
import ipaddress
import json
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
USAGES = [
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
]


def name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(*wanted):
    return x509.KeyUsage(**{one: one in wanted for one in USAGES})


def certificate(subject, key, issuer, issuer_key, life, extensions):
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(seconds=30))
        .not_valid_after(NOW + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256())


def ca(subject, key, issuer, issuer_key, path_length):
    extensions = [
        (x509.BasicConstraints(True, path_length), True),
        (usage("key_cert_sign", "crl_sign"), True),
    ]
    return certificate(subject, key, issuer, issuer_key, datetime.timedelta(days=3650), extensions)


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key, form):
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def server_names(site):
    return x509.SubjectAlternativeName([
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.UniformResourceIdentifier(site),
    ])


def main():
    out = pathlib.Path(sys.argv[1])
    site = f"spiffe://{sys.argv[2]}/site/west"
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])

    # Vault: RSA, PKCS#1, both usages, everything in one JSON document.
    root_key = rsa.generate_private_key(65537, 2048)
    root = ca("vault.example root", root_key, "vault.example root", root_key, None)
    key = rsa.generate_private_key(65537, 2048)
    leaf = certificate("web.vault.example", key, "vault.example root", root_key, datetime.timedelta(days=3), [
        (usage("digital_signature", "key_encipherment", "key_agreement"), True),
        (both, False),
        (server_names(site), False),
    ])
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    (out / "vault.json").write_text(json.dumps({"request_id": "1", "data": {
        "ca_chain": [pem(root)], "certificate": pem(leaf), "issuing_ca": pem(root),
        "private_key": key_pem(key, traditional), "private_key_type": "rsa",
    }}))
    (out / "vault-ca.pem").write_text(pem(root) + key_pem(root_key, traditional))

    # cert-manager: a Secret of kind kubernetes.io/tls with an intermediate.
    pkcs8 = serialization.PrivateFormat.PKCS8
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = ca("cluster root", root_key, "cluster root", root_key, None)
    issuing_key = ec.generate_private_key(ec.SECP256R1())
    issuing = ca("cluster issuing", issuing_key, "cluster root", root_key, 1)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate("web", key, "cluster issuing", issuing_key, datetime.timedelta(days=90), [
        (x509.BasicConstraints(False, None), True),
        (usage("digital_signature", "key_encipherment"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (server_names(site), False),
    ])
    encoded = lambda text: base64.b64encode(text.encode()).decode()
    (out / "cert-manager.json").write_text(json.dumps({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "web-tls"},
        "data": {
            "tls.crt": encoded(pem(leaf) + pem(issuing)),
            "tls.key": encoded(key_pem(key, pkcs8)),
            "ca.crt": encoded(pem(root)),
        },
    }))
    (out / "cert-manager-ca.pem").write_text(key_pem(issuing_key, pkcs8) + pem(root) + pem(issuing))

    # step: a day-long leaf, SEC 1 key, intermediate of path length 0 beside the leaf, the root apart.
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = ca("Smallstep Root CA", root_key, "Smallstep Root CA", root_key, 1)
    between_key = ec.generate_private_key(ec.SECP256R1())
    between = ca("Smallstep Intermediate CA", between_key, "Smallstep Root CA", root_key, 0)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = certificate("web", key, "Smallstep Intermediate CA", between_key, datetime.timedelta(days=1), [
        (usage("digital_signature"), True),
        (both, False),
        (server_names(site), False),
    ])
    (out / "step.crt").write_text(pem(leaf) + pem(between))
    (out / "step.key").write_text(key_pem(key, traditional))
    (out / "step-root.crt").write_text(pem(root))
    (out / "step-ca.pem").write_text(pem(root) + key_pem(root_key, traditional))


main()
