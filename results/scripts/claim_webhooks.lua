#!lua flags=allow-oom
-- Take over webhooks that are due: those that wait for another attempt, and those of a sender that died.
-- A webhook that waits is held by a consumer of the group that is no process, `retry-N`: it has failed N times, and is due
-- when it has been idle for the N-th delay. `retry-0` holds those that were never tried, because their receiver was busy.
-- A sender never holds one for longer than a lease, so what has been idle for a lease was left by a dead one. Then it is
-- unknown how far the attempt came, and it counts.
--
-- KEYS  1 webhooks
-- ARGV  1 group   2 sender   3 lease_ms   4 how many   5... delays in ms: of retry-0, retry-1, ...
-- reply {id, fields, number of this attempt, 1 if its sender died, else 0}...
local found = {}
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local about = fields_of(flat)
    local failures = string.match(about.name, '^retry%-(%d+)$')
    local delay = failures and (ARGV[5 + failures] or ARGV[#ARGV]) or ARGV[3]
    if about.pending == 0 then
        -- One without a claim on anything that has not been heard of for ten leases is gone.
        if not failures and about.idle > 10 * ARGV[3] then
            redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], about.name)
        end
    elseif #found < tonumber(ARGV[4]) then
        local due = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', delay, '-', '+', ARGV[4] - #found, about.name)
        for _, pending in ipairs(due) do
            local attempt = pending[4] + (failures and 0 or 1)
            local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, pending[1], 'RETRYCOUNT', attempt)[1]
            if claimed then
                found[#found + 1] = {claimed[1], claimed[2], attempt, failures and 0 or 1}
            end
        end
    end
end
return found
