#!lua flags=allow-oom
-- Remove consumers from the group that hold nothing and whose heartbeat has ended.
-- Deleting one that holds entries would throw them away; here nothing can come between look and deletion.
--
-- KEYS  1 entries   2 alive
-- ARGV  1 group
-- reply how many were removed
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local about = {}
    for i = 1, #consumer, 2 do
        about[consumer[i]] = consumer[i + 1]
    end
    local alive_until = redis.call('ZSCORE', KEYS[2], about.name)
    if about.pending == 0 and (not alive_until or tonumber(alive_until) < now) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
        removed = removed + 1
    end
end
return removed
