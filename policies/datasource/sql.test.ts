import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuMsOf } from '#core/testing/cpu';
import { sqlRefusal } from './sql.ts';

const GRANT = {
  tables: ['analytics.*', 'logs.events'],
  functions: ['dictGetOrDefault'],
  settings: ['max_threads'],
};

/** A statement, and why it is refused; undefined where it is not. */
const CASES: readonly (readonly [sql: string, reason?: string])[] = [
  ['SELECT 1'],
  ['select 1;'],
  ['SELECT * FROM analytics.daily'],
  ['SELECT a.b, count() AS c FROM analytics.daily AS a WHERE a.day >= today() - 7 GROUP BY ALL'],
  ['SELECT * FROM `analytics`."daily" LIMIT 10 OFFSET 5'],
  ["SELECT 'FROM secret.t', 'it''s', 'a\\'b' FROM logs.events"],
  ['SELECT x FROM (SELECT 1 AS x) AS t'],
  ['SELECT x FROM (SELECT x FROM analytics.a UNION ALL SELECT x FROM analytics.b)'],
  ['SELECT x FROM analytics.a EXCEPT SELECT x FROM analytics.b'],
  ['SELECT * EXCEPT (a, b) FROM analytics.a'],
  ['(SELECT 1) UNION ALL (SELECT 2)'],
  ['WITH t AS (SELECT 1 AS x) SELECT x FROM t'],
  ['WITH t AS (SELECT 1), u AS (SELECT * FROM t) SELECT * FROM u, t'],
  ['WITH 7 AS n, toDate(now()) AS d SELECT n, d FROM analytics.a'],
  [
    'SELECT * FROM analytics.a JOIN logs.events AS e ON a.id = e.id LEFT JOIN analytics.b USING (id)',
  ],
  ['SELECT * FROM analytics.a ARRAY JOIN tags AS t, more'],
  ['SELECT x FROM analytics.a WHERE id IN (1, 2, 3) AND n NOT IN (SELECT id FROM logs.events)'],
  ["SELECT x FROM analytics.a WHERE s IN ('a', 'b') OR d IN [toDate('2026-01-01')]"],
  ['SELECT x IN logs.events FROM analytics.a'],
  ['SELECT quantile(0.9)(x), sumIf(x, y > 1), countDistinctIf(x, y) FROM analytics.a'],
  ['SELECT CAST(x AS Nullable(String)), y::UInt64, (1, 2).1 FROM analytics.a'],
  ['SELECT arrayMap(x -> x + 1, [1, 2]), CASE WHEN a THEN 1 ELSE 2 END FROM analytics.a'],
  ['SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM analytics.a'],
  ['SELECT x FROM analytics.a ORDER BY x DESC LIMIT 1 BY y FORMAT JSONEachRow'],
  ['SELECT x, y FROM analytics.a ORDER BY x, y LIMIT 5, 10'],
  ['SELECT x FROM analytics.a SETTINGS max_threads = 2 FORMAT JSON'],
  ['SELECT number FROM numbers(10)'],
  ["SELECT dictGetOrDefault('d', 'x', 1, 2)"],
  ['DESCRIBE TABLE analytics.daily'],
  ['EXISTS logs.events'],
  ["SHOW TABLES FROM analytics LIKE 'a%'"],

  ['', 'sql_not_readonly'],
  ['SELECT 1; SELECT 2', 'sql_multi_statement'],
  ['INSERT INTO analytics.a SELECT 1', 'sql_not_readonly'],
  ['SYSTEM SHUTDOWN', 'sql_not_readonly'],
  ['KILL QUERY WHERE 1', 'sql_not_readonly'],
  ['GRANT ALL ON *.* TO x', 'sql_not_readonly'],
  ['FROM secret.t SELECT *', 'sql_not_readonly'],
  ['WITH x AS (SELECT 1) INSERT INTO analytics.a SELECT 1', 'query_not_understood'],
  ["SELECT 1 INTO OUTFILE 'x'", 'sql_not_readonly'],
  ["SELECT * FROM analytics.a INTO OUTFILE 'x' FORMAT CSV", 'sql_not_readonly'],
  ['SELECT 1 SETTINGS max_execution_time=0, max_result_rows=0', 'sql_setting_forbidden'],
  ['SELECT * FROM (SELECT 1 SETTINGS readonly = 0)', 'sql_setting_forbidden'],
  ['SELECT * FROM system.users', 'table_not_granted'],
  ['SELECT * FROM secret', 'table_not_granted'],
  ['SELECT * FROM Analytics.daily', 'table_not_granted'],
  ['SELECT * FROM logs.other', 'table_not_granted'],
  ['SELECT * FROM analytics.a, secret.t', 'table_not_granted'],
  ['SELECT * FROM analytics.a AS where, secret.t', 'table_not_granted'],
  ['SELECT * FROM analytics.a qualify, secret.t', 'table_not_granted'],
  ['SELECT * FROM analytics.a window, secret.t', 'table_not_granted'],
  ['SELECT * FROM analytics.a order, secret.t', 'query_not_understood'],
  ['SELECT * FROM analytics.a limit, secret.t', 'query_not_understood'],
  ['SELECT * FROM analytics.a SAMPLE 1/10 OFFSET 1/2, secret.t', 'table_not_granted'],
  ['SELECT * FROM analytics.a JOIN secret.t ON 1', 'table_not_granted'],
  ['SELECT * FROM analytics.a AS array JOIN secret.t ON 1', 'table_not_granted'],
  ['SELECT * FROM analytics.a ARRAY JOIN x CROSS JOIN secret.t', 'table_not_granted'],
  ['SELECT (SELECT count() FROM secret.t)', 'table_not_granted'],
  ['SELECT 1 WHERE 1 IN secret.t', 'table_not_granted'],
  ['SELECT 1 WHERE 1 IN secret', 'table_not_granted'],
  ['SELECT 1 WHERE 1 IN (secret)', 'query_not_understood'],
  ['SELECT 1 WHERE 1 IN ((secret.t))', 'query_not_understood'],
  ['SELECT 1 WHERE 1 GLOBAL NOT IN (SELECT x FROM secret.t)', 'table_not_granted'],
  ['SELECT in(1, secret)', 'query_not_understood'],
  ['SELECT globalIn(1, secret)', 'sql_function_forbidden'],
  ['SELECT 1 UNION ALL SELECT x FROM secret.t', 'table_not_granted'],
  ['SELECT 1 EXCEPT (SELECT x FROM secret.t)', 'table_not_granted'],
  ['WITH t AS (SELECT * FROM t) SELECT * FROM t', 'table_not_granted'],
  ['SELECT * FROM (WITH s AS (SELECT 1) SELECT 1), s', 'table_not_granted'],
  ['WITH s AS (SELECT 1) SELECT 1 UNION ALL SELECT * FROM s', 'table_not_granted'],
  ['WITH RECURSIVE t AS (SELECT 1) SELECT * FROM t', 'query_not_understood'],
  ['WITH 1 AS s SELECT * FROM s', 'table_not_granted'],
  ["SELECT * FROM url('http://x', CSV)", 'sql_function_forbidden'],
  ["SELECT * FROM file('/etc/passwd')", 'sql_function_forbidden'],
  ["SELECT * FROM remote('h', 'secret', 't')", 'sql_function_forbidden'],
  ["SELECT * FROM s3('http://x')", 'sql_function_forbidden'],
  ["SELECT * FROM `url`('http://x')", 'sql_function_forbidden'],
  ['SELECT * FROM merge(secret, a)', 'sql_function_forbidden'],
  ["SELECT file('/etc/passwd')", 'sql_function_forbidden'],
  ["SELECT joinGet('secret.t', 'x', 1)", 'sql_function_forbidden'],
  ["SELECT dictGet('secret', 'x', 1)", 'sql_function_forbidden'],
  ["SELECT getSetting('x')", 'sql_function_forbidden'],
  ['SELECT sleep(3)', 'sql_function_forbidden'],
  ['SELECT "file"(1)', 'sql_function_forbidden'],
  ['SELECT * APPLY(file) FROM analytics.a', 'query_not_understood'],
  ['SELECT {x:Identifier}', 'query_not_understood'],
  ['SELECT 1 -- x', 'query_not_understood'],
  ['SELECT 1 /* x */', 'query_not_understood'],
  ['SELECT 1 # x', 'query_not_understood'],
  ['SELECT $$x$$', 'query_not_understood'],
  ['SELECT 1.from secret.t', 'query_not_understood'],
  ['SELECT t.1.from secret.t', 'query_not_understood'],
  ['SELECT * FROM "analytics"."a""b"', 'query_not_understood'],
  ['SELECT * FROM analytics.`a``b`', 'query_not_understood'],
  ['SELECT EXTRACT(YEAR FROM x) FROM analytics.a', 'query_not_understood'],
  ['SELECT * FROM (analytics.a JOIN secret.t)', 'query_not_understood'],
  ['EXPLAIN SELECT 1', 'sql_not_readonly'],
  ['SHOW CREATE TABLE analytics.a', 'query_not_understood'],
  ['SHOW TABLES FROM logs', 'table_not_granted'],
  ['SHOW GRANTS', 'query_not_understood'],
  ['DESCRIBE secret.t', 'table_not_granted'],
  ["DESCRIBE url('http://x')", 'table_not_granted'],
  ['EXISTS DATABASE secret', 'table_not_granted'],
  ['SELECT 1)', 'query_not_understood'],
  ['SELECT (1', 'query_not_understood'],
  [`SELECT ${'('.repeat(100)}1${')'.repeat(100)}`, 'query_not_understood'],
  ['SELECT é', 'query_not_understood'],
];

for (const [sql, reason] of CASES)
  test(`${reason ?? 'read'}: ${sql.slice(0, 90)}`, () =>
    assert.equal(sqlRefusal(sql, GRANT), reason));

test('any table is any but those that tell about the server', () => {
  const grant = { ...GRANT, tables: 'any' } as const;
  assert.equal(sqlRefusal('SELECT * FROM secret.t', grant), undefined);
  assert.equal(sqlRefusal('SELECT * FROM system.users', grant), 'table_not_granted');
  assert.equal(
    sqlRefusal('SELECT * FROM system.parts', { ...GRANT, tables: ['system.parts'] }),
    undefined,
  );
});

test('a megabyte of anything is answered, and soon', async () => {
  const many = (piece: string) => piece.repeat(1_048_576 / piece.length);
  const took = await cpuMsOf(() => {
    for (const piece of ["'", "\\'", '(', '1,', 'a.', "''", '`', '"x"', '- '])
      assert.ok(sqlRefusal(`SELECT '${many(piece)}`, GRANT) !== undefined);
    for (const piece of ['(', '1,', 'a.', '[', 'x IN ', 'f('])
      sqlRefusal(`SELECT ${many(piece)}`, GRANT);
  });
  assert.ok(took < 10_000, `${took} ms of the processor`);
});
