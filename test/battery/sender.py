"""The program inside the sandbox: sends what it is told to and says what came back. One JSON line in, one JSON line out.

A line is {"id", "steps": [...], "timeoutMs"}; each step works on the one connection that the first has opened:
  connect            to the relay, as any program here would; `helper`: through a relay of our own before it;
                     `socket`: to the door's own socket, past the relay
  open BYTES         sends BYTES (base64), reads the head of the answer; goes on only after "200"
  socks BYTES        greets, sends BYTES, reads the reply; goes on only after 0
  tls {name, alpn}   TLS as a client that trusts what a program here trusts; `verify` false: whatever it is shown
  send BYTES         `times` over; `every`: so many bytes at a time, each in a packet of its own
  pause MS           so that what was sent is on its way
  reset              breaks the connection
  read {want}        until the end, `want` whole answers (`last`: and no more), or (want 0) a quiet moment after the first byte
  hold MS            reads until the other side ends it, or so long
  crowd {count}      so many connections at once, each with one of `sends`, for `holdMs`
  udp {host, port}   a datagram past the door
"""
import base64, json, re, select, socket, ssl, sys, threading, time

DOOR = "/run/outrider/egress"
KEPT = 262144  # bytes of an answer that are told; the rest is counted
AFTER = 0.12  # a second answer, or the end, follows the first within this


class Stop(Exception):
    pass


def answers(data):
    """How many whole answers `data` is, or None where it ends within one."""
    count = 0
    while data:
        head, mark, rest = data.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        if not mark or not status:
            return None
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        chunked = re.search(rb"\r\ntransfer-encoding: *chunked", head, re.I)
        if status[1][:1] == b"1" and status[1] != b"101":
            data = rest
            continue
        if chunked:
            body, end, rest = rest.partition(b"0\r\n\r\n")
            if not end:
                return None
            data = rest
        elif length:
            if len(rest) < int(length[1]):
                return None
            data = rest[int(length[1]):]
        else:
            return None
        count += 1
    return count


def helper():
    """Listens for one connection and passes it on, byte by byte, as a program with a proxy of its own would. Returns the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def serve():
        inner, _ = listener.accept()
        outer = socket.create_connection(("127.0.0.1", 3128))
        listener.close()
        threading.Thread(target=copy, args=(inner, outer), daemon=True).start()
        copy(outer, inner)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


class Line:
    def __init__(self, order):
        self.seen = {"id": order["id"], "opened": None, "reply": None, "tls": None, "error": None, "eof": False, "length": 0}
        self.data = b""
        self.started = time.monotonic()
        self.deadline = time.monotonic() + order.get("timeoutMs", 12000) / 1000
        self.socket = None

    def left(self):
        return max(0.001, self.deadline - time.monotonic())

    def receive(self, wait):
        """The next bytes; None when nothing came in time, b"" at the end."""
        if not (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
            if not select.select([self.socket], [], [], min(wait, self.left()))[0]:
                return None
        self.socket.settimeout(self.left())
        try:
            data = self.socket.recv(65536)
            self.seen.setdefault("firstMs", (time.monotonic() - self.started) * 1000)
            return data
        except (ConnectionError, ssl.SSLError) as error:
            self.seen["error"] = type(error).__name__
            return b""

    def connect(self, step):
        if step["connect"] == "socket":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(self.left())
            return self.socket.connect(DOOR)
        port = helper() if step["connect"] == "helper" else 3128
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=self.left())
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def open(self, step):
        self.put(base64.b64decode(step["open"]))
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.receive(self.left())
            if not more:
                break
            head += more
        status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        self.seen["opened"] = int(status[1]) if status else 0
        if self.seen["opened"] != 200:
            self.data = head
            if not head:
                self.seen["eof"] = more == b""
                raise Stop
            self.read({"read": {"want": 1}})
            raise Stop

    def socks(self, step):
        self.put(b"\x05\x01\x00")
        self.exactly(2)
        self.put(base64.b64decode(step["socks"]))
        reply = self.exactly(10)
        self.seen["reply"] = reply[1]
        if reply[1] != 0:
            more = self.receive(2)
            self.seen["eof"] = more == b""
            raise Stop

    def exactly(self, count):
        got = b""
        while len(got) < count:
            self.socket.settimeout(self.left())
            more = self.socket.recv(count - len(got))
            if not more:
                self.seen["eof"] = True
                raise Stop
            got += more
        return got

    def tls(self, step):
        told = step["tls"]
        context = ssl.create_default_context()
        context.check_hostname = False
        if not told.get("verify", True):
            context.verify_mode = ssl.CERT_NONE
        if told.get("alpn"):
            context.set_alpn_protocols(told["alpn"])
        self.socket.settimeout(self.left())
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname=told.get("name"))
        except (OSError, ValueError) as error:
            self.seen["tls"] = type(error).__name__ + ": " + str(error)
            self.seen["eof"] = True
            raise Stop
        self.seen["tls"] = "ok"

    def send(self, step):
        data, every = base64.b64decode(step["send"]) * (step.get("times") or 1), step.get("every") or 0
        if not every:
            return self.put(data)
        for at in range(0, len(data), every):
            self.put(data[at : at + every])
            time.sleep(0.002)

    def put(self, data):
        self.socket.settimeout(self.left())
        try:
            self.socket.sendall(data)
        except (ConnectionError, ssl.SSLError, socket.timeout) as error:
            self.seen["error"] = type(error).__name__  # what was answered before is still read

    def pause(self, step):
        time.sleep(step["pause"] / 1000)

    def reset(self, step):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()
        self.socket = None
        raise Stop

    def read(self, step):
        want = step["read"].get("want", 1)
        self.seen["length"] = len(self.data)
        wait = self.left()
        while True:
            whole = answers(self.data) if want and len(self.data) <= KEPT else None
            if step["read"].get("last") and whole is not None and whole >= want:
                return
            if want and self.data:
                closing = b"\r\nconnection: close" in self.data.lower()
                framed = re.search(rb"\r\n(?:content-length|transfer-encoding):", self.data, re.I)
                unfinished = self.left() if framed or b"\r\n\r\n" not in self.data else 1.5  # a tunnel, or until the end
                wait = unfinished if whole is None else 3 if closing else AFTER if whole >= want else 0.5
            elif self.data:
                wait = 0.25
            more = self.receive(wait)
            if more is None:
                return
            if not more:
                self.seen["eof"] = True
                return
            self.seen["length"] += len(more)
            if len(self.data) <= KEPT:
                self.data += more

    def hold(self, step):
        until = time.monotonic() + step["hold"] / 1000
        while not self.seen["eof"] and time.monotonic() < until:
            more = self.receive(until - time.monotonic())
            self.data += more or b""
            self.seen["eof"] = more == b""

    def crowd(self, step):
        told = step["crowd"]
        sends = [base64.b64decode(one) for one in told["sends"]]
        lines, answers = {}, {}
        for at in range(told["count"]):
            try:
                line = socket.socket(socket.AF_UNIX) if told.get("direct") else socket.socket()
                line.settimeout(2)
                line.connect(DOOR if told.get("direct") else ("127.0.0.1", 3128))
                line.sendall(sends[at % len(sends)])
            except OSError:
                continue
            line.setblocking(False)
            lines[line.fileno()] = line
        connected = len(lines)
        until = time.monotonic() + told["holdMs"] / 1000
        poll = select.poll()
        for number in lines:
            poll.register(number, select.POLLIN)
        while lines and time.monotonic() < until:
            for number, _ in poll.poll(100):
                try:
                    data = lines[number].recv(4096)
                except OSError:
                    data = b""
                answers[number] = answers.get(number, b"")[:4096] + data
                if not data:
                    poll.unregister(number)
                    lines.pop(number).close()
        handshakes = sum(b"\x16\x03\x03" in data for data in answers.values())
        self.seen["crowd"] = {"connected": connected, "open": len(lines), "handshakes": handshakes}
        for line in lines.values():
            line.close()

    def udp(self, step):
        told = step["udp"]
        kind = socket.AF_INET6 if ":" in told["host"] else socket.AF_INET
        self.socket = socket.socket(kind, socket.SOCK_STREAM if told.get("tcp") else socket.SOCK_DGRAM)
        self.socket.settimeout(1)
        self.socket.connect((told["host"], told["port"]))
        self.socket.send(base64.b64decode(told["payload"]))
        self.data = self.socket.recv(4096)

    def run(self, steps):
        try:
            for step in steps:
                name = next(key for key in ("connect", "open", "socks", "tls", "send", "pause", "reset", "read", "hold", "crowd", "udp") if key in step)
                getattr(self, name)(step)
        except Stop:
            pass
        except OSError as error:
            self.seen["error"] = f"{type(error).__name__}: {error.strerror or error}"
            self.seen["eof"] = True
        finally:
            if self.socket:
                self.socket.close()
        self.seen["ms"] = round((time.monotonic() - self.started) * 1000)
        self.seen["data"] = base64.b64encode(self.data[:KEPT]).decode()
        return self.seen


print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps(Line(order).run(order["steps"])), flush=True)
