import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FileType, ListFilesRequest, ListFilesResponse, type WriteFileRequest } from '#proto';
import { call, codeOf, python } from './test-rig.ts';
import { inside, MIB, serviceRig } from './testing.ts';

const service = serviceRig();
const { run } = service;

describe('files of a sandbox', () => {
  let sandboxId = '';
  before(async () => {
    const request = { name: 'files', role: '', idempotencyKey: '', spec: undefined };
    const { sandbox } = await call(service.rig.boxes, 'createSandbox', request, service.alice);
    sandboxId = sandbox?.sandboxId ?? '';
  });

  /** Sends these requests, and resolves to the size that was written. */
  const write = (requests: readonly WriteFileRequest['request'][]): Promise<bigint> =>
    new Promise((resolve, reject) => {
      const stream = service.rig.files.writeFile(service.alice, (error, value) =>
        error ? reject(error) : resolve(value.size),
      );
      for (const one of requests) stream.write({ request: one });
      stream.end();
    });
  const to = (path: string, mode = 0): WriteFileRequest['request'] => ({
    $case: 'start',
    value: { sandboxId, path, mode },
  });
  const data = (content: Buffer | string): WriteFileRequest['request'] => ({
    $case: 'data',
    value: Buffer.from(content),
  });
  const read = async (path: string, offset = 0n, length = 0n): Promise<Buffer> => {
    const parts: Buffer[] = [];
    const stream = service.rig.files.readFile({ sandboxId, path, offset, length }, service.alice);
    for await (const part of stream as AsyncIterable<{ data: Buffer }>) parts.push(part.data);
    return Buffer.concat(parts);
  };
  const list = (over: Partial<ListFilesRequest> = {}) =>
    call(
      service.rig.files,
      'listFiles',
      ListFilesRequest.fromPartial({ sandboxId, ...over }),
      service.alice,
    );
  const names = async () => (await list({ depth: 2 })).files.map(({ path }) => path);
  /** Every page, by the names that it has. */
  const pages = async (over: Partial<ListFilesRequest>): Promise<string[][]> => {
    const all: string[][] = [];
    for (let pageToken = '', more = true; more; ) {
      const { files, truncated, nextPageToken } = await list({ ...over, pageToken });
      all.push(files.map(({ path }) => path));
      assert.equal(truncated, nextPageToken !== '');
      pageToken = nextPageToken;
      more = truncated;
    }
    return all;
  };

  test('that are written, seen by programs, read, listed and removed', async () => {
    const content = Buffer.alloc(2 * MIB, 'abc');
    const pieces = [content.subarray(0, MIB), content.subarray(MIB)];
    assert.equal(await write([to('d/f', 0o600), ...pieces.map(data)]), BigInt(content.length));
    const seen = await run(python('print(len(open("d/f").read()))', inside(sandboxId)));
    assert.equal(seen.stdout.toString(), `${content.length}\n`);
    assert.ok((await read('d/f')).equals(content));
    assert.equal((await read('/workspace/d/f', 3n, 4n)).toString(), 'abca');
    assert.equal((await read('d/f', BigInt(content.length))).length, 0);
    const { file } = await call(
      service.rig.files,
      'statFile',
      { sandboxId, path: 'd/f' },
      service.alice,
    );
    assert.deepEqual(
      [file?.type, file?.size, file?.mode],
      [FileType.FILE, BigInt(content.length), 0o600],
    );
    assert.deepEqual(await names(), ['/workspace/d', '/workspace/d/f']);
    const removing = (recursive: boolean) =>
      call(service.rig.files, 'removeFile', { sandboxId, path: 'd', recursive }, service.alice);
    assert.equal(await codeOf(removing(false)), 'FILE_REFUSED');
    assert.equal(await codeOf(removing(true)), 'none');
    assert.deepEqual(await names(), []);
  });

  test('where what is not there, or is no file, says so', async () => {
    await run(
      python(
        'import os; os.symlink("/etc/passwd", "link"); os.mkfifo("pipe"); os.mkdir("dir")',
        inside(sandboxId),
      ),
    );
    for (const [path, code] of [
      ['none', 'FILE_NOT_FOUND'],
      ['link', 'FILE_REFUSED'],
      ['pipe', 'FILE_REFUSED'],
      ['dir', 'FILE_REFUSED'],
      ['/etc/shadow', 'FILE_NOT_FOUND'],
    ] as const)
      assert.equal(await codeOf(read(path)), code, path);
    await run(
      python('import os; os.unlink("link"); os.unlink("pipe"); os.rmdir("dir")', inside(sandboxId)),
    );
  });

  describe('listed in pages', () => {
    const program = (code: string) => run(python(code, inside(sandboxId)));
    const emptied = () =>
      program(`import os, shutil
for entry in list(os.scandir(".")): (shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.name)`);

    test('more than 20 000 are all told, each once, by name', async () => {
      await program(
        'import os\nos.mkdir("many")\nfor n in range(20_500): os.mknod(f"many/{n:05}")',
      );
      const found = await pages({ path: 'many' });
      assert.deepEqual(
        found.map(({ length }) => length),
        [10_000, 10_000, 500],
      );
      const wanted = Array.from({ length: 20_500 }, (_, n) => String(n).padStart(5, '0'));
      assert.deepEqual(
        found.flat(),
        wanted.map((name) => `/workspace/many/${name}`),
      );
      await emptied();
    });

    test('long names make shorter pages, and an answer stays within 3 MiB', async () => {
      await program(`import os
for n in range(9_000): os.mknod(f"{n:05}" + "é" * 120)`);
      const first = await list();
      assert.ok(first.truncated && first.files.length < 9_000);
      assert.ok(ListFilesResponse.encode(first).finish().length < 3 * MIB);
      assert.equal((await pages({})).flat().length, 9_000);
      await emptied();
    });

    test('a directory comes before what is in it, also where a page ends between them', async () => {
      await program(`import os
os.makedirs("a/b/c"); os.makedirs("d"); os.symlink("a", "l")
for name in "a-x", "a/f", "a/b/c/f", "d/f", "e": os.mknod(name)`);
      const order = 'a a/b a/b/c a/b/c/f a/f a-x d d/f e l';
      for (const pageSize of [0, 1, 2, 3]) {
        const found = await pages({ depth: 16, pageSize });
        const shown = found.flat().map((path) => path.replace('/workspace/', ''));
        assert.equal(shown.join(' '), order, `by ${pageSize}`);
        assert.ok(pageSize === 0 || found.every(({ length }) => length <= pageSize));
      }
      await emptied();
    });

    test('what is removed meanwhile, or is no text, is no end to it', async () => {
      await program('import os\nfor name in b"a", b"b\\xff", b"c", b"d": os.mknod(name)');
      const { files, nextPageToken } = await list({ pageSize: 2 });
      assert.deepEqual(
        files.map(({ path }) => path),
        ['/workspace/a', '/workspace/b\ufffd'],
      );
      await program('import os\nos.unlink(b"b\\xff"); os.unlink("c")');
      const rest = await list({ pageSize: 2, pageToken: nextPageToken });
      assert.deepEqual(
        rest.files.map(({ path }) => path),
        ['/workspace/d'],
      );
      await emptied();
    });

    for (const pageToken of ['/workspace/a', 'abc', 'ZZ', '00'.repeat(4_097)])
      test(`a page_token that was never given out is refused: ${pageToken.slice(0, 12)}`, async () => {
        assert.equal(await codeOf(list({ pageToken })), 'INVALID_REQUEST');
      });
  });

  test('with times that no calendar has', async () => {
    await run(python('import os; open("t", "w"); os.utime("t", (0, 2**50))', inside(sandboxId)));
    assert.deepEqual(await names(), ['/workspace/t']);
    await run(python('import os; os.unlink("t")', inside(sandboxId)));
  });

  test('of which nothing is left where the content breaks off, is wrong, or does not fit', async () => {
    assert.equal(await codeOf(write([to('a'), data('x'), to('b')])), 'INVALID_REQUEST');
    assert.equal(await codeOf(write([data('x')])), 'INVALID_REQUEST');
    const piece = data(Buffer.alloc(MIB));
    assert.equal(
      await codeOf(write([to('big'), ...Array.from({ length: 24 }, () => piece)])),
      'FILE_REFUSED',
    );
    const cancelled = service.rig.files.writeFile(service.alice, () => {});
    cancelled.on('error', () => {});
    cancelled.write({ request: to('c') });
    cancelled.write({ request: data('x') });
    await sleep(100);
    cancelled.cancel();
    await sleep(100);
    assert.deepEqual(await names(), []);
    assert.equal((await run(python('print(1)', inside(sandboxId)))).stdout.toString(), '1\n');
  });
});
