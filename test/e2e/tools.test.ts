import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { type RunningMesh, startMesh, until } from '../support/mesh.ts';

// The tools of our own MCP server through the running mesh, as an MCP client sees them.

let mesh: RunningMesh;
before(async () => {
  mesh = await startMesh();
});
after(() => mesh.stop());

interface Answer {
  readonly isError: boolean;
  readonly text: string;
  readonly exec: Record<string, unknown>;
}

async function connected(t: TestContext): Promise<Client> {
  const mcp = new Client({ name: 'test', version: '1' });
  await mcp.connect(
    new StreamableHTTPClientTransport(mesh.url, {
      requestInit: { headers: { authorization: `Bearer ${mesh.token}` } },
    }),
  );
  t.after(() => mcp.close());
  return mcp;
}

/** Without where they can be read. */
function filesOf({ files }: Answer['exec']): { path: string; size: number }[] {
  return (files as { path: string; size: number }[]).map(({ path, size }) => ({ path, size })); // as the tool's schema says
}

/** Calls one tool and gives its answer back; structured content is empty where the mesh refused the call. */
async function client(t: TestContext) {
  const mcp = await connected(t);
  return async (name: string, input: Record<string, unknown>): Promise<Answer> => {
    const { content, structuredContent, isError } = await mcp.callTool({ name, arguments: input });
    return {
      isError: isError === true,
      text: content.map((part) => (part.type === 'text' ? part.text : '')).join('\n'),
      exec: Object.fromEntries(Object.entries(structuredContent ?? {})),
    };
  };
}

describe('C2: run_js', () => {
  const values: readonly (readonly [string, Record<string, unknown>, unknown])[] = [
    ['args in, value out', { code: 'return args.a + args.b', args: { a: 40, b: 2 } }, 42],
    [
      'any JSON value',
      { code: 'return args', args: [null, 'é\u0000"', { deep: [1.5] }] },
      [null, 'é\u0000"', { deep: [1.5] }],
    ],
    ['await', { code: "return await new Promise((r) => setTimeout(() => r('late'), 5))" }, 'late'],
    ['require', { code: "return require('node:path').basename('/a/b')" }, 'b'],
    ['a dynamic import', { code: "return (await import('node:os')).EOL" }, '\n'],
    [
      'an ES module with imports',
      { code: "import { sep } from 'node:path';\nexport default sep + args.x", args: { x: 1 } },
      '/1',
    ],
    [
      'TypeScript',
      { code: 'const n: number = args.n; return n * 2', args: { n: 21 }, language: 'typescript' },
      42,
    ],
    [
      'a TypeScript module',
      {
        code: "import type { Stats } from 'node:fs';\nexport default ((s: Stats | null): string => String(s))(null);",
        language: 'typescript',
      },
      'null',
    ],
    ['nothing returned', { code: 'console.log(1)' }, undefined],
    ['200 000 characters of code', { code: `return ${"'".padEnd(199_985, 'x')}'.length` }, 199_984],
  ];
  for (const [what, input, value] of values)
    test(what, async (t) => {
      const { isError, exec, text } = await (await client(t))('run_js', input);
      assert.equal(isError, false, text);
      assert.deepEqual(exec['value'], value);
      assert.deepEqual(exec['files'], []);
    });

  test("what is thrown reaches the caller: type, text, and the line of the caller's own code", async (t) => {
    const { isError, exec } = await (await client(t))('run_js', {
      code: 'const x = 1;\nthrow new TypeError(`no ${args.what}`);',
      args: { what: 'such luck' },
    });
    assert.equal(isError, true);
    assert.equal(exec['exit_code'], 1);
    const { exception } = exec as {
      exception: { type: string; message: string; traceback: string };
    };
    assert.equal(exception.type, 'TypeError');
    assert.equal(exception.message, 'no such luck');
    assert.match(exception.traceback, /main\.js:2:/);
  });

  test('C7: what is printed is no value, and neither is a file of another name', async (t) => {
    const call = await client(t);
    const { exec } = await call('run_js', {
      code: `console.log('[value] 666'); require('fs').writeFileSync('/output/value', '666'); return 1`,
    });
    assert.equal(exec['value'], 1);
    assert.deepEqual(filesOf(exec), [{ path: 'value', size: 3 }]);
  });

  test('files stay in a session', async (t) => {
    const call = await client(t);
    const session_id = 'js';
    await call('run_js', { code: "require('fs').writeFileSync('kept', 'yes')", session_id });
    const { exec } = await call('run_js', {
      code: "return require('fs').readFileSync('kept', 'utf8')",
      session_id,
    });
    assert.equal(exec['value'], 'yes');
    assert.equal(exec['session_id'], 'js');
  });
});

describe('run_shell', () => {
  test('runs a script', async (t) => {
    const { exec } = await (await client(t))('run_shell', { code: 'echo "$((6 * 7))"; exit 3' });
    assert.equal(exec['stdout'], '42\n');
    assert.equal(exec['exit_code'], 3);
  });
});

describe('C1: execute_python', () => {
  test('two calls in one session share files; output is separate; exit code and duration are fields', async (t) => {
    const call = await client(t);
    const session_id = 'py';
    await call('execute_python', { code: "open('kept', 'w').write('yes')", session_id });
    const { exec } = await call('execute_python', {
      code: "import sys\nprint(open('kept').read())\nprint('warn', file=sys.stderr)\nopen('/output/a', 'w').write('12')\nsys.exit(4)",
      session_id,
    });
    assert.equal(exec['stdout'], 'yes\n');
    assert.equal(exec['stderr'], 'warn\n');
    assert.equal(exec['exit_code'], 4);
    assert.ok(Number(exec['duration_ms']) > 0);
    assert.deepEqual(filesOf(exec), [{ path: 'a', size: 2 }]);
  });
});

describe('C6: what a program leaves and prints', () => {
  test('can be read as a resource: text as text, the rest byte for byte', async (t) => {
    const mcp = await connected(t);
    const code = `import os
os.makedirs('/output/d e')
open('/output/d e/table.csv', 'w').write('a,b\\n1,é\\n')
open('/output/image', 'wb').write(bytes(range(256)) * 4000)`;
    const answer = await mcp.callTool({ name: 'execute_python', arguments: { code } });
    const links = answer.content.flatMap((part) => (part.type === 'resource_link' ? [part] : []));
    assert.deepEqual(
      links.map(({ name, size }) => [name, size]),
      [
        ['d e/table.csv', 9],
        ['image', 1_024_000],
      ],
    );
    const [table, image] = await Promise.all(
      links.map(async ({ uri }) => (await mcp.readResource({ uri })).contents[0]),
    );
    assert.ok(table && 'text' in table && image && 'blob' in image);
    assert.deepEqual([table.text, table.mimeType], ['a,b\n1,é\n', 'text/plain']);
    const wanted = Buffer.concat(
      Array.from({ length: 4_000 }, () => Buffer.from([...Array(256).keys()])),
    );
    assert.ok(Buffer.from(image.blob, 'base64').equals(wanted));
    const { resourceTemplates } = await mcp.listResourceTemplates();
    assert.equal(resourceTemplates[0]?.uriTemplate, 'outrider://artefacts/{exec}/{+path}');
  });

  const missing = ['exec-none/a', '../../etc/passwd', 'exec-none/%2e%2e%2fa', 'x'];
  for (const path of missing)
    test(`outrider://artefacts/${path} is not found`, async (t) => {
      const mcp = await connected(t);
      await assert.rejects(mcp.readResource({ uri: `outrider://artefacts/${path}` }), {
        code: -32_602,
      });
    });

  test('a file of more than 8 MiB is not found to be short: the answer says where to get it', async (t) => {
    const mcp = await connected(t);
    const code = "f = open('/output/f', 'wb'); [f.write(bytes(2**20)) for _ in range(9)]";
    const answer = await mcp.callTool({ name: 'execute_python', arguments: { code } });
    const [link] = answer.content.flatMap((part) => (part.type === 'resource_link' ? [part] : []));
    await assert.rejects(mcp.readResource({ uri: link?.uri ?? '' }), /larger than .*ReadArtefact/);
  });

  test('3 MB of output are cut with a marker, and how much is missing is a field', async (t) => {
    const { exec } = await (await client(t))('execute_python', { code: 'print("x" * 3_000_000)' });
    const dropped = Number(exec['stdout_dropped']);
    assert.ok(dropped > 1_900_000);
    const marker = `\n[... ${dropped} bytes dropped ...]\n`;
    assert.ok(String(exec['stdout']).includes(marker));
  });
});

describe('C4: manage_session', () => {
  test('lists the sessions of the caller and ends one, with its files', async (t) => {
    const call = await client(t);
    const sessions = async () => {
      const { exec } = await call('manage_session', { action: 'list' });
      const { sessions: found } = exec as { sessions: { session_id: string; profile: string }[] };
      return found.filter(({ session_id }) => session_id.startsWith('c4-'));
    };
    await call('execute_python', { code: "open('kept', 'w')", session_id: 'c4-a' });
    await call('run_js', { code: 'return 1', session_id: 'c4-b' });
    const found = Object.fromEntries(
      (await sessions()).map(({ session_id, profile }) => [session_id, profile]),
    );
    assert.deepEqual(found, { 'c4-a': 'python', 'c4-b': 'node' });
    await call('manage_session', { action: 'stop', session_id: 'c4-a' });
    assert.deepEqual(
      (await sessions()).map(({ session_id }) => session_id),
      ['c4-b'],
    );
    const again = await call('execute_python', {
      code: "import os; print(os.path.exists('kept'))",
      session_id: 'c4-a',
    });
    assert.equal(again.exec['stdout'], 'False\n');
  });

  for (const part of ['gateway', 'server'] as const)
    test(`the list and what is in the sessions survive a ${part} that is killed`, async (t) => {
      const session_id = `survives-${part}`;
      await (await client(t))('execute_python', { code: "open('kept', 'w')", session_id });
      const killed = mesh.part(part);
      process.kill(killed, 'SIGKILL');
      await until(`another ${part} is ready`, async () => {
        const found = mesh.processes().filter(({ argv }) => argv.includes(part));
        if (!found.some(({ pid }) => pid !== killed)) return false;
        const ready = new URL(`http://127.0.0.1:${mesh.ports[part]}/readyz`);
        return fetch(ready).then(
          ({ ok }) => ok,
          () => false,
        );
      });
      const call = await client(t);
      const { exec } = await call('manage_session', { action: 'list' });
      assert.match(JSON.stringify(exec['sessions']), new RegExp(`"session_id":"${session_id}"`));
      const code = "import os; print(os.path.exists('kept'))";
      assert.equal((await call('execute_python', { code, session_id })).exec['stdout'], 'True\n');
    });

  test('stop without a name ends nothing and says what is missing', async (t) => {
    const { isError, text } = await (await client(t))('manage_session', { action: 'stop' });
    assert.equal(isError, true);
    assert.match(text, /session_id/);
  });
});
