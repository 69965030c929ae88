"""The sandbox's own process: pid 1, talks to the runner, starts payloads, relays to the sidecar.

Promises (DESIGN D2, D3): it connects out over a unix socket and listens only on the sandbox's loopback; the payload is
another process that holds none of its descriptors and may not look into it (it is not dumpable, and where the box's kernel is
not the host's, it is another user's); a payload is started and rehearsed before anybody needs it, and gets program,
environment and files only when claimed.

Python standard library only, 3.9 or newer, and as little of that as possible: each import costs every sandbox its memory and
time. What few execs need (files, relay) is imported when it is needed. Frames: runner/frames.ts.
"""

import _signal
import _socket
import gc
import os
import resource  # also because wait4 imports it, which then would be at the end of every first program
import select
import sys

from outrider_process import SIGKILL, Kept, Payload, bequeath_nothing, changed_at, cpu_of, is_disk_full, kill_all, signal_group, take_descriptors
from outrider_wire import CHUNK, FRAME_MAX, HEADER_BYTES, OUTPUT_MAX, PR_SET_DUMPABLE, PR_SET_NAME, dump, header, parse, prctl, write_all

CONTROL = "/run/outrider/control"
RELAY_ADDRESS = ("127.0.0.1", 3128)
OUTPUT = "/output"
NODE = "/opt/node/bin/node"
SHELL = "/bin/sh"

HELLO, READY, END, FATAL, TAKEN, SKIPPED = 1, 2, 6, 9, 12, 13
START, STDIN, STDIN_CLOSE, SIGNAL, CREDIT, REQUEST, DATA_IN = 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47
PREPARE, DOOR, KILL, SHUTDOWN = 0x48, 0x49, 0x4A, 0x4F

BACKLOG = 1024

# What waits in each profile. "plain" waits with nothing loaded and becomes another program.
WAITS = {"python": "python", "python-data": "python-data", "node": "node", "shell": "plain"}
# What runs each language; anything else is a command line.
RUNS = {"python": ("python", "python-data"), "javascript": ("node",), "typescript": ("node",)}
BECOMES_ANYTHING = ("plain", "python", "python-data")


class BecomePayload(BaseException):
    """Raised in the forked child, so that the agent's stack is unwound before foreign code runs."""

    def __init__(self, kind, env):
        super().__init__()
        self.kind, self.env = kind, env


class Agent:
    def __init__(self, payload_uid):
        self.payload_uid = payload_uid
        self.poll = select.epoll()
        self.handlers, self.events = {}, {}
        self.inbox, self.outbox = bytearray(), bytearray()
        self.profile, self.env = "", {}
        self.warm = self.running = None
        self.discarded = set()
        self.files = self.relay = None
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.output_before = changed_at(OUTPUT)

    # -- start -------------------------------------------------------------------------------------------------------

    def run(self):
        _signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGPIPE):
            _signal.signal(number, _signal.SIG_IGN)
        control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        control.connect(CONTROL)
        control.setblocking(False)
        self.control = control.detach()
        self.send_json(HELLO, 0, {"version": 2, "python": sys.version.split()[0]})
        self.listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.listener.bind(RELAY_ADDRESS)
        self.listener.listen(BACKLOG)
        self.listener.setblocking(False)
        self.watch(self.wake_read, select.EPOLLIN, self.on_wake)
        self.watch(self.control, select.EPOLLIN, self.on_control)
        gc.collect()
        gc.freeze()  # what is here stays here: no collection touches its pages, so that payloads go on sharing them
        while True:
            for fd, events in self.poll.poll():
                handler = self.handlers.get(fd)
                if handler:
                    handler(events)

    def watch(self, fd, events, handler):
        before = self.events.get(fd)
        if before is None:
            self.poll.register(fd, events)
        elif before != events:
            self.poll.modify(fd, events)
        self.events[fd], self.handlers[fd] = events, handler

    def unwatch(self, fd):
        if self.handlers.pop(fd, None):
            del self.events[fd]
            self.poll.unregister(fd)

    # -- frames ------------------------------------------------------------------------------------------------------

    def send(self, kind, ident, body=b""):
        """Goes out at once as far as there is room; the rest when there is."""
        head = header(len(body), kind, ident)
        if self.outbox:
            self.outbox += head
            self.outbox += body
            return
        try:
            sent = os.writev(self.control, (head, body))
        except BlockingIOError:
            sent = 0
        if sent < len(head) + len(body):
            self.outbox += (head + body)[sent:]
            self.watch(self.control, select.EPOLLIN | select.EPOLLOUT, self.on_control)

    def send_json(self, kind, ident, value):
        self.send(kind, ident, dump(value))

    def flush(self):
        while self.outbox:
            try:
                with memoryview(self.outbox) as view:
                    sent = os.write(self.control, view[: 4 * CHUNK])
            except BlockingIOError:
                return
            del self.outbox[:sent]
        self.watch(self.control, select.EPOLLIN, self.on_control)

    def on_control(self, events):
        if events & select.EPOLLOUT:
            self.flush()
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data = os.read(self.control, CHUNK)  # more would have the allocator map and unmap it each time
        except BlockingIOError:
            return
        if not data:
            os._exit(0)  # the runner is gone: pid 1 ends, and everything with it
        self.inbox += data
        while len(self.inbox) >= HEADER_BYTES:
            end = 4 + int.from_bytes(self.inbox[:4], "big")
            if not HEADER_BYTES <= end <= FRAME_MAX + 4:
                os._exit(70)
            if len(self.inbox) < end:
                break
            kind, ident = self.inbox[4], int.from_bytes(self.inbox[5:9], "big")
            body = bytes(self.inbox[HEADER_BYTES:end])
            del self.inbox[:end]
            self.on_frame(kind, ident, body)

    def on_frame(self, kind, ident, body):
        payload = self.running
        if kind == START:
            self.start(ident, body)
        elif kind == PREPARE:
            self.on_prepare(parse(body))
        elif kind == REQUEST:
            self.with_files(lambda files: files.request(ident, parse(body)))
        elif kind == DATA_IN:
            self.with_files(lambda files: files.write_data(ident, body))
        elif kind == SHUTDOWN:
            os._exit(0)
        elif payload is None or payload.exec_id != ident:
            return  # late: the exec has ended
        elif kind == CREDIT:
            payload.credit += int.from_bytes(body, "big")
            self.watch_output(payload)
        elif kind == STDIN:
            payload.stdin_queue += body
            self.feed_stdin(payload)
        elif kind == STDIN_CLOSE:
            payload.stdin_closing = True
            self.feed_stdin(payload)
        elif kind == SIGNAL:
            signal_group(payload.pid, parse(body)["signal"])
        elif kind == DOOR:
            self.open_door()
        elif kind == KILL:
            kill_all()

    def with_files(self, work):
        """What is done with the program's files is done as the program's user: the same is allowed, and what is made is its own."""
        if self.files is None:
            from outrider_files import Files

            self.files = Files(self)
        own = os.geteuid()
        os.seteuid(own if self.payload_uid is None else self.payload_uid)
        try:
            return work(self.files)
        finally:
            os.seteuid(own)

    # -- payloads ----------------------------------------------------------------------------------------------------

    def on_prepare(self, ask):
        """Has an interpreter of the profile waiting; READY follows when it has rehearsed, FATAL where there is none."""
        self.profile, self.env = ask["profile"], ask.get("env") or self.env
        kind = WAITS.get(self.profile)
        if kind is None:
            return self.fatal(f"this sandbox has no profile {self.profile}")
        if kind == "node" and not os.access(NODE, os.X_OK):
            return self.fatal(f"the sandbox has no {NODE}, which the profile {self.profile} needs")
        if kind == "plain" and not os.access(SHELL, os.X_OK):
            return self.fatal(f"the sandbox has no {SHELL}, which the profile {self.profile} needs")
        if self.warm is None and self.running is None:
            self.warm = self.fork(kind)

    def fatal(self, message, ident=0):
        self.send_json(FATAL, ident, {"message": message[:1024]})

    def fork(self, kind):
        order_read, order_write = os.pipe2(os.O_CLOEXEC)
        status_read, status_write = os.pipe2(os.O_CLOEXEC)
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
        stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
        stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _signal.set_wakeup_fd(-1)
            self.poll.close()
            self.listener.detach()  # so that no late collection closes a number that the program uses by then
            take_descriptors(stdin_read, stdout_write, stderr_write, order_read, status_write, self.payload_uid)
            raise BecomePayload(kind, self.env)
        for fd in (order_read, status_write, stdin_read, stdout_write, stderr_write):
            os.close(fd)
        for fd in (status_read, stdin_write, stdout_read, stderr_read):
            os.set_blocking(fd, False)
        payload = Payload(kind, pid, order_write, status_read, stdin_write, stdout_read, stderr_read)
        self.watch(status_read, select.EPOLLIN, lambda _events: self.on_status(payload))
        self.watch_output(payload)
        return payload

    def start(self, ident, body):
        """Hands the order on as it came. What can wait is done while the program runs already."""
        if self.running is not None:
            return self.fatal("another program runs in this sandbox", ident)
        order = parse(body)
        payload = self.take_payload(order.get("language"))
        self.running, payload.exec_id = payload, ident
        try:
            write_all(payload.order_fd, len(body).to_bytes(4, "big") + body)
        except OSError:
            pass  # it is gone, which its end will say
        os.close(payload.order_fd)
        payload.order_fd = -1
        keep = order.get("keep")
        if keep:
            payload.kept = {fd: Kept(keep["head"], keep["tail"]) for fd in payload.open_streams}
        if order.get("door") != "shut":
            self.open_door()
        payload.stdin_closing = not order.get("stdin")
        self.feed_stdin(payload)

    def take_payload(self, language):
        """The one that waits; a new one where none waits or the one that does cannot run this."""
        payload, self.warm = self.warm, None
        suitable = RUNS.get(language, BECOMES_ANYTHING)
        if payload is not None and payload.kind in suitable:
            return payload
        if payload is not None:
            self.discard(payload)
        natural = WAITS.get(self.profile, "plain")
        return self.fork(natural if natural in suitable else suitable[0])

    def discard(self, payload):
        self.discarded.add(payload.pid)
        os.kill(payload.pid, SIGKILL)
        self.close(payload)

    def close(self, payload):
        for fd in (payload.status_fd, payload.stdin, *payload.open_streams):
            if fd >= 0:
                self.unwatch(fd)
                os.close(fd)
        if payload.order_fd >= 0:
            os.close(payload.order_fd)
        payload.open_streams = {}

    def on_status(self, payload):
        """`R` once when it is ready, or `F` and why it cannot be; later what the interpreter says of an uncaught exception."""
        try:
            data = os.read(payload.status_fd, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.unwatch(payload.status_fd)
            return self.finish(payload)
        if not payload.ready and data[:1] == b"R":
            payload.ready, data = True, data[1:]
            payload.cpu -= cpu_of(payload.pid)
            if payload is self.warm:
                self.send_json(READY, 0, {})
        payload.status = (payload.status + data)[: 2 * CHUNK]

    def watch_output(self, payload):
        for fd, kind in payload.open_streams.items():
            if payload.credit > 0 or fd in payload.kept and payload.kept[fd].head == 0:
                self.watch(fd, select.EPOLLIN, lambda _events, fd=fd, kind=kind: self.on_output(payload, fd, kind))
            else:
                self.unwatch(fd)

    def on_output(self, payload, fd, kind):
        kept = payload.kept.get(fd)
        try:
            data = os.read(fd, CHUNK if kept and kept.head == 0 else min(OUTPUT_MAX, payload.credit))
        except BlockingIOError:
            return
        if data:
            sent = kept.take(data) if kept else data
            if sent:
                payload.credit -= len(sent)
                self.send(kind, payload.exec_id, sent)
                if payload.credit <= 0:
                    self.watch_output(payload)
            return
        if kept:
            self.send_tail(payload, kind, kept)
        self.unwatch(fd)
        del payload.open_streams[fd]
        os.close(fd)
        self.finish(payload)

    def send_tail(self, payload, kind, kept):
        kept.trim()
        if kept.dropped:
            self.send(SKIPPED, payload.exec_id, bytes((kind,)) + kept.dropped.to_bytes(8, "big"))
        if kept.tail:
            self.send(kind, payload.exec_id, bytes(kept.tail))

    def feed_stdin(self, payload):
        if payload.stdin < 0:
            if payload.stdin_queue:
                self.take_stdin(payload, len(payload.stdin_queue))
            return
        try:
            while payload.stdin_queue:
                with memoryview(payload.stdin_queue) as view:
                    written = os.write(payload.stdin, view[:CHUNK])
                self.take_stdin(payload, written)
        except BlockingIOError:
            self.watch(payload.stdin, select.EPOLLOUT, lambda _events: self.feed_stdin(payload))
            return
        except OSError:  # the program closed its end: what still comes is taken and dropped
            self.take_stdin(payload, len(payload.stdin_queue))
            payload.stdin_closing = True
        self.unwatch(payload.stdin)
        if payload.stdin_closing:
            os.close(payload.stdin)
            payload.stdin = -1

    def take_stdin(self, payload, size):
        del payload.stdin_queue[:size]
        self.send(TAKEN, payload.exec_id, size.to_bytes(4, "big"))

    # -- ends --------------------------------------------------------------------------------------------------------

    def on_wake(self, _events):
        try:
            os.read(self.wake_read, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return self.on_alone()
            if pid == 0:
                break
            self.on_reaped(pid, status, usage)
        if self.running is not None and self.running.exit is not None:
            kill_all()  # the exec is over with its main process: what it left in the background ends now, so the pipes do too

    def on_reaped(self, pid, status, usage):
        payload = self.running
        if pid in self.discarded:
            self.discarded.discard(pid)
        elif payload is not None:  # of the program, also where only pid 1 was left to adopt it
            payload.cpu += usage.ru_utime + usage.ru_stime
            payload.maxrss = max(payload.maxrss, usage.ru_maxrss)
            if pid == payload.pid:
                payload.exit = status
                payload.disk_full = status != 0 and is_disk_full()
                self.shut_door()
        elif self.warm is not None and pid == self.warm.pid:
            payload, self.warm = self.warm, None
            try:
                payload.status += os.read(payload.status_fd, CHUNK)
            except OSError:
                pass
            self.close(payload)
            self.fatal(last_words(payload))

    def on_alone(self):
        """No process is left but this one."""
        payload = self.running
        if payload is not None and payload.exit is not None:
            payload.alone = True
            self.shut_door()  # once more: what it left in the background may have connected before it was ended
            self.finish(payload)

    def finish(self, payload):
        """END, once every process of it is reaped and everything that it wrote has been sent."""
        if payload is not self.running or not payload.alone or payload.open_streams or payload.status_fd in self.handlers:
            return
        if not payload.ready and payload.status[:1] == b"F":  # nothing of the program has run
            self.running = None
            self.close(payload)
            return self.fatal(last_words(payload), payload.exec_id)
        end = {"cpu": max(0.0, payload.cpu), "maxrss": payload.maxrss * 1024, "disk": payload.disk_full}
        if os.WIFSIGNALED(payload.exit):
            end["signal"] = os.WTERMSIG(payload.exit)
        else:
            end["exit"] = os.WEXITSTATUS(payload.exit)
        if payload.status:
            end["exception"] = parse_exception(payload.status)
        if changed_at(OUTPUT) != self.output_before:
            end["artefacts"] = self.with_files(lambda files: files.artefacts(OUTPUT))
        self.running = None
        self.send_json(END, payload.exec_id, end)
        self.close(payload)

    # -- door --------------------------------------------------------------------------------------------------------

    def open_door(self):
        """From here on the program's connections are served; those that came before wait in the backlog."""
        self.watch(self.listener.fileno(), select.EPOLLIN, self.on_connection)

    def on_connection(self, _events):
        if self.relay is None:
            from outrider_relay import Relays

            self.relay = Relays(self)
        self.relay.accept(self.listener)

    def shut_door(self):
        """Connections of a program end with it: none may be served in the name of the next one."""
        self.unwatch(self.listener.fileno())
        if self.relay is not None:
            self.relay.drop()
        while True:
            try:
                os.close(self.listener._accept()[0])
            except BlockingIOError:
                return
            except OSError:  # one that was reset while it waited
                continue


def last_words(payload):
    """Why an interpreter could not be made ready."""
    said = payload.status[1:].decode("utf-8", "replace") if payload.status[:1] == b"F" else ""
    return said or "the waiting interpreter ended"


def parse_exception(status):
    """What the payload's interpreter said: untrusted, so only three bounded texts are taken from it."""
    try:
        value = parse(status)
        return {key: str(value[key])[:limit] for key, limit in (("type", 256), ("message", 8192), ("traceback", 65536))}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def lower(limit, most):
    """For this process and everything in the box. Never raises what it was given."""
    hard = resource.getrlimit(limit)[1]
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(limit, (least, least))


def main():
    """Its argument, where there is one, is the user of payloads: it is root then, of a kernel that is the box's own."""
    payload_uid = int(sys.argv[1]) if len(sys.argv) > 1 else None
    if payload_uid is not None:
        bequeath_nothing()
    if prctl(PR_SET_DUMPABLE, 0) != 0:
        raise SystemExit("the agent could not be made undumpable")
    prctl(PR_SET_NAME, b"outrider-agent")
    os.closerange(3, 4096)
    os.umask(0o022)
    lower(resource.RLIMIT_CORE, 0)  # a dump would be given to whatever handles them on the host
    lower(resource.RLIMIT_NOFILE, 4096)
    try:
        Agent(payload_uid).run()
    except BecomePayload as role:
        kind, env = role.kind, role.env
    from outrider_payload import run_payload

    run_payload(kind, env)
