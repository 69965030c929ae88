import { createHash } from 'node:crypto';
import { OutriderError } from '#core/errors';
import { type CallContext, type Report, serverStream, unary } from '#core/grpc';
import { packageVersion } from '#core/package-root';
import { principalKey } from '#core/principal';
import {
  CreateSandboxRequest,
  type CreateSandboxResponse,
  type Sandbox as SandboxMessage,
  type SandboxServiceServer,
  SandboxState,
} from '#proto';
import { assertRole, type Caller, type IdentifyCaller } from './callers.ts';
import type { KnownBackend } from './choose-backend.ts';
import type { Datasources } from './datasources.ts';
import type { Idempotency, Once } from './idempotency.ts';
import { sandboxAsk, sandboxMessage, sessionName, tierMessage } from './messages.ts';
import type { WarmPool } from './pool.ts';
import { PROFILES } from './profiles.ts';
import type { Runner } from './runner.ts';
import type { Kept } from './sessions.ts';

const PAGE_MAX = 100;

export interface SandboxServiceDeps {
  readonly runner: Runner;
  /** The configured backends, as last looked at. */
  readonly backends: () => readonly KnownBackend[];
  /** Whether something is missing that programs need, as last looked at. */
  readonly unready: () => boolean;
  readonly pool: WarmPool;
  readonly datasources: Datasources;
  /** The sandboxes that were made under an idempotency key. */
  readonly made: Idempotency<Made>;
}

/** SandboxService over a `Runner`. */
export function sandboxService(
  { runner, backends, unready, pool, made, datasources }: SandboxServiceDeps,
  identify: IdentifyCaller,
  report: Report,
): SandboxServiceServer {
  return {
    createSandbox: unary(
      'CreateSandbox',
      async (request, context) => {
        const caller = await identify(context);
        if (request.idempotencyKey === '') return create(runner, caller, request, context);
        const owner = principalKey(caller.principal);
        const digest = createHash('sha256')
          .update(caller.role)
          .update('\0')
          .update(CreateSandboxRequest.encode(request).finish())
          .digest('hex');
        const { value } = made.take(caller.principal, request.idempotencyKey, digest, () =>
          madeBy(create(runner, caller, request, context)),
        );
        return { sandbox: await asItIs(runner, owner, value) };
      },
      report,
    ),

    getSandbox: unary(
      'GetSandbox',
      async (request, context) => ({
        sandbox: sandboxMessage(find(runner, await identify(context), request), runner.runnerId),
      }),
      report,
    ),

    listSandboxes: unary(
      'ListSandboxes',
      async ({ pageSize, pageToken }, context) => {
        const all = runner.sessions
          .list(principalKey((await identify(context)).principal))
          .toSorted((a, b) => (a.sandbox.id < b.sandbox.id ? -1 : 1));
        const from = all.filter((kept) => kept.sandbox.id > pageToken);
        const page = from.slice(0, Math.min(pageSize || PAGE_MAX, PAGE_MAX));
        return {
          sandboxes: page.map((kept) => sandboxMessage(kept, runner.runnerId)),
          nextPageToken: page.length < from.length ? (page.at(-1)?.sandbox.id ?? '') : '',
        };
      },
      report,
    ),

    deleteSandbox: unary(
      'DeleteSandbox',
      async (request, context) => {
        const caller = await identify(context);
        try {
          await runner.sessions.end(find(runner, caller, request), 'deleted');
        } catch (error) {
          const gone =
            error instanceof OutriderError &&
            (error.code === 'SANDBOX_NOT_FOUND' || error.code === 'SESSION_NOT_FOUND');
          if (!gone) throw error;
        }
        return {};
      },
      report,
    ),

    getCapabilities: unary(
      'GetCapabilities',
      async (_request, context) => {
        const about = {
          load: {
            running: runner.running,
            capacity: runner.capacity,
            draining: runner.draining,
            unready: unready(),
          },
          version: packageVersion(),
          runnerId: runner.runnerId,
        };
        if (!(await isNamed(identify, context))) return { ...about, backends: [], profiles: [] };
        return {
          ...about,
          backends: backends().map(({ name, tier, problem }) => ({
            name,
            tier: tierMessage(tier),
            usable: problem === undefined,
            reason: problem ?? '',
          })),
          profiles: PROFILES.map(({ name, languages }) => ({
            name,
            languages: [...languages],
            warm: pool.warmOf(({ profile }) => profile === name),
            reason: runner.unusableProfiles[name] ?? '',
          })),
        };
      },
      report,
    ),

    watchDatasources: serverStream(
      'WatchDatasources',
      async function* ({ role }, context) {
        const lists = datasources.watch(await identify(context), role, context.signal);
        for await (const list of lists) yield { datasources: [...list] };
      },
      report,
    ),
  };
}

/** A sandbox that was made under an idempotency key, as it was then. */
export interface Made extends Once {
  readonly ended: Promise<SandboxMessage | undefined>;
}

function madeBy(response: Promise<CreateSandboxResponse>): Made {
  return { ended: response.then(({ sandbox }) => sandbox), bytes: 0, shed: () => {} };
}

async function create(
  runner: Runner,
  caller: Caller,
  { spec, name, role }: CreateSandboxRequest,
  context: CallContext,
): Promise<CreateSandboxResponse> {
  const session = name === '' ? '' : sessionName(name);
  const kept = await runner.create(caller, session, sandboxAsk(spec), role, context);
  return { sandbox: sandboxMessage(kept, runner.runnerId) };
}

/** What a key stands for as it is now: it may have ended since. */
async function asItIs(
  runner: Runner,
  owner: string,
  { ended }: Made,
): Promise<SandboxMessage | undefined> {
  const then = await ended;
  const now = runner.sessions.list(owner).find(({ sandbox }) => sandbox.id === then?.sandboxId);
  if (now) return sandboxMessage(now, runner.runnerId);
  return then && { ...then, state: SandboxState.ENDED };
}

/** Whether the call says who it is. @throws {OutriderError} UNAUTHENTICATED where what it says is not so */
async function isNamed(identify: IdentifyCaller, context: CallContext): Promise<boolean> {
  try {
    await identify(context);
    return true;
  } catch (error) {
    if (context.bearer === undefined) return false;
    throw error;
  }
}

/** @throws {OutriderError} INVALID_REQUEST, SANDBOX_NOT_FOUND, SESSION_NOT_FOUND, ROLE_DENIED */
function find(
  runner: Runner,
  caller: Caller,
  { sandboxId, name }: { sandboxId: string; name: string },
): Kept {
  // An unnamed sandbox has the empty name: who names nothing must not get one of those.
  if ((sandboxId === '') === (name === ''))
    throw new OutriderError('INVALID_REQUEST', 'give sandbox_id or name, one of them');
  const owner = principalKey(caller.principal);
  const kept =
    sandboxId === '' ? runner.sessions.byName(owner, name) : runner.sessions.byId(owner, sandboxId);
  if (!kept) throw new OutriderError('SESSION_NOT_FOUND', 'there is no such session');
  assertRole(caller, kept.role);
  return kept;
}
