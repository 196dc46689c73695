#!lua flags=allow-oom
-- Count one request against a limit, or refuse it, by the generic cell rate algorithm (ITU-T I.371, annex A): one
-- number says when the bucket will be empty again. The script is atomic and uses Redis's clock, so that the limit holds
-- over any number of ingests. A refusal changes nothing. It runs when Redis is out of memory, so that clients can
-- still fetch results.
--
-- KEYS  1 rate
-- ARGV  1 microseconds for each request   2 burst
-- reply {requests left, microseconds until the whole burst is there again, microseconds to wait or 0 if it counts}
local each, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- A value that is no number counts as none. No bucket holds more than a whole burst.
local known = redis.pcall('GET', KEYS[1])
local empty = type(known) == 'string' and tonumber(known) or now
empty = empty == empty and math.min(math.max(empty, now), now + burst * each) or now
local wait = empty + each - burst * each - now
if wait > 0 then
    return {0, math.ceil(empty - now), math.ceil(wait)}
end
empty = empty + each
redis.call('SET', KEYS[1], string.format('%.0f', empty), 'PX', math.ceil((empty - now) / 1000))
return {math.floor((burst * each - (empty - now)) / each), math.ceil(empty - now), 0}
