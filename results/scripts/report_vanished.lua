#!lua flags=allow-oom
-- Count an accepted request that Redis does not know any more, and keep that as its outcome.
--
-- KEYS  1 request   2 counters
-- ARGV  1 outcome   2 ttl_ms
-- reply 1, or 0 if the request is known, and then nothing changes
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return 0
end
redis.pcall('HINCRBY', KEYS[2], 'vanished', 1) -- A counter that is no number loses this, and nothing else.
return 1
