"""How Python's http.client reads an answer. A JSON array [method, base64, ended] a line on stdin, a JSON line each on stdout.

Everything is http.client's own reading, but for two things that programs do around it: an interim answer is not the answer, and a body is read until
there is no more of it.
"""

import base64
import http.client
import json
import sys

http.client._MAXHEADERS = 100_000  # nobody is to refuse what is only long
http.client._MAXLINE = 1_048_576
http.client.CONTINUE = None  # it is told of too, like every other interim answer


class Waiting(Exception):
    """A socket would wait for more here."""


class Connection:
    """The bytes of a connection, as a socket and as the file made of it."""

    def __init__(self, data, ended):
        self.data, self.ended, self.at = data, ended, 0

    def makefile(self, _mode):
        return self

    def read(self, size):
        return self.take(self.at + size)

    def readline(self, limit):
        end = self.data.find(b"\n", self.at) + 1
        return self.take(min(end or sys.maxsize, self.at + limit))

    def take(self, end):
        if end > len(self.data) and not self.ended:
            raise Waiting
        taken = self.data[self.at : end]
        self.at += len(taken)
        return taken

    def flush(self):
        pass

    def close(self):
        pass


def read(method, data, ended):
    heads, body = [], bytearray()
    try:
        state = answer(Connection(data, ended), method, heads, body)
    except Waiting:
        state = "waiting"
    except (http.client.HTTPException, ValueError):
        state = "refused"
    return {"heads": heads, "body": body.decode("latin-1"), "state": state}


def answer(connection, method, heads, body):
    while True:
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        fields = [text for field in response.msg.raw_items() for text in field]
        heads.append({"status": response.status, "headers": fields})
        if response.status >= 200 or response.status == 101:
            break
    while byte := response.read(1):
        body += byte
    return "refused" if response.length else "whole"


for line in sys.stdin:
    method, text, ended = json.loads(line)
    print(json.dumps(read(method, base64.b64decode(text), ended)), flush=True)
