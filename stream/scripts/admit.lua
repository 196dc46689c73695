#!lua
-- Accept one image into the stream, or refuse it. Atomic, so that the limit holds for any number of ingests.
--
-- The pixels have just been stored under their key, by a command before this one. What is refused loses them.
--
-- KEYS  1 entries   2 request   3 alive   4 pixels   5 wanted versions, only if the entry is for one version
-- ARGV  1 max_backlog   2 request_ttl_ms   3 timeout_ms   4 1 if no consumer need be alive
--       5 1 if the caller waits until it is replicated or on disk   6 prefix of the stream's entry names
--       7 the version, if the entry is for one only   8... the entry's fields and values, without `due`
-- reply {verdict, backlog}; verdict is one of
--       admitted    the entry is in the stream and will be answered
--       known       this request id was admitted before: a repeated command changes nothing
--       full        the stream holds max_backlog entries
--       no_consumer  no consumer is alive
local function without_pixels(reply)
    redis.call('PEXPIRE', KEYS[4], 0) -- deletes them
    return reply
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local backlog = redis.pcall('XLEN', KEYS[1])
local living = ARGV[4] == '1' and 1 or redis.pcall('ZCOUNT', KEYS[3], now, '+inf')
if type(backlog) == 'table' or type(living) == 'table' then
    return without_pixels(type(backlog) == 'table' and backlog or living) -- a key of the wrong type
end
local state = redis.pcall('GET', KEYS[2])
if state then
    local waits = type(state) == 'string' and (string.find(state, '^queued ') or string.find(state, '^cancelled '))
    redis.call('PEXPIRE', KEYS[4], waits and ARGV[2] or 0)
    if waits and string.find(state, '^cancelled ') then
        redis.call('SET', KEYS[4], 'cancelled', 'XX', 'KEEPTTL') -- as cancel.lua did before
    end
    if ARGV[5] == '1' then
        -- WAIT and WAITAOF refer to the connection's last write: this one follows the first one, and changes nothing.
        redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[2]))
    end
    return {'known', backlog}
end
if living == 0 then
    return without_pixels({'no_consumer', backlog})
end
if backlog >= tonumber(ARGV[1]) then
    return without_pixels({'full', backlog})
end
if redis.call('PEXPIRE', KEYS[4], ARGV[2]) == 0 then
    return redis.error_reply('ERR the pixels are gone before their entry')
end
if KEYS[5] then
    redis.call('SADD', KEYS[5], ARGV[7])
end
local due = string.format('%.0f', now + ARGV[3])
local id = redis.call('XADD', KEYS[1], '*', 'due', due, unpack(ARGV, 8))
redis.call('SET', KEYS[2], 'queued ' .. due .. ' ' .. ARGV[6] .. id, 'PX', ARGV[2])
return {'admitted', backlog + 1}
