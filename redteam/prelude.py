"""Stands before every attack of `outrider redteam`: system calls by number, and one JSON line that says what came of it.

`P` holds what the attack was told: `nonce` (names what it leaves), `root` (stands before every protected path) and `places`.
Standard library only, 3.9 or newer. What is said here is never the only evidence where the host can look for itself.
"""

import ctypes
import errno
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

_X86_64 = {
    "ioctl": 16, "ptrace": 101, "mlockall": 151, "personality": 135, "pivot_root": 155, "acct": 163, "settimeofday": 164,
    "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169, "sethostname": 170, "init_module": 175, "quotactl": 179,
    "iopl": 172, "clone": 56, "sched_setscheduler": 144, "add_key": 248, "keyctl": 250, "ioprio_set": 251, "kexec_load": 246,
    "unshare": 272, "setns": 308, "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "process_vm_readv": 310, "finit_module": 313, "memfd_create": 319, "bpf": 321,
    "userfaultfd": 323, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsmount": 432,
    "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438, "mount_setattr": 442,
}
_ARM64 = {
    "ioctl": 29, "ptrace": 117, "mlockall": 230, "personality": 92, "pivot_root": 41, "acct": 89, "settimeofday": 170,
    "mount": 40, "umount2": 39, "swapon": 224, "reboot": 142, "sethostname": 161, "init_module": 105, "quotactl": 60,
    "clone": 220, "sched_setscheduler": 119, "add_key": 217, "keyctl": 219, "ioprio_set": 30, "kexec_load": 104,
    "unshare": 97, "setns": 268, "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264,
    "open_by_handle_at": 265, "process_vm_readv": 270, "finit_module": 273, "memfd_create": 279, "bpf": 280,
    "userfaultfd": 282, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsmount": 432,
    "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438, "mount_setattr": 442,
}
CALLS = _X86_64 if platform.machine() == "x86_64" else _ARM64
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Shut(Exception):
    """What was attempted did not work; the text says how it was refused."""


def say(outcome, detail):
    sys.stdout.flush()
    os.write(1, ("\n" + json.dumps({"outcome": outcome, "detail": str(detail)[:400]}) + "\n").encode())


def refused(detail=""):
    say("refused", detail)
    os._exit(0)


def escaped(detail=""):
    say("escaped", detail)
    os._exit(0)


def absent(detail=""):
    say("absent", detail)
    os._exit(0)


def call(name, *arguments):
    """One system call. Returns its result; raises OSError."""
    if name not in CALLS:
        raise Shut("not on this machine")
    given = [argument if not isinstance(argument, int) else ctypes.c_long(argument) for argument in arguments]
    result = libc.syscall(ctypes.c_long(CALLS[name]), *given)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def reach(name, *arguments, shut=(errno.EPERM, errno.EACCES, errno.ENOSYS)):
    """Whether a call gets past the question of permission: also an answer like EINVAL says that it did."""
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno in shut:
            raise Shut(errno.errorcode.get(error.errno, error.errno)) from None
        return f"reached ({errno.errorcode.get(error.errno, error.errno)})"
    return "allowed"


def attempt(work):
    """In a child, so that what it breaks or what breaks it stays there: (worked, detail)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            detail, worked = work(), True
        except Shut as error:
            detail, worked = error, False
        except OSError as error:
            detail, worked = errno.errorcode.get(error.errno, error), False
        except BaseException as error:
            detail, worked = f"{type(error).__name__}: {error}", False
        os.write(write, json.dumps([worked, str(detail)[:200]]).encode())
        os._exit(0)
    os.close(write)
    told = b""
    while chunk := os.read(read, 4096):
        told += chunk
    os.close(read)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return False, signal.Signals(os.WTERMSIG(status)).name
    return tuple(json.loads(told)) if told else (False, "ended")


def every(**ways):
    """Tries each way in a process of its own, and says which worked. One that works is an escape."""
    results = {name: attempt(work) for name, work in ways.items()}
    through = [f"{name}: {detail}" for name, (worked, detail) in results.items() if worked]
    if through:
        held = [f"{name} {detail}" for name, (worked, detail) in results.items() if not worked]
        escaped("; ".join(through) + (f" (not {', '.join(held)})" if held else ""))
    refused(", ".join(f"{name} {detail}" for name, (_, detail) in results.items()))


def at(path):
    """A protected path: as it is in a sandbox, below a directory of its own in a control."""
    return P["root"] + path


def put(path, text):
    """Writes to a file that is there, at once; returns what was written."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    return f"{text} written"


def linger(seconds=30):
    """Becomes a process that the host can recognise."""
    os.execv("/bin/sh", ["sh", "-c", f"sleep {seconds}; : {P['nonce']}"])


def fill(path, size, step=1 << 20):
    """Writes real bytes until there are `size`; returns how many, and why it stopped."""
    done, block = 0, b"\xa5" * step
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        while done < size:
            done += os.write(fd, block)
        return done, None
    except OSError as error:
        return done, errno.errorcode[error.errno]
    finally:
        os.close(fd)
