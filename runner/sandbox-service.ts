import { OutriderError } from '#core/errors';
import { clientStream, type Report, serverStream, unary, unimplemented } from '#core/grpc';
import { packageVersion } from '#core/package-root';
import { principalKey } from '#core/principal';
import {
  type FileInfo,
  type FileServiceServer,
  FileType,
  type RevocationServiceServer,
  type SandboxServiceServer,
} from '#proto';
import type { AgentFile } from './agent-link.ts';
import type { Backend } from './backends/backend.ts';
import type { Caller, IdentifyCaller } from './callers.ts';
import { sandboxAsk, sandboxMessage, sessionName, tierMessage } from './messages.ts';
import type { WarmPool } from './pool.ts';
import { PROFILES } from './profiles.ts';
import type { Runner } from './runner.ts';
import type { Kept } from './sessions.ts';

const PAGE_MAX = 100;

/** SandboxService over a `Runner`. */
export function sandboxService(
  runner: Runner,
  backend: Backend,
  pool: WarmPool,
  identify: IdentifyCaller,
  report: Report,
): SandboxServiceServer {
  return {
    createSandbox: unary(
      'CreateSandbox',
      async ({ spec, name, role, idempotencyKey }, context) => {
        const caller = await identify(context);
        if (idempotencyKey)
          throw new OutriderError(
            'UNIMPLEMENTED',
            'idempotency_key is not implemented in this version',
          );
        const kept = await runner.create(
          caller,
          name === '' ? '' : sessionName(name),
          sandboxAsk(spec),
          role,
        );
        return { sandbox: sandboxMessage(kept, runner.runnerId) };
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
        await identify(context);
        const reason = await backend.probe();
        return {
          backends: [
            {
              name: backend.name,
              tier: tierMessage(backend.tier),
              usable: reason === undefined,
              reason: reason ?? '',
            },
          ],
          profiles: PROFILES.map(({ name, languages }) => ({
            name,
            languages: [...languages],
            warm: pool.warm,
          })),
          load: { running: runner.running, capacity: runner.capacity, draining: runner.draining },
          version: packageVersion(),
          runnerId: runner.runnerId,
        };
      },
      report,
    ),
  };
}

/** FileService: everything is opened by the sandbox's own agent, inside the sandbox. */
export function fileService(
  runner: Runner,
  identify: IdentifyCaller,
  report: Report,
): FileServiceServer {
  const linkOf = (caller: Caller, sandboxId: string) =>
    runner.sessions.byId(principalKey(caller.principal), sandboxId).sandbox.link;
  return {
    readFile: serverStream(
      'ReadFile',
      async function* (request, context) {
        const link = linkOf(await identify(context), request.sandboxId);
        let at = Number(request.offset);
        const end = request.length === 0n ? Infinity : at + Number(request.length);
        while (at < end) {
          const data = await link.read(request.path, at, end === Infinity ? 0 : end - at);
          if (data.length === 0) return;
          at += data.length;
          yield { data };
        }
      },
      report,
    ),

    writeFile: clientStream(
      'WriteFile',
      async (requests, context) => {
        const caller = await identify(context);
        const incoming = requests[Symbol.asyncIterator]();
        const { value: first } = await incoming.next();
        if (first?.request?.$case !== 'start')
          throw new OutriderError('INVALID_REQUEST', 'the first request must be start');
        const { sandboxId, path, mode } = first.request.value;
        const content = async function* (): AsyncGenerator<Buffer> {
          for (let next = await incoming.next(); next.done !== true; next = await incoming.next()) {
            if (next.value.request?.$case !== 'data')
              throw new OutriderError('INVALID_REQUEST', 'only data may follow start');
            yield next.value.request.value;
          }
        };
        return {
          size: BigInt(await linkOf(caller, sandboxId).write(path, content(), mode || 0o644)),
        };
      },
      report,
    ),

    listFiles: unary(
      'ListFiles',
      async ({ sandboxId, path, depth }, context) => {
        const { files, truncated } = await linkOf(await identify(context), sandboxId).list(
          path || '/workspace',
          depth,
        );
        return { files: files.map(fileMessage), truncated };
      },
      report,
    ),

    statFile: unary(
      'StatFile',
      async ({ sandboxId, path }, context) => ({
        file: fileMessage(await linkOf(await identify(context), sandboxId).stat(path)),
      }),
      report,
    ),

    removeFile: unary(
      'RemoveFile',
      async ({ sandboxId, path, recursive }, context) => {
        await linkOf(await identify(context), sandboxId).remove(path, recursive);
        return {};
      },
      report,
    ),
  };
}

/** Its place is kept: until then the life of an execution token is the bound. */
export function revocationService(report: Report): RevocationServiceServer {
  return {
    watchRevocations: serverStream(
      'WatchRevocations',
      () => unimplemented('WatchRevocations'),
      report,
    ),
  };
}

function find(
  runner: Runner,
  caller: Caller,
  { sandboxId, name }: { sandboxId: string; name: string },
): Kept {
  const owner = principalKey(caller.principal);
  if (sandboxId !== '') return runner.sessions.byId(owner, sandboxId);
  const kept = runner.sessions.byName(owner, name);
  if (!kept) throw new OutriderError('SESSION_NOT_FOUND', 'there is no such session');
  return kept;
}

const TYPES: Readonly<Record<string, FileType>> = {
  file: FileType.FILE,
  directory: FileType.DIRECTORY,
  symlink: FileType.SYMLINK,
};

function fileMessage({ path, type, size, mode, modifiedAtMs, link }: AgentFile): FileInfo {
  return {
    path,
    type: TYPES[type] ?? FileType.OTHER,
    size: BigInt(Math.max(0, size)),
    mode,
    modifiedAt: new Date(modifiedAtMs),
    linkTarget: link,
  };
}
