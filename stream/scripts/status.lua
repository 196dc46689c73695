#!lua flags=no-writes
-- One partition at one moment: its backlog, its groups and who is in them. Atomic, so that the figures belong together.
--
-- KEYS  1 alive   2 consumers   3 counters   4 dead letters   5 wanted versions   6 webhooks   7 dead webhooks
--       8... entries, for any version
-- ARGV  1 group   2 most pending entries to look at for each consumer and stream   3 group of the senders of webhooks
--       4 ms after which a sender that was not heard of counts as dead
-- reply {now_ms, dead letters, counters, reports, alive, {webhooks, dead webhooks, living senders}, stream...}
--       counters, reports and alive are flat: name, value, name, value...
--       a stream is {number of its class in KEYS, version or '', backlog, oldest entry id or nil, pending, held};
--       held has {consumer, pending, ms since the stalest was renewed, oldest entry id} for each in the group,
--       and the last two are 0 and nil where it holds nothing
local function held_in(stream)
    local held = {}
    for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', stream, ARGV[1])) do
        local name = fields_of(about).name
        local entries = redis.call('XPENDING', stream, ARGV[1], '-', '+', ARGV[2], name)
        local stalest = 0
        for _, entry in ipairs(entries) do
            stalest = math.max(stalest, entry[3])
        end
        held[#held + 1] = {name, fields_of(about).pending, stalest, entries[1] and entries[1][1] or false}
    end
    return held
end

local function look_at(number, version, stream)
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    -- XINFO is an error where the stream is missing; then there is no group either.
    local pending, held = 0, {}
    for _, flat in ipairs(redis.call('EXISTS', stream) == 1 and redis.call('XINFO', 'GROUPS', stream) or {}) do
        local group = fields_of(flat)
        if group.name == ARGV[1] then
            pending, held = group.pending, held_in(stream)
        end
    end
    return {number, version, redis.call('XLEN', stream), oldest and oldest[1] or false, pending, held}
end

-- A name that begins with `retry-` is no process: it holds what waits for another attempt.
local function senders()
    local living = 0
    -- Where nothing was ever to be sent, there is no group, or no key.
    local found = reply_of_group(redis.pcall('XINFO', 'CONSUMERS', KEYS[6], ARGV[3]))
    for _, flat in ipairs(found or {}) do
        local about = fields_of(flat)
        if not string.find(about.name, '^retry%-%d+$') and about.idle < tonumber(ARGV[4]) then
            living = living + 1
        end
    end
    return living
end

local time = redis.call('TIME')
local reply = {
    time[1] * 1000 + math.floor(time[2] / 1000),
    redis.call('XLEN', KEYS[4]),
    redis.call('HGETALL', KEYS[3]),
    redis.call('HGETALL', KEYS[2]),
    redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'),
    {redis.call('XLEN', KEYS[6]), redis.call('XLEN', KEYS[7]), senders()},
}
-- Streams for one version are not among the KEYS, because only the set says which there are. They share the hash tag.
local versions = redis.call('SMEMBERS', KEYS[5])
for number = 8, #KEYS do
    reply[#reply + 1] = look_at(number - 8, '', KEYS[number])
    for _, version in ipairs(versions) do
        reply[#reply + 1] = look_at(number - 8, version, KEYS[number] .. ':v' .. version)
    end
end
return reply
