import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FileType, type WriteFileRequest } from '#proto';
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
  const names = async () =>
    (
      await call(service.rig.files, 'listFiles', { sandboxId, path: '', depth: 2 }, service.alice)
    ).files.map(({ path }) => path);

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
