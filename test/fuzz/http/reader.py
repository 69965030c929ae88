"""How Python's http.server reads the bytes of a connection. A base64 text a line on stdin, a JSON line each on stdout.

The head is http.server's own reading. Bodies it leaves to whoever uses it: this reads them as such programs do, with int() and
readline(), and is no stricter than that.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from urllib.parse import urlsplit


class Waiting(Exception):
    """A socket would wait for more here."""


class Refused(Exception):
    pass


class Connection(BytesIO):
    def readline(self, limit=-1):
        line = super().readline(limit)
        if not line.endswith(b"\n") and (limit < 0 or len(line) < limit):
            raise Waiting(bool(line))
        return line

    def whole(self, size):
        if size < 0:
            raise Refused
        if size > len(self.getbuffer()) - self.tell():
            raise Waiting(True)
        return self.read(size)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, data):
        self.rfile, self.wfile = Connection(data), BytesIO()
        self.client_address, self.requests, self.after = ("", 0), [], "end"
        self.close_connection = True
        try:
            self.handle_one_request()
            while not self.close_connection:
                self.handle_one_request()
            if self.after == "end" and self.rfile.tell() < len(data):
                self.after = "closed"
        except Waiting as waiting:
            self.after = "waiting" if waiting.args[0] or self.begun else "end"
        except (Refused, ValueError):
            self.after = "refused"

    def handle_one_request(self):
        self.begun = False
        self.raw_requestline = self.rfile.readline(65537)
        self.begun = True
        if len(self.raw_requestline) > 65536 or not self.parse_request():
            raise Refused
        self.requests.append(self.request())
        if self.command == "CONNECT":
            self.after, self.close_connection = "tunnel", True

    def request(self):
        body = b""
        if self.command != "CONNECT":
            body = self.chunks() if self.is_chunked() else self.sized()
        return {
            "method": self.command,
            "target": self.path,
            "url": url_of(self.path),
            "host": self.headers.get("Host"),
            "body": body.decode("latin-1"),
        }

    def is_chunked(self):
        return self.headers.get("Transfer-Encoding", "").strip().lower() == "chunked"

    def sized(self):
        return self.rfile.whole(int(self.headers.get("Content-Length", 0)))

    def chunks(self):
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.whole(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def send_error(self, *_):
        raise Refused

    def log_message(self, *_):
        pass


def url_of(target):
    try:
        url = urlsplit(target)
        port = url.port or ""
    except ValueError:
        return None
    if not url.scheme or not url.hostname:
        return None
    user = url.netloc.rpartition("@")[0]
    rest = url.path + ("?" + url.query if url.query or "?" in target else "")
    rest += "#" + url.fragment if url.fragment or "#" in target else ""
    return [url.scheme, (user + "@" if user else "") + url.hostname, str(port), rest]


for line in sys.stdin:
    handler = Handler(base64.b64decode(line))
    print(json.dumps({"requests": handler.requests, "after": handler.after}), flush=False)
    sys.stdout.flush()
