import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, type RedisCommand } from '#core/redis';
import { RedisError, type Reply } from '#core/resp';
import type { RedisPlace } from './redis-place.ts';
import { type Hear, type SharedStore, TOPICS } from './store.ts';

const OUTRIDER = 'outrider:';
/** What is kept of each topic, the newest: enough for a day of one a second. */
const TOLD_MAX = 100_000;
const TOLD_AT_ONCE = 1_000;
/** How long Redis holds a question that it has no answer to. */
const HOLD_MS = 1_000;
const AGAIN_MS = 1_000;

/** A Redis that gateways of any machine share; it forgets a move, and what was told before nothing more was, after `keepMs`. */
export function sharedRedis({ address, password }: RedisPlace, keepMs: number): SharedStore {
  const connect = (answerMs?: number) =>
    new Redis({
      address,
      password: () => password,
      greet: [['PING']],
      ...(answerMs !== undefined && { answerMs }),
    });
  let asked: Redis | undefined;
  let followed: Redis | undefined;
  const closing = new AbortController();
  /** By topic, the last that was heard. */
  const heardTo = new Map<string, string>(TOPICS.map((topic) => [topic, '0']));

  const ask = async (...commands: readonly RedisCommand[]): Promise<Reply | undefined> => {
    asked ??= connect();
    return send(asked, commands);
  };
  const read: SharedStore['read'] = async (key) => {
    const text = await ask(['GET', OUTRIDER + key]);
    return typeof text === 'string' ? text : undefined;
  };
  /** Resolves to whether there was anything. */
  const hearFrom = async (redis: Redis, hear: Hear, block: RedisCommand): Promise<boolean> => {
    const from = TOPICS.map((topic) => heardTo.get(topic) ?? '0');
    const keys = TOPICS.map(streamOf);
    const command = ['XREAD', 'COUNT', TOLD_AT_ONCE, ...block, 'STREAMS', ...keys, ...from];
    const told = listOf(await send(redis, [command]));
    for (const stream of told) {
      const [key, entries] = listOf(stream);
      const topic = TOPICS.find((one) => streamOf(one) === key);
      for (const entry of listOf(entries)) {
        const [id, fields] = listOf(entry);
        const [, text] = listOf(fields);
        if (!topic || typeof id !== 'string' || typeof text !== 'string') continue;
        heardTo.set(topic, id);
        hear(topic, text);
      }
    }
    return told.length > 0;
  };
  const keepHearing = async (hear: Hear, failed: (error: unknown) => void): Promise<void> => {
    const redis = (followed = connect(2 * HOLD_MS));
    while (!closing.signal.aborted)
      try {
        await hearFrom(redis, hear, ['BLOCK', HOLD_MS]);
      } catch (error) {
        if (closing.signal.aborted) return;
        failed(error);
        await sleep(AGAIN_MS, undefined, { ref: false });
      }
  };

  return {
    read,
    async write(key, text) {
      const noted = await ask(['SET', OUTRIDER + key, text, 'NX', 'PX', keepMs]);
      // It may have been forgotten between the two: then nobody else's is in force.
      return noted === 'OK' ? text : ((await read(key)) ?? text);
    },
    async tell(topic, text) {
      const key = streamOf(topic);
      await ask(
        ['XADD', key, 'MAXLEN', '~', TOLD_MAX, '*', 'text', text],
        ['PEXPIRE', key, keepMs],
      );
    },
    async catchUp(hear) {
      asked ??= connect();
      while (await hearFrom(asked, hear, []));
    },
    follow: (hear, failed) => void keepHearing(hear, failed),
    close() {
      closing.abort();
      asked?.close();
      followed?.close();
    },
  };
}

/** The first of the replies. */
async function send(redis: Redis, commands: readonly RedisCommand[]): Promise<Reply | undefined> {
  await redis.tried; // the one wait that is made for it
  const replies = await redis.send(commands);
  const refused = replies.find((reply) => reply instanceof RedisError);
  if (refused) throw refused;
  return replies[0];
}

function streamOf(topic: string): string {
  return `${OUTRIDER}session-${topic}`;
}

function listOf(reply: Reply | undefined): readonly Reply[] {
  return Array.isArray(reply) ? reply : [];
}
