"""The sandbox's files for the runner: read, write, list, stat, remove, and what is left in /output.

Every path is walked from the root, one name at a time, each opened without following a link: whatever a program renames or
swaps meanwhile, nothing is reached through a link, and what is opened is looked at before it is read. (openat2 would do the
same in one call, where a kernel has it; this does it on each.)
"""

import errno
import os
import stat
import time

from outrider_wire import CHUNK, dump, write_all

WORKSPACE = "/workspace"
READ_MAX = 8 * CHUNK
LIST_MAX, LIST_BYTES, LIST_DEPTH = 10_000, 2 << 20, 16
ARTEFACTS_MAX, ARTEFACTS_DEPTH, DIRECTORY_MAX = 256, 8, 1024
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
CLOSED = ("proc", "sys")  # what stands there is the kernel's and the agent's, not the program's


class Files:
    def __init__(self, agent):
        self.send, self.send_json = agent.send, agent.send_json
        self.reply_kind, self.data_kind = 7, 8
        self.writes = {}
        self.operations = {
            "read": self.read,
            "write": self.write,
            "abandon": self.abandon,
            "list": self.list,
            "stat": self.stat,
            "remove": self.remove,
        }

    def request(self, ident, ask):
        try:
            reply = self.operations[ask["op"]](ident, ask)
        except OSError as error:
            reply = refusal(error)
        except (KeyError, ValueError) as error:
            reply = {"ok": False, "errno": "EINVAL", "message": str(error)}
        self.send_json(self.reply_kind, ident, reply)

    def read(self, ident, ask):
        """At most 512 KiB of a regular file: never of a fifo that hangs, a device, or something swapped in between."""
        parent, name = open_parent(ask["path"])
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            data = os.pread(fd, min(ask.get("length") or READ_MAX, READ_MAX), ask.get("offset") or 0)
        finally:
            os.close(fd)
        for at in range(0, len(data), CHUNK):
            self.send(self.data_kind, ident, data[at : at + CHUNK])
        return {"ok": True, "size": len(data)}

    def write(self, ident, ask):
        parent, name = open_parent(ask["path"], make=True)
        temporary = f".{ident}.{time.monotonic_ns():x}.part"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
        except OSError:
            os.close(parent)
            raise
        self.writes[ident] = (fd, parent, temporary, name, ask.get("mode") or 0o644)
        return {"ok": True}

    def write_data(self, ident, body):
        """A chunk; an empty one ends the file, which then appears whole."""
        entry = self.writes.get(ident)
        if entry is None:
            return
        fd, parent, temporary, name, mode = entry
        try:
            if body:
                return write_all(fd, body)
            size = os.fstat(fd).st_size
            os.fchmod(fd, mode & 0o777)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            reply = {"ok": True, "size": size}
        except OSError as error:
            remove_quietly(temporary, parent)
            reply = refusal(error)
        del self.writes[ident]
        os.close(fd)
        os.close(parent)
        self.send_json(self.reply_kind, ident, reply)

    def abandon(self, _ident, ask):
        """The rest of a file does not come: nothing of it stays."""
        entry = self.writes.pop(ask["write"], None)
        if entry:
            fd, parent, temporary, _name, _mode = entry
            remove_quietly(temporary, parent)
            os.close(fd)
            os.close(parent)
        return {"ok": True}

    def list(self, _ident, ask):
        """One page: at most 10 000 entries or 2 MiB of them, and where there are more, after which name the next begins."""
        root = absolute(ask.get("path") or WORKSPACE)
        depth = max(1, min(ask.get("depth") or 1, LIST_DEPTH))
        most = min(ask.get("most") or LIST_MAX, LIST_MAX)
        after = os.fsdecode(bytes.fromhex(ask.get("after") or "")).split("/")
        page, size = [], 0
        for entry in in_order(root, depth, after if after != [""] else []):
            size += len(dump(entry))
            if len(page) == most or (page and size > LIST_BYTES):
                last = page[-1]["path"][len(root.rstrip("/")) + 1 :]
                return {"ok": True, "files": page, "next": os.fsencode(last).hex()}
            page.append(entry)
        return {"ok": True, "files": page, "next": ""}

    def stat(self, _ident, ask):
        path = absolute(ask["path"])
        if path == "/":
            return {"ok": True, "file": describe(path, os.stat("/"), None)}
        parent, name = open_parent(path)
        try:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
            return {"ok": True, "file": describe(path, info, link_of(name, info, parent))}
        finally:
            os.close(parent)

    def remove(self, _ident, ask):
        parent, name = open_parent(ask["path"])
        try:
            if not is_directory(name, parent):
                os.unlink(name, dir_fd=parent)
            elif ask.get("recursive"):
                remove_tree(name, parent)
            else:
                os.rmdir(name, dir_fd=parent)
        finally:
            os.close(parent)
        return {"ok": True}

    def artefacts(self, root):
        """Regular files under `root`, in order of their paths, at most 256 and 8 levels deep; which, where there are more, is open."""
        try:
            entries = regular_files(root, ARTEFACTS_DEPTH, ARTEFACTS_MAX)
        except OSError:
            return []
        found = [{"path": entry["path"][len(root) + 1 :], "size": entry["size"]} for entry in entries]
        return sorted((entry for entry in found if is_text(entry["path"])), key=lambda entry: entry["path"])


def refusal(error):
    name = errno.errorcode.get(error.errno or 0, "EIO")
    return {"ok": False, "errno": name, "message": os.strerror(error.errno or 0)}


def absolute(path):
    if "\0" in path:
        raise ValueError("a path holds no NUL")
    return os.path.normpath(os.path.join(WORKSPACE, path)).replace("//", "/")


def names_of(path):
    names = [name for name in path.split("/") if name]
    if names and names[0] in CLOSED:
        raise OSError(errno.EACCES, "not the program's")
    return names


def open_directory(names, make=False):
    """The directory at the end of these names. No name may be a link, now or while this looks."""
    fd = os.open("/", DIRECTORY)
    for name in names:
        try:
            below = os.open(name, DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            if not make:
                os.close(fd)
                raise
            try:
                os.mkdir(name, 0o755, dir_fd=fd)
                below = os.open(name, DIRECTORY, dir_fd=fd)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            link = error.errno == errno.ENOTDIR and is_link(name, fd)
            os.close(fd)
            if link:
                raise OSError(errno.ELOOP, "a link") from None
            raise
        os.close(fd)
        fd = below
    return fd


def open_parent(path, make=False):
    """The directory of a path, and its last name."""
    *names, last = names_of(absolute(path)) or [None]
    if last is None:
        raise OSError(errno.EISDIR, "the root")
    return open_directory(names, make), last


def is_link(name, parent):
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False


def link_of(name, info, parent):
    return os.readlink(name, dir_fd=parent) if stat.S_ISLNK(info.st_mode) else None


def describe(path, info, link):
    kind = KINDS.get(stat.S_IFMT(info.st_mode), "other")
    entry = {"path": path, "type": kind, "size": info.st_size, "mode": info.st_mode & 0o7777, "mtime": info.st_mtime}
    if link is not None:
        entry["link"] = link
    return entry


def in_order(path, depth, after):
    """
    What is in a directory and below it, by name, each directory before what is in it. `after`: only what follows the entry of these
    names, which need not be there any more.
    """
    fd = open_directory(names_of(path))
    try:
        first = after[0] if after else ""
        for name in sorted_names(fd, first):
            entry = look(fd, name, f"{path.rstrip('/')}/{name}")
            if entry is None:
                continue
            known = bool(after) and name == first
            if not known:
                yield entry
            if depth > 1 and entry["type"] == "directory":
                try:
                    yield from in_order(entry["path"], depth - 1, after[1:] if known else [])
                except OSError:
                    pass  # gone, or not to be listed
    finally:
        os.close(fd)


def sorted_names(fd, first):
    """The names in a directory from `first` on, in order; however many there are, no more than a page of them is held."""
    from heapq import nsmallest

    last = None
    while True:
        with os.scandir(fd) as entries:
            names = nsmallest(LIST_MAX + 1, (entry.name for entry in entries if entry.name >= first and entry.name != last))
        yield from names
        if len(names) <= LIST_MAX:
            return
        first = last = names[-1]


def regular_files(root, depth, most):
    """Regular files in a directory and below it, at most so many."""
    found, queue = [], [(root, depth)]
    while queue:
        path, depth = queue.pop()
        try:
            fd = open_directory(names_of(path))
        except OSError:
            if path == root:
                raise
            continue  # gone, or not to be listed
        try:
            with os.scandir(fd) as entries:
                names = sorted(entry.name for entry, _ in zip(entries, range(most + DIRECTORY_MAX)))
            for name in names:
                entry = look(fd, name, f"{path.rstrip('/')}/{name}")
                if entry is None:
                    continue
                if depth > 1 and entry["type"] == "directory":
                    queue.append((entry["path"], depth - 1))
                if entry["type"] == "file":
                    found.append(entry)
                if len(found) == most:
                    return found
        finally:
            os.close(fd)
    return found


def look(parent, name, path):
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        return describe(path, info, link_of(name, info, parent))
    except OSError:  # gone meanwhile
        return None


def remove_tree(name, parent):
    """As deep as it may be, without a descriptor for each level: what is inside is first moved up beside its directory."""
    top = os.open(name, DIRECTORY, dir_fd=parent)
    aside = f".{time.monotonic_ns():x}"
    moved = 0
    try:
        while names := names_in(top):
            for name_inside in names:
                if not is_directory(name_inside, top):
                    os.unlink(name_inside, dir_fd=top)
                    continue
                inside = os.open(name_inside, DIRECTORY, dir_fd=top)
                try:
                    for below in names_in(inside):
                        moved += 1
                        if is_directory(below, inside):
                            os.rename(below, f"{aside}.{moved}", src_dir_fd=inside, dst_dir_fd=top)
                        else:
                            os.unlink(below, dir_fd=inside)
                finally:
                    os.close(inside)
                os.rmdir(name_inside, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def names_in(fd):
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries]


def is_directory(name, parent):
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def remove_quietly(name, parent):
    try:
        os.unlink(name, dir_fd=parent)
    except OSError:
        pass


def is_text(name):
    try:
        name.encode()
        return True
    except UnicodeEncodeError:
        return False
