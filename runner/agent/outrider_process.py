"""Processes of a box as the agent sees them: one payload, what its end is told by, and how everything is ended."""

import _signal
import os
import time

from outrider_wire import PR_CAPBSET_DROP, PR_SET_DUMPABLE, prctl

STDOUT, STDERR = 4, 5  # the frames that carry them
DROP_PER_S = 256 << 20  # of output that nobody keeps: faster would take the machine from the neighbours
WINDOW = 256 << 10  # bytes of output that may be under way before the runner has taken any
DISKS = ("/workspace", "/output", "/tmp", "/dev/shm")
SIGKILL = 9


class Payload:
    """One forked process: first waiting and rehearsed, later running one program."""

    def __init__(self, kind, pid, order_fd, status_fd, stdin, stdout, stderr):
        self.kind, self.pid, self.order_fd, self.status_fd, self.stdin = kind, pid, order_fd, status_fd, stdin
        self.open_streams = {stdout: STDOUT, stderr: STDERR}
        self.kept = {}  # by descriptor, where not everything is sent
        self.exec_id = 0
        self.credit = WINDOW
        self.ready = False
        self.status = b""
        self.stdin_queue = bytearray()
        self.stdin_closing = False
        self.exit = None  # the wait status, once reaped
        self.alone = False  # whether nothing of it is left
        self.cpu = 0.0  # seconds, of everything that was reaped since its start, less what waiting had cost
        self.maxrss = 0
        self.disk_full = False


class Kept:
    """Of one stream: the first bytes are sent, the last are kept until its end, and what is between is only counted."""

    def __init__(self, head, tail):
        self.head, self.most = head, tail
        self.tail, self.dropped = bytearray(), 0

    def take(self, data):
        """What of it is to be sent now."""
        if self.head == 0:
            time.sleep(len(data) / DROP_PER_S)
        sent = data[: self.head]
        self.head -= len(sent)
        self.tail += data[len(sent) :]
        if len(self.tail) > 4 * self.most + 65536:  # not each time: it moves what stays
            self.trim()
        return sent

    def trim(self):
        over = max(0, len(self.tail) - self.most)
        self.dropped += over
        del self.tail[:over]


def bequeath_nothing():
    """An agent that is root keeps what it needs to end payloads and to make them another user's; nobody gets it after them."""
    os.setgroups([])
    for capability in range(64):
        if prctl(PR_CAPBSET_DROP, capability) != 0:  # beyond the last that this kernel knows
            if capability == 0:
                raise SystemExit("the agent could not give up capabilities")
            return


def take_descriptors(stdin, stdout, stderr, order, status, uid):
    """In the child: 0 to 2 are the program's, 3 brings the order, 4 takes the report; nothing of the agent's is left, its user neither."""
    for to, fd in enumerate((stdin, stdout, stderr, order, status)):  # all above 4: the agent holds those itself
        os.dup2(fd, to, inheritable=to < 3)
    os.closerange(5, 65536)
    for number in (_signal.SIGCHLD, _signal.SIGTERM, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    os.setsid()
    if uid is not None:
        os.setresuid(uid, uid, uid)
    prctl(PR_SET_DUMPABLE, 1)
    try:  # where memory runs out, the kernel takes this process before the agent
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"1000")
        os.close(fd)
    except OSError:
        pass


def signal_group(pid, number):
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def kill_all():
    """Every process of the box but this one, also those that left the program's group or session."""
    try:
        os.kill(-1, SIGKILL)
    except ProcessLookupError:
        pass


def cpu_of(pid):
    """Seconds of processor time of another process: its clock, as clock_getcpuclockid(3) makes it on Linux."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except (OSError, OverflowError):
        return 0.0


def is_disk_full():
    """Whether one of the writable file systems has no block or no inode left."""
    for path in DISKS:
        try:
            disk = os.statvfs(path)
        except OSError:
            continue
        if disk.f_blocks > 0 and disk.f_bavail == 0 or disk.f_files > 0 and disk.f_favail == 0:
            return True
    return False


def changed_at(path):
    """When a name in this directory was last made or removed: a time that no program can set."""
    try:
        return os.stat(path).st_ctime_ns
    except OSError:
        return 0
