#!lua flags=allow-oom
-- End one attempt to deliver a webhook, if its sender still holds it.
--
-- KEYS  1 webhooks   2 dead webhooks   3 counters
-- ARGV  1 group   2 sender   3 id   4 how it ended: webhook_delivered, webhook_busy, webhook_failed or webhook_dead
--       5 number of the consumer `retry-N` that it waits with   6 number of this attempt, or of the next if it waits
--       7 idle_ms that it begins to wait with   8 max_dead_letters   9 why it failed
-- reply 1, or 0 if another sender has it or had finished it
local wrong = wrong_types({'stream', 'stream', 'hash'})
if wrong then
    return wrong
end
local id, ending = ARGV[3], ARGV[4]
-- What was delivered is done, even if another sender holds it meanwhile.
if ending ~= 'webhook_delivered' and #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) == 0 then
    return 0
end
if ending == 'webhook_busy' or ending == 'webhook_failed' then
    redis.call('XCLAIM', KEYS[1], ARGV[1], 'retry-' .. ARGV[5], 0, id, 'IDLE', ARGV[7], 'RETRYCOUNT', ARGV[6], 'JUSTID')
else
    if ending == 'webhook_dead' then
        local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
        if entry then
            -- For a replay, which has another id.
            if not fields_of(entry[2]).completed then
                entry[2][#entry[2] + 1] = 'completed'
                entry[2][#entry[2] + 1] = string.match(id, '%d+')
            end
            redis.call('XADD', KEYS[2], 'MAXLEN', '=', ARGV[8], '*', 'reason', ARGV[9], 'attempts', ARGV[6],
                unpack(entry[2]))
        end
    end
    if redis.call('XACK', KEYS[1], ARGV[1], id) == 0 then
        return 0
    end
    redis.call('XDEL', KEYS[1], id)
end
-- A counter that is no number loses this, and nothing else. The last attempt of a dead webhook failed, too.
if ending ~= 'webhook_busy' then
    redis.pcall('HINCRBY', KEYS[3], ending, 1)
end
if ending == 'webhook_dead' then
    redis.pcall('HINCRBY', KEYS[3], 'webhook_failed', 1)
end
return 1
