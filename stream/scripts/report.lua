#!lua flags=allow-oom
-- A consumer says what it is doing, between two heartbeats. Only a consumer that has sent a heartbeat can report: the
-- end of its heartbeat is also when its report is forgotten.
--
-- KEYS  1 alive   2 consumers
-- ARGV  1 consumer   2 report (JSON)
-- reply 1 if it is recorded, otherwise 0
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    return 0
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
