# shellcheck shell=bash
# Against Debian's docker-registry on loopback: plain, with a password, with TLS and an authority of its own, with a token server.

REGISTRY=$(command -v docker-registry || true)

# start_registry NAME LINE...: a registry below $HERE/NAME, with further lines in its configuration. Its address is in $ADDRESS.
start_registry() {
    local name=$1 port
    shift
    [[ -n $REGISTRY ]] || { echo 'no docker-registry here'; exit 75; }
    mkdir -p "$HERE/$name"
    for _ in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 20000))
        ADDRESS=127.0.0.1:$port
        {
            printf 'version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\n  delete: {enabled: true}\n' "$HERE/$name/data"
            printf 'http:\n  addr: %s\n  secret: x\n' "$ADDRESS"
            (($# == 0)) || printf '%s\n' "$@"
        } >"$HERE/$name/config.yml"
        "$REGISTRY" serve "$HERE/$name/config.yml" >"$HERE/$name/log" 2>&1 &
        local pid=$!
        PIDS+=("$pid")
        for _ in $(seq 200); do
            kill -0 "$pid" 2>/dev/null || break
            if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
            sleep 0.05
        done
    done
    echo 'docker-registry does not start'; cat "$HERE/$name/log"; return 1
}

stop_started() { local pid; for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done; }

# A layout of one image with a layer of a few megabytes, in $HERE/made.
make_image() {
    need umoci
    umoci init --layout "$HERE/made" && umoci new --image "$HERE/made:v1"
    mkdir -p "$HERE/root/etc"
    head -c 3000000 /dev/urandom >"$HERE/root/etc/noise"
    umoci insert --image "$HERE/made:v1" "$HERE/root/etc" /etc
}

begin() { PIDS=(); trap stop_started EXIT; make_image; }

digest_of() { image resolve -q "$@"; }

test_registry_plain() {
    begin
    start_registry plain
    image push "oci:$HERE/made:v1" "docker://$ADDRESS/team/app:v1"
    same "$(digest_of "docker://$ADDRESS/team/app:v1")" "$(digest_of "oci:$HERE/made:v1")" digests
    image pull "$ADDRESS/team/app:v1"
    image verify "store:$ADDRESS/team/app:v1"
    same "$(image tags "docker://$ADDRESS/team/app")" v1 tags
    # Between two repositories of one registry, and as skopeo has it.
    image copy "docker://$ADDRESS/team/app:v1" "docker://$ADDRESS/other/app:v2"
    need skopeo
    same "$(skopeo_ inspect --tls-verify=false --format '{{.Digest}}' "docker://$ADDRESS/other/app:v2")" "$(digest_of "oci:$HERE/made:v1")" digests
    skopeo_ copy -q --dest-tls-verify=false "oci:$HERE/made:v1" "docker://$ADDRESS/skopeo/app:v3"
    image pull "docker://$ADDRESS/skopeo/app:v3"
    # By its name in the store; and what was pulled has the digest that it had.
    image tags "docker://$ADDRESS/skopeo/app" --json
    image push "$ADDRESS/skopeo/app:v3" "$ADDRESS/again:v4"
    image store rm "$ADDRESS/skopeo/app:v3"
    image pull --name "$ADDRESS/third/app:v5" "oci:$HERE/made:v1"
    image push --json "$ADDRESS/third/app:v5" | jq -se '.[-1].event == "result"' >/dev/null
    same "$(digest_of "docker://$ADDRESS/third/app:v5")" "$(digest_of "oci:$HERE/made:v1")" digests
    refused 3 image push "$ADDRESS/not/there:v1"
    refused 2 image push "oci:$HERE/made:v1"
    refused 3 image pull "docker://$ADDRESS/team/app:none"
    said MANIFEST_UNKNOWN
    refused 3 image tags "docker://$ADDRESS/nobody/here"
}

test_registry_with_a_password() {
    begin
    local hash
    # The C library's; the salt says bcrypt, which is all that the registry takes.
    hash=$(perl -e 'print crypt("hush", q($2y$05$abcdefghijklmnopqrstuu))') || hash=
    [[ $hash == \$2y\$* ]] || { echo 'nothing makes a bcrypt hash here'; exit 75; }
    printf 'me:%s\n' "$hash" >"$HERE/htpasswd"
    start_registry locked "auth: {htpasswd: {realm: here, path: $HERE/htpasswd}}"
    refused 4 image push "oci:$HERE/made:v1" "docker://$ADDRESS/app:v1"
    refused 4 image push --creds me:wrong "oci:$HERE/made:v1" "docker://$ADDRESS/app:v1"
    image push --creds me:hush "oci:$HERE/made:v1" "docker://$ADDRESS/app:v1"
    refused 4 image pull "docker://$ADDRESS/app:v1"
    said 'no credentials for'
    printf '{"auths":{"%s":{"auth":"%s"}}}' "$ADDRESS" "$(printf me:hush | base64)" >"$HERE/auth.json"
    chmod 600 "$HERE/auth.json"
    image pull --authfile "$HERE/auth.json" "docker://$ADDRESS/app:v1"
    # The same by a helper.
    mkdir "$HERE/bin"
    # shellcheck disable=SC2016
    printf '#!/bin/sh\nread -r server\n[ "$1 $server" = "get %s" ] || exit 1\necho '"'"'{"ServerURL":"x","Username":"me","Secret":"hush"}'"'"'\n' "$ADDRESS" >"$HERE/bin/docker-credential-test"
    chmod 755 "$HERE/bin/docker-credential-test"
    mkdir "$HERE/docker"
    printf '{"credHelpers":{"%s":"test"}}' "$ADDRESS" >"$HERE/docker/config.json"
    chmod 600 "$HERE/docker/config.json"
    PATH=$HERE/bin:$PATH DOCKER_CONFIG=$HERE/docker image tags "docker://$ADDRESS/app"
}

test_registry_with_its_own_authority() {
    begin
    need openssl
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$HERE/ca.key" -out "$HERE/ca.crt" -subj /CN=ca 2>/dev/null
    for who in server client; do
        openssl req -newkey rsa:2048 -nodes -keyout "$HERE/$who.key" -out "$HERE/$who.csr" -subj "/CN=$who" 2>/dev/null
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' >"$HERE/extensions"
        openssl x509 -req -in "$HERE/$who.csr" -CA "$HERE/ca.crt" -CAkey "$HERE/ca.key" -CAcreateserial -days 2 \
            -extfile "$HERE/extensions" -out "$HERE/$who.crt" 2>/dev/null
    done
    start_registry tls "  tls: {certificate: $HERE/server.crt, key: $HERE/server.key, clientcas: [$HERE/ca.crt]}"
    # A bad certificate is no reason for plain HTTP, not even here.
    refused 7 image push --retries 0 "oci:$HERE/made:v1" "docker://$ADDRESS/app:v1"
    said 'its certificate is refused'
    # It wants to know who comes.
    refused 7 image push --retries 0 --ca-file "$HERE/ca.crt" "oci:$HERE/made:v1" "docker://$ADDRESS/app:v1"
    image push --ca-file "$HERE/ca.crt" --cert "$HERE/client.crt" --key "$HERE/client.key" "oci:$HERE/made:v1" "docker://$ADDRESS/app:v1"
    refused 2 image tags --ca-file "$HERE/ca.crt" --cert "$HERE/client.crt" --key "$HERE/ca.key" "docker://$ADDRESS/app"
    image tags --tls-verify=false --cert "$HERE/client.crt" --key "$HERE/client.key" "docker://$ADDRESS/app"
    # And by the directory that podman and docker read.
    mkdir -p "$HERE/config/containers/certs.d/$ADDRESS"
    cp "$HERE/ca.crt" "$HERE/config/containers/certs.d/$ADDRESS/ca.crt"
    cp "$HERE/client.crt" "$HERE/config/containers/certs.d/$ADDRESS/client.cert"
    cp "$HERE/client.key" "$HERE/config/containers/certs.d/$ADDRESS/client.key"
    XDG_CONFIG_HOME=$HERE/config image pull "docker://$ADDRESS/app:v1"
}
