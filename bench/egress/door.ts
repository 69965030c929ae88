import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import { HEAP_FLAGS } from '#core/heap';
import { createKeySet, readSigningKey } from '#core/keys';
import { uidOf } from '#core/mesh-user';
import { packageRoot } from '#core/package-root';
import { LOCAL_PRINCIPAL } from '#core/principal';
import { ensureRuntimeDir } from '#core/runtime-dir';
import { AssertionSigner, AssertionVerifier, ExecutionSigner, publicIssuer } from '#core/tokens';
import { canonicalJson, projectRole } from '#policies';
import { loadDirectory } from '#policystore';
import { type AttachRequest, type AttachResponse, SidecarServiceClient } from '#proto';
import { type Started, start } from './processes.ts';

type Request = NonNullable<AttachRequest['request']>;
type Response = NonNullable<AttachResponse['response']>;

/** Hosts of the rules that every bench of the sidecar is about: limits that nobody reaches, and nothing switched off. */
export const HOSTS = {
  plain: 'api.bench.test',
  seen: 'seen.bench.test',
  tunnel: 'tunnel.bench.test',
} as const;

const LIMITS = 'limits: {rate: 1000000/s, burst: 1000000, concurrent: 10000, responseBytes: 1TiB}';

/** The rules of the bench; `rules` further ones stand beside them. */
export function policyText(further = ''): string {
  return `apiVersion: outrider/v1
kind: Role
metadata: {name: bench, owner: bench}
spec: {members: [{issuer: "outrider:local"}], sandbox: {}}
---
apiVersion: outrider/v1
kind: EgressPolicy
metadata: {name: bench, owner: bench}
spec:
  subjects: [{role: bench}]
  mode: enforce
  allow:
    - {id: plain, hosts: [${HOSTS.plain}], scheme: http, methods: [GET, HEAD], paths: ["/v1/**"], ${LIMITS}}
    - {id: seen, hosts: [${HOSTS.seen}], methods: [GET, HEAD], paths: ["/v1/**"], ${LIMITS}}
    - {id: tunnel, hosts: [${HOSTS.tunnel}], protocols: [tunnel], ${LIMITS}}
${further}  deny:
    - {id: none-of-these, hosts: ["*.internal.bench.test"]}
`;
}

/** A role's policy as the runner sends it. */
export interface Projection {
  readonly policy: Buffer;
  readonly digest: string;
}

/** @throws {OutriderError} POLICY_INVALID */
export async function projection(directory: string, text = policyText()): Promise<Projection> {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'policy.yaml'), text);
  const { set, digest } = await loadDirectory(directory);
  const projected = projectRole(set, 'bench', LOCAL_PRINCIPAL.tenant);
  return { policy: Buffer.from(canonicalJson(projected)), digest };
}

/** A sidecar process from dist/, and this process as its runner. */
export class BenchSidecar {
  readonly process: Started;
  readonly #client: SidecarServiceClient;
  readonly #directory: string;
  #count = 0;

  private constructor(process: Started, client: SidecarServiceClient, directory: string) {
    this.process = process;
    this.#client = client;
    this.#directory = directory;
  }

  /** argv of a sidecar of one sandbox, as the runner starts it. */
  static ownArgv(directory: string, proxy: string): string[] {
    return [
      [process.execPath, ...HEAP_FLAGS, join(packageRoot, 'dist/cli/main.js'), 'sidecar'],
      ['--listen', `unix:${join(directory, 'sidecar.sock')}`, '--proxy', proxy],
      ['--exit-with-attachment', '--watch-stdin', '--log-level', 'warn'],
    ].flat();
  }

  /** argv of a sidecar for many, whose files stand in `directory`. */
  static argv(directory: string, proxy: string): string[] {
    return [
      [process.execPath, ...HEAP_FLAGS, join(packageRoot, 'dist/cli/main.js'), 'sidecar'],
      ['--listen', `unix:${join(directory, 'sidecar.sock')}`, '--proxy', proxy],
      ['--admin', `unix:${join(directory, 'sidecar-admin.sock')}`, '--connections', '4096'],
      ['--log-level', 'warn'],
    ].flat();
  }

  static environment(directory: string): Record<string, string | undefined> {
    return {
      PATH: process.env['PATH'],
      HOME: directory,
      OUTRIDER_RUNTIME_DIR: directory,
      OUTRIDER_STATE_DIR: join(directory, 'state'),
    };
  }

  static async start(directory: string, proxy: string): Promise<BenchSidecar> {
    ensureRuntimeDir(directory, uidOf('auto'));
    const path = join(directory, 'sidecar.sock');
    const started = await start(BenchSidecar.argv(directory, proxy), {
      env: BenchSidecar.environment(directory),
      listens: { kind: 'unix', path },
    });
    const client = new SidecarServiceClient(`unix:${path}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': 16 * 2 ** 20,
    });
    return new BenchSidecar(started, client, directory);
  }

  /** Opens a door, on a port of loopback or else a socket, and binds an exec of the role to it with a token as runners mint them. */
  async attach(bound: Projection, port?: number): Promise<Attached> {
    this.#count += 1;
    const id = `bench-${this.#count}`;
    const door = join(this.#directory, `${id}.sock`);
    const attached = new Attached(this.#client.attach(), `exec-${id}`, door);
    await attached.ask({
      $case: 'open',
      value: {
        attachmentId: id,
        sandboxId: `sbx-${id}`,
        spoolPath: '',
        listen:
          port === undefined
            ? { $case: 'unix', value: { path: door, controlPath: '' } }
            : { $case: 'tcp', value: { address: `127.0.0.1:${port}` } },
      },
    });
    await attached.bind(bound, await this.#token(id, bound.digest));
    return attached;
  }

  async stop(): Promise<void> {
    this.#client.close();
    await this.process.stop();
  }

  async #token(id: string, policyDigest: string): Promise<string> {
    const keys = createKeySet(join(this.#directory, 'keys'));
    const [runner, local] = [keys.runner, keys.local].map(readSigningKey);
    if (!runner || !local) throw new Error('both keys were made');
    const assertion = await new AssertionSigner(local).sign(LOCAL_PRINCIPAL);
    const { proof } = await new AssertionVerifier([publicIssuer(local)]).verify(assertion);
    const { jwt } = await new ExecutionSigner(runner).sign({
      sandboxId: `sbx-${id}`,
      execId: `exec-${id}`,
      role: 'bench',
      policyDigest,
      startedAt: Math.floor(Date.now() / 1_000),
      requestId: `req-${id}`,
      proof,
    });
    return jwt;
  }
}

const TOKEN_MS = 3_600_000;

/** The runner's end of one attachment. */
export class Attached {
  /** The path of its door, where it is a socket. */
  readonly door: string;
  readonly #call: ClientDuplexStream<AttachRequest, AttachResponse>;
  readonly #execId: string;
  #answer: { resolve: (response: Response) => void; reject: (error: Error) => void } | undefined;

  constructor(
    call: ClientDuplexStream<AttachRequest, AttachResponse>,
    execId: string,
    door: string,
  ) {
    this.#call = call;
    this.#execId = execId;
    this.door = door;
    call.on('error', (error: Error) => this.#answer?.reject(error));
    call.on('data', ({ response }: AttachResponse) => {
      const unasked = !response || response.$case === 'denied' || response.$case === 'spool';
      if (!unasked) this.#answer?.resolve(response);
    });
  }

  /** Sends a request and waits for its answer; one at a time. */
  ask(request: Request): Promise<Response> {
    return new Promise((resolve, reject) => {
      this.#answer = { resolve, reject };
      this.#call.write({ request });
    });
  }

  async bind({ policy, digest }: Projection, jwt: string): Promise<void> {
    await this.ask({
      $case: 'bind',
      value: {
        execId: this.#execId,
        role: 'bench',
        policy,
        policyDigest: digest,
        token: { jwt, expiresAt: new Date(Date.now() + TOKEN_MS) },
        principal: LOCAL_PRINCIPAL,
        requestId: 'req-bench',
        policyCommit: '',
        policySerial: 0n,
      },
    });
  }

  async tighten({ policy, digest }: Projection): Promise<void> {
    const value = {
      execId: this.#execId,
      policy,
      policyDigest: digest,
      policyCommit: '',
      policySerial: 0n,
    };
    await this.ask({ $case: 'tighten', value });
  }

  close(): void {
    this.#call.end();
  }
}
