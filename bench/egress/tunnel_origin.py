"""An origin of tunnels: `tunnel_origin.py PORT SOCKET`. On the port it answers a TLS hello with as many bytes as the client then asks
for; on the socket it is the proxy of a sidecar, which says CONNECT before that. What it sends looks like TLS and is not encrypted:
what is measured is carrying it."""

import os
import socket
import struct
import sys
import threading

RECORD = b"\x17\x03\x03" + struct.pack(">H", 16384) + b"x" * 16384
PIECE = RECORD * 16


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(65536)
        if not more:
            return b""
        head += more
    return head


def serve(connection, is_proxy):
    with connection:
        if is_proxy:
            if not read_head(connection).startswith(b"CONNECT "):
                return  # audit records: the sidecar keeps them and asks again
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if not connection.recv(65536):
            return
        try:
            while True:
                connection.sendall(PIECE)
        except OSError:
            pass  # the client has had enough


def listen(listener, is_proxy):
    listener.listen(64)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, is_proxy), daemon=True).start()


tcp = socket.socket()
tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
tcp.bind(("127.0.0.1", int(sys.argv[1])))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[2])
os.chmod(sys.argv[2], 0o666)
threading.Thread(target=listen, args=(unix, True), daemon=True).start()
listen(tcp, False)
