#!lua flags=allow-oom
-- Mark a request as cancelled if nobody has answered it yet. Its entry stays: consumers see the mark and skip it.
--
-- KEYS  1 request
-- reply 1, or 0 where there was nothing to cancel
if string.sub(redis.call('GET', KEYS[1]) or '', 1, 6) ~= 'queued' then
    return 0
end
redis.call('SET', KEYS[1], 'cancelled', 'KEEPTTL')
return 1
