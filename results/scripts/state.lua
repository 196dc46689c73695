#!lua flags=allow-oom
-- The state of a request. While it is queued, its outcome will also be announced to the ingest that asks.
-- A request that is queued beyond its deadline, and whose entry is gone, will never have another outcome: it fails.
-- If no consumer was given its entry, or one whose heartbeat has ended, it has expired. Its value stays, because a
-- consumer will still read or claim the entry, complete it as expired and pass its webhook on.
--
-- KEYS  1 request   2 entries for any version and class   3 counters   4 alive
-- ARGV  1 ingest, or '' to subscribe nobody   2 the outcome of a request whose entry is gone
--       3 that of a request that no living consumer works on   4 group
-- reply the request's value, or nil
local state = redis.pcall('GET', KEYS[1])
if type(state) ~= 'string' then
    return type(state) == 'table' and 'not a string' or false
end
local due, prefix, id = string.match(state, '^queued (%d+) ([%l%d:]-)(%d+%-%d+)')
if not due then
    return state
end
local time = redis.call('TIME')
-- Another stream is not among the KEYS, because only the request says which it is. It shares the hash tag.
local stream = prefix == '' and KEYS[2] or (KEYS[2] .. ':' .. string.sub(prefix, 1, -2))
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(due) < now then
    if #redis.call('XRANGE', stream, id, id) == 0 then
        redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
        redis.pcall('HINCRBY', KEYS[3], 'vanished', 1)
        return ARGV[2]
    end
    -- Without a group, no consumer ever came.
    local delivered = reply_of_group(redis.pcall('XPENDING', stream, ARGV[4], id, id, 1))
    if not delivered or #delivered == 0 then
        return ARGV[3]
    end
    local alive_until = redis.call('ZSCORE', KEYS[4], delivered[1][2])
    if not alive_until or tonumber(alive_until) < now then
        return ARGV[3]
    end
end
if ARGV[1] ~= '' and not string.find(state .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then
    redis.call('SET', KEYS[1], state .. ' ' .. ARGV[1], 'KEEPTTL')
end
return state
