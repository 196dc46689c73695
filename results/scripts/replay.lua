#!lua
-- Put one dead letter back into the stream that it came from: the same request id and pixels.
-- Its client has gone, so it has no reply stream and no trace; its outcome is found under the request's id. The pixels
-- get a key of their own again, so that they can be cancelled. They expire with the request, and that is the deadline.
-- The limit of the backlog does not apply: the entry was accepted once, its memory only moves, and there are at most
-- max_dead_letters of these. Refused when Redis is out of memory. All checks come before the first change.
--
-- KEYS  1 entries   2 dead letters   3 counters   4 request   5 pixels
-- ARGV  1 id of the dead letter   2 request_ttl_ms   3 prefix of the stream's entry names
-- reply the id of the new entry, or nil if the dead letter is gone: it was replayed or dropped
local ADDED = 8 -- reason, deliveries, holders, entry and their values, before the entry's own fields

local wrong = wrong_types({'stream', 'stream', 'hash'})
if wrong then
    return wrong
end

local entry = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not entry then
    return false
end
local time = redis.call('TIME')
local due = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2])
local fields, pixels = {}, {}
for i = ADDED + 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'reply' then
        value = ''
    elseif name == 'due' then
        value = due
    end
    if name == 'px' or name == 'fr' then
        pixels[name] = value
    elseif name ~= 'traceparent' and name ~= 'sent' then
        fields[#fields + 1] = name
        fields[#fields + 1] = value
    end
end
if pixels.px then
    redis.call('SET', KEYS[5], pixels.px .. (pixels.fr or ''), 'PX', ARGV[2])
end
local id = redis.call('XADD', KEYS[1], '*', unpack(fields))
redis.call('XDEL', KEYS[2], ARGV[1])
redis.call('SET', KEYS[4], 'queued ' .. due .. ' ' .. ARGV[3] .. id, 'PX', ARGV[2])
redis.pcall('HINCRBY', KEYS[3], 'replayed', 1) -- A counter that is no number loses this, and nothing else.
return id
