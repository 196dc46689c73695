#!lua flags=allow-oom
-- Take over the oldest entry whose consumer has been silent for a lease, and remember the consumer that lost it.
-- One at a time: a reclaimed entry may have killed its consumer, and runs alone.
--
-- KEYS  1 entries   2 holders
-- ARGV  1 group   2 consumer   3 lease_ms
-- reply {lost} or {lost, entry id, fields, deliveries, former holders}; lost counts pending entries
--       that were no longer in the stream
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'none' and kind ~= 'hash' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is a ' .. kind .. ', not a hash: delete it')
end
local lost = 0
while true do
    local stale = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1)[1]
    if not stale then
        return {lost}
    end
    local id, owner = stale[1], stale[2]
    local claimed = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], id, 'COUNT', 1)
    lost = lost + #claimed[3]
    local entry = claimed[2][1]
    if entry then
        local holders = redis.call('HGET', KEYS[2], id)
        holders = holders and (holders .. ' ' .. owner) or owner
        redis.call('HSET', KEYS[2], id, holders)
        return {lost, id, entry[2], stale[4] + 1, holders}
    end
end
