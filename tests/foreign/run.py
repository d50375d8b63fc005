"""Plays the foreign client's story. Exits 0 only if everything held; prints a line for each thing that did.

    run.py vectors PAGE                                    the vectors of RFC 8032 and of docs/encoding.md
    run.py cluster PAGE PROTO ADDRESS,ADDRESS,… [TLS DIR]  against a running cluster; plaintext without TLS DIR
"""

import sys
import tempfile
from pathlib import Path

import ed25519
import vectors

HERE = Path(__file__).resolve().parent
PROTOS = [
    "kindred/account/v1/account.proto",
    "kindred/pairing/v1/pairing.proto",
    "kindred/session/v1/model.proto",
    "kindred/session/v1/session.proto",
    "kindred/error/v1/error.proto",
]


def check_vectors(page):
    print(f"ok: {ed25519.check()} vectors of RFC 8032")
    print(f"ok: {vectors.check(page)} vectors of docs/encoding.md")


def generate(protos, into):
    """Python modules for the public packages, as protoc makes them for anybody."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    paths = [f"-I{path}" for path in (protos, HERE, well_known)]
    code = protoc.main(["protoc", *paths, f"--python_out={into}", f"--grpc_python_out={into}", *PROTOS, "details.proto"])
    assert code == 0, f"protoc: {code}"
    sys.path.insert(0, str(into))


def main(arguments):
    sys.dont_write_bytecode = True
    match arguments:
        case ["vectors", page]:
            check_vectors(Path(page).read_text())
        case ["cluster", page, protos, addresses, *tls] if len(tls) <= 1:
            page = Path(page).read_text()
            check_vectors(page)
            with tempfile.TemporaryDirectory() as generated:
                generate(protos, generated)
                # Only now there is something to import.
                import story

                story.play(addresses.split(","), tls[0] if tls else None, vectors.has_nonces(page))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
