#!lua flags=allow-oom
-- One heartbeat: a consumer says until when it counts as alive, and what it is doing.
--
-- KEYS  1 alive   2 consumers   3 versions
-- ARGV  1 consumer   2 holds_ms   3 about (JSON)   4 forget_ms   5 version
-- reply {now_ms, whether the version's description is there}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
-- The dead stay visible for a while: that they died is what somebody will look for.
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[4]), 'BYSCORE')) do
    redis.call('ZREM', KEYS[1], name)
    redis.call('HDEL', KEYS[2], name)
end
return {now, redis.call('HEXISTS', KEYS[3], ARGV[5])}
