#!lua flags=allow-oom
-- Remove consumers from the group that hold nothing and whose heartbeat has ended.
-- Deleting one that holds entries would throw them away; here nothing can come between look and deletion.
--
-- KEYS  1 alive   2... entries
-- ARGV  1 group
-- reply how many were removed, over all streams
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = {} -- consumer -> how many entries of all streams it holds
for number = 2, #KEYS do
    for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[number], ARGV[1])) do
        local about = fields_of(consumer)
        held[about.name] = (held[about.name] or 0) + about.pending
    end
end

local removed = 0
for name, entries in pairs(held) do
    local alive_until = redis.call('ZSCORE', KEYS[1], name)
    if entries == 0 and (not alive_until or tonumber(alive_until) < now) then
        for number = 2, #KEYS do
            redis.call('XGROUP', 'DELCONSUMER', KEYS[number], ARGV[1], name)
        end
        removed = removed + 1
    end
end
return removed
