#!lua flags=allow-oom
-- Remove consumers from the groups that hold nothing and whose heartbeat has ended.
-- Deleting one that holds entries would throw them away; here nothing can come between look and deletion.
--
-- The streams of versions that no living consumer serves are looked at as well: nobody else would.
--
-- KEYS  1 alive   2 versions   3 entries, for any version
-- ARGV  1 group
-- reply how many were removed, over all streams
local wrong = wrong_type(KEYS[2], 'hash') or wrong_type(KEYS[3], 'stream')
if wrong then
    return wrong
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Those of versions are not among the KEYS, because only the hash says which there are. They share the hash tag.
local streams = {KEYS[3], KEYS[3] .. ':bulk'}
for _, version in ipairs(redis.call('HKEYS', KEYS[2])) do
    streams[#streams + 1] = KEYS[3] .. ':v' .. version
    streams[#streams + 1] = KEYS[3] .. ':bulk:v' .. version
end

local held = {} -- consumer -> how many entries of all streams it holds
local groups = {} -- the streams that have a group
for _, stream in ipairs(streams) do
    -- A key of another type has no group.
    local is_stream = redis.call('TYPE', stream).ok == 'stream'
    local consumers = is_stream and reply_of_group(redis.pcall('XINFO', 'CONSUMERS', stream, ARGV[1]))
    if consumers then
        groups[#groups + 1] = stream
        for _, consumer in ipairs(consumers) do
            local about = fields_of(consumer)
            held[about.name] = (held[about.name] or 0) + about.pending
        end
    end
end

local removed = 0
for name, entries in pairs(held) do
    local alive_until = redis.call('ZSCORE', KEYS[1], name)
    if entries == 0 and (not alive_until or tonumber(alive_until) < now) then
        for _, stream in ipairs(groups) do
            redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], name)
        end
        removed = removed + 1
    end
end
return removed
