#!lua flags=allow-oom
-- Make pending again what was delivered, is still in the stream, and is pending for no consumer: no command would ever
-- deliver it. A damaged append-only file leaves such entries. Others find them with take_back.lua.
-- A last-delivered id beyond the stream's last entry would hide all that comes; it is set back.
--
-- KEYS  1... entries
-- ARGV  1 group   2 consumer   3 idle_ms, longer than any lease   4 at most how many entries to look at, the oldest
-- reply how many were made pending

local function numbers_of(id)
    local time, sequence = string.match(id, '(%d+)-(%d+)')
    return tonumber(time), tonumber(sequence)
end

local function is_later(id, other)
    local time, sequence = numbers_of(id)
    local other_time, other_sequence = numbers_of(other)
    return time > other_time or (time == other_time and sequence > other_sequence)
end

local recovered = 0
for _, stream in ipairs(KEYS) do
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        local group = fields_of(flat)
        local delivered = group['last-delivered-id']
        if group.name == ARGV[1] and delivered ~= '0-0' then
            for _, entry in ipairs(redis.call('XRANGE', stream, '-', delivered, 'COUNT', ARGV[4])) do
                local id = entry[1]
                if #redis.call('XPENDING', stream, ARGV[1], id, id, 1) == 0 then
                    redis.call(
                        'XCLAIM', stream, ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
                    recovered = recovered + 1
                end
            end
            local newest = fields_of(redis.call('XINFO', 'STREAM', stream))['last-generated-id']
            if is_later(delivered, newest) then
                redis.call('XGROUP', 'SETID', stream, ARGV[1], newest)
            end
        end
    end
end
return recovered
