"""A client of tunnels: `tunnel_client.py PROXY AUTHORITY NAME MIB`. Asks the proxy, on a port of loopback or a socket, for a tunnel,
says a TLS hello to NAME in it, and prints at how many megabytes a second MIB of what came back were read."""

import os
import socket
import ssl
import sys
import time

proxy, authority, name, mib = sys.argv[1:5]
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {0})
if proxy.isdigit():
    connection = socket.create_connection(("127.0.0.1", int(proxy)))
else:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(proxy)
connection.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
answer = b""
while b"\r\n\r\n" not in answer:
    more = connection.recv(4096)
    assert more, answer
    answer += more
assert answer.split(b" ", 2)[1] == b"200", answer

incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
try:
    hello.do_handshake()
except ssl.SSLWantReadError:
    pass
connection.sendall(outgoing.read())

buffer = bytearray(1 << 20)
left = int(mib) << 20
warm = left // 8  # until then the sockets' buffers grow
begun = None
counted = 0
while left > 0:
    got = connection.recv_into(buffer)
    assert got, "the tunnel ended"
    left -= got
    if begun is not None:
        counted += got
    elif left < (int(mib) << 20) - warm:
        begun = time.perf_counter()
print(counted / 1e6 / (time.perf_counter() - begun))
