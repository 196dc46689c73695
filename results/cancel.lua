#!lua flags=allow-oom
-- Mark a request as cancelled if nobody has answered it yet. Its entry stays: consumers see the mark and skip it.
-- Who watches stays named in the mark, and is told by complete.lua how the entry ended.
--
-- KEYS  1 request
-- reply 1, or 0 where there was nothing to cancel
local state = redis.call('GET', KEYS[1]) or ''
if string.sub(state, 1, 6) ~= 'queued' then
    return 0
end
redis.call('SET', KEYS[1], 'cancelled' .. string.sub(state, 7), 'KEEPTTL')
return 1
