# shellcheck shell=bash
# runc's bats suite. It wants two images, which are made here, a terminal, and a runtime that is called runc.

RUNC_VERSION=${RUNC_VERSION:-1.3.6+ds1-1}
RUNC_RELEASE=${RUNC_RELEASE:-sid}

runc_version() { printf '%s' "${RUNC_VERSION%%+*}"; }

runc_install() {
    install_packages golang-go golang-github-containerd-console-dev golang-github-cyphar-filepath-securejoin-dev \
        golang-github-opencontainers-specs-dev golang-github-seccomp-libseccomp-golang-dev \
        golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev golang-golang-x-sys-dev \
        bats bsdutils busybox-static debootstrap gawk gcc iproute2 jq libc6-dev libseccomp-dev pkg-config procps uidmap \
        util-linux xz-utils
    fetch_source runc "$RUNC_VERSION" "$RUNC_RELEASE" "$CACHE/runc-$RUNC_VERSION"
    runc_helpers "$CACHE/runc-$RUNC_VERSION"
    runc_busybox "$CACHE/runc-$RUNC_VERSION/tests/integration/testdata/busybox-$(go env GOARCH).tar.xz"
    runc_debian "$CACHE/runc-$RUNC_VERSION/tests/integration/testdata/debian-$(go env GOARCH).tar.xz"
}

# runc_helpers SOURCE: the programs its tests talk to. All of runc's library that they need is one file; the helper for systemd
# needs more, and its tests skip themselves where there is none.
runc_helpers() {
    local source=$1 place=$CACHE/go/src/github.com/opencontainers/runc
    local bin=$source/tests/cmd/_bin program
    [[ ! -x $bin/seccompagent ]] || return 0
    note "building the helpers of runc's suite"
    rm -rf "$place"
    mkdir -p "$place/libcontainer/utils" "$place/tests" "$bin"
    cp "$source/libcontainer/utils/cmsg.go" "$place/libcontainer/utils/"
    cp -r "$source/tests/cmd" "$place/tests/"
    cd "$place"
    for program in recvtty fs-idmap pidfd-kill remap-rootfs; do
        go_build -o "$bin/" "./tests/cmd/$program" || die "runc's $program cannot be built"
    done
    CGO_ENABLED=1 go_build -tags seccomp -o "$bin/" ./tests/cmd/seccompagent || die "runc's seccompagent cannot be built"
}

# runc_busybox TAR: as the image it stands for, with the users and directories the tests name.
runc_busybox() {
    local root applet
    [[ ! -e $1 ]] || return 0
    root=$(mktemp -d "$CACHE/busybox.XXXXXX")
    mkdir -p "$root"/{bin,dev,etc,home,root,tmp,usr/sbin,var/spool/mail,var/www}
    chmod 755 "$root"
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [[ $applet == busybox ]] || ln "$root/bin/busybox" "$root/bin/$applet"
    done
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'daemon:x:1:1:daemon:/usr/sbin:/bin/false' \
        'www-data:x:33:33:www-data:/var/www:/bin/false' 'nobody:x:65534:65534:nobody:/home:/bin/false' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'daemon:x:1:' 'tty:x:5:' 'www-data:x:33:' 'nogroup:x:65534:' >"$root/etc/group"
    tar -C "$root" --numeric-owner -cJf "$1.part" .
    rm -rf "$root"
    mv "$1.part" "$1"
}

# runc_debian TAR: the smallest Debian.
runc_debian() {
    local root uri codename
    [[ ! -e $1 ]] || return 0
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-stable}")
    uri=$(mirror)
    root=$(mktemp -d "$CACHE/debian.XXXXXX")
    note "debootstrap of $codename (once)"
    if ! debootstrap --variant=minbase "$codename" "$root" ${uri:+"$uri"} >"$CACHE/debootstrap.log" 2>&1; then
        tail -n 5 "$CACHE/debootstrap.log" >&2
        rm -rf "$root"
        unfetched 'a minimal Debian'
    fi
    # Each test of a file unpacks it anew.
    rm -rf "$root"/var/cache/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,info,locale,man,perl5,zoneinfo} \
        "$root"/usr/lib/*/{gconv,perl-base}
    # What mktemp made, the root of a user namespace may not enter.
    chmod 755 "$root"
    tar -C "$root" --numeric-owner --one-file-system -cf - . | xz -1 >"$1.part"
    rm -rf "$root"
    mv "$1.part" "$1"
}

runc_prepare() {
    cd "$CACHE/runc-$RUNC_VERSION/tests/integration"
    ln -sf "$RUNTIME" "$WORK/runc"
    mkdir -p "$WORK/tmp"
    chmod 1777 "$WORK/tmp"
    mkfifo "$WORK/keyboard" "$WORK/never"
}

runc_run() {
    local file name
    for file in *.bats; do
        name=${file%.bats}
        wanted "$name" || continue
        runc_file "$file" "$LOGS/$name.tap"
        runc_results "$name" <"$LOGS/$name.tap"
    done
}

# runc_file FILE LOG: on a terminal whose other end stays open, since a test that reads from it is to wait.
runc_file() {
    local command bats planned size last=0 still=0
    printf -v command 'exec env -u BATS_TEST_TIMEOUT RUNC=%q TMPDIR=%q bats --tap %q >%q 2>&1' \
        "$WORK/runc" "$WORK/tmp" "$1" "$2"
    timeout --kill-after 10 1800 script --quiet --return --flush --command "$command" /dev/null \
        <>"$WORK/keyboard" >/dev/null 2>&1 &
    bats=$!
    # bats waits for whoever holds its output; a test that failed may have left one of the suite's helpers.
    until
        read -rt 1 <>"$WORK/never" || true
        ! kill -0 "$bats" 2>/dev/null
    do
        size=$(stat -c %s "$2" 2>/dev/null) || size=0
        ((size == last)) && still=$((still + 1)) || still=0
        last=$size
        # A runtime that enters a frozen cgroup instead of refusing it would stay there.
        ((still != 120)) || runc_thaw
        planned=$(sed -n 's/^1\.\.//p;T;q' "$2" 2>/dev/null) || true
        [[ -n $planned && $(grep -cE '^(not )?ok ' "$2") -ge $planned ]] || continue
        read -rt 5 <>"$WORK/never" || true
        runc_stop_helpers
    done
    wait "$bats" || true
    runc_stop_helpers
}

# runc_thaw: what a test has frozen.
runc_thaw() {
    local state
    note "nothing happens: thawing the suite's cgroups"
    for state in /sys/fs/cgroup/freezer/runc-cgroups-integration-test/*/freezer.state; do
        [[ ! -e $state ]] || echo THAWED >"$state"
    done
    for state in /sys/fs/cgroup/runc-cgroups-integration-test/*/cgroup.freeze; do
        [[ ! -e $state ]] || echo 0 >"$state"
    done
}

# runc_stop_helpers: those of this run; there are no other processes in this pid namespace.
runc_stop_helpers() {
    local process
    for process in /proc/[0-9]*; do
        [[ $(readlink "$process/exe" 2>/dev/null) != "$CACHE/runc-$RUNC_VERSION"/tests/cmd/_bin/* ]] ||
            kill -KILL "${process#/proc/}" 2>/dev/null || true
    done
}

# runc_results FILE: a result for each line of a TAP stream; a test that was planned and is not there has failed.
runc_results() {
    local line planned=0 seen=0
    while IFS= read -r line; do
        case $line in
        1..*) planned=${line#1..} ;;
        'ok '* | 'not ok '*)
            seen=$((seen + 1))
            if [[ $line =~ ^(not\ )?ok\ [0-9]+\ (.*)\ \#\ skip\ ?(.*)$ ]]; then
                result "$1" "${BASH_REMATCH[2]}" skip "${BASH_REMATCH[3]}"
            elif [[ $line =~ ^not\ ok\ [0-9]+\ (.*)$ ]]; then
                result "$1" "${BASH_REMATCH[1]}" fail
            elif [[ $line =~ ^ok\ [0-9]+\ (.*)$ ]]; then
                result "$1" "${BASH_REMATCH[1]}" pass
            fi
            ;;
        esac
    done
    ((planned && seen >= planned)) || result "$1" 'the whole file' fail "$seen of $planned tests were run"
}
