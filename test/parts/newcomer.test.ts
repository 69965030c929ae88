import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '#core/package-root';

/** Set-up installs from the registry; what comes after it is bounded by what the README promises. */
const READY_WITHIN_MS = 180_000;
const USER = 12_345;

for (const [who, uid] of [
  ['root', 0],
  ['an ordinary user', USER],
] as const) {
  test(`the README's first command works for ${who}, from a fresh clone in a directory that only its owner can enter`, async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'newcomer-'));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const clone = join(directory, 'outrider');
    const home = join(directory, 'home');
    mkdirSync(home);
    assert.equal(
      spawnSync('git', ['clone', '-q', packageRoot, clone], { stdio: 'inherit' }).status,
      0,
    );
    own(directory, uid);
    chmodSync(directory, 0o700);
    const command = /```sh\n(npm start)\n```/.exec(
      readFileSync(join(clone, 'README.md'), 'utf8'),
    )?.[1];
    assert.equal(command, 'npm start', 'the README names its first command in a block of its own');

    const as = {
      cwd: clone,
      uid,
      gid: uid,
      env: {
        HOME: home,
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        USER: 'newcomer',
      },
    };
    const mesh = spawn('npm', ['start'], {
      ...as,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let said = '';
    const listen = (chunk: Buffer) => (said += chunk.toString());
    mesh.stdout.on('data', listen);
    mesh.stderr.on('data', listen);
    t.after(() => {
      const running = mesh.exitCode === null && mesh.signalCode === null;
      if (running && mesh.pid !== undefined) process.kill(-mesh.pid, 'SIGKILL');
    });
    const deadline = Date.now() + READY_WITHIN_MS;
    while (!said.includes('Outrider is ready')) {
      assert.ok(mesh.exitCode === null && Date.now() < deadline, `not ready:\n${said}`);
      await sleep(100);
    }
    assert.match(said, /"mcpServers"/);
    assert.match(said, /"Authorization": "Bearer outrider_[\w-]{43}"/);

    const program = spawnSync('npm', ['run', '-s', 'outrider', '--', 'exec', '-'], {
      ...as,
      input: 'import os\nprint(6 * 7, os.getuid() != 0)\n',
      encoding: 'utf8',
      timeout: 120_000,
    });
    assert.equal(program.stdout, '42 True\n', program.stderr);

    const exited = once(mesh, 'exit');
    assert.ok(mesh.pid);
    process.kill(-mesh.pid, 'SIGINT'); // as a terminal's Ctrl-C does: to everything in the foreground
    const [code, signal] = (await Promise.race([
      exited,
      sleep(120_000, ['still running'], { ref: false }),
    ])) as unknown[];
    // npm itself ends by the signal that it got, after the mesh has ended.
    assert.ok(code === 0 || signal === 'SIGINT', said);
    assert.deepEqual(processesIn(directory), []);
  });
}

function own(directory: string, uid: number): void {
  chownSync(directory, uid, uid);
  assert.equal(spawnSync('chown', ['-R', `${uid}:${uid}`, directory]).status, 0);
}

function processesIn(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return '';
      }
    })
    .filter((line) => line.includes(directory));
}
