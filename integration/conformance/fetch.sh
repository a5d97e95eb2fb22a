# shellcheck shell=bash
# Debian's packages: those of this machine's release are installed, source packages of other releases are only unpacked.

# install_packages PACKAGE...: those that are missing.
install_packages() {
    local package missing=()
    command -v dpkg-query >/dev/null || { note 'not a Debian: what the suites need has to be there'; return 0; }
    for package; do
        [[ $(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    note "installing ${missing[*]}"
    local install=(apt-get install --yes --quiet --no-install-recommends "${missing[@]}") log=$CACHE/install.log
    DEBIAN_FRONTEND=noninteractive "${install[@]}" >"$log" 2>&1 </dev/null && return
    apt-get update --quiet >"$log" 2>&1 </dev/null || true
    DEBIAN_FRONTEND=noninteractive "${install[@]}" >>"$log" 2>&1 </dev/null && return
    tail -n 5 "$log" >&2
    unfetched "the packages ${missing[*]}"
}

# mirror: where this machine's apt finds its own release.
mirror() {
    local codename
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$codename" '$2 == release && $3 == "main" && !found { print $1; found = 1 }'
}

# private_apt COMMAND ARGUMENT...: apt with sources and lists of its own; the machine's are not touched.
private_apt() {
    local command=$1
    shift
    "$command" -o Dir::Etc::SourceList="$CACHE/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$CACHE/apt/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o APT::Sandbox::User=root "$@"
}

# fetch_source PACKAGE VERSION RELEASE UNPACK-DIRECTORY: the upstream part of a source package.
fetch_source() {
    local package=$1 version=$2 release=$3 target=$4 uri upstream tarball
    [[ -e $target/.unpacked ]] && return
    note "fetching the source of $package $version"
    uri=$(mirror)
    [[ -n $uri ]] || unfetched "apt does not say where this machine's packages come from"
    mkdir -p "$CACHE/apt/lists/partial" "$CACHE/src"
    printf 'deb-src %s %s main\n' "$uri" "$release" >"$CACHE/apt/sources.list"
    private_apt apt-get update --quiet >"$CACHE/apt/log" 2>&1 || true
    upstream=${version%-*}
    # A mirror may lack the .dsc. The tarball that is there then has been checked against the signed list all the same.
    (cd "$CACHE/src" && private_apt apt-get source --download-only "$package=$version" >>"$CACHE/apt/log" 2>&1) || true
    tarball=$(find "$CACHE/src" -name "${package}_$upstream.orig.tar.*" ! -name '*.asc' | head -n 1)
    if [[ -z $tarball ]]; then
        tail -n 4 "$CACHE/apt/log" >&2
        private_apt apt-cache showsrc "$package" 2>/dev/null | sed -n "s/^Version: /# $release has $package /p" >&2 || true
        unfetched "the source of $package $version"
    fi
    rm -rf "$target"
    mkdir -p "$target"
    tar -xf "$tarball" -C "$target" --strip-components=1
    touch "$target/.unpacked"
}
