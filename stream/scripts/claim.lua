#!lua flags=allow-oom
-- Take over the oldest entry whose consumer has been silent for a lease, and remember the consumer that lost it.
-- One at a time: a reclaimed entry may have killed its consumer, and runs alone. The first stream that has one goes
-- first.
--
-- KEYS  1 holders   2... entries, the most urgent first
-- ARGV  1 group   2 consumer   3 lease_ms   4... for each stream the prefix of its entries' names
-- reply {lost} or {lost, entry, fields, deliveries, former holders}; lost counts pending entries
--       that were no longer in the stream
local wrong = wrong_type(KEYS[1], 'hash')
if wrong then
    return wrong
end
local lost = 0
for number = 2, #KEYS do
    local stream, prefix = KEYS[number], ARGV[number + 2]
    local stale = redis.call('XPENDING', stream, ARGV[1], 'IDLE', ARGV[3], '-', '+', 1)[1]
    while stale do
        local id, owner = stale[1], stale[2]
        local claimed = redis.call('XAUTOCLAIM', stream, ARGV[1], ARGV[2], ARGV[3], id, 'COUNT', 1)
        lost = lost + #claimed[3]
        local entry = claimed[2][1]
        if entry then
            local name = prefix .. id
            local holders = redis.call('HGET', KEYS[1], name)
            holders = holders and (holders .. ' ' .. owner) or owner
            redis.call('HSET', KEYS[1], name, holders)
            return {lost, name, entry[2], stale[4] + 1, holders}
        end
        stale = redis.call('XPENDING', stream, ARGV[1], 'IDLE', ARGV[3], '-', '+', 1)[1]
    end
end
return {lost}
