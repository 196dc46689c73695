#!lua flags=allow-oom
-- A consumer leaves: its heartbeat ends, and the group of each stream forgets it if it holds nothing there.
--
-- KEYS  1 alive   2 consumers   3... entries
-- ARGV  1 group   2 consumer
-- reply how many entries it still held; others will claim them
local wrong = wrong_types({'zset', 'hash'}, 'stream')
if wrong then
    return wrong
end
redis.call('ZREM', KEYS[1], ARGV[2])
redis.call('HDEL', KEYS[2], ARGV[2])

local held = 0
for number = 3, #KEYS do
    held = held + leave_group(KEYS[number], ARGV[1], ARGV[2])
end
return held
