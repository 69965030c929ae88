import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Address, formatAddress, socketOptions } from '#core/address';
import { type ConfigOf, choice, isGiven, loadConfig, optionalText, text } from '#core/config';
import { takeConfigFile } from '#core/config-file';
import { OutriderError, toOutriderError } from '#core/errors';
import { closeServer, listen, removeStaleSocket } from '#core/http';
import { isRecord } from '#core/is-record';
import { createKeySet, readSigningKey } from '#core/keys';
import { endAtHangUp, untilSignal } from '#core/lifecycle';
import { isRoot, meshUser, uidOf } from '#core/mesh-user';
import { createServer, request } from '#core/node-http';
import { packageRoot } from '#core/package-root';
import { LOCAL_PRINCIPAL } from '#core/principal';
import {
  ensurePrivateDir,
  ensureRuntimeDir,
  runtimeDir,
  stateDir,
  writeMeshFile,
  writePrivateFile,
} from '#core/runtime-dir';
import { AssertionSigner } from '#core/tokens';
import { gatewaySpec } from '#gateway/config';
import { proxySpec } from '#proxy/config';
import { runnerSpec } from '#runner/config';
import { serverSpec } from '#server/config';
import { adminAddress, type SidecarConfig, sidecarSpec } from '#sidecar/config';
import { formatLine } from './log-line.ts';
import { partEnvironment } from './part-environment.ts';
import { mirrorPolicies, type PolicyMirror } from './policy-mirror.ts';
import { type PartPlan, Supervisor } from './supervisor.ts';
import { tokenFile } from './token.ts';

type Env = Readonly<Record<string, string | undefined>>;

const USAGE = `usage: outrider up [--policies DIRECTORY|BUNDLE] [--policy-keys FILE] [--config FILE] [options]

Starts proxy, runner, server and gateway on this machine and keeps them running until Ctrl-C or its terminal is closed.

  --policies DIRECTORY  policy documents, or a signed bundle of them; default: examples/quickstart/policies
  --policy-keys FILE    the public keys that a bundle may be signed with
  --policy-require bundle
                        refuse a directory
  --sharing none|host   a sidecar process for each sandbox, or one for all; default: host while the local token is the only way in
  --user UID            as root: whom the parts become, 0 to stay root; default: auto
  --config FILE         sections for each part (docs/config.md); the environment wins over it
`;

/** The supervisor's own section. */
export function upSpec() {
  return {
    policies: text(
      'The directory of policy documents, or a bundle of them, for gateway, runner and proxy',
      join(packageRoot, 'examples/quickstart/policies'),
    ),
    policyKeys: optionalText(
      'Whose bundles they load: a file of public keys, or a directory of *.pub.json and *.pem',
    ),
    policyRequire: choice('bundle: they refuse a directory', ['any', 'bundle'], 'any'),
    sharing: choice(
      'A sidecar process for each sandbox (none), or one for all (host); auto is host while the local token is the only way in, so that there is one tenant',
      ['auto', 'none', 'host'],
      'auto',
    ),
    user: meshUser(),
  };
}

/** Renewed well within the 60 s that an assertion lives. */
const ASSERTION_EVERY_MS = 20_000;
const PROBE_TIMEOUT_MS = 1_000;

/** `outrider up`: the mesh on one machine, until a signal. */
export async function up(
  argv: readonly string[],
  env: Env,
  self: readonly string[],
  out: NodeJS.WritableStream,
): Promise<number> {
  if (argv.includes('--help')) {
    out.write(USAGE);
    return 0;
  }
  const startedAt = performance.now();
  const color = process.stderr.isTTY;
  const supervisor = new Supervisor({
    self,
    print: (part, line) => void process.stderr.write(`${formatLine(part, line, color)}\n`),
  });
  const uid = process.getuid?.() ?? 0;
  const paths = { runtime: runtimeDir(env, uid), state: stateDir(env, uid) };
  let renewal: NodeJS.Timeout | undefined;
  let mirror: PolicyMirror | undefined;
  let waiting: Promise<void> | undefined;
  const localAssertion = join(paths.runtime, 'local-assertion.jwt');
  let ours = false; // until it is clear that no other mesh of this user runs, nothing here may be removed
  const stop = async (): Promise<void> => {
    clearInterval(renewal);
    await supervisor.stop();
    await mirror?.close();
    if (!ours) return;
    rmSync(localAssertion, { force: true });
    rmSync(join(paths.runtime, 'keys'), { recursive: true, force: true });
  };
  try {
    const { argv: options, file } = takeConfigFile(argv);
    const own = loadConfig('up', upSpec(), { argv: options, env, file });
    const ofAll = {
      ...policyEnvironment(own),
      ...readyEnvironment(isGiven('proxy', proxySpec(paths), 'ready.require', { env, file })),
      ...Object.fromEntries(OF_ONE_USER.map((name) => [userOf(name), String(own.user)])),
    };
    const plan = planOf(paths, { ...ofAll, ...env }, file);
    assertOneUser(plan);
    const sharing =
      own.sharing === 'auto' ? (plan.gateway.issuers.length === 0 ? 'host' : 'none') : own.sharing;
    const partEnv = { ...ofAll, OUTRIDER_RUNNER_SHARING: sharing, ...env };
    const meshUid = isRoot() ? uidOf(own.user) : 0;
    ensureRuntimeDir(paths.runtime, meshUid);
    ensurePrivateDir(paths.state);
    await assertNotRunning(plan.proxy.listen);
    await assertFree([
      plan.proxy.admin,
      ...(sharing === 'host' ? [sidecarAdmin(plan.sidecar)] : []),
      plan.runner.admin,
      plan.server.listen,
      plan.gateway.listen,
    ]);
    ours = true;
    const token = localToken(env, uid);
    const keys = createKeySet(join(paths.runtime, 'keys'));
    const signer = new AssertionSigner(readSigningKey(keys.local));
    const renew = async (): Promise<void> =>
      writeMeshFile(localAssertion, await signer.sign(LOCAL_PRINCIPAL));
    await renew();
    renewal = setInterval(() => void renew(), ASSERTION_EVERY_MS);

    const gatewayPolicies = plan.gateway.policies;
    if (meshUid !== 0 && gatewayPolicies !== undefined)
      mirror = await mirrorPolicies(gatewayPolicies, paths.runtime, meshUid, (error) =>
        process.stderr.write(`outrider up: ${toOutriderError(error).message}\n`),
      );

    waiting = untilSignal(stop);
    endAtHangUp();
    const configArgs = argv.length > options.length ? ['--config', file?.name ?? ''] : [];
    const part = (name: string, admin: Address): PartPlan => ({
      name,
      argv: [name, ...configArgs],
      env: partEnvironment(
        name,
        name === 'gateway' && mirror
          ? { ...partEnv, [policiesOf('GATEWAY')]: mirror.path }
          : partEnv,
        file?.text,
      ),
      ready: () => probe(admin),
    });
    await supervisor.start([
      part('proxy', plan.proxy.admin),
      ...(sharing === 'host' ? [part('sidecar', sidecarAdmin(plan.sidecar))] : []),
      part('runner', plan.runner.admin),
      part('server', plan.server.listen),
      part('gateway', plan.gateway.listen),
    ]);
    out.write(banner(plan, token, own.policies, performance.now() - startedAt));
    await waiting;
    return 0;
  } catch (thrown) {
    const error = toOutriderError(thrown);
    if (waiting && error.code === 'CANCELLED') {
      await waiting;
      return 0;
    }
    await stop();
    process.stderr.write(`outrider up: ${error.message}\n`);
    if (error.code === 'INTERNAL') process.stderr.write(`${String(error.cause)}\n`);
    return 1;
  }
}

/** What all that decide are told of their policies. */
function policyEnvironment(own: ConfigOf<ReturnType<typeof upSpec>>): Env {
  const keys = own.policyKeys;
  return Object.fromEntries(
    ['GATEWAY', 'RUNNER', 'PROXY'].flatMap((part) => [
      [policiesOf(part), own.policies],
      [`OUTRIDER_${part}_POLICY_REQUIRE`, own.policyRequire],
      ...(keys === undefined ? [] : [[`OUTRIDER_${part}_POLICY_KEYS`, keys]]),
    ]),
  );
}

/** A mesh for one developer starts before all of its secrets are there: calls that need one are told so. */
function readyEnvironment(isChosen: boolean): Env {
  return isChosen ? {} : { OUTRIDER_PROXY_READY_REQUIRE: 'issuers' };
}

function policiesOf(part: string): string {
  return `OUTRIDER_${part}_POLICIES`;
}

/** Every part's configuration, read here too, so that what is wrong in any of them is said before one is started. */
function planOf(
  paths: { runtime: string; state: string },
  env: Env,
  file: { name: string; text: string } | undefined,
) {
  const problems: string[] = [];
  const load = <S extends Parameters<typeof loadConfig>[1]>(
    name: string,
    spec: S,
  ): ConfigOf<S> | undefined => {
    try {
      return loadConfig(name, spec, { argv: [], env, file });
    } catch (error) {
      problems.push(toOutriderError(error).message);
      return undefined;
    }
  };
  const plan = {
    proxy: load('proxy', proxySpec(paths)),
    runner: load('runner', runnerSpec(paths)),
    server: load('server', serverSpec(paths)),
    gateway: load('gateway', gatewaySpec(paths)),
    sidecar: load('sidecar', sidecarSpec(paths)),
  };
  const { proxy, runner, server, gateway, sidecar } = plan;
  if (!proxy || !runner || !server || !gateway || !sidecar)
    throw new OutriderError(
      'CONFIG_INVALID',
      [...new Set(problems.flatMap((lines) => lines.split('\n')))].join('\n'),
    );
  return { proxy, runner, server, gateway, sidecar };
}

const OF_ONE_USER = ['proxy', 'sidecar', 'runner', 'server', 'gateway'] as const;

function userOf(part: string): string {
  return `OUTRIDER_${part.toUpperCase()}_USER`;
}

/** They meet at sockets that belong to one user. @throws {OutriderError} CONFIG_INVALID */
function assertOneUser(plan: ReturnType<typeof planOf>): void {
  const users = OF_ONE_USER.map((part) => plan[part].user);
  if (new Set(users).size > 1)
    throw new OutriderError(
      'CONFIG_INVALID',
      `the parts must have one user, not ${[...new Set(users)].join(' and ')}: set up.user`,
    );
}

function sidecarAdmin(config: SidecarConfig): Address {
  const admin = adminAddress(config);
  if (!admin)
    throw new OutriderError(
      'CONFIG_INVALID',
      'sidecar.admin is needed where one sidecar serves all sandboxes',
    );
  return admin;
}

async function assertNotRunning(proxy: Address): Promise<void> {
  if (proxy.kind !== 'unix' || !existsSync(proxy.path)) return;
  try {
    await removeStaleSocket(proxy.path);
  } catch (error) {
    throw new OutriderError(
      'ADDRESS_IN_USE',
      'a mesh of this user is running already: stop it first (Ctrl-C in its terminal)',
      { cause: error },
    );
  }
}

/**
 * Another user's mesh would answer `/readyz` at these ports as ours does, and clients would then send it our token.
 * @throws {OutriderError} ADDRESS_IN_USE
 */
async function assertFree(addresses: readonly Address[]): Promise<void> {
  for (const address of addresses) {
    if (address.kind === 'unix') continue; // the part that listens there tells a dead socket from a live one
    const server = createServer();
    await listen(server, address);
    await closeServer(server);
  }
}

function localToken(env: Env, uid: number): string {
  const path = tokenFile(env, uid);
  if (existsSync(path)) return readFileSync(path, 'utf8').trim();
  const token = `outrider_${randomBytes(32).toString('base64url')}`;
  writePrivateFile(path, `${token}\n`);
  return token;
}

/** What `/readyz` at an address says: undefined for ready. Its connection is not kept: a part that stops would wait for it. */
function probe(address: Address): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asked = request(
      { ...toRequest(address), path: '/readyz', timeout: PROBE_TIMEOUT_MS, agent: false },
      (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (chunk: string) => {
          body += chunk;
        });
        response.on('end', () =>
          resolve(response.statusCode === 200 ? undefined : problemsIn(body)),
        );
      },
    );
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => resolve('it does not answer'));
    asked.end();
  });
}

/** What an answer of `/readyz` says is missing; all of it where it says that in no way we know. */
function problemsIn(body: string): string {
  try {
    const { problems }: { problems?: unknown } = Object(JSON.parse(body));
    if (isRecord(problems))
      return Object.entries(problems)
        .map(([name, problem]) => `${name}: ${String(problem)}`)
        .join('; ');
  } catch {}
  return body.trim();
}

function toRequest(address: Address): { socketPath: string } | { host: string; port: number } {
  const options = socketOptions(address);
  return 'path' in options ? { socketPath: options.path } : options;
}

function banner(
  plan: ReturnType<typeof planOf>,
  token: string,
  policies: string,
  ms: number,
): string {
  const url = `http://${formatAddress(plan.gateway.listen)}/mcp`;
  const servers = {
    mcpServers: { outrider: { type: 'http', url, headers: { Authorization: `Bearer ${token}` } } },
  };
  const tcp = plan.runner.tcp
    ? `  and  ${formatAddress(plan.runner.tcp)} (with a principal assertion)`
    : '';
  return `
Outrider is ready (${(ms / 1000).toFixed(1)} s). Ctrl-C stops it.

  MCP       ${url}
  gRPC      ${formatAddress(plan.runner.listen)}${tcp}
  policies  ${policies}

For an MCP client:

${JSON.stringify(servers, null, 2)}

Next, in another terminal:

  npm run demo
  echo 'print(6 * 7)' | npm run -s outrider -- exec -

`;
}
