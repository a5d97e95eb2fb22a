# shellcheck shell=bash
# The validation programs of opencontainers/runtime-tools, one Go program for each subject.

RUNTIME_TOOLS_VERSION=${RUNTIME_TOOLS_VERSION:-0.9.0.109.ge931285-1}
RUNTIME_TOOLS_PATH=go/src/github.com/opencontainers/runtime-tools

# They look at a container that may end before they do: a program that fails is run again, this often in all. Each try is
# recorded; with --no-retry there is one.
declare -A RUNTIME_TOOLS_RACES=([pidfile]=5 [killsig]=3 [poststart]=3 [poststop]=3)

runtime_tools_version() { printf '%s' "${RUNTIME_TOOLS_VERSION%-*}"; }

runtime_tools_install() {
    install_packages golang-go golang-github-blang-semver-dev golang-github-google-uuid-dev \
        golang-github-hashicorp-go-multierror-dev golang-github-mrunalp-fileutils-dev \
        golang-github-opencontainers-selinux-dev golang-github-opencontainers-specs-dev golang-github-sirupsen-logrus-dev \
        golang-github-urfave-cli-dev golang-github-xeipuuv-gojsonschema-dev golang-gocapability-dev \
        golang-golang-x-sys-dev iproute2 xz-utils
    fetch_source golang-github-opencontainers-runtime-tools "$RUNTIME_TOOLS_VERSION" trixie "$CACHE/$RUNTIME_TOOLS_PATH"
    runtime_tools_build
}

runtime_tools_build() {
    local tap=$CACHE/go/src/github.com/mndrix/tap-go
    mkdir -p "$tap"
    cmp -s "$HERE/tap-go/tap.go" "$tap/tap.go" || cp "$HERE/tap-go/tap.go" "$tap/tap.go"
    cd "$CACHE/$RUNTIME_TOOLS_PATH"
    [[ ! -x runtimetest || bin/start -ot $tap/tap.go ]] || return 0
    note 'building runtime-tools'
    rm -f go.mod go.sum
    mkdir -p bin
    go_build -o runtimetest ./cmd/runtimetest && go_build -o bin/ ./validation/... || die 'runtime-tools cannot be built'
}

# go_build ARGUMENT...: with the packages of this release alone, as libraries are not fetched from anywhere.
go_build() {
    GO111MODULE=off GOFLAGS='' GOPATH=$CACHE/go:/usr/share/gocode CGO_ENABLED=${CGO_ENABLED:-0} go build "$@" >&2
}

runtime_tools_prepare() { cd "$CACHE/$RUNTIME_TOOLS_PATH"; }

runtime_tools_run() {
    local program name try tries
    mkdir -p "$WORK/runtime-tools"
    chmod 755 "$WORK/runtime-tools"
    for program in bin/*; do
        name=${program##*/}
        wanted "$name" || continue
        mkdir -p "validation/$name"
        ln -f "$program" "validation/$name/$name.t"
        tries=${RUNTIME_TOOLS_RACES[$name]:-1}
        [[ -z $NO_RETRY ]] || tries=1
        for ((try = 1; ; try++)); do
            runtime_tools_program "$name"
            [[ $OUTCOME == fail ]] && ((try < tries)) || break
        done
        if ((try > 1)); then
            note "$name: $OUTCOME in try $try of $tries; it races with the container it looks at"
            [[ $OUTCOME == fail ]] && WHY+="; the last of $try tries" || WHY="in try $try of $tries"
        fi
        result "$name" all "$OUTCOME" "$WHY"
    done
}

# runtime_tools_program NAME: runs it, sets OUTCOME and WHY.
runtime_tools_program() {
    local log=$LOGS/$1.out status=0
    TMPDIR=$WORK/runtime-tools timeout --kill-after 5 180 "validation/$1/$1.t" >"$log" 2>"$LOGS/$1.err" </dev/null || status=$?
    OUTCOME=pass WHY=''
    if ((status)); then
        OUTCOME=fail WHY="status $status: $(tail -n 1 "$LOGS/$1.err")"
    elif grep -E '^not ok' "$log" | grep -v '# TODO' >"$log.failed"; then
        OUTCOME=fail WHY=$(head -n 1 "$log.failed")
    elif ! grep -q '^ok' "$log" && grep -m 1 '"error": "[^"]' "$log" >"$log.failed"; then
        # Those of the hooks count no test, and write what went wrong beside the plan of none.
        OUTCOME=fail WHY=$(<"$log.failed")
    elif awk '/^ok/ { all++; skipped += /# SKIP/ } END { exit !(all && all == skipped) }' "$log"; then
        OUTCOME=skip WHY=$(sed -n 's/^ok .*# SKIP //p;T;q' "$log")
    fi
    rm -f "$log.failed"
}
