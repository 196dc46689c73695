#!lua flags=allow-oom
-- A consumer leaves: its heartbeat ends, and if it holds nothing the group forgets it.
--
-- KEYS  1 entries   2 alive   3 consumers
-- ARGV  1 group   2 consumer
-- reply how many entries it still held; others will claim them
for number, kind in ipairs({'stream', 'zset', 'hash'}) do
    local found = redis.call('TYPE', KEYS[number]).ok
    if found ~= 'none' and found ~= kind then
        return redis.error_reply('WRONGTYPE ' .. KEYS[number] .. ' is a ' .. found .. ', not a ' .. kind .. ': delete it')
    end
end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1])
if pending.err then
    return 0 -- There is no group: it holds nothing.
end
for _, holder in ipairs(pending[4] or {}) do
    if holder[1] == ARGV[2] then
        return tonumber(holder[2])
    end
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 0
