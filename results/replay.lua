#!lua
-- Put one dead letter back in front of the consumers: the same request id, the same pixels, another chance.
-- Nobody waits any more, so it has no reply stream and no deadline, and belongs to no trace; its outcome is found under
-- the request's id.
-- The backlog's bound does not hold here: the entry was accepted once, the memory is only moved, and there are never
-- more of these than max_dead_letters. Refused when Redis is out of memory, before anything is changed.
--
-- KEYS  1 entries   2 dead   3 counters   4 request
-- ARGV  1 id of the dead letter   2 request_ttl_ms
-- reply the id of the new entry, or nil where the dead letter is gone: somebody else replayed or dropped it
local BURIAL = 8 -- reason, deliveries, holders, entry and their values, before the entry's own fields

local letter = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not letter then
    return false
end
local fields = {}
for i = BURIAL + 1, #letter[2], 2 do
    local name, value = letter[2][i], letter[2][i + 1]
    if name == 'reply' then
        value = ''
    elseif name == 'due' then
        value = '0'
    end
    if name ~= 'traceparent' and name ~= 'sent' then
        fields[#fields + 1] = name
        fields[#fields + 1] = value
    end
end
local id = redis.call('XADD', KEYS[1], '*', unpack(fields))
redis.call('XDEL', KEYS[2], ARGV[1])
redis.call('SET', KEYS[4], 'queued', 'PX', ARGV[2])
redis.call('HINCRBY', KEYS[3], 'replayed', 1)
return id
