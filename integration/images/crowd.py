"""OCI layouts, in the directories that are named, of images with more of something than memory has room for: what a few bytes of each name become.

    crowd.py DIRECTORY...       each is called after what it has too many of
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import craft  # noqa: E402

LONG = "n" * 204
FEW = [("f", {"data": b"x"})]


def block(name, kind, link=b"", size=0):
    """A header: tarfile takes its time."""
    head = name.ljust(100, b"\0") + b"0000755\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0" + b" " * 8 + kind
    head = (head + link.ljust(100, b"\0") + b"ustar\x0000").ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def entry(name, kind, link=""):
    name, before = name.encode(), b""
    if len(name) > 100:
        record = b" path=" + name + b"\n"
        record = b"%d" % (len(record) + 3) + record
        before = block(b"pax", b"x", size=len(record)) + record + bytes(-len(record) % 512)
    return before + block(name[:100], kind, link.encode())


def entries(count, name, kind, link=""):
    return b"".join(entry(name % n, kind, link and link % n) for n in range(count))


def of_config(change):
    return lambda path: craft.layout(path, [FEW], change=lambda blobs, config, manifest: change(config, manifest))


def of_layer(*parts):
    return lambda path: craft.layout(path, [b"".join(entries(*part) for part in parts) + bytes(1024)])


IMAGES = {
    "directories": of_layer((150_000, "%08d" + LONG + "/", b"5")),
    "links": of_layer((200_000, "l%07d", b"1", "gone%07d")),
    "late-links": of_layer((200_000, "l%07d", b"1", "m%07d"), (200_000, "m%07d", b"0")),
    "files": of_layer((200_000, "%08d" + LONG, b"0")),
    "honest": of_layer((60_000, "usr/lib/some-package/d%05d/", b"5"), (60_000, "usr/lib/some-package/d%05d/f", b"0")),
    "history": of_config(lambda config, manifest: config.update(history=[{"a": 1}] * 149_000)),
    "unknown": of_config(lambda config, manifest: manifest.update(unknown=[{"a": 1}] * 149_000)),
    "labels": of_config(lambda config, manifest: config["config"].update(Labels={f"l{n}": "" for n in range(95_000)})),
    "variables": of_config(lambda config, manifest: config["config"].update(Env=[f"A{n}=" for n in range(100_000)])),
}

for path in sys.argv[1:]:
    IMAGES[os.path.basename(path)](path)
