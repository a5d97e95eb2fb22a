# shellcheck shell=bash
# What is left when a command is interrupted, killed or out of space at any point, and what is on the disk before anything has its name.

# Three layers: small files, a directory of its own, noise. Quick, and with every stage.
image_to_interrupt() {
    need python3 strace
    craft layout "[[('d%d' % n, {'type': 'dir'}) for n in range(20)] + [('d%d/f%d' % (n % 20, n), {'data': os.urandom(3000)}) for n in range(400)],
        [('.wh.d3', {}), ('e', {'type': 'dir', 'mode': 0o500}), ('e/f', {'data': b'x'})], [('noise', {'data': os.urandom(3000000)})]]"
}

# injected WHAT COMMAND...: the command, with WHAT done to one of its system calls (strace(1), "Tampering"). Its exit code is in $code.
injected() {
    local what=$1
    shift
    code=0
    strace -f -qq -o trace -e "inject=$what" "$@" >said 2>&1 || code=$?
}

# The system calls at which, and how many of them have gone before in one thread.
POINTS='mkdirat:1 mkdirat:9 openat:20 openat:200 openat:400 pread64:3 pread64:9 write:30 write:350 futimens:1 utimensat:100 utimensat:400 fchmod:3
    fchown:10 renameat:1 renameat:2 renameat2:1 renameat2:2 unlinkat:1 fdatasync:1 fdatasync:2 syncfs:1 syncfs:3 flock:1 flock:2 fsmount:1 move_mount:1'

whole() { [[ ! -e $1 ]] || same "$(find "$1" -type f | wc -l)" 382 "files in $1"; }

test_a_signal_leaves_nothing() {
    image_to_interrupt
    local at signal code died=0
    for at in $POINTS; do
        for signal in SIGINT SIGTERM; do
            injected "${at%:*}:signal=$signal:when=${at#*:}" "$SKEP_IMAGE" --store store unpack oci:layout:t out
            ((code < 128)) || died=$((died + 1))
            whole out
            rm -rf out
            nothing_unfinished || { echo "unpack, $signal at $at, exit code $code"; return 1; }
            injected "${at%:*}:signal=$signal:when=${at#*:}" "$SKEP_IMAGE" --store store bundle --rootfs=copy oci:layout:t copy -- /x
            ((code < 128)) || died=$((died + 1))
            whole copy/rootfs
            rm -rf copy
            nothing_unfinished || { echo "bundle of a copy, $signal at $at, exit code $code"; return 1; }
            ((EUID == 0)) || continue
            injected "${at%:*}:signal=$signal:when=${at#*:}" "$SKEP_IMAGE" --store store bundle --rootfs=overlay oci:layout:t b -- /x
            ((code < 128)) || died=$((died + 1))
            [[ ! -e b ]] || { whole b/rootfs; image bundle --remove b; }
            nothing_unfinished || { echo "bundle by overlay, $signal at $at, exit code $code"; return 1; }
            image store gc >/dev/null
        done
    done
    ((died > 40)) || { echo "only $died commands were interrupted"; return 1; }
}

test_a_signal_says_so() {
    image_to_interrupt
    local code=0
    injected 'openat:signal=SIGTERM:when=100' "$SKEP_IMAGE" --store store unpack oci:layout:t out
    same "$code" 143 'exit code'
    grep -q 'interrupted by SIGTERM' said
    # One that is ignored stays so.
    code=0
    (trap '' HUP; exec strace -f -qq -o trace -e inject=openat:signal=SIGHUP:when=100 "$SKEP_IMAGE" --store store unpack oci:layout:t out) >said 2>&1 || code=$?
    same "$code" 0 'exit code under nohup'
    whole out
}

test_a_signal_while_the_server_is_silent() {
    need python3
    craft layout "[[('noise', {'data': os.urandom(3000000)})]]"
    cat >server.py <<'P'
import http.server, json, os, re, threading, time
manifest = None
for line in json.load(open("layout/index.json"))["manifests"]:
    manifest = line["digest"]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_):
        pass
    def do_GET(self):
        found = re.search("(sha256):([0-9a-f]{64})$", self.path)
        digest = found[2] if found else manifest.split(":")[1]
        content = open("layout/blobs/sha256/" + digest, "rb").read()
        self.send_response(200)
        kind = "application/vnd.oci.image.manifest.v1+json" if "manifests" in self.path else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if len(content) < 100000:
            self.wfile.write(content)
            return
        self.wfile.write(content[:2000000])
        self.wfile.flush()
        open("silent", "w").close()
        time.sleep(60)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
open("port.new", "w").write(str(server.server_port))
os.rename("port.new", "port")
server.serve_forever()
P
    python3 server.py &
    local server=$! pid begun status command
    # shellcheck disable=SC2064
    trap "kill $server" EXIT
    until [[ -e port ]]; do read -rt 0.02 <> <(:) || true; done
    for command in 'unpack' 'pull'; do
        rm -f silent
        if [[ $command == unpack ]]; then
            "$SKEP_IMAGE" --store store unpack "docker://127.0.0.1:$(<port)/a:t" out >/dev/null 2>&1 &
        else
            "$SKEP_IMAGE" --store store pull "docker://127.0.0.1:$(<port)/a:t" >/dev/null 2>&1 &
        fi
        pid=$!
        until [[ -e silent ]]; do read -rt 0.02 <> <(:) || true; done
        begun=$SECONDS status=0
        kill -TERM "$pid"
        wait "$pid" || status=$?
        same "$status" 143 "exit code of $command"
        ((SECONDS - begun < 10)) || { echo "$command took $((SECONDS - begun)) s to end"; return 1; }
        [[ ! -e out ]]
        [[ $command == pull ]] || nothing_unfinished
    done
    # What a pull has downloaded is kept.
    [[ -n $(find store/.skep/ingest -size +1000k) ]]
}

test_a_kill_at_any_system_call() {
    image_to_interrupt
    local at code
    for at in $POINTS; do
        injected "${at%:*}:signal=SIGKILL:when=${at#*:}" "$SKEP_IMAGE" --store store unpack oci:layout:t out
        whole out
        rm -rf out
        injected "${at%:*}:signal=SIGKILL:when=${at#*:}" "$SKEP_IMAGE" --store store pull oci:layout:t
        image store verify >/dev/null
        if ((EUID == 0)); then
            injected "${at%:*}:signal=SIGKILL:when=${at#*:}" "$SKEP_IMAGE" --store store bundle --rootfs=overlay oci:layout:t b -- /x
            # One that is there has its layers, whatever is collected.
            image store rm t >/dev/null 2>&1 || true
            if [[ -e b ]]; then
                image store gc >/dev/null
                whole b/rootfs || { echo "killed at $at"; return 1; }
                image bundle --remove b
            fi
            image store gc >/dev/null
        fi
    done
    # Who comes next takes away what is left.
    image unpack oci:layout:t out
    image pull -q oci:layout:t
    image bundle --rootfs=copy oci:layout:t b -- /x
    image store gc
    nothing_unfinished
}

# In an strace(1) of a command: what gets a name that counts was written to the disk before, and not written to after that.
test_content_is_on_the_disk_before_its_name() {
    need python3 strace
    craft layout "[[('d', {'type': 'dir'}), ('d/f', {'data': b'x'})], [('noise', {'data': os.urandom(300000)})]]"
    local calls='fdatasync,fsync,syncfs,write,pwrite64,openat,mkdirat,mknodat,symlinkat,linkat,rename,renameat,renameat2'
    strace -f -y -qq -s 200 -o pull.trace -e "trace=$calls" "$SKEP_IMAGE" --store store pull -q oci:layout:t
    set -- pull.trace
    if ((EUID == 0)); then
        strace -f -y -qq -s 200 -o bundle.trace -e "trace=$calls" "$SKEP_IMAGE" --store store bundle --rootfs=overlay oci:layout:t b -- /x
        image bundle --remove b
        set -- pull.trace bundle.trace
    fi
    python3 - "$@" <<'P'
import re, sys
counted = {"blobs": 0, "unpacked": 0, "index.json": 0, "oci-layout": 0, "bundles": 0}
wrong = []
for name in sys.argv[1:]:
    synced = {}
    unfinished = {}
    for line in open(name, errors="replace"):
        pid, _, call = line.partition(" ")
        call = call.strip()
        # Two threads at once: a call is in two lines.
        if call.endswith("<unfinished ...>"):
            unfinished[pid] = call[:-len("<unfinished ...>")]
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", call)
        if resumed:
            call = unfinished.pop(pid, "") + resumed[1]
        if not call.endswith("= 0") and not re.search(r"= \d+(<.*>)?$", call):
            continue
        done = re.match(r"(fdatasync|fsync|syncfs)\(\d+<([^>]*)>", call)
        if done:
            synced[done[2]] = True
            continue
        put = re.match(r"p?write(?:64)?\(\d+<([^>]*)>", call) or re.match(r"(?:mkdirat|mknodat)\(\d+<([^>]*)>", call)
        if put:
            for path in synced:
                if put[1] == path or put[1].startswith(path + "/"):
                    synced[path] = False
            continue
        moved = re.match(r'renameat2?\(\d+<([^>]*)>, "([^"]*)", \d+<([^>]*)>, "([^"]*)"', call)
        if moved:
            source, target = f"{moved[1]}/{moved[2]}", moved[4]
            for part in counted:
                if target == part or f"{part}/" in target and not target.startswith(".skep/tmp"):
                    counted[part] += 1
                    if not synced.get(source):
                        wrong.append(f"{name}: {target} was named before it was on the disk")
print(counted, *wrong, sep="\n")
if wrong or counted["blobs"] < 4 or counted["index.json"] < 2 or counted["oci-layout"] < 1:
    sys.exit(1)
if len(sys.argv) > 2 and (counted["unpacked"] < 2 or counted["bundles"] < 1):
    sys.exit(1)
P
}

test_no_space_for_any_command() {
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    need python3
    craft layout "[[('f%d' % n, {'data': os.urandom(3000)}) for n in range(1000)], [('noise', {'data': os.urandom(3000000)})]]"
    mkdir disk
    mount -t tmpfs -o size=4M tmpfs disk || { echo 'no tmpfs'; return 75; }
    local command
    for command in 'unpack oci:layout:t disk/out' 'bundle --rootfs=copy oci:layout:t disk/b' 'copy oci:layout:t dir:disk/dir' \
        '--store disk/store bundle --rootfs=overlay oci:layout:t disk/b' '--store disk/store pull oci:layout:t' 'copy oci:layout:t oci:disk/copy:t'; do
        local arguments=(--store store)
        [[ $command != --store* ]] || arguments=()
        # shellcheck disable=SC2206
        arguments+=($command)
        [[ $command != *bundle* ]] || arguments+=(-- /x)
        refused 8 "$SKEP_IMAGE" "${arguments[@]}"
        said 'No space left'
        said 'make room there, or choose another place'
        same "$(find disk -mindepth 1 -maxdepth 1 ! -name store ! -name copy)" '' "what is left of $command"
        # A layer that was whole before stays: it is right.
        same "$(find disk -path '*/.skep/tmp/*' -o -path '*/.skep/ingest/*')" '' "what is left in the store of $command"
        [[ ! -d disk/store ]] || "$SKEP_IMAGE" --store disk/store store gc >/dev/null
        rm -rf disk/copy
    done
    # With room it goes well.
    mount -o remount,size=100M disk
    "$SKEP_IMAGE" --store disk/store pull -q oci:layout:t
    "$SKEP_IMAGE" --store disk/store store verify
    umount disk
}

test_collections_and_pulls_at_once() {
    slow_image
    local n pids=()
    for n in 1 2 3; do
        (for _ in 1 2 3 4; do
            "$SKEP_IMAGE" --store store pull -q oci:layout:t --name "app$n" >/dev/null || exit 1
            "$SKEP_IMAGE" --store store verify "store:app$n" >/dev/null || exit 1
            "$SKEP_IMAGE" --store store store rm "app$n" >/dev/null || exit 1
        done) &
        pids+=("$!")
    done
    while jobs -rp | grep -q .; do image store gc >/dev/null; done
    for n in "${pids[@]}"; do wait "$n"; done
    image store gc >/dev/null
    same "$(find store/blobs -type f)" '' 'blobs that are left'
}

test_store_gc_and_du_say_how_much() {
    need jq
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    craft layout "[[('noise', {'data': os.urandom(3000000)})]]"
    image pull -q oci:layout:t --name app
    image bundle --rootfs=overlay oci:layout:t b -- /x
    image bundle --remove b
    image store du >du
    grep -qE 'unpacked layers +1 +2\.8 MiB' du || { cat du; return 1; }
    image store rm app >/dev/null
    same "$(image store gc --dry-run)" 'would remove 3 blobs, 1 unpacked layers and 0 unfinished: 5.7 MiB' 'what a dry run says'
    same "$(image store verify)" '3 blobs read, 2.8 MiB' 'what a verification says'
    same "$(image --json store gc --dry-run | jq -c '[.blobs, .layers, .dry_run, (.layer_bytes > 2900000)]')" '[3,1,true,true]' 'as JSON'
    same "$(image store gc)" 'removed 3 blobs, 1 unpacked layers and 0 unfinished: 5.7 MiB' 'what is said then'
    same "$(image store gc)" 'removed 0 blobs, 0 unpacked layers and 0 unfinished: 0 B' 'what is said the next time'
}

# Memory is bounded whatever the image wants.
test_memory_is_bounded() {
    need python3 zstd
    cat >peak.py <<'P'
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss // 1024)
sys.exit(os.waitstatus_to_exitcode(status))
P
    python3 - <<'P'
import os
os.mkdir("tree")
noise = os.urandom(1 << 20)
with open("tree/f", "wb") as file:
    for n in range(200):
        file.write(noise[n:] + noise[:n])
P
    tar cf layer.tar -C tree f
    local window
    for window in 25 27; do
        zstd -q -f --long="$window" -3 layer.tar -o layer.zst <layer.tar
        # Not told how large it is, as in a stream: the window is what was asked for.
        zstd -q -c --long="$window" -3 <layer.tar >layer.zst
        mkdir -p "layout$window/blobs/sha256"
        PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$DIRECTORY python3 - "layout$window" <<'P'
import hashlib, sys, craft
blob, plain = open("layer.zst", "rb").read(), open("layer.tar", "rb").read()
def change(blobs, config, manifest):
    blobs[:] = [[blob, {"mediaType": craft.GZIP.replace("gzip", "zstd"), "digest": craft.digest(blob), "size": len(blob)}]]
    config["rootfs"]["diff_ids"] = [craft.digest(plain)]
craft.layout(sys.argv[1], [[]], change=change)
P
    done
    local peak
    peak=$(python3 peak.py "$SKEP_IMAGE" unpack oci:layout25:t out)
    ((peak < 64)) || { echo "$peak MB for a window of 32"; return 1; }
    refused 8 image unpack oci:layout27:t out27
    said 'a window of 134217728 bytes'
    said -- '--max-window'
    image unpack --max-window 128M oci:layout27:t out27
    same "$(sha256sum <out27/f)" "$(sha256sum <tree/f)" contents
    # What a few bytes of an image become, as many as there may be of them: exit code, image, command.
    rm -rf out
    local code kind arguments
    while read -r code kind arguments; do
        [[ -d $kind ]] || python3 "$DIRECTORY/crowd.py" "$kind"
        # shellcheck disable=SC2086
        refused "$code" python3 peak.py "$SKEP_IMAGE" --store store ${arguments/IMAGE/oci:$kind:t}
        peak=$(tail -n 1 said)
        ((peak < 64)) || { echo "$peak MB: $arguments of too many $kind"; return 1; }
        rm -rf out
    done <<<'8 directories unpack IMAGE out
8 directories bundle --rootfs=copy IMAGE out -- /x
5 links unpack IMAGE out
8 history unpack IMAGE out
8 unknown pull IMAGE
8 files ls -R IMAGE
8 files cat IMAGE x
8 late-links ls -R IMAGE
0 honest ls -R IMAGE
0 honest unpack IMAGE out
0 variables bundle --rootfs=copy IMAGE out -- /x
0 labels bundle --rootfs=copy --explain IMAGE out -- /x'
    image bundle --remove out >/dev/null 2>&1 || true
    image ls --max-memory 100M oci:files:t | tail -n 1 | grep -q 00199999
}

test_a_user_adds_to_directories_that_are_read_only() {
    need python3 setpriv
    ((EUID == 0)) || { echo 'needs root, to be somebody else'; return 75; }
    local directory="{'type': 'dir', 'mode': 0o555}"
    craft layout "[[('.', $directory), ('usr', $directory), ('usr/bin', $directory), ('usr/bin/a', {'data': b'x'}), ('root', {'type': 'dir', 'mode': 0o500}),
            ('root/x', {'data': b'x'}), ('n', {'type': 'dir', 'mode': 0}), ('n/d', $directory), ('n/d/x', {'data': b'x', 'mode': 0})],
        [('top', {'data': b'x'}), ('usr/bin/b', {'data': b'y'}), ('root/.wh.x', {}), ('n/d/y', {'type': 'link', 'linkname': 'n/d/x'}),
            ('usr', {'type': 'dir', 'mode': 0o511}), ('usr/lib', $directory), ('usr/lib/c', {'data': b'x'})],
        [('n', $directory), ('n/d/.wh..wh..opq', {}), ('n/d/z', {'data': b'z'})]]"
    # Somebody else has to come here.
    local place
    place=$(mktemp -d /tmp/skep-images-user.XXXXXX)
    # shellcheck disable=SC2064
    trap "chmod -R u+rwx '$place'; rm -rf '$place'" EXIT
    cp -r layout "$place/layout"
    cp "$SKEP_IMAGE" "$place/skep-image"
    chmod -R a+rX "$place"
    mkdir -m 777 "$place/home"
    as_user() { setpriv --reuid 54321 --regid 54321 --clear-groups env HOME="$place/home" "$@"; }
    as_user "$place/skep-image" unpack "oci:$place/layout:t" "$place/home/out"
    same "$(cd "$place/home/out" && find . -printf '%m %p\n' | sort -k 2 | tr '\n' ' ')" \
        '555 . 555 ./n 555 ./n/d 644 ./n/d/z 500 ./root 644 ./top 511 ./usr 555 ./usr/bin 644 ./usr/bin/a 644 ./usr/bin/b 555 ./usr/lib 644 ./usr/lib/c ' 'the tree'
    # What somebody has left in a directory of his that is read-only stays, and the directory stays so.
    as_user mkdir -p "$place/home/ro/.skep-unpack-1-2-3"
    as_user chmod 555 "$place/home/ro"
    refused 1 as_user "$place/skep-image" unpack "oci:$place/layout:t" "$place/home/ro/out"
    same "$(stat -c %a "$place/home/ro")" 555 'the mode of a directory that is not ours to change'
}

# stopped_at CALL NUMBER COMMAND...: starts the command, and returns when it has stopped at that system call; $PID is it. Fails when it ends before.
stopped_at() {
    local call=$1 number=$2 tracer
    shift 2
    rm -f trace
    strace -f -qq -o trace -e "trace=$call" -e "inject=$call:signal=SIGSTOP:when=$number" "$@" >said 2>&1 &
    TRACER=$!
    until grep -q -- '--- stopped by SIGSTOP ---' trace 2>/dev/null; do
            kill -0 "$TRACER" 2>/dev/null || return 1
        read -rt 0.02 <> <(:) || true
    done
    tracer=$(awk '/--- stopped by SIGSTOP ---/ { print $1; exit }' trace)
    PID=$(awk '/^Tgid:/ { print $2 }' "/proc/$tracer/status")
}

# resume: lets it go on to its end, whose exit code is in $code. Each of its threads stops once.
resume() {
    code=0
    while kill -0 "$TRACER" 2>/dev/null; do
        kill -CONT "$PID" 2>/dev/null || true
        read -rt 0.02 <> <(:) || true
    done
    wait "$TRACER" || code=$?
}

# A name that stands for another image between any two looks: what is made is all of the one, or all of the other, or nothing.
test_an_image_is_replaced_meanwhile() {
    need python3 strace jq
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    local version kind at code seen=' ' stops=0
    for version in old new; do
        craft "$version" "[[('etc', {'type': 'dir'}), ('etc/passwd', {'data': b'who:x:' + b'${#version}0'.replace(b'30', b'7' if '$version' == 'old' else b'8') + b':7::/:/\\n'})], [('version', {'data': b'$version'})]], config={'Cmd': ['/bin/true'], 'User': 'who', 'Env': ['VERSION=$version']}"
    done
    cp -r old layout
    cp -r new/blobs layout
    for kind in overlay copy; do
        for at in $(seq 1 30); do
            cp old/index.json next && mv next layout/index.json
            if stopped_at openat2 "$at" "$SKEP_IMAGE" --store store bundle --rootfs=$kind oci:layout:t b -- /x; then
                stops=$((stops + 1))
                cp new/index.json next && mv next layout/index.json
                resume
            else
                code=0
                wait "$TRACER" || code=$?
            fi
            if ((code)); then
                # It may say that this is not what it was told of; never anything else, and nothing is left.
                same "$code" 5 "exit code of $kind, stopped at $at: $(tail -n 1 said)"
                [[ ! -e b ]]
            else
                version=$(cat b/rootfs/version)
                seen+="$version "
                same "$(jq -r '.process.env[] | select(startswith("VERSION="))' b/config.json)" "VERSION=$version" "configuration of $kind, stopped at $at"
                same "$(jq -r .process.user.uid b/config.json)" "$([[ $version == old ]] && echo 7 || echo 8)" "user of $kind, stopped at $at"
                image bundle --remove b
            fi
            image store gc >/dev/null
            nothing_unfinished || { echo "$kind, stopped at $at"; return 1; }
        done
    done
    ((stops > 30)) || { echo "only $stops commands were stopped"; return 1; }
    [[ $seen == *' old '* && $seen == *' new '* ]] || { echo "seen:$seen"; return 1; }
}

# What somebody puts in the place of an unpacked layer, or writes into a bundle whose container is created.
test_a_layer_or_a_bundle_is_replaced_meanwhile() {
    need python3 busybox strace jq
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    local skep=${SKEP:-${SKEP_IMAGE%/*}/skep} layer code at
    [[ -x $skep ]] || { echo "no skep beside $SKEP_IMAGE"; return 75; }
    craft layout "[[('f', {'data': b'x'}), ('bin', {'type': 'dir'}), ('bin/busybox', {'data': open('$(command -v busybox)', 'rb').read(), 'mode': 0o755})]]"
    image bundle --rootfs=overlay oci:layout:t b -- /x
    layer=$(find store/unpacked -mindepth 2 -maxdepth 2)
    # A link leads nowhere: not when it is made, mounted or verified, and not when it is collected.
    mkdir victim
    touch victim/mine
    umount b/rootfs
    mv "$layer" kept
    ln -s "$HERE/victim" "$layer"
    refused 1 image bundle --mount-again b
    refused 1 image bundle --rootfs=overlay oci:layout:t c -- /x
    [[ ! -e c ]]
    same "$(ls victim)" mine 'what the link leads to'
    rm "$layer"
    # Not there at all.
    refused 3 image bundle --mount-again b
    mv kept "$layer"
    image bundle --mount-again b
    same "$(cat b/rootfs/f)" x 'the file'
    # Between looking for the layers and mounting them (the collection waits, so this is somebody with a mind to it).
    for at in 1 4; do
        if stopped_at fsopen,fsconfig "$at" "$SKEP_IMAGE" --store store bundle --rootfs=overlay oci:layout:t c -- /x; then
            mv "$layer" kept
            ln -s "$HERE/victim" "$layer"
            resume
        else
            code=0
            wait "$TRACER" || code=$?
        fi
        # What was opened is mounted.
        [[ $code != 0 ]] || { same "$(cat c/rootfs/f)" x 'the file of an opened layer'; image bundle --remove c; }
        [[ ! -d kept ]] || { rm "$layer"; mv kept "$layer"; }
    done
    ln -s "$HERE/victim" "store/unpacked/sha256/$(printf '0%.0s' {1..64})"
    image bundle --remove b
    image store gc >/dev/null
    same "$(ls victim)" mine 'what the link leads to'
    same "$(find store/unpacked -mindepth 2)" '' 'what is left of the layers'
    # The container is what was created, whatever its bundle says by then.
    mkdir -p bin
    cp "$skep" bin/skep
    cp "$SKEP_IMAGE" bin/skep-image
    bin/skep --root "$HERE/state" create --store store --bundle-root "$HERE/bundles" --image oci:layout:t one -- /bin/busybox sh -c 'echo mine >/proc/1/fd/1' >out
    jq '.process.args = ["/bin/busybox", "echo", "other"]' bundles/one/config.json >config.json
    cp config.json bundles/one/config.json
    bin/skep --root "$HERE/state" start one
    until [[ $(bin/skep --root "$HERE/state" state one | jq -r .status) == stopped ]]; do read -rt 0.02 <> <(:) || true; done
    bin/skep --root "$HERE/state" delete one
    same "$(cat out)" mine 'what was run'
    same "$(find bundles -mindepth 1)" '' 'bundles that are left'
}

# A layout that somebody else has made, used as a store or written to: what its directories lead to is not the store's.
test_links_lead_out_of_no_store() {
    need python3
    local way
    mkdir -p victim/alice/documents victim/tmp/kept
    touch victim/alice/documents/mine victim/tmp/kept/mine victim/mine
    find victim | sort >before
    for way in .skep unpacked blobs blobs/sha256 .skep/tmp .skep/ingest .skep/bundles .skep/locks unpacked/sha256; do
        rm -rf evil
        craft evil "[[('f', {'data': b'x'})]]"
        mkdir -p evil/.skep evil/unpacked
        rm -rf "evil/${way:?}"
        ln -s "$HERE/victim" "evil/$way"
        if [[ $way == unpacked/sha256 ]]; then
            "$SKEP_IMAGE" --store evil store gc
        else
            refused 2 "$SKEP_IMAGE" --store evil store gc
            said 'this is no store'
            refused 2 "$SKEP_IMAGE" --store evil store verify --repair
            craft layout "[[('g', {'data': b'y'})]]"
            refused 2 image copy oci:layout:t oci:evil:other
        fi
        same "$(find victim | sort)" "$(cat before)" "what a link at $way leads to"
    done
}

# What an image, a layout or a registry calls something is shown, and does not command the terminal.
test_names_command_no_terminal() {
    need python3
    craft layout "[[('f', {'data': b'x'})]]"
    python3 - <<'P'
import copy, json
with open("layout/index.json") as file:
    index = json.load(file)
other = copy.deepcopy(index["manifests"][0])
other["annotations"]["org.opencontainers.image.ref.name"] = "\x1b]0;pwn\x07\x1b[2J\nskep: all is well"
other["digest"] = "sha256:" + "1" * 64
index["manifests"].append(other)
with open("layout/index.json", "w") as file:
    json.dump(index, file)
P
    local code
    for command in 'inspect oci:layout' 'tags oci:layout' 'store ls --store layout' 'store ls -q --store layout' 'store gc --store layout' 'store verify --store layout' \
        'pull --store store oci:layout' 'store rm --store layout sha256:1111111111111111111111111111111111111111111111111111111111111111'; do
        code=0
        # shellcheck disable=SC2086
        "$SKEP_IMAGE" $command >out 2>&1 || code=$?
        grep -q 'pwn' out || { echo "$command, exit code $code, says nothing of it:"; cat out; return 1; }
        if grep -q '[^[:print:][:space:]]\|^skep: all is well' out; then echo "$command:"; cat -v out; return 1; fi
    done
}

# The store's index holds what many images say of themselves, and has to be read whole.
test_no_image_fills_the_index() {
    need python3 jq
    craft layout "[[('f', {'data': b'x'})]]"
    local n
    for n in 0 1 2; do
        cp -r layout "big$n"
        python3 - "big$n" <<'P'
import json, sys
with open(sys.argv[1] + "/index.json") as file:
    index = json.load(file)
index["manifests"][0]["annotations"]["x"] = "y" * (3 << 20)
with open(sys.argv[1] + "/index.json", "w") as file:
    json.dump(index, file)
P
        image pull -q --name "name$n" "oci:big$n:t"
    done
    same "$(image store ls -q | tr '\n' ' ')" 'name0 name1 name2 ' 'names in the store'
    (($(stat -c %s store/index.json) < 10000)) || { echo 'the index is large'; return 1; }
    image verify store:name2
    # One that is full says so, and gives names back; be it full of bytes or of names.
    cp store/index.json few
    local length code
    for length in 600 8; do
        cp few store/index.json
        python3 - "$length" <<'P'
import copy, json, sys
with open("store/index.json") as file:
    index = json.load(file)
def named(n):
    other = copy.deepcopy(index["manifests"][0])
    other["annotations"]["org.opencontainers.image.ref.name"] = str(n).zfill(int(sys.argv[1]))
    return other
size = len(json.dumps(named(0), separators=(",", ":"))) + 1
names = [named(n) for n in range(min((4 << 20) // size, 10_000) - 10)]
index["manifests"] += names
with open("store/index.json", "w") as file:
    json.dump(index, file, separators=(",", ":"))
P
        code=0
        for n in $(seq 50); do
            image pull -q --name "one-more-name-$n" oci:layout:t >said 2>&1 || { code=$?; break; }
        done
        same "$code" 8 'exit code where the index is full'
        said 'store rm'
        ((n > 2)) || { echo 'it was full at once'; return 1; }
        image store ls -q >/dev/null
        image store rm one-more-name-1 name1 >/dev/null
        image pull -q --name again oci:layout:t
        image verify store:again
    done
}
