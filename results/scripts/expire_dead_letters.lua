#!lua flags=allow-oom
-- Delete the dead letters that are older than an age, with their pixels.
--
-- KEYS  1 dead letters
-- ARGV  1 greatest age in ms
-- reply how many were deleted; 0 if the key is no stream
local time = redis.call('TIME')
local oldest = math.max(0, time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1])
local deleted = redis.pcall('XTRIM', KEYS[1], 'MINID', '=', string.format('%.0f', oldest))
return type(deleted) == 'number' and deleted or 0
