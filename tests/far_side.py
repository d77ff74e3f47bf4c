"""Servers of the gateway's far side (gateway_stage.py). What reaches them is printed, a line of JSON for each connection at its
end: {"port", "to", "got": first bytes as text, "last": last ones, "end": "eof", "reset" or "timeout"}.

  443, 8443  TLS, answers each line with "tls NAME-OF-SNI: line"       80, 8080  HTTP/1.1 with kept-alive connections
  25         says "220 ready" first, then sends lines back             7         sends everything back, and the end
  99         reads to the end, then says how many bytes that were"""
import json
import os
import socket
import ssl
import subprocess
import sys
import threading

lock = threading.Lock()


def tell(**what):
    with lock:
        print(json.dumps(what), flush=True)


def certificate(folder):
    path = f"{folder}/far.pem"
    if not os.path.exists(path):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=a.example", "-addext", "subjectAltName=DNS:a.example,DNS:b.example",
                        "-keyout", path, "-out", f"{path}.crt"], check=True, stderr=subprocess.DEVNULL)
        with open(path, "a", encoding="ascii") as f, open(f"{path}.crt", encoding="ascii") as g:
            f.write(g.read())
    return path


def serve_tls(conn, seen, context):
    conn = context.wrap_socket(conn, server_side=True)
    while line := conn.recv(1000):
        seen.append(line)
        conn.sendall(b"tls " + (conn.sni or "none").encode() + b": " + line)


def serve_http(conn, seen, _):
    data = b""
    while more := conn.recv(65536):
        seen.append(more)
        data += more
        while b"\r\n\r\n" in data:
            head, data = data.split(b"\r\n\r\n", 1)
            if b"websocket" in head:
                conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                while more := conn.recv(1000):
                    conn.sendall(b"ws " + more)
                return
            body = b"served " + head.split(b"\r\n")[0]
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def serve_banner(conn, seen, _):
    conn.sendall(b"220 ready\r\n")
    serve_echo(conn, seen, _)


def serve_echo(conn, seen, _):
    while data := conn.recv(65536):
        seen.append(data[:1000])
        conn.sendall(data)
    conn.shutdown(socket.SHUT_WR)


def serve_count(conn, seen, _):
    n = 0
    while data := conn.recv(65536):
        seen.append(data[:10])
        n += len(data)
    conn.sendall(b"%d" % n)


def serve(conn, port, how, context):
    seen, end, to = [], "eof", conn.getsockname()[0]
    conn.settimeout(60)
    try:
        how(conn, seen, context)
    except TimeoutError:
        end = "timeout"
    except OSError as e:
        end = "reset" if isinstance(e, ConnectionResetError) else type(e).__name__
    conn.close()
    tell(port=port, to=to, got=b"".join(seen)[:300].decode("latin-1"),
         last=b"".join(seen[-3:])[-300:].decode("latin-1"), end=end)


def accept(listener, port, how, context):
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=serve, args=(conn, port, how, context), daemon=True).start()


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(sys.argv[1]))
    context.sni_callback = lambda conn, name, _: setattr(conn, "sni", name)
    ssl.SSLSocket.sni = None
    kinds = {443: serve_tls, 8443: serve_tls, 80: serve_http, 8080: serve_http, 25: serve_banner, 7: serve_echo, 99: serve_count}
    for port, how in kinds.items():
        listener = socket.create_server(("0.0.0.0", port), backlog=128)
        threading.Thread(target=accept, args=(listener, port, how, context), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


main()
