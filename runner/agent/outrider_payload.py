"""What a forked child becomes: an interpreter that waits, rehearsed, and then is one program.

Descriptor 3 brings the order, 4 takes the report: `R` when it is ready or `F` and why it cannot be, and later what there is to
say of an uncaught exception. That report is information for a person and never a verdict.
"""

import _signal
import errno
import os
import sys

from outrider_wire import CHUNK, dump, parse

ORDER, STATUS = 3, 4
WORKSPACE = "/workspace"
NODE = "/opt/node/bin/node"
BOOTSTRAP = "/run/agent/bootstrap.mjs"
NOT_AT_START = "NODE_USE_ENV_PROXY"
SHELL = "/bin/sh"
ARGUMENT_MAX = 100_000  # the kernel takes no single argument of 128 KiB

REHEARSAL = """
print('x', f'{1.5:.2f}')
try:
    raise ValueError('x')
except ValueError as error:
    str(error)
class C:
    def __init__(self): self.x = sorted({i: str(i) for i in range(3)}.items())
with open('/dev/null') as f: f.read()
C()
"""
DATA_MODULES = ("numpy", "pandas", "matplotlib", "matplotlib.pyplot")


def run_payload(kind, env):
    """Returns for a Python program that ended normally; the interpreter then ends as ever."""
    sys.path.remove("/run/agent")
    for name in ("outrider_agent", "outrider_payload", "outrider_process", "outrider_wire"):
        sys.modules.pop(name, None)
    os.environ.clear()
    os.environ.update(env)
    if kind == "node":
        become_node(env)
    if kind != "plain":
        become_python(kind)
    os.write(STATUS, b"R")
    order = read_order()
    os.close(ORDER)
    if kind == "plain":
        os.close(STATUS)
    os.environ.clear()
    os.environ.update(order["env"])
    set_limits(order.get("rlimits") or {})
    try:
        os.chdir(order.get("cwd") or WORKSPACE)
    except OSError as error:
        refuse(order.get("cwd"), error)
    if "argv" in order:
        become(order["argv"], order["env"])
    if order.get("language") == "shell":
        become_shell(order)
    run_python(order)


def read_order():
    data = os.read(ORDER, CHUNK)
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        piece = os.read(ORDER, CHUNK)
        if not piece:
            os._exit(0)  # never claimed
        data += piece
    return parse(data[4:])


def set_limits(limits):
    if limits:
        import resource

        for name, limit in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))


def refuse(what, error):
    os.write(2, f"{what}: {os.strerror(error.errno or 0)}\n".encode("utf-8", "replace"))
    os._exit(127 if error.errno == errno.ENOENT else 126)


# -- other programs ----------------------------------------------------------------------------------------------------


def become(argv, env):
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        refuse(argv[0], error)


def become_shell(order):
    """`sh -c`; a program that is no possible argument is read from memory instead, which leaves $0, $@ and stdin as they are."""
    code, words = order["code"], [order.get("name") or "main.sh", *order.get("args", [])]
    text = code.encode("utf-8", "surrogateescape")
    if len(text) > ARGUMENT_MAX:
        fd = os.memfd_create("program", 0)
        with open(fd, "wb", closefd=False) as file:
            file.write(text)
        os.lseek(fd, 0, os.SEEK_SET)
        code = f". /dev/fd/{fd}"
    become([SHELL, "-c", code, *words], order["env"])


def become_node(env):
    """The bootstrap takes it from here: it rehearses, says so on 4, and reads the order from 3."""
    os.set_inheritable(ORDER, True)
    os.set_inheritable(STATUS, True)
    # The bootstrap does later what this makes Node do at its start.
    become([NODE, "--disable-warning=ExperimentalWarning", BOOTSTRAP], {name: env[name] for name in env if name != NOT_AT_START})


# -- Python ------------------------------------------------------------------------------------------------------------


def become_python(kind):
    """Makes this the interpreter that a program finds, and does once what its first lines would pay for."""
    sys.stdin = open(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    add_packages()
    rehearse()
    if kind == "python-data":
        try:
            silently(lambda: [__import__(name) for name in DATA_MODULES])
        except Exception as error:
            os.write(STATUS, b"F" + f"the profile {kind} needs numpy, pandas and matplotlib: {error!r}".encode()[:500])
            os._exit(1)
    import gc

    gc.freeze()  # what is loaded stays: the interpreter's end does not look through it again and again


def silently(work):
    """What a library says while it is loaded is not the program's output."""
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        work()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def add_packages():
    """What `site` does at every start, without what its .pth files would import: that costs each sandbox a megabyte."""
    import site

    for directory in site.getsitepackages():
        if os.path.isdir(directory):
            sys.path.append(directory)
            sys.path += paths_named_in(directory)
    site.setquit()
    site.setcopyright()
    site.sethelper()


def paths_named_in(directory):
    """What the lines of .pth files add to the path: https://docs.python.org/3/library/site.html."""
    for name in sorted(os.listdir(directory)):
        if name.endswith(".pth") and not name.startswith("."):
            with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as file:
                for line in file:
                    path = os.path.join(directory, line.strip())
                    if line.strip() and not line.startswith(("#", "import ", "import\t")) and os.path.exists(path):
                        yield path


def rehearse():
    saved = sys.stdout
    with open(os.devnull, "w", encoding="utf-8") as sys.stdout:
        try:
            exec(compile(REHEARSAL, "main.py", "exec"), {"__name__": "rehearsal"})
        finally:
            sys.stdout = saved


class Source:
    """The loader of __main__: tracebacks and inspect find the program's text by it, though there is no file."""

    def __init__(self, text):
        self.text = text

    def get_source(self, _name):
        return self.text


def run_python(order):
    source, name = order["code"], order.get("name") or "main.py"
    module = type(sys)("__main__")
    module.__loader__ = Source(source)
    sys.modules["__main__"] = module
    sys.argv = [name, *order.get("args", [])]
    # As python3 does at its start, which was before this program's environment was known.
    sys.path[:0] = [os.getcwd(), *(path for path in order["env"].get("PYTHONPATH", "").split(":") if path)]
    try:
        exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        report_exception(error)
        if isinstance(error, KeyboardInterrupt):
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
            os.kill(os.getpid(), _signal.SIGINT)
        raise SystemExit(1) from None


def report_exception(error):
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
        os.set_blocking(STATUS, False)
        os.write(STATUS, dump(report)[: 60 << 10])
    except OSError:
        pass
