import { headerOf, NAMED_BY } from '#core/mcp-name';
import { isMessage, type Message, methodOf, paramsOf } from './json-rpc.ts';

const VERSION_KEY = 'io.modelcontextprotocol/protocolVersion';

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
  const name = paramsOf(message)[NAMED_BY.get(method) ?? ''];
  return {
    'mcp-protocol-version': headerOf(version),
    'mcp-method': headerOf(method),
    ...(typeof name === 'string' ? { 'mcp-name': headerOf(name) } : {}),
  };
}
