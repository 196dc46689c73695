#!lua flags=allow-oom
-- Read again what this consumer holds, after an error: a reply may have been lost. XREADGROUP starts the leases again
-- and counts a delivery; the count is put back, since an entry must not come nearer to the dead letters because a
-- connection broke.
--
-- KEYS  1 entries
-- ARGV  1 group   2 consumer   3 how many   4 after which entry id
-- reply entries as XRANGE gives them; the fields of one that is no longer in the stream are nil
local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], ARGV[4])
local entries = reply and reply[1][2] or {}
for _, entry in ipairs(entries) do
    if entry[2] then
        local held = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1, ARGV[2])[1]
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry[1], 'RETRYCOUNT', held[4] - 1, 'JUSTID')
    end
end
return entries
