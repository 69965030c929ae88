import { type Message, toolOf } from '../relay/message.ts';

/** Requests that ask, or set what is set already: the protocol gives them no other effect. */
const ASKING: ReadonlySet<string> = new Set([
  'ping',
  'tools/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
  'resources/subscribe',
  'resources/unsubscribe',
  'prompts/list',
  'prompts/get',
  'completion/complete',
  'logging/setLevel',
]);

/**
 * Whether messages may be sent again where nobody knows if they took effect: calls only of tools that the operator calls safe.
 * What a server says of its own tools is not asked. No message at all is the opening of a stream.
 */
export function mayRepeat(messages: readonly Message[], safeTools: ReadonlySet<string>): boolean {
  return messages.every((message) => {
    const tool = toolOf(message);
    return tool === undefined ? ASKING.has(message.method ?? '') : safeTools.has(tool);
  });
}
