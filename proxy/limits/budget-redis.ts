import { createHash } from 'node:crypto';
import { Redis, type RedisOptions } from '#core/redis';
import { RedisError, type Reply } from '#core/resp';
import type { BudgetAnswer, BudgetAsk, BudgetStore } from './budget-store.ts';

/** Of each account what everybody has said last: its turn, what it has used, and its total. */
const SCRIPT = `
local by, turn, limit, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
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
local granted, left = 0, math.max(0, limit - others - total)
if not known or known < turn then
  granted = math.min(want, left)
  left = left - granted
  redis.call('HSET', KEYS[1], by, string.format('%.0f %.0f %.0f', turn, used, total + granted))
  if redis.call('PTTL', KEYS[1]) < keep then redis.call('PEXPIRE', KEYS[1], keep) end
end
local up = (othersUsed + used >= limit) and 1 or 0
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  epoch = by .. '.' .. ARGV[2]
  redis.call('SET', KEYS[2], epoch)
end
return {granted, left, up, known and 1 or 0, epoch}
`;
/** Of a store that has forgotten everything it is another one. */
const EPOCH = 'outrider:budgets:epoch';
/** A store that refuses everything may have become another's copy: so often a connection to whoever is in its place now is tried, */
const RENEW_MS = 2_000;
/** but not where it is what it was. */
const STAYS: ReadonlySet<string> = new Set(['WRONGTYPE', 'OOM', 'MISCONF', 'BUSY']);
/** What is refused now and then is said once. */
const QUIET_MS = 10_000;
const SCRIPT_SHA = createHash('sha1').update(SCRIPT).digest('hex');

/** Budgets that proxies on several machines share, kept in Redis until their period is over. */
export function createBudgetRedis(
  options: Omit<RedisOptions, 'greet' | 'onAvailable'> & {
    /** Told when Redis refuses what it is asked, with why, and when it does that no more. */
    readonly onRefused?: (why: Error | undefined) => void;
  },
): BudgetStore {
  let refusedAtMs = Number.NEGATIVE_INFINITY;
  let isRefused = false;
  let renewedAtMs = Number.NEGATIVE_INFINITY;
  const notice = (why: Error | undefined): void => {
    const nowMs = performance.now();
    if (why) refusedAtMs = nowMs;
    if (isRefused ? why || nowMs - refusedAtMs < QUIET_MS : !why) return;
    isRefused = !isRefused;
    options.onRefused?.(why);
  };
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
      const refusals = replies.filter((reply) => reply instanceof RedisError);
      notice(refusals[0]);
      const isLost = refusals.some(({ kind }) => kind === 'NOSCRIPT');
      const isAnother =
        refusals.length === replies.length && refusals.some(({ kind }) => !STAYS.has(kind));
      const nowMs = performance.now();
      if (isLost || (isAnother && nowMs - renewedAtMs > RENEW_MS)) {
        renewedAtMs = nowMs;
        redis.renew(refusals[0]);
      }
      return answers;
    },
    close: () => redis.close(),
  };
}

function commandOf(ask: BudgetAsk): (string | number)[] {
  const { key, by, turn, limit, keepMs, used, total, want } = ask;
  const keys = [`outrider:budget:${key}`, EPOCH];
  return ['EVALSHA', SCRIPT_SHA, keys.length, ...keys, by, turn, limit, keepMs, used, total, want];
}

function answerOf(reply: Reply): BudgetAnswer | undefined {
  if (!Array.isArray(reply)) return undefined;
  const [granted, left, isUsedUp, isKnown, epoch] = reply;
  if (typeof granted !== 'number' || typeof left !== 'number') return undefined;
  if (typeof epoch !== 'string') return undefined;
  return { granted, left, isUsedUp: isUsedUp === 1, isKnown: isKnown === 1, epoch };
}
