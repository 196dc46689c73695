#!lua flags=allow-oom
-- Mark a request as cancelled if it is queued. Its entry stays: consumers see the mark and skip it.
-- Its pixels are overwritten, because the client wants them gone, and a consumer may not run for a long time.
-- The ingests that subscribed stay named in the mark, and complete.lua announces to them how the entry ended.
--
-- KEYS  1 request   2 pixels
-- reply 1, or 0 if there was nothing to cancel
local state = redis.pcall('GET', KEYS[1])
if type(state) ~= 'string' or string.sub(state, 1, 7) ~= 'queued ' then
    return 0
end
redis.call('SET', KEYS[1], 'cancelled' .. string.sub(state, 7), 'KEEPTTL')
redis.call('SET', KEYS[2], 'cancelled', 'XX', 'KEEPTTL') -- CANCELLED in stream/entry.py
return 1
