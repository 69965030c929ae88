import { RedisConnection, type RedisPlace } from './redis-connection.ts';
import { type MoveStore, placeOf, placeText } from './store.ts';

const PREFIX = 'outrider:';

/** A Redis that gateways of any machine share; it forgets a move after `keepMs`. */
export function redisMoves(place: RedisPlace, keepMs: number): MoveStore {
  const redis = new RedisConnection(place);
  const read: MoveStore['read'] = async (key) => {
    const text = await redis.ask(['GET', PREFIX + key]);
    return typeof text === 'string' ? placeOf(text) : undefined;
  };
  return {
    read,
    async write(key, to) {
      const noted = await redis.ask([
        'SET',
        PREFIX + key,
        placeText(to),
        'NX',
        'PX',
        String(keepMs),
      ]);
      // It may have been forgotten between the two: then nobody else's is in force.
      return noted === 'OK' ? to : ((await read(key)) ?? to);
    },
    close: () => redis.close(),
  };
}
