#!lua flags=allow-oom
-- Complete entries: take each out of the group and, only if it was still there, store and announce its outcome.
-- Whoever comes second for an entry finds it gone and changes nothing: inference may happen twice, a result never.
-- Allowed when Redis is out of memory, since completing is what frees it.
--
-- KEYS  1 entries   2 holders   3 dead   4 counters   then per entry: its request, its reply stream
-- ARGV  1 group   2 result_ttl_ms   3 max_dead_letters   4 longest reply stream   5 what reply streams begin with
--       6 consumer   7 how many entries   then per entry: id, outcome
--       then for each that failed or is buried: which, why it failed or '', reason to make it a dead letter or '',
--       deliveries
-- reply for each entry 1, or 0 where somebody else had completed it
local FIXED, PER_ENTRY, PER_SPECIAL = 7, 2, 4
local COUNT = tonumber(ARGV[7])

local function bury(id, reason, deliveries)
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then
        local holders = redis.call('HGET', KEYS[2], id) or ARGV[6]
        redis.call('XADD', KEYS[3], 'MAXLEN', '=', ARGV[3], '*', 'reason', reason, 'deliveries', deliveries,
            'holders', holders, 'entry', id, unpack(entry[2]))
    end
end

-- Reply stream -> the fields of one entry that tells it of all its outcomes: their number in it, the outcome.
local function note(told, replies, outcome)
    local fields = told[replies] or {}
    told[replies] = fields
    fields[#fields + 1] = #fields / 2 + 1
    fields[#fields + 1] = outcome
end

local function tell(told)
    for replies, fields in pairs(told) do
        redis.call('XADD', replies, 'MAXLEN', '~', ARGV[4], '*', unpack(fields))
        redis.call('PEXPIRE', replies, ARGV[2])
    end
end

local ORDINARY = {failure = '', burial = ''}
local special = {}
for i = FIXED + PER_ENTRY * COUNT + 1, #ARGV, PER_SPECIAL do
    special[tonumber(ARGV[i])] = {failure = ARGV[i + 1], burial = ARGV[i + 2], deliveries = ARGV[i + 3]}
end

local completed, gone, waiting, watching = {}, {}, {}, {}
local events = {superseded = 0}

for i = 1, COUNT do
    local id, outcome = ARGV[FIXED + PER_ENTRY * i - 1], ARGV[FIXED + PER_ENTRY * i]
    -- One at a time: of several, XACK says how many were still there, but not which.
    completed[i] = redis.call('XACK', KEYS[1], ARGV[1], id)
    if completed[i] == 1 then
        local request, replies, this = KEYS[3 + 2 * i], KEYS[4 + 2 * i], special[i] or ORDINARY
        local waits = replies ~= ARGV[5]
        gone[#gone + 1] = id
        if this.failure ~= '' then
            events[this.failure] = (events[this.failure] or 0) + 1
        end
        if this.burial ~= '' then
            bury(id, this.burial, this.deliveries)
        end
        local mark = redis.call('SET', request, outcome, 'PX', ARGV[2], 'GET') or ''
        if waits then
            note(waiting, replies, outcome)
        end
        -- Queued or cancelled: both marks name who watches.
        for watcher in string.gmatch(string.match(mark, '^%l+ (.+)$') or '', '%S+') do
            local stream = ARGV[5] .. watcher
            if not waits or stream ~= replies then
                note(watching, stream, outcome)
            end
        end
    else
        events.superseded = events.superseded + 1
    end
end
if #gone > 0 then
    redis.call('XDEL', KEYS[1], unpack(gone))
    redis.call('HDEL', KEYS[2], unpack(gone))
    events.completed = #gone
end
for name, times in pairs(events) do
    if times > 0 then
        redis.call('HINCRBY', KEYS[4], name, times)
    end
end
tell(waiting)
-- Last, since a Cluster that moves this slot may refuse them: these streams are not among the KEYS.
tell(watching)
return completed
