#!lua flags=no-writes
-- Read a page of dead letters without their pixels, which may be many megabytes.
--
-- KEYS  1 dead
-- ARGV  1 first id, as XRANGE takes it   2 how many
-- reply {now_ms, letter...}; a letter is {id, fields and values without px and fr, bytes of px or nil}
local time = redis.call('TIME')
local page = {time[1] * 1000 + math.floor(time[2] / 1000)}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])) do
    local fields, bytes = {}, false
    for i = 1, #entry[2], 2 do
        if entry[2][i] == 'px' then
            bytes = #entry[2][i + 1]
        elseif entry[2][i] ~= 'fr' then
            fields[#fields + 1] = entry[2][i]
            fields[#fields + 1] = entry[2][i + 1]
        end
    end
    page[#page + 1] = {entry[1], fields, bytes}
end
return page
