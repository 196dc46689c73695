#!lua flags=allow-oom
-- Delete what was given up longer ago than an age: dead letters with their pixels, and dead webhooks.
--
-- KEYS  1 dead letters   2 dead webhooks
-- ARGV  1 greatest age in ms
-- reply how many of each were deleted; 0 where the key is no stream
local time = redis.call('TIME')
local oldest = string.format('%.0f', math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]))
local deleted = {}
for number, key in ipairs(KEYS) do
    local found = redis.pcall('XTRIM', key, 'MINID', '=', oldest)
    deleted[number] = type(found) == 'number' and found or 0
end
return deleted
