# shellcheck shell=bash
# config.json against umoci's, and bundles with runtimes on them: two programs of their own, each with its own place.

test_conversion_is_that_of_umoci() {
    need umoci jq
    "$DIRECTORY/conversion"
}

test_bundles_run() {
    need jq busybox
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    local skep=${SKEP:-${SKEP_IMAGE%/*}/skep}
    [[ -x $skep ]] || { echo "no skep beside $SKEP_IMAGE"; return 75; }
    SKEP=$skep "$DIRECTORY/bundle"
}

# Of what is in config.json nothing is left without a word.
test_each_field_is_explained() {
    need jq
    craft layout "[[('etc/passwd', {'data': b'app:x:7:8::/home/app:/bin/sh\n'})]], config={'Cmd': ['x'], 'User': 'app', 'Env': ['A=b'], 'WorkingDir': '/w', 'Labels': {'l': 'm'}}"
    image bundle --rootfs=copy --explain --hostname h --env C=d oci:layout:t b -- /x >said
    local field
    for field in $(jq -r '. as $all | keys[] | if . == "process" or . == "linux" or . == "root" then . as $k | $all[$k] | keys[] | "\($k).\(.)" else . end' b/config.json); do
        grep -q "^$field " said || { echo "$field is not explained"; cat said; return 1; }
    done
    grep -q '^process.args  *command line$' said
    grep -q '^process.user  *image: config.User "app", /etc/passwd' said
    grep -q '^process.env A  *image: config.Env$' said
    grep -q '^process.env C  *--env$' said
    grep -q '^hostname  *--hostname$' said
    grep -q '^process.cwd  *image: config.WorkingDir$' said
}
