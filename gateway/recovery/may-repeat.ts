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

/** `call`: tools that the operator calls safe; `question`: nothing but questions, or no message, which is the opening of a stream. */
export type Repeat = 'call' | 'question' | 'never';

/**
 * Whether messages may be sent again where nobody knows if they took effect. What a server says of its own tools is not asked.
 */
export function mayRepeat(messages: readonly Message[], safeTools: ReadonlySet<string>): Repeat {
  let repeat: Repeat = 'question';
  for (const message of messages) {
    const tool = toolOf(message);
    if (tool === undefined ? !ASKING.has(message.method ?? '') : !safeTools.has(tool))
      return 'never';
    if (tool !== undefined) repeat = 'call';
  }
  return repeat;
}
