import type { CallToolResult, McpServer, ServerContext } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { toOutriderError } from '#core/errors';
import { ExecSpec, RunRequest, type RunResponse } from '#proto';
import { cancelKeyOf } from './cancellation.ts';
import { execResultSchema, toolError, toolResult } from './exec-result.ts';
import { reportProgress } from './progress.ts';
import type { Runner } from './runner-client.ts';

/** Who calls, and under which id every record of the call is found. */
export interface Caller {
  readonly assertion: string;
  /** principalKey of who calls. */
  readonly owner: string;
  readonly requestId: string;
  /** Of its JSON-RPC ids; absent where the client has none. */
  readonly idSpace: string | undefined;
}

/** Told of every call at its end. */
export type Observe = (tool: string, outcome: 'ok' | 'failed' | 'error', seconds: number) => void;

/** What a server is made of for one request. */
export interface ToolDeps {
  readonly server: McpServer;
  readonly runner: Runner;
  readonly caller: Caller;
  readonly observe: Observe;
}

/** A program in one of the languages, as a tool's input turns into it. */
export interface ToolProgram {
  readonly language: string;
  readonly code: string;
  readonly args?: readonly string[];
  /** The sandbox's profile; without it the role's first. */
  readonly profile?: string;
}

/** A tool that runs one program and answers with its end. */
export interface ProgramTool<Input extends CommonInput> {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  /** `commonInput`, or an extension of it. */
  readonly input: z.ZodType<Input>;
  readonly program: (input: Input) => ToolProgram;
  /** Makes more of the answer than every program's end has; its schema is `output`. */
  readonly answer?: (response: RunResponse) => { response: RunResponse; extra: object };
  readonly output?: z.ZodRawShape;
}

const CODE_MAX_CHARACTERS = 200_000;
const TIMEOUT_MAX_S = 600;
/** What the runner may take on top of the program's own time: a queue, a cold start, the last bytes. */
const GRACE_S = 15;

/** The part of a description that holds for every language. */
export const SANDBOX_DESCRIPTION = `Without session_id every call gets a fresh sandbox that is gone afterwards. With session_id (a name that you choose) files in the working directory stay for the next call with the same name; variables do not.
Files written to /output are listed in the answer, and can be read as resources by the uri there for 10 minutes.
The network is closed except for what policy allows, through the proxy that HTTP_PROXY and HTTPS_PROXY already name.`;

/** What every such tool takes, and nothing else: whoever misspells the time limit must not get another one without a word. */
export const commonInput = z.strictObject({
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
export type CommonInput = z.infer<typeof commonInput>;

/** Adds the tool to a server that answers one request. */
export function addProgramTool<Input extends CommonInput>(
  { server, runner, caller, observe }: ToolDeps,
  tool: ProgramTool<Input>,
): void {
  server.registerTool(
    tool.name,
    {
      title: tool.title,
      description: tool.description,
      inputSchema: tool.input,
      outputSchema: execResultSchema.extend(tool.output ?? {}),
      annotations: {
        readOnlyHint: false,
        destructiveHint: false,
        idempotentHint: false,
        openWorldHint: true,
      },
    },
    async (input, context) => {
      const started = performance.now();
      const result = await run(tool, input, runner, caller, context);
      observe(tool.name, outcomeOf(result), (performance.now() - started) / 1_000);
      return result;
    },
  );
}

async function run<Input extends CommonInput>(
  tool: ProgramTool<Input>,
  input: Input,
  runner: Runner,
  caller: Caller,
  context: ServerContext,
): Promise<CallToolResult> {
  const { timeout } = input;
  const longestS = timeout ?? TIMEOUT_MAX_S;
  const stopReporting = reportProgress(context, timeout);
  try {
    const cancelKey = cancelKeyOf(caller, context.mcpReq.id);
    const spec = specOf(tool.name, tool.program(input), input);
    const response = await runner.run(RunRequest.fromPartial({ spec: { ...spec, cancelKey } }), {
      ...caller,
      deadlineMs: (longestS + GRACE_S) * 1_000,
      signal: context.mcpReq.signal,
    });
    const { response: shown, extra } = tool.answer?.(response) ?? { response, extra: {} };
    return toolResult(shown, extra);
  } catch (error) {
    return toolError(toOutriderError(error));
  } finally {
    stopReporting();
  }
}

function specOf(
  purpose: string,
  { language, code, args = [], profile = '' }: ToolProgram,
  { timeout, session_id: name }: CommonInput,
): ExecSpec {
  const sandbox = profile === '' ? undefined : { profile };
  return ExecSpec.fromPartial({
    program: { $case: 'source', value: { language, code, args: [...args] } },
    ...(timeout === undefined ? {} : { timeout: { seconds: BigInt(timeout) } }),
    purpose,
    ...(name === undefined
      ? sandbox && { target: { $case: 'fresh', value: sandbox } }
      : { target: { $case: 'session', value: { name, ...(sandbox && { create: sandbox }) } } }),
  });
}

function outcomeOf(result: CallToolResult): 'ok' | 'failed' | 'error' {
  if (result.isError !== true) return 'ok';
  return result.structuredContent === undefined ? 'error' : 'failed';
}
