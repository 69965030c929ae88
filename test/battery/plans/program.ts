import { numberOf, textOf } from '../case.ts';
import type { Planner } from '../plan.ts';
import { connectHead, exchanged, type Step } from '../steps.ts';

/** A connection through a relay of the program's own. */
export const relay: Planner = ({ send }) => {
  const [, authority = ''] = /^CONNECT (\S+)$/.exec(textOf(send, 'request') ?? '') ?? [];
  const via = (connect: 'relay' | 'helper'): readonly Step[] => [
    { connect },
    ...exchanged(connectHead(authority), 1),
  ];
  return [
    { mode: 'through a helper', form: 'http', native: true, steps: via('helper') },
    { mode: 'directly', form: 'http', native: true, steps: via('relay') },
  ];
};

/** A body that breaks off: chunked or with a length, after so many bytes of it. */
export const abort: Planner = ({ send }) => {
  const chunked = /chunked/i.test(textOf(send, 'request') ?? '');
  const framing = chunked ? 'Transfer-Encoding: chunked' : 'Content-Length: 100';
  const head = `POST /http/oauth/v1/items HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n${framing}\r\n\r\n`;
  const body = `${chunked ? '64\r\n' : ''}${'a'.repeat(100)}`.slice(
    0,
    numberOf(send, 'after_bytes') ?? 10,
  );
  const steps: Step[] = [
    { connect: 'relay' },
    { send: Buffer.from(head + body).toString('base64') },
    { pause: 400 },
    { reset: true },
  ];
  return [{ mode: 'as sent', form: 'http', native: true, steps }];
};
