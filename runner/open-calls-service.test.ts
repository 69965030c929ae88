import assert from 'node:assert/strict';
import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { ExecRequest } from '#proto';
import { codeOf, python } from './test-rig.ts';
import { serviceRig, until } from './testing.ts';

const service = serviceRig();
const { run, idle } = service;

/** More than HTTP/2 sends to somebody who takes nothing: the rest of it stays in the runner. */
const UNREAD_BYTES = 200_000;
/** The capacity of the rig's runner and what an owner may have open beside that. */
const OPEN_MAX = 16 + 64;
/** Of the role. */
const CONCURRENT = 3;

/** An Exec call whose answer nobody takes; gRPC's own clients would take some of it ahead. */
function openUnread(): ClientHttp2Session {
  const session = connect('http://localhost', {
    createConnection: () => connectSocket(join(service.rig.runtime, 'runner.sock')),
  });
  session.on('error', () => {}); // it is cut in the end
  const call = session.request({
    ':method': 'POST',
    ':path': '/outrider.runner.v1.ExecService/Exec',
    'content-type': 'application/grpc',
    te: 'trailers',
    authorization: String(service.alice.get('authorization')[0]),
  });
  call.on('error', () => {}); // as above
  const value = python(`print("x" * ${UNREAD_BYTES})`);
  const message = ExecRequest.encode({ request: { $case: 'start', value } }).finish();
  const header = Buffer.alloc(5);
  header.writeUInt32BE(message.length, 1);
  call.write(Buffer.concat([header, message]));
  return session;
}

test('who opens calls and reads none is refused more of them, and nobody else is', async (t) => {
  const open: ClientHttp2Session[] = [];
  t.after(() => {
    for (const session of open) session.destroy();
  });
  const ended = () => service.rig.audit().filter(({ event }) => event === 'exec').length;
  while (open.length < OPEN_MAX) {
    const many = Math.min(CONCURRENT, OPEN_MAX - open.length);
    open.push(...Array.from({ length: many }, openUnread));
    await until(() => ended() === open.length); // their programs hold no place any more
  }
  await idle();
  await assert.rejects(run(python('')), /80 calls of yours are open: read their answers/);
  assert.equal(await codeOf(run(python(''))), 'QUOTA_EXCEEDED');
  assert.equal(await codeOf(run(python(''), service.bob)), 'none');

  open.pop()?.destroy();
  await until(async () => (await codeOf(run(python('')))) === 'none');
});
