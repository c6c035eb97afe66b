"""Generate `featurestore/proto` from the .proto files beside this script, or check them.

`python protos/generate.py` writes; `python protos/generate.py --check` writes nothing and exits 1
if the committed files differ from what would be written. Both lint first: numbers, names and
comments are a contract with clients in other languages.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "featurestore" / "proto"
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
CAMEL = re.compile(r"([A-Z][a-z0-9]*)+")
PACKAGE = re.compile(r"featurestore\.v[1-9][0-9]*")

HEADER = '"""Generated from protos/ by protos/generate.py; never edited."""\n'


def compile_into(directory: Path) -> descriptor_pb2.FileDescriptorSet:
    """Run protoc on every .proto file; give the descriptors with their comments.

    Raises:
        SystemExit: protoc refused a file; it has printed why.
    """
    sources = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.proto"))
    descriptors = directory / "descriptors.bin"
    code = protoc.main(
        [
            "protoc",
            f"--proto_path={HERE}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--python_out={directory}",
            f"--pyi_out={directory}",
            f"--descriptor_set_out={descriptors}",
            "--include_source_info",
            *sources,
        ]
    )
    if code:
        raise SystemExit(code)
    found = descriptor_pb2.FileDescriptorSet()
    found.ParseFromString(descriptors.read_bytes())
    descriptors.unlink()
    return found


def generated() -> tuple[dict[str, str], descriptor_pb2.FileDescriptorSet]:
    """Give the files that belong in `featurestore/proto`, by relative path, and the descriptors."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        descriptors = compile_into(directory)
        root = directory / "featurestore"
        written = {
            str(path.relative_to(root)): _rehome(path.read_text())
            for path in sorted(root.rglob("*_pb2.py*"))
        }
    packages = {str(Path(path).parent) for path in written}
    written |= {f"{package}/__init__.py": HEADER for package in packages}
    return written, descriptors


def _rehome(text: str) -> str:
    """Let generated modules import each other below `featurestore.proto`."""
    return re.sub(r"\bfrom featurestore\.(v\d+) import", r"from featurestore.proto.\1 import", text)


def lint(descriptors: descriptor_pb2.FileDescriptorSet) -> Iterator[str]:
    """Yield each breach of the rules, with the dotted path of what breaks it."""
    for file in descriptors.file:
        if not PACKAGE.fullmatch(file.package):
            yield f"{file.name}: package {file.package!r} is not featurestore.v<number>"
        if file.name.rpartition("/")[0] != file.package.replace(".", "/"):
            yield f"{file.name}: lies outside the folder of its package {file.package}"
        said = {
            tuple(place.path)
            for place in file.source_code_info.location
            if place.leading_comments.strip() or place.trailing_comments.strip()
        }
        for number, message in enumerate(file.message_type):
            yield from _message(message, f"{file.package}.{message.name}", (4, number), said)
        for number, enum in enumerate(file.enum_type):
            yield from _enum(enum, f"{file.package}.{enum.name}", (5, number), said)
        for number, service in enumerate(file.service):
            yield from _service(service, f"{file.package}.{service.name}", (6, number), said)


def _message(
    message: descriptor_pb2.DescriptorProto,
    path: str,
    place: tuple[int, ...],
    said: set[tuple[int, ...]],
) -> Iterator[str]:
    yield from _named(path, message.name, CAMEL, place, said)
    reserved = {n for span in message.reserved_range for n in range(span.start, span.end)}
    numbers = [field.number for field in message.field]
    for number, field in enumerate(message.field):
        where = f"{path}.{field.name}"
        yield from _named(where, field.name, SNAKE, (*place, 2, number), said)
        if field.number in reserved or numbers.count(field.number) > 1:
            yield f"{where}: number {field.number} is reserved or used twice"
        if field.name in message.reserved_name:
            yield f"{where}: the name is reserved"
    for number, inner in enumerate(message.nested_type):
        yield from _message(inner, f"{path}.{inner.name}", (*place, 3, number), said)
    for number, enum in enumerate(message.enum_type):
        yield from _enum(enum, f"{path}.{enum.name}", (*place, 4, number), said)


def _enum(
    enum: descriptor_pb2.EnumDescriptorProto,
    path: str,
    place: tuple[int, ...],
    said: set[tuple[int, ...]],
) -> Iterator[str]:
    yield from _named(path, enum.name, CAMEL, place, said)
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    for number, value in enumerate(enum.value):
        where = f"{path}.{value.name}"
        if (*place, 2, number) not in said:
            yield f"{where}: has no comment"
        if not value.name.startswith(prefix):
            yield f"{where}: does not begin with {prefix}"
    if enum.value[0].name != f"{prefix}UNSPECIFIED" or enum.value[0].number != 0:
        yield f"{path}: the first value must be {prefix}UNSPECIFIED = 0"


def _service(
    service: descriptor_pb2.ServiceDescriptorProto,
    path: str,
    place: tuple[int, ...],
    said: set[tuple[int, ...]],
) -> Iterator[str]:
    yield from _named(path, service.name, CAMEL, place, said)
    for number, method in enumerate(service.method):
        where = f"{path}.{method.name}"
        yield from _named(where, method.name, CAMEL, (*place, 2, number), said)
        for kind, type_name in (("Request", method.input_type), ("Response", method.output_type)):
            if type_name.rpartition(".")[2] != f"{method.name}{kind}":
                yield f"{where}: its {kind.lower()} must be called {method.name}{kind}"


def _named(
    path: str,
    name: str,
    pattern: re.Pattern[str],
    place: tuple[int, ...],
    said: set[tuple[int, ...]],
) -> Iterator[str]:
    if not pattern.fullmatch(name):
        yield f"{path}: {name!r} is not spelled as {'snake' if pattern is SNAKE else 'Camel'} case"
    if place not in said:
        yield f"{path}: has no comment"


def stale(written: dict[str, str]) -> Iterator[str]:
    """Yield each committed file that differs from what would be written."""
    committed = {
        str(path.relative_to(TARGET)): path.read_text()
        for path in TARGET.rglob("*.py*")
        if path.suffix in (".py", ".pyi") and path.parent != TARGET
    }
    for path in sorted(written.keys() | committed.keys()):
        if written.get(path) != committed.get(path):
            yield f"featurestore/proto/{path}: is not what protos/ gives; run make proto"


def main(arguments: list[str]) -> int:
    """Lint, then write or check; give the exit code."""
    written, descriptors = generated()
    faults = list(lint(descriptors))
    if "--check" in arguments:
        faults += stale(written)
    elif not faults:
        for path, text in written.items():
            target = TARGET / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    sys.stdout.write("".join(f"{fault}\n" for fault in faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
