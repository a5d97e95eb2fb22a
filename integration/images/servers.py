#!/usr/bin/env python3
"""Small servers for registry.sh, on loopback. Each prints its port when it listens, and logs one line a request to LOG.

  servers.py proxy LOG [USER:PASSWORD]          a CONNECT proxy, to whom all names are 127.0.0.1
  servers.py token LOG CERT KEY SERVICE         a token server: everything for me:hush and for the refresh token `refresh`, pulls
                                                from public/ for everybody
  servers.py gate LOG NEXT [AUTH [CERT KEY]]    sends everybody on to NEXT, once they show AUTH (USER:PASSWORD, or - for nothing)
"""

import base64
import http.server
import json
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse


def proxy(log, credentials=None):
    wanted = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=tunnel, args=(client, log, wanted), daemon=True).start()


def tunnel(client, log, wanted):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65536:
        more = client.recv(4096)
        if not more:
            return
        head += more
    lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    with open(log, "a") as file:
        # Nobody but the proxy is told the proxy's password, and the proxy no other one.
        print(lines[0], "authorization" in headers, file=file)
    if wanted and headers.get("proxy-authorization") != wanted:
        client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        return client.close()
    method, target = lines[0].split(" ")[:2]
    if method != "CONNECT":
        client.sendall(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
        return client.close()
    try:
        server = socket.create_connection(("127.0.0.1", int(target.rsplit(":", 1)[1])))
    except OSError:
        client.sendall(b"HTTP/1.1 502 Nobody There\r\ncontent-length: 0\r\n\r\n")
        return client.close()
    client.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
    other = {client: server, server: client}
    while True:
        for ready in select.select(list(other), [], [])[0]:
            data = ready.recv(65536)
            if not data:
                client.close()
                return server.close()
            other[ready].sendall(data)


def gate(log, following, credentials="-", certificate=None, key=None):
    wanted = None if credentials == "-" else "Basic " + base64.b64encode(credentials.encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            with open(log, "a") as file:
                print(self.command, self.path, "authorization" in self.headers, file=file)
            if wanted and self.headers.get("authorization") != wanted:
                self.send_response(401)
                self.send_header("www-authenticate", 'Basic realm="gate"')
            else:
                self.send_response(307)
                self.send_header("location", following + self.path)
            self.send_header("content-length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def token(log, certificate, key, service):
    wanted = "Basic " + base64.b64encode(b"me:hush").decode()
    chain = ssl.PEM_cert_to_DER_cert(open(certificate).read())

    def encoded(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    def signed(access):
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(chain).decode()]}
        now = int(time.time())
        claims = {"iss": "test", "sub": "me", "aud": service, "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1", "access": access}
        text = b".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
        made = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text, stdout=subprocess.PIPE, check=True)
        return (text + b"." + encoded(made.stdout)).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, how, fields, known):
            scopes = [scope for text in fields.get("scope", []) for scope in text.split()]
            with open(log, "a") as file:
                print(how, " ".join(scopes), file=file)
            access = []
            for scope in scopes:
                kind, rest = scope.split(":", 1)
                name, actions = rest.rsplit(":", 1)
                granted = [a for a in actions.split(",") if known or (a == "pull" and name.startswith("public/"))]
                access.append({"type": kind, "name": name, "actions": granted})
            good = fields.get("service") == [service] and known is not None
            body = json.dumps({"access_token" if how == "POST" else "token": signed(access)} if good else {"details": "wrong"}).encode()
            self.send_response(200 if good else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            said = self.headers.get("authorization")
            known = True if said == wanted else False if said is None else None
            self.answer("GET", urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query), known)

        def do_POST(self):
            fields = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            good = fields.get("grant_type") == ["refresh_token"] and fields.get("refresh_token") == ["refresh"]
            self.answer("POST", fields, True if good else None)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    {"proxy": proxy, "token": token, "gate": gate}[sys.argv[1]](*sys.argv[2:])
