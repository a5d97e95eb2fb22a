# shellcheck shell=bash
# Unpacking, through the whole command: what is wrong, what breaks off, and two at once.

# craft LAYOUT PYTHON: an image of the layers that the expression is (see craft.py), tag t.
craft() {
    need python3
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$DIRECTORY python3 -c "
import os, craft
craft.layout('$1', $2)"
}

# Many small files and some noise: it takes a while. (Only a simple command in the background is the program itself, to be killed.)
slow_image() { craft layout "[[('d%d/f%d' % (n % 50, n), {'data': os.urandom(2000)}) for n in range(4000)], [('noise', {'data': os.urandom(6000000)})]]"; }

# Names that are left of something unfinished, here and in the store.
nothing_unfinished() {
    same "$(find . -path ./layout -prune -o \( -name '.skep-*' ! -path './store/.skep' \) -print)" '' 'what is left here'
    [[ ! -d store ]] || same "$(find store/.skep/tmp store/.skep/ingest -mindepth 1 -print)" '' 'what is left in the store'
}

test_hostile_images() {
    need python3
    HERE=$HERE SKEP_IMAGE=$SKEP_IMAGE "$DIRECTORY/hostile"
}

test_unpack_takes_a_new_or_empty_directory() {
    craft layout "[[('f', {'data': b'x'})]]"
    mkdir empty full
    touch full/mine file
    image unpack oci:layout:t new
    image unpack oci:layout:t empty
    [[ $(cat new/f empty/f) == xx ]]
    refused 2 image unpack oci:layout:t full
    refused 2 image unpack oci:layout:t new
    refused 2 image unpack oci:layout:t file
    refused 3 image unpack oci:layout:t absent/new
    same "$(ls full)" mine 'the directory that is not empty'
    nothing_unfinished
}

test_unpack_killed_at_any_time() {
    slow_image
    local n pid
    for n in 0.01 0.03 0.06 0.1 0.15 0.2 0.3 0.4 0.6; do
        "$SKEP_IMAGE" --store store unpack oci:layout:t out >/dev/null 2>&1 &
        pid=$!
        read -rt "$n" <> <(:) || true
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        # Whole or not there.
        [[ ! -e out ]] || { same "$(find out -type f | wc -l)" 4001 files; rm -rf out; }
        "$SKEP_IMAGE" --store store bundle --rootfs=copy oci:layout:t copy -- /x >/dev/null 2>&1 &
        pid=$!
        read -rt "$n" <> <(:) || true
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        [[ ! -e copy ]] || { same "$(find copy/rootfs -type f | wc -l)" 4001 files; rm -rf copy; }
    done
    # Who comes next takes away what is left.
    image unpack oci:layout:t out
    image bundle --rootfs=copy oci:layout:t copy -- /x
    nothing_unfinished
}

test_a_bundle_killed_at_any_time() {
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    slow_image
    local n pid
    for n in 0.01 0.03 0.06 0.1 0.15 0.2 0.3 0.4 0.6; do
        "$SKEP_IMAGE" --store store bundle --rootfs=overlay oci:layout:t b -- /x >/dev/null 2>&1 &
        pid=$!
        read -rt "$n" <> <(:) || true
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        [[ ! -e b ]] || image bundle --remove b
        image store verify
    done
    image bundle --rootfs=overlay oci:layout:t b -- /x
    same "$(find b/rootfs -type f | wc -l)" 4001 files
    image store gc >/dev/null
    same "$(find b/rootfs -type f | wc -l)" 4001 'files after a collection'
    image bundle --remove b
    nothing_unfinished
    image store gc >/dev/null
    same "$(find store/unpacked -mindepth 2)" '' 'layers that are left'
}

test_a_full_disk() {
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    slow_image
    mkdir disk
    mount -t tmpfs -o size=12M,nr_inodes=3000 tmpfs disk || { echo 'no tmpfs'; return 75; }
    refused 8 image unpack oci:layout:t disk/out
    said 'No space left'
    refused 8 image bundle --rootfs=copy oci:layout:t disk/b -- /x
    refused 8 "$SKEP_IMAGE" --store disk/store bundle --rootfs=overlay oci:layout:t disk/b -- /x
    same "$(cd disk && find . -mindepth 1 ! -path './store*')" '' 'what is left on the disk'
    same "$(find disk/store/.skep/tmp disk/store/unpacked -mindepth 2 -maxdepth 2)" '' 'what is left in the store'
    mount -o remount,size=100M,nr_inodes=20000 disk
    "$SKEP_IMAGE" --store disk/store bundle --rootfs=overlay oci:layout:t disk/b -- /x
    "$SKEP_IMAGE" --store disk/store bundle --remove disk/b
    # And a store that cannot be written to.
    "$SKEP_IMAGE" --store disk/store store rm none >/dev/null 2>&1 || true
    mount -o remount,ro disk
    refused 1 "$SKEP_IMAGE" --store disk/store pull oci:layout:t
    said 'Read-only'
    umount disk
}

test_two_at_once() {
    slow_image
    local n codes=''
    for n in 1 2 3; do image unpack oci:layout:t out >/dev/null 2>"said$n" & done
    for n in 1 2 3; do
        local code=0
        wait -n || code=$?
        codes+="$code "
    done
    same "$(tr ' ' '\n' <<<"$codes" | sort | tr -d '\n')" 022 'exit codes'
    same "$(find out -type f | wc -l)" 4001 files
    nothing_unfinished
    ((EUID == 0)) || { echo 'what is done by overlay needs root'; return 75; }
    # Each layer is unpacked by one of them.
    for n in 1 2 3; do image --json bundle --rootfs=overlay oci:layout:t "b$n" -- /x >"out$n" & done
    wait
    same "$(cat out? | jq -r 'select(.event == "layer_applied" and .cached == false) | .digest' | sort | uniq -d)" '' 'layers that were unpacked twice'
    for n in 1 2 3; do same "$(find "b$n/rootfs" -type f | wc -l)" 4001 files; image bundle --remove "b$n"; done
    nothing_unfinished
}

test_layers_are_shared_where_they_can_be() {
    need jq
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    local upper="[('d', {'type': 'dir'}), ('d/f', {'data': b'x'})]" implied="[('tmp/f', {'data': b'x'}), ('l', {'type': 'link', 'linkname': 'etc/a'})]"
    local etc="('etc', {'type': 'dir'}), ('etc/a', {'data': b'a'})"
    craft one "[[('tmp', {'type': 'dir', 'mode': 0o1777}), $etc], $upper, $implied]"
    craft two "[[('tmp', {'type': 'dir', 'mode': 0o700}), $etc], $upper, $implied]"
    image bundle --rootfs=overlay oci:one:t b1 -- /x
    image bundle --rootfs=overlay oci:two:t b2 -- /x
    # The second layer is one, the third takes the mode of /tmp and a file from below.
    same "$(find store/unpacked -mindepth 2 -maxdepth 2 | wc -l)" 5 'unpacked layers'
    same "$(stat -c %a b1/rootfs/tmp b2/rootfs/tmp | tr '\n' ' ')" '1777 700 ' 'modes of /tmp'
    same "$(cat b1/rootfs/l b2/rootfs/tmp/f)" ax contents
    # By itself it is above nothing, and not taken for one above something.
    craft three "[${implied}[:1]]"
    image bundle --rootfs=overlay oci:three:t b3 -- /x
    craft four "[[('tmp', {'type': 'dir', 'mode': 0o1777})], ${implied}[:1]]"
    image bundle --rootfs=overlay oci:four:t b4 -- /x
    same "$(stat -c %a b3/rootfs/tmp b4/rootfs/tmp | tr '\n' ' ')" '755 1777 ' 'modes of /tmp'
    local n
    for n in 1 2 3 4; do image bundle --remove "b$n"; done
}

# The layers have the image's own ids, and each mount shows them with those that were asked for.
test_layers_with_other_ids_are_collected() {
    need jq
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    craft layout "[[('d', {'type': 'dir', 'uid': 7, 'gid': 7}), ('d/f', {'data': b'x', 'uid': 7, 'gid': 7})], [('g', {'data': b'y'})]]"
    image bundle --rootfs=overlay --uid-map 0:100000:65536 oci:layout:t b1 -- /x
    image bundle --rootfs=overlay --uid-map 0:300000:10 --gid-map 0:400000:10 oci:layout:t b2 -- /x
    image bundle --rootfs=copy --uid-map 0:100000:65536 oci:layout:t b3 -- /x
    same "$(stat -c %u:%g b1/rootfs/d/f b2/rootfs/d/f b3/rootfs/d/f | tr '\n' ' ')" '100007:100007 300007:400007 100007:100007 ' owners
    same "$(find store/unpacked -mindepth 2 -maxdepth 2 | wc -l)" 2 'unpacked layers'
    same "$(stat -c %u "store/unpacked/sha256/"*/d | sort -u)" 7 'owner in the store'
    # No image in the store needs them: these bundles do.
    local n
    for n in 1 2; do
        image store gc >/dev/null
        same "$(cat b1/rootfs/d/f b2/rootfs/g 2>/dev/null)" xy "files after collection $n"
        image verify "b$n"
    done
    image bundle --remove b1
    image store gc >/dev/null
    # Mounted anew, of layers that a collection has left alone.
    umount b2/rootfs
    image bundle --mount-again --uid-map 0:300000:10 --gid-map 0:400000:10 b2
    same "$(stat -c %u:%g b2/rootfs/d/f)" 300007:400007 'owner after another mount'
    # An id of the image that has no other is refused, or shown as nobody's; it is never the host's own.
    image bundle --rootfs=overlay --uid-map 0:300000:5 oci:layout:t b4 -- /x
    same "$(stat -c %u:%g b4/rootfs/d/f)" 65534:65534 'owner that has no id'
    image bundle --remove b4
    refused 6 image bundle --rootfs=copy --uid-map 0:300000:5 oci:layout:t b4 -- /x
    said 'its uid 7 is in no range'
    image bundle --remove b2
    image bundle --remove b3
    image store gc >/dev/null
    same "$(find store/unpacked -mindepth 2)" '' 'layers that are left'
}

test_trees_are_those_of_umoci_and_podman() {
    need python3
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    HERE=$HERE SKEP_IMAGE=$SKEP_IMAGE "$DIRECTORY/trees"
}

test_ls_and_cat() {
    craft layout "[[('d', {'type': 'dir'}), ('d/f', {'data': b'one'}), ('d/g', {'data': b'two'}), ('bin', {'type': 'sym', 'linkname': 'd'})], [('d/.wh.g', {}), ('d/h', {'type': 'link', 'linkname': 'd/f'}), ('d/esc\x1b[31m', {})]]"
    same "$(image ls oci:layout:t | tr '\n' ' ')" 'bin d ' 'what is at the top'
    same "$(image ls oci:layout:t /bin | tr '\n' ' ')" 'esc\u{1b}[31m f h ' 'what is behind a symlink'
    same "$(image ls -l oci:layout:t bin/f)" '-rw-r--r--     0     0          3 2001-09-09T01:46:40Z d/f' 'a file'
    same "$(image ls --json oci:layout:t d/h | jq -c '[.name, .size, .layer]')" '["/d/h",3,1]' 'as JSON'
    same "$(image cat oci:layout:t bin/h /d/f)" oneone contents
    refused 3 image cat oci:layout:t d/g
    refused 3 image ls oci:layout:t none
    refused 2 image cat oci:layout:t d
    local blob
    blob=$(image inspect --layers oci:layout:t | awk 'NR == 1 { print $1 }' | cut -d: -f2)
    printf x | dd of="layout/blobs/sha256/$blob" bs=1 seek=30 conv=notrunc status=none
    refused 5 image cat oci:layout:t d/f
    refused 5 image ls oci:layout:t
    refused 5 image verify oci:layout:t
}

# A chain of links of which each but the last is to one that comes later.
test_a_chain_of_links_takes_no_time() {
    craft layout "[[('l%06d' % n, {'type': 'link', 'linkname': 'l%06d' % (n + 1)}) for n in range(60000)] + [('l060000', {'data': b'x'})]]"
    local begun=$SECONDS
    same "$(image ls oci:layout:t | wc -l)" 60001 files
    same "$(image cat oci:layout:t l000000)" x content
    # Sixty thousand times half as many steps would be minutes.
    ((SECONDS - begun < 100)) || { echo "it took $((SECONDS - begun)) s"; return 1; }
}

test_an_image_without_layers() {
    craft layout '[]'
    image unpack oci:layout:t out
    same "$(stat -c %a out)$(ls -A out)" 755 'mode of the root'
    image bundle --rootfs=copy oci:layout:t b -- /x
    same "$(stat -c %a b/rootfs)$(ls -A b/rootfs)" 755 'mode of the root of a bundle'
    image verify b
    image bundle --remove b
    ((EUID == 0)) || { echo 'what is done by overlay needs root'; return 75; }
    refused 6 image bundle --rootfs=overlay oci:layout:t b -- /x
    image bundle oci:layout:t b -- /x
    image bundle --remove b
    nothing_unfinished
}

test_a_user_runs_an_image() {
    need python3 busybox setpriv
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    local skep=${SKEP:-${SKEP_IMAGE%/*}/skep}
    [[ -x $skep ]] || { echo "no skep beside $SKEP_IMAGE"; return 75; }
    SKEP=$skep SKEP_IMAGE=$SKEP_IMAGE "$DIRECTORY/rootless"
}

# What is made to be read in part is read whole, as any other: a gzip member for each entry, with eStargz's table of contents and its footer;
# zstd frames with the table in skippable ones; and digests by SHA-512.
test_layers_that_others_read_in_part() {
    need python3 zstd
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$DIRECTORY python3 - <<'P'
import gzip, hashlib, json, struct, subprocess
import craft
entries = [("d", {"type": "dir"}), ("d/f", {"data": b"x" * 100_000}), ("d/g", {"data": b"y"})]
toc = json.dumps({"version": 1, "entries": [{"name": "d/f", "type": "reg", "size": 100_000, "offset": 0}]}).encode()


def replace(content, media, tar, **more):
    def change(blobs, config, manifest):
        blobs[0] = [content, {"mediaType": media, "digest": craft.digest(content), "size": len(content), **more}]
        config["rootfs"]["diff_ids"][0] = craft.digest(tar)
    return change


whole = craft.tar(entries + [("stargz.index.json", {"data": toc})])
ends = [1024, 1536, 102_400, len(whole)]
members = [gzip.compress(whole[a:b], 9, mtime=0) for a, b in zip([0] + ends, ends)]
offset = sum(len(member) for member in members[:-1])
field = b"SG" + struct.pack("<H", 22) + b"%016xSTARGZ" % offset
footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(field)) + field + b"\x01\0\0\xff\xff" + bytes(8)
annotations = {"containerd.io/snapshot/stargz/toc.digest": craft.digest(toc)}
craft.layout("estargz", [entries], change=replace(b"".join(members) + footer, craft.GZIP, whole, annotations=annotations))


def zstd(content):
    return subprocess.run(["zstd", "-q", "-c"], input=content, stdout=subprocess.PIPE, check=True).stdout


def skippable(content):
    return struct.pack("<II", 0x184D2A50, len(content)) + content


tar = craft.tar(entries)
chunked = b"".join(zstd(tar[at:at + 50_000]) for at in range(0, len(tar), 50_000)) + skippable(zstd(toc)) + skippable(bytes(64))
annotations = {"io.github.containers.zstd-chunked.manifest-checksum": craft.digest(toc)}
craft.layout("chunked", [entries], change=replace(chunked, "application/vnd.oci.image.layer.v1.tar+zstd", tar, annotations=annotations))


def sha512(blobs, config, manifest):
    import os
    os.makedirs("sha512/blobs/sha512")
    blob = blobs.pop()[0]
    name = hashlib.sha512(blob).hexdigest()
    with open("sha512/blobs/sha512/" + name, "wb") as file:
        file.write(blob)
    manifest["layers"] = [{"mediaType": craft.GZIP, "digest": "sha512:" + name, "size": len(blob)}]
    config["rootfs"]["diff_ids"] = ["sha512:" + hashlib.sha512(tar).hexdigest()]


craft.layout("sha512", [entries], change=sha512)
P
    local kind
    for kind in estargz chunked sha512; do
        image unpack "oci:$kind:t" "of-$kind" 2>said
        same "$(grep -ci warning said)" 0 "warnings of $kind"
        same "$(head -c 3 "of-$kind/d/f"; stat -c ' %s' "of-$kind/d/f")" 'xxx 100000' "what is in $kind"
        same "$(cat "of-$kind/d/g")" y "the next file of $kind"
        image pull -q "oci:$kind:t" --name "$kind"
        image verify "store:$kind"
    done
    # Its table of contents is a file of the layer.
    [[ -s of-estargz/stargz.index.json ]]
    refused 8 image unpack --max-size 1k oci:sha512:t of-wrong
    printf 'z' | dd of="$(echo sha512/blobs/sha512/*)" bs=1 seek=20 conv=notrunc status=none
    refused 5 image unpack oci:sha512:t of-wrong
    [[ ! -e of-wrong && ! -e of-chunked/stargz.index.json ]]
}

# A store on a medium that nobody writes to is read like any other place, and is told of where something would have to be written.
test_a_store_that_is_read_only() {
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    craft layout "[[('d', {'type': 'dir'}), ('d/f', {'data': b'x'})]]"
    image pull -q oci:layout:t --name app
    local before
    before=$(find store -printf '%P %y %s\n' | sort)
    mount --bind store store
    mount -o remount,ro,bind store
    same "$(image resolve -q store:app)" "$(image resolve -q oci:layout:t)" 'the name'
    image inspect store:app >/dev/null
    same "$(image cat store:app d/f)" x 'a file'
    image unpack oci:layout:t out
    refused 1 image pull oci:layout:t --name other
    said 'Read-only file system'
    refused 1 image bundle --rootfs=overlay oci:layout:t b -- /x
    said 'Read-only file system'
    refused 1 image store gc
    said 'Read-only file system'
    [[ ! -e b ]]
    umount store
    same "$(find store -printf '%P %y %s\n' | sort)" "$before" 'the store'
}

test_ids_and_attributes_that_are_asked_for() {
    need python3
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    craft layout "[[('d', {'type': 'dir', 'uid': 3, 'gid': 7}), ('f', {'data': b'x', 'uid': 7, 'pax': {'SCHILY.xattr.trusted.skep': 'v'}})]]"
    refused 6 image unpack --uid-map 0:300000:5 oci:layout:t out
    said -- '--squash-unmapped'
    image unpack --uid-map 0:300000:5 --squash-unmapped oci:layout:t out 2>said
    said 'trusted.skep belongs to the host'
    same "$(stat -c %u:%g out/d out/f | tr '\n' ' ')" '300003:65534 65534:300000 ' owners
    same "$(python3 -c 'import os; print(os.listxattr("out/f"))')" '[]' attributes
    image unpack --trusted-xattrs oci:layout:t trusted
    same "$(python3 -c 'import os; print(os.getxattr("trusted/f", "trusted.skep"))')" "b'v'" 'the attribute'
    refused 2 image unpack --rootless --trusted-xattrs oci:layout:t other
}
