/** For tests alone: what a program in a box tries, as Python, and what it must hear. */
export type BoxAttack = readonly [what: string, code: string, refusal: RegExp];

/** Calls the C library, and raises what it answers. */
const libc = (call: string): string =>
  `import ctypes; libc = ctypes.CDLL(None, use_errno=True); r = libc.${call}; raise OSError(ctypes.get_errno(), 'refused')`;

const READ_ONLY = /Read-only file system|PermissionError/;
const NO_ROUTE = /Network is unreachable|No route to host/;
/** EPERM, or no such call. */
const NOT_HERE = /PermissionError|Errno 38/;

/** On every backend. */
export const ATTACKS: readonly BoxAttack[] = [
  ['write outside the writable directories', `open('/usr/x', 'w')`, READ_ONLY],
  ['write into the root', `open('/x', 'w')`, READ_ONLY],
  ['write beside the sockets', `open('/run/outrider/x', 'w')`, READ_ONLY],
  ['change the agent', `open('/run/agent/agent.py', 'a')`, READ_ONLY],
  [
    'reach an address directly',
    `import socket; socket.create_connection(('203.0.113.1', 80), timeout=2)`,
    NO_ROUTE,
  ],
  ['look up a name', `import socket; socket.getaddrinfo('example.com', 80)`, /gaierror/],
  [
    'send a datagram',
    `import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('203.0.113.1', 53))`,
    NO_ROUTE,
  ],
  [
    'use a packet socket',
    `import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)`,
    /PermissionError|Address family/,
  ],
  ["reach the machine's host by vsock", `import socket; socket.socket(40, 1)`, /Address family/],
  [
    'forge a control frame',
    `import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/outrider/control')`,
    /FileNotFoundError|ConnectionRefusedError/,
  ],
  [
    "open the agent's connections",
    `
import os
for fd in range(64):
    try: link = os.readlink(f'/proc/1/fd/{fd}')
    except OSError: continue
    if link.startswith('socket:'): os.open(f'/proc/1/fd/{fd}', os.O_RDWR); os._exit(0)
raise PermissionError()
`,
    /PermissionError|No such device/,
  ],
  ["read the agent's memory", `open('/proc/1/mem', 'rb').read(1)`, /PermissionError|FileNotFound/],
  ['trace the agent', libc('ptrace(16, 1, 0, 0)'), /PermissionError/],
  ["write the agent's memory", libc('syscall(311, 1, 0, 0, 0, 0, 0)'), NOT_HERE],
  ["take the agent's descriptors", libc('syscall(438, 1, 6, 0)'), NOT_HERE],
  ['mount something', libc(`mount(b'x', b'/tmp', b'tmpfs', 0, 0)`), /PermissionError/],
  ['change its root', libc(`chroot(b'/tmp')`), /PermissionError/],
  ['set the clock', libc(`settimeofday(b'\\0' * 16, 0)`), /PermissionError/],
  ['become root', `import os; os.setuid(0)`, /PermissionError|Invalid argument/],
  [
    'use a device that it makes',
    `import os, stat; os.mknod('/tmp/d', stat.S_IFBLK | 0o666, os.makedev(1, 1)); open('/tmp/d', 'rb')`,
    /PermissionError|No such device/,
  ],
];

/** Where the box has a kernel of its own, the agent is that kernel's root and the program is not. */
export const OWN_KERNEL_ATTACKS: readonly BoxAttack[] = [
  ['end the agent', 'import os; os.kill(1, 9)', /PermissionError/],
  ['stop the agent', 'import os; os.kill(1, 19)', /PermissionError/],
  [
    "take the agent's descriptors by a limit",
    'import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))',
    /PermissionError/,
  ],
];

/** Where the kernel is the host's: seccomp and the kernel's own rules stand before these. */
export const SHARED_KERNEL_ATTACKS: readonly BoxAttack[] = [
  ["read the agent's environment", `open('/proc/1/environ').read()`, /PermissionError/],
  ["list the agent's descriptors", `import os; os.listdir('/proc/1/fd')`, /PermissionError/],
  ['make a user namespace', libc('unshare(0x10000000)'), /PermissionError/],
  ['make one by clone', libc('syscall(56, 0x10000011, 0, 0, 0, 0)'), /PermissionError/],
  ['use io_uring', libc('syscall(425, 1, 0)'), /PermissionError/],
  ['use the key ring', libc('syscall(250, 0, -3, 1)'), /PermissionError/],
  ['load a program into the kernel', libc('syscall(321, 0, 0, 0)'), /PermissionError/],
  ['use clone3', libc('syscall(435, 0, 0)'), /Errno 38/],
  ['use netlink', `import socket; socket.socket(16, 3)`, /Address family/],
  [
    'type into a terminal',
    `import fcntl; fcntl.ioctl(0, 0x5412, b'x')`,
    /PermissionError|Inappropriate/,
  ],
];
