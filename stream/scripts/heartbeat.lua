#!lua flags=allow-oom
-- One heartbeat: a consumer says until when it counts as alive, and what it is doing.
--
-- If Redis's clock was set back, heartbeats of dead consumers would be valid, and their leases last, until it has caught
-- up. Then all heartbeats are cut to what this consumer's may be, and leases that began in the future begin now.
--
-- Versions with entries of their own are reported: if none of their consumers is alive, others must read these entries.
--
-- KEYS  1 alive   2 consumers   3 versions   4 wanted versions   5... entries, the first for any version
-- ARGV  1 consumer   2 valid_ms   3 report (JSON)   4 forget_ms   5 version   6 beginning of the version's description
--       7 group
-- reply {now_ms, whether the version's description is there, whether the clock was set back, versions with entries...}
local wrong = wrong_types({'zset', 'hash', 'hash', 'set'}, 'stream')
if wrong then
    return wrong
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- By this consumer's last heartbeat, or if this is its first, by the newest entry: its id is the clock at that time.
local function clock_was_set_back()
    local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
    if before then
        return tonumber(before) > now + ARGV[2]
    end
    local newest = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
    return newest ~= nil and tonumber(string.match(newest[1], '^%d+')) > now
end

local set_back = clock_was_set_back()
if set_back then
    for _, name in ipairs(redis.call('ZRANGE', KEYS[1], string.format('(%.0f', now + ARGV[2]), '+inf', 'BYSCORE')) do
        redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), name)
    end
    -- A lease that began in the future has an idle time of 0; to renew one that began just now changes nothing.
    for number = 5, #KEYS do
        local pending = reply_of_group(redis.pcall('XPENDING', KEYS[number], ARGV[7], '-', '+', 10000))
        for _, lease in ipairs(pending or {}) do
            if lease[3] == 0 then
                redis.call('XCLAIM', KEYS[number], ARGV[7], lease[2], 0, lease[1], 'IDLE', 0, 'JUSTID')
            end
        end
    end
end

redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
-- The dead stay listed for a while, so that an operator sees that they died.
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[4]), 'BYSCORE')) do
    redis.call('ZREM', KEYS[1], name)
    redis.call('HDEL', KEYS[2], name)
end
local description = redis.call('HGET', KEYS[3], ARGV[5])
local reply = {now, (description and string.sub(description, 1, #ARGV[6]) == ARGV[6]) and 1 or 0, set_back and 1 or 0}

-- These streams are not among the KEYS, because only the set says which there are. They share the hash tag.
for _, version in ipairs(redis.call('SMEMBERS', KEYS[4])) do
    local waiting = 0
    for _, class in ipairs({'', ':bulk'}) do
        local length = redis.pcall('XLEN', KEYS[5] .. class .. ':v' .. version)
        waiting = waiting + (type(length) == 'number' and length or 0)
    end
    if waiting > 0 then
        reply[#reply + 1] = version
    end
end
return reply
