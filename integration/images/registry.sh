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

# start_server NAME ARGUMENT...: one of servers.py, which logs to $HERE/NAME.log. Its port is in $PORT.
start_server() {
    need python3
    local name=$1
    shift
    touch "$HERE/$name.log"
    python3 "$DIRECTORY/servers.py" "$1" "$HERE/$name.log" "${@:2}" >"$HERE/$name.port" 2>"$HERE/$name.errors" &
    PIDS+=("$!")
    for _ in $(seq 200); do
        if read -r PORT <"$HERE/$name.port"; then return 0; fi
        kill -0 "${PIDS[-1]}" 2>/dev/null || break
        sleep 0.05
    done
    echo "$name does not start"; cat "$HERE/$name.errors"; return 1
}

# authority NAME: a certificate authority of its own, $HERE/NAME.crt.
authority() {
    need openssl
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$HERE/$1.key" -out "$HERE/$1.crt" -subj "/CN=$1" 2>/dev/null
}

# certificate NAME AUTHORITY DAYS NAMES: $HERE/NAME.crt and .key, signed by AUTHORITY, for NAMES (DNS:x,IP:y).
certificate() {
    openssl req -newkey rsa:2048 -nodes -keyout "$HERE/$1.key" -out "$HERE/$1.csr" -subj "/CN=$1" 2>/dev/null
    printf 'subjectAltName=%s\n' "$4" >"$HERE/$1.extensions"
    openssl x509 -req -in "$HERE/$1.csr" -CA "$HERE/$2.crt" -CAkey "$HERE/$2.key" -CAcreateserial -days "$3" \
        -extfile "$HERE/$1.extensions" -out "$HERE/$1.crt" 2>/dev/null
}

# unsaid WORDS: what the last refused command has said does not contain them.
unsaid() { if grep -F -- "$1" "$HERE/said"; then echo "said: $1"; return 1; fi; }

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

# artifact TYPE: adds to oci:$HERE/made an artifact of that type, tag TYPE without its first part, which refers to v1.
artifact() {
    need python3
    python3 - "$HERE/made" "$1" <<'P'
import hashlib, json, sys
place, kind = sys.argv[1:]
def put(content):
    digest = hashlib.sha256(content).hexdigest()
    with open(f"{place}/blobs/sha256/{digest}", "wb") as file:
        file.write(content)
    return {"digest": "sha256:" + digest, "size": len(content)}
with open(place + "/index.json") as file:
    index = json.load(file)
image = next(e for e in index["manifests"] if e["annotations"]["org.opencontainers.image.ref.name"] == "v1")
manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", **put(b"{}")},
            "layers": [{"mediaType": "text/plain", **put(kind.encode())}],
            "subject": {key: image[key] for key in ("mediaType", "digest", "size")}, "annotations": {"about": "\x1b[31m" + kind}}
index["manifests"].append({"mediaType": manifest["mediaType"], **put(json.dumps(manifest).encode()),
                           "annotations": {"org.opencontainers.image.ref.name": kind.split("/")[1]}})
with open(place + "/index.json", "w") as file:
    json.dump(index, file)
P
}

# Debian's registry has no referrers API: push keeps the index of the tag schema, and inspect reads it.
test_registry_referrers() {
    begin
    start_registry plain
    artifact test/sbom
    artifact test/signature
    local place all='test/sbom test/signature '
    kinds() { image inspect --referrers "$@" | awk '{ print $4 }' | sort | tr '\n' ' '; }
    image push -q "oci:$HERE/made:v1" "docker://$ADDRESS/app:v1"
    same "$(kinds "docker://$ADDRESS/app:v1")" '' 'referrers before there are any'
    image push -q "oci:$HERE/made:sbom" "docker://$ADDRESS/app:sbom"
    image push -q "oci:$HERE/made:signature" "docker://$ADDRESS/app:signature"
    image pull -q "oci:$HERE/made:v1"
    image pull -q "oci:$HERE/made:sbom"
    image pull -q "oci:$HERE/made:signature"
    tar -C "$HERE/made" -cf "$HERE/made.tar" .
    for place in "docker://$ADDRESS/app:v1" "docker://$ADDRESS/app@$(digest_of "oci:$HERE/made:v1")" "oci:$HERE/made:v1" "oci-archive:$HERE/made.tar:v1" store:v1; do
        same "$(kinds "$place")" "$all" "referrers of $place"
        same "$(kinds --artifact-type test/sbom "$place")" 'test/sbom ' "of one type of $place"
        same "$(kinds --artifact-type test/none "$place")" '' "of a type that is not there, of $place"
        same "$(image inspect --referrers --json "$place" | jq -r '.annotations.about' | sort | head -n 1)" $'\e[31mtest/sbom' "an annotation of $place"
    done
    # What is printed names something that can be pulled; and nothing refers to what only refers.
    place=$(image inspect --referrers --artifact-type test/sbom "$ADDRESS/app:v1" | awk '{ print $1 }')
    image copy -q "docker://$ADDRESS/app@$place" "oci:$HERE/sbom:t"
    same "$(kinds "docker://$ADDRESS/app:sbom")" '' 'referrers of an artifact'
    refused 2 image inspect --artifact-type test/sbom "oci:$HERE/made:v1"
    refused 3 image inspect --referrers "docker://$ADDRESS/none:v1"
    # A platform's own: this image has no index, so it is the same.
    same "$(kinds --platform linux/amd64 "docker://$ADDRESS/app:v1")" "$all" 'referrers of the image for a platform'
    # Somebody else's tag of that name.
    image copy -q "oci:$HERE/made:v1" "docker://$ADDRESS/app:sha256-$(digest_of "docker://$ADDRESS/app:sbom" | cut -d: -f2)"
    same "$(kinds "docker://$ADDRESS/app:sbom")" '' 'referrers where the tag is an image'
}

# htpasswd: $HERE/htpasswd, in which the password of me is hush.
htpasswd() {
    local hash
    # The C library's; the salt says bcrypt, which is all that the registry takes.
    hash=$(perl -e 'print crypt("hush", q($2y$05$abcdefghijklmnopqrstuu))') || hash=
    [[ $hash == \$2y\$* ]] || { echo 'nothing makes a bcrypt hash here'; exit 75; }
    printf 'me:%s\n' "$hash" >"$HERE/htpasswd"
}

test_registry_with_a_password() {
    begin
    htpasswd
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
    authority ca
    certificate server ca 2 IP:127.0.0.1,DNS:localhost
    certificate client ca 2 DNS:client
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

# tls_registry NAME: with the certificate $HERE/NAME.crt.
tls_registry() { start_registry "$1" "  tls: {certificate: $HERE/$1.crt, key: $HERE/$1.key}"; }

test_registry_with_a_bad_certificate() {
    begin
    authority ca
    authority other
    # openssl x509 takes no days before today: a validity of -1 days ended yesterday.
    certificate expired ca -1 IP:127.0.0.1
    certificate stranger other 2 IP:127.0.0.1
    certificate elsewhere ca 2 DNS:registry.example
    certificate good ca 2 IP:127.0.0.1
    local name
    for name in expired:Expired stranger:UnknownIssuer elsewhere:NotValidForName; do
        tls_registry "${name%:*}"
        refused 7 image push --ca-file "$HERE/ca.crt" "oci:$HERE/made:v1" "$ADDRESS/app:v1"
        said "${name#*:}"
        said 'its certificate is refused'
        # It is the certificate that does not do, so there are no further attempts.
        unsaid 'trying again'
        image push --tls-verify=false "oci:$HERE/made:v1" "$ADDRESS/app:v1"
        refused 7 image pull --tls-verify=true --ca-file "$HERE/ca.crt" "docker://$ADDRESS/app:v1"
    done
    tls_registry good
    image push --ca-file "$HERE/ca.crt" "oci:$HERE/made:v1" "$ADDRESS/app:v1"
    # Each of the ways to say whom to trust.
    refused 7 image tags "$ADDRESS/app"
    refused 7 image tags --ca-file "$HERE/other.crt" "$ADDRESS/app"
    image tags --ca-file "$HERE/other.crt" --ca-file "$HERE/ca.crt" "$ADDRESS/app"
    mkdir "$HERE/d"
    cp "$HERE/ca.crt" "$HERE/d"
    image tags --cert-dir "$HERE/d" "$ADDRESS/app"
    SSL_CERT_FILE=$HERE/ca.crt image tags "$ADDRESS/app"
    SSL_CERT_DIR=$HERE/d image tags "$ADDRESS/app"
    refused 7 env "SSL_CERT_FILE=$HERE/other.crt" "$SKEP_IMAGE" tags "$ADDRESS/app"
    # And what is no certificate.
    refused 2 image tags --ca-file "$HERE/ca.key" "$ADDRESS/app"
    said 'holds no certificate'
    refused 3 image tags --ca-file "$HERE/none" "$ADDRESS/app"
    refused 2 image tags --ca-file "$HERE/ca.crt" --cert "$HERE/ca.crt" "$ADDRESS/app"
    openssl rsa -aes128 -passout pass:x -in "$HERE/good.key" -out "$HERE/locked.key" 2>/dev/null
    refused 2 image tags --ca-file "$HERE/ca.crt" --cert "$HERE/good.crt" --key "$HERE/locked.key" "$ADDRESS/app"
    said 'not encrypted'
    cp "$HERE/good.crt" "$HERE/d/mine.cert"
    refused 2 image tags --cert-dir "$HERE/d" "$ADDRESS/app"
    said 'mine.key'
}

test_registry_behind_a_proxy() {
    begin
    authority ca
    certificate server ca 2 DNS:registry.example
    start_registry plain
    local plain=registry.example:${ADDRESS#*:}
    tls_registry server
    local tls=registry.example:${ADDRESS#*:}
    start_server proxy proxy
    local proxy=http://127.0.0.1:$PORT
    # There is no such name here: only the proxy knows it.
    refused 7 image push --retries 0 --ca-file "$HERE/ca.crt" "oci:$HERE/made:v1" "$tls/app:v1"
    HTTPS_PROXY=$proxy image push --ca-file "$HERE/ca.crt" "oci:$HERE/made:v1" "$tls/app:v1"
    https_proxy=127.0.0.1:$PORT image pull --ca-file "$HERE/ca.crt" "$tls/app:v1"
    ALL_PROXY=$proxy image verify --ca-file "$HERE/ca.crt" "docker://$tls/app:v1"
    same "$(sort -u "$HERE/proxy.log")" "CONNECT $tls HTTP/1.1 False" 'what the proxy was asked'
    : >"$HERE/proxy.log"
    refused 7 env "HTTPS_PROXY=$proxy" NO_PROXY=.example "$SKEP_IMAGE" tags --retries 0 --ca-file "$HERE/ca.crt" "$tls/app"
    HTTPS_PROXY=$proxy HTTP_PROXY=$proxy image tags --ca-file "$HERE/ca.crt" --tls-verify=false "$ADDRESS/app"
    same "$(cat "$HERE/proxy.log")" '' 'what the proxy was asked'
    # Plain HTTP is for those who ask for it: this is not loopback.
    refused 7 env "HTTPS_PROXY=$proxy" "HTTP_PROXY=$proxy" "$SKEP_IMAGE" copy "oci:$HERE/made:v1" "docker://$plain/app:v1"
    said '--tls-verify=false'
    same "$(grep -c . "$HERE/proxy.log")" 1 'times the proxy was asked'
    HTTPS_PROXY=$proxy HTTP_PROXY=$proxy image push --tls-verify=false "oci:$HERE/made:v1" "$plain/app:v1"
    refused 2 env HTTPS_PROXY=socks5://me:hush@127.0.0.1:1 "$SKEP_IMAGE" tags "$tls/app"
    unsaid 'hush'
    # With a password, which is the proxy's own affair.
    start_server locked proxy me:hush
    HTTPS_PROXY=http://me:hush@127.0.0.1:$PORT image tags --ca-file "$HERE/ca.crt" "$tls/app"
    same "$(sort -u "$HERE/locked.log")" "CONNECT $tls HTTP/1.1 False" 'what the proxy was asked'
    refused 7 env "HTTPS_PROXY=http://me:whisper@127.0.0.1:$PORT" "$SKEP_IMAGE" tags --ca-file "$HERE/ca.crt" "$tls/app"
    said 'it asks for a user and a password'
    unsaid 'trying again'
    unsaid 'whisper'
}

test_registry_that_sends_elsewhere() {
    begin
    authority ca
    certificate server ca 2 IP:127.0.0.1,DNS:localhost
    tls_registry server
    image push --ca-file "$HERE/ca.crt" "oci:$HERE/made:v1" "$ADDRESS/app:v1"
    # By another name it is another host, and so is every port.
    start_server bucket gate "https://localhost:${ADDRESS#*:}" - "$HERE/server.crt" "$HERE/server.key"
    start_server gate gate "https://localhost:$PORT" me:hush "$HERE/server.crt" "$HERE/server.key"
    image pull --ca-file "$HERE/ca.crt" --creds me:hush "127.0.0.1:$PORT/app:v1"
    grep -q True "$HERE/gate.log"
    same "$(awk '{ print $NF }' "$HERE/bucket.log" | sort -u)" False 'whether the other host saw credentials'
    # Out of TLS.
    start_registry plain
    start_server down gate "http://$ADDRESS" - "$HERE/server.crt" "$HERE/server.key"
    refused 7 image pull --ca-file "$HERE/ca.crt" "127.0.0.1:$PORT/app:v1"
    said 'everybody could change'
    # Where the authority of the first one is trusted for the first one alone.
    start_server inner gate "https://localhost:1" - "$HERE/server.crt" "$HERE/server.key"
    mkdir -p "$HERE/config/containers/certs.d/127.0.0.1:$PORT"
    start_server outer gate "https://localhost:$PORT" - "$HERE/server.crt" "$HERE/server.key"
    mkdir -p "$HERE/config/containers/certs.d/127.0.0.1:$PORT"
    cp "$HERE/ca.crt" "$HERE/config/containers/certs.d/127.0.0.1:$PORT/ca.crt"
    refused 7 env "XDG_CONFIG_HOME=$HERE/config" "$SKEP_IMAGE" tags "127.0.0.1:$PORT/app"
    said UnknownIssuer
    same "$(cat "$HERE/inner.log")" '' 'what the other host was asked'
}

# helper NAME LINE...: a credential helper, which has read the server's name into $server.
helper() {
    mkdir -p "$HERE/bin"
    # shellcheck disable=SC2016
    { printf '#!/bin/sh\n[ "$1" = get ] || exit 9\nread -r server\n'; printf '%s\n' "${@:2}"; } >"$HERE/bin/docker-credential-$1"
    chmod 755 "$HERE/bin/docker-credential-$1"
}

# configuration JSON: the content of the user's Docker configuration, in which HOST is the registry.
configuration() {
    mkdir -p "$HERE/docker"
    echo "${1//HOST/$ADDRESS}" >"$HERE/docker/config.json"
    chmod 600 "$HERE/docker/config.json"
}

test_registry_with_a_token_server() {
    begin
    authority ca
    start_server tokens token "$HERE/ca.crt" "$HERE/ca.key" here
    start_registry guarded "auth: {token: {realm: 'http://127.0.0.1:$PORT/token', service: here, issuer: test, rootcertbundle: $HERE/ca.crt}}"
    refused 4 image push "oci:$HERE/made:v1" "$ADDRESS/public/app:v1"
    refused 4 image push --creds me:wrong "oci:$HERE/made:v1" "$ADDRESS/public/app:v1"
    said wrong
    : >"$HERE/tokens.log"
    image push --creds me:hush "oci:$HERE/made:v1" "$ADDRESS/public/app:v1"
    # One token does for all of it.
    same "$(cat "$HERE/tokens.log")" 'GET repository:public/app:pull,push repository:public/app:pull' 'what tokens were for'
    image pull "$ADDRESS/public/app:v1"
    image tags "docker://$ADDRESS/public/app"
    # Blobs of the neighbour are mounted with a token for both.
    : >"$HERE/tokens.log"
    image copy --creds me:hush "docker://$ADDRESS/public/app:v1" "docker://$ADDRESS/private/app:v1" --json >"$HERE/events"
    grep -q 'repository:private/app:pull,push repository:public/app:pull' "$HERE/tokens.log"
    same "$(jq -r 'select(.event == "blob_done") | .cached' "$HERE/events" | sort -u)" true 'whether blobs were there'
    refused 4 image pull "docker://$ADDRESS/private/app:v1"
    # An identity token goes as OAuth2's refresh token, from a file and from a helper.
    configuration '{"auths":{"HOST":{"auth":"MDAwMDo=","identitytoken":"refresh"}}}'
    : >"$HERE/tokens.log"
    DOCKER_CONFIG=$HERE/docker image verify "docker://$ADDRESS/private/app:v1"
    same "$(sort -u "$HERE/tokens.log")" 'POST repository:private/app:pull' 'what tokens were for'
    helper azure 'echo "{\"ServerURL\":\"x\",\"Username\":\"<token>\",\"Secret\":\"refresh\"}"'
    configuration '{"credsStore":"azure"}'
    PATH=$HERE/bin:$PATH DOCKER_CONFIG=$HERE/docker image verify "docker://$ADDRESS/private/app:v1"
    configuration '{"auths":{"HOST":{"identitytoken":"stale"}}}'
    refused 4 env "DOCKER_CONFIG=$HERE/docker" "$SKEP_IMAGE" verify "docker://$ADDRESS/private/app:v1"
    unsaid stale
    # skopeo reads what was pushed, and what it pushes is read.
    skopeo_ copy -q --src-tls-verify=false --src-creds me:hush "docker://$ADDRESS/private/app:v1" "dir:$HERE/out"
}

test_registry_and_credential_helpers() {
    begin
    htpasswd
    start_registry locked "auth: {htpasswd: {realm: here, path: $HERE/htpasswd}}"
    image push --creds me:hush "oci:$HERE/made:v1" "$ADDRESS/app:v1"
    export PATH=$HERE/bin:$PATH DOCKER_CONFIG=$HERE/docker
    helper good "[ \"\$server\" = $ADDRESS ] || exit 8" 'echo "{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"hush\"}"'
    configuration '{"credHelpers":{"HOST":"good","other.example":"absent"}}'
    image tags "docker://$ADDRESS/app"
    # A store knows what an empty entry leaves out; what the entry says counts before it.
    configuration '{"auths":{"HOST":{}},"credsStore":"good"}'
    image tags "docker://$ADDRESS/app"
    # Nothing known is nobody; all else that is wrong is an error which says so, and says no secret.
    helper none 'echo credentials not found in native keychain' 'exit 1'
    helper garbage 'echo hush'
    helper broken 'echo "{\"Username\":\"me\",\"Secret\":\"hush"'
    helper large 'head -c 100000 /dev/zero | tr "\0" x'
    helper failing 'echo hush >&2' 'echo the keychain is locked' 'exit 3'
    helper deaf 'exec <&-' 'exit 0'
    local name
    for name in none garbage broken large failing deaf absent ../x; do
        configuration '{"credHelpers":{"HOST":"'"$name"'"}}'
        refused 4 image tags "docker://$ADDRESS/app"
        unsaid hush
        [[ $name == none ]] || said credential
    done
    said 'is not the name'
    # Of a store it is a warning.
    configuration '{"credsStore":"failing"}'
    refused 4 image tags "docker://$ADDRESS/app"
    said 'the keychain is locked'
    # Files that are none.
    local bad
    for bad in '{"auths":' '[]' '{"auths":{"HOST":{"auth":"!!!"}}}' '{"auths":{"HOST":7}}'; do
        configuration "$bad"
        refused 4 image tags "docker://$ADDRESS/app"
    done
    refused 4 image tags --authfile "$HERE/none.json" "docker://$ADDRESS/app"
    configuration '{}'
    refused 4 image tags "docker://$ADDRESS/app"
    refused 4 image tags --no-creds "docker://$ADDRESS/app"
}

# Not for its numbers: that it still works.
test_bench_of_images() {
    need python3 skopeo umoci
    ((EUID == 0)) || { echo 'needs root'; return 75; }
    [[ -n $REGISTRY ]] || { echo 'no docker-registry here'; exit 75; }
    SKEP_IMAGE=$SKEP_IMAGE "$TOP/integration/perf/bench-image" --small --rounds 1 --only skep --only tar --only umoci --only skopeo "$HERE" >"$HERE/said"
    said 'demands met, 0 not'
    same "$(grep -c 'too small to say' "$HERE/said")" 7 'demands'
}
