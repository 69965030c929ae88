import { randomUUID } from 'node:crypto';
import { originForm } from '#policies';
import type { DatasourceAdapter, PlannedCall } from './adapter.ts';
import { authOf } from './auth.ts';
import { underBase } from './http.ts';

/**
 * ClickHouse over HTTP. Whatever the statement turns out to be for the server, it runs read-only, and it is killed when the caller
 * has left: a server that is busy with a query does not see by itself that a connection was cut.
 */
export const clickhouse: DatasourceAdapter = {
  // To the server, which gets each call as a POST, a body is the rest of the statement.
  body: ({ method }) => (method === 'POST' ? 'asks' : 'none'),
  plan(call) {
    const { target, spec } = call;
    const id = randomUUID();
    const query = readOnly(target.query, id, statementOf(call));
    return {
      // To a GET the server itself gives `readonly=2`, and then takes no 1 any more.
      method: 'POST',
      path: underBase(spec.endpoint, originForm({ ...target, query })),
      ...authOf(call),
      // A user may end queries of its own, read-only or not. https://clickhouse.com/docs/sql-reference/statements/kill
      abandonment: {
        path: underBase(spec.endpoint, '/'),
        body: `KILL QUERY WHERE query_id = '${id}' ASYNC`,
      },
    };
  },
};

/**
 * Behind everything else: ClickHouse reads settings in their order and takes none any more once it is read-only. With 1 it takes none
 * from the statement either, whatever got past the rule; 2 only where the statement has SETTINGS, which the rule has looked at.
 * https://clickhouse.com/docs/operations/settings/permissions-for-queries
 */
function readOnly(query: string | null, id: string, statement: string): string {
  const before = query === null || query === '' ? '' : `${query}&`;
  const mode = /\bsettings\b/i.test(statement) ? 2 : 1;
  return `${before}query_id=${id}&readonly=${mode}`;
}

function statementOf({ target: { query }, body }: PlannedCall): string {
  return body?.toString('utf8') || (new URLSearchParams(query ?? '').get('query') ?? '');
}
