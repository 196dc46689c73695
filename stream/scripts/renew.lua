#!lua flags=allow-oom
-- Renew the lease of entries that this consumer still holds; one that was claimed by another stays with it.
--
-- KEYS  1 entries
-- ARGV  1 group   2 consumer   3... entry ids
-- reply the ids that are no longer held
local lost = {}
for i = 3, #ARGV do
    local id = ARGV[i]
    if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) == 1 then
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', 0, 'JUSTID')
    else
        lost[#lost + 1] = id
    end
end
return lost
