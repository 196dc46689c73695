#!lua flags=allow-oom
-- Take over entries that other consumers have handed back and had never run: no delivery of them counts. Nothing is
-- wrong with them, so they come many at a time. All are of one stream, the first that has any.
--
-- KEYS  1... entries, the most urgent first
-- ARGV  1 group   2 consumer   3 lease_ms   4 at most how many
-- reply {} or {number of the key, entries as XRANGE gives them}
for number = 1, #KEYS do
    local ids = {}
    for _, stale in ipairs(redis.call('XPENDING', KEYS[number], ARGV[1], 'IDLE', ARGV[3], '-', '+', 1000)) do
        if stale[4] == 0 and #ids < tonumber(ARGV[4]) then
            ids[#ids + 1] = stale[1]
        end
    end
    if #ids > 0 then
        return {number, redis.call('XCLAIM', KEYS[number], ARGV[1], ARGV[2], ARGV[3], unpack(ids))}
    end
end
return {}
