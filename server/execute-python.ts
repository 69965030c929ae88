import type { CallToolResult, McpServer, ServerContext } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { toOutriderError } from '#core/errors';
import { ExecSpec, RunRequest } from '#proto';
import { execResultSchema, toolError, toolResult } from './exec-result.ts';
import { reportProgress } from './progress.ts';
import type { Runner } from './runner-client.ts';

/** Who calls, and under which id every record of the call is found. */
export interface Caller {
  readonly assertion: string;
  readonly requestId: string;
}

/** Told of every call at its end. */
export type Observe = (tool: string, outcome: 'ok' | 'failed' | 'error', seconds: number) => void;

const CODE_MAX_CHARACTERS = 200_000;
const TIMEOUT_MAX_S = 600;
/** What the runner may take on top of the program's own time: a queue, a cold start, the last bytes. */
const GRACE_S = 15;

const DESCRIPTION = `Runs a Python 3 program in a sandbox and returns what it printed, how it ended and which files it left.

Without session_id every call gets a fresh sandbox that is gone afterwards. With session_id (a name that you choose) files in the working directory stay for the next call with the same name; variables do not.
Files written to /output are listed in the answer.
The network is closed except for what policy allows, through the proxy that HTTP_PROXY and HTTPS_PROXY already name (requests, urllib and httpx use it by themselves). Datasources are reached without any credential at $OUTRIDER_URL/<type>/<name>/, for example os.environ["OUTRIDER_URL"] + "/prometheus/main/api/v1/query?query=up". A refused request is answered 403 with the reason; trying again does not help.`;

const inputSchema = z.object({
  code: z.string().min(1).max(CODE_MAX_CHARACTERS).describe('The program.'),
  timeout: z
    .int()
    .min(1)
    .max(TIMEOUT_MAX_S)
    .optional()
    .describe('Seconds after which the program is ended; without it the role says, mostly 60.'),
  session_id: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/)
    .optional()
    .describe('A name of your choice: calls with the same name share files.'),
});

/** Adds the tool `execute_python` to a server that answers one request of `caller`. */
export function addExecutePython(
  server: McpServer,
  runner: Runner,
  caller: Caller,
  observe: Observe,
): void {
  server.registerTool(
    'execute_python',
    {
      title: 'Run Python in a sandbox',
      description: DESCRIPTION,
      inputSchema,
      outputSchema: execResultSchema,
      annotations: {
        readOnlyHint: false,
        destructiveHint: false,
        idempotentHint: false,
        openWorldHint: true,
      },
    },
    async (input, context) => {
      const started = performance.now();
      const result = await execute(input, runner, caller, context);
      observe('execute_python', outcomeOf(result), (performance.now() - started) / 1_000);
      return result;
    },
  );
}

async function execute(
  { code, timeout, session_id }: z.infer<typeof inputSchema>,
  runner: Runner,
  caller: Caller,
  context: ServerContext,
): Promise<CallToolResult> {
  const longestS = timeout ?? TIMEOUT_MAX_S;
  const stopReporting = reportProgress(context, timeout);
  try {
    const spec = ExecSpec.fromPartial({
      program: { $case: 'source', value: { language: 'python', code } },
      ...(timeout === undefined ? {} : { timeout: { seconds: BigInt(timeout) } }),
      purpose: 'execute_python',
      ...(session_id === undefined
        ? {}
        : { target: { $case: 'session', value: { name: session_id } } }),
    });
    const response = await runner.run(RunRequest.fromPartial({ spec }), {
      ...caller,
      deadlineMs: (longestS + GRACE_S) * 1_000,
      signal: context.mcpReq.signal,
    });
    return toolResult(response);
  } catch (error) {
    return toolError(toOutriderError(error));
  } finally {
    stopReporting();
  }
}

function outcomeOf(result: CallToolResult): 'ok' | 'failed' | 'error' {
  if (result.isError !== true) return 'ok';
  return result.structuredContent === undefined ? 'error' : 'failed';
}
