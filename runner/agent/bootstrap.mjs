// The Node of a sandbox: started and rehearsed before anybody needs it, then one program. Descriptor 3 brings the order, 4 takes
// the report: `R` when it is ready, later what there is to say of an uncaught exception (information, never a verdict).
import { closeSync, readFileSync, readSync, writeSync } from 'node:fs';
import { createRequire, registerHooks } from 'node:module';
import { resolve as resolvePath } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';

const ORDER = 3;
const STATUS = 4;
const CHUNK = 65_536;
const FORMATS = { javascript: 'module', typescript: 'module-typescript' };

/** Programs that have no file: URL to what the loader gets for it. */
const programs = new Map();

registerHooks({
  resolve(specifier, context, next) {
    if (/^(node:)?https?$/.test(specifier)) useProxy();
    if (/^(node:)?(https|http2|tls)$/.test(specifier)) trust();
    return programs.has(specifier)
      ? { url: specifier, shortCircuit: true }
      : next(specifier, context);
  },
  load: (url, context, next) => programs.get(url) ?? next(url, context),
});

function given(url, source, format) {
  programs.set(url, { source, format, shortCircuit: true });
}

let proxied = false;
/** What NODE_USE_ENV_PROXY does when Node starts, put off until it is needed: it takes longer than all the rest. */
function useProxy() {
  if (proxied || process.env.NODE_USE_ENV_PROXY !== '1') return;
  proxied = true;
  process.getBuiltinModule('http').setGlobalProxyFromEnv();
}

let trusting = false;
/** What NODE_EXTRA_CA_CERTS does when Node starts: the file was not there yet. */
function trust() {
  const file = process.env.NODE_EXTRA_CA_CERTS;
  if (trusting || !file) return;
  trusting = true;
  try {
    const tls = process.getBuiltinModule('tls');
    tls.setDefaultCACertificates([...tls.getCACertificates('default'), readFileSync(file, 'utf8')]);
  } catch {} // Node itself only warns of such a file
}

/** Not WebSocket: to look at it loads what is put off here. */
function proxyFetch() {
  const { fetch } = globalThis;
  globalThis.fetch = (input, init) => {
    useProxy();
    trust();
    return fetch(input, init);
  };
}

const TYPED = `interface A<T> { x: T; y?: string[] }
type B = Record<string, unknown> | null;
class C implements A<number> { private readonly z: B = null; x = 1; get(this: C, a: A<number>): number { return a.x as number; } }
export default async <T,>(b: T): Promise<number> => new C().get({ x: 1 } satisfies A<number>);`;

/** Touches what the first lines of a program touch, so that it does not pay for them. */
async function rehearse() {
  given('file:///r.mjs', "import 'node:fs'; export default `${await 1}`;", 'module');
  given('file:///r.mts', TYPED, 'module-typescript');
  for (const url of programs.keys()) await import(url);
  programs.clear();
  inspect({ a: [1, 'x', new Map()] });
  process.stdout.write('');
  process.stderr.write('');
}

function readOrder() {
  let data = Buffer.alloc(0);
  const piece = Buffer.allocUnsafe(CHUNK);
  while (data.length < 4 || data.length < 4 + data.readUInt32BE(0)) {
    const size = readSync(ORDER, piece);
    if (size === 0) process.reallyExit(0); // never claimed
    data = Buffer.concat([data, piece.subarray(0, size)]);
  }
  return JSON.parse(data.toString('utf8', 4));
}

function become({ env, cwd, args = [], name, language, code }) {
  for (const key of Object.keys(process.env)) if (!(key in env)) delete process.env[key];
  Object.assign(process.env, env);
  try {
    process.chdir(cwd);
  } catch (error) {
    writeSync(2, `${cwd}: ${error.code}\n`);
    process.reallyExit(error.code === 'ENOENT' ? 127 : 126);
  }
  const path = resolvePath(name);
  process.argv = [process.execPath, path, ...args];
  globalThis.require = createRequire(path);
  const url = pathToFileURL(path).href;
  given(url, code, FORMATS[language]);
  return url;
}

/** Does not keep Node from printing and ending as ever. */
function report(error) {
  const of = (key) => {
    try {
      return String(error?.[key] ?? '');
    } catch {
      return '';
    }
  };
  const isError = error instanceof Error;
  const said = {
    type: isError ? of('name') || 'Error' : typeof error,
    message: isError ? of('message') : of('toString') && String(error),
    traceback: of('stack'),
  };
  try {
    writeSync(STATUS, JSON.stringify(said));
  } catch {}
}

proxyFetch();
await rehearse();
writeSync(STATUS, 'R');
const order = readOrder();
closeSync(ORDER);
process.on('uncaughtExceptionMonitor', report);
await import(become(order));
