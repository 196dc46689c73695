#!lua
-- The request id that belongs to a client's idempotency key: the one that is offered, or the one of the first time.
-- A value that is neither counts as none.
--
-- KEYS  1 idempotency
-- ARGV  1 request id   2 fingerprint of the image   3 ttl_ms
-- reply {request id, fingerprint} of the first time
local known = redis.pcall('GET', KEYS[1])
local id, fingerprint = string.match(type(known) == 'string' and known or '', '^([%w._-]+) (%x+)$')
if id then
    return {id, fingerprint}
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return {ARGV[1], ARGV[2]}
