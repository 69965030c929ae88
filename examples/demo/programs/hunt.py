"""Reads everything that it can read in its sandbox: environment, arguments, memory maps and files of every process.

Two things are planted first, one in a file and one in the environment and arguments of a child, so that the search is known
to find what is there. What was read goes out compressed, for whoever knows the secrets to search it.
"""

import base64
import json
import os
import subprocess
import sys
import zlib

PLANTED = "planted-" + os.urandom(12).hex()
NOT_OURS = {"/proc", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/dev"}
PUBLIC = ("/etc/ssl", "/etc/ca-certificates", "/etc/alternatives")
FILE_MAX = 1 << 16

with open("/tmp/planted", "w") as file:
    file.write(PLANTED + "-file")
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(30)", PLANTED + "-argument"],
    env={"PLANTED": PLANTED + "-environment"},
)

read, closed = [], 0


def take(path):
    global closed
    try:
        with open(path, "rb") as file:
            read.append(path.encode() + b"\n" + file.read(FILE_MAX))
    except OSError:
        closed += 1


for process in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline", "comm", "maps", "mountinfo", "status", "net/unix", "net/tcp"):
        take(f"/proc/{process}/{name}")
    try:
        for fd in os.listdir(f"/proc/{process}/fd"):
            read.append(os.readlink(f"/proc/{process}/fd/{fd}").encode())
    except OSError:
        closed += 1
for top in sorted(os.listdir("/")):
    if "/" + top in NOT_OURS:
        continue
    for folder, _, files in os.walk("/" + top):
        if folder.startswith(PUBLIC):
            continue
        for name in files:
            take(os.path.join(folder, name))
read.append(json.dumps([dict(os.environ), sys.argv]).encode())
child.kill()

everything = b"\n".join(read)
print(
    json.dumps(
        {
            "read": len(read),
            "closed": closed,
            "bytes": len(everything),
            "planted": PLANTED,
            "everything": base64.b64encode(zlib.compress(everything, 9)).decode(),
        }
    )
)
