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

local function held_in(stream)
    local pending = reply_of_group(redis.pcall('XPENDING', stream, ARGV[1]))
    if not pending then
        return 0 -- There is no group: it holds nothing.
    end
    for _, holder in ipairs(pending[4] or {}) do
        if holder[1] == ARGV[2] then
            return tonumber(holder[2])
        end
    end
    redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], ARGV[2])
    return 0
end

local held = 0
for number = 3, #KEYS do
    held = held + held_in(KEYS[number])
end
return held
