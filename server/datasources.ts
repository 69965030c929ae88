import {
  ProtocolError,
  ProtocolErrorCode,
  type ReadResourceResult,
  ResourceNotFoundError,
  ResourceTemplate,
} from '@modelcontextprotocol/server';
import { OutriderError, toOutriderError } from '#core/errors';
import type { Datasource } from '#proto';
import { DATASOURCES_URI, datasourceUri } from './datasource-uri.ts';
import type { ToolDeps } from './program-tool.ts';
import type { RunContext, Runner } from './runner-client.ts';

/** Within this time a runner answers, or the request fails. */
const DEADLINE_MS = 5_000;
const JSON_TYPE = 'application/json';

/**
 * Serves as resources which datasources the caller's programs may ask: the list, and each of them with its name, description and where a
 * program finds it. Asked of a runner each time, so that they are always of the policy in force.
 */
export function addDatasources({ server, runner, caller, observe }: ToolDeps): void {
  const ask = async <T>(
    method: string,
    signal: AbortSignal,
    answer: (list: readonly Datasource[]) => T,
  ): Promise<T> => {
    const started = performance.now();
    let outcome: 'ok' | 'error' = 'error';
    try {
      const answered = answer(await listed(runner, { ...caller, signal }));
      outcome = 'ok';
      return answered;
    } catch (error) {
      throw error instanceof ProtocolError ? error : protocolError(toOutriderError(error));
    } finally {
      observe(method, outcome, (performance.now() - started) / 1_000);
    }
  };

  server.registerResource(
    'datasources',
    DATASOURCES_URI,
    {
      title: 'Datasources',
      description: 'What programs may ask without any credential, by type and name.',
      mimeType: JSON_TYPE,
    },
    (uri, { mcpReq: { signal } }) =>
      ask('resources/read', signal, (list) =>
        contents(uri.href, { datasources: list.map(described) }),
      ),
  );
  server.registerResource(
    'datasource',
    new ResourceTemplate(`${DATASOURCES_URI}/{type}/{name}`, {
      list: ({ mcpReq: { signal } }) =>
        ask('resources/list', signal, (list) => ({ resources: list.map(resourceOf) })).catch(
          withoutRole,
        ),
    }),
    { title: 'A datasource that programs may ask', mimeType: JSON_TYPE },
    (uri, _variables, { mcpReq: { signal } }) =>
      ask('resources/read', signal, (list) => {
        const found = list.find((one) => datasourceUri(one) === uri.href);
        if (!found) throw new ResourceNotFoundError(uri.href, 'there is no such datasource');
        return contents(uri.href, described(found));
      }),
  );
}

/** Who has no role, or several, has no datasources to list; reading the list says why. */
function withoutRole(error: unknown): { resources: [] } {
  const data: unknown = error instanceof ProtocolError ? error.data : undefined;
  const code: unknown = Object(Object(data)['outrider/error']).code;
  if (code === 'ROLE_DENIED' || code === 'ROLE_AMBIGUOUS') return { resources: [] };
  throw error;
}

/** @throws {OutriderError} as `Runner.watchDatasources` */
async function listed(
  runner: Runner,
  context: Omit<RunContext, 'deadlineMs'>,
): Promise<readonly Datasource[]> {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  const signal = AbortSignal.any([context.signal, deadline]);
  for await (const list of runner.watchDatasources({ ...context, signal })) return list;
  throw deadline.aborted
    ? new OutriderError('DEADLINE_EXCEEDED', 'the runner does not answer')
    : new OutriderError('CANCELLED', 'the call was cancelled');
}

function resourceOf(datasource: Datasource) {
  const { type, name, description } = datasource;
  return {
    uri: datasourceUri(datasource),
    name: `${type}/${name}`,
    ...(description === '' ? {} : { description }),
    mimeType: JSON_TYPE,
  };
}

/** With the two spellings that need no header. */
function described({ type, name, description }: Datasource) {
  return {
    type,
    name,
    description,
    url: `$OUTRIDER_URL/${type}/${name}/`,
    alias: `http://${type}-${name}.outrider.internal/`,
  };
}

function contents(uri: string, value: object): ReadResourceResult {
  return {
    contents: [{ uri, mimeType: JSON_TYPE, text: `${JSON.stringify(value, undefined, 2)}\n` }],
  };
}

function protocolError({ code, message, retryAfterMs }: OutriderError): ProtocolError {
  const data = { code, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
  return new ProtocolError(ProtocolErrorCode.InternalError, `${message} [${code}]`, {
    'outrider/error': data,
  });
}
