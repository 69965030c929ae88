import { isUtf8 } from 'node:buffer';
import {
  ProtocolError,
  ProtocolErrorCode,
  type ReadResourceResult,
  ResourceNotFoundError,
  ResourceTemplate,
} from '@modelcontextprotocol/server';
import { type OutriderError, toOutriderError } from '#core/errors';
import { ARTEFACTS_URI } from './artefact-uri.ts';
import type { ToolDeps } from './program-tool.ts';

/** Within this time the runner sends the whole file, or the call fails. */
const DEADLINE_MS = 60_000;

/** Serves these files as resources: to whoever ran the program, whole, text as text and everything else in base64. */
export function addArtefacts({ server, runner, caller, observe }: ToolDeps): void {
  server.registerResource(
    'artefact',
    new ResourceTemplate(`${ARTEFACTS_URI}/{exec}/{+path}`, { list: undefined }),
    {
      title: 'A file that a program left in /output',
      description:
        'Its URI is in the answer of the tool that ran the program. It is kept for 10 minutes.',
    },
    async (uri, _variables, { mcpReq: { signal } }) => {
      const started = performance.now();
      const done = (outcome: 'ok' | 'error') =>
        observe('resources/read', outcome, (performance.now() - started) / 1_000);
      try {
        const [execId = '', ...path] = uri.pathname.slice(1).split('/').map(decodeURIComponent);
        const context = { ...caller, deadlineMs: DEADLINE_MS, signal };
        const content = await runner.readArtefact(execId, path.join('/'), context);
        done('ok');
        return contentsOf(uri.href, content);
      } catch (error) {
        done('error');
        throw protocolError(uri.href, toOutriderError(error));
      }
    },
  );
}

function contentsOf(uri: string, content: Buffer): ReadResourceResult {
  const isText = isUtf8(content) && !content.includes(0);
  const contents = isText
    ? { uri, mimeType: 'text/plain', text: content.toString('utf8') }
    : { uri, mimeType: 'application/octet-stream', blob: content.toString('base64') };
  return { contents: [contents] };
}

function protocolError(uri: string, { code, message, retryAfterMs }: OutriderError): ProtocolError {
  if (code === 'EXEC_NOT_FOUND' || code === 'FILE_NOT_FOUND')
    return new ResourceNotFoundError(uri, `${message} [${code}]`);
  const data = { code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  return new ProtocolError(ProtocolErrorCode.InternalError, `${message} [${code}]`, {
    'outrider/error': data,
  });
}
