import { createHash } from 'node:crypto';
import { Redis, type RedisOptions } from '#core/redis';
import type { Reply } from '#core/resp';
import {
  forgetAfterMs,
  type LeaseAnswer,
  type LeaseAsk,
  type LeaseStore,
  MEMBER_MS,
} from './lease-store.ts';

/** As `MemoryLeases.answer`, by the clock of Redis: those of the proxies do not matter. */
const SCRIPT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local member, interval, burst = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local want, charge, holds = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local answered, lately, forget = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local left, at, kept = nil, now, 0
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do
  local name, value = stored[i], stored[i + 1]
  if name == 'left' then left = tonumber(value)
  elseif name == 'at' then at = tonumber(value)
  else
    local seen, held = string.match(value, '^(%S+) (%S+)$')
    if tonumber(seen) < now - lately then redis.call('HDEL', KEYS[1], name)
    elseif name ~= member and tonumber(held) < 1 then kept = kept + 1 end
  end
end
if left == nil then
  if answered < 0 then left = burst else left = math.min(burst, answered / interval) end
end
left = math.min(burst, left + math.max(0, now - at) / interval) - charge
local granted = want
if want > 0 then granted = math.max(0, math.min(want, math.floor(left - kept))) end
left = left - granted
redis.call('HSET', KEYS[1], 'left', string.format('%.17g', left), 'at', string.format('%.17g', now),
  member, string.format('%.17g %.17g', now, holds + granted))
redis.call('PEXPIRE', KEYS[1], forget)
local short = 1 + kept - left
if short <= 0 then return {granted, 0} end
return {granted, math.ceil(short * interval)}
`;
const SCRIPT_SHA = createHash('sha1').update(SCRIPT).digest('hex');

/** Limits that proxies on several machines share, kept in Redis. `member` names this proxy among them. */
export function createRedisStore(member: string, options: Omit<RedisOptions, 'greet'>): LeaseStore {
  const redis = new Redis({ ...options, greet: [['SCRIPT', 'LOAD', SCRIPT]] });
  return {
    get available() {
      return redis.available;
    },
    async ask(asks) {
      const replies = await redis.send(asks.map((ask) => commandOf(`m:${member}`, ask)));
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

function commandOf(member: string, ask: LeaseAsk): (string | number)[] {
  return [
    'EVALSHA',
    SCRIPT_SHA,
    1,
    `outrider:limit:${ask.key}`,
    member,
    ask.intervalMs,
    ask.burst,
    ask.want,
    ask.charge,
    ask.holds,
    ask.answeredMs ?? -1,
    MEMBER_MS,
    forgetAfterMs(ask),
  ];
}

/** @throws {Error} where Redis did not do as the script says, for example because it has lost it */
function answerOf(reply: Reply): LeaseAnswer {
  const [granted, moreInMs] = Array.isArray(reply) ? reply : [];
  if (typeof granted !== 'number' || typeof moreInMs !== 'number')
    throw new Error('not an answer of the script', { cause: reply });
  return { granted, moreInMs };
}
