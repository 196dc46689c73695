#!lua flags=allow-oom
-- A consumer leaves: nobody waits for its heartbeat, and if it holds nothing the group forgets it.
--
-- KEYS  1 entries   2 alive   3 consumers
-- ARGV  1 group   2 consumer
-- reply how many entries it still held; others will claim them
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
for _, holder in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1])[4] or {}) do
    if holder[1] == ARGV[2] then
        return tonumber(holder[2])
    end
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 0
