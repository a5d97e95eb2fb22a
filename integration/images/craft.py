"""OCI layouts of hand-made layers, for the tests beside this file.

A layer is a list of entries (name, {what tarfile.TarInfo has; data=bytes; pax={...}}), or bytes: a tar as it is.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "sym": tarfile.SYMTYPE, "link": tarfile.LNKTYPE,
         "chr": tarfile.CHRTYPE, "blk": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}


def tar(entries):
    if isinstance(entries, bytes):
        return entries
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, about in entries:
            about = dict(about)
            kind = about.pop("type", "file")
            data = about.pop("data", b"")
            info = tarfile.TarInfo(name)
            info.type = TYPES.get(kind, kind)
            info.mode = 0o755 if kind == "dir" else 0o644
            info.mtime = 1_000_000_000
            info.pax_headers = about.pop("pax", {})
            for key, value in about.items():
                setattr(info, key, value)
            if kind == "file":
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if kind == "file" else None)
    return out.getvalue()


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def layout(path, layers, tag="t", change=None, config=None):
    """Writes an image. `change(blobs, config, manifest)` may falsify it: blobs are [bytes, descriptor] of the layers."""
    os.makedirs(path + "/blobs/sha256", exist_ok=True)

    def put(content, name=None):
        with open(f"{path}/blobs/sha256/{(name or digest(content)).split(':')[1]}", "wb") as file:
            file.write(content)

    tars = [tar(layer) for layer in layers]
    blobs = []
    for content in tars:
        blob = gzip.compress(content, 1, mtime=0)
        blobs.append([blob, {"mediaType": GZIP, "digest": digest(blob), "size": len(blob)}])
    image = {"architecture": "amd64", "os": "linux", "config": config or {"Cmd": ["/bin/true"]},
             "rootfs": {"type": "layers", "diff_ids": [digest(content) for content in tars]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    if change:
        change(blobs, image, manifest)
    for blob, descriptor in blobs:
        put(blob, descriptor["digest"])
    text = json.dumps(image).encode()
    put(text)
    manifest.setdefault("config", {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(text), "size": len(text)})
    manifest.setdefault("layers", [descriptor for _, descriptor in blobs])
    text = json.dumps(manifest).encode()
    put(text)
    with open(path + "/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "manifests": [{"mediaType": manifest["mediaType"], "digest": digest(text), "size": len(text),
                                                "annotations": {"org.opencontainers.image.ref.name": tag}}]}
    with open(path + "/index.json", "w") as file:
        json.dump(index, file)


def snapshot(root, times=True):
    """A directory, entry by entry: type, mode, owner, time, size, content, link structure and extended attributes."""
    lines, inodes = [], {}

    def visit(path, shown):
        stat = os.lstat(path)
        kind = {0o040000: "d", 0o100000: "f", 0o120000: "l", 0o020000: "c", 0o060000: "b", 0o010000: "p", 0o140000: "s"}[stat.st_mode & 0o170000]
        what = [shown, kind, oct(stat.st_mode & 0o7777) if kind != "l" else "-", f"{stat.st_uid}:{stat.st_gid}"]
        if times:
            what.append(str(stat.st_mtime_ns))
        if kind == "l":
            what.append("-> " + os.fsencode(os.readlink(path)).decode("utf-8", "backslashreplace"))
        if kind in "cb":
            what.append(f"{os.major(stat.st_rdev)},{os.minor(stat.st_rdev)}")
        if kind == "f":
            hasher = hashlib.sha256()
            with open(path, "rb") as file:
                while piece := file.read(1 << 20):
                    hasher.update(piece)
            what += [str(stat.st_size), hasher.hexdigest()[:16]]
        if kind != "d" and stat.st_nlink > 1:
            # The links of a mounted overlay are counted below it, where some may be hidden.
            inodes.setdefault((stat.st_dev, stat.st_ino), []).append(shown)
        names = []
        try:
            names = sorted(os.listxattr(path, follow_symlinks=False))
        except OSError:
            pass
        for name in names:
            if not name.startswith("security.selinux"):
                what.append(f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}")
        lines.append(" ".join(what))
        if kind == "d":
            for name in sorted(os.listdir(os.fsencode(path))):
                visit(os.fsencode(path) + b"/" + name, shown + "/" + name.decode("utf-8", "backslashreplace"))

    visit(root, ".")
    first = {name: names[0] for names in inodes.values() for name in names if len(names) > 1}
    return [line + (f" same as {first[line.split(' ', 1)[0]]}" if line.split(" ", 1)[0] in first else "") for line in lines]
