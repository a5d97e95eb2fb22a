# shellcheck shell=bash
# What others had a CVE for, and is no row of the hostile images: it is about the place, the documents or the memory.

# peak_of COMMAND...: its exit code and the largest resident set of it, in MB.
peak_of() {
    python3 - "$@" <<'P'
import os, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
P
}

# CVE-2021-41091, CVE-2021-41103, CVE-2024-25621: nobody else comes to what is unpacked, setuid programs first of all, whatever the umask.
test_what_is_unpacked_is_for_its_owner() {
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    need setpriv
    craft layout "[[('d', {'type': 'dir', 'mode': 0o777}), ('d/su', {'data': b'x', 'mode': 0o4755})]]"
    umask 0
    image pull -q oci:layout:t --name app
    image bundle --rootfs=overlay store:app overlay -- /x
    image bundle --rootfs=copy store:app copy -- /x
    chmod a+rx "$PLACE" .
    same "$(stat -c %a store store/blobs store/unpacked store/.skep store/.skep/* overlay copy | sort -u)" 700 'modes of the directories'
    same "$(find store overlay copy -path '*/d' -prune -o -type f -perm /022 -print)" '' 'files that others may write to'
    local file
    for file in store/unpacked/sha256/*/d/su overlay/rootfs/d/su copy/rootfs/d/su; do
        [[ -u $file ]]
        ! setpriv --reuid 54321 --regid 54321 --clear-groups cat "$file" 2>/dev/null || { echo "$file is for everybody"; return 1; }
    done
    image bundle --remove overlay
    image bundle --remove copy
}

# CVE-2026-55686: nothing is made on the way to the working directory, neither in the image's tree nor where a symlink in it leads on the host.
test_a_working_directory_behind_a_symlink() {
    mkdir victim
    craft layout "[[('w', {'type': 'sym', 'linkname': '$HERE/victim'}), ('up', {'type': 'sym', 'linkname': '../../../victim'})]], config={'Cmd': ['x'], 'WorkingDir': '/w/../up/new'}"
    local kind
    for kind in copy overlay; do
        [[ $kind == copy || $EUID == 0 ]] || { echo 'overlay needs root'; return 75; }
        image bundle --rootfs=$kind oci:layout:t b
        image bundle --remove b
    done
    image unpack -q oci:layout:t out >/dev/null
    same "$(find victim out -mindepth 1 -printf '%P %y\n' | sort | tr '\n' ' ')" 'up l w l ' 'what there is'
}

# CVE-2020-1702: documents of gigabytes are not read, wherever they are.
test_documents_of_gigabytes() {
    need python3
    local name found
    for name in index.json oci-layout manifest config; do
        rm -rf layout
        craft layout "[[('f', {'data': b'x'})]]"
        case $name in
        manifest) found=layout/blobs/$(jq -r '.manifests[0].digest' layout/index.json | tr : /) ;;
        config) found=layout/blobs/$(jq -r .config.digest "layout/blobs/$(jq -r '.manifests[0].digest' layout/index.json | tr : /)" | tr : /) ;;
        *) found=layout/$name ;;
        esac
        truncate -s 5G "$found"
        found=$(peak_of "$SKEP_IMAGE" --store "$HERE/store" unpack oci:layout:t out 2>"$HERE/said")
        [[ ${found% *} != 0 && ! -e out ]] || { echo "$name of 5 GiB is taken"; return 1; }
        ((${found#* } < 64)) || { echo "$name of 5 GiB: $found MB"; return 1; }
        grep -qE 'limit|larger than|goes on after' "$HERE/said" || { cat "$HERE/said"; return 1; }
    done
    # And one that says it is that large.
    craft huge "[[('f', {'data': b'x'})]]"
    jq -c '.manifests[0].size = 5000000000' huge/index.json >index
    cp index huge/index.json
    found=$(peak_of "$SKEP_IMAGE" --store "$HERE/store" unpack oci:huge:t out 2>"$HERE/said")
    [[ ${found% *} != 0 && ! -e out ]]
    ((${found#* } < 64))
}

# CVE-2017-14992: a megabyte of gzip that becomes a gigabyte takes no memory; it is no honest ratio where one is asked for, and no size.
test_a_bomb() {
    need python3
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$DIRECTORY python3 - <<'P'
import gzip, hashlib, io
import craft
small = craft.tar([("f", {"data": b"x"})])
out, hasher = io.BytesIO(), hashlib.sha256(small)
with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0) as file:
    file.write(small)
    for _ in range(1100):
        file.write(bytes(1 << 20))
        hasher.update(bytes(1 << 20))


def change(blobs, config, manifest):
    blobs[0] = [out.getvalue(), {"mediaType": craft.GZIP, "digest": craft.digest(out.getvalue()), "size": len(out.getvalue())}]
    config["rootfs"]["diff_ids"] = ["sha256:" + hasher.hexdigest()]


craft.layout("bomb", [[]], change=change)
P
    local found
    found=$(peak_of "$SKEP_IMAGE" --store "$HERE/store" unpack -q oci:bomb:t out)
    same "${found% *}" 0 'exit code'
    ((${found#* } < 64)) || { echo "$found MB"; return 1; }
    refused 8 image unpack --max-ratio 1 oci:bomb:t other
    said --max-ratio
    said 'layer 1 ('
    refused 8 image unpack --max-size 500M oci:bomb:t other
    said --max-size
    [[ ! -e other ]]
    nothing_unfinished
}
