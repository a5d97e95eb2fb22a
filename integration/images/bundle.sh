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
