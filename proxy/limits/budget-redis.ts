import { createHash } from 'node:crypto';
import { Redis, type RedisOptions } from '#core/redis';
import { RedisError, type Reply } from '#core/resp';
import type { BudgetAnswer, BudgetAsk, BudgetStore } from './budget-store.ts';

/** Of each account what everybody has said last: its turn, what it has used, and its total. */
const SCRIPT = `
local by, turn, limit, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local used, total, want = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local others, othersUsed, known = 0, 0, nil
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local t, u, n = string.match(all[i + 1], '^(%d+) (%d+) (%d+)$')
  if all[i] == by then
    known = tonumber(t)
  else
    others = others + tonumber(n)
    othersUsed = othersUsed + tonumber(u)
  end
end
others = math.max(others, tonumber(ARGV[8]))
local granted, left = 0, math.max(0, limit - others - total)
if not known or known < turn then
  granted = math.min(want, left)
  left = left - granted
  redis.call('HSET', KEYS[1], by, string.format('%.0f %.0f %.0f', turn, used, total + granted))
  redis.call('PEXPIRE', KEYS[1], keep)
end
local up = (othersUsed + used >= limit) and 1 or 0
return {granted, left, others, up, known and 1 or 0}
`;
const SCRIPT_SHA = createHash('sha1').update(SCRIPT).digest('hex');

/** Budgets that proxies on several machines share, kept in Redis until their period is over. */
export function createBudgetRedis(
  options: Omit<RedisOptions, 'greet' | 'onAvailable'> & {
    /** Told when Redis refuses what it is asked, with why, and when it does that no more. */
    readonly onRefused?: (why: Error | undefined) => void;
  },
): BudgetStore {
  let isRefused = false;
  let listener = (): void => {};
  const redis = new Redis({
    ...options,
    greet: [['SCRIPT', 'LOAD', SCRIPT]],
    onAvailable(available) {
      if (available) listener();
    },
  });
  return {
    get available() {
      return redis.available;
    },
    watch(another) {
      listener = another;
    },
    async ask(asks) {
      const replies = await redis.send(asks.map(commandOf));
      const answers = replies.map(answerOf);
      const why = replies.find((reply) => reply instanceof RedisError);
      if (isRefused !== (why !== undefined)) options.onRefused?.(why);
      isRefused = why !== undefined;
      // It has lost the script: with the next connection it is told again. Of anything else another connection is no cure.
      if (why?.kind === 'NOSCRIPT') redis.renew(why);
      return answers;
    },
    close: () => redis.close(),
  };
}

function commandOf(ask: BudgetAsk): (string | number)[] {
  const { key, by, turn, limit, keepMs, used, total, want, others } = ask;
  const account = `outrider:budget:${key}`;
  return ['EVALSHA', SCRIPT_SHA, 1, account, by, turn, limit, keepMs, used, total, want, others];
}

function answerOf(reply: Reply): BudgetAnswer | undefined {
  if (!Array.isArray(reply)) return undefined;
  const [granted, left, others, isUsedUp, isKnown] = reply;
  if (typeof granted !== 'number' || typeof left !== 'number' || typeof others !== 'number')
    return undefined;
  return { granted, left, others, isUsedUp: isUsedUp === 1, isKnown: isKnown === 1 };
}
