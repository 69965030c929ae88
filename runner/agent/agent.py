"""The sandbox's own process: pid 1, talks to the runner, starts payloads, relays to the sidecar.

Promises (DESIGN D2, D3): it connects out over a unix socket and listens only on the sandbox's loopback; the payload is
another process that holds none of its descriptors and may not look into it (it is not dumpable); a payload is started and
rehearsed before anybody needs it, and gets program, environment and files only when claimed.

Python standard library only, 3.9 or newer. Frames: runner/frames.ts.
"""

import ctypes
import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys

CONTROL = "/run/outrider/control"
EGRESS = "/run/outrider/egress"
RELAY_ADDRESS = ("127.0.0.1", 3128)
WORKSPACE = "/workspace"
OUTPUT = "/output"

HELLO, READY, STARTED, STDOUT, STDERR, END, REPLY, DATA, FATAL = 1, 2, 3, 4, 5, 6, 7, 8, 9
TAKEN = 0x0C
START, STDIN, STDIN_CLOSE, SIGNAL, CREDIT, REQUEST, DATA_IN, SHUTDOWN = 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x4F

HEADER = struct.Struct(">IBI")  # length of what follows, type, id
FRAME_MAX = 8 << 20
CHUNK = 64 << 10
WINDOW = 1 << 20  # bytes of output that may be under way before the runner has taken any
RELAY_BUFFER = 256 << 10
RELAY_CONNECTIONS = 256
LIST_MAX = 10_000
PR_SET_DUMPABLE, PR_SET_NAME = 4, 15
libc = ctypes.CDLL(None, use_errno=True)


class BecomePayload(BaseException):
    """Raised in the forked child, so that the agent's stack is unwound before foreign code runs."""

    def __init__(self, start_fd, status_fd):
        super().__init__()
        self.start_fd, self.status_fd = start_fd, status_fd


class Payload:
    """One forked process: first waiting and rehearsed, later running one program."""

    def __init__(self, pid, start_fd, status_fd, stdin, stdout, stderr):
        self.pid, self.start_fd, self.status_fd = pid, start_fd, status_fd
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.exec_id = 0
        self.credit = WINDOW
        self.ready = False
        self.status = b""
        self.stdin_queue = bytearray()
        self.stdin_closing = False
        self.exit = None  # (wait status, rusage) once reaped
        self.open_streams = {stdout: STDOUT, stderr: STDERR}


class Agent:
    def __init__(self):
        self.poll = select.epoll()
        self.handlers = {}
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.inbox, self.outbox = bytearray(), bytearray()
        self.warm = self.running = None
        self.writes = {}
        self.sockets = {self.control}
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    # -- start -------------------------------------------------------------------------------------------------------

    def run(self):
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        self.control.connect(CONTROL)
        self.control.setblocking(False)
        self.send_json(HELLO, 0, {"version": 1, "pid": os.getpid(), "python": sys.version.split()[0]})
        self.listener = socket.create_server(RELAY_ADDRESS, backlog=1024)
        self.listener.setblocking(False)
        self.sockets.add(self.listener)
        self.watch(self.listener.fileno(), select.EPOLLIN, self.on_relay_accept)
        self.watch(self.wake_read, select.EPOLLIN, self.on_wake)
        self.watch(self.control.fileno(), select.EPOLLIN, self.on_control)
        gc.collect()
        gc.freeze()
        self.prepare()
        while True:
            self.flush()
            for fd, events in self.poll.poll():
                handler = self.handlers.get(fd)
                if handler:
                    handler(events)

    def watch(self, fd, events, handler):
        if fd in self.handlers:
            self.poll.modify(fd, events)
        else:
            self.poll.register(fd, events)
        self.handlers[fd] = handler

    def unwatch(self, fd):
        if self.handlers.pop(fd, None):
            self.poll.unregister(fd)

    # -- frames ------------------------------------------------------------------------------------------------------

    def send(self, kind, ident, body=b""):
        self.outbox += HEADER.pack(len(body) + 5, kind, ident) + body

    def send_json(self, kind, ident, value):
        self.send(kind, ident, json.dumps(value, ensure_ascii=True).encode())

    def flush(self):
        while self.outbox:
            try:
                sent = self.control.send(memoryview(self.outbox)[:CHUNK])
            except BlockingIOError:
                break
            del self.outbox[:sent]
        wanted = select.EPOLLIN | (select.EPOLLOUT if self.outbox else 0)
        self.poll.modify(self.control.fileno(), wanted)

    def on_control(self, events):
        if not events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            data = self.control.recv(CHUNK)
        except BlockingIOError:
            return
        if not data:
            os._exit(0)  # the runner is gone: pid 1 ends, and everything with it
        self.inbox += data
        while len(self.inbox) >= 4:
            (length,) = struct.unpack_from(">I", self.inbox)
            if not 5 <= length <= FRAME_MAX:
                os._exit(70)
            if len(self.inbox) < 4 + length:
                break
            _, kind, ident = HEADER.unpack_from(self.inbox)
            body = bytes(self.inbox[9 : 4 + length])
            del self.inbox[: 4 + length]
            self.on_frame(kind, ident, body)

    def on_frame(self, kind, ident, body):
        payload = self.running
        if kind == START:
            self.start(ident, json.loads(body))
        elif kind == REQUEST:
            self.request(ident, json.loads(body))
        elif kind == DATA_IN:
            self.write_data(ident, body)
        elif kind == SHUTDOWN:
            os._exit(0)
        elif payload is None or payload.exec_id != ident:
            return  # late: the exec has ended
        elif kind == CREDIT:
            payload.credit += struct.unpack(">I", body)[0]
            self.watch_output(payload)
        elif kind == STDIN:
            payload.stdin_queue += body
            self.feed_stdin(payload)
        elif kind == STDIN_CLOSE:
            payload.stdin_closing = True
            self.feed_stdin(payload)
        elif kind == SIGNAL:
            self.kill_group(payload.pid, json.loads(body)["signal"])

    # -- payloads ----------------------------------------------------------------------------------------------------

    def prepare(self):
        """Forks the next payload; READY follows when it has rehearsed."""
        start_read, start_write = os.pipe2(os.O_CLOEXEC)
        status_read, status_write = os.pipe2(os.O_CLOEXEC)
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
        stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
        stderr_read, stderr_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self.poll.close()
            for sock in self.sockets:
                sock.detach()  # so that no late collection closes a number that the program uses by then
            become_payload(start_read, status_write, stdin_read, stdout_write, stderr_write)
        for fd in (start_read, status_write, stdin_read, stdout_write, stderr_write):
            os.close(fd)
        for fd in (status_read, stdin_write, stdout_read, stderr_read):
            os.set_blocking(fd, False)
        self.warm = Payload(pid, start_write, status_read, stdin_write, stdout_read, stderr_read)
        self.watch(status_read, select.EPOLLIN, lambda _events, payload=self.warm: self.on_status(payload))

    def start(self, ident, spec):
        payload = self.warm
        if payload is None or self.running is not None:
            return self.send_json(END, ident, {"error": "busy"})
        self.warm, self.running, payload.exec_id = None, payload, ident
        if not spec.get("stdin"):
            payload.stdin_closing = True
        message = json.dumps(spec).encode()
        try:
            write_all(payload.start_fd, struct.pack(">I", len(message)) + message)
        except OSError as error:
            return self.fail_start(payload, f"payload gone: {os.strerror(error.errno or 0)}")
        os.close(payload.start_fd)
        payload.start_fd = -1
        self.send_json(STARTED, ident, {"pid": payload.pid})
        self.feed_stdin(payload)
        self.watch_output(payload)

    def fail_start(self, payload, message):
        self.send_json(FATAL, payload.exec_id, {"message": message})
        self.kill_group(payload.pid, signal.SIGKILL)

    def on_status(self, payload):
        """READY once, later what the interpreter says of an uncaught exception."""
        try:
            data = os.read(payload.status_fd, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.unwatch(payload.status_fd)
            self.finish(payload)
        else:
            if not payload.ready and data[:1] == b"R":
                payload.ready, data = True, data[1:]
                if payload is self.warm:
                    self.send_json(READY, 0, {})
            payload.status = (payload.status + data)[: CHUNK * 2]

    def watch_output(self, payload):
        for fd, kind in payload.open_streams.items():
            if payload.credit > 0:
                self.watch(fd, select.EPOLLIN, lambda _events, fd=fd, kind=kind: self.on_output(payload, fd, kind))
            else:
                self.unwatch(fd)

    def on_output(self, payload, fd, kind):
        if payload.credit <= 0:
            return self.watch_output(payload)
        try:
            data = os.read(fd, min(CHUNK, payload.credit))
        except BlockingIOError:
            return
        if data:
            payload.credit -= len(data)
            self.send(kind, payload.exec_id, data)
            if payload.credit <= 0:
                self.watch_output(payload)
            return
        self.unwatch(fd)
        del payload.open_streams[fd]
        os.close(fd)
        self.finish(payload)

    def feed_stdin(self, payload):
        if payload.stdin < 0:
            if payload.stdin_queue:
                self.send(TAKEN, payload.exec_id, struct.pack(">I", len(payload.stdin_queue)))
                payload.stdin_queue.clear()
            return
        try:
            while payload.stdin_queue:
                written = os.write(payload.stdin, memoryview(payload.stdin_queue)[:CHUNK])
                del payload.stdin_queue[:written]
                self.send(TAKEN, payload.exec_id, struct.pack(">I", written))
        except BlockingIOError:
            self.watch(payload.stdin, select.EPOLLOUT, lambda _events: self.feed_stdin(payload))
            return
        except OSError:  # the program closed its end: what still comes is taken and dropped
            self.send(TAKEN, payload.exec_id, struct.pack(">I", len(payload.stdin_queue)))
            payload.stdin_queue.clear()
            payload.stdin_closing = True
        self.unwatch(payload.stdin)
        if payload.stdin_closing:
            os.close(payload.stdin)
            payload.stdin = -1

    def on_wake(self, _events):
        try:
            os.read(self.wake_read, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            payload = next((p for p in (self.running, self.warm) if p and p.pid == pid), None)
            if payload is None:
                continue  # an orphan of some program, adopted by pid 1
            payload.exit = (status, usage)
            if payload is self.warm:
                self.send_json(FATAL, 0, {"message": "the waiting interpreter ended"})
                self.warm = None
                continue
            # The exec is over with its main process: whatever it left in the background ends now, so the pipes do too.
            try:
                os.kill(-1, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.drop_relays()
            self.finish(payload)

    def drop_relays(self):
        """Connections of a program end with it: none may be served in the name of the next one."""
        for sock in tuple(self.sockets - {self.control, self.listener}):
            self.unwatch(sock.fileno())
            self.sockets.discard(sock)
            sock.close()
        while True:
            try:
                self.listener.accept()[0].close()
            except BlockingIOError:
                return
            except OSError:  # one that was reset while it waited
                continue

    def finish(self, payload):
        """END, once the process is reaped and everything that it wrote has been sent."""
        if payload.exit is None or payload.open_streams or payload.status_fd in self.handlers or self.running is not payload:
            return
        self.drop_relays()
        os.close(payload.status_fd)
        if payload.stdin >= 0:
            self.unwatch(payload.stdin)
            os.close(payload.stdin)
        if payload.start_fd >= 0:
            os.close(payload.start_fd)
        status, usage = payload.exit
        end = {"utime": usage.ru_utime, "stime": usage.ru_stime, "maxrss": usage.ru_maxrss * 1024}
        if os.WIFSIGNALED(status):
            end["signal"] = os.WTERMSIG(status)
        else:
            end["exit"] = os.WEXITSTATUS(status)
        end["exception"] = parse_exception(payload.status)
        end["artefacts"] = list_artefacts()
        self.running = None
        self.send_json(END, payload.exec_id, end)
        self.prepare()

    def kill_group(self, pid, number):
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    # -- files -------------------------------------------------------------------------------------------------------

    def request(self, ident, ask):
        try:
            reply = OPERATIONS[ask["op"]](self, ident, ask)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "EIO")
            reply = {"ok": False, "errno": name, "message": os.strerror(error.errno or 0)}
        except (KeyError, ValueError) as error:
            reply = {"ok": False, "errno": "EINVAL", "message": str(error)}
        if reply is not None:
            self.send_json(REPLY, ident, reply)

    def op_read(self, ident, ask):
        fd = open_regular(ask["path"])
        with open(fd, "rb") as file:
            file.seek(ask.get("offset") or 0)
            left = min(ask.get("length") or CHUNK * 8, CHUNK * 8)
            data = file.read(left)
        for at in range(0, len(data), CHUNK):
            self.send(DATA, ident, data[at : at + CHUNK])
        return {"ok": True, "size": len(data)}

    def op_write(self, ident, ask):
        path = resolve(ask["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.{ident}.part"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self.writes[ident] = (fd, temporary, path, ask.get("mode") or 0o644)
        return {"ok": True}

    def write_data(self, ident, body):
        """A chunk; an empty one ends the file, which then appears whole."""
        entry = self.writes.get(ident)
        if entry is None:
            return
        fd, temporary, path, mode = entry
        try:
            if body:
                write_all(fd, body)
                return
            size = os.fstat(fd).st_size
            os.fchmod(fd, mode & 0o777)
            os.rename(temporary, path)
            reply = {"ok": True, "size": size}
        except OSError as error:
            try:
                os.unlink(temporary)
            except OSError:
                pass
            reply = {"ok": False, "errno": errno.errorcode.get(error.errno or 0, "EIO"), "message": os.strerror(error.errno or 0)}
        os.close(fd)
        del self.writes[ident]
        self.send_json(REPLY, ident, reply)

    def op_abandon(self, _ident, ask):
        """The rest of a file does not come: nothing of it stays."""
        entry = self.writes.pop(ask["write"], None)
        if entry:
            os.close(entry[0])
            os.unlink(entry[1])
        return {"ok": True}

    def op_list(self, _ident, ask):
        root = resolve(ask.get("path") or WORKSPACE)
        found = []
        queue = [(root, max(1, min(ask.get("depth") or 1, 16)))]
        while queue and len(found) <= LIST_MAX:
            directory, depth = queue.pop()
            with os.scandir(directory) as entries:
                for entry in entries:
                    found.append(describe(entry.path))
                    if len(found) > LIST_MAX:
                        break
                    if depth > 1 and entry.is_dir(follow_symlinks=False):
                        queue.append((entry.path, depth - 1))
        found.sort(key=lambda entry: entry["path"])
        reply = {"ok": True, "files": found[:LIST_MAX], "truncated": len(found) > LIST_MAX}
        while len(json.dumps(reply)) > FRAME_MAX - 64:
            reply["files"] = reply["files"][: len(reply["files"]) // 2]
            reply["truncated"] = True
        return reply

    def op_stat(self, _ident, ask):
        return {"ok": True, "file": describe(resolve(ask["path"]))}

    def op_remove(self, _ident, ask):
        path = resolve(ask["path"])
        if os.path.isdir(path) and not os.path.islink(path):
            if ask.get("recursive"):
                import shutil

                shutil.rmtree(path)
            else:
                os.rmdir(path)
        else:
            os.unlink(path)
        return {"ok": True}

    # -- relay -------------------------------------------------------------------------------------------------------

    def on_relay_accept(self, _events):
        try:
            near, _ = self.listener.accept()
        except (BlockingIOError, OSError):
            return
        if self.running is None or len(self.sockets) >= 2 * RELAY_CONNECTIONS:
            near.close()
            return
        far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            far.connect(EGRESS)
        except OSError:  # no sidecar: no traffic
            near.close()
            far.close()
            return
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Relay(self, near, far)


class Relay:
    """One connection of the program, carried to the sidecar and back with bounded memory."""

    def __init__(self, agent, near, far):
        self.agent = agent
        self.other = {near: far, far: near}
        self.buffer = {near: bytearray(), far: bytearray()}  # bytes to be written to the key
        self.ended = set()  # sockets that sent end-of-file
        self.shut = set()
        agent.sockets |= {near, far}
        for sock in self.other:
            sock.setblocking(False)
            self.update(sock)

    def update(self, sock):
        reading = sock not in self.ended and len(self.buffer[self.other[sock]]) < RELAY_BUFFER
        events = (select.EPOLLIN if reading else 0) | (select.EPOLLOUT if self.buffer[sock] else 0)
        self.agent.watch(sock.fileno(), events, lambda happened, sock=sock: self.on_event(sock, happened))

    def on_event(self, sock, events):
        other = self.other[sock]
        try:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and sock not in self.ended:
                data = sock.recv(CHUNK)
                if data:
                    self.buffer[other] += data
                else:
                    self.ended.add(sock)
            elif events & (select.EPOLLHUP | select.EPOLLERR) and not self.buffer[sock]:
                return self.close()
            for target in (other, sock):
                pending = self.buffer[target]
                while pending:
                    del pending[: target.send(memoryview(pending)[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            return self.close()
        for end in tuple(self.ended):
            target = self.other[end]
            if not self.buffer[target] and target not in self.shut:
                self.shut.add(target)
                try:
                    target.shutdown(socket.SHUT_WR)
                except OSError:
                    return self.close()
        if len(self.shut) == 2:
            return self.close()
        for sock in self.other:
            self.update(sock)

    def close(self):
        for sock in self.other:
            self.agent.unwatch(sock.fileno())
            self.agent.sockets.discard(sock)
            sock.close()


OPERATIONS = {
    "read": Agent.op_read,
    "write": Agent.op_write,
    "abandon": Agent.op_abandon,
    "list": Agent.op_list,
    "stat": Agent.op_stat,
    "remove": Agent.op_remove,
}


def resolve(path):
    if "\0" in path:
        raise ValueError("a path holds no NUL")
    return os.path.normpath(os.path.join(WORKSPACE, path))


def open_regular(path):
    """A regular file, or an error: never a fifo that hangs, a device, or something swapped in between."""
    fd = os.open(resolve(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def describe(path):
    info = os.lstat(path)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
    kind = kinds.get(stat.S_IFMT(info.st_mode), "other")
    entry = {"path": path, "type": kind, "size": info.st_size, "mode": info.st_mode & 0o7777, "mtime": info.st_mtime}
    if kind == "symlink":
        entry["link"] = os.readlink(path)
    return entry


def list_artefacts():
    """Regular files under /output, at most 256 and 8 levels deep; links are not followed."""
    found, queue = [], [(OUTPUT, 8)]
    while queue and len(found) < 256:
        directory, depth = queue.pop()
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries[:1024]:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if depth > 1:
                        queue.append((entry.path, depth - 1))
                elif entry.is_file(follow_symlinks=False) and len(found) < 256:
                    found.append({"path": os.path.relpath(entry.path, OUTPUT), "size": entry.stat(follow_symlinks=False).st_size})
            except (OSError, ValueError):
                continue
    return [entry for entry in found if is_text(entry["path"])]


def is_text(name):
    try:
        name.encode()
        return True
    except UnicodeEncodeError:
        return False


def parse_exception(status):
    """What the payload's interpreter said: untrusted, so only three bounded texts are taken from it."""
    try:
        value = json.loads(status or b"null")
        return {key: str(value[key])[:limit] for key, limit in (("type", 256), ("message", 8192), ("traceback", 65536))} if value else None
    except (ValueError, KeyError, TypeError):
        return None


# -- in the payload ----------------------------------------------------------------------------------------------------


def become_payload(start_fd, status_fd, stdin, stdout, stderr):
    for fd, to in ((stdin, 0), (stdout, 1), (stderr, 2)):
        os.dup2(fd, to, inheritable=True)
    low, high = sorted((start_fd, status_fd))
    for first, last in ((3, low), (low + 1, high), (high + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])):
        os.closerange(first, last)  # the agent's: control, relay, pipes
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    raise BecomePayload(start_fd, status_fd)


def rehearse():
    """Touches what the first lines of a program touch, so that it does not pay for them."""
    import codeop, linecache, random, traceback, types  # noqa: E401,F401
    import site

    site.main()
    sink = open(os.devnull, "w", encoding="utf-8")
    saved, sys.stdout = sys.stdout, sink
    try:
        exec(compile("print('x')\ntry:\n    raise ValueError('x')\nexcept ValueError as e:\n    import traceback\n    traceback.format_exc()\n", "main.py", "exec"), {"__name__": "rehearsal"})
    finally:
        sys.stdout = saved
        sink.close()


def run_payload(start_fd, status_fd):
    """Waits for a program, then is that program. Returns for a Python program that ended normally."""
    try:  # where memory runs out, the kernel takes this process before the agent
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass
    sys.stdin = open(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    rehearse()
    os.write(status_fd, b"R")
    spec = read_spec(start_fd)
    os.close(start_fd)
    os.environ.clear()
    os.environ.update(spec["env"])
    for name, limit in spec.get("rlimits", {}).items():
        number = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(number, (limit, limit))
    os.chdir(spec.get("cwd") or WORKSPACE)
    if "argv" in spec:
        exec_command(spec["argv"], spec["env"])
    run_python(spec, status_fd)


def read_spec(fd):
    def read_exactly(size):
        data = b""
        while len(data) < size:
            piece = os.read(fd, size - len(data))
            if not piece:
                os._exit(0)  # never claimed
            data += piece
        return data

    (length,) = struct.unpack(">I", read_exactly(4))
    return json.loads(read_exactly(length))


def exec_command(argv, env):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(2, f"{argv[0]}: {os.strerror(error.errno or 0)}\n".encode())
        os._exit(127 if error.errno == errno.ENOENT else 126)


def run_python(spec, status_fd):
    import linecache
    import types

    source, name = spec["code"], spec.get("name") or "main.py"
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [name, *spec.get("args", [])]
    sys.path.insert(0, os.getcwd())
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    try:
        exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        report_exception(error, status_fd)
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        raise SystemExit(1) from None


def report_exception(error, status_fd):
    import traceback

    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this file's own frame
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    try:
        sys.stdout.flush()
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
    try:
        message = str(error)
    except Exception:
        message = ""
    report = {"type": type(error).__qualname__[:256], "message": message[:4096], "traceback": text[-32768:]}
    try:
        os.set_blocking(status_fd, False)
        os.write(status_fd, json.dumps(report).encode()[: 60 << 10])
    except OSError:
        pass


def main():
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_NAME, b"outrider-agent", 0, 0, 0)
    os.closerange(3, 4096)
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        Agent().run()
    except BecomePayload as role:
        return role.start_fd, role.status_fd


if __name__ == "__main__":
    role = main()
    if role:
        run_payload(*role)
