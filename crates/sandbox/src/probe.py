"""Run by the host's interpreter, outside the sandbox: says where it is and what it needs."""
import json, os, struct, sys

# The modules of the standard library that bring shared libraries of their own.
for name in ("bz2", "ctypes", "decimal", "hashlib", "lzma", "resource", "socket", "sqlite3", "uuid", "zlib"):
    try:
        __import__(name)
    except ImportError:
        pass


def loader(path):
    """The dynamic loader that a 64-bit ELF program asks for (PT_INTERP), if any."""
    with open(path, "rb") as file:
        header = file.read(64)
        order = "<" if header[5] == 1 else ">"
        (start,) = struct.unpack_from(order + "Q", header, 32)
        size, count = struct.unpack_from(order + "HH", header, 54)
        for i in range(count):
            file.seek(start + i * size)
            kind, _, offset, _, _, length = struct.unpack_from(order + "IIQQQQ", file.read(40))
            if kind == 3:
                file.seek(offset)
                return file.read(length).rstrip(b"\0").decode()


executable = os.path.realpath(sys.executable)
with open("/proc/self/maps") as maps:
    mapped = {line.split(None, 5)[5].rstrip("\n") for line in maps if " /" in line}
print(json.dumps({
    "executable": executable,
    "version": sys.version_info[:2],
    "loader": loader(executable),
    "path": [entry for entry in map(os.path.realpath, sys.path) if os.path.exists(entry)],
    "libraries": sorted(path for path in mapped if ".so" in os.path.basename(path)),
    "has": [name for name in ("ctypes", "resource", "socket") if name in sys.modules],
}))
