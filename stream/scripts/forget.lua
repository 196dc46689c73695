#!lua flags=allow-oom
-- Forget one partition of a model that is not served, unless something of it waits.
--
-- KEYS  1 alive   2 dead letters   3 dead webhooks   4 webhooks   5 wanted versions   6 consumers   7 versions
--       8 counters   9 holders   10... entries, for any version
-- ARGV  1 `look`, which changes nothing, or `forget`   2 1: forget dead letters and dead webhooks, too
-- reply {names of consumers that are alive, entries and webhooks that wait, dead letters and dead webhooks}
--       anything is forgotten only if no consumer is alive, nothing waits, and nothing dead is to be kept
local KINDS = {'zset', 'stream', 'stream', 'stream', 'set', 'hash', 'hash', 'hash', 'hash'}
local wrong = wrong_types(KINDS, 'stream')
if wrong then
    return wrong
end
local time = redis.call('TIME')
local living = redis.call('ZRANGEBYSCORE', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), '+inf')
local dead = redis.call('XLEN', KEYS[2]) + redis.call('XLEN', KEYS[3])
-- Streams for one version are not among the KEYS, because only the set says which there are. They share the hash tag.
local streams = {}
for number = 10, #KEYS do
    streams[#streams + 1] = KEYS[number]
    for _, version in ipairs(redis.call('SMEMBERS', KEYS[5])) do
        streams[#streams + 1] = KEYS[number] .. ':v' .. version
    end
end
local waiting = redis.call('XLEN', KEYS[4])
for _, stream in ipairs(streams) do
    waiting = waiting + redis.call('XLEN', stream)
end
if ARGV[1] == 'forget' and #living == 0 and waiting == 0 and (dead == 0 or ARGV[2] == '1') then
    for number = 1, 9 do
        redis.call('DEL', KEYS[number])
    end
    for _, stream in ipairs(streams) do
        redis.call('DEL', stream)
    end
end
return {living, waiting, dead}
