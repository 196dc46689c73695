#!lua flags=allow-oom
-- Complete entries: take each out of the group and, only if it was still there, store and announce its outcome.
-- Whoever comes second for an entry finds it gone and changes nothing: inference may happen twice, a result never.
-- Allowed when Redis is out of memory, since completing is what frees it.
--
-- KEYS  1 entries   2 holders   3 dead   4 counters   then per entry: its request, its reply stream
-- ARGV  1 group   2 result_ttl_ms   3 max_dead_letters   4 longest reply stream   5 what reply streams begin with
--       then per entry: id, outcome, '1' if somebody waits for a reply, why it failed or '', reason to make it a
--       dead letter or '', deliveries, consumer
-- reply for each entry 1, or 0 where somebody else had completed it
local PER_ENTRY = 7

local function bury(id, reason, deliveries, consumer)
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then
        local holders = redis.call('HGET', KEYS[2], id) or consumer
        redis.call('XADD', KEYS[3], 'MAXLEN', '=', ARGV[3], '*', 'reason', reason, 'deliveries', deliveries,
            'holders', holders, 'entry', id, unpack(entry[2]))
    end
end

local function reply(replies, outcome)
    redis.call('XADD', replies, 'MAXLEN', '~', ARGV[4], '*', 'o', outcome)
    redis.call('PEXPIRE', replies, ARGV[2])
end

local completed = {}
local events = {completed = 0, superseded = 0}

local function count_event(name)
    events[name] = (events[name] or 0) + 1
end

local count = (#ARGV - 5) / PER_ENTRY
for i = 1, count do
    local request, replies = KEYS[3 + 2 * i], KEYS[4 + 2 * i]
    local id, outcome, waits, failure, burial, deliveries, consumer = unpack(
        ARGV, 6 + PER_ENTRY * (i - 1), 5 + PER_ENTRY * i)
    local mine = redis.call('XACK', KEYS[1], ARGV[1], id)
    completed[i] = mine
    count_event(mine == 1 and 'completed' or 'superseded')
    if mine == 1 then
        if failure ~= '' then
            count_event(failure)
        end
        if burial ~= '' then
            bury(id, burial, deliveries, consumer)
        end
        redis.call('XDEL', KEYS[1], id)
        redis.call('HDEL', KEYS[2], id)
        -- Queued or cancelled: both marks name who watches.
        local watchers = string.match(redis.call('GET', request) or '', '^%l+ (.+)$') or ''
        redis.call('SET', request, outcome, 'PX', ARGV[2])
        if waits == '1' then
            reply(replies, outcome)
        end
        for watcher in string.gmatch(watchers, '%S+') do
            if waits ~= '1' or ARGV[5] .. watcher ~= replies then
                reply(ARGV[5] .. watcher, outcome)
            end
        end
    end
end
for name, times in pairs(events) do
    if times > 0 then
        redis.call('HINCRBY', KEYS[4], name, times)
    end
end
return completed
