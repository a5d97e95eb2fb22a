# shellcheck shell=bash
# From a name in a registry to a container, and back: what a bundle has become.

# debian_image: oci:$HERE/debian:bookworm, of this host's own bash and a few more programs with their libraries.
debian_image() {
    need python3 ldd
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$DIRECTORY python3 - "$HERE/debian" <<'P'
import os
import re
import shutil
import subprocess
import sys
import craft
files = {}
for program in ["bash", "cat", "id", "sleep", "head"]:
    path = shutil.which(program)
    files["bin/" + program] = path
    found = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    for library in re.findall(r"(?:=> )?(/\S+) \(0x", found):
        files[library.lstrip("/")] = library
files["etc/os-release"] = "/etc/os-release"
layer, made = [], set()
for name, path in sorted(files.items()):
    parent = os.path.dirname(name)
    for end in [i for i, c in enumerate(parent + "/") if c == "/"]:
        if parent[:end] not in made:
            made.add(parent[:end])
            layer.append((parent[:end], {"type": "dir"}))
    layer.append((name, {"data": open(path, "rb").read(), "mode": 0o755}))
layer.append(("etc/passwd", {"data": b"root:x:0:0:root:/root:/bin/bash\n"}))
craft.layout(sys.argv[1], [layer, [("etc/motd", {"data": b"hello\n"}), ("tmp", {"type": "dir", "mode": 0o1777})]], tag="bookworm",
             config={"Cmd": ["bash"], "Env": ["PATH=/usr/bin:/bin"]})
P
}

# debian_system: oci:$HERE/debian:bookworm, which is Debian 12 as debootstrap(8) makes it.
debian_system() {
    need mmdebstrap umoci
    ((EUID == 0)) || { echo 'needs root'; exit 75; }
    local mirror
    # Where the host's own packages come from.
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(SITE) $(COMPONENT) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 == "main" && $3 !~ /security|updates|backports/ { print $1; exit }') || mirror=
    [[ -n $mirror ]] || { echo 'apt-get knows no Debian mirror here'; exit 75; }
    mmdebstrap --mode=root --variant=minbase --components=main --aptopt='Acquire::Retries "3"' bookworm "$HERE/debian.tar" "$mirror" 2>"$HERE/debian.log" ||
        { tail -n 3 "$HERE/debian.log"; echo 'there is no Debian to be had'; exit 75; }
    umoci init --layout "$HERE/debian"
    umoci new --image "$HERE/debian:bookworm"
    umoci raw add-layer --image "$HERE/debian:bookworm" "$HERE/debian.tar"
    umoci config --image "$HERE/debian:bookworm" --config.cmd bash --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    rm "$HERE/debian.tar"
}

the_skep() {
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    skep=${SKEP:-${SKEP_IMAGE%/*}/skep}
    [[ -x $skep ]] || { echo "no skep beside $SKEP_IMAGE"; return 75; }
}

test_pull_and_run() { pull_and_run debian_image; }

# As a whole system: its packages know what each of their files has to be.
test_pull_and_run_debian() {
    pull_and_run debian_system
    HERE=$HERE SKEP_IMAGE=$SKEP_IMAGE "$DIRECTORY/trees" "$HERE/debian" bookworm
}

# pull_and_run COMMAND: with the image oci:$HERE/debian:bookworm that COMMAND makes.
pull_and_run() {
    local skep
    the_skep
    need setpriv
    "$1"
    # shellcheck disable=SC2034
    PIDS=()
    trap stop_started EXIT
    start_registry clean
    image push -q "oci:$HERE/debian:bookworm" "docker://$ADDRESS/debian:bookworm"
    SKEP=$skep SKEP_IMAGE=$SKEP_IMAGE "$DIRECTORY/shown" "localhost:${ADDRESS##*:}/debian:bookworm"
}

test_verify_of_a_bundle() {
    local skep kind differences
    the_skep
    craft layout "[[('d', {'type': 'dir'}), ('d/f', {'data': b'one', 'uid': 7}), ('d/g', {'data': b'two'}), ('link', {'type': 'sym', 'linkname': 'd'}), ('fifo', {'type': 'fifo'}), ('null', {'type': 'chr', 'devmajor': 1, 'devminor': 3})], [('d/.wh.g', {}), ('d/h', {'data': b'three', 'pax': {'SCHILY.xattr.user.x': 'y'}})]]"
    differences=$'changed /d/f: mode, content, time\nchanged /d/h: attributes\nmissing /fifo\nchanged /link: target, time\nadded /new'
    for kind in copy overlay; do
        image bundle --rootfs=$kind oci:layout:t b -- /x
        image verify b
        (
            cd b/rootfs || exit
            printf 'six' >d/f
            chmod 600 d/f
            python3 -c "import os; os.setxattr('d/h', 'user.x', b'z')"
            rm fifo link
            ln -s elsewhere link
            mkdir -p new/below
        )
        refused 5 image verify b
        same "$(grep -v '^skep' said)" "$differences" "differences of $kind"
        said 'differ in 5 entries'
        same "$(image --json verify b 2>/dev/null | jq -r 'select(.what == "added") | .path')" /new 'as JSON'
        # Not mounted, after a reboot.
        [[ $kind == copy ]] || { umount b/rootfs; refused 5 image verify b; same "$(grep -v '^skep' said)" "$differences" 'differences of what is not mounted'; }
        image bundle --remove b
    done
    image bundle --rootfs=overlay --uid-map 0:100000:65536 oci:layout:t b -- /x
    image verify b
    # Another image of that name, and none.
    craft layout "[[('d', {'type': 'dir'})]]"
    refused 5 image verify b
    said 'was made of sha256:'
    mv layout moved
    refused 3 image verify b
    refused 5 image verify --image oci:moved:t b
    same "$(find . -name '.skep-*' -prune ! -path './store/*' -print)" '' 'what is left'
    image bundle --remove b
}
