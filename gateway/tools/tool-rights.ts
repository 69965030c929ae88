import { isRecord } from '#core/is-record';
import type { Principal } from '#core/principal';
import {
  type ArgumentRules,
  allowsArguments,
  argumentRules,
  type PolicySet,
  rolesOf,
  toolName,
} from '#policies';
import { type Message, toolOf } from '../relay/message.ts';
import { ProtocolError, RPC } from '../relay/protocol-error.ts';
import type { ChangeMessage } from '../relay/rewrite.ts';

/**
 * What our server always offers: each of these runs a program as the caller's role, which the runner holds against that role.
 * Where a Role names no `tools`, it has these.
 */
export const ALWAYS_OFFERED = ['execute_python', 'run_js', 'run_shell', 'manage_session'] as const;

const DAY_MS = 86_400_000;

/** What a principal may call: what it sees in a list is that, and nothing else. */
export interface ToolRights {
  /** By name, each with the arguments that one or another Role asks for. 'any': nothing is looked at. */
  readonly tools: 'any' | ReadonlyMap<string, readonly ArgumentRules[]>;
}

/** The rights of a principal: those of all its Roles together, since it may choose each of them. Nobody's Role names no tool. */
export function toolRights(set: PolicySet, principal: Principal, nowMs: number): ToolRights {
  const rights = new Map<string, ArgumentRules[]>();
  for (const role of rolesOf(set, principal, nowMs)) {
    const tools = set.roles.get(role)?.spec.tools ?? ALWAYS_OFFERED;
    if (tools === 'any') return { tools: 'any' };
    for (const tool of tools) {
      const name = toolName(tool);
      rights.set(name, [...(rights.get(name) ?? []), argumentRules(tool)]);
    }
  }
  return { tools: rights };
}

/**
 * The same, worked out once for each principal as long as set of policies and day are the same: a Role ends with a day (UTC), and nothing
 * else that its members have by it changes with time. Of a set that is no longer asked about nothing is kept, however long its principals are.
 */
export function rightsByPrincipal(): typeof toolRights {
  let last: { readonly set: PolicySet; readonly day: number } | undefined;
  let known = new WeakMap<Principal, ToolRights>();
  return (set, principal, nowMs) => {
    const day = Math.floor(nowMs / DAY_MS);
    if (last?.set !== set || last.day !== day) {
      last = { set, day };
      known = new WeakMap();
    }
    const found = known.get(principal);
    if (found) return found;
    const rights = toolRights(set, principal, nowMs);
    known.set(principal, rights);
    return rights;
  };
}

/**
 * Refuses a call that names no tool, whoever calls.
 * @throws {ProtocolError} INVALID_REQUEST
 */
export function assertCallsTools(messages: readonly Message[]): void {
  for (const { id, method, params } of messages)
    if (method === 'tools/call' && typeof params['name'] !== 'string')
      throw new ProtocolError(
        'INVALID_REQUEST',
        { code: RPC.invalidParams, id },
        'params.name of tools/call is the name of a tool, a text',
      );
}

/**
 * Refuses a call of a tool that no Role of the caller names, or of one that none names with these arguments, alone or in a batch.
 * @throws {ProtocolError} TOOL_NOT_ALLOWED
 */
export function assertMayCall({ tools }: ToolRights, messages: readonly Message[]): void {
  if (tools === 'any') return;
  for (const message of messages) {
    const tool = toolOf(message);
    if (tool === undefined) continue;
    const rules = tools.get(tool) ?? [];
    if (rules.some((one) => allowsArguments(one, message.params['arguments']))) continue;
    const asked = [...new Set(rules.flatMap((one) => Object.keys(one)))].join(', ');
    throw new ProtocolError(
      'TOOL_NOT_ALLOWED',
      { code: RPC.invalidParams, id: message.id },
      rules.length === 0
        ? `the tool ${JSON.stringify(tool)} is not one that a Role of yours names`
        : `no Role of yours names the tool ${JSON.stringify(tool)} with these arguments; asked for are some values of: ${asked}`,
    );
  }
}

/**
 * Takes the tools that may not be called, with whatever arguments, out of a list, and says that it is nobody else's: what one caller may call
 * no cache may show to another (`cacheScope`, 2026-07-28). Every other message passes as it is.
 */
export function onlyCallable(callable: ReadonlyMap<string, unknown>): ChangeMessage {
  return (message) => {
    if (!isRecord(message) || !isRecord(message['result'])) return undefined;
    const { result } = message;
    if (!Array.isArray(result['tools'])) return undefined;
    const all: unknown[] = result['tools'];
    const tools = all.filter(
      (tool) => isRecord(tool) && typeof tool['name'] === 'string' && callable.has(tool['name']),
    );
    const isShared = Object.hasOwn(result, 'cacheScope') && result['cacheScope'] !== 'private';
    if (tools.length === all.length && !isShared) return undefined;
    return {
      ...message,
      result: { ...result, tools, ...(isShared ? { cacheScope: 'private' } : {}) },
    };
  };
}
