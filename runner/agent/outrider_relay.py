"""The program's connections to the sidecar: bytes in and out with bounded memory, nothing understood."""

import _socket
import select

from outrider_wire import CHUNK

EGRESS = "/run/outrider/egress"
BUFFER = 256 << 10
# The 256 that the sidecar takes, and the 64 that wait there for a place or are told that there is none: it is the one to say so.
CONNECTIONS = 320
# Where every read goes: what the other side takes at once is never copied. Pages that nothing was read into cost nothing.
SCRATCH = memoryview(bytearray(BUFFER))


class Relays:
    """Every connection of the program that runs."""

    def __init__(self, agent):
        self.agent = agent
        self.open = set()

    def accept(self, listener):
        try:
            near = _socket.socket(fileno=listener._accept()[0])
        except OSError:  # also BlockingIOError: it has gone again
            return
        far = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            if self.agent.running is None or len(self.open) >= CONNECTIONS:
                raise ConnectionRefusedError
            far.connect(EGRESS)
        except OSError:  # no sidecar: no traffic
            near.close()
            far.close()
            return
        near.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.open.add(Relay(self, near, far))

    def drop(self):
        for relay in tuple(self.open):
            relay.close()


class Relay:
    """One connection of the program, carried to the sidecar and back."""

    def __init__(self, relays, near, far):
        self.relays, self.agent = relays, relays.agent
        self.other = {near: far, far: near}
        self.buffer = {near: bytearray(), far: bytearray()}  # bytes to be written to the key
        self.ended = set()  # sockets that nothing more is read from
        self.shut = set()  # sockets that nothing more is written to
        self.handlers = {sock: lambda events, sock=sock: self.on_event(sock, events) for sock in self.other}
        for sock in self.other:
            sock.setblocking(False)
            self.update(sock)

    def update(self, sock):
        if sock in self.ended and sock in self.shut:  # what else is told of it would be told without end
            return self.agent.unwatch(sock.fileno())
        reading = sock not in self.ended and len(self.buffer[self.other[sock]]) < BUFFER
        events = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if self.buffer[sock] else 0)
        self.agent.watch(sock.fileno(), events, self.handlers[sock])

    def on_event(self, sock, events):
        gone = events & (select.EPOLLHUP | select.EPOLLERR)
        if sock not in self.ended and (gone or events & select.EPOLLIN):
            if self.read(sock) and events == select.EPOLLIN:
                return  # nothing waits that did not wait before
        elif gone:
            self.lose(sock)
        for each in self.other:
            self.write(each)
        self.pass_ends_on()
        if len(self.shut) == 2:
            return self.close()
        for each in self.other:
            self.update(each)

    def read(self, sock):
        """Whether something came, and all of it has gone on."""
        try:
            count = sock.recv_into(SCRATCH)
        except BlockingIOError:
            return False
        except OSError:
            self.lose(sock)
            count = 0
        if count:
            return self.carry(self.other[sock], SCRATCH[:count])
        self.ended.add(sock)
        return False

    def lose(self, sock):
        """It takes nothing any more, so that nothing for it is read. What it said itself still goes on: it may be why it went."""
        self.shut.add(sock)
        self.buffer[sock].clear()
        self.ended.add(self.other[sock])

    def carry(self, target, data):
        """Sends what the target takes now, and keeps the rest; whether that is nothing. An error is found again, and handled, when that is written."""
        sent = 0
        if not self.buffer[target]:
            try:
                sent = target.send(data)
            except OSError:
                pass
        if sent < len(data):
            self.buffer[target] += data[sent:]
        return sent == len(data)

    def write(self, target):
        pending = self.buffer[target]
        try:
            while pending:
                with memoryview(pending) as view:
                    sent = target.send(view[:CHUNK])
                del pending[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.lose(target)

    def pass_ends_on(self):
        """An end-of-file goes on to the other side when everything before it has gone."""
        for end in self.ended:
            target = self.other[end]
            if not self.buffer[target] and target not in self.shut:
                self.shut.add(target)
                try:
                    target.shutdown(_socket.SHUT_WR)
                except OSError:  # it has gone by itself
                    pass

    def close(self):
        self.relays.open.discard(self)
        self.handlers.clear()  # they refer back to this
        for sock in self.other:
            self.agent.unwatch(sock.fileno())
            sock.close()
