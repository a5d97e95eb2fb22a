# shellcheck shell=bash
# crun's Python tests, and the program they run in their containers.

CRUN_VERSION=${CRUN_VERSION:-1.21-1}
CRUN_RELEASE=${CRUN_RELEASE:-trixie}

crun_version() { printf '%s' "${CRUN_VERSION%%-*}"; }

crun_install() {
    install_packages gcc iproute2 libc6-dev libseccomp-dev python3 util-linux xz-utils
    fetch_source crun "$CRUN_VERSION" "$CRUN_RELEASE" "$CACHE/crun-$CRUN_VERSION"
    crun_init "$CACHE/crun-$CRUN_VERSION/tests"
}

# crun_init DIRECTORY: what configure would find here, and a static program.
crun_init() {
    [[ ! -x $1/init ]] || return 0
    note "building the program of crun's tests"
    printf '#define %s 1\n' _GNU_SOURCE HAVE_SECCOMP HAVE_LINUX_IOPRIO_H HAVE_ERROR_H >"$1/config.h"
    cc -static -O1 -I"$1" -o "$1/init" "$1/init.c" -lseccomp >"$CACHE/crun-init.log" 2>&1 ||
        { tail -n 5 "$CACHE/crun-init.log" >&2; die "crun's init.c cannot be compiled"; }
}

crun_prepare() {
    mkdir -p "$WORK/crun" "$WORK/tmp"
    chmod 755 "$WORK/crun"
    chmod 1777 "$WORK/tmp"
    mkfifo "$WORK/keyboard"
    mkdir "$WORK/bin"
    # By this name skep puts the socket of sd_notify(3) where these tests look for it.
    ln -s "$RUNTIME" "$WORK/bin/crun"
    cd "$WORK/crun"
}

crun_run() {
    local file name
    for file in "$CACHE/crun-$CRUN_VERSION"/tests/test_*.py; do
        name=${file##*/test_}
        name=${name%.py}
        wanted "$name" || continue
        crun_file "$file" "$LOGS/$name"
        [[ ! -e /sys/fs/cgroup/freezer/frozen ]] || echo THAWED >/sys/fs/cgroup/freezer/frozen/freezer.state
        crun_results "$name" <"$LOGS/$name.tap"
    done
}

# crun_file FILE LOG: on a terminal, which some tests want, and with a third descriptor, which some count on.
crun_file() {
    local command
    printf -v command 'exec env TMPDIR=%q INIT=%q OCI_RUNTIME=%q PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=%q /usr/bin/python3 -u %q 2>%q 3</dev/null' \
        "$WORK/tmp" "$CACHE/crun-$CRUN_VERSION/tests/init" "$WORK/bin/crun" "$HERE/libmount" "$1" "$2.err"
    timeout --kill-after 10 90 script --quiet --return --flush --command "$command" "$2.tty" \
        <>"$WORK/keyboard" >/dev/null 2>&1 || true
    tr -d '\r' <"$2.tty" >"$2.tap"
    rm -f "$2.tty"
}

# crun_results FILE: of a TAP stream whose skips give no reason.
crun_results() {
    local line planned=0 seen=0
    while IFS= read -r line; do
        case $line in
        1..*) planned=${line#1..} ;;
        'ok '* | 'not ok '*)
            [[ $line =~ ^(not\ )?ok\ [0-9]+\ -\ ([^ ]+)(.*)$ ]] || continue
            seen=$((seen + 1))
            if [[ -n ${BASH_REMATCH[1]} ]]; then
                result "$1" "${BASH_REMATCH[2]}" fail
            elif [[ ${BASH_REMATCH[3]} == *SKIP* ]]; then
                result "$1" "${BASH_REMATCH[2]}" skip
            else
                result "$1" "${BASH_REMATCH[2]}" pass
            fi
            ;;
        esac
    done
    ((seen >= planned && planned)) || result "$1" 'the whole file' fail "$seen of $planned tests were run"
}
