#!lua flags=allow-oom
-- Complete entries of one stream: remove each from the group and, only if it was still pending, store and announce its outcome.
-- A consumer that completes an entry second changes nothing: inference may happen twice, a result never.
-- Allowed when Redis is out of memory, because completing frees memory. All checks come before the first change.
--
-- KEYS  1 entries   2 holders   3 dead letters   4 counters   then per entry: its request, its reply stream, its pixels
--       then, only if any of them has a webhook: webhooks
-- ARGV  1 group   2 result_ttl_ms   3 max_dead_letters   4 longest reply stream   5 prefix of reply streams
--       6 consumer   7 prefix of the stream's entry names   8 number of entries   then per entry: id, outcome
--       then for each that failed, becomes a dead letter or has a webhook: its number, why it failed or '', reason of
--       the dead letter or '', deliveries, webhook or ''
-- reply for each entry 1, or 0 if another consumer had completed it
local FIXED_KEYS, KEYS_PER_ENTRY, FIXED, PER_ENTRY, PER_SPECIAL = 4, 3, 8, 2, 5
local PREFIX, COUNT = ARGV[7], tonumber(ARGV[8])
local WEBHOOKS = KEYS[FIXED_KEYS + KEYS_PER_ENTRY * COUNT + 1]
local LAST_ID = '18446744073709551615-18446744073709551615'

-- Whether a stream has used up its ids.
local function full(key)
    if redis.call('EXISTS', key) == 1 then
        local about = redis.call('XINFO', 'STREAM', key)
        for i = 1, #about, 2 do
            if about[i] == 'last-generated-id' and about[i + 1] == LAST_ID then
                return redis.error_reply('WRONGTYPE ' .. key .. ' takes no more entries: delete it')
            end
        end
    end
end

local wrong = wrong_types({'stream', 'hash', 'stream', 'hash'})
if wrong then
    return wrong
end

local ORDINARY = {failure = '', dead_letter = '', webhook = ''}
local special = {}
for i = FIXED + PER_ENTRY * COUNT + 1, #ARGV, PER_SPECIAL do
    special[tonumber(ARGV[i])] = {failure = ARGV[i + 1], dead_letter = ARGV[i + 2], deliveries = ARGV[i + 3],
        webhook = ARGV[i + 4]}
end
local impossible = next(special) and full(KEYS[3])
    or WEBHOOKS and (wrong_type(WEBHOOKS, 'stream') or full(WEBHOOKS))
if impossible then
    return impossible
end

-- A dead letter has its pixels, and their fractions if there are any, among its own fields.
local function add_pixels(fields, key)
    local named = {c = 3}
    for i = 1, #fields, 2 do
        named[fields[i]] = fields[i + 1]
    end
    local value = not named.px and redis.pcall('GET', key)
    if type(value) ~= 'string' or value == 'cancelled' then
        return
    end
    local half = math.floor(#value / 2)
    local size = (tonumber(named.h) or 0) * (tonumber(named.w) or 0) * (tonumber(named.c) or 0)
    fields[#fields + 1] = 'px'
    if #value == 2 * size then
        fields[#fields + 1] = string.sub(value, 1, half)
        fields[#fields + 1] = 'fr'
        fields[#fields + 1] = string.sub(value, half + 1)
    else
        fields[#fields + 1] = value
    end
end

local function add_dead_letter(id, reason, deliveries, pixels)
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then
        local holders = redis.call('HGET', KEYS[2], PREFIX .. id) or ARGV[6]
        add_pixels(entry[2], pixels)
        redis.call('XADD', KEYS[3], 'MAXLEN', '=', ARGV[3], '*', 'reason', reason, 'deliveries', deliveries,
            'holders', holders, 'entry', PREFIX .. id, unpack(entry[2]))
    end
end

-- The value of a request before its outcome; whatever else is under its key gives way.
local function store(request, outcome)
    local mark = redis.pcall('SET', request, outcome, 'PX', ARGV[2], 'GET')
    if type(mark) == 'table' then
        redis.call('SET', request, outcome, 'PX', ARGV[2])
        return ''
    end
    return mark or ''
end

-- Reply stream -> the fields of one entry with all its outcomes: their number in it, the outcome.
local function add(announcements, replies, outcome)
    local fields = announcements[replies] or {}
    announcements[replies] = fields
    fields[#fields + 1] = #fields / 2 + 1
    fields[#fields + 1] = outcome
end

local function announce(announcements)
    for replies, fields in pairs(announcements) do
        local added = redis.pcall('XADD', replies, 'MAXLEN', '~', ARGV[4], '*', unpack(fields))
        if type(added) == 'table' then
            -- Not a stream that takes entries: nothing in it can be an outcome that somebody waits for.
            redis.call('DEL', replies)
            redis.call('XADD', replies, '*', unpack(fields))
        end
        redis.call('PEXPIRE', replies, ARGV[2])
    end
end

local function count(event, times)
    if type(redis.pcall('HINCRBY', KEYS[4], event, times)) == 'table' then
        redis.call('HSET', KEYS[4], event, times)
    end
end

local completed, gone, named, stored, waiting, subscribed = {}, {}, {}, {}, {}, {}
local events = {superseded = 0}

for i = 1, COUNT do
    local id, outcome = ARGV[FIXED + PER_ENTRY * i - 1], ARGV[FIXED + PER_ENTRY * i]
    -- One at a time: for several ids, XACK says how many were pending, but not which.
    completed[i] = redis.call('XACK', KEYS[1], ARGV[1], id)
    if completed[i] == 1 then
        local first = FIXED_KEYS + KEYS_PER_ENTRY * (i - 1) + 1
        local request, replies, pixels, this = KEYS[first], KEYS[first + 1], KEYS[first + 2], special[i] or ORDINARY
        local waits = replies ~= ARGV[5]
        gone[#gone + 1] = id
        named[#named + 1] = PREFIX .. id
        if this.failure ~= '' then
            events[this.failure] = (events[this.failure] or 0) + 1
        end
        if this.dead_letter ~= '' then
            add_dead_letter(id, this.dead_letter, this.deliveries, pixels)
        end
        stored[#stored + 1] = pixels
        if this.webhook ~= '' then
            redis.call('XADD', WEBHOOKS, '*', 'entry', PREFIX .. id, 'webhook', this.webhook, 'outcome', outcome)
        end
        local mark = store(request, outcome)
        if waits then
            add(waiting, replies, outcome)
        end
        -- Queued or cancelled: both marks name the ingests that subscribed, after the deadline and the entry's id.
        for ingest in string.gmatch(string.match(mark, '^%l+ %d+ %S+ (.+)$') or '', '%S+') do
            local stream = ARGV[5] .. ingest
            if not waits or stream ~= replies then
                add(subscribed, stream, outcome)
            end
        end
    else
        events.superseded = events.superseded + 1
    end
end
if #gone > 0 then
    redis.call('XDEL', KEYS[1], unpack(gone))
    redis.call('HDEL', KEYS[2], unpack(named))
    redis.call('UNLINK', unpack(stored))
    events.completed = #gone
end
for event, times in pairs(events) do
    if times > 0 then
        count(event, times)
    end
end
announce(waiting)
-- Last, because a Cluster that moves this slot may refuse them: these streams are not among the KEYS.
announce(subscribed)
return completed
