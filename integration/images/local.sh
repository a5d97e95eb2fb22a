# shellcheck shell=bash
# Layouts, archives, directories and the store, made and read by skopeo and umoci.

# layout: an OCI layout with one image of two layers, by umoci: $HERE/layout, tag one.
layout() {
    need umoci
    umoci init --layout layout
    umoci new --image layout:one
    mkdir tree
    echo hello >tree/hello
    ln -s hello tree/link
    head -c 3000000 /dev/urandom >tree/large
    umoci insert --image layout:one tree /data
    umoci insert --image layout:one tree/hello /second
    umoci config --image layout:one --config.cmd /bin/sh --config.env A=b
}

manifest_digest() { skopeo_ inspect --format '{{.Digest}}' "$1"; }

test_digests_are_those_of_skopeo() {
    need skopeo
    layout
    skopeo_ copy -q oci:layout:one dir:dir
    skopeo_ copy -q oci:layout:one oci-archive:archive.tar:one
    local place
    for place in oci:layout:one oci-archive:archive.tar:one dir:dir; do
        same "$(image resolve -q "$place")" "$(manifest_digest "$place")" "$place"
        same "$(image inspect --raw "$place" | sha256sum)" "$(skopeo_ inspect --raw "$place" | sha256sum)" "raw $place"
        same "$(image inspect --config "$place" | head -c -1 | jq -S .)" "$(skopeo_ inspect --config --raw "$place" | jq -S .)" "config $place"
    done
}

test_copy_to_archives() {
    need skopeo jq
    layout
    image copy oci:layout:one oci-archive:made.tar:v1
    same "$(manifest_digest oci-archive:made.tar:v1)" "$(manifest_digest oci:layout:one)" 'the digest in an oci-archive'
    same "$(tar tf made.tar | grep -c blobs/sha256/.)" 4 'blobs of one image'
    image verify oci-archive:made.tar:v1
    image copy oci:layout:one docker-archive:docker.tar:example.org/app:1.0
    image copy oci:layout:one docker-archive:untagged.tar
    image copy oci:layout:one docker-archive:latest.tar:app
    same "$(tar xOf latest.tar manifest.json | jq -c '.[0].RepoTags')" '["app:latest"]' 'a name without a tag'
    same "$(skopeo_ inspect docker-archive:docker.tar | jq -c .RepoTags,.Os)" "$(printf '[]\n"linux"')" 'what skopeo sees'
    same "$(skopeo_ inspect --config docker-archive:docker.tar:example.org/app:1.0 | jq -c .rootfs)" "$(skopeo_ inspect --config oci:layout:one | jq -c .rootfs)" 'diff IDs'
    local place
    for place in docker.tar untagged.tar latest.tar made.tar; do
        image verify "$place"
        skopeo_ copy -q "${place/#/$([[ $place == made.tar ]] && echo oci || echo docker)-archive:}" "dir:of-$place"
        same "$(image cat "dir:of-$place" second)" hello "a file out of $place"
    done
    if command -v podman >/dev/null; then
        # Its sockets have short names.
        local run
        run=$(mktemp -d /tmp/skep-podman.XXXXXX)
        # shellcheck disable=SC2064
        trap "rm -rf '$run'" EXIT
        local podman=(podman --root "$HERE/podman" --runroot "$run" --storage-driver vfs)
        "${podman[@]}" load -q -i docker.tar | grep -q example.org/app:1.0
        "${podman[@]}" load -q -i made.tar >/dev/null
    fi
    # What is there stays, and what breaks off leaves nothing.
    refused 2 image copy oci:layout:one oci-archive:made.tar:v1
    refused 2 image copy --all-platforms oci:layout:one docker-archive:all.tar
    image copy --all-platforms oci:layout:one oci-archive:all.tar
    mkdir small
    ((EUID == 0)) && mount -t tmpfs -o size=1M tmpfs small || { echo 'no tmpfs'; return 75; }
    refused 8 image copy oci:layout:one oci-archive:small/a.tar
    refused 8 image copy oci:layout:one docker-archive:small/a.tar
    same "$(ls -A small)" '' 'what is left on a full disk'
    local delay pid
    for delay in 0.005 0.02 0.05; do
        "$SKEP_IMAGE" --store store copy oci:layout:one docker-archive:killed.tar >/dev/null 2>&1 &
        pid=$!
        read -rt "$delay" <> <(:) || true
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        [[ ! -e killed.tar ]] || { image verify killed.tar; rm killed.tar; }
    done
    image copy oci:layout:one docker-archive:killed.tar
    same "$(find . -maxdepth 1 -name '.skep-*')" '' 'what is left of killed ones'
}

test_what_pull_looks_at() {
    need python3
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$DIRECTORY python3 - <<'P'
import craft
def kind(blobs, config, manifest): config["rootfs"]["type"] = "foo"
def none(blobs, config, manifest): config["rootfs"]["diff_ids"] = []
def capitals(blobs, config, manifest): config["rootfs"]["diff_ids"] = [config["rootfs"]["diff_ids"][0].upper()]
def artifact(blobs, config, manifest): blobs[0][1]["mediaType"] = "text/plain"; config["rootfs"]["type"] = "foo"
for change in kind, none, capitals, artifact:
    craft.layout(change.__name__, [[("f", {"data": b"x"})]], change=change)
P
    local which
    for which in kind none capitals; do
        refused 5 image pull "oci:$which:t"
        refused 5 image pull --all-platforms "oci:$which:t"
        refused 5 image copy "oci:$which:t" dir:out
        refused 5 image copy "oci:$which:t" oci-archive:out
        refused 5 image copy "oci:$which:t" docker-archive:out
        [[ ! -e out ]]
    done
    same "$(image store ls | wc -l)" 0 'names in the store'
    image pull oci:artifact:t
}

test_bare_words_are_what_is_there() {
    need skopeo
    layout
    skopeo_ copy -q oci:layout:one oci-archive:archive.tar:one
    skopeo_ copy -q oci:layout:one docker-archive:docker.tar:app:1.0
    skopeo_ copy -q oci:layout:one dir:dir
    local word
    for word in layout layout:one ./layout archive.tar docker.tar docker.tar:app:1.0 dir; do
        image inspect "$word" >/dev/null
    done
    mkdir empty
    refused 2 image inspect empty
    refused 3 image inspect ./absent
    refused 3 image inspect layout:none
    said 'there are one'
}

test_docker_save_of_old() {
    need skopeo
    layout
    skopeo_ copy -q oci:layout:one docker-archive:docker.tar:app:1.0
    image verify docker.tar
    gzip -k docker.tar
    image verify docker-archive:docker.tar.gz
    image pull -q docker.tar --name app
    # What skopeo makes of it has the same layers.
    same "$(image inspect --layers store:app | awk '{ print $4 }')" \
        "$(skopeo_ inspect --config docker-archive:docker.tar | jq -r '.rootfs.diff_ids[]')" 'diff IDs'
    refused 3 image inspect docker-archive:docker.tar:other:1.0
}

test_docker_save_with_a_wrong_layer() {
    need skopeo python3
    layout
    skopeo_ copy -q oci:layout:one docker-archive:docker.tar:app:1.0
    mkdir x
    tar xf docker.tar -C x
    local layer
    layer=$(find x -name '*.tar' -type f | head -n 1)
    printf 'y' | dd of="$layer" bs=1 seek=600 conv=notrunc status=none
    tar cf bad.tar -C x .
    refused 5 image verify bad.tar
    refused 5 image pull bad.tar
    same "$(image store ls)" '' 'images in the store'
}

test_the_store_is_a_layout() {
    need skopeo umoci
    layout
    image pull -q oci:layout:one --name docker.io/library/app:1
    image pull -q oci:layout:one --name two
    same "$(manifest_digest oci:store:docker.io/library/app:1)" "$(manifest_digest oci:layout:one)" digests
    skopeo_ copy -q oci:store:two dir:out
    same "$(umoci ls --layout store | sort | tr '\n' ' ')" 'docker.io/library/app:1 two ' tags
    same "$(image tags store:two | sort | tr '\n' ' ')" 'docker.io/library/app:1 two ' 'our tags'
    image inspect store:app:1 >/dev/null
    # An image that skopeo puts in is ours, and a collection keeps it.
    skopeo_ copy -q oci:layout:one oci:store:three
    image store rm two docker.io/library/app:1
    image store gc
    image verify store:three
    image store rm three
    image store gc
    same "$(find store/blobs -type f | wc -l)" 0 'blobs that are left'
}

test_copies_are_read_by_skopeo() {
    need skopeo
    layout
    image copy oci:layout:one oci:copy:v1
    image copy oci:copy:v1 dir:directory
    image copy dir:directory store:s
    local place
    for place in oci:copy:v1 dir:directory oci:store:s; do
        same "$(manifest_digest "$place")" "$(manifest_digest oci:layout:one)" "$place"
        skopeo_ copy -q "$place" "dir:read-$(echo "$place" | tr -c a-z0-9 -)"
    done
    [[ ! -e copy/.skep && ! -e copy/unpacked ]]
}

test_what_is_wrong_has_its_exit_code() {
    need skopeo
    layout
    local blob
    blob=$(image inspect --layers oci:layout:one | awk 'NR == 1 { print $1 }' | cut -d: -f2)
    cp -r layout cut
    truncate -s -1 "cut/blobs/sha256/$blob"
    refused 5 image pull oci:cut:one
    said "$blob"
    cp -r layout gone
    rm "gone/blobs/sha256/$blob"
    refused 3 image pull oci:gone:one
    cp -r layout changed
    printf x | dd of="changed/blobs/sha256/$blob" bs=1 seek=100 conv=notrunc status=none
    refused 5 image pull oci:changed:one
    # What came of the others stays out of sight, and the whole image is pulled after all.
    same "$(image store ls)" '' 'images in the store'
    image pull -q oci:layout:one
    image store verify
    refused 2 image pull
    refused 2 image pull --platform 'linux/../x' oci:layout:one
    refused 6 image inspect docker-daemon:x || refused 2 image inspect docker-daemon:x
}

test_a_kill_at_any_time() {
    layout
    local n pid
    for n in 0.00 0.01 0.02 0.03 0.05 0.08 0.1; do
        "$SKEP_IMAGE" --store store pull -q oci:layout:one >/dev/null 2>&1 &
        pid=$!
        # Not to wait for anything: to be anywhere in its work.
        read -rt "$n" <> <(:) || true
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        image store verify
    done
    image pull -q oci:layout:one
    image verify store:one
}

test_two_pulls_share_a_download() {
    layout
    local n
    for n in 1 2 3 4; do image pull --json oci:layout:one >"out$n" & done
    wait
    # Each blob is read by one of them.
    same "$(cat out? | jq -r 'select(.event == "blob_done" and .cached == false) | .digest' | sort | uniq -d)" '' 'blobs that came twice'
    same "$(jq -r 'select(.event == "result") | .event' out? | wc -l)" 4 results
}

test_platforms_of_an_index() {
    need skopeo python3
    layout
    skopeo_ copy -q oci:layout:one oci:multi:amd
    umoci config --image layout:one --architecture arm64
    skopeo_ copy -q oci:layout:one oci:multi:arm
    python3 - <<'PY'
import json, hashlib
index = json.load(open('multi/index.json'))
index['manifests'][0]['platform'] = {'os': 'linux', 'architecture': 'amd64'}
index['manifests'][1]['platform'] = {'os': 'linux', 'architecture': 'arm64', 'variant': 'v8'}
for m in index['manifests']: del m['annotations']
inner = json.dumps({'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.index.v1+json', 'manifests': index['manifests']}).encode()
digest = hashlib.sha256(inner).hexdigest()
open('multi/blobs/sha256/' + digest, 'wb').write(inner)
json.dump({'schemaVersion': 2, 'manifests': [{'mediaType': 'application/vnd.oci.image.index.v1+json', 'digest': 'sha256:' + digest,
    'size': len(inner), 'annotations': {'org.opencontainers.image.ref.name': 'all'}}]}, open('multi/index.json', 'w'))
PY
    same "$(image inspect --platform arm64 oci:multi:all | jq -r .Architecture)" arm64 architecture
    same "$(image inspect --platform linux/amd64 oci:multi:all | jq -r .Architecture)" amd64 architecture
    refused 3 image inspect --platform linux/s390x oci:multi:all
    said 'linux/arm64/v8'
    image pull -q --platform arm64 oci:multi:all
    same "$(skopeo_ --override-arch arm64 inspect oci:store:all | jq -r .Architecture)" arm64 'of the store'
    image pull -q --all-platforms oci:multi:all
    skopeo_ copy -q --all oci:store:all dir:every
}

test_skep_executes_skep_image() {
    local skep=${SKEP:-}
    # shellcheck source=/dev/null
    [[ -n $skep ]] || for skep in "${SKEP_IMAGE%/*}/skep" $(. "$TOP/hack/env.sh" && release_binary && echo "$TARGET_DIR/debug/skep"); do
        [[ ! -x $skep ]] || break
    done
    [[ -x $skep ]] || { echo 'there is no skep: make build'; return 75; }
    layout
    mkdir -p bin libexec/skep
    cp "$skep" bin/skep
    [[ ! -e /usr/local/libexec/skep/skep-image && ! -e /usr/libexec/skep/skep-image ]] || { echo 'skep-image is installed here'; return 75; }
    refused 1 bin/skep pull oci:layout:one
    said 'skep-image'
    said 'libexec/skep'
    # Never through PATH.
    mkdir other
    printf '#!/bin/sh\necho stranger\n' >other/skep-image
    chmod +x other/skep-image
    PATH=$HERE/other:$PATH refused 1 bin/skep pull oci:layout:one
    cp "$SKEP_IMAGE" libexec/skep/skep-image
    bin/skep pull --store store -q oci:layout:one
    refused 3 bin/skep --debug inspect --store store store:none
    bin/skep pull --help | grep -q -- --all-platforms
    cp "$SKEP_IMAGE" bin/skep-image
    bin/skep store --store store ls | grep -q one
}

# A directory to make images of: each kind of file, owners, links, setuid, a capability where setcap(8) is.
tree_to_pack() {
    mkdir -p tree/etc tree/bin tree/own
    echo 'root:x:0:0::/:/bin/sh' >tree/etc/passwd
    head -c 300000 /dev/urandom >tree/bin/large
    chmod 4755 tree/bin/large
    ln tree/bin/large tree/bin/again
    ln -s ../etc/passwd tree/bin/link
    mkfifo tree/own/fifo
    echo x >"tree/own/a name of $(printf 'n%.0s' {1..120})"
    chown -R 7:8 tree/own
    chmod 1777 tree/own
    touch -d '2001-02-03 04:05:06' tree/etc/passwd
    find tree -type d -exec touch -d '2002-03-04 05:06:07' {} +
}

# what_is_packed SOURCE: it is unpacked, and is the tree.
what_is_packed() {
    image unpack -q "$1" unpacked >/dev/null
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$DIRECTORY python3 - <<'P'
import sys
import craft
def found(path):
    # Builders give directories the time of day, and make the root themselves.
    return {line for line in craft.snapshot(path, times=False) if not line.startswith(". ")}
if differences := found("tree") ^ found("unpacked"):
    sys.exit("\n".join(sorted(differences)))
P
    same "$(stat -c %Y unpacked/etc/passwd)" "$(stat -c %Y tree/etc/passwd)" "time of a file of $1"
    rm -rf unpacked
    image verify "$1" >/dev/null
}

# as_others_unpack SOURCE: the whole tree, with its root and the times of directories, is what umoci and podman make of it. (umoci knows OCI's types.)
as_others_unpack() {
    need skopeo
    skopeo_ copy -q -f oci "$1" "oci:$HERE/others:t"
    HERE=$HERE SKEP_IMAGE=$SKEP_IMAGE "$DIRECTORY/trees" "$HERE/others" t
    rm -rf "$HERE/others"
}

test_images_by_buildah() {
    need buildah python3
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    tree_to_pack
    local container kind
    build() { buildah --root "$HERE/build" --runroot "$HERE/build-run" --storage-driver vfs "$@"; }
    container=$(build from --signature-policy "$PLACE/policy.json" scratch) || { echo 'buildah makes nothing here'; exit 75; }
    # (What buildah adds by itself belongs to root.)
    cp -a tree/. "$(build mount "$container")/"
    build unmount "$container" >/dev/null
    build config --cmd '["/bin/large"]' --user 7:8 --env A=b --workingdir /own --label l=m "$container"
    for kind in oci docker; do
        build commit -q --signature-policy "$PLACE/policy.json" --format $kind "$container" "made-$kind" >/dev/null
        for place in "oci:$HERE/by-$kind:t" "oci-archive:$HERE/by-$kind.oci.tar:t" "docker-archive:$HERE/by-$kind.docker.tar:made:t" "dir:$HERE/by-$kind-dir"; do
            build push -q --signature-policy "$PLACE/policy.json" "made-$kind" "$place" >/dev/null
            what_is_packed "$place"
        done
        as_others_unpack "oci:$HERE/by-$kind:t"
        image bundle --rootfs=copy "oci:$HERE/by-$kind:t" b
        same "$(jq -c '[.process.args, .process.user.uid, .process.user.gid, .process.cwd, (.process.env | index("A=b") != null), .annotations.l]' b/config.json)" \
            '[["/bin/large"],7,8,"/own",true,"m"]' "config.json of an image by buildah, format $kind"
        image bundle --remove b
    done
    build rm -a >/dev/null
}

test_images_by_podman() {
    need podman python3
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    tree_to_pack
    tar -C tree -cf tree.tar .
    local kind short
    # (podman has no use for long names.)
    short=$(mktemp -d /tmp/skep-images.XXXXXX)
    # shellcheck disable=SC2064
    trap "rm -rf '$short'" EXIT
    pod() { podman --root "$HERE/pod" --runroot "$short" --storage-driver vfs "$@"; }
    pod import -q --signature-policy "$PLACE/policy.json" -c 'CMD ["/bin/large"]' tree.tar made:t >/dev/null 2>&1 || pod import -q -c 'CMD ["/bin/large"]' tree.tar made:t >/dev/null || { echo 'podman makes nothing here'; exit 75; }
    for kind in oci-archive docker-archive oci-dir docker-dir; do
        pod save -q --format $kind -o "saved-$kind" made:t >/dev/null
        # By what it is, and by what it is called.
        what_is_packed "$HERE/saved-$kind"
    done
    what_is_packed "docker-archive:saved-docker-archive:localhost/made:t"
    gzip -k saved-docker-archive
    what_is_packed "./saved-docker-archive.gz"
    as_others_unpack "oci-archive:$HERE/saved-oci-archive"
    as_others_unpack "docker-archive:$HERE/saved-docker-archive"
}

# By a daemon of its own, which has no network and no container.
test_images_by_docker() {
    need docker dockerd python3
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    tree_to_pack
    tar -C tree -cf tree.tar .
    local short daemon
    short=$(mktemp -d /tmp/skep-images.XXXXXX)
    dockerd --data-root "$HERE/docker" --exec-root "$short/exec" --pidfile "$short/pid" -H "unix://$short/socket" --storage-driver vfs \
        --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false >daemon.log 2>&1 &
    daemon=$!
    # shellcheck disable=SC2064
    trap "kill $daemon 2>/dev/null || true; wait $daemon || true; umount -q '$short'/exec/*/* 2>/dev/null || true; rm -rf '$short'" EXIT
    dock() { docker -H "unix://$short/socket" "$@"; }
    until dock version >/dev/null 2>&1; do
        kill -0 "$daemon" 2>/dev/null || { tail -n 2 daemon.log; echo 'dockerd does not start here'; exit 75; }
        read -rt 0.1 <> <(:) || true
    done
    dock import -c 'CMD ["/bin/large"]' -c 'USER 7:8' tree.tar made:t >/dev/null
    dock save -o saved.tar made:t
    what_is_packed saved.tar
    what_is_packed docker-archive:saved.tar:made:t
    dock save made:t | gzip -1 >saved.tar.gz
    what_is_packed ./saved.tar.gz
    as_others_unpack "docker-archive:$HERE/saved.tar"
    image bundle --rootfs=copy saved.tar b
    same "$(jq -c '[.process.args, .process.user.uid, .process.user.gid]' b/config.json)" '[["/bin/large"],7,8]' 'config.json of an image by docker'
    image bundle --remove b
}

# Bars on a terminal, a line for each blob elsewhere, one object a line for programs, the result alone for who asked for quiet.
test_what_is_said_meanwhile() {
    need python3 jq
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$DIRECTORY python3 -c "
import os, craft
craft.layout('large', [[('a', {'data': os.urandom(40_000_000)})], [('b', {'data': os.urandom(1000)})]])"
    image pull oci:large:t --name lines 2>lines >/dev/null
    same "$(grep -cE '^[0-9a-f]{12}: done, ' lines)" 3 'a line for each blob'
    same "$(grep -c $'\e' lines)" 0 'what is for terminals'
    rm -rf store
    image pull -q oci:large:t >out 2>err
    same "$(wc -l <out; cat err)" 1 'the result and nothing else'
    rm -rf store
    image --json pull oci:large:t >events 2>err
    same "$(cat err)" '' 'what is on the other stream'
    jq -se 'map(.event) | .[0] == "resolved" and .[-1] == "result" and (map(select(. == "blob_done")) | length) == 3' events >/dev/null
    jq -se '.[-1] | .digest and .bytes_downloaded > 40000000 and (.blobs | length) == 3 and .elapsed_ms > 0' events >/dev/null
    rm -rf store
    # What fails is an event too, with its exit code.
    refused 3 image --json pull oci:large:none
    grep '^{' "$HERE/said" | jq -e 'select(.event == "error") | .code == 3' >/dev/null
    # On a terminal the bars are drawn over, and gone at the end. The registry has time until one is seen.
    python3 - "$SKEP_IMAGE" "$HERE/store" large <<'P' >terminal
import http.server, json, os, pathlib, pty, re, sys, threading

binary, store, layout = sys.argv[1:]
layout = pathlib.Path(layout)
blob = lambda digest: (layout / "blobs" / digest.replace(":", "/")).read_bytes()
manifest = json.loads((layout / "index.json").read_text())["manifests"][0]
seen, shown = b"", threading.Event()


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        what = self.path.rsplit("/", 1)[-1]
        body = blob(manifest["digest"] if "/manifests/" in self.path else what) if "/t/" in self.path else b"{}"
        self.send_response(200)
        if "/manifests/" in self.path:
            self.send_header("Content-Type", manifest["mediaType"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        while len(body) > 1 << 20 and not shown.wait(0.01):
            self.wfile.write(body[: 1 << 14])
            body = body[1 << 14 :]
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
pid, fd = pty.fork()
if not pid:
    os.execv(binary, [binary, "--store", store, "pull", f"docker://127.0.0.1:{server.server_port}/t:t"])
try:
    while piece := os.read(fd, 1 << 16):
        seen += piece
        if re.search(rb"[0-9a-f]{12} \[=* *\]", seen):
            shown.set()
except OSError:
    pass
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(status))
P
    grep -qE '[0-9a-f]{12} \[=* *\] [0-9.]+ .?i?B of ' terminal || { cat -v terminal; echo 'no bar'; return 1; }
    grep -q $'\e\\[[0-9]A\e\\[J' terminal || { cat -v terminal; echo 'no bar is taken away'; return 1; }
}
