// The client of ClickHouse's makers, as a program would use it. Says what came of each step, one JSON object.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [url = '', peers = ''] = process.argv.slice(2);
const require = createRequire(join(peers, 'package.json'));
const { createClient } = require('@clickhouse/client');
const { origin, pathname } = new URL(url);
const client = createClient({
  url: origin,
  pathname,
  username: 'me',
  password: 'mine',
});
const said = {};

async function step(name, query, more = {}) {
  try {
    const rows = await client.query({ query, format: 'JSONEachRow', ...more });
    said[name] = await rows.json();
  } catch (error) {
    said[name] =
      String(error.message).match(/"reason":"(\w+)"/)?.[1] ?? String(error.message).slice(0, 200);
  }
}
await step('granted table', 'SELECT a FROM app.events ORDER BY a');
await step('other table', 'SELECT a FROM app.secrets');
await step('insert', 'INSERT INTO app.events VALUES (9)');
await step('two statements', 'SELECT 1; SELECT 2');
await step('setting', 'SELECT 1', { clickhouse_settings: { max_execution_time: 0 } });
await step('parameter', 'SELECT {a: Int32}', { query_params: { a: 1 } });
await step('session', 'SELECT 1', { session_id: 'x' });
await client.close();
process.stdout.write(`${JSON.stringify(said)}\n`);
