"""An HTTP proxy of the host for test_gateway_proxy.py: CONNECT only, with TLS when a certificate is given. It knows names that the
host's resolver does not. A line of JSON for each request: {"target", "auth", "status"}.
usage: host_proxy.py PORT NAME=ADDRESS,... [CERTIFICATE]"""
import json
import socket
import ssl
import sys
import threading

NAMES = dict(pair.split("=") for pair in sys.argv[2].split(","))


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()


def serve(conn, context):
    if context:
        conn = context.wrap_socket(conn, server_side=True)
    head = b""
    while b"\r\n\r\n" not in head:
        head += conn.recv(1)
    lines = head.decode().split("\r\n")
    target = lines[0].split()[1]
    auth = [line.split(": ", 1)[1] for line in lines if line.startswith("Proxy-Authorization: ")]
    host, port = target.split(":")
    status = 200 if host in NAMES else 502
    print(json.dumps({"target": target, "auth": "".join(auth), "status": status}), flush=True)
    if status != 200:
        conn.sendall(b"HTTP/1.1 502 No such host\r\nContent-Length: 0\r\n\r\n")
        return
    far = socket.create_connection((NAMES[host], int(port)), 10)
    conn.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
    thread = threading.Thread(target=pump, args=(far, conn), daemon=True)
    thread.start()
    pump(conn, far)
    thread.join()
    conn.close()


def main():
    context = None
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3])
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
    print(json.dumps("ready"), flush=True)
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=serve, args=(conn, context), daemon=True).start()


main()
