#!lua
-- Put one dead webhook back in front of the senders. What it was for stays the same, and so its webhook-id.
-- Refused when Redis is out of memory. All checks come before the first change.
--
-- KEYS  1 webhooks   2 dead webhooks
-- ARGV  1 id of the dead webhook
-- reply the id under which it waits, or nil if it is gone: it was replayed or dropped
local ADDED = 4 -- reason, attempts and their values, before its own fields

local wrong = wrong_types({'stream', 'stream'})
if wrong then
    return wrong
end
local entry = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not entry then
    return false
end
-- What has no other fields is none of ours. A sender will say so.
local first = #entry[2] > ADDED and ADDED + 1 or 1
local id = redis.call('XADD', KEYS[1], '*', unpack(entry[2], first))
redis.call('XDEL', KEYS[2], ARGV[1])
return id
