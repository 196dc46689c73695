#!lua flags=allow-oom
-- Where a request stands; while it is queued, its outcome will also be announced to this ingest.
--
-- KEYS  1 request
-- ARGV  1 ingest
-- reply the request's value, or false
local state = redis.call('GET', KEYS[1])
if state and string.sub(state, 1, 6) == 'queued' and not string.find(state .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then
    redis.call('SET', KEYS[1], state .. ' ' .. ARGV[1], 'KEEPTTL')
end
return state
