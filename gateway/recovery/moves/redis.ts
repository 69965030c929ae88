import { Redis } from '#core/redis';
import { RedisError, type Reply } from '#core/resp';
import type { RedisPlace } from './redis-place.ts';
import type { MoveStore } from './store.ts';

const PREFIX = 'outrider:';

/** A Redis that gateways of any machine share; it forgets a move after `keepMs`. Connects when it is first asked: most never are. */
export function redisMoves({ address, password }: RedisPlace, keepMs: number): MoveStore {
  let redis: Redis | undefined;
  const ask = async (command: readonly (string | number)[]): Promise<Reply | undefined> => {
    redis ??= new Redis({ address, password: () => password, greet: [['PING']] });
    await redis.tried; // the one wait that is made for it
    const [reply] = await redis.send([command]);
    if (reply instanceof RedisError) throw reply;
    return reply;
  };
  const read: MoveStore['read'] = async (key) => {
    const text = await ask(['GET', PREFIX + key]);
    return typeof text === 'string' ? text : undefined;
  };
  return {
    read,
    async write(key, text) {
      const noted = await ask(['SET', PREFIX + key, text, 'NX', 'PX', keepMs]);
      // It may have been forgotten between the two: then nobody else's is in force.
      return noted === 'OK' ? text : ((await read(key)) ?? text);
    },
    close: () => redis?.close(),
  };
}
