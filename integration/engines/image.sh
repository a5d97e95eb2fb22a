# shellcheck shell=bash
# The images, made here because nothing may have to be pulled: a busybox one, and a Debian one with real
# services. Both are a tar of a root file system; ctr reads an OCI image layout around the same tar.

# busybox_image TAR: a root file system around busybox-static.
busybox_image() {
    local root=$WORK/busybox applet
    mkdir -p "$root"/{bin,proc,sys,dev,tmp,etc,root,run,var,home/web,mnt}
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
    done
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'web:x:1000:1000::/home/web:/bin/sh' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'web:x:1000:' 'extra:x:1234:web' >"$root/etc/group"
    printf 'text\n' >"$root/etc/text"
    printf '#!/bin/nosuch\n' >"$root/bin/no-interpreter"
    chmod 755 "$root/bin/no-interpreter"
    chown 1000:1000 "$root/home/web"
    tar -C "$root" --numeric-owner -cf "$1" .
    rm -rf "$root"
}

# debian_image TAR: debootstrap's minimal Debian with nginx and redis, kept between runs.
debian_image() {
    local root site codename
    [[ -s $1 ]] && return 0
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-stable}")
    site=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$codename" '$2 == release && $3 == "main" { print $1; exit }')
    root=$(mktemp -d "${1%/*}/debian.XXXXXX")
    note "debootstrap of $codename with nginx and redis-server (once, kept in ${1%/*})"
    if ! debootstrap --variant=minbase --include=nginx,redis-server "$codename" "$root" \
        ${site:+"$site"} >"$WORK/debootstrap.log" 2>&1; then
        tail -n 5 "$WORK/debootstrap.log" >&2
        rm -rf "$root"
        die 'debootstrap failed'
    fi
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
    tar -C "$root" --numeric-owner --one-file-system -cf "$1.part" .
    rm -rf "$root"
    mv "$1.part" "$1"
}

# oci_layout TAR NAME OUT [COMMAND...]: the root file system as a one-layer OCI image, in a tar that ctr imports.
oci_layout() {
    local layout layer config manifest tar=$1 name=$2 out=$3
    shift 3
    layout=$(mktemp -d "$WORK/oci.XXXXXX")
    mkdir -p "$layout/blobs/sha256"
    layer=$(sha256sum <"$tar" | cut -d' ' -f1)
    ln -s "$tar" "$layout/blobs/sha256/$layer"
    jq -nc --arg layer "$layer" '{architecture: "amd64", os: "linux",
        config: {Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], Cmd: (if $ARGS.positional == [] then ["sh"] else $ARGS.positional end)},
        rootfs: {type: "layers", diff_ids: ["sha256:" + $layer]}}' --args -- "$@" >"$layout/config"
    config=$(blob "$layout" config)
    jq -nc --arg config "$config" --arg layer "$layer" \
        --argjson config_size "$(stat -Lc %s "$layout/blobs/sha256/$config")" \
        --argjson layer_size "$(stat -Lc %s "$layout/blobs/sha256/$layer")" '
        {schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
         config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: ("sha256:" + $config), size: $config_size},
         layers: [{mediaType: "application/vnd.oci.image.layer.v1.tar", digest: ("sha256:" + $layer), size: $layer_size}]}' \
        >"$layout/manifest"
    manifest=$(blob "$layout" manifest)
    jq -nc --arg manifest "$manifest" --argjson size "$(stat -c %s "$layout/blobs/sha256/$manifest")" --arg name "$name" '
        {schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json",
         digest: ("sha256:" + $manifest), size: $size,
         annotations: {"io.containerd.image.name": $name, "org.opencontainers.image.ref.name": $name}}]}' \
        >"$layout/index.json"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
    tar -C "$layout" --dereference -cf "$out" oci-layout index.json blobs
    rm -rf "$layout"
}

# blob DIRECTORY FILE: moves the file to its place among the blobs and prints its digest.
blob() {
    local digest
    digest=$(sha256sum <"$1/$2" | cut -d' ' -f1)
    mv "$1/$2" "$1/blobs/sha256/$digest"
    printf '%s' "$digest"
}
