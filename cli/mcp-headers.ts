import { isMessage, type Message, methodOf, paramsOf } from './json-rpc.ts';

const VERSION_KEY = 'io.modelcontextprotocol/protocolVersion';

/** Which parameter `Mcp-Name` repeats, by method (MCP 2026-07-28, Streamable HTTP, standard request headers). */
const NAME_PARAMETER: ReadonlyMap<string, string> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
]);

/** The version that a message of the stateless era names itself; undefined for one of the session era. */
export function versionInMessage(message: Message): string | undefined {
  const meta = paramsOf(message)['_meta'];
  const version = isMessage(meta) ? meta[VERSION_KEY] : undefined;
  return typeof version === 'string' ? version : undefined;
}

/**
 * The headers that repeat a message of the stateless era, so that balancers can route it unread. None for the session era.
 * `Mcp-Param-*` is not made: it needs the schema of the tool.
 */
export function standardHeaders(message: Message): Record<string, string> {
  const version = versionInMessage(message);
  const method = methodOf(message);
  if (version === undefined || method === undefined) return {};
  const name = paramsOf(message)[NAME_PARAMETER.get(method) ?? ''];
  return {
    'mcp-protocol-version': headerValue(version),
    'mcp-method': headerValue(method),
    ...(typeof name === 'string' ? { 'mcp-name': headerValue(name) } : {}),
  };
}

/** Text as a header can carry it: visible ASCII as it is, anything else as `=?base64?...?=`. */
export function headerValue(text: string): string {
  const plain =
    /^[\x20-\x7e\t]+$/.test(text) && text === text.trim() && !/^=\?base64\?.*\?=$/s.test(text);
  return plain ? text : `=?base64?${Buffer.from(text, 'utf8').toString('base64')}?=`;
}
