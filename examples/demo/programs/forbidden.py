"""Tries to get out in every way but the one that the policy allows, and prints what became of each, one JSON line an attempt."""

import http.client
import json
import os
import socket
import ssl
import urllib.error
import urllib.request

URL = os.environ["OUTRIDER_URL"]


def get(url, method="GET"):
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    return urllib.request.urlopen(request, timeout=10).read()


def get_directly(url):
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10).read()


def get_by_proxy(url):
    """As a program does that ignores NO_PROXY."""
    connection = http.client.HTTPConnection("127.0.0.1", 3128, timeout=10)
    connection.request("GET", url)
    status = connection.getresponse().status
    if status >= 400:
        raise OSError(f"HTTP {status}")


def connect(host, port):
    socket.create_connection((host, port), timeout=5)


def raw_socket():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def datagram(host, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"hello", (host, port))


def other_name_in_the_tunnel():
    """The tunnel to example.com is allowed; a TLS hello that names another host inside it is not."""
    with socket.create_connection(("127.0.0.1", 3128), timeout=10) as tunnel:
        tunnel.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
        head = tunnel.recv(4096)
        if not head.startswith(b"HTTP/1.1 200"):
            raise OSError(head.split(b"\r\n")[0].decode())
        context = ssl.create_default_context()
        context.wrap_socket(tunnel, server_hostname="drop.example.net")


# What it is; how to try; the target as the audit will have it, where it leaves the sandbox at all.
ATTEMPTS = [
    ("a host that no rule names", lambda: get("http://drop.example.net/"), "http://drop.example.net/"),
    ("the same, over TLS", lambda: get("https://drop.example.net/"), "drop.example.net:443"),
    ("another name inside an allowed tunnel", other_name_in_the_tunnel, "example.com:443"),
    (
        "administering the datasource",
        lambda: get(URL + "/prometheus/metrics/api/v1/admin/tsdb/delete_series", "POST"),
        "prometheus/metrics/api/v1/admin/tsdb/delete_series",
    ),
    ("writing where reading is allowed", lambda: get(URL + "/http/example/items", "POST"), "http/example/items"),
    (
        "the cloud's metadata address",
        lambda: get("http://169.254.169.254/latest/meta-data/"),
        "http://169.254.169.254/latest/meta-data/",
    ),
    ("the host's own loopback", lambda: get_by_proxy("http://localhost:9090/"), "http://localhost:9090/"),
    ("the metadata address, around the proxy", lambda: get_directly("http://169.254.169.254/"), None),
    ("a connection to the internet", lambda: connect("192.0.2.1", 443), None),
    ("the datasource's port, directly", lambda: connect("127.0.0.1", 9090), None),
    ("a datagram to a name server", lambda: datagram("192.0.2.53", 53), None),
    ("a raw socket", raw_socket, None),
    ("a name look-up", lambda: socket.getaddrinfo("example.com", 443), None),
]

for what, attempt, target in ATTEMPTS:
    try:
        attempt()
        refused, how = False, "it worked"
    except urllib.error.HTTPError as error:
        refused, how = True, f"HTTP {error.code}"
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        refused, how = True, str(getattr(reason, "strerror", None) or reason)
    print(json.dumps({"what": what, "refused": refused, "how": how, "target": target}))
