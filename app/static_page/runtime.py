"""onnxruntime-web, pinned: fetched from npm's registry, checked against its digest, unpacked."""

import base64
import hashlib
import importlib.metadata
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from dd2core import DD2Error
from dd2core.store.files import write_atomic

VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs",
          "ort-wasm-simd-threaded.asyncify.wasm")  # fetched by browsers with an adapter alone
FILES = WASM + WEBGPU
NOTICES = ("LICENSE", "ThirdPartyNotices.txt")  # npm's package has neither; the Python one has
PATIENCE = 300  # seconds for npm


def fetch(out: Path) -> Path:
    """Put the engine and its notices into `out`, unless this version is there; return it.

    Raises:
        DD2Error: no npm, no network, or the package is not the pinned one.
    """
    mark = out / "VERSION"
    here = mark.is_file() and mark.read_text(encoding="utf-8") == f"{VERSION} {SHA512}"
    if here and all((out / name).is_file() for name in FILES + NOTICES):
        return out
    with tempfile.TemporaryDirectory() as folder:
        unpack(_packed(Path(folder)), out)
    write_atomic(mark, f"{VERSION} {SHA512}".encode())
    return out


def unpack(data: bytes, out: Path) -> None:
    """Write the engine out of npm's archive, if that is the pinned one.

    Raises:
        DD2Error: it is another one, or the notices of onnxruntime are not installed.
    """
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise DD2Error(f"onnxruntime-web {VERSION} from npm has another sha512 than the pinned "
                       "one: do not use it, and see who serves the registry.")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None
            write_atomic(out / name, member.read())
    for name, text in notices().items():
        write_atomic(out / name, text)


def notices() -> dict[str, bytes]:
    """Licence and third-party notices, from the Python package of the same project.

    Raises:
        DD2Error: it is not installed.
    """
    try:
        package = importlib.metadata.distribution("onnxruntime")
        found = {name: Path(str(package.locate_file(f"onnxruntime/{name}"))).read_bytes()
                 for name in NOTICES}
    except (importlib.metadata.PackageNotFoundError, OSError):
        raise DD2Error("The licence of ONNX Runtime is in its Python package: pip install -r "
                       "requirements-dev.txt.") from None
    return found


def _packed(folder: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise DD2Error("The engine comes as an npm package and there is no npm here: install "
                       "Node.js.")
    try:
        subprocess.run([npm, "pack", "--silent", f"onnxruntime-web@{VERSION}"], cwd=folder,
                       check=True, capture_output=True, timeout=PATIENCE)
        return next(folder.glob("*.tgz")).read_bytes()
    except (subprocess.SubprocessError, OSError, StopIteration):
        raise DD2Error(f"npm cannot fetch onnxruntime-web {VERSION}: see that its registry can be "
                       "reached.") from None
