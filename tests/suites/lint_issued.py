"""Runs pkilint over certificates, CRLs (.crl) and OCSP responses (.ocsp) and prints every error that is not waived.

Started by pkilint.sh inside a virtual environment: `python lint_issued.py FILE...`. Exits with 1 if anything is
left. `--severity WARNING` before the files shows milder findings too.

Two things stand between pkilint 0.13 and what it lints:

* The waiver: `pkix.invalid_domain_name_syntax` on single-label DNS names such as "localhost". RFC 5280 section
  4.2.1.6 asks for the preferred name syntax of RFC 1034 section 3.5, which has single labels; pkilint asks for a
  registered domain. Inside a host or a cluster, single labels are what clients dial.
* Its URL library (`validators` 0.22, pinned by pkilint) knows nine URI schemes and takes every other one for a
  syntax error. `spiffe` is added to its list, so that the rest of the URI is still checked.
"""

import csv
import contextlib
import io
import re
import sys

import validators  # noqa: F401  (makes validators.url importable as a module below)
from pkilint.bin import lint_crl, lint_ocsp_response, lint_pkix_cert

SINGLE_LABEL = re.compile(r'Invalid domain name syntax: "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"')


def accept_spiffe_scheme():
    url = sys.modules["validators.url"]
    known = url._validate_scheme
    url._validate_scheme = lambda scheme: scheme == "spiffe" or known(scheme)


def findings(file, severity):
    out = io.StringIO()
    common = ["--severity", severity, "--format", "CSV", file]
    with contextlib.redirect_stdout(out):
        if file.endswith(".crl"):
            lint_crl.main(["lint", "--type", "CRL", "--profile", "PKIX", *common])
        elif file.endswith(".ocsp"):
            lint_ocsp_response.main(["lint", *common])
        else:
            lint_pkix_cert.main(["lint", *common])
    out.seek(0)
    rows = list(csv.DictReader(out))
    if out.getvalue().splitlines()[0].split(",")[0] != "node_path":
        sys.exit(f"pkilint answered in another format: {out.getvalue()[:200]}")
    return rows


def is_waived(row):
    return row["code"] == "pkix.invalid_domain_name_syntax" and SINGLE_LABEL.fullmatch(
        row["message"]
    )


def main():
    files, severity = sys.argv[1:], "ERROR"
    if files[:1] == ["--severity"]:
        severity, files = files[1], files[2:]
    accept_spiffe_scheme()
    failed = False
    for file in files:
        for row in findings(file, severity):
            if not is_waived(row):
                failed = True
                print(file, row["severity"], row["code"], row["node_path"], row["message"])
    sys.exit(1 if failed else 0)


main()
