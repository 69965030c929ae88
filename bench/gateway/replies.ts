/** A JSON-RPC message as far as a reply depends on it. */
export interface Asked {
  readonly id?: unknown;
  readonly method?: unknown;
  readonly params?: unknown;
}

const TEXT = 'x'.repeat(200);

/** What a minimal MCP server (2025-11-25) with the one tool `echo` answers; undefined to a notification. */
export function reply({ id, method, params }: Asked): object | undefined {
  if (id === undefined) return undefined;
  const answer = (result: object) => ({ jsonrpc: '2.0', id, result });
  switch (method) {
    case 'initialize':
      return answer({
        protocolVersion: Object(params).protocolVersion,
        capabilities: { tools: {} },
        serverInfo: { name: 'bench', version: '1' },
      });
    case 'tools/call':
      return answer({ content: [{ type: 'text', text: TEXT }] });
    case 'tools/list':
      return answer({ tools: [{ name: 'echo', inputSchema: { type: 'object' } }] });
    case 'ping':
      return answer({});
    default:
      return { jsonrpc: '2.0', id, error: { code: -32_601, message: 'Method not found' } };
  }
}
