#!lua
-- Accept one image into the stream, or refuse it. Atomic, so that the limit holds for any number of ingests.
--
-- KEYS  1 entries   2 request   3 alive   4 wanted versions, only if the entry is for one version
-- ARGV  1 max_backlog   2 request_ttl_ms   3 timeout_ms   4 1 if no consumer need be alive
--       5 1 if the caller waits until it is replicated or on disk   6 prefix of the stream's entry names
--       7 the version, if the entry is for one only   8... the entry's fields and values, without `due`
-- reply {verdict, backlog}; verdict is one of
--       admitted    the entry is in the stream and will be answered
--       known       this request id was admitted before: a repeated command changes nothing
--       full        the stream holds max_backlog entries
--       no_consumer  no consumer is alive
local backlog = redis.call('XLEN', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then
    if ARGV[5] == '1' then
        -- WAIT and WAITAOF refer to the connection's last write: this one follows the first one, and changes nothing.
        redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[2]))
    end
    return {'known', backlog}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] ~= '1' and redis.call('ZCOUNT', KEYS[3], now, '+inf') == 0 then
    return {'no_consumer', backlog}
end
if backlog >= tonumber(ARGV[1]) then
    return {'full', backlog}
end
if KEYS[4] then
    redis.call('SADD', KEYS[4], ARGV[7])
end
local due = string.format('%.0f', now + ARGV[3])
local id = redis.call('XADD', KEYS[1], '*', 'due', due, unpack(ARGV, 8))
redis.call('SET', KEYS[2], 'queued ' .. due .. ' ' .. ARGV[6] .. id, 'PX', ARGV[2])
return {'admitted', backlog + 1}
