import { OutriderError } from '#core/errors';
import { clientStream, type Report, serverStream, unary } from '#core/grpc';
import { principalKey } from '#core/principal';
import { type FileInfo, type FileServiceServer, FileType } from '#proto';
import type { AgentFile } from './agent-reports.ts';
import { assertRole, type Caller, type IdentifyCaller } from './callers.ts';
import type { Runner } from './runner.ts';

/** A path in hexadecimal digits: it need not be text. At most what a system takes for a path. */
const PAGE_TOKEN = /^([0-9a-f]{2}){0,4096}$/;

/** FileService: everything is opened by the sandbox's own agent, inside the sandbox. */
export function fileService(
  runner: Runner,
  identify: IdentifyCaller,
  report: Report,
): FileServiceServer {
  const linkOf = (caller: Caller, sandboxId: string) => {
    const { sandbox, role } = runner.sessions.byId(principalKey(caller.principal), sandboxId);
    assertRole(caller, role);
    if (sandbox.installing)
      throw new OutriderError('SESSION_BUSY', 'its dependencies are being installed', {
        retryAfterMs: 1_000,
      });
    return sandbox.link;
  };
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
      async ({ sandboxId, path, depth, pageSize, pageToken }, context) => {
        if (!PAGE_TOKEN.test(pageToken))
          throw new OutriderError('INVALID_REQUEST', 'page_token is none that was given out');
        const link = linkOf(await identify(context), sandboxId);
        const { files, next } = await link.list(path || '/workspace', depth, pageSize, pageToken);
        return { files: files.map(fileMessage), truncated: next !== '', nextPageToken: next };
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
