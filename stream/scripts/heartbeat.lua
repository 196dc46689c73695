#!lua flags=allow-oom
-- One heartbeat: a consumer says until when it counts as alive, and what it is doing.
--
-- KEYS  1 alive   2 consumers   3 versions
-- ARGV  1 consumer   2 valid_ms   3 report (JSON)   4 forget_ms   5 version   6 beginning of the version's description
-- reply {now_ms, whether the version's description is there}
for number, kind in ipairs({'zset', 'hash', 'hash'}) do
    local found = redis.call('TYPE', KEYS[number]).ok
    if found ~= 'none' and found ~= kind then
        return redis.error_reply('WRONGTYPE ' .. KEYS[number] .. ' is a ' .. found .. ', not a ' .. kind .. ': delete it')
    end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
-- The dead stay listed for a while, so that an operator sees that they died.
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[4]), 'BYSCORE')) do
    redis.call('ZREM', KEYS[1], name)
    redis.call('HDEL', KEYS[2], name)
end
local description = redis.call('HGET', KEYS[3], ARGV[5])
return {now, (description and string.sub(description, 1, #ARGV[6]) == ARGV[6]) and 1 or 0}
