import { createHash } from 'node:crypto';
import { Redis, type RedisOptions } from '#core/redis';
import type { Reply } from '#core/resp';
import type { BudgetAnswer, BudgetAsk, BudgetStore } from './budget-store.ts';

/** Of each account what every proxy has of it: a Redis that forgets is told again by each of them. */
const SCRIPT = `
local member, limit, ends = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local total, want = tonumber(ARGV[4]), tonumber(ARGV[5])
local others = 0
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  if known[i] ~= member then others = others + tonumber(known[i + 1]) end
end
local left = math.max(0, limit - others - total)
local granted = math.min(want, left)
redis.call('HSET', KEYS[1], member, string.format('%.0f', total + granted))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends))
return {granted, left - granted}
`;
const SCRIPT_SHA = createHash('sha1').update(SCRIPT).digest('hex');
/** Clocks differ: what has ended for one goes on for another for a moment. */
const KEPT_MS = 60_000;

/** Budgets that proxies on several machines share, kept in Redis until their period is over. `member` names this proxy among them. */
export function createBudgetRedis(
  member: string,
  options: Omit<RedisOptions, 'greet' | 'onAvailable'>,
): BudgetStore {
  let connections = 0;
  const redis = new Redis({
    ...options,
    greet: [['SCRIPT', 'LOAD', SCRIPT]],
    onAvailable(available) {
      if (available) connections += 1;
    },
  });
  const commandOf = ({ key, limit, endsMs, total, want }: BudgetAsk) => [
    'EVALSHA',
    SCRIPT_SHA,
    1,
    `outrider:budget:${key}`,
    member,
    limit,
    endsMs + KEPT_MS,
    total,
    want,
  ];
  return {
    get available() {
      return redis.available;
    },
    get connections() {
      return connections;
    },
    async ask(asks) {
      const replies = await redis.send(asks.map(commandOf));
      try {
        return replies.map(answerOf);
      } catch (error) {
        redis.renew(error);
        throw error;
      }
    },
    close: () => redis.close(),
  };
}

/** @throws {Error} where Redis did not do as the script says, for example because it has lost it */
function answerOf(reply: Reply): BudgetAnswer {
  const [granted, left] = Array.isArray(reply) ? reply : [];
  if (typeof granted !== 'number' || typeof left !== 'number')
    throw new Error('not an answer of the script', { cause: reply });
  return { granted, left };
}
