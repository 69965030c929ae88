import type { CallToolResult } from '@modelcontextprotocol/server';
import { z } from 'zod';
import type { OutriderError } from '#core/errors';
import { KilledBy, type RunResponse } from '#proto';
import { artefactUri } from './artefact-uri.ts';

/** Why a program ended, as MCP clients read it: the names of the runner's closed list. */
const KILLED_BY = {
  [KilledBy.UNSPECIFIED]: 'runner',
  [KilledBy.EXIT]: 'exit',
  [KilledBy.SIGNAL]: 'signal',
  [KilledBy.TIMEOUT]: 'timeout',
  [KilledBy.OOM]: 'oom',
  [KilledBy.PIDS]: 'pids',
  [KilledBy.DISK]: 'disk',
  [KilledBy.OUTPUT]: 'output',
  [KilledBy.POLICY]: 'policy',
  [KilledBy.DISCONNECT]: 'disconnect',
  [KilledBy.RUNNER]: 'runner',
} as const;

const count = z.int().nonnegative();

/** The structured answer of a tool that runs a program. Fields may be added, never removed or renamed. */
export const execResultSchema = z.object({
  stdout: z.string().describe('What the program printed.'),
  stderr: z.string().describe('What the program printed to standard error.'),
  exit_code: z.int().nullable().describe('Exit status; null when the program was ended.'),
  killed_by: z
    .enum([...new Set(Object.values(KILLED_BY))])
    .describe('"exit" when the program ended by itself, otherwise what ended it.'),
  duration_ms: z.number().nonnegative().describe('Wall time of the program.'),
  files: z
    .array(
      z.object({
        path: z.string(),
        size: count,
        uri: z
          .string()
          .optional()
          .describe(
            'The resource to read it by, within 10 minutes; absent: it was too large to be kept.',
          ),
      }),
    )
    .describe('Files that the program left in /output.'),
  session_id: z.string().nullable().describe('The session that the program ran in.'),
  stdout_dropped: count.describe('Bytes of stdout beyond the limit.'),
  stderr_dropped: count.describe('Bytes of stderr beyond the limit.'),
  exception: z
    .object({ type: z.string(), message: z.string(), traceback: z.string() })
    .optional()
    .describe('The exception that ended the program.'),
  egress: z
    .object({ allowed: count, denied: count })
    .describe('Requests out of the sandbox, by what the policy said.'),
});

export type ExecResult = z.infer<typeof execResultSchema>;

/**
 * A program's end as a tool's answer: text for the model, the same facts as structured content. A failed program is `isError`. `extra` is
 * what one tool's answers have besides.
 */
export function toolResult(response: RunResponse, extra: object = {}): CallToolResult {
  const { end, started } = response;
  const result: ExecResult = {
    stdout: response.stdout.toString('utf8'),
    stderr: response.stderr.toString('utf8'),
    exit_code: end?.exitCode ?? null,
    killed_by: KILLED_BY[end?.killedBy ?? KilledBy.UNSPECIFIED],
    duration_ms: milliseconds(end?.usage?.wall),
    files: filesOf(response),
    session_id: started?.session ? started.session : null,
    stdout_dropped: Number(end?.stdout?.dropped ?? 0n),
    stderr_dropped: Number(end?.stderr?.dropped ?? 0n),
    ...(end?.exception ? { exception: { ...end.exception } } : {}),
    egress: {
      allowed: Number(end?.egress?.allowed ?? 0n),
      denied: Number(end?.egress?.denied ?? 0n),
    },
  };
  const failed = result.killed_by !== 'exit' || result.exit_code !== 0;
  const value = 'value' in extra ? `[value]\n${JSON.stringify(extra.value, undefined, 2)}` : '';
  return {
    content: [
      ...texts(result, value, failed ? ending(result, end?.signal ?? '', end?.detail ?? '') : ''),
      ...result.files.flatMap(linkOf),
    ],
    structuredContent: { ...result, ...extra },
    ...(failed ? { isError: true } : {}),
    ...(started ? { _meta: { 'outrider/exec': { id: started.execId, role: started.role } } } : {}),
  };
}

/** A call that the mesh refused or failed: the public message, and the code for programs under `outrider/error`. */
export function toolError(error: OutriderError): CallToolResult {
  const { code, message, retryAfterMs } = error;
  return {
    content: [{ type: 'text', text: `${message} [${code}]` }],
    isError: true,
    _meta: {
      'outrider/error': { code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
    },
  };
}

function filesOf({ end, started }: RunResponse): ExecResult['files'] {
  return (end?.artefacts ?? []).map(({ path, size, sha256 }) => ({
    path,
    size: Number(size),
    ...(started && sha256 !== '' ? { uri: artefactUri(started.execId, path) } : {}),
  }));
}

function linkOf({ path, size, uri }: ExecResult['files'][number]): CallToolResult['content'] {
  return uri === undefined ? [] : [{ type: 'resource_link', uri, name: path, size }];
}

function texts(result: ExecResult, value: string, end: string): CallToolResult['content'] {
  const parts = [
    result.stdout,
    result.stderr === '' ? '' : `[stderr]\n${result.stderr}`,
    value,
    end,
  ].filter((part) => part !== '');
  // Some model APIs refuse an empty text block.
  const shown = parts.length === 0 ? ['[no output]'] : parts;
  return shown.map((text) => ({ type: 'text', text }));
}

function ending({ killed_by, exit_code }: ExecResult, signal: string, detail: string): string {
  const what =
    killed_by === 'exit'
      ? `exit code ${exit_code}`
      : `ended by ${killed_by}${signal === '' ? '' : ` ${signal}`}`;
  return `[${what}${detail === '' ? '' : `: ${detail}`}]`;
}

function milliseconds(wall: { seconds: bigint; nanos: number } | undefined): number {
  return wall ? Number(wall.seconds) * 1_000 + wall.nanos / 1_000_000 : 0;
}
