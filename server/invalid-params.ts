import type { McpServer } from '@modelcontextprotocol/server';
import { isRecord } from '#core/is-record';

type Connecting = Pick<McpServer['server'], 'connect'>;
type Message = Parameters<Parameters<Connecting['connect']>[0]['send']>[0];

const INTERNAL_ERROR = -32_603;
const INVALID_PARAMS = -32_602;

/**
 * Parameters that do not fit their method are -32602 (JSON-RPC 2.0, 5.1), in words: the SDK calls most of them an internal error of ours, and
 * says why in its validator's JSON. To be called before the server is connected.
 */
export function answerInvalidParams(server: Connecting): void {
  const connect = server.connect.bind(server);
  server.connect = (transport) => {
    const send = transport.send.bind(transport);
    transport.send = (message, options) => send(inWords(message), options);
    return connect(transport);
  };
}

function inWords(message: Message): Message {
  if (!('error' in message)) return message;
  const { code, message: text } = message.error;
  if (code !== INTERNAL_ERROR && code !== INVALID_PARAMS) return message;
  const [, before = '', json = ''] = /^([^[{]*)(\[[^]*\])$/.exec(text) ?? [];
  const issues = issuesIn(json);
  if (issues === undefined) return message;
  return {
    ...message,
    error: { ...message.error, code: INVALID_PARAMS, message: `${before}${issues.join('; ')}` },
  };
}

/** What a validator of the SDK found, each as `params.uri: what is wrong`; undefined for any other text. */
function issuesIn(json: string): readonly string[] | undefined {
  try {
    const issues: unknown = JSON.parse(json);
    if (!Array.isArray(issues) || issues.length === 0) return undefined;
    const lines = issues.map((issue) =>
      isRecord(issue) && Array.isArray(issue['path']) && typeof issue['message'] === 'string'
        ? `${issue['path'].join('.')}: ${issue['message']}`
        : '',
    );
    return lines.includes('') ? undefined : lines;
  } catch {
    return undefined;
  }
}
