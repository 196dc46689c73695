#!lua flags=allow-oom
-- Hand back entries that this consumer could not work on: others can claim them at once.
--
-- KEYS  1 entries
-- ARGV  1 group   2 consumer   3 idle_ms, longer than any lease   4 how many of the ids count this delivery
--       5... entry ids, those that count it first
-- reply how many were handed back; the others are no longer held
local returned = 0
for i = 5, #ARGV do
    local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
    if pending then
        local deliveries = pending[4]
        if i > 4 + tonumber(ARGV[4]) then
            deliveries = deliveries - 1
        end
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'RETRYCOUNT', deliveries, 'JUSTID')
        returned = returned + 1
    end
end
return returned
