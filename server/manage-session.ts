import type { CallToolResult } from '@modelcontextprotocol/server';
import { z } from 'zod';
import { OutriderError, toOutriderError } from '#core/errors';
import { type Sandbox, SandboxState } from '#proto';
import { toolError } from './exec-result.ts';
import type { ToolDeps } from './program-tool.ts';

const DESCRIPTION = `Lists or ends the sandboxes that calls with a session_id have made. They end by themselves when nothing has run in them for a while, and at the end of their life.

list answers with every session of yours. stop ends the one named by session_id with everything in it; one that is gone already is no error.`;

const inputSchema = z.strictObject({
  action: z.enum(['list', 'stop']),
  session_id: z.string().min(1).max(64).optional().describe('Which session to stop.'),
});

const outputSchema = z.object({
  sessions: z.array(
    z.object({
      session_id: z.string(),
      profile: z.string().describe('What it runs, e.g. python or node.'),
      busy: z.boolean().describe('A program runs in it now.'),
      created_at: z.string(),
      last_used_at: z.string(),
      expires_at: z.string().describe('When it ends at the latest.'),
    }),
  ),
});

/** Within this time the runners answer, or the call fails. */
const DEADLINE_MS = 15_000;

/** Adds the tool `manage_session`. */
export function addManageSession({ server, runner, caller, observe }: ToolDeps): void {
  server.registerTool(
    'manage_session',
    {
      title: 'List or end sandbox sessions',
      description: DESCRIPTION,
      inputSchema,
      outputSchema,
      annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true },
    },
    async ({ action, session_id }, { mcpReq: { signal } }): Promise<CallToolResult> => {
      const started = performance.now();
      const done = (outcome: 'ok' | 'error') =>
        observe('manage_session', outcome, (performance.now() - started) / 1_000);
      try {
        const context = { ...caller, deadlineMs: DEADLINE_MS, signal };
        if (action === 'stop') await runner.endSession(named(session_id), context);
        const sessions = (await runner.sessions(context)).map(sessionOf);
        done('ok');
        return {
          content: [{ type: 'text', text: JSON.stringify(sessions, undefined, 2) }],
          structuredContent: { sessions },
        };
      } catch (error) {
        done('error');
        return toolError(toOutriderError(error));
      }
    },
  );
}

function named(session: string | undefined): string {
  if (session === undefined)
    throw new OutriderError('INVALID_REQUEST', 'stop needs the session_id of what to end');
  return session;
}

function sessionOf({ name, profile, state, createdAt, lastUsedAt, expiresAt }: Sandbox) {
  return {
    session_id: name,
    profile,
    busy: state === SandboxState.BUSY,
    created_at: textOf(createdAt),
    last_used_at: textOf(lastUsedAt),
    expires_at: textOf(expiresAt),
  };
}

function textOf(time: Date | undefined): string {
  return time?.toISOString() ?? '';
}
